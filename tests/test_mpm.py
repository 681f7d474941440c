"""Simulations against what mechanics says: falling, throwing, bouncing, bending, and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sim import checks
from sim.boundary import BoundingBox, Conditions, Cuboid, Surface
from sim.grid import GridConfig
from sim.material import Material
from sim.mpm import MpmConfig, initial_state, rollout
from sim.oscillation import find_oscillation

pytestmark = pytest.mark.compiles

FALL = (0.0, 0.0, -9.8)


def block(low, high, spacing, dtype=np.float32):
    """Places [N, 3] of a regular block, and the volume of each."""
    axes = [np.arange(a + spacing / 2, b, spacing) for a, b in zip(low, high, strict=True)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return jnp.asarray(places, dtype), spacing**3


def material(count, law="neo_hookean", E=1e5, nu=0.3, density=1000.0, dtype=np.float32, **others):
    def column(value):
        return jnp.full(count, value, dtype)

    others = {name: column(value) for name, value in others.items()}
    laws = ((law, count),)
    return Material(laws, column(np.log(E)), column(nu), column(density), **others)


def conditions(*on_grid, gravity=FALL, dtype=np.float32):
    return Conditions(jnp.array(gravity, dtype), on_grid)


@pytest.mark.quick
@pytest.mark.slow
def test_a_thrown_body_flies_as_a_point_would():
    config = MpmConfig(GridConfig(num_nodes=32, side=1.0))
    x, volume = block([0.3, 0.4, 0.5], [0.5, 0.6, 0.7], 1 / 64)
    state = initial_state(x, volume, jnp.array([1.0, -0.5, 1.5]))
    dt, steps = 1e-4, 2000
    end = rollout(state, material(len(x)), conditions(), dt, steps, config)
    t = dt * steps
    # The fall is that of dt: v first, then x.
    way = np.array([1.0, -0.5, 1.5]) * t + 0.5 * np.array(FALL) * t * (t + dt)
    np.testing.assert_allclose(end.x - state.x, np.tile(way, (len(x), 1)), atol=1e-4)
    np.testing.assert_allclose(end.F, np.tile(np.eye(3), (len(x), 1, 1)), atol=1e-3)
    assert not end.out_of_grid and np.isclose(end.time, t)


@pytest.mark.slow
def test_momentum_is_kept_when_bodies_of_several_materials_collide():
    config = MpmConfig(GridConfig(num_nodes=32, side=1.0))
    left, volume = block([0.2, 0.42, 0.42], [0.4, 0.58, 0.58], 1 / 64)
    right, _ = block([0.5, 0.4, 0.45], [0.7, 0.6, 0.6], 1 / 64)
    x = jnp.concatenate([left, right])
    v = jnp.concatenate([jnp.tile(jnp.array([2.0, 0, 0]), (len(left), 1)), jnp.zeros_like(right)])
    state = initial_state(x, volume, v)
    stuff = material(len(x), E=2e5).replace(laws=(("jelly", len(left)), ("metal", len(right))))
    stuff = stuff.replace(yield_stress=2e3)
    end = rollout(state, stuff, conditions(gravity=(0, 0, 0)), 1e-4, 1200, config)
    np.testing.assert_allclose(end.v.mean(0), v.mean(0), atol=1e-5 * 2.0)
    speeds = end.v[: len(left), 0].mean(), end.v[len(left) :, 0].mean()
    assert speeds[0] < 1.6 and speeds[1] > 0.2  # they have met


@pytest.mark.slow
def test_a_bounce_gains_no_energy_and_loses_little():
    config = MpmConfig(GridConfig(num_nodes=32, side=1.0))
    x, volume = block([0.4, 0.4, 0.2], [0.6, 0.6, 0.4], 1 / 64)
    state = initial_state(x, volume, jnp.array([0, 0, -2.0]))
    stuff = material(len(x), E=3e5)

    @jax.jit
    def energies(state):
        found = checks.sample(state, stuff, jnp.array(FALL), config.grid.dx)
        return jnp.stack([found.kinetic, found.elastic, found.potential])

    totals, heights = [], []
    for _ in range(30):
        totals.append(np.asarray(energies(state)))
        heights.append(float(state.x[:, 2].mean()))
        state = rollout(state, stuff, conditions(BoundingBox()), 2e-4, 40, config)
    found = checks.energy_report(*np.stack(totals, -1))
    assert found.largest_gain < 0.01 * found.scale
    assert -0.5 * found.scale < found.drift < 0
    assert min(heights) < heights[0] - 0.05 and heights[-1] > min(heights) + 0.05


@pytest.mark.parametrize(
    "law, expected",
    [("neo_hookean", 0.2336), pytest.param("jelly", 0.2305, marks=pytest.mark.slow)],
)
def test_it_falls_as_other_simulators_let_it(law, expected):
    """The mean height of warp and taichi after 510 steps of the same scene."""
    rng = np.random.default_rng(0)
    x = np.array([0.3, 0.3, 3.5 / 32]) + 0.4 * rng.random((10_000, 3))
    state = initial_state(jnp.asarray(x, jnp.float32), 0.4**3 / 10_000, jnp.array([0, 0, -2.0]))
    config = MpmConfig(GridConfig(num_nodes=32, side=1.0))
    end = rollout(state, material(10_000, law), conditions(BoundingBox()), 1e-4, 510, config)
    assert abs(float(end.x[:, 2].mean()) - expected) < 1e-4


@pytest.mark.slow
def test_a_cantilever_swings_as_euler_and_bernoulli_say():
    size, cells, density, E = 32, 4, 1000.0, 1e5
    dx = 1 / size
    height, length = cells * dx, 20 * dx
    start = 6 * dx
    x, volume = block(
        [start - 3 * dx, 0.4, 0.4], [start + length, 0.4 + height, 0.4 + height], dx / 2
    )
    along = np.clip(np.asarray(x[:, 0]) - start, 0, None) / length
    v = np.zeros(x.shape, np.float32)
    v[:, 2] = 0.02 * along**2
    wall = Cuboid(
        *(jnp.array([start - 5 * dx, 0.5, 0.5]), jnp.array([5.01 * dx, 1.0, 1.0]), jnp.zeros(3)),
        start_time=jnp.array(0.0),
        end_time=jnp.array(1e3),
    )
    state = initial_state(x, volume, jnp.asarray(v))
    config = MpmConfig(GridConfig(num_nodes=size, side=1.0))
    stuff = material(len(x), E=E, nu=0.0, density=density)
    radius = height / np.sqrt(12)
    frequency = 1.8751**2 / (2 * np.pi) * radius / length**2 * np.sqrt(E / density)
    tip, dt, steps = [], 5e-4, 60
    count = int(1.6 / frequency / (dt * steps))
    for _ in range(count):
        state = rollout(state, stuff, conditions(wall, gravity=(0, 0, 0)), dt, steps, config)
        tip.append(float(state.x[-20:, 2].mean()))
    found = find_oscillation(dt * steps * np.arange(1, count + 1), np.array(tip))
    assert found.explained_share > 0.95
    assert abs(found.frequency_hz / frequency - 1) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    "angle, start, low, high", [(20, 40, 16, 25), (30, 45, 25, 40), (30, 25, 20, 25)]
)
def test_a_heap_of_sand_rests_near_its_angle_of_friction(angle, start, low, high):
    """A steeper heap slides until it lies so; a flatter one stays. Between walls, sand holds a few
    degrees more than in the triaxial test that the law's angle is of."""
    dx, foot, half = 1 / 48, 4 / 48, 0.22
    slope = np.tan(np.radians(start))
    x, volume = block([0.5 - half, 0.46, foot], [0.5 + half, 0.54, foot + half * slope], dx / 2)
    x = x[np.asarray(x[:, 2]) - foot < (half - np.abs(np.asarray(x[:, 0]) - 0.5)) * slope]
    span = {"start_time": jnp.array(0.0), "end_time": jnp.array(1e3)}
    smooth = jnp.array(0.0)
    floor = Surface(jnp.array([0, 0, foot]), jnp.array([0, 0, 1.0]), smooth, **span, kind="sticky")
    walls = [
        Surface(jnp.array([0, y, 0]), jnp.array([0, s, 0.0]), smooth, **span, kind="slip")
        for y, s in ((0.46, 1.0), (0.54, -1.0))
    ]
    stuff = material(len(x), "sand", E=2e5, density=1600.0, friction_angle=np.radians(angle))
    state, config = initial_state(x, volume), MpmConfig(GridConfig(num_nodes=48, side=1.0))
    around = conditions(floor, *walls, BoundingBox())
    state = rollout(state, stuff, around, 2.5e-4, 3600, config)
    assert not state.out_of_grid
    assert np.sqrt(np.mean(np.sum(np.asarray(state.v) ** 2, -1))) < 0.02
    places = np.asarray(state.x)
    columns = np.round((places[:, 0] - 0.5) / dx).astype(int)
    kinds = [k for k in np.unique(columns) if np.sum(columns == k) > 4]
    heights = np.array([np.quantile(places[columns == k, 2], 0.97) for k in kinds]) - foot
    is_flank = (heights > 0.25 * heights.max()) & (heights < 0.8 * heights.max())
    far = dx * np.abs(kinds)
    found = np.degrees(np.arctan(-np.polyfit(far[is_flank], heights[is_flank], 1)[0]))
    assert low < found < high


def small_fall(dtype):
    """A small block that falls onto the floor within forty steps, and touches it."""
    config = MpmConfig(GridConfig(num_nodes=12, side=0.6), segment=16, chunk=100)
    x, volume = block([0.2, 0.2, 0.16], [0.35, 0.3, 0.26], 0.025, dtype)
    around = conditions(BoundingBox(), dtype=dtype)

    def end(log_E, nu, v0):
        stuff = material(len(x), "jelly", dtype=dtype)
        stuff = stuff.replace(log_youngs_modulus=log_E, poisson_ratio=nu)
        state = initial_state(x, volume, v0)
        return rollout(state, stuff, around, dtype(1e-3), 40, config)

    return end, np.asarray(x)


@pytest.mark.slow
def test_gradients_match_finite_differences_through_contact():
    with jax.enable_x64(True):
        end, x = small_fall(np.float64)
        weights = jnp.asarray(np.random.default_rng(0).normal(size=x.shape))

        @jax.jit
        def measure(log_E, nu, v0):
            return jnp.vdot(weights, end(log_E, nu, v0).x)

        arguments = [jnp.array(np.log(3e4)), jnp.array(0.3), jnp.array([0.3, 0.1, -2.0])]
        touched = end(*arguments)
        assert np.any(touched.v[:, 2] > -1.0)
        gradient = jax.jit(jax.grad(measure, (0, 1, 2)))(*arguments)
        for index, found in enumerate(gradient):
            for k in range(found.size):
                step = 1e-5 * np.eye(found.size)[k].reshape(found.shape)
                there, back = list(arguments), list(arguments)
                there[index], back[index] = arguments[index] + step, arguments[index] - step
                expected = float(measure(*there) - measure(*back)) / 2e-5
                assert abs(float(found.ravel()[k]) - expected) < 1e-4 * abs(expected)


@pytest.mark.slow
def test_stiffness_is_found_again_from_a_motion():
    """Ten times too soft and too stiff; the slope that leads back is the simulator's own."""
    end, _ = small_fall(np.float32)
    v0, true = jnp.array([0.3, 0.1, -2.0]), np.log(3e4)
    target = end(jnp.array(true), jnp.array(0.3), v0).x

    @jax.jit
    def step(log_E):
        loss = lambda log_E: jnp.mean((end(log_E, jnp.array(0.3), v0).x - target) ** 2)  # noqa: E731
        return jax.value_and_grad(loss)(log_E)

    for factor in (0.1, 10.0):
        log_E, scale, before = jnp.array(true + np.log(factor), jnp.float32), 0.5, 0.0
        for _ in range(40):
            slope = float(step(log_E)[1])
            # Against the slope's sign, by half as much after each turn: nothing to tune.
            scale *= 0.5 if before * slope < 0 else 1.0
            log_E, before = log_E - scale * np.sign(slope), slope
        assert abs(float(log_E) - true) < np.log(1.02)


@pytest.mark.slow
def test_segments_and_chunks_do_not_matter():
    x, volume = block([0.2, 0.2, 0.16], [0.35, 0.3, 0.26], 0.02)
    v = 0.3 * jax.random.normal(jax.random.key(0), x.shape)
    stuff = material(len(x))

    results = []
    for settings in ({}, {"segment": 4, "chunk": 37}):
        config = MpmConfig(GridConfig(num_nodes=12, side=0.6), **settings)

        @jax.jit
        def slope(v, config=config):
            def loss(v):
                around = conditions(BoundingBox())
                end = rollout(initial_state(x, volume, v), stuff, around, 1e-4, 10, config)
                return jnp.sum(jnp.sin(50 * end.x)), end

            return jax.grad(loss, has_aux=True)(v)

        by_v, end = slope(v)
        results.append((end.x, end.F, end.time, by_v))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5 * np.abs(b).max())


@pytest.mark.slow
def test_particles_of_many_laws_stay_in_their_places():
    x, volume = block([0.2, 0.2, 0.16], [0.35, 0.3, 0.26], 0.02)
    v = 0.3 * jax.random.normal(jax.random.key(0), x.shape)
    config = MpmConfig(GridConfig(num_nodes=12, side=0.6), chunk=37)
    sizes = [len(x) // 3, 0, len(x) - len(x) // 3]
    stuff = material(len(x), E=1e4).replace(
        laws=tuple(zip(("jelly", "sand", "neo_hookean"), sizes, strict=True))
    )
    around = conditions(gravity=(0, 0, 0))
    end = rollout(initial_state(x, volume, v), stuff, around, 1e-4, 3, config)
    assert np.abs(end.x - x).max() < 1e-3
    # So few steps: the deformation tells whose it is.
    alone = rollout(initial_state(x, volume, v), material(len(x), E=1e4), around, 1e-4, 3, config)
    np.testing.assert_allclose(end.F, alone.F, atol=1e-3)
    np.testing.assert_allclose(end.v.mean(0), v.mean(0), atol=1e-6)


def test_who_leaves_the_grid_is_told_of():
    config = MpmConfig(GridConfig(num_nodes=12, side=0.6))
    x, volume = block([0.2, 0.2, 0.2], [0.3, 0.3, 0.3], 0.025)
    nothing = conditions(gravity=(0, 0, 0))
    flies = initial_state(x, volume, jnp.array([20.0, 0, 0]))
    stays = initial_state(x, volume, jnp.array([0.1, 0, 0]))
    run = functools.partial(rollout, dt=1e-3, num_substeps=20, config=config)
    assert run(flies, material(len(x)), nothing).out_of_grid
    assert not run(stays, material(len(x)), nothing).out_of_grid
    broken = stays.replace(v=stays.v.at[3].set(jnp.nan))
    assert run(broken, material(len(x)), nothing).out_of_grid


def test_runs_of_laws_must_cover_the_particles():
    x, volume = block([0.2, 0.2, 0.2], [0.3, 0.3, 0.3], 0.025)
    stuff = material(len(x)).replace(laws=(("jelly", 3),))
    with pytest.raises(ValueError, match=f"expected laws of {len(x)} particles, found 3"):
        rollout(initial_state(x, volume), stuff, conditions(), 1e-4, 1, MpmConfig())
