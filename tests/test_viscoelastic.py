"""The viscoelastic law in motion: bars of it against the standard linear solid."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from sim import checks
from sim.boundary import Conditions, Cuboid
from sim.grid import GridConfig
from sim.material import Material
from sim.mpm import MpmConfig, advance, initial_state

pytestmark = pytest.mark.compiles

E, DENSITY, RATIO, TAU = 1e5, 1000.0, 0.5, 0.01
DT = 2.5e-4
CELLS = 32
LENGTH, START = 0.5, 0.25
CONFIG = MpmConfig(GridConfig(num_nodes=CELLS, side=1.0))


@functools.cache
def bar():
    """Places [N, 3] of a bar along x of the box."""
    spacing = 0.5 / CELLS
    along = START + spacing * (np.arange(round(LENGTH / spacing)) + 0.5)
    across = 0.5 + spacing * (np.arange(4) - 1.5)
    return np.stack(np.meshgrid(along, across, across, indexing="ij"), -1).reshape(-1, 3)


def moved(state, seconds, is_held):
    """The bar after `seconds`, held at both ends or free; stretched, it gets no thinner."""
    count = len(state.x)
    branch = {"branch_ratio": jnp.array(RATIO), "branch_viscosity": jnp.array(TAU * RATIO * E / 2)}
    stuff = Material(
        (("viscoelastic", count),), jnp.log(E), jnp.array(0.0), jnp.array(DENSITY), **branch
    )
    end = jnp.array(1e3 if is_held else -1.0)
    holders = [
        Cuboid(jnp.array([x, 0.5, 0.5]), jnp.array([0.1, 1, 1]), jnp.zeros(3), jnp.array(-1.0), end)
        for x in (START, START + LENGTH)
    ]
    around = Conditions(jnp.zeros(3), tuple(holders))
    return advance(state, stuff, around, DT, round(seconds / DT), CONFIG), stuff


@pytest.mark.slow
def test_a_held_bar_relaxes():
    stretch = 1.02
    x = bar().astype(np.float32)
    state = initial_state(jnp.asarray(x), (0.5 / CELLS) ** 3, num_history=6)
    state = state.replace(F=state.F.at[:, 0, 0].set(stretch))
    for seconds in (0.0, 0.005, 0.02):
        after, stuff = moved(state, seconds, True)
        found = (
            checks.elastic_energy(after.F, after.history, after.volume, stuff) / state.volume.sum()
        )
        branch = RATIO * np.log(stretch) ** 2 * np.exp(-2 * seconds / TAU)
        expected = E / 2 * (0.5 * (stretch**2 - 1) - np.log(stretch) + branch)
        np.testing.assert_allclose(found, expected, rtol=0.01)


def test_a_ringing_bar_dies_away_as_the_standard_linear_solid_says():
    """Of its first mode q: q'' = -k^2 E / density (q + ratio y), y' = q' - y / tau."""
    k = np.pi / LENGTH
    x = bar().astype(np.float32)
    mode = np.cos(k * (x[:, 0] - START))
    v = np.zeros_like(x)
    v[:, 0] = 0.05 * mode
    state = initial_state(jnp.asarray(x), (0.5 / CELLS) ** 3, jnp.asarray(v), num_history=6)
    stiffness = k**2 * E / DENSITY
    system = np.array([[0, 1, 0], [-stiffness, 0, -RATIO * stiffness], [0, 1, -1 / TAU]])
    step, found, expected = 0.005, [], []
    for i in range(1, 31):
        state, _ = moved(state, step, False)
        found.append(mode @ (np.asarray(state.x[:, 0]) - x[:, 0]) / (mode @ mode))
        expected.append((expm(i * step * system) @ [0, 0.05, 0])[0])
    assert np.max(expected[18:]) < 0.5 * np.max(expected)  # half of it dies in two periods
    np.testing.assert_allclose(found, expected, atol=0.03 * np.max(expected))
