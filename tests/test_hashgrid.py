"""The hash encoding against a plain loop over positions, levels and corners."""

import itertools

import jax
import numpy as np
import pytest

from models.nerf.hashgrid import HashGridConfig, encode, init_table, level_scales

SMALL = HashGridConfig(levels=4, features=2, log2_entries=9, coarsest=4, finest=32)


def looped(table, positions, config):
    """What tiny-cuda-nn computes, corner by corner; and the derivative to the table."""
    growth = np.exp(np.log(config.finest / config.coarsest) / (config.levels - 1))
    entries = 2**config.log2_entries
    values = np.zeros((len(positions), config.levels, config.features))
    gradient = np.zeros(table.shape)  # of the sum of (1 + n + l + f) times the values
    for n, position in enumerate(positions):
        for level in range(config.levels):
            scale = config.coarsest * growth**level - 1.0
            side = int(np.ceil(round(scale, 9))) + 1
            place = position * scale + 0.5
            cell = np.floor(place)
            for corner in itertools.product((0, 1), repeat=3):
                weight = np.prod(np.where(corner, place - cell, 1 - (place - cell)))
                x, y, z = (int(c) + s for c, s in zip(cell, corner, strict=True))
                entry = x + side * y + side * side * z
                if side**3 > entries:
                    entry = x ^ (y * 2654435761 % 2**32) ^ (z * 805459861 % 2**32)
                values[n, level] += weight * table[level, entry % entries]
                for feature in range(config.features):
                    gradient[level, entry % entries, feature] += weight * (1 + n + level + feature)
    return values.reshape(len(positions), -1), gradient


def test_value_and_gradient_equal_those_of_a_loop(x64):
    positions = np.random.default_rng(0).random((30, 3))
    positions[0], positions[1] = 0.0, 1.0
    table = np.random.default_rng(1).normal(size=(4, 2**9, 2))
    assert list(level_scales(SMALL)[1]) == [4, 8, 16, 32]  # the second just fits, then hashed
    n, level, feature = np.ogrid[:30, :4, :2]
    cotangent = (1.0 + n + level + feature).reshape(30, -1)
    values, pull = jax.vjp(lambda t, x: encode(t, x, SMALL), table, positions)
    expected, gradient = looped(table, positions, SMALL)
    np.testing.assert_allclose(values, expected, atol=1e-12)
    to_table, to_positions = pull(cotangent)
    np.testing.assert_allclose(to_table, gradient, atol=1e-9)
    inside, eps = positions[2:], 1e-6  # finite differences within a cell
    for axis in range(3):
        shift = eps * np.eye(3)[axis]
        change = looped(table, inside + shift, SMALL)[0] - looped(table, inside - shift, SMALL)[0]
        slope = np.sum(change / (2 * eps) * cotangent[2:], -1)
        np.testing.assert_allclose(to_positions[2:, axis], slope, rtol=1e-5, atol=1e-4)


def test_single_precision_is_as_good_as_its_digits():
    positions = np.random.default_rng(0).random((30, 3), np.float32)
    table = np.asarray(init_table(jax.random.key(0), SMALL)) * 1e4  # at most one
    positions[0] = [1.5, -0.2, 0.4]  # outside counts as the border
    values = encode(table, positions, SMALL)
    expected, _ = looped(table.astype(np.float64), np.clip(positions, 0, 1).astype(float), SMALL)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected, atol=3e-6)


def test_levels_go_from_the_coarsest_to_the_finest():
    for coarsest, finest, levels in ((16, 2048, 16), (16, 128, 3), (4, 33, 4), (16, 16, 1)):
        sides = level_scales(HashGridConfig(levels, 2, 9, coarsest, finest))[1]
        assert (sides[0], sides[-1], len(sides)) == (coarsest, finest, levels)
    table = init_table(jax.random.key(0), HashGridConfig(levels=2, log2_entries=9))
    assert 0.9e-4 < np.abs(table).max() <= 1e-4 and abs(np.mean(table)) < 1e-5


@pytest.mark.parametrize("axis", range(3))
def test_neighbouring_cells_meet(axis):
    """An interpolation is continuous: on both sides of a cell's wall there is the same value."""
    scale = level_scales(SMALL)[0][-1]
    position = np.full(3, 0.4)
    position[axis] = 3.5 / scale  # where x scale + 0.5 is whole
    both = np.stack([position, position]).astype(np.float32)
    both[:, axis] += [-1e-6, 1e-6]
    below, above = encode(init_table(jax.random.key(0), SMALL) * 1e4, both, SMALL)
    np.testing.assert_allclose(below, above, atol=2e-3)
