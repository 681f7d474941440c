"""Draws the 17 contour paths on the mean face of any model, as barycentric control points.

A path starts at a jaw landmark and runs over the cheek to a point on the front of the face; the
point where the outline of a turned head lies is looked for on it. Here the paths are drawn: host
side, once per model. Each one is the section of the skin by the plane through its two ends and the
outward direction between them, which keeps it free of sideways bends.

Axes: V vertices, T triangles, P = 17 paths, C control points. Units: metres.

Source: thesis 2.2 (control points stored in the barycentric coordinates of their triangles).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.interpolate
import scipy.spatial
from numpy.typing import NDArray

from recon.morphable import NUM_CONTOUR, MorphableModel

NUM_CONTROL = 10
_NUM_SAMPLES = 120  # of a section before it is resampled; about half a millimetre apart
MIN_COMMON = 12  # landmarks that a three-dimensional warp needs to be trusted
_SMOOTHING = 0.05  # of the warp; landmark lists differ by a few millimetres from model to model


class PathTemplate(NamedTuple):
    """Where the paths of a known head start and end, and the landmarks that carry them over."""

    landmarks: NDArray  # [68, 3]
    starts: NDArray  # [17, 3]
    ends: NDArray  # [17, 3]


def path_template(model: MorphableModel) -> PathTemplate:
    """Takes the template from a model that has all landmarks and paths, such as the default head.

    Raises:
      ValueError: the model lacks a landmark.
    """
    missing = np.flatnonzero(np.asarray(model.landmark_vertices) < 0)
    if missing.size:
        raise ValueError(f"{model.name}: expected 68 landmarks, found none at {missing.tolist()}")
    mean = np.asarray(model.mean, np.float64)
    points = path_points(mean, model.path_vertices, model.path_weights)
    return PathTemplate(mean[np.asarray(model.landmark_vertices)], points[:, 0], points[:, -1])


def path_points(vertices: NDArray, path_vertices: NDArray, path_weights: NDArray) -> NDArray:
    """Returns the control points [17, C, 3] of the paths on the face `vertices` [V, 3]."""
    return np.einsum(
        "pcij,pci->pcj", np.asarray(vertices)[np.asarray(path_vertices)], np.asarray(path_weights)
    )


def carry_points(points: NDArray, source: NDArray, target: NDArray) -> NDArray:
    """Carries `points` [N, 3] from one head to another by their landmarks.

    The map is affine plus bending by the biharmonic kernel, the thin plate of three dimensions: a
    plain change of size, place or proportion is carried exactly, the rest bends smoothly.

    Args:
      points: [N, 3] beside the source landmarks.
      source: [L, 3] landmarks of the head the points are on.
      target: [L, 3] the same landmarks on the other head.
    """
    scale = np.sqrt(((source - source.mean(axis=0)) ** 2).sum(axis=1).mean())
    source, points = source / scale, points / scale
    affine = _affine(source, target)
    bend = scipy.interpolate.RBFInterpolator(
        source, target - affine(source), kernel="linear", degree=0, smoothing=_SMOOTHING
    )
    return affine(points) + bend(points)


def landmark_misfit(source: NDArray, target: NDArray) -> float:
    """How far landmarks [L, 3] are from an affine image of others, as a share of their spread.

    Below 0.1 between two heads; about 1 where one list names the vertices of another mesh.
    """
    error = target - _affine(source, target)(source)
    return float(np.sqrt((error**2).sum() / ((target - target.mean(axis=0)) ** 2).sum()))


def _affine(source: NDArray, target: NDArray) -> Callable[[NDArray], NDArray]:
    def lift(x):
        return np.c_[x, np.ones(len(x))]

    matrix = np.linalg.lstsq(lift(source), target, rcond=None)[0]
    return lambda x: lift(x) @ matrix


def generate_paths(
    mean: NDArray,
    triangles: NDArray,
    landmark_vertices: NDArray,
    template: PathTemplate,
    num_control: int = NUM_CONTROL,
) -> tuple[NDArray, NDArray]:
    """Draws the contour paths of a model from its mesh and landmarks.

    A path whose jaw landmark is known starts exactly there. Where the model lacks the landmark
    (-1), the start is carried over from the template and put on the nearest skin: the path is then
    a guess, to be left out of a fit but safe to evaluate. With fewer than 12 landmarks in common
    every path shrinks to one vertex.

    Args:
      mean: [V, 3] mean face, metres; y up, z out of the face, x to the subject's left.
      triangles: [T, 3] counter-clockwise from outside.
      landmark_vertices: [68] iBUG order; -1 where the model has no such point.
      template: the head the ends of the paths are carried over from.
      num_control: C.

    Returns:
      Triangle corners [17, C, 3] int32 and barycentric weights [17, C, 3] float32.
    """
    mean = np.asarray(mean, np.float64)
    triangles = np.asarray(triangles, np.int64)
    landmark_vertices = np.asarray(landmark_vertices)
    known = landmark_vertices >= 0
    corners = np.zeros((NUM_CONTOUR, num_control, 3), np.int32)
    weights = np.zeros((NUM_CONTOUR, num_control, 3), np.float32)
    weights[..., 0] = 1.0
    if known.sum() < MIN_COMMON:
        return corners, weights

    carried = carry_points(
        np.concatenate([template.starts, template.ends]),
        template.landmarks[known],
        mean[landmark_vertices[known]],
    )
    skin = np.unique(triangles)
    nearest = skin[scipy.spatial.cKDTree(mean[skin]).query(carried[:NUM_CONTOUR])[1]]
    starts = np.where(known[:NUM_CONTOUR], landmark_vertices[:NUM_CONTOUR], nearest)
    centre = mean[starts].mean(axis=0)
    for path, (start, end) in enumerate(zip(starts, carried[NUM_CONTOUR:], strict=True)):
        # Level with the start on the cheek, so that the path runs level; under the jaw, centred.
        inside = np.array([centre[0], max(centre[1], mean[start, 1]), centre[2]])
        section = _cut(mean, triangles, mean[start], end, inside)
        trail = _trace(section)
        corners[path] = start
        if len(trail) > 1:  # else the mesh ends here, as a mask does at its rim
            corners[path, 1:], weights[path, 1:] = _resample(section, trail, num_control)
    return corners, weights


class _Section(NamedTuple):
    """The cut of a mesh by the plane of a path, S segments, in the plane's own coordinates.

    The abscissa runs along the chord from the start of the path (0) to its end, the height points
    outward.
    """

    corners: NDArray  # [S, 3] vertices of the triangle; the plane cuts both edges from the first
    share: NDArray  # [S, 2] where on those edges
    ends: NDArray  # [S, 2, 2] the two cuts: abscissa and height
    length: float  # of the chord


def _cut(vertices, triangles, start, end, inside) -> _Section:
    """Cuts the outward-facing triangles by the plane through `start`, `end` and away from `inside`.

    Args:
      vertices: [V, 3].
      triangles: [T, 3].
      start: [3] first point of the path.
      end: [3] its last point.
      inside: [3] a point in the head that the path bulges away from.
    """
    length = max(float(np.linalg.norm(end - start)), 1e-9)
    along = (end - start) / length
    outward = (start + end) / 2.0 - inside
    outward -= (outward @ along) * along
    outward /= max(np.linalg.norm(outward), 1e-9)
    local = (vertices - start) @ np.stack([along, outward, np.cross(along, outward)], axis=1)

    is_left = local[triangles, 2] > 0.0
    triangles = triangles[is_left.any(axis=1) & ~is_left.all(axis=1)]
    # Outward in the plane: the inner mouth, sockets and nostrils mostly face the other way.
    normal = np.cross(
        vertices[triangles[:, 1]] - vertices[triangles[:, 0]],
        vertices[triangles[:, 2]] - vertices[triangles[:, 0]],
    )
    triangles = triangles[normal @ outward > 0.0]

    is_left = local[triangles, 2] > 0.0
    alone = np.argmax(is_left == (is_left.sum(axis=1) == 1)[:, None], axis=1)
    corners = np.take_along_axis(triangles, (alone[:, None] + np.arange(3)) % 3, axis=1)
    corner = local[corners]
    share = corner[:, :1, 2] / (corner[:, :1, 2] - corner[:, 1:, 2])
    ends = corner[:, :1, :2] + share[..., None] * (corner[:, 1:, :2] - corner[:, :1, :2])
    return _Section(corners, share, ends, length)


def _hits(section: _Section, abscissa: float) -> tuple[NDArray, NDArray, NDArray]:
    """Returns the segments over `abscissa`: numbers, heights there, shares along the segments."""
    near, far = section.ends[:, 0], section.ends[:, 1]
    index = np.flatnonzero((near[:, 0] <= abscissa) != (far[:, 0] <= abscissa))
    near, far = near[index], far[index]
    share = (abscissa - near[:, 0]) / (far[:, 0] - near[:, 0])
    return index, near[:, 1] + share * (far[:, 1] - near[:, 1]), share


def _trace(section: _Section) -> NDArray:
    """Follows the skin from the start; returns abscissas and heights [n, 2], the start first."""
    trail = [(0.0, 0.0)]
    for abscissa in np.linspace(0.0, section.length, _NUM_SAMPLES + 1)[1:]:
        _, height, _ = _hits(section, abscissa)
        if height.size:  # a hole or the rim of a mask leaves a gap
            trail.append((abscissa, height[np.argmin(np.abs(height - trail[-1][1]))]))
    return np.array(trail)


def _resample(section: _Section, trail: NDArray, count: int) -> tuple[NDArray, NDArray]:
    """Returns corners and weights [count - 1, 3], evenly spaced along the skin, without the start.

    A point that would lie over a gap is put on its nearer rim.
    """
    walked = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(trail, axis=0), axis=1))]
    even = np.linspace(0.0, walked[-1], count)[1:]
    corners, weights = [], []
    for wanted in zip(*(np.interp(even, walked, x) for x in trail.T), strict=True):
        index, heights, share = _hits(section, wanted[0])
        if not index.size:
            wanted = trail[1 + np.argmin(np.abs(trail[1:, 0] - wanted[0]))]
            index, heights, share = _hits(section, wanted[0])
        best = np.argmin(np.abs(heights - wanted[1]))
        here, (near, far) = share[best], section.share[index[best]]
        corners.append(section.corners[index[best]])
        weights.append([0.0, (1.0 - here) * near, here * far])
        weights[-1][0] = 1.0 - sum(weights[-1])
    return np.array(corners), np.array(weights)
