"""Triangle meshes: normals and subdivision.

Axes: V vertices, T triangles, U texture coordinates, C channels of an attribute, S non-zero
weights of a subdivision, E edges. Triangles are counter-clockwise seen from outside. Texture
coordinates: u right, v up, (0, 0) at the bottom left of the picture.

Sources: Loop 1987 (weights, boundary as a crease: Hoppe et al. 1994); Max 1999 discusses the
choice of weights for vertex normals, here area.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from scipy import sparse

from render.transforms import safe_normalize


@struct.dataclass
class Mesh:
    """A triangle mesh with optional colours and texture (sRGB-encoded, in [0, 1]).

    Its last triangles may be cards: thin two-sided ones such as hair is made of, whose texture says
    by its fourth channel, alpha, how much of what is behind them they cover.
    """

    vertices: jax.Array  # [V, 3] metres
    triangles: jax.Array  # [T, 3] int32
    colors: jax.Array | None = None  # [V, 3]
    uvs: jax.Array | None = None  # [U, 2]
    uv_triangles: jax.Array | None = None  # [T, 3] int32, rows of `uvs`
    texture: jax.Array | None = None  # [H, W, 3] or [H, W, 4], row 0 on top
    num_opaque: int | None = struct.field(pytree_node=False, default=None)  # cards follow; None: T


@struct.dataclass
class Subdivision:
    """A linear map from the vertices of a mesh to those of its refinement, and the new triangles.

    The map is a sparse matrix in coordinate form. Each row is a convex combination: weights are
    positive and sum to one.
    """

    row: jax.Array  # [S] int32 refined vertex, ascending
    column: jax.Array  # [S] int32 coarse vertex
    weight: jax.Array  # [S]
    triangles: jax.Array  # [T', 3] int32; triangle t became 4^levels t and those that follow
    num_vertices: int = struct.field(pytree_node=False)  # V'


@jax.jit
def face_normals(vertices: jax.Array, triangles: jax.Array) -> jax.Array:
    """Returns unit normals [T, 3]; zero for triangles without area."""
    return safe_normalize(_area_vectors(vertices, triangles))


@jax.jit
def vertex_normals(vertices: jax.Array, triangles: jax.Array) -> jax.Array:
    """Returns unit normals [V, 3], the area-weighted mean of the faces around each vertex.

    Vertices of no triangle, or of triangles without area, have a zero normal and zero gradient.
    """
    area = _area_vectors(vertices, triangles)
    return safe_normalize(jnp.zeros_like(vertices).at[triangles].add(area[:, None]))


def _area_vectors(vertices: jax.Array, triangles: jax.Array) -> jax.Array:
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    return jnp.cross(b - a, c - a)


@jax.jit
def apply(subdivision: Subdivision, attributes: jax.Array) -> jax.Array:
    """Carries vertex attributes [V, C] over to the refined mesh, [V', C]."""
    attributes = jnp.asarray(attributes)
    rows = attributes.at[subdivision.column].get(mode="promise_in_bounds")
    return jax.ops.segment_sum(
        subdivision.weight.astype(attributes.dtype)[:, None] * rows,
        subdivision.row,
        subdivision.num_vertices,
        indices_are_sorted=True,
        mode="promise_in_bounds",
    )


def subdivide_mesh(mesh: Mesh, levels: int) -> Mesh:
    """Refines a mesh on the host: smooth shape and colours, straight texture coordinates."""
    shape = loop_subdivision(mesh.triangles, mesh.vertices.shape[0], levels)
    mesh = mesh.replace(
        vertices=apply(shape, mesh.vertices),
        triangles=shape.triangles,
        colors=None if mesh.colors is None else apply(shape, mesh.colors),
        num_opaque=None if mesh.num_opaque is None else mesh.num_opaque * 4**levels,
    )
    if mesh.uvs is None:
        return mesh
    flat = linear_subdivision(mesh.uv_triangles, mesh.uvs.shape[0], levels)
    return mesh.replace(uvs=apply(flat, mesh.uvs), uv_triangles=flat.triangles)


def coarsen_mesh(mesh: Mesh) -> Mesh:
    """Takes one level of subdivision back, on the host; cards, and other meshes, stay as they are.

    The vertices of the level before come first and lie on the smooth shape: seen from where its
    triangles are some pixels wide, the coarser mesh looks the same, and is drawn in less time.
    """
    num_opaque = len(mesh.triangles) if mesh.num_opaque is None else mesh.num_opaque
    whole = [mesh.triangles] if mesh.uvs is None else [mesh.triangles, mesh.uv_triangles]
    coarse = []
    for triangles in map(np.asarray, whole):
        parts = triangles[: num_opaque // 4 * 4].reshape(-1, 4, 3)
        corners = parts[:, range(3), range(3)]
        split = _split_triangles(corners, parts[:, 3, [1, 2, 0]])
        if not np.array_equal(split, triangles[:num_opaque]):
            return mesh
        coarse.append(np.concatenate([corners, triangles[num_opaque:]]))
    return mesh.replace(
        triangles=coarse[0],
        uv_triangles=mesh.uv_triangles if mesh.uvs is None else coarse[1],
        num_opaque=None if mesh.num_opaque is None else num_opaque // 4,
    )


def loop_subdivision(triangles: np.ndarray, num_vertices: int, levels: int) -> Subdivision:
    """Builds Loop's subdivision of a mesh on the host, all levels in one matrix.

    `trimesh.remesh.subdivide_loop` gives the vertices of one mesh; the matrix serves every face of
    a model, and what else its vertices carry, on the device.

    Edges of one triangle, or of more than two, are creases: new points are their midpoints and
    their vertices follow the crease alone. Vertices where one or more than two creases meet, and
    those of no triangle, stay where they are. New vertices come after the old ones.
    """
    return _compose(triangles, num_vertices, levels, _loop_matrix)


def linear_subdivision(triangles: np.ndarray, num_vertices: int, levels: int) -> Subdivision:
    """Builds midpoint subdivision, with triangles in the order of `loop_subdivision`.

    Applied to `uvs` and `uv_triangles` it keeps seams, as these have their own topology.
    """
    return _compose(triangles, num_vertices, levels, _midpoint_matrix)


class _Edges(NamedTuple):
    """The edges of a mesh, and who uses them."""

    ends: np.ndarray  # [E, 2], smaller vertex first
    of_corner: np.ndarray  # [T, 3] edge opposite each corner
    num_triangles: np.ndarray  # [E]


def _compose(triangles, num_vertices, levels, level_matrix) -> Subdivision:
    triangles = np.asarray(triangles, np.int64)
    if triangles.size and not 0 <= triangles.min() <= triangles.max() < num_vertices:
        raise ValueError(
            f"expected triangle corners in 0..{num_vertices - 1}, "
            f"found {triangles.min()}..{triangles.max()}"
        )
    matrix = sparse.identity(num_vertices, format="csr")
    for _ in range(levels):
        edges = _find_edges(triangles, num_vertices)
        matrix = level_matrix(triangles, num_vertices, edges) @ matrix
        triangles = _split_triangles(triangles, num_vertices + edges.of_corner)
        num_vertices += len(edges.ends)
    matrix = sparse.coo_array(matrix)
    subdivision = Subdivision(
        row=np.asarray(matrix.row, np.int32),
        column=np.asarray(matrix.col, np.int32),
        weight=np.asarray(matrix.data, np.float32),
        triangles=np.asarray(triangles, np.int32),
        num_vertices=num_vertices,
    )
    return jax.device_put(subdivision)


def _find_edges(triangles: np.ndarray, num_vertices: int) -> _Edges:
    a, b = triangles[:, [1, 2, 0]], triangles[:, [2, 0, 1]]
    key = np.minimum(a, b) * num_vertices + np.maximum(a, b)
    unique, of_corner, count = np.unique(key.ravel(), return_inverse=True, return_counts=True)
    ends = np.stack([unique // num_vertices, unique % num_vertices], -1)
    return _Edges(ends, of_corner.reshape(-1, 3), count)


def _split_triangles(triangles: np.ndarray, midpoint: np.ndarray) -> np.ndarray:
    """Cuts each triangle in four, its corners first, given the vertex on each opposite edge."""
    a, b, c = triangles.T
    bc, ca, ab = midpoint.T
    parts = [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]
    return np.stack([np.stack(part, -1) for part in parts], 1).reshape(-1, 3)


def _midpoint_matrix(triangles: np.ndarray, num_vertices: int, edges: _Edges) -> sparse.csr_array:
    del triangles
    num_edges = len(edges.ends)
    row = np.repeat(np.arange(num_edges), 2)
    half = sparse.csr_array(
        (np.full(2 * num_edges, 0.5), (row, edges.ends.ravel())), shape=(num_edges, num_vertices)
    )
    return sparse.vstack([sparse.identity(num_vertices), half], format="csr")


def _loop_matrix(triangles: np.ndarray, num_vertices: int, edges: _Edges) -> sparse.csr_array:
    num_edges = len(edges.ends)
    is_crease = edges.num_triangles != 2
    a, b = edges.ends.T

    # New vertices: 3/8 of each end and 1/8 of each opposite corner, or half of each end.
    end_weight = np.where(is_crease, 0.5, 0.375)
    edge = edges.of_corner.ravel()
    smooth_corner = ~is_crease[edge]
    row = np.concatenate([np.arange(num_edges)] * 2 + [edge[smooth_corner]])
    column = np.concatenate([a, b, triangles.ravel()[smooth_corner]])
    value = np.concatenate([end_weight, end_weight, np.full(smooth_corner.sum(), 0.125)])
    odd = sparse.csr_array((value, (row, column)), shape=(num_edges, num_vertices))

    # Old vertices: a mean with their neighbours, along the crease where there is one.
    ends = np.concatenate([edges.ends, edges.ends[:, ::-1]])
    crease = np.concatenate([is_crease, is_crease])
    valence = np.bincount(ends[:, 0], minlength=num_vertices)
    creases = np.bincount(ends[crease, 0], minlength=num_vertices)
    n = np.maximum(valence, 1)
    beta = (0.625 - (0.375 + 0.25 * np.cos(2 * np.pi / n)) ** 2) / n
    beta = np.where(creases == 0, beta, 0.0)
    neighbor = np.where(crease & (creases[ends[:, 0]] == 2), 0.125, beta[ends[:, 0]])
    own = 1.0 - np.bincount(ends[:, 0], neighbor, minlength=num_vertices)
    vertex = np.arange(num_vertices)
    even = sparse.csr_array(
        (
            np.concatenate([own, neighbor]),
            (np.concatenate([vertex, ends[:, 0]]), np.concatenate([vertex, ends[:, 1]])),
        ),
        shape=(num_vertices, num_vertices),
    )
    return sparse.vstack([even, odd], format="csr")
