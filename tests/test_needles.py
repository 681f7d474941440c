"""Long Gaussians in pieces: they look as one did, and follow what bends."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logit

from render.gaussians import Gaussians, covariances
from sim.needles import cut, cut_to


def gaussians(log_scales, opacities, seed=0):
    rng, count = np.random.default_rng(seed), len(log_scales)
    return Gaussians(
        means=jnp.asarray(rng.normal(size=(count, 3)), jnp.float32),
        quats=jnp.asarray(rng.normal(size=(count, 4)), jnp.float32),
        log_scales=jnp.asarray(log_scales, jnp.float32),
        logit_opacities=jnp.asarray(logit(np.asarray(opacities)), jnp.float32),
        harmonics=jnp.asarray(rng.normal(size=(count, 4, 3)), jnp.float32),
    )


def covered(scene, points):
    """What is covered of points [P, 3] seen from afar, each Gaussian as its density there."""
    means, spread = np.asarray(scene.means, np.float64), np.asarray(covariances(scene), np.float64)
    away = points[:, None] - means
    distance = np.einsum("pni,nij,pnj->pn", away, np.linalg.inv(spread), away)
    return 1 - np.prod(1 - expit(np.asarray(scene.logit_opacities)) * np.exp(-distance / 2), -1)


def axis(scene, index, which):
    """A unit vector along an axis of a Gaussian."""
    values, vectors = np.linalg.eigh(np.asarray(covariances(scene), np.float64)[index])
    return vectors[:, which] * np.sqrt(values[which])


@pytest.mark.parametrize("opacity", [0.1, 0.6, 0.98])
@pytest.mark.parametrize("ratio", [1.7, 4.0, 12.0])
def test_a_row_of_pieces_looks_as_one_did(opacity, ratio):
    piece = 0.1
    scales = np.log([[piece * ratio, 0.03, 0.02]])
    one = gaussians(scales, [opacity])
    many, pieces = cut_to(one, np.array([0]), piece)
    assert len(pieces.parents) == len(many.means) - 1 and not pieces.parents.any()
    np.testing.assert_allclose(np.exp(np.asarray(many.log_scales).max(-1)), piece, rtol=1e-5)
    along = np.linspace(-3, 3, 61)[:, None] * axis(one, 0, 2) + np.asarray(one.means)
    beside = along + axis(one, 0, 1)
    np.testing.assert_allclose(covered(many, along), covered(one, along), atol=0.065)
    np.testing.assert_allclose(covered(many, beside), covered(one, beside), atol=0.055)
    if opacity == 0.1:
        np.testing.assert_allclose(covered(many, along), covered(one, along), atol=0.005)


def test_a_large_disc_is_cut_both_ways():
    piece = 0.1
    one = gaussians(np.log([[0.5, 0.4, 0.01]]), [0.5])
    many, _ = cut_to(one, np.array([0]), piece)
    np.testing.assert_allclose(np.exp(many.log_scales).max(), piece, rtol=1e-5)
    grid = np.linspace(-1.5, 1.5, 7)
    points = [u * axis(one, 0, 2) + v * axis(one, 0, 1) for u in grid for v in grid]
    points = np.array(points) + np.asarray(one.means)
    np.testing.assert_allclose(covered(many, points), covered(one, points), atol=0.05)


def test_covariance_of_a_row_is_that_of_the_one():
    """Faint ones add up: their density is a sum, its second moment is the one's."""
    one = gaussians(np.log([[0.9, 0.05, 0.05]]), [1e-3])
    many, _ = cut_to(one, np.array([0]), 0.1)
    weight = expit(np.asarray(many.logit_opacities, np.float64))
    weight /= weight.sum()
    away = np.asarray(many.means, np.float64) - np.asarray(one.means)
    spread = np.asarray(covariances(many), np.float64)
    found = np.einsum("n,nij->ij", weight, spread + away[:, :, None] * away[:, None])
    expected = np.asarray(covariances(one))[0]
    # The ends of the row, beyond two and a half standard deviations, are left out.
    np.testing.assert_allclose(found, expected, atol=0.1 * expected.max())


def test_short_still_and_broken_ones_stay_whole():
    scene = gaussians(np.log([[0.1] * 3, [2.0, 0.1, 0.1], [2.0, 0.1, 0.1]]), [0.5] * 3)
    scene = scene.replace(means=scene.means.at[2].set(jnp.nan))
    many, pieces = cut(scene, np.array([0, 2]), 0.2)
    assert not len(pieces.parents)
    np.testing.assert_array_equal(many.log_scales, scene.log_scales)


def test_huge_ones_are_capped_and_pieces_are_not_too_many():
    scales = np.log(np.tile([[500.0, 500.0, 500.0]], (3, 1)))
    many, pieces = cut(gaussians(scales, [0.01] * 3), np.arange(3), 0.01)
    assert len(many.means) < 250_000
    np.testing.assert_allclose(np.exp(many.log_scales).max(), pieces.max_std, rtol=1e-4)


def test_the_same_scene_gives_the_same_pieces():
    scene = gaussians(np.random.default_rng(1).uniform(-5, 0, (30, 3)), np.full(30, 0.7))
    many, pieces = cut(scene, np.arange(0, 30, 2), 0.1)
    again, others = cut_to(scene, np.arange(0, 30, 2)[::-1], pieces.max_std)
    np.testing.assert_array_equal(pieces.parents, others.parents)
    np.testing.assert_array_equal(many.means, again.means)
    assert set(pieces.parents) <= set(range(0, 30, 2))
