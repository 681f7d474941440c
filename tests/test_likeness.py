"""Scenes of users as a prior's family sees them: similarity, camera, colours."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from render.camera import project
from render.gaussians import Gaussians
from sim.families.family import FAMILIES, family_camera
from sim.families.likeness import Clips, make_likeness, stand_on_foot
from sim.families.random_scenes import random_scene
from sim.motion_video import LN10, ClipTiming
from sim.particles import into_box
from sim.scene_conditions import Pin
from sim.scene_io import read_scene_file
from sim.simulation import make_simulation, roll_clip

STALK = FAMILIES["stalk"]


def pillar(height, width, up=2):
    """Gaussians [A] that fill a box that stands on its smallest side, in a space of its own."""
    axes = [np.linspace(-0.5, 0.5, 9) * side for side in (width, width, height)]
    means = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3) + np.array([3, -2, 5])
    if up == 1:
        means = means[:, [0, 2, 1]] * np.array([1, 1, -1])
    count = len(means)
    return Gaussians(
        means=np.float32(means),
        quats=np.tile(np.float32([1, 0, 0, 0]), (count, 1)),
        log_scales=np.full((count, 3), np.log(0.04 * height), np.float32),
        logit_opacities=np.full(count, 3.0, np.float32),
        harmonics=np.zeros((count, 1, 3), np.float32),
    )


@pytest.mark.compiles
@pytest.mark.slow
def test_bodies_of_equal_similarity_move_alike():
    family = dataclasses.replace(STALK, num_particles=60, num_nodes=14, timing=ClipTiming(3, 30))
    length, density, time, label = 2.0, 0.4, 1.3, 4.9
    one = random_scene(5, family)
    two = one.replace(
        state=one.state.replace(
            x=length * one.state.x,
            v=length / time * one.state.v,
            volume=length**3 * one.state.volume,
        ),
        dt=time * one.dt,
        config=dataclasses.replace(
            one.config, grid=dataclasses.replace(one.config.grid, side=length * family.side)
        ),
    )
    modulus = label + np.log10(density) + 2 * np.log10(length) - 2 * np.log10(time)
    materials = (
        one.material.replace(log_youngs_modulus=jnp.float32(LN10 * label)),
        one.material.replace(
            log_youngs_modulus=jnp.float32(LN10 * modulus),
            density=density * one.material.density,
        ),
    )
    ends = [
        roll_clip(scene.replace(material=material), 30, 3).x[-1]
        for scene, material in zip((one, two), materials, strict=True)
    ]
    assert jnp.abs(ends[0] - one.state.x).max() > 0.05
    np.testing.assert_allclose(ends[1], length * ends[0], atol=2e-4)


@pytest.mark.parametrize("up", ["z", "-y"])
def test_the_familys_camera_stands_before_the_scene_as_before_its_own(up):
    scene = dataclasses.replace(read_scene_file("sway"), scale=0.8, grid_lim=1.8, n_grid=36)
    scene = dataclasses.replace(scene, centre=(0.9, 0.9, 0.9))
    splats = pillar(2.6, 0.7, up=2 if up == "z" else 1)
    likeness = make_likeness(make_simulation(scene, splats, up=up), STALK, Clips(0.1))
    simulation = likeness.simulation
    size = 0.8 / STALK.usual_height
    expected = -2 * np.log10(size) + 2 * np.log10(0.1 / STALK.frame_seconds)
    np.testing.assert_allclose(likeness.shift, expected, atol=1e-4)
    # The pillar's foot and top are seen where the family's camera sees those of a usual stalk.
    means = np.asarray(simulation.gaussians.means)
    x = np.asarray(into_box(simulation.placement, means))
    foot = np.array([STALK.middle, STALK.middle, STALK.floor - 0.5 * STALK.dx])
    in_family = (x - np.array([0.9, 0.9, x[:, 2].min()])) / size + foot
    seen, _ = project(likeness.view.camera, means)
    np.testing.assert_allclose(seen, project(family_camera(STALK), in_family)[0], atol=1e-3)
    colors = 0.5 + 0.28209479 * np.asarray(simulation.gaussians.harmonics[:, 0])
    lowest, highest = x[:, 2] < x[:, 2].min() + 1e-4, x[:, 2] > x[:, 2].max() - 1e-4
    np.testing.assert_allclose(colors[lowest, 2], 0.0, atol=1e-4)
    np.testing.assert_allclose(colors[highest, 2], STALK.usual_height / STALK.height, atol=1e-3)
    np.testing.assert_allclose(colors[:, 0] + colors[:, 1], 1.0, atol=1e-4)
    assert np.corrcoef(colors[:, 0], np.asarray(seen)[:, 0])[0, 1] > 0.99  # red is right
    # The substep suits the stiffest of the family's range.
    stiffest = np.log(10.0) * (STALK.log10_range[1] - likeness.shift)
    np.testing.assert_allclose(
        jax.device_get(simulation.material.log_youngs_modulus), stiffest, rtol=1e-4
    )


def test_what_stands_on_its_foot_is_held_there_and_was_hit_like_a_stalk():
    splats = pillar(1.0, 0.3)
    ready = make_simulation(read_scene_file("sway"), splats, up="z")
    scene = stand_on_foot(ready, STALK)
    likeness = make_likeness(make_simulation(scene, splats, up="z"), STALK)
    state = likeness.simulation.state
    z, v = np.asarray(state.x)[:, 2], np.asarray(state.v)
    height = z - z.min()
    np.testing.assert_allclose(v[:, 0], STALK.kick * height, rtol=0.02, atol=0.01)
    np.testing.assert_allclose(v[:, 1:], 0.0, atol=0.5)
    (pin,) = scene.boundaries
    held = np.abs(z - pin.point[2]) < pin.size[2]
    assert 0.02 < held.mean() < 0.3 and z[held].max() < z[~held].min()


def test_what_is_wide_is_looked_at_from_further_away():
    tall, wide = (
        make_likeness(make_simulation(read_scene_file("sway"), pillar(*sides), up="z"), STALK)
        for sides in ((1.0, 0.3), (0.3, 1.0))
    )
    for likeness in (tall, wide):
        seen, _ = project(likeness.view.camera, likeness.simulation.gaussians.means)
        assert np.all((np.asarray(seen) > 1) & (np.asarray(seen) < STALK.size - 1))


def test_what_hangs_is_seen_upside_down():
    scene = read_scene_file("sway")
    pin = Pin(point=(0.7, 0.7, scene.centre[2] + 0.5 * scene.scale), size=(0.6, 0.6, 0.06))
    scene = dataclasses.replace(scene, boundaries=(pin,))
    likeness = make_likeness(make_simulation(scene, pillar(1.0, 0.3), up="z"), STALK)
    simulation = likeness.simulation
    z = np.asarray(simulation.state.x)[:, 2]
    seen, _ = project(likeness.view.camera, simulation.gaussians.means)
    assert np.corrcoef(z, np.asarray(seen)[:, 1])[0, 1] > 0.99  # rows grow downwards
    colors = 0.5 + 0.28209479 * np.asarray(simulation.gaussians.harmonics[:, 0])
    np.testing.assert_allclose(colors[z > z.max() - 1e-4, 2], 0.0, atol=1e-4)
    assert np.corrcoef(colors[:, 0], np.asarray(seen)[:, 0])[0, 1] > 0.99  # red is right


def test_what_falls_is_looked_at_the_longer_the_larger_it_is():
    """Froude: g T^2 / L is the family's own."""
    drop = FAMILIES["drop"]
    scene = dataclasses.replace(
        read_scene_file("sway"), boundaries=(), scale=0.96, grid_lim=2.4, n_grid=40,
        centre=(1.2, 1.2, 1.2),
    )  # fmt: skip
    likeness = make_likeness(make_simulation(scene, pillar(0.96, 0.96), up="z"), drop)
    seconds = float(likeness.simulation.dt) * likeness.view.timing.per_frame
    size = 0.96 / drop.usual_height
    assert seconds == pytest.approx(drop.frame_seconds * np.sqrt(size), rel=1e-3)
    assert likeness.shift == pytest.approx(-np.log10(size), abs=1e-3)
