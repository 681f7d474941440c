"""Exact distances from points to a triangle mesh.

A triangle lies within its radius of its centre. Triangles of like radius share a tree of centres,
so that few of them can hold the closest point, and these are looked at one by one. (Not by
`trimesh.proximity`, which needs rtree.)

Axes: T triangles, V vertices, N points, P pairs of a point and a triangle.

Source: Ericson 2005, 5.1.5 (closest point on a triangle).
"""

from typing import NamedTuple

import numpy as np
import scipy.spatial
from numpy.typing import NDArray

_FIRST_LOOK = 6  # centres


class Closest(NamedTuple):
    """Where a surface is closest to each of N points."""

    distance: NDArray  # [N]
    triangle: NDArray  # [N]
    weights: NDArray  # [N, 3] barycentric
    point: NDArray  # [N, 3]


class _Group(NamedTuple):
    """Triangles of like size."""

    index: NDArray
    tree: scipy.spatial.cKDTree  # of their centres
    radius: float  # of the largest


class TriangleTree(NamedTuple):
    """A mesh made ready for `closest_points`."""

    corners: NDArray  # [T, 3, 3]
    products: NDArray  # [T, 3] of the sides at the first corner: with each other, and themselves
    groups: list[_Group]


def triangle_tree(vertices: NDArray, triangles: NDArray) -> TriangleTree:
    """Prepares a mesh of vertices [V, 3] and triangles [T, 3]; vertices of no triangle are none."""
    corners = np.asarray(vertices, np.float64)[np.asarray(triangles)]
    centers = corners.mean(1)
    radius = np.linalg.norm(corners - centers[:, None], axis=-1).max(1)
    size = np.floor(np.log2(np.maximum(radius, 0.5 * np.median(radius))))
    groups = []
    for one in np.unique(size):
        index = np.flatnonzero(size == one)
        tree = scipy.spatial.cKDTree(centers[index])
        groups.append(_Group(index, tree, float(radius[index].max())))
    b, c = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return TriangleTree(corners, np.stack([_dot(b, b), _dot(b, c), _dot(c, c)], -1), groups)


def closest_points(surface: TriangleTree, points: NDArray) -> Closest:
    """Finds the closest point of a surface to each of `points` [N, 3]."""
    points = np.asarray(points, np.float64)
    best = np.full(len(points), np.inf)  # distances
    triangle = np.zeros(len(points), int)
    nearest = [group.tree.query(points) for group in surface.groups]
    for group, (_, found) in zip(surface.groups, nearest, strict=True):
        distance = _distances(surface, points, group.index[found])
        triangle = np.where(distance < best, group.index[found], triangle)
        best = np.minimum(best, distance)
    for group, (away, _) in zip(surface.groups, nearest, strict=True):
        waiting = np.flatnonzero(away - group.radius < best)
        seen, count = 1, min(_FIRST_LOOK, len(group.index))
        while waiting.size and seen < count:
            away, found = group.tree.query(points[waiting], k=np.arange(seen + 1, count + 1))
            row, column = np.nonzero(away - group.radius < best[waiting, None])
            candidate = group.index[found[row, column]]
            distance = np.full(away.shape, np.inf)
            distance[row, column] = _distances(surface, points[waiting[row]], candidate)
            column = distance.argmin(1)
            distance = distance[np.arange(len(waiting)), column]
            is_closer = distance < best[waiting]
            closer = waiting[is_closer]
            triangle[closer] = group.index[found[is_closer, column[is_closer]]]
            best[closer] = distance[is_closer]
            waiting = waiting[away[:, -1] - group.radius < best[waiting]]
            seen, count = count, min(4 * count, len(group.index))
    weights, distance = closest_on_triangles(surface.corners[triangle], points)
    point = np.einsum("nk,nki->ni", weights, surface.corners[triangle])
    return Closest(distance, triangle, weights, point)


def _distances(surface: TriangleTree, points: NDArray, triangle: NDArray) -> NDArray:
    """Distances [P] of points [P, 3] to their triangles [P], in few products.

    Their error is that of the sides squared: good for comparing, not for what is told.
    """
    a, b, c = np.moveaxis(surface.corners[triangle], 1, 0)
    bb, bc, cc = surface.products[triangle].T
    away = points - a
    pp, pb, pc = _dot(away, away), _dot(away, b - a), _dot(away, c - a)
    area = bb * cc - bc**2
    with np.errstate(divide="ignore", invalid="ignore"):
        of_b, of_c = (cc * pb - bc * pc) / area, (bb * pc - bc * pb) / area
        is_inside = (area > 0.0) & (of_b >= 0.0) & (of_c >= 0.0) & (of_b + of_c <= 1.0)
    squared = _segment(pp, pb, bb)
    squared = np.minimum(squared, _segment(pp, pc, cc))
    squared = np.minimum(squared, _segment(pp - 2.0 * pb + bb, pc - pb - bc + bb, bb - 2 * bc + cc))
    inside = pp - of_b * pb - of_c * pc
    return np.sqrt(np.maximum(np.where(is_inside, inside, squared), 0.0))


def _segment(pp: NDArray, ps: NDArray, ss: NDArray) -> NDArray:
    """Squared distance to a segment s from its start, p away from it, of their products."""
    share = np.clip(ps / np.maximum(ss, 1e-300), 0.0, 1.0)
    return pp - 2.0 * share * ps + share**2 * ss


def closest_on_triangles(corners: NDArray, points: NDArray) -> tuple[NDArray, NDArray]:
    """Finds the closest point of each triangle [P, 3, 3] to a point of its own [P, 3].

    Returns:
      Its barycentric weights [P, 3] and its distance [P].
    """
    weights, best = _inside(corners, points)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        along, away = corners[:, j] - corners[:, i], points - corners[:, i]
        length = np.maximum(_dot(along, along), 1e-300)
        share = np.clip(_dot(away, along) / length, 0.0, 1.0)
        distance = np.linalg.norm(away - share[:, None] * along, axis=1)
        is_closer = distance < best
        best = np.where(is_closer, distance, best)
        on_edge = np.zeros_like(weights)
        on_edge[:, i], on_edge[:, j] = 1.0 - share, share
        weights = np.where(is_closer[:, None], on_edge, weights)
    return weights, best


def _inside(corners: NDArray, points: NDArray) -> tuple[NDArray, NDArray]:
    """Weights [P, 3] below each point on its triangle's plane, and the distance, inf if outside."""
    a, b, c = np.moveaxis(corners, 1, 0)
    normal = np.cross(b - a, c - a)
    area = _dot(normal, normal)
    safe = np.where(area > 0.0, area, 1.0)
    of_b = _dot(np.cross(points - a, c - a), normal) / safe
    of_c = _dot(np.cross(b - a, points - a), normal) / safe
    weights = np.stack([1.0 - of_b - of_c, of_b, of_c], -1)
    is_inside = (weights >= 0.0).all(1) & (area > 0.0)
    distance = np.abs(_dot(points - a, normal)) / np.sqrt(safe)
    return weights, np.where(is_inside, distance, np.inf)


def _dot(a: NDArray, b: NDArray) -> NDArray:
    return np.einsum("pi,pi->p", a, b)
