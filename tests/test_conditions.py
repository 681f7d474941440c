"""Every boundary condition of a scene file does what its name says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sim.boundary import hold_particles, push_particles
from sim.conditions import make_conditions
from sim.grid import GridConfig
from sim.material import Material
from sim.mpm import MpmConfig, initial_state, rollout
from sim.scene_conditions import CONDITIONS, TotalForce

pytestmark = pytest.mark.compiles

SIDE, NODES = 0.6, 20
WHOLE = {"point": [0.3, 0.3, 0.3], "size": [0.3, 0.3, 0.3]}
DT, DENSITY = 1e-3, 1000.0


def block(low=0.24, high=0.36, v=(0.0, 0.0, 0.0)):
    axis = np.arange(low + 0.0075, high, 0.015)
    x = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    return initial_state(jnp.asarray(x, jnp.float32), 0.015**3, jnp.asarray(v))


def run(entries, seconds, state=None, gravity=(0, 0, 0), **material):
    """Simulates soft matter under conditions, and returns how it was and is."""
    state = block() if state is None else state
    count = len(state.x)
    stuff = {"log_youngs_modulus": np.log(2e3), "poisson_ratio": 0.2, "density": DENSITY}
    stuff = {name: jnp.full(count, value) for name, value in (stuff | material).items()}
    entries = [CONDITIONS[entry.pop("type")](**entry) for entry in map(dict, entries)]
    mass = stuff["density"] * state.volume
    conditions = make_conditions(entries, gravity, state.x, mass)
    config = MpmConfig(GridConfig(num_nodes=NODES, side=SIDE))
    steps = round(seconds / DT)
    end = rollout(state, Material((("jelly", count),), **stuff), conditions, DT, steps, config)
    assert not end.out_of_grid
    return state, end


def way(pair):
    return np.asarray(pair[1].x - pair[0].x).mean(0)


@pytest.mark.slow
def test_a_bounding_box_lets_matter_slide_but_not_pass():
    state = block(v=(2.0, 1.0, 0.0))
    _, end = run([{"type": "bounding_box"}], 0.2, state)
    wall = SIDE - 3 * SIDE / NODES
    assert float(end.x[:, 0].max()) < wall + 0.01
    assert float(end.x[:, 1].mean() - state.x[:, 1].mean()) > 0.1


@pytest.mark.slow
def test_a_cuboid_takes_matter_along_and_is_gone_afterwards():
    cuboid = {"type": "cuboid", **WHOLE, "velocity": [0.5, 0, 0], "end_time": 0.1}
    start, end = run([cuboid | {"reset": 0}], 0.2)
    np.testing.assert_allclose(way((start, end)), [0.1, 0, 0], atol=2e-3)
    _, end = run([cuboid | {"reset": 1}], 0.2)
    np.testing.assert_allclose(way((start, end)), [0.05, 0, 0], atol=2e-3)
    assert np.abs(end.v).max() < 1e-3


@pytest.mark.parametrize(
    "surface, friction, along, away",
    [
        ("sticky", 0.0, False, False),
        pytest.param("slip", 0.0, True, False, marks=pytest.mark.slow),
        ("separate", 0.0, True, True),
        pytest.param("cut", 0.0, False, False, marks=pytest.mark.slow),
    ],
)
def test_surfaces_hold_or_let_go_what_lies_on_them(surface, friction, along, away):
    """A block whose lowest layer lies within the solid is pulled along it and away from it."""
    plane = {"type": "surface_collider", "surface": surface, "friction": friction}
    plane |= {"point": [0, 0, 0.3], "normal": [0, 0, 1]}
    _, end = run([plane], 0.06, block(v=(0.5, 0, 0.5)))
    within = np.asarray(block().x[:, 2]) < 0.26
    moved = np.asarray(end.x - block().x)[within].mean(0)
    assert (moved[0] > 0.02) == along
    assert (moved[2] > 0.02) == away


def test_friction_brakes_as_coulomb_says():
    """A block pressed by its weight against a slope of friction mu loses mu g t of its speed."""
    plane = {"type": "surface_collider", "surface": "separate", "friction": 0.4}
    plane |= {"point": [0, 0, 0.24], "normal": [0, 0, 1]}
    stiff = {"log_youngs_modulus": np.log(5e4)}
    start = block(v=(0.6, 0, 0))
    _, free = run([plane | {"friction": 0.0}], 0.08, start, (0, 0, -9.8), **stiff)
    _, held = run([plane], 0.08, start, (0, 0, -9.8), **stiff)
    np.testing.assert_allclose(float(free.v[:, 0].mean()), 0.6, atol=0.01)
    lost = 0.6 - float(held.v[:, 0].mean())
    assert abs(lost - 0.4 * 9.8 * 0.08) < 0.2 * 0.4 * 9.8 * 0.08


@pytest.mark.slow
def test_a_ball_pushes_what_is_in_its_way():
    path = [[0.0, 0.1, 0.3, 0.3], [0.2, 0.25, 0.3, 0.3]]
    ball = {"type": "sphere", "path": path, "radius": 0.06, "surface": "separate", "friction": 0.0}
    pair = run([ball], 0.2)
    assert way(pair)[0] > 0.01 and np.abs(way(pair)[1:]).max() < 0.004
    center = np.array([0.25, 0.3, 0.3])
    assert np.linalg.norm(np.asarray(pair[1].x) - center, axis=-1).min() > 0.06 - 0.5 * SIDE / NODES


@pytest.mark.slow
def test_wind_is_taken_on_at_its_rate():
    wind = {"type": "wind", **WHOLE, "velocity": [1, 0, 0], "rate": 4.0}
    wind |= {"gust": 0.0, "gust_frequency": 1.0}
    _, end = run([wind], 0.1)
    np.testing.assert_allclose(end.v[:, 0].mean(), 1 - np.exp(-0.4), rtol=0.02)


def test_an_impulse_is_a_force_on_each_particle_for_a_time():
    mass = DENSITY * 0.015**3
    impulse = {"type": "particle_impulse", **WHOLE, "force": [0.1 * mass, 0, 0], "num_dt": 3}
    # Not a whole number of steps: what counts is the time.
    _, end = run([impulse | {"start_time": 0.0102, "end_time": 0.0152}], 0.05)
    np.testing.assert_allclose(end.v[:, 0].mean(), 0.1 * 0.005, rtol=1e-3)


def test_a_force_acts_on_all_together_in_the_course_of_time():
    state = block()
    total = DENSITY * float(np.sum(state.volume))
    force = {"type": "force", **WHOLE, "curve": [[0.0, 0, 0, 0], [0.1, 2 * total, 0, 0]]}
    _, end = run([force], 0.1)
    np.testing.assert_allclose(end.v[:, 0].mean(), 0.5 * 2 * 0.1, rtol=0.02)


@pytest.mark.slow
def test_a_handle_takes_particles_to_where_it_goes():
    path = [[0.0, 0.3, 0.3, 0.3], [0.1, 0.36, 0.3, 0.3], [0.2, 0.36, 0.3, 0.3]]
    drag = {"type": "drag", **WHOLE, "path": path, "frequency": 20.0}
    np.testing.assert_allclose(way(run([drag], 0.2)), [0.06, 0, 0], atol=2e-3)


def test_a_pin_holds_its_region():
    pin = {"type": "pin", "point": [0.3, 0.3, 0.24], "size": [0.2, 0.2, 0.05]}
    start, end = run([pin], 0.1, gravity=(-9.8, 0, 0))
    moved = np.abs(np.asarray(end.x - start.x)).max(-1)
    low = np.asarray(start.x[:, 2]) < 0.25
    assert moved[low].max() < 1e-3 and moved[~low].max() > 5e-3


@pytest.mark.slow
def test_particles_are_moved_and_turned_as_told():
    told = {"type": "enforce_particle_translation", **WHOLE, "velocity": [0, 0.4, 0]}
    np.testing.assert_allclose(way(run([told], 0.1)), [0, 0.04, 0], atol=1e-5)

    axis = {"point": [0.3, 0.3, 0.3], "normal": [0, 0, 1], "half_height_and_radius": [0.2, 0.2]}
    turn = {"type": "enforce_particle_velocity_rotation", **axis}
    start, end = run([turn | {"rotation_scale": 2.0, "translation_scale": 0.1}], 0.1)
    angle = -2.0 * 0.1
    rotation = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    expected = (np.asarray(start.x) - 0.3) @ rotation.T + [0.3, 0.3, 0.31]
    np.testing.assert_allclose(end.x, expected, atol=5e-4)


@pytest.mark.slow
def test_layers_are_released_one_after_the_other():
    release = {"type": "release_particles_sequentially", "normal": [0, 0, 1], "num_layers": 2}
    release |= {"start_position": 0.24, "end_position": 0.36, "end_time": 0.1}
    start, middle = run([release], 0.07, gravity=(0, 0, -9.8))
    fallen = np.asarray(start.x - middle.x)[:, 2]
    high = np.asarray(start.x[:, 2]) > 0.3
    assert np.abs(fallen[high]).max() < 1e-6 and fallen[~high].mean() > 5e-4


@pytest.mark.quick
def test_what_holds_no_particle_is_told_of():
    told = {"type": "enforce_particle_translation", **WHOLE, "velocity": [0, 0, 1]}
    with pytest.raises(ValueError, match=r"region of enforce_particle_translation .* found none"):
        run([told | {"point": [5, 5, 5]}], 0.01)


def test_forces_have_gradients():
    state = block()
    mass = jnp.full(len(state.x), DENSITY * 0.015**3)
    entry = TotalForce(**WHOLE, curve=((0.0, 1.0, 0, 0), (0.1, 2.0, 0, 0)))
    (force,) = make_conditions([entry], (0, 0, 0), state.x, mass).on_particles

    def speed(value):
        pushed = push_particles((force.replace(force=value),), state.x.T, state.v.T, 0.05, DT)
        _, v = hold_particles((), state.x.T, (state.x.T, pushed), 0.05, DT)
        return v[0].mean()

    slope = jax.grad(speed)(force.force)
    np.testing.assert_allclose(slope[:, 0], 0.5 * DT / mass.sum(), rtol=1e-4)
    assert GridConfig(num_nodes=NODES, side=SIDE).dx == pytest.approx(0.03)
