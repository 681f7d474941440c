"""Cuts MakeHuman's head to the mesh of the default head: a plug in the mouth, a planar neck.

Every vertex of the result is a fixed mix of raw vertices, so that a linear model stays linear.

Axes: N raw vertices, V final vertices, T triangles, Q quads, U texture coordinates. A corner of a
triangle is a pair (vertex, texture coordinate).
Units: decimetres.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

# The loop behind the lips where the bag of the mouth begins, in raw numbers.
_MOUTH_RING = (
    *(535, 536, 530, 529, 1333, 544, 543, 526, 1353, 545, 541, 524, 542, 550, 1728, 1737, 532),
    *(531, 539, 555, 554, 2690, 2676, 2669, 2670, 3809, 3800, 2686, 2678, 2662, 2677, 2681),
    *(3442, 2664, 2679, 2680, 3422, 2667, 2668, 2674, 2673, 2688, 2687, 557, 551, 552),
)
_RING_EDGES = tuple(itertools.pairwise((*_MOUTH_RING, _MOUTH_RING[0])))
_RING_TOP = 20  # the place in the ring of its highest vertex, on the midline
_NECK_HEIGHT, _NECK_SLOPE = 6.259, -0.240  # the neck plane y = height + slope z

# MakeHuman's atlas leaves most of the square to the body. Each row moves one chart:
# u0, v0, u1, v1 there; u0, v0, u1, v1 here.
_PLUG_CHART = (0.80, 0.08, 0.92, 0.14)  # where the bag of the mouth was
_CHARTS = (
    ((0.640, 0.148, 0.995, 0.820), (0.005, 0.005, 0.695, 0.995)),  # skin
    ((0.759, 0.943, 0.774, 0.958), (0.710, 0.855, 0.845, 0.990)),  # left eye, front
    ((0.800, 0.943, 0.815, 0.958), (0.855, 0.855, 0.990, 0.990)),  # right eye, front
    (_PLUG_CHART, (0.710, 0.700, 0.990, 0.840)),
    ((0.010, 0.546, 0.078, 0.634), (0.710, 0.505, 0.845, 0.685)),  # right socket
    ((0.085, 0.546, 0.153, 0.634), (0.855, 0.505, 0.990, 0.685)),  # left socket
    ((0.283, 0.925, 0.478, 0.975), (0.710, 0.390, 0.990, 0.490)),  # throat
    ((0.772, 0.931, 0.787, 0.945), (0.710, 0.300, 0.785, 0.375)),  # left eye, back
    ((0.787, 0.931, 0.802, 0.945), (0.800, 0.300, 0.875, 0.375)),  # right eye, back
    ((0.770, 0.005, 0.930, 0.055), (0.710, 0.225, 0.990, 0.285)),  # remains of the bag
)


class HeadMesh(NamedTuple):
    """The final mesh and how it comes from the raw vertices."""

    mix: sparse.csr_matrix  # [V, N] rows sum to one
    triangles: np.ndarray  # [T, 3]
    uvs: np.ndarray  # [U, 2] in MakeHuman's atlas
    uv_triangles: np.ndarray  # [T, 3]
    mirror: np.ndarray  # [V]
    plug: int  # the vertex in the middle of the mouth


class _Mixes:
    """Numbers new points that are fixed mixes of `num_raw` old ones; each mix is made once."""

    def __init__(self, num_raw: int):
        self.num_raw = num_raw
        self.weights: dict[tuple[int, ...], np.ndarray] = {}  # sorted old numbers -> weights

    def add(self, points: list[int], weights: list[float]) -> int:
        order = np.argsort(points)
        key = tuple(int(points[i]) for i in order)
        self.weights.setdefault(key, np.array(weights)[order])
        return self.num_raw + list(self.weights).index(key)

    def matrix(self) -> sparse.csr_matrix:
        columns = [point for key in self.weights for point in key]
        rows = np.repeat(np.arange(len(self.weights)), [len(key) for key in self.weights])
        values = np.concatenate(list(self.weights.values()))
        new = sparse.csr_matrix((values, (rows, columns)), (len(self.weights), self.num_raw))
        return sparse.vstack([sparse.identity(self.num_raw), new]).tocsr()

    def mirror(self, raw: np.ndarray) -> np.ndarray:
        """Extends the mirror table [N] of the raw points to the new ones."""
        number = {key: self.num_raw + i for i, key in enumerate(self.weights)}
        new = [number[tuple(sorted(int(raw[point]) for point in key))] for key in number]
        return np.concatenate([raw, new])


def cut_head(
    positions: np.ndarray,
    quads: np.ndarray,
    uvs: np.ndarray,
    uv_quads: np.ndarray,
    mirror: np.ndarray,
) -> HeadMesh:
    """Builds the final mesh.

    Args:
      positions: [N, 3] the head that the neck plane cuts, symmetric.
      quads, uv_quads: [Q, 4] raw faces.
      uvs: [U, 2] raw texture coordinates.
      mirror: [N] raw mirror table.
    """
    corners = np.stack([quads, uv_quads], axis=-1)
    corners = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
    corners = _without_mouth_bag(corners)
    vertex_mixes = _Mixes(len(positions))
    plug = vertex_mixes.add(list(_MOUTH_RING), [1 / len(_MOUTH_RING)] * len(_MOUTH_RING))
    fan, fan_uvs = _mouth_fan(corners, positions, plug, len(uvs))
    corners, uvs = np.concatenate([corners, fan]), np.concatenate([uvs, fan_uvs])
    uv_mixes = _Mixes(len(uvs))
    corners = _clip_neck(corners, positions, vertex_mixes, uv_mixes)

    used, triangles = np.unique(corners[..., 0], return_inverse=True)
    uv_used, uv_triangles = np.unique(corners[..., 1], return_inverse=True)
    number = {raw: final for final, raw in enumerate(used)}
    return HeadMesh(
        mix=vertex_mixes.matrix()[used],
        triangles=triangles.reshape(-1, 3),
        uvs=(uv_mixes.matrix() @ uvs)[uv_used],
        uv_triangles=uv_triangles.reshape(-1, 3),
        mirror=np.array([number[raw] for raw in vertex_mixes.mirror(mirror)[used]]),
        plug=number[plug],
    )


def _without_mouth_bag(corners: np.ndarray) -> np.ndarray:
    """Drops the triangles [T, 3, 2] behind the ring: the smaller of the parts that touch it."""
    ring = {frozenset(edge) for edge in _RING_EDGES}
    owner, links = {}, []
    for triangle, (a, b, c) in enumerate(corners[..., 0]):
        for edge in map(frozenset, ((a, b), (b, c), (c, a))):
            if edge in owner and edge not in ring:
                links.append((owner[edge], triangle))
            owner[edge] = triangle
    graph = sparse.coo_matrix((np.ones(len(links)), np.array(links).T), (len(corners),) * 2)
    _, part = csgraph.connected_components(graph, directed=False)
    at_ring = part[np.isin(corners[..., 0], _MOUTH_RING).sum(axis=1) >= 2]
    return corners[part != min(set(at_ring), key=lambda p: np.sum(part == p))]


def _mouth_fan(
    corners: np.ndarray, positions: np.ndarray, plug: int, num_uvs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Closes the ring by a fan of triangles [46, 3, 2] with a chart of its own [47, 2].

    On the chart the ring is an ellipse by arc length, so that no two triangles of the fan overlap
    although the closed lips fold the ring almost flat.
    """
    directed = {edge for a, b, c in corners[..., 0] for edge in ((a, b), (b, c), (c, a))}
    lengths = [np.linalg.norm(positions[a] - positions[b]) for a, b in _RING_EDGES]
    arc = np.cumsum([0.0, *lengths[:-1]]) / np.sum(lengths)
    angle = np.pi / 2 - 2 * np.pi * (arc - arc[_RING_TOP])  # clockwise, as the ring runs
    u0, v0, u1, v1 = _PLUG_CHART
    centre, radius = np.array([u0 + u1, v0 + v1]) / 2, np.array([u1 - u0, v1 - v0]) / 2
    ellipse = centre + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    fan, num_ring = [], len(_MOUTH_RING)
    for i, (a, b) in enumerate(_RING_EDGES):
        edge = (a, num_uvs + i), (b, num_uvs + (i + 1) % num_ring)
        # The neighbour across the edge runs it the other way.
        start, end = edge[::-1] if (a, b) in directed else edge
        fan.append([start, end, (plug, num_uvs + num_ring)])
    return np.array(fan), np.concatenate([ellipse, [centre]])


def _clip_neck(
    corners: np.ndarray, positions: np.ndarray, vertex_mixes: _Mixes, uv_mixes: _Mixes
) -> np.ndarray:
    """Keeps what lies above the neck plane; edges that cross it get a vertex on it."""
    height = positions[:, 1] - _NECK_HEIGHT - _NECK_SLOPE * positions[:, 2]
    height = np.append(height, np.inf)  # the plug
    points = dict(enumerate(positions))

    def cut(a, b):
        t = height[a[0]] / (height[a[0]] - height[b[0]])
        vertex = vertex_mixes.add([a[0], b[0]], [1 - t, t])
        points[vertex] = (1 - t) * positions[a[0]] + t * positions[b[0]]
        return vertex, uv_mixes.add([a[1], b[1]], [1 - t, t])

    is_above = height[corners[..., 0]] > 0
    kept = list(corners[is_above.all(axis=1)])
    for triangle in corners[is_above.any(axis=1) & ~is_above.all(axis=1)]:
        outline = []
        for a, b in zip(triangle, np.roll(triangle, -1, axis=0), strict=True):
            if height[a[0]] > 0:
                outline.append(tuple(a))
            if (height[a[0]] > 0) != (height[b[0]] > 0):
                outline.append(cut(a, b))
        if len(outline) == 4:
            # The shorter diagonal: a rule that gives mirrored triangles on the two sides.
            a, b, c, d = (points[vertex] for vertex, _ in outline)
            if np.sum((a - c) ** 2) > np.sum((b - d) ** 2):
                outline = outline[1:] + outline[:1]
            kept.append([outline[0], outline[2], outline[3]])
        kept.append(outline[:3])
    return np.array(kept)


def pack_charts(uvs: np.ndarray, uv_triangles: np.ndarray) -> np.ndarray:
    """Moves coordinates [U, 2] from MakeHuman's atlas to one that the head fills."""
    edges = np.concatenate([uv_triangles[:, [0, 1]], uv_triangles[:, [1, 2]]])
    graph = sparse.coo_matrix((np.ones(len(edges)), edges.T), (len(uvs),) * 2)
    num_islands, island = csgraph.connected_components(graph, directed=False)
    packed = np.empty_like(uvs)
    for i in range(num_islands):
        packed[island == i] = chart_map(uvs[island == i])
    return packed


def chart_map(uvs: np.ndarray) -> np.ndarray:
    """Moves coordinates [U, 2] of one chart, that around their middle, to the head's picture."""
    source, target = _chart_of((uvs.min(axis=0) + uvs.max(axis=0)) / 2)
    share = (uvs - source[:2]) / np.subtract(source[2:], source[:2])
    return target[:2] + share * np.subtract(target[2:], target[:2])


def _chart_of(point: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    for source, target in _CHARTS:
        if (point >= source[:2]).all() and (point <= source[2:]).all():
            return source, target
    raise ValueError(f"expected every texture coordinate in a known chart, found one at {point}")
