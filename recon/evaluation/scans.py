"""Fits against scans of any topology, unit and place: how far the scan is from the fitted surface.

A fit is brought onto the scan by a similarity, first landmark on landmark, then so that the scan's
points lie nearest to its surface; as a second reading by a rigid motion, which leaves it the size
that it has. Points are drawn evenly over the scan's surface near the tip of the nose: a mesh that
is finer around the eyes would count those twice.

Axes: V vertices and T triangles of the scan, N points on it, L = 51 inner landmarks.
Units: metres, unless a name says otherwise.

Sources: Sanyal et al. 2019 (the NoW benchmark: alignment, region and figures); Umeyama 1991
(similarity of points); Chen and Medioni 1991 (distance along normals, linearized).
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from recon import evaluate
from recon.morphable import NUM_CONTOUR, MorphableModel, landmark_embedding
from recon.pose import Pose
from recon.surface_distance import TriangleTree, closest_points, triangle_tree
from render.mesh import Mesh, vertex_normals

QUANTILES = np.linspace(0.0, 1.0, 101)
_RADIUS = 0.095  # around the tip of the nose
_NOSE_TIP = 30 - NUM_CONTOUR
_NUM_POINTS = 3000  # that are scored
_NUM_ALIGNED = 1000  # of them, that the fit is laid onto
_ROUNDS = 40
_STILL = 1e-6  # metres; an alignment that moves less has arrived,
_LEAST_GAIN = 1e-4  # and so has one whose mean square falls by less, in parts of itself
_UNITS = (1e-6, 1e-3, 1e-2, 0.0254, 1e-1, 1.0)  # metres; what scans are written in
_UNIT_SPREAD = 1.3  # by which faces differ in size, at most
_LARGEST_MISFIT = 0.02  # of landmarks, on faces
_HUBER = 2.0  # times the median misfit of landmarks


class Similarity(NamedTuple):
    """Points x go to `scale * rotation @ x + translation`."""

    scale: float
    rotation: NDArray  # [3, 3]
    translation: NDArray  # [3]

    def __call__(self, points: NDArray) -> NDArray:
        return self.scale * points @ self.rotation.T + self.translation

    def back(self, points: NDArray) -> NDArray:
        """Undoes the motion of points [..., 3]."""
        return (points - self.translation) @ self.rotation / self.scale


class Scan(NamedTuple):
    """A scan in metres, where the mean face is."""

    mesh: Mesh
    landmarks: NDArray  # [L, 3]; NaN where it has none
    points: NDArray  # [N, 3] on its face
    normals: NDArray  # [N, 3]
    has_unit: bool  # False: of no usual unit, so made as large as the mean face


@dataclasses.dataclass
class ScanScores:
    """How far a fit is from a scan; the rigid ones are NaN where the scan has no unit."""

    scan_median_mm: NDArray
    scan_mean_mm: NDArray
    scan_std_mm: NDArray
    scan_normal_deg: NDArray  # mean angle between normals of the scan and of the closest points
    rigid_median_mm: NDArray
    rigid_mean_mm: NDArray


SCAN_METRICS = [field.name for field in dataclasses.fields(ScanScores)]


def place_scan(mesh: Mesh, landmarks: NDArray, model: MorphableModel) -> Scan:
    """Moves a scan onto the mean face.

    Args:
      mesh: the scan, in any unit, turned and shifted at will.
      landmarks: [L, 3] its inner landmarks; NaN where they are not known.
      model: whose mean face it is laid onto.

    Raises:
      ValueError: the landmarks are not those of a face.
    """
    mean = np.asarray(model.mean, np.float64)
    surface = triangle_tree(mean, model.triangles)
    wanted = shape_landmarks(model, mean)
    vertices = np.asarray(mesh.vertices, np.float64)
    fit = landmark_similarity(landmarks, wanted)
    misfit = np.linalg.norm(fit(landmarks) - wanted, axis=1)
    if not np.nanmedian(misfit) < _LARGEST_MISFIT:
        raise ValueError(
            f"expected the landmarks of a face, found them {1e3 * np.nanmedian(misfit):.0f} mm "
            "from those of the mean face"
        )
    unit = min(_UNITS, key=lambda u: abs(np.log(u / fit.scale)))
    has_unit = 1.0 / _UNIT_SPREAD < unit / fit.scale < _UNIT_SPREAD
    unit = unit if has_unit else fit.scale
    placed = fit._replace(scale=unit)
    center = np.nanmean(landmarks, axis=0)
    placed = placed._replace(translation=placed.translation + fit(center) - placed(center))
    vertices, landmarks = placed(vertices), placed(landmarks)
    points, normals = _face_points(vertices, np.asarray(mesh.triangles), landmarks)
    onto = refine_alignment(
        surface, points, landmark_similarity(wanted, landmarks), fits_scale=True
    )
    # Back by the rotation and shift alone: a large face stays large.
    turn, middle = onto.rotation, np.nanmean(landmarks, axis=0)
    home = onto.back(middle)

    def move(x):
        return (x - middle) @ turn + home

    moved = mesh.replace(vertices=np.asarray(move(vertices), np.float32))
    return Scan(moved, move(landmarks), move(points), normals @ turn, has_unit)


def shape_landmarks(model: MorphableModel, shape: NDArray) -> NDArray:
    """The inner landmarks [L, 3] of a face [V, 3]; NaN where the model has none."""
    corners, weights = (np.asarray(x)[NUM_CONTOUR:] for x in landmark_embedding(model))
    points = np.einsum("lc,lci->li", weights, np.asarray(shape, np.float64)[corners])
    is_present = np.asarray(model.landmark_vertices)[NUM_CONTOUR:] >= 0
    return np.where(is_present[:, None], points, np.nan)


def _face_points(
    vertices: NDArray, triangles: NDArray, landmarks: NDArray
) -> tuple[NDArray, NDArray]:
    """Points [N, 3] even over the scan around the nose, and its normals there; always the same."""
    tip = landmarks[_NOSE_TIP]
    if np.isnan(tip).any():
        tip = np.nanmean(landmarks, axis=0)
    corners = vertices[triangles]
    near = np.flatnonzero((np.linalg.norm(corners - tip, axis=-1) < 1.5 * _RADIUS).any(1))
    a, b, c = np.moveaxis(corners[near], 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    rng = np.random.default_rng(0)
    place = (np.arange(4 * _NUM_POINTS) + rng.random(4 * _NUM_POINTS)) / (4 * _NUM_POINTS)
    chosen = near[np.searchsorted(np.cumsum(area) / area.sum(), place).clip(max=len(near) - 1)]
    u, v = rng.random((2, len(chosen)))
    flipped = u + v > 1.0
    u, v = np.where(flipped, 1.0 - u, u), np.where(flipped, 1.0 - v, v)
    weights = np.stack([1.0 - u - v, u, v], -1)
    points = np.einsum("nk,nki->ni", weights, corners[chosen])
    kept = np.flatnonzero(np.linalg.norm(points - tip, axis=1) < _RADIUS)
    kept = rng.permutation(kept)[:_NUM_POINTS]
    at_vertices = _vertex_normals(vertices, triangles)
    normals = _blended(at_vertices[triangles[chosen[kept]]], weights[kept])
    return points[kept], normals


def _vertex_normals(vertices: NDArray, triangles: NDArray) -> NDArray:
    centered = jnp.asarray(vertices - vertices.mean(0), jnp.float32)
    return np.asarray(vertex_normals(centered, jnp.asarray(triangles)), np.float64)


def _blended(corners: NDArray, weights: NDArray) -> NDArray:
    """Unit vectors [N, 3] between those of corners [N, 3, 3]."""
    blend = np.einsum("nk,nki->ni", weights, corners)
    return blend / np.maximum(np.linalg.norm(blend, axis=1, keepdims=True), 1e-12)


def landmark_similarity(points: NDArray, target: NDArray) -> Similarity:
    """The similarity that brings points [L, 3] nearest to others; NaN is left out.

    Landmarks that miss by more than twice the median count for less: a brow that a detector takes
    for the hair's edge is far from any other.
    """
    is_known = np.isfinite(points).all(1) & np.isfinite(target).all(1)
    points, target = points[is_known], target[is_known]
    weights = np.ones(len(points))
    for _ in range(10):
        found = _umeyama(points, target, weights / weights.sum())
        misfit = np.linalg.norm(found(points) - target, axis=1)
        limit = max(_HUBER * np.median(misfit), 1e-12)
        weights = limit / np.maximum(misfit, limit)
    return found


def _umeyama(points: NDArray, target: NDArray, share: NDArray) -> Similarity:
    center, target_center = share @ points, share @ target
    local, target_local = points - center, target - target_center
    rotation = Rotation.align_vectors(target_local, local, share)[0].as_matrix()
    scale = share @ (target_local * (local @ rotation.T)).sum(1) / (share @ (local**2).sum(1))
    return Similarity(scale, rotation, target_center - scale * rotation @ center)


def refine_alignment(
    surface: TriangleTree, points: NDArray, start: Similarity, fits_scale: bool
) -> Similarity:
    """Lays a surface under points [N, 3]: least squares of their distances, by Gauss-Newton.

    `start` and the result move the surface. A step that brings no gain is halved.
    """
    found, best = start, np.inf
    step, tried = np.zeros(7), start
    for _ in range(_ROUNDS):
        near = closest_points(surface, tried.back(points))
        cost = np.mean((tried.scale * near.distance) ** 2)
        if cost < best:
            is_last = best - cost < _LEAST_GAIN * best
            found, best = tried, cost
            step = _alignment_step(surface, near, points, found, fits_scale)
        else:
            is_last, step = False, 0.5 * step
        if is_last or np.abs(step).max() * _RADIUS < _STILL:
            break
        tried = stepped(found, step, points)
    return found


def _alignment_step(surface, near, points: NDArray, at: Similarity, fits_scale: bool) -> NDArray:
    """Gauss-Newton's step [7], for `stepped`."""
    moved = at(near.point)
    offset = points - moved
    distance = np.linalg.norm(offset, axis=1)
    a, b, c = np.moveaxis(surface.corners[near.triangle], 1, 0)
    facing = np.cross(b - a, c - a) @ at.rotation.T
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-30)
    is_on = distance < 1e-9
    normal = np.where(is_on[:, None], facing, offset / np.where(is_on, 1.0, distance)[:, None])
    jacobian = motion_columns(points, moved, normal)
    if not fits_scale:
        jacobian[:, 6] = 0.0
    matrix = jacobian.T @ jacobian
    matrix += 1e-9 * np.trace(matrix) * np.eye(7)
    return np.linalg.solve(matrix, jacobian.T @ distance)


def motion_columns(points: NDArray, moved: NDArray, along: NDArray) -> NDArray:
    """How far points `moved` [N, 3] go along unit vectors [N, 3], by each part of a step [N, 7]."""
    arm = moved - points.mean(0)
    return np.concatenate(
        [np.cross(arm, along), _RADIUS * along, (arm * along).sum(1, keepdims=True)], axis=1
    )


def stepped(at: Similarity, step: NDArray, points: NDArray) -> Similarity:
    """Turns, shifts (in radii of the face) and scales [7] about the middle of points [N, 3]."""
    center = points.mean(0)
    turn = Rotation.from_rotvec(step[:3]).as_matrix()
    factor = np.exp(step[6])
    return Similarity(
        factor * at.scale,
        turn @ at.rotation,
        center + factor * turn @ (at.translation - center) + _RADIUS * step[3:6],
    )


def score_shape(
    model: MorphableModel, shape: NDArray, scan: Scan
) -> tuple[ScanScores, NDArray, Similarity]:
    """Scores a fitted face [V, 3] against a scan.

    Returns:
      The scores, the distances' `QUANTILES` in millimetres, and the similarity that brings the fit
      onto the scan.
    """
    shape = np.asarray(shape, np.float64)
    surface = triangle_tree(shape, model.triangles)
    start = landmark_similarity(shape_landmarks(model, shape), scan.landmarks)
    few = scan.points[:_NUM_ALIGNED]
    onto = refine_alignment(surface, few, start, fits_scale=True)
    near = closest_points(surface, onto.back(scan.points))
    distance = 1e3 * onto.scale * near.distance
    at_vertices = _vertex_normals(shape, np.asarray(model.triangles))
    normals = _blended(at_vertices[np.asarray(model.triangles)[near.triangle]], near.weights)
    rigid = np.full(len(scan.points), np.nan)
    if scan.has_unit:
        middle = onto.back(few.mean(0))
        kept = onto._replace(scale=1.0, translation=few.mean(0) - onto.rotation @ middle)
        placed = refine_alignment(surface, few, kept, fits_scale=False)
        rigid = 1e3 * closest_points(surface, placed.back(scan.points)).distance
    scores = ScanScores(
        scan_median_mm=np.median(distance),
        scan_mean_mm=np.mean(distance),
        scan_std_mm=np.std(distance),
        scan_normal_deg=_mean_angle_deg(normals @ onto.rotation.T, scan.normals),
        rigid_median_mm=np.median(rigid),
        rigid_mean_mm=np.mean(rigid),
    )
    return scores, np.quantile(distance, QUANTILES), onto


def _mean_angle_deg(a: NDArray, b: NDArray) -> float:
    sine = np.linalg.norm(np.cross(a, b), axis=1)
    return float(np.degrees(np.arctan2(sine, (a * b).sum(1))).mean())


def pose_errors(head: Pose, onto: Similarity, truth: Pose) -> tuple[float, float]:
    """Errors of a fit's pose as the pose of the scan that it was laid onto.

    Returns:
      The angle of Eq. 12 in degrees, and the distance of Eq. 11 in metres.
    """
    rotation = np.asarray(head.rotation, np.float64) @ onto.rotation.T
    scale = float(head.scale) / onto.scale
    shift = np.asarray(head.translation) - scale * (rotation @ onto.translation)[:2] * [1.0, -1.0]
    away = shift / scale - np.asarray(truth.translation) / float(truth.scale)
    angle = evaluate.rotation_error_deg(jnp.asarray(rotation), jnp.asarray(truth.rotation))
    return float(angle), float(np.linalg.norm(away))
