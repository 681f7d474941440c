"""Distances to a mesh: closed forms, and every triangle tried."""

import numpy as np
import trimesh

from recon.surface_distance import closest_points, triangle_tree

TRIANGLE = np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 0]]), np.array([[0, 1, 2]])


def test_a_face_an_edge_and_a_corner_are_each_where_geometry_has_them():
    points = np.array([[1.0, 1, 2], [2, -3, 0], [4, 4, 0], [-3, -4, 12], [1, 1, 0]])
    near = closest_points(triangle_tree(*TRIANGLE), points)
    np.testing.assert_allclose(near.distance, [2.0, 3.0, np.sqrt(8.0), 13.0, 0.0], atol=1e-12)
    expected = [[1, 1, 0], [2, 0, 0], [2, 2, 0], [0, 0, 0], [1, 1, 0]]
    np.testing.assert_allclose(near.point, expected, atol=1e-12)
    np.testing.assert_allclose(near.weights.sum(1), 1.0)


def test_triangles_of_all_sizes_are_found():
    """A fine ball behind one huge triangle, whose centre is far from any of its points."""
    ball = trimesh.creation.icosphere(subdivisions=2, radius=1.0)
    wall = np.array([[-900.0, -500, -2], [1000, -500, -2], [0, 900, -2]])
    vertices = np.concatenate([ball.vertices, wall])
    triangles = np.concatenate([ball.faces, len(ball.vertices) + np.array([[0, 1, 2]])])
    points = np.random.default_rng(0).uniform(-4.0, 4.0, (200, 3))
    near = closest_points(triangle_tree(vertices, triangles), points)
    each = [
        closest_points(triangle_tree(vertices, triangles[i : i + 1]), points).distance
        for i in range(len(triangles))
    ]
    np.testing.assert_allclose(near.distance, np.min(each, axis=0), atol=1e-6)
    at = np.linalg.norm(points - near.point, axis=1)
    np.testing.assert_allclose(at, near.distance, atol=1e-12)
    assert (near.triangle == len(ball.faces)).any()  # some are nearest to the wall


def test_a_triangle_without_area_is_a_line():
    line = np.array([[0.0, 0, 0], [2, 0, 0], [1, 0, 0]])
    near = closest_points(triangle_tree(line, TRIANGLE[1]), np.array([[1.5, 1.0, 0.0]]))
    np.testing.assert_allclose(near.distance, 1.0)
