"""The test environment: faces with known answers, a simulated detector, and the thesis' scores.

Axes: F faces, L = 68 landmarks, V vertices, T triangles, R edges of the face region.
Source: thesis section 4, Eq. 10-14.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from numpy.typing import NDArray

from recon import pose
from recon.morphable import NUM_CONTOUR, MorphableModel, face_shape
from recon.pose import Pose
from render.transforms import safe_norm, safe_normalize


@dataclasses.dataclass(frozen=True)
class DetectorConfig:
    """Noise of the simulated detector. dlib on photos is nearer to 8, 10 and 6 than to 3, 3, 3."""

    inner_px: float = 3.0
    contour_px: float = 3.0
    sliding_deg: float = 3.0  # contour points slide along the outline, seen from the face's centre
    outlier_share: float = 0.0
    outlier_px: float = 40.0


@struct.dataclass
class Scores:
    """How far a fit is from the truth; Eq. 10-14 and two that travel between models."""

    alpha_error: jax.Array  # [] Eq. 10: sum sigma^2 (alpha' - alpha)^2, square metres
    alpha_unexplained: jax.Array  # [] the same over that of the mean face: 1 is no better
    translation_error: jax.Array  # [] Eq. 11, metres
    rotation_deg: jax.Array  # [] Eq. 12
    normal_deg: jax.Array  # [] Eq. 13
    projection_px: jax.Array  # [] Eq. 14
    vertex_mm: jax.Array  # [] mean distance of corresponding vertices


def face_region(model: MorphableModel) -> NDArray:
    """Edges [R, 2] of the mean face cut off at the jaw line, ear to ear and brow to chin.

    A triangle belongs to the face when its corners, seen from the front, lie inside the polygon of
    the jaw landmarks, closed above the brows, and it faces forward. The jaw line's own segments
    come on top: whole triangles alone would end up to an edge's length inside of it.

    Raises:
      ValueError: the model lacks landmarks.
    """
    mean = np.asarray(model.mean)
    triangles = np.asarray(model.triangles)
    if (np.asarray(model.landmark_vertices) < 0).any():
        raise ValueError("expected a model with all 68 landmarks, found some missing")
    jaw_vertices = np.asarray(model.landmark_vertices)[:NUM_CONTOUR]
    jaw = mean[jaw_vertices]
    top = jaw[[-1, 0]] + [0.0, 0.35 * (jaw[0, 1] - jaw[8, 1]), 0.0]
    polygon = np.concatenate([jaw[:, :2], top[:, :2]])
    center = polygon.mean(0)
    polygon = center + (polygon - center) * 1.001  # the jaw landmarks' own triangles stay
    is_inside = _inside_polygon(polygon, mean[:, :2])
    a, b, c = (mean[triangles[:, i]] for i in range(3))
    faces_forward = np.cross(b - a, c - a)[:, 2] > 0
    # The back of the head lies inside the polygon as well, and so do the throat's forward folds.
    floor = np.interp(mean[:, 0], jaw[:, 0], jaw[:, 2]) - 0.005
    is_front = is_inside & (mean[:, 2] > floor)
    inside = triangles[is_front[triangles].all(1) & faces_forward]
    edges = np.concatenate([inside[:, [0, 1]], inside[:, [1, 2]], inside[:, [2, 0]]])
    jaw_line = np.stack([jaw_vertices[:-1], jaw_vertices[1:]], axis=1)
    return np.concatenate([np.unique(np.sort(edges, axis=1), axis=0), jaw_line])


def _inside_polygon(polygon: NDArray, points: NDArray) -> NDArray:
    """Even-odd rule, [N] bool."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    x, y = points[:, None, 0], points[:, None, 1]
    crosses = (start[:, 1] > y) != (end[:, 1] > y)
    slope = (end[:, 0] - start[:, 0]) / np.where(
        end[:, 1] == start[:, 1], 1.0, end[:, 1] - start[:, 1]
    )
    return (crosses & (x < start[:, 0] + slope * (y - start[:, 1]))).sum(1) % 2 == 1


def outline(xy: jax.Array, region: jax.Array, center: jax.Array, angles: jax.Array) -> jax.Array:
    """Outermost points [N, 2] of a projected region on the rays from `center` at `angles` [N].

    Args:
      xy: [V, 2] projected vertices.
      region: [R, 2] edges, from `face_region`.
      center: [2] pixel inside the region.
      angles: [N] radians, x to the right and y down.
    """
    start, end = jnp.moveaxis(xy[region] - center, 1, 0)
    edge = end - start

    def farthest(angle):
        ray = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        turn = ray[0] * edge[:, 1] - ray[1] * edge[:, 0]
        safe = jnp.where(jnp.abs(turn) < 1e-12, 1.0, turn)
        reach = (start[:, 0] * edge[:, 1] - start[:, 1] * edge[:, 0]) / safe
        share = (start[:, 0] * ray[1] - start[:, 1] * ray[0]) / safe
        is_hit = (jnp.abs(turn) >= 1e-12) & (share >= 0.0) & (share <= 1.0) & (reach > 0.0)
        return center + ray * jnp.max(jnp.where(is_hit, reach, 0.0))

    return jax.lax.map(farthest, angles)


@functools.partial(jax.jit, static_argnames="config")
def detect(
    key: jax.Array,
    model: MorphableModel,
    region: jax.Array,
    identity: jax.Array,
    head: Pose,
    config: DetectorConfig,
) -> jax.Array:
    """Landmarks [68, 2] that a detector like dlib's would find on a face, without rendering it.

    Inner points are projected vertices. Contour points lie on the outline of the visible face, on
    rays from its centre: they know nothing of the paths that a fit slides along.
    """
    key_inner, key_contour, key_slide, key_outlier, key_side = jax.random.split(key, 5)
    vertices = face_shape(model, identity, jnp.zeros(0))
    xy = pose.project(head, vertices)
    inner = xy[model.landmark_vertices[NUM_CONTOUR:]]
    center = jnp.mean(inner, 0)

    # Each contour landmark keeps the direction that it has on the mean face seen from the front,
    # turned with the picture's roll.
    roll = jnp.arctan2(head.rotation[1, 0], head.rotation[0, 0])
    points = model.mean[model.landmark_vertices]
    local = points[:NUM_CONTOUR] - jnp.mean(points[NUM_CONTOUR:], 0)
    angles = jnp.arctan2(-local[:, 1], local[:, 0]) - roll
    slide = jnp.deg2rad(config.sliding_deg) * jax.random.normal(key_slide, (NUM_CONTOUR,))
    outer = outline(xy, region, center, angles + slide)
    outer += config.contour_px * jax.random.normal(key_contour, outer.shape)
    inner += config.inner_px * jax.random.normal(key_inner, inner.shape)

    found = jnp.concatenate([outer, inner])
    is_outlier = jax.random.bernoulli(key_outlier, config.outlier_share, (len(found), 1))
    side = safe_normalize(jax.random.normal(key_side, found.shape))
    return found + jnp.where(is_outlier, config.outlier_px * side, 0.0)


def rotation_error_deg(found: jax.Array, truth: jax.Array) -> jax.Array:
    """Eq. 12: the larger angle [] of the first two rows, which orthography shows, in degrees."""
    cosine = jnp.sum(found[:2] * truth[:2], axis=-1)
    sine = jnp.linalg.norm(jnp.cross(found[:2], truth[:2]), axis=-1)  # acos alone is blunt near 0
    return jnp.rad2deg(jnp.max(jnp.arctan2(sine, cosine)))


def normal_error_deg(found: jax.Array, truth: jax.Array, triangles: jax.Array) -> jax.Array:
    """Eq. 13: mean angle [] between corresponding triangles' normals, in degrees."""
    a, b = _facet_normals(found, triangles), _facet_normals(truth, triangles)
    sine = jnp.linalg.norm(jnp.cross(a, b), axis=-1)
    return jnp.rad2deg(jnp.mean(jnp.arctan2(sine, jnp.sum(a * b, axis=-1))))


def _facet_normals(vertices: jax.Array, triangles: jax.Array) -> jax.Array:
    a, b, c = jnp.moveaxis(vertices[triangles], 1, 0)
    return safe_normalize(jnp.cross(b - a, c - a))


@jax.jit
def score(
    model: MorphableModel,
    identity: jax.Array,
    head: Pose,
    true_identity: jax.Array,
    true_head: Pose,
    landmarks_xy: jax.Array,
) -> Scores:
    """Scores one fit, Eq. 10-14; `vmap` over faces.

    Args:
      model: the model of both faces.
      identity: [k] found; true_identity: [K] true. The shorter one is padded with zeros.
      head: found pose; true_head: true pose.
      landmarks_xy: [68, 2] what the detector gave.
    """
    size = max(identity.shape[0], true_identity.shape[0])
    found = jnp.pad(identity, (0, size - identity.shape[0]))
    truth = jnp.pad(true_identity, (0, size - true_identity.shape[0]))
    variance = model.identity_sigma[:size] ** 2
    alpha_error = jnp.sum(variance * (found - truth) ** 2)
    shape = face_shape(model, found, jnp.zeros(0))
    true_shape = face_shape(model, truth, jnp.zeros(0))
    shift = head.translation / head.scale - true_head.translation / true_head.scale
    missed = safe_norm(pose.project(head, shape[model.landmark_vertices]) - landmarks_xy)
    is_present = model.landmark_vertices >= 0
    return Scores(
        alpha_error=alpha_error,
        alpha_unexplained=alpha_error / jnp.sum(variance * truth**2),
        translation_error=jnp.linalg.norm(shift),
        rotation_deg=rotation_error_deg(head.rotation, true_head.rotation),
        normal_deg=normal_error_deg(shape, true_shape, model.triangles),
        projection_px=jnp.sum(missed * is_present) / jnp.sum(is_present),
        vertex_mm=1e3 * jnp.mean(jnp.linalg.norm(shape - true_shape, axis=-1)),
    )
