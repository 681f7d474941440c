import jax
import jax.numpy as jnp
import numpy as np
import pytest

from render.camera import (
    camera_position,
    camera_rays,
    fit_camera,
    look_at,
    orbit,
    orthographic_camera,
    perspective_camera,
    pixel_centers,
    pixel_rays,
    project,
    scale_camera,
    world_axes,
    world_to_camera,
)

TARGET = np.array([0.1, -0.2, 0.3])
FRONT = np.array([0.0, 0.0, 1.0])


def make_camera(kind, eye=(0.4, 0.5, 1.2), width=60, height=40):
    if kind == "perspective":
        return perspective_camera(jnp.array(eye), TARGET, width, height)
    return orthographic_camera(jnp.array(eye), TARGET, width, height, extent=0.5)


@pytest.mark.parametrize("kind", ["perspective", "orthographic"])
def test_the_target_is_seen_in_the_middle_at_its_distance(kind):
    eye = np.array([0.4, 0.5, 1.2])
    xy, depth = project(make_camera(kind, eye), jnp.array(TARGET))
    np.testing.assert_allclose(xy, [30.0, 20.0], atol=1e-4)
    np.testing.assert_allclose(depth, np.linalg.norm(TARGET - eye), rtol=1e-6)


@pytest.mark.parametrize("kind", ["perspective", "orthographic"])
def test_from_the_front_x_points_right_and_y_points_up(kind):
    camera = make_camera(kind, TARGET + FRONT)
    (origin, right, up, near), depth = project(
        camera, jnp.array(TARGET + np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]]))
    )
    assert right[0] > origin[0] + 1
    assert up[1] < origin[1] - 1
    assert depth[3] < depth[0]  # the nose is nearer than the head
    np.testing.assert_allclose(near, origin, atol=1e-4)


def test_rotation_is_proper():
    rotation, _ = look_at([1.0, 2.0, 3.0], [0.0, 0.5, 0.0])
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0, atol=1e-6)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_looking_along_up_is_finite_and_proper(side):
    rotation, translation = look_at([0.0, side, 0.0], [0.0, 0.0, 0.0])
    assert np.isfinite(translation).all()
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0, atol=1e-6)
    np.testing.assert_allclose(rotation[2], [0.0, -side, 0.0], atol=1e-6)


@pytest.mark.parametrize("kind", ["perspective", "orthographic"])
def test_rays_project_back_to_their_pixels(kind):
    camera = make_camera(kind)
    rays = camera_rays(camera)
    np.testing.assert_allclose(np.linalg.norm(rays.directions, axis=-1), 1.0, atol=1e-5)
    for distance in (0.7, 1.9):
        xy, depth = project(camera, rays.origins + distance * rays.directions)
        np.testing.assert_allclose(xy, pixel_centers(60, 40), atol=2e-3)
        assert (depth > 0).all()
    np.testing.assert_allclose(pixel_centers(60, 40)[2, 5], [5.5, 2.5])


def test_the_field_of_view_spans_the_shorter_side():
    camera = perspective_camera(jnp.array([0.0, 0.0, 1.0]), np.zeros(3), 80, 40, fov_degrees=30.0)
    rays = pixel_rays(camera, jnp.array([[40.0, 0.0], [40.0, 40.0]]))
    cosine = float(rays.directions[0] @ rays.directions[1])
    np.testing.assert_allclose(np.degrees(np.arccos(cosine)), 30.0, atol=1e-3)


@pytest.mark.parametrize("orthographic", [False, True])
def test_an_orbit_goes_round_and_fills_the_picture(orthographic):
    extent = 0.5
    cameras = orbit(TARGET, extent, 4, 64, 48, elevation_degrees=20.0, orthographic=orthographic)
    eyes = np.array([camera_position(camera) for camera in cameras]) - TARGET
    np.testing.assert_allclose(np.linalg.norm(eyes, axis=-1), np.linalg.norm(eyes[0]), rtol=1e-5)
    np.testing.assert_allclose(eyes[:, 1], np.sin(np.radians(20)) * np.linalg.norm(eyes[0]), 1e-4)
    azimuth = np.degrees(np.arctan2(eyes[:, 0], eyes[:, 2])) % 360
    np.testing.assert_allclose(azimuth, [0, 90, 180, 270], atol=1e-3)
    for camera in cameras:
        # A point half the extent above the target, across the view, lies on the picture's edge.
        edge = TARGET - 0.5 * extent * np.asarray(camera.rotation[1])
        np.testing.assert_allclose(project(camera, jnp.array(edge))[0], [32.0, 0.0], atol=1e-2)


def test_a_scaled_camera_sees_the_same_with_more_pixels():
    camera = make_camera("perspective")
    points = jax.random.normal(jax.random.key(0), (5, 3)) * 0.1
    xy, depth = project(camera, points)
    large, large_depth = project(scale_camera(camera, 3), points)
    np.testing.assert_allclose(large, 3 * xy, rtol=1e-5)
    np.testing.assert_array_equal(depth, large_depth)
    assert (scale_camera(camera, 3).width, scale_camera(camera, 3).height) == (180, 120)


@pytest.mark.parametrize("kind", ["perspective", "orthographic"])
@pytest.mark.parametrize("width, height", [(120, 80), (60, 90), (30, 10)])
def test_in_a_picture_of_another_shape_the_whole_view_is_in_the_middle(kind, width, height):
    camera = make_camera(kind)
    camera = camera.replace(center=camera.center + jnp.array([3.0, -2.0]))
    points = np.random.default_rng(0).normal(0, 0.2, (20, 3))
    before, after = (
        np.asarray(project(c, points)[0]) for c in (camera, fit_camera(camera, width, height))
    )
    scale = min(width / 60, height / 40)
    expected = (before - [30, 20]) * scale + [width / 2, height / 2]
    np.testing.assert_allclose(after, expected, atol=1e-3)


def test_points_behind_have_negative_depth_and_finite_pixels():
    camera = make_camera("perspective", eye=TARGET + FRONT)
    points = jnp.array(TARGET + np.array([[0.3, 0.0, 2.0], [0.0, 0.0, 1.0]]))
    xy, depth = project(camera, points)
    assert depth[0] < 0 and np.isfinite(xy).all()
    np.testing.assert_allclose(depth, world_to_camera(camera, points)[:, 2])


@pytest.mark.parametrize("up", [(0, 1, 0), (0, -1, 0), (0, 0, 1), (1, 0, 0)])
def test_an_orbit_turns_around_any_axis_with_up_on_top(up):
    cameras = orbit((0.0, 0.0, 0.0), 2.0, 8, 64, 64, elevation_degrees=25.0, up=up)
    for camera in cameras:
        pixels, depth = project(camera, jnp.stack([jnp.zeros(3), 0.1 * jnp.array(up, float)]))
        np.testing.assert_allclose(pixels[0], 32.0, atol=1e-3)
        assert pixels[1, 1] < 31.0 and abs(pixels[1, 0] - 32.0) < 1e-3
        position = -np.asarray(camera.translation) @ np.asarray(camera.rotation)
        np.testing.assert_allclose(position @ up, depth[0] * np.sin(np.radians(25.0)), rtol=1e-4)


def test_the_axes_of_a_world_are_right_handed_and_its_side_is_to_the_right():
    for up in ((0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1), (1, 0, 0), (0.2, 0.9, -0.3)):
        axes = world_axes(up)
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(np.linalg.det(axes), 1.0)
        np.testing.assert_allclose(axes[1], np.array(up) / np.linalg.norm(up))
    np.testing.assert_array_equal(world_axes((0, -1, 0))[2], [0, 0, -1])
    with pytest.raises(ValueError, match="expected a direction as up"):
        world_axes((0, 0, 0))
