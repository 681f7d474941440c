"""Pictures of fog, whose light is known: a field of one density and one colour."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from models.nerf.field import NerfConfig, init_field
from models.nerf.hashgrid import HashGridConfig
from models.nerf.rendering import SceneBox, render_picture
from render.camera import perspective_camera
from render.volume import init_grid

pytestmark = pytest.mark.compiles

GRID = HashGridConfig(levels=1, features=2, log2_entries=4, coarsest=2, finest=2)
CONFIG = NerfConfig(
    *(GRID, "none", GRID),
    appearance=2,
    code_width=2,
    width=4,
    geometry=2,
    bands=1,
    occupancy=4,
    bins=8,
)
CENTER, RADIUS, AWAY = np.array([1.0, 2.0, 3.0], np.float32), np.float32(0.5), 2.0  # capture's unit
CAMERA = perspective_camera(CENTER - [0, 0, AWAY], CENTER, 15, 11, fov_degrees=40.0, up=(0, -1, 0))
BEHIND = (0.2, 0.4, 1.0)


def fog(config, density, color, far=(0.0, 0.0)):
    """Parameters whose layers hold nothing but the last ones' biases."""
    shapes = jax.eval_shape(functools.partial(init_field, config=config), jax.random.key(0))
    params = jax.tree.map(lambda p: np.zeros(p.shape, np.float32), shapes)
    for name, (thick, light) in {"near": (density, color), "far": far}.items():
        if name in params:
            layers = params[name]["decoder"]["params"]
            layers["density_out"]["bias"][0] = 1.0 + np.log(thick)
            layers["color_out"]["bias"][:] = np.log(light / (1.0 - light))
    return params


def rays():
    """Directions [H, W, 3] of unit length, and what along them is a depth of one."""
    column, row = np.meshgrid(np.arange(15) + 0.5 - 7.5, np.arange(11) + 0.5 - 5.5)
    focal = np.asarray(CAMERA.focal)
    direction = np.stack([column / focal[0], row / focal[1], np.ones_like(row)], -1)
    length = np.linalg.norm(direction, axis=-1)
    return direction @ np.asarray(CAMERA.rotation) / length[..., None], 1.0 / length


def in_the_cube():
    """How long the rays are inside of the box."""
    direction, _ = rays()
    ends = np.stack([side * RADIUS - (0.0, 0.0, -AWAY) for side in (-np.ones(3), np.ones(3))])
    ends = ends[:, None, None] / np.where(direction == 0, 1e-12, direction)
    return np.maximum(ends.max(0).min(-1) - ends.min(0).max(-1), 0.0)


def picture(params, config, samples=32, grid=1.0):
    box, grid = SceneBox(CENTER, RADIUS), init_grid(4, grid)
    return render_picture(params, CAMERA, grid, box, 0.0, samples, config, BEHIND)


def test_a_box_of_fog_stops_the_light_that_its_chord_says():
    found = picture(fog(CONFIG, 0.8, 0.3), CONFIG)
    opacity = 1.0 - np.exp(-0.8 * in_the_cube() / RADIUS)
    assert (opacity > 0.5).any() and (opacity == 0).any()
    np.testing.assert_allclose(found.alpha, opacity, atol=2e-5)
    expected = 0.3 * opacity[..., None] + (1 - opacity[..., None]) * BEHIND
    np.testing.assert_allclose(found.rgb, expected, atol=2e-5)
    solid = picture(fog(CONFIG, 5e3, 0.3), CONFIG)
    is_face = in_the_cube() >= 2 * RADIUS * 0.999
    assert is_face.sum() > 20
    step = 0.5 * in_the_cube()[is_face].max() / 32  # to the middle of the first interval
    depth = np.asarray(solid.depth)[is_face]
    assert (depth > AWAY - RADIUS).all() and (depth < AWAY - RADIUS + 1.2 * step).all()
    nothing = picture(fog(CONFIG, 5e3, 0.3), CONFIG, grid=0.0)  # by the grid: no ray is asked
    np.testing.assert_allclose(nothing.rgb, np.broadcast_to(BEHIND, (11, 15, 3)), rtol=1e-6)


def test_what_lies_beyond_the_ball_shines_through_it():
    config = dataclasses.replace(CONFIG, background="sphere", far_samples=4)
    found = picture(fog(config, 0.8, 0.3, far=(1.5, 0.9)), config)
    direction, _ = rays()
    missed = np.linalg.norm(np.cross([0.0, 0.0, -AWAY], direction), axis=-1)
    left = np.exp(-0.8 * 2 * np.sqrt(np.maximum(RADIUS**2 - missed**2, 0)) / RADIUS)
    beyond = 1.0 - np.exp(-1.5)  # of one over the distance, from one to zero
    np.testing.assert_allclose(found.alpha, 1 - left * (1 - beyond), atol=2e-5)
    seen = 0.3 * (1 - left) + left * 0.9 * beyond
    expected = seen[..., None] + (left * (1 - beyond))[..., None] * BEHIND
    np.testing.assert_allclose(found.rgb, expected, atol=2e-5)
