import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from jax.test_util import check_grads

from render.mesh import (
    Mesh,
    apply,
    coarsen_mesh,
    face_normals,
    linear_subdivision,
    loop_subdivision,
    subdivide_mesh,
    vertex_normals,
)

OCTAHEDRON = np.array(
    [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]
)
OCTAHEDRON_VERTICES = np.array(
    [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32
)


def grid_mesh(size):
    """A flat square of size x size vertices: every inner vertex has six neighbours."""
    i, j = np.meshgrid(np.arange(size - 1), np.arange(size - 1), indexing="ij")
    a, b, c, d = i * size + j, i * size + j + 1, (i + 1) * size + j, (i + 1) * size + j + 1
    triangles = np.concatenate([np.stack([a, c, b], -1), np.stack([b, c, d], -1)])
    x, y = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    return np.stack([x, y], -1).reshape(-1, 2).astype(np.float32), triangles.reshape(-1, 3)


def dense(subdivision, num_vertices):
    return np.asarray(apply(subdivision, jnp.eye(num_vertices)))


def test_normals_of_a_sphere_point_outwards():
    sphere = trimesh.creation.icosphere(subdivisions=3)
    vertices, triangles = jnp.array(sphere.vertices, jnp.float32), jnp.array(sphere.faces)
    normals = vertex_normals(vertices, triangles)
    np.testing.assert_allclose(normals, vertices, atol=0.02)
    centers = vertices[triangles].mean(1)
    centers /= jnp.linalg.norm(centers, axis=-1, keepdims=True)
    np.testing.assert_allclose(face_normals(vertices, triangles), centers, atol=0.02)


def test_normals_weigh_faces_by_area():
    vertices = jnp.array([[0.0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 1], [0, 1, 0]])
    triangles = jnp.array([[0, 1, 2], [0, 4, 3]])  # areas 4.5 along z and 0.5 along x
    expected = np.array([1.0, 0.0, 9.0]) / np.sqrt(82.0)
    np.testing.assert_allclose(vertex_normals(vertices, triangles)[0], expected, atol=1e-6)


def test_normals_without_area_are_zero_with_finite_gradients():
    vertices = jnp.array([[0.0, 0, 0], [1, 1, 1], [2, 2, 2], [5, 5, 5]])
    triangles = jnp.array([[0, 1, 2], [1, 1, 0]])
    for normals in (jax.jit(vertex_normals), jax.jit(face_normals)):
        assert not normals(vertices, triangles).any()
        gradient = jax.jit(jax.grad(lambda v, f=normals: f(v, triangles).sum()))(vertices)
        assert np.isfinite(gradient).all()


def test_normals_of_a_fine_mesh_do_not_vanish():
    vertices = jnp.array([[0.0, 0, 0], [1e-6, 0, 0], [0, 1e-6, 0]])
    np.testing.assert_allclose(face_normals(vertices, jnp.array([[0, 1, 2]])), [[0, 0, 1]])


@pytest.mark.usefixtures("x64")
def test_normals_gradients_match_finite_differences():
    vertices = jnp.asarray(OCTAHEDRON_VERTICES, jnp.float64)
    vertices += 0.1 * jax.random.normal(jax.random.key(0), vertices.shape, jnp.float64)
    for normals in (vertex_normals, face_normals):
        check_grads(jax.jit(lambda v, f=normals: f(v, OCTAHEDRON)), (vertices,), order=1)


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_subdivision_rows_are_convex_combinations(levels):
    _, triangles = grid_mesh(4)
    matrix = dense(loop_subdivision(triangles, 17, levels), 17)  # vertex 16 belongs to no triangle
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(1), 1.0, atol=1e-6)
    np.testing.assert_allclose(matrix[16], np.eye(17)[16])


def test_subdivision_counts_of_a_closed_mesh():
    subdivision = loop_subdivision(OCTAHEDRON, 6, 3)
    assert subdivision.triangles.shape == (8 * 4**3, 3)
    assert subdivision.num_vertices == 2 + subdivision.triangles.shape[0] // 2  # Euler
    refined = trimesh.Trimesh(
        apply(subdivision, jnp.array(OCTAHEDRON_VERTICES)), subdivision.triangles, process=False
    )
    assert refined.is_watertight and refined.is_winding_consistent and refined.volume > 0


def test_loop_reproduces_affine_functions_on_a_regular_grid():
    vertices, triangles = grid_mesh(7)
    subdivision = loop_subdivision(triangles, 49, 2)
    smooth = np.asarray(apply(subdivision, jnp.array(vertices)))
    straight = np.asarray(apply(linear_subdivision(triangles, 49, 2), jnp.array(vertices)))
    # Same topology, so the same new vertices; away from the border both are the midpoints.
    inner = ((straight > 1.9) & (straight < 4.1)).all(-1)
    assert inner.sum() > 50
    np.testing.assert_allclose(smooth[inner], straight[inner], atol=1e-5)


def test_loop_weights_of_one_level_are_loops():
    _, triangles = grid_mesh(5)
    matrix = dense(loop_subdivision(triangles, 25, 1), 25)
    inner = 12  # six neighbours: 5/8 of itself, 1/16 of each
    np.testing.assert_allclose(matrix[inner, inner], 0.625, atol=1e-6)
    assert np.isclose(matrix[inner], 1 / 16).sum() == 6
    border = 10  # not a corner: 3/4 of itself, 1/8 of its neighbours along the border
    np.testing.assert_allclose(matrix[border, [5, 10, 15]], [0.125, 0.75, 0.125])
    new = np.sort(matrix[25:], 1)[:, ::-1]
    is_border = np.isclose(new[:, 0], 0.5)
    np.testing.assert_allclose(new[is_border][:, :3], [[0.5, 0.5, 0.0]] * is_border.sum())
    np.testing.assert_allclose(
        new[~is_border][:, :5], [[0.375, 0.375, 0.125, 0.125, 0.0]] * (~is_border).sum()
    )
    assert is_border.sum() == 16


def test_extraordinary_vertices_take_loops_weight():
    matrix = dense(loop_subdivision(OCTAHEDRON, 6, 1), 6)
    beta = (0.625 - (0.375 + 0.25 * np.cos(2 * np.pi / 4)) ** 2) / 4
    expected = np.full(6, beta)
    expected[0], expected[1] = 1 - 4 * beta, 0.0
    np.testing.assert_allclose(matrix[0], expected, atol=1e-6)


def test_the_border_depends_on_the_border_alone():
    vertices, triangles = grid_mesh(4)
    is_border = ((vertices == 0) | (vertices == 3)).any(-1)
    subdivision = loop_subdivision(triangles, 16, 3)
    refined = subdivision.triangles
    edges = np.sort(np.asarray(refined)[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1)
    edges, count = np.unique(edges, axis=0, return_counts=True)
    border = np.unique(edges[count == 1])
    matrix = dense(subdivision, 16)
    assert len(border) == 12 * 2**3
    assert not matrix[border][:, ~is_border].any()


def test_edges_of_three_triangles_are_creases():
    triangles = np.array([[0, 1, 2], [1, 0, 3], [0, 1, 4]])
    matrix = dense(loop_subdivision(triangles, 5, 1), 5)
    assert any(np.allclose(row, [0.5, 0.5, 0, 0, 0]) for row in matrix[5:])
    np.testing.assert_allclose(matrix[0], np.eye(5)[0])  # three creases meet: it stays


def test_levels_compose():
    once = loop_subdivision(OCTAHEDRON, 6, 1)
    twice = loop_subdivision(once.triangles, once.num_vertices, 1)
    both = loop_subdivision(OCTAHEDRON, 6, 2)
    vertices = jnp.array(OCTAHEDRON_VERTICES)
    np.testing.assert_allclose(apply(twice, apply(once, vertices)), apply(both, vertices), 0, 1e-6)
    np.testing.assert_array_equal(twice.triangles, both.triangles)


def test_texture_coordinates_follow_their_triangles_and_keep_seams():
    vertices, triangles = grid_mesh(3)
    # Each triangle has texture coordinates of its own: a seam along every edge.
    uvs = vertices[triangles].reshape(-1, 2) / 2 + np.repeat(np.arange(8), 3)[:, None]
    mesh = Mesh(  # on the host, as a file's or a notebook's
        np.pad(vertices, [(0, 0), (0, 1)]),
        triangles,
        colors=np.linspace(0, 1, 27, dtype=np.float32).reshape(9, 3),
        uvs=uvs,
        uv_triangles=np.arange(24).reshape(8, 3),
        num_opaque=5,
    )
    fine = subdivide_mesh(mesh, 2)
    assert fine.num_opaque == 80
    assert fine.triangles.shape == fine.uv_triangles.shape == (128, 3)
    owner = np.repeat(np.arange(8), 16)
    corner_uvs = np.asarray(fine.uvs)[np.asarray(fine.uv_triangles)] - owner[:, None, None]
    straight = apply(linear_subdivision(triangles, 9, 2), jnp.array(vertices)) / 2
    np.testing.assert_allclose(corner_uvs, straight[fine.triangles], atol=1e-5)
    assert fine.colors.shape[0] == fine.vertices.shape[0]
    assert 0 <= fine.colors.min() and fine.colors.max() <= 1


def test_corners_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"expected triangle corners in 0\.\.4, found 0\.\.5"):
        loop_subdivision(OCTAHEDRON, 5, 1)


def test_apply_is_linear_under_jit_and_grad():
    subdivision = loop_subdivision(OCTAHEDRON, 6, 2)
    weights = jax.random.normal(jax.random.key(0), (subdivision.num_vertices, 3))
    gradient = jax.jit(jax.grad(lambda v: jnp.vdot(weights, apply(subdivision, v))))(
        jnp.array(OCTAHEDRON_VERTICES)
    )
    np.testing.assert_allclose(gradient, dense(subdivision, 6).T @ weights, atol=1e-5)


def test_a_level_of_subdivision_is_taken_back_where_there_is_one():
    rng = np.random.default_rng(0)
    triangles = np.array([[0, 1, 2], [2, 1, 3]], np.int32)
    card = np.array([[0, 2, 1]], np.int32)
    coarse = Mesh(rng.random((4, 3)), triangles, uvs=rng.random((4, 2)), uv_triangles=triangles)
    once, twice = (subdivide_mesh(coarse, levels=n) for n in (1, 2))
    with_card = twice.replace(
        triangles=np.concatenate([twice.triangles, card]),
        uv_triangles=np.concatenate([twice.uv_triangles, card]),
        num_opaque=len(twice.triangles),
    )
    found = coarsen_mesh(with_card)
    assert found.num_opaque == len(once.triangles) == 8
    np.testing.assert_array_equal(found.triangles, [*np.asarray(once.triangles), *card])
    np.testing.assert_array_equal(found.uv_triangles, [*np.asarray(once.uv_triangles), *card])
    np.testing.assert_array_equal(found.vertices, twice.vertices)
    other = twice.replace(triangles=twice.triangles[::-1])
    for mesh in (coarse, other):
        assert coarsen_mesh(mesh) is mesh
