"""A simulation to play with, without a page."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from render.gaussians import Gaussians, covariances
from sim import mpm
from sim.coarse import make_coarse
from sim.particles import MARGIN_CELLS
from sim.play import FRAME, Play
from sim.scene_io import read_scene_file

pytestmark = pytest.mark.compiles

UP = np.array([0.0, 1.0, 0.0])  # of the splats' own space


def cube(count=8):
    """Opaque splats in a cube of side two about (5, 0, 0)."""
    line = np.linspace(-1.0, 1.0, count)
    places = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    num = len(places)
    rng = np.random.default_rng(0)
    return Gaussians(
        means=jnp.float32(places) + jnp.float32([5.0, 0.0, 0.0]),
        quats=jnp.float32(rng.normal(size=(num, 4))),
        log_scales=jnp.float32(np.log(0.05) + 0.3 * rng.normal(size=(num, 3))),
        logit_opacities=jnp.full(num, 4.0),
        harmonics=jnp.float32(rng.normal(size=(num, 4, 3))),
    )


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    path = tmp_path_factory.mktemp("scene") / "scene.json"
    scene = {
        **{"units": "SI", "scale": 0.2, "grid_lim": 0.64, "n_grid": 64, "E": 3000.0, "nu": 0.3},
        **{"density": 100, "g": [0, 0, -9.8], "material": "neo_hookean", "substep_dt": 1e-5},
        "boundary_conditions": [
            {
                **{"type": "surface_collider", "surface": "separate"},
                **{"point": [0.32, 0.32, 0.12], "normal": [0, 0, 1]},
            },
        ],
    }
    path.write_text(json.dumps(scene))
    splats = cube()
    broken = splats.replace(means=splats.means.at[7].set(jnp.nan))
    return make_coarse(read_scene_file(path), broken, up="y", max_particles=300)


@pytest.fixture
def play(ready):
    return Play(ready)


def height(play):
    """Of the middle of the particles, in the splats' own space."""
    return float(play.out_of_box(play.state.x).mean(0) @ UP)


def test_the_grid_is_no_finer_than_the_particles_and_the_substep_fits_it(ready, play):
    simulation = ready.simulation
    cell = np.floor(np.asarray(simulation.state.x) / simulation.config.grid.dx).astype(int)
    assert simulation.config.grid.num_nodes < 32
    assert len(cell) / len(np.unique(cell, axis=0)) > 2.5
    assert 1e-5 < play.dt < ready.time_step.bound


def test_gravity_pulls_unless_it_is_off(play):
    start = height(play)
    assert play.run(0.1) == pytest.approx(0.1)
    fallen = (start - height(play)) * float(play.placement.scale)
    assert fallen == pytest.approx(0.5 * 9.8 * 0.1**2, rel=0.02)
    play.restart()
    assert height(play) == start and float(play.state.time) == 0.0
    play.has_gravity = False
    play.run(0.1)
    assert height(play) == pytest.approx(start, abs=1e-4)


def test_what_is_under_the_ray_and_nearest_to_the_eye_is_picked(play):
    place = play.pick(np.array([5.0, 0.1, 9.0]), np.array([0.0, 0.0, -2.0]))
    np.testing.assert_allclose(place, [5.0, 0.1, 1.0], atol=0.3)
    assert play.pick(np.array([5.0, 0.1, 9.0]), np.array([0.0, 0.0, 1.0])) is None  # behind
    assert play.pick(np.array([5.0, 4.0, 9.0]), np.array([0.0, 0.0, -1.0])) is None  # beside


def test_a_handle_takes_what_it_holds_along_and_lets_go(play):
    place = play.pick(np.array([5.0, 0.0, 9.0]), np.array([0.0, 0.0, -1.0]))
    num_held = play.grab(place, 0.04)
    assert 0 < num_held < len(play.state.x) / 4
    held = play._is_held
    start = play.out_of_box(play.state.x)
    way = np.array([0.6, 0.5, 0.0])
    for _ in range(12):
        play.drag(place + way)
        play.run(FRAME)
    moved = play.out_of_box(play.state.x) - start
    np.testing.assert_allclose(moved[held].mean(0), way, atol=0.08)
    assert moved.mean(0) @ way > 0.3 * way @ way  # the others come along
    play.let_go()
    play.run(0.15)
    assert play.num_held == 0 and play.failure is None
    later = play.out_of_box(play.state.x) - start
    assert later[held].mean(0)[1] < way[1] - 0.3


def test_a_handle_moves_no_faster_than_a_substep_allows_and_not_through_the_floor(play):
    place = play.out_of_box(play.state.x.mean(0))
    play.grab(place, 0.05)
    play.drag(place - 50.0 * UP)
    play.run(FRAME)
    assert np.abs(play.state.v).max() < 2 * play.handle_speed
    for _ in range(10):
        play.run(FRAME)
    assert play.failure is None and float(play.state.x[:, 2].min()) > 0.1


def test_it_does_what_it_can_within_the_budget(play):
    done = play.run(1.0, budget=0.0)
    assert 0.0 < done < 0.1 and float(play.state.time) == pytest.approx(done)


def test_nothing_is_compiled_anew_while_it_is_played_with(play):
    play.compile()
    size = mpm.rollout._cache_size()
    play.grab(play.out_of_box(play.state.x[0]), 0.05)
    play.run(FRAME)
    play.set_stiffness(play.log10_modulus - 1.0)
    play.has_gravity = False
    play.run(0.5 * FRAME)
    play.restart()
    play.run(FRAME)
    assert mpm.rollout._cache_size() == size


def test_softer_matter_sags_more_and_takes_longer_steps(play):
    play.run(0.3)
    stiff = float(play.state.x[:, 2].max())
    dt = play.dt
    play.restart()
    play.set_stiffness(play.log10_modulus - 1.0)
    assert 1.5 * dt < play.dt < 4 * dt
    play.run(0.3)
    assert float(play.state.x[:, 2].max()) < stiff - 0.02


def test_it_stops_where_matter_leaves_the_grid_until_it_is_restarted(play):
    thrown = jnp.broadcast_to(jnp.float32([20.0, 0.0, 0.0]), play.state.v.shape)
    play.state = play.state.replace(v=thrown)
    play.run(0.1)
    assert "leave the box" in play.failure or "diverges" in play.failure
    assert np.isfinite(play.shapes()[0]).all()
    assert play.run(0.1) == 0.0
    play.restart()
    assert play.failure is None and play.run(FRAME) > 0.0


@pytest.mark.slow
def test_a_page_gets_the_shapes_that_carry_would_give(play):
    play.grab(play.out_of_box(play.state.x[0]), 0.05)
    play.drag(play.out_of_box(play.state.x[0]) + 0.5 * UP)
    play.run(0.1)
    means, spread = play.shapes()
    moved = play.splats()
    expected = np.asarray(covariances(moved))[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
    is_drawn = np.arange(len(means)) != 7
    np.testing.assert_allclose(means, moved.means, atol=1e-5)
    np.testing.assert_allclose(spread[is_drawn], expected[is_drawn], atol=2e-6)
    assert np.isfinite(means).all() and float(jax.nn.sigmoid(moved.logit_opacities[7])) < 1e-6


def test_an_object_that_fills_the_box_keeps_the_grid_it_needs_to_fit(ready):
    scene = dataclasses.replace(ready.scene, n_grid=64, scale=0.54, boundaries=())
    found = make_coarse(scene, cube(), up="y", max_particles=300)
    assert 0.05 >= MARGIN_CELLS * found.simulation.config.grid.dx > 0.045
