"""A landmark detector like dlib's, simulated: where it would find the points of a known face.

Inner points are vertices of the face. Contour points lie on the outline of what is seen of the
face, so they know nothing of the paths that a fit slides along. A point that the head itself hides
is found where people who annotate photos put it: at the edge of what covers it.

Axes: V vertices, T triangles, R edges of the face region, N points. Pixels as in `landmarks`.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from numpy.typing import NDArray
from skimage import measure

from recon import pose
from recon.morphable import NUM_CONTOUR, NUM_LANDMARKS, MorphableModel, landmark_embedding
from recon.pose import Pose
from render.camera import Camera
from render.rasterize import rasterize
from render.transforms import safe_normalize

_LEAST_SIGMA = 1.0  # pixels; a fit divides by it, without noise too
_DEPTH_SIZE = 320  # pixels a side of the depth picture, a millimetre each
_DEPTH_SCALE = 1000.0  # pixels per metre
_COVERED = 0.006  # metres in front of a point; less is its own surface, seen at a slant
_MARCH = 80  # millimetres to the edge of what covers a point, at most


@dataclasses.dataclass(frozen=True)
class DetectorConfig:
    """Noise of the simulated detector. dlib on photos is nearer to 8, 10 and 6 than to 3, 3, 3."""

    inner_px: float = 3.0
    contour_px: float = 3.0
    sliding_deg: float = 3.0  # contour points slide along the outline, seen from the face's centre
    outlier_share: float = 0.0
    outlier_px: float = 40.0
    hides: bool = True  # points that the head itself covers; False: they stay exact


EXACT = DetectorConfig(inner_px=0.0, contour_px=0.0, sliding_deg=0.0, hides=False)


@struct.dataclass
class FaceOutline:
    """What the detector knows of a model."""

    inner_corners: jax.Array  # [51, 3] int32 of the inner landmarks
    inner_weights: jax.Array  # [51, 3] barycentric
    triangles: jax.Array  # [T, 3] int32
    region: jax.Array  # [R, 2] int32 edges of the face, from `face_region`
    angles: jax.Array  # [17] of the contour points around the mean face's centre, from the front


def face_outline(model: MorphableModel) -> FaceOutline:
    """Prepares a model for `detect`, once and on the host.

    Raises:
      ValueError: the model lacks landmarks.
    """
    mean, index = np.asarray(model.mean), np.asarray(model.landmark_vertices)
    region = face_region(model)
    corners, weights = landmark_embedding(model)
    local = mean[index[:NUM_CONTOUR]] - mean[index[NUM_CONTOUR:]].mean(0)
    return FaceOutline(
        inner_corners=corners[NUM_CONTOUR:],
        inner_weights=weights[NUM_CONTOUR:],
        triangles=model.triangles,
        region=jnp.asarray(region),
        angles=jnp.asarray(np.arctan2(-local[:, 1], local[:, 0]), jnp.float32),
    )


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
    is_inside = measure.points_in_poly(mean[:, :2], polygon)
    a, b, c = (mean[triangles[:, i]] for i in range(3))
    faces_forward = np.cross(b - a, c - a)[:, 2] > 0
    # The back of the head lies inside the polygon as well, and so do the throat's forward folds.
    floor = np.interp(mean[:, 0], jaw[:, 0], jaw[:, 2]) - 0.005
    is_front = is_inside & (mean[:, 2] > floor)
    inside = triangles[is_front[triangles].all(1) & faces_forward]
    edges = np.concatenate([inside[:, [0, 1]], inside[:, [1, 2]], inside[:, [2, 0]]])
    jaw_line = np.stack([jaw_vertices[:-1], jaw_vertices[1:]], axis=1)
    return np.concatenate([np.unique(np.sort(edges, axis=1), axis=0), jaw_line])


@jax.jit
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
    key: jax.Array, face: FaceOutline, vertices: jax.Array, head: Pose, config: DetectorConfig
) -> jax.Array:
    """Landmarks [68, 2] that a detector would find on a face [V, 3], without a picture of it."""
    key_inner, key_contour, key_slide, key_outlier, key_side = jax.random.split(key, 5)
    xy = pose.project(head, vertices)
    exact = inner_points(face, xy)
    inner = seen_places(face, vertices, head) if config.hides else exact

    # Each contour landmark keeps the direction that it has on the mean face seen from the front,
    # turned with the picture's roll.
    roll = jnp.arctan2(head.rotation[1, 0], head.rotation[0, 0])
    slide = jnp.deg2rad(config.sliding_deg) * jax.random.normal(key_slide, (NUM_CONTOUR,))
    outer = outline(xy, face.region, jnp.mean(exact, 0), face.angles - roll + slide)
    outer += config.contour_px * jax.random.normal(key_contour, outer.shape)
    inner += config.inner_px * jax.random.normal(key_inner, inner.shape)

    found = jnp.concatenate([outer, inner])
    is_outlier = jax.random.bernoulli(key_outlier, config.outlier_share, (len(found), 1))
    side = safe_normalize(jax.random.normal(key_side, found.shape))
    return found + jnp.where(is_outlier, config.outlier_px * side, 0.0)


def detector_sigma(config: DetectorConfig) -> NDArray:
    """Standard deviations [68] in pixels that a fit is told of the detector's points."""
    sigma = np.full(NUM_LANDMARKS, config.inner_px)
    sigma[:NUM_CONTOUR] = config.contour_px
    return np.maximum(sigma, _LEAST_SIGMA)


def inner_points(face: FaceOutline, vertices: jax.Array) -> jax.Array:
    """The inner landmarks [51, D] on a face, or on its projection [V, D]."""
    return jnp.einsum("lc,lcd->ld", face.inner_weights, vertices[face.inner_corners])


def seen_places(face: FaceOutline, vertices: jax.Array, head: Pose) -> jax.Array:
    """Pixels [51, 2] of the inner points; covered ones at the edge of what covers them.

    A covered point moves the way the face looks, in the picture, until nothing is in front of it:
    the far corner of an eye ends on the bridge of the nose, or on the outline of the cheek.
    """
    turned = vertices @ head.rotation.T
    points = inner_points(face, turned)
    center = jnp.mean(points, 0)
    camera = Camera(
        rotation=jnp.diag(jnp.array([1.0, -1.0, -1.0])),
        translation=jnp.array([-1.0, 1.0, 1.0]) * center + jnp.array([0.0, 0.0, 1.0]),
        focal=jnp.full(2, _DEPTH_SCALE),
        center=jnp.full(2, _DEPTH_SIZE / 2),
        width=_DEPTH_SIZE,
        height=_DEPTH_SIZE,
        orthographic=True,
    )
    depth = rasterize(camera, turned, face.triangles).depth
    depth = jnp.where(depth > 0.0, depth, jnp.inf)
    forward = safe_normalize(head.rotation[:2, 2])  # in the picture, y up

    def edge(point):
        steps = 1e-3 * jnp.arange(_MARCH + 1)
        places = point[:2] + steps[:, None] * forward
        pixels = (places - center[:2]) * jnp.array([1.0, -1.0]) * _DEPTH_SCALE + _DEPTH_SIZE / 2
        column, row = jnp.clip(pixels.astype(jnp.int32), 0, _DEPTH_SIZE - 1).T
        is_covered = depth[row, column] < 1.0 - (point[2] - center[2]) - _COVERED
        # The first free place; if all are covered, the point itself.
        return places[jnp.argmin(is_covered)]

    seen = jax.vmap(edge)(points)
    return head.scale * seen * jnp.array([1.0, -1.0]) + head.translation
