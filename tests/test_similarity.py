"""A capture moved about the origin shows what it showed, and comes back to where it was."""

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from small_captures import POINTS, write_json_capture

from render.camera import camera_position, orbit, perspective_camera, project
from render.capture_io import normalize, read_capture
from render.captures.similarity import Similarity, normalizing, similarity_of
from render.mesh import Mesh

project = jax.jit(project)
WORLD = Similarity(
    Rotation.from_euler("xyz", [40, 130, 20], degrees=True).as_matrix(),
    np.array([3.0, -7.0, 2.0]),
    12.0,
)


def places(cameras):
    return np.stack([camera_position(camera) for camera in cameras])


def test_an_orbit_anywhere_comes_to_the_unit_sphere_with_y_up():
    ring = orbit([0.0, 0.0, 0.0], 1.0, 12, 8, 8, elevation_degrees=20.0)
    away = [WORLD.camera(camera) for camera in ring]
    way = normalizing(away, WORLD.rotation @ [0.0, 1.0, 0.0])
    found = places([way.camera(camera) for camera in away])
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(found[:, 1], np.sin(np.radians(20)), atol=1e-5)
    np.testing.assert_allclose(
        way.points(WORLD.points(np.zeros((1, 3)))), np.zeros((1, 3)), atol=1e-5
    )
    distance = np.linalg.norm(places(ring)[0])
    np.testing.assert_allclose(way.scale, 1 / (WORLD.scale * distance), rtol=1e-5)


def test_cameras_see_a_moved_capture_as_they_saw_it_and_all_comes_back(tmp_path):
    write_json_capture(tmp_path)
    capture = read_capture(tmp_path)
    moved, way = normalize(capture)
    for before, after in zip(capture.cameras, moved.cameras, strict=True):
        (pixels, depth), (moved_pixels, moved_depth) = (
            project(before, POINTS),
            project(after, moved.points),
        )
        is_ahead = depth > 0.1
        np.testing.assert_allclose(moved_pixels[is_ahead], pixels[is_ahead], atol=1e-2)
        np.testing.assert_allclose(moved_depth, way.scale * depth, atol=1e-5)
    np.testing.assert_allclose(moved.up, [0, 1, 0], atol=1e-6)
    assert np.linalg.norm(places(moved.cameras), axis=-1).max() == pytest.approx(1, abs=1e-5)
    back = way.inverse
    np.testing.assert_allclose(back.points(moved.points), capture.points, atol=1e-6)
    for before, after in zip(capture.cameras, moved.cameras, strict=True):
        again = back.camera(after)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), again, before)
    mesh = Mesh(capture.points, np.array([[0, 1, 2]], np.int32))
    np.testing.assert_allclose(way.mesh(mesh).vertices, moved.points, atol=1e-6)
    for one, other in zip(similarity_of(way.matrix), way, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_cameras_side_by_side_have_the_points_in_the_middle():
    eyes = [(x, 0.0, 0.0) for x in (-1.0, 0.0, 1.0)]
    row = [perspective_camera(eye, np.add(eye, (0, 0, -1.0)), 8, 8) for eye in eyes]
    points = np.array([[0.0, 0.0, -4.0], [1.0, 0.0, -4.0], [-1.0, 0.0, -4.0]])
    way = normalizing(row, np.array([0.0, 1.0, 0.0]), points)
    np.testing.assert_allclose(way.inverse.points(np.zeros((1, 3))), [[0, 0, -4]], atol=1e-6)
    way = normalizing(row, np.array([0.0, 1.0, 0.0]))
    np.testing.assert_allclose(way.inverse.points(np.zeros((1, 3))), [[0, 0, 0]], atol=1e-6)


def test_what_cannot_be_moved_is_refused():
    camera = perspective_camera((0, 0, 3), (0, 0, 0), 8, 8)
    with pytest.raises(ValueError, match="expected cameras at several places, found all 3 at one"):
        normalizing([camera] * 3, np.array([0.0, 1.0, 0.0]))
    for matrix in (
        np.diag([1.0, 1, -1, 1]),
        np.diag([1.0, 2, 1, 1]),
        np.full((4, 4), np.nan),
        np.eye(3),
    ):
        with pytest.raises(ValueError, match="expected a rotation, a scale and a translation"):
            similarity_of(matrix)
