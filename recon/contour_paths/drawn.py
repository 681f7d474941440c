"""Contour paths that a person draws on a picture of the mean face.

The mean face is seen through an orthographic camera. A pixel is carried back to the point of the
mesh that it shows; the points placed on one path are joined by an interpolating cubic spline, and
the spline is put on the skin and divided evenly, into as many control points as the model's paths
have.

Axes: V vertices, T triangles, N points, C control points, P = 17 paths. Units: metres; pixels as in
`render.camera`.

The nearest points are found here and not by `trimesh.proximity`: that one needs rtree, and cannot
leave out the triangles that look the other way.

Source: thesis 3 (paths drawn on the mean face, projected back and kept in barycentric coordinates).
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
import scipy.interpolate
from numpy.typing import NDArray

from recon.contour_paths.rule import MIN_COMMON
from recon.morphable import NUM_CONTOUR, MorphableModel
from recon.surface_distance import closest_on_triangles
from render.camera import Camera, orbit

MIN_PLACED = 3  # points of a path: fewer do not say how it bends
_MARGIN = 1.12  # of the picture around the landmarks
_SAMPLES_PER_SPAN = 8  # of the spline, before it is divided evenly
_ON_EDGE = 1e-9  # weights that rounding makes negative on the edge of a triangle
_SAME_POINT = 1e-6  # metres


class SkinPoints(NamedTuple):
    """Points of a mesh, which stay on it whatever its shape."""

    corners: NDArray  # [..., 3] vertices of the triangle; all -1 where there is none
    weights: NDArray  # [..., 3] barycentric


@dataclasses.dataclass(frozen=True)
class Skin:
    """The mean face, on the host in double precision."""

    vertices: NDArray  # [V, 3]
    triangles: NDArray  # [T, 3] counter-clockwise from outside

    @functools.cached_property
    def corners(self) -> NDArray:
        """Positions of the triangles' corners [T, 3, 3]."""
        return self.vertices[self.triangles]

    @functools.cached_property
    def normals(self) -> NDArray:
        """Normals of the triangles [T, 3], as long as twice their area."""
        a, b, c = np.moveaxis(self.corners, 1, 0)
        return np.cross(b - a, c - a)

    @functools.cached_property
    def vertex_normals(self) -> NDArray:
        """Sums [V, 3] of the normals around each vertex."""
        total = np.zeros_like(self.vertices)
        np.add.at(total, self.triangles, self.normals[:, None])
        return total

    @functools.cached_property
    def balls(self) -> tuple[NDArray, NDArray]:
        """A ball around each triangle: middles [T, 3] and radii [T]."""
        middle = self.corners.mean(axis=1)
        return middle, np.linalg.norm(self.corners - middle[:, None], axis=-1).max(axis=1)

    def positions(self, points: SkinPoints) -> NDArray:
        """Returns where the points are [..., 3]."""
        return np.einsum("...k,...kd->...d", points.weights, self.vertices[points.corners])

    def facing(self, points: SkinPoints) -> NDArray:
        """Returns which way the skin looks at the points [..., 3], in any length."""
        return np.einsum("...k,...kd->...d", points.weights, self.vertex_normals[points.corners])


def model_skin(model: MorphableModel) -> Skin:
    """Returns the mean face of a model."""
    return Skin(np.asarray(model.mean, np.float64), np.asarray(model.triangles, np.int64))


def view_camera(
    model: MorphableModel, yaw_degrees: float, pitch_degrees: float, size: int
) -> Camera:
    """Builds the orthographic camera that sees the mean face in a square picture.

    Args:
      model: framed by its landmarks; where it has fewer than 12, by all its vertices.
      yaw_degrees: of the camera: 0 in front, growing towards the face's left.
      pitch_degrees: of the camera above the face's horizon.
      size: side of the picture, pixels.
    """
    index = np.asarray(model.landmark_vertices)
    known = index[index >= 0]
    mean = np.asarray(model.mean, np.float64)
    points = mean[known] if len(known) >= MIN_COMMON else mean[np.unique(model.triangles)]
    target = 0.5 * (points.min(axis=0) + points.max(axis=0))
    radius = np.linalg.norm(points - target, axis=1).max()  # the same at every angle
    return orbit(
        target=target,
        extent=2.0 * _MARGIN * radius,
        num_frames=1,
        width=size,
        height=size,
        elevation_degrees=pitch_degrees,
        azimuth_degrees=(yaw_degrees, yaw_degrees),
        orthographic=True,
    )[0]


def project_orthographic(camera: Camera, points: NDArray) -> tuple[NDArray, NDArray]:
    """Projects points [..., 3] orthographically, in double precision: pixels [..., 2], depth."""
    if not camera.orthographic:
        raise ValueError("expected an orthographic camera, found a perspective one")
    rotation, translation = np.float64(camera.rotation), np.float64(camera.translation)
    local = np.asarray(points, np.float64) @ rotation.T + translation
    return local[..., :2] * np.float64(camera.focal) + np.float64(camera.center), local[..., 2]


def inverse_project(camera: Camera, skin: Skin, xy: NDArray) -> SkinPoints:
    """Carries pixels [N, 2] back to the points of the face that they show.

    A pixel sees the foremost triangle it lies in, whichever way that faces, as the rasterizer has
    it. Corners are -1 where a pixel lies beside the face.
    """
    flat, depth = project_orthographic(camera, skin.corners)  # [T, 3, 2], [T, 3]
    low, high = flat.min(axis=1), flat.max(axis=1)
    xy = np.asarray(xy, np.float64).reshape(-1, 2)
    corners = np.full((len(xy), 3), -1, np.int64)
    weights = np.zeros((len(xy), 3))
    for i, point in enumerate(xy):
        near = np.flatnonzero(((low <= point) & (point <= high)).all(axis=1))
        share = _shares(flat[near], point)
        is_hit = (share >= -_ON_EDGE).all(axis=1)
        if not is_hit.any():
            continue
        near, share = near[is_hit], share[is_hit]
        first = np.argmin((share * depth[near]).sum(axis=1))
        corners[i] = skin.triangles[near[first]]
        weights[i] = np.clip(share[first], 0.0, None) / np.clip(share[first], 0.0, None).sum()
    return SkinPoints(corners, weights)


def _shares(flat: NDArray, point: NDArray) -> NDArray:
    """Barycentric weights [n, 3] of a pixel in triangles [n, 3, 2]; -1 in those seen edge-on."""
    a, b, c = np.moveaxis(flat - point, 1, 0)
    opposite = np.stack([_cross(b, c), _cross(c, a), _cross(a, b)], axis=1)
    area = opposite.sum(axis=1, keepdims=True)
    return np.where(area == 0.0, -1.0, opposite / np.where(area == 0.0, 1.0, area))


def _cross(a: NDArray, b: NDArray) -> NDArray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def nearest_on_skin(skin: Skin, points: NDArray, facing: NDArray | None = None) -> SkinPoints:
    """Finds the points of the mesh nearest to `points` [N, 3].

    Args:
      skin: the mesh.
      points: [N, 3].
      facing: [N, 3] leaves out triangles that look the other way: those of the inner mouth lie
        within a millimetre or two of the lips.
    """
    middle, radius = skin.balls
    corners, weights = np.empty((len(points), 3), np.int64), np.empty((len(points), 3))
    for i, point in enumerate(points):
        away = np.linalg.norm(middle - point, axis=1)
        is_allowed = np.ones(len(away), bool)
        if facing is not None:
            is_allowed = skin.normals @ facing[i] > 0.0
        if not is_allowed.any():
            is_allowed[:] = True
        # The middle lies in its triangle: none farther than the nearest middle can be nearest.
        near = np.flatnonzero(is_allowed & (away - radius <= away[is_allowed].min()))
        candidates = skin.corners[near]
        share, distance = closest_on_triangles(candidates, np.broadcast_to(point, (len(near), 3)))
        best = distance.argmin()
        corners[i], weights[i] = skin.triangles[near[best]], share[best]
    return SkinPoints(corners, weights)


def at_vertex(vertex: int) -> SkinPoints:
    """Returns the one point [1, 3] that a vertex is."""
    return SkinPoints(np.full((1, 3), vertex, np.int64), np.array([[1.0, 0.0, 0.0]]))


def join(pieces: list[SkinPoints]) -> SkinPoints:
    """Returns all points [N, 3] of several lists, in order."""
    return SkinPoints(*(np.concatenate(fields) for fields in zip(*pieces, strict=True)))


def spline_through(positions: NDArray, per_span: int = _SAMPLES_PER_SPAN) -> NDArray:
    """Samples the natural cubic spline through points [N, 3]; it runs by the length of the chords.

    Returns:
      Samples [(N - 1) * per_span + 1, 3]; each point is one of them.
    """
    knots = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(positions, axis=0), axis=1))]
    spline = scipy.interpolate.CubicSpline(knots, positions, bc_type="natural")
    share = np.linspace(0.0, 1.0, per_span, endpoint=False)
    between = knots[:-1, None] + share * np.diff(knots)[:, None]
    return spline(np.r_[between.ravel(), knots[-1]])


def even_path(skin: Skin, placed: SkinPoints, num_control: int) -> SkinPoints:
    """Turns the points placed on a path into control points, evenly along the skin.

    Args:
      skin: the mesh.
      placed: [N, 3] in order, from the jaw to the front; points at one place count as one.
      num_control: C.

    Returns:
      Control points [C, 3]; the first and the last are those that were placed.

    Raises:
      ValueError: fewer than three places.
    """
    positions = skin.positions(placed)
    is_new = np.r_[True, np.linalg.norm(np.diff(positions, axis=0), axis=1) > _SAME_POINT]
    placed = SkinPoints(placed.corners[is_new], placed.weights[is_new])
    positions = positions[is_new]
    if len(positions) < MIN_PLACED:
        raise ValueError(f"expected {MIN_PLACED} points or more on a path, found {len(positions)}")
    curve = spline_through(positions)
    knots = np.linspace(0.0, 1.0, len(positions))
    facing = scipy.interpolate.interp1d(knots, _unit(skin.facing(placed)), axis=0)
    along = np.linspace(0.0, 1.0, len(curve))
    curve = skin.positions(nearest_on_skin(skin, curve, facing(along)))
    walked = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))]
    even = np.linspace(0.0, walked[-1], num_control)[1:-1]
    wanted = np.stack([np.interp(even, walked, axis) for axis in curve.T], axis=1)
    between = nearest_on_skin(skin, wanted, facing(np.interp(even, walked, along)))
    first, last = (SkinPoints(placed.corners[[i]], placed.weights[[i]]) for i in (0, -1))
    return join([first, between, last])


def _unit(vectors: NDArray) -> NDArray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-30)


def mirrored(skin: Skin, points: SkinPoints, mirror: NDArray) -> SkinPoints:
    """Returns the points [N, 3] on the other side of the face.

    Args:
      skin: the mesh.
      points: [N, 3].
      mirror: [V] the vertex on the other side of each.
    """
    # Facets need not mirror each other; the vertices do.
    there = SkinPoints(np.asarray(mirror)[points.corners], points.weights)
    on_skin = nearest_on_skin(skin, skin.positions(there), skin.facing(there))
    is_vertex = (points.corners == points.corners[:, :1]).all(axis=1)[:, None]
    return SkinPoints(
        np.where(is_vertex, there.corners, on_skin.corners),
        np.where(is_vertex, there.weights, on_skin.weights),
    )


def model_paths(model: MorphableModel) -> list[SkinPoints]:
    """Returns the 17 paths [C, 3] of a model."""
    corners = np.asarray(model.path_vertices, np.int64)
    weights = np.asarray(model.path_weights, np.float64)
    return [SkinPoints(corners[i], weights[i]) for i in range(NUM_CONTOUR)]
