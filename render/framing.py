"""Where a camera stands so that a scene fills its picture.

Captured splat scenes have Gaussians far away that nobody means: the subject is what lies around the
middle of the mass, with the limbs that it reaches out in few directions, such as a guitar's neck;
a background lies in many. A few stray points of it may leave the picture.

Axes: P points, A views.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from render.camera import DEFAULT_FOV_DEGREES, Y_UP, Camera, orbit_axes, world_axes
from render.gaussians import Gaussians, covariances
from render.mesh import Mesh

_MARGIN = 0.05  # of the picture's sides, left free on each
_MAX_GAUSSIANS = 10_000  # a fair draw of more tells the same
_MAX_VERTICES = 20_000  # of more, the hull
_REACH = 3.0  # half-mass radii that the subject reaches from its middle; a full ball has 1.26
_LIMB_REACH = 10.0  # half-mass radii, as far as a limb is followed
_LIMB_CELL = 0.5  # half-mass radii: what is nearer than about two of these hangs together
_NUM_DIRECTIONS = 50  # about 30 degrees apart: a floor all around takes a dozen, seen from its side
_LIMB_DIRECTIONS = 8  # that limbs take up at most
_HUGE = 0.97  # share of the mass whose Gaussians are no larger than any of the subject
_EDGE_STDS = 2.0  # where an opaque Gaussian fades from sight
_FAINT = 0.05  # opacity of what is rather a haze than a thing
_STRAY = 0.001  # share of the subject's mass that may leave the picture
_BEHIND = 1.5  # of the subject's largest depth: what else is to be told apart by its depth
_ROUNDS = 8  # target and distance, in turn


class Subject(NamedTuple):
    """Points that a picture is to show; the first to leave it are those of a small weight."""

    points: np.ndarray  # [P, 3] metres
    weights: np.ndarray  # [P] sum to one
    stray: float  # share of the weight that may leave the picture


class Framing(NamedTuple):
    """What `orbit` needs to know."""

    target: np.ndarray  # [3] metres
    extent: float  # metres of the target's plane over the picture's shorter side


def splat_subject(gaussians: Gaussians) -> Subject:
    """Finds what a splat scene is about: without its haze, its background and its floaters.

    Raises:
      ValueError: when nothing can be seen.
    """
    opacities = np.asarray(jax.nn.sigmoid(gaussians.logit_opacities), np.float64)
    half = _EDGE_STDS * jnp.sqrt(jnp.diagonal(covariances(gaussians), axis1=1, axis2=2))
    means, half = np.asarray(gaussians.means, np.float64), np.asarray(half, np.float64)
    is_seen = np.isfinite(means).all(-1) & np.isfinite(half).all(-1) & np.isfinite(opacities)
    is_seen &= opacities > min(_FAINT, 0.5 * np.max(opacities, initial=0.0, where=is_seen))
    if not is_seen.any():
        raise ValueError(f"expected Gaussians to be seen, found none among {len(means)}")
    index = _draw(np.flatnonzero(is_seen))
    means, half, weights = means[index], half[index], opacities[index]
    middle = np.array([_quantile(column, weights, 0.5) for column in means.T])
    radius = np.linalg.norm(means - middle, axis=-1)
    # A scene of a single Gaussian, or of many in one place, has no radius.
    half_mass = _quantile(radius, weights, 0.5)
    is_subject = radius <= max(_REACH * half_mass, float(radius.min()))
    largest = half.max(-1)
    is_subject &= largest <= max(half_mass, _quantile(largest, weights, _HUGE))
    if half_mass > 0:
        is_subject |= _limbs((means - middle) / half_mass, weights, is_subject, largest / half_mass)
    means, half, weights = means[is_subject], half[is_subject], weights[is_subject]
    corners = np.concatenate([np.eye(3), -np.eye(3)])  # where a Gaussian's box is touched
    points = means[:, None] + corners * half[:, None]
    weights = np.repeat(weights, len(corners))
    return Subject(points.reshape(-1, 3), weights / weights.sum(), _STRAY)


def _limbs(
    places: np.ndarray, weights: np.ndarray, is_core: np.ndarray, largest: np.ndarray
) -> np.ndarray:
    """Returns which points [P] are limbs of the core, by places and sizes in half-mass radii.

    Limbs hang together with the core and leave it in few directions; what surrounds it on many
    sides, a floor or a room, is none.
    """
    radius = np.linalg.norm(places, axis=-1)
    is_near = (radius < _LIMB_REACH) & (largest <= 1.0)
    cell = np.floor((places[is_near] + _LIMB_REACH) / _LIMB_CELL).astype(int)
    size = int(2 * _LIMB_REACH / _LIMB_CELL) + 1
    is_taken = np.zeros([size] * 3, bool)
    is_taken[tuple(cell.T)] = True
    label = ndimage.label(is_taken, np.ones([3, 3, 3]))[0][tuple(cell.T)]
    mass = np.bincount(label, weights[is_near] * is_core[is_near])
    found = np.zeros(len(places), bool)
    found[np.flatnonzero(is_near)[label == np.argmax(mass)]] = True
    found &= ~is_core
    if not found.any():
        return found
    direction = places[found] / radius[found, None]
    bin_mass = np.bincount(
        np.argmax(direction @ _directions().T, -1), weights[found], _NUM_DIRECTIONS
    )
    order = np.sort(bin_mass)[::-1]
    taken = 1 + np.searchsorted(np.cumsum(order), 0.95 * order.sum())
    return found if taken <= _LIMB_DIRECTIONS else np.zeros_like(found)


def _directions() -> np.ndarray:
    """Unit vectors spread evenly over the sphere, on a Fibonacci spiral."""
    index = np.arange(_NUM_DIRECTIONS)
    z = 1.0 - (2.0 * index + 1.0) / _NUM_DIRECTIONS
    angle = np.pi * (1.0 + 5.0**0.5) * index
    flat = np.sqrt(1.0 - z**2)
    return np.stack([flat * np.cos(angle), flat * np.sin(angle), z], -1)


def mesh_subject(mesh: Mesh) -> Subject:
    """Takes a mesh as it is: every corner of a triangle is to be seen."""
    index = np.unique(np.asarray(mesh.triangles))
    points = np.asarray(mesh.vertices, np.float64)[index]
    points = points[np.isfinite(points).all(-1)]
    if not len(points):
        raise ValueError("expected a mesh with finite vertices, found none")
    if len(points) > _MAX_VERTICES:
        # Joggled, so that a flat mesh has a hull as well.
        points = points[ConvexHull(points, qhull_options="QJ").vertices]
    return Subject(points, np.full(len(points), 1.0 / len(points)), 0.0)


def join(subjects: Sequence[Subject]) -> Subject:
    """Makes one subject of several, each as heavy as the others."""
    points = np.concatenate([subject.points for subject in subjects])
    weights = np.concatenate([subject.weights for subject in subjects]) / len(subjects)
    return Subject(points, weights, min(subject.stray for subject in subjects) / len(subjects))


def frame(
    subject: Subject,
    width: int,
    height: int,
    azimuths_degrees: Sequence[float],
    elevation_degrees: float = 0.0,
    fov_degrees: float = DEFAULT_FOV_DEGREES,
    up: Sequence[float] = Y_UP,
    target: Sequence[float] | None = None,
) -> Framing:
    """Finds the orbit that shows the whole subject in each of its views, as large as possible.

    A point at p from the target is in the picture of a perspective camera that stands at `d away`
    where |p right| <= (d - p away) tan(fov / 2), and likewise down: each point and view ask for a
    distance of their own.

    Args:
      subject: what is to be seen.
      width: of the picture, pixels.
      height: of the picture, pixels.
      azimuths_degrees: A, of the views; see `orbit`.
      elevation_degrees: of the cameras above the target's horizon.
      fov_degrees: over the shorter side.
      up: the axis of the turn.
      target: [3] metres, what the cameras look at; None for the middle of the subject.
    """
    views = [(azimuth, elevation_degrees) for azimuth in azimuths_degrees]
    return frame_views(subject, width, height, views, fov_degrees, up, target)


def frame_views(
    subject: Subject,
    width: int,
    height: int,
    views_degrees: Sequence[tuple[float, float]],
    fov_degrees: float = DEFAULT_FOV_DEGREES,
    up: Sequence[float] = Y_UP,
    target: Sequence[float] | None = None,
) -> Framing:
    """As `frame`, of views [A] at any azimuth and elevation each, all at one distance."""
    axes = [orbit_axes(*view, up) for view in views_degrees]
    away, top = (np.stack(vectors) for vectors in zip(*axes, strict=True))
    right = np.cross(top, away)
    tangent = np.tan(np.radians(fov_degrees) / 2)
    slopes = (1.0 - 2.0 * _MARGIN) * tangent * np.array([width, height]) / min(width, height)
    is_free = target is None
    if is_free:
        basis = world_axes(up)
        local = subject.points @ basis.T
        tail = 0.5 * subject.stray
        bounds = [
            [_quantile(column, subject.weights, share) for share in (tail, 1.0 - tail)]
            for column in local.T
        ]
        target = np.mean(bounds, -1) @ basis
    target = np.asarray(target, np.float64)
    for remaining in reversed(range(_ROUNDS)):
        x, y, z = ((subject.points - target) @ vectors.T for vectors in (right, top, away))
        asked = np.max(np.maximum(np.abs(x) / slopes[0], np.abs(y) / slopes[1]) + z, 1)
        distance = _quantile(asked, subject.weights, 1.0 - subject.stray)
        if not (is_free and remaining):
            break
        # Perspective shows what is near larger: the target moves until both ends of the subject,
        # and in a single view both sides, are as far from the picture's.
        is_kept = asked <= distance
        depth = np.maximum(distance - z, 1e-3 * distance)[is_kept]
        shift = distance * np.mean(_middles(y[is_kept] / depth)) * np.mean(top, 0)
        if len(away) == 1:
            shift = shift + distance * np.mean(_middles(x[is_kept] / depth)) * right[0]
        target = target + shift
    return Framing(target, max(extent_at(distance, fov_degrees), 1e-6))


def spread_views(
    count: int, azimuths_degrees: Sequence[float], elevations_degrees: Sequence[float]
) -> list[tuple[float, float]]:
    """Spreads views over a part of the sphere, each alone in as large an area as the others.

    They climb from the first elevation to the last, turning by an irrational share of the azimuths
    from each to the next; with one elevation they go around it in order.

    Args:
      count: of the views.
      azimuths_degrees: first and last, the last one left out.
      elevations_degrees: lowest and highest.

    Returns:
      Azimuth and elevation of each view, degrees.
    """
    index = np.arange(count)
    first, last = azimuths_degrees
    low, high = np.sin(np.radians(elevations_degrees))
    if low == high:
        turns = index / count
    else:
        # By the golden section every eighth, and they are held out, would lie on one side.
        turns = index * 2**0.5 % 1
    # Slices of a sphere that are equally high are equally large.
    heights = low + (high - low) * (index + 0.5) / count
    elevations = np.degrees(np.arcsin(np.clip(heights, -1, 1)))
    return list(zip((first + (last - first) * turns).tolist(), elevations.tolist(), strict=True))


def farthest(subject: Subject, cameras: Sequence[Camera]) -> float:
    """Returns the largest depth of a subject, with a margin, that any camera has before it."""
    points = np.asarray(subject.points)
    depths = [
        points @ np.asarray(camera.rotation)[2] + float(camera.translation[2]) for camera in cameras
    ]
    return _BEHIND * float(np.max(depths))


def distance_of(extent: float, fov_degrees: float = DEFAULT_FOV_DEGREES) -> float:
    """Returns how far from its target an orbit of this extent runs."""
    return 0.5 * extent / float(np.tan(np.radians(fov_degrees) / 2))


def extent_at(distance: float, fov_degrees: float = DEFAULT_FOV_DEGREES) -> float:
    """Inverts `distance_of`."""
    return 2.0 * distance * float(np.tan(np.radians(fov_degrees) / 2))


def with_width(camera: Camera, width: int) -> Camera:
    """Returns the camera of the same view with pictures `width` pixels wide."""
    scale = width / camera.width
    height = max(1, round(camera.height * scale))
    factor = jnp.asarray([scale, height / camera.height], camera.focal.dtype)
    return camera.replace(
        focal=camera.focal * factor, center=camera.center * factor, width=width, height=height
    )


def _middles(slopes: np.ndarray) -> np.ndarray:
    """Returns the middle [A] of what the points [P, A] cover in each view."""
    return 0.5 * (np.min(slopes, 0) + np.max(slopes, 0))


def _quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """Returns the least value that `share` of the weight does not exceed."""
    order = np.argsort(values)
    mass = np.cumsum(weights[order])
    # Rounding must not leave out the last one.
    return float(values[order[min(np.searchsorted(mass, share * mass[-1]), len(order) - 1)]])


def _draw(index: np.ndarray) -> np.ndarray:
    """Draws at most `_MAX_GAUSSIANS` of the indices, always the same."""
    if len(index) <= _MAX_GAUSSIANS:
        return index
    return np.random.default_rng(0).choice(index, _MAX_GAUSSIANS, replace=False)
