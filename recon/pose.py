"""Scaled-orthographic pose: its projection and a closed-form start.

`xy = scale * diag(1, -1) * (R X)_xy + translation`: the model's y points up, the picture's down.
Axes: N points. Units: model points in metres, pixels in the picture, scale in pixels per metre.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from render.transforms import nearest_rotation

_FLIP = np.array([1.0, -1.0], np.float32)


@struct.dataclass
class Pose:
    """Where the head is in the picture."""

    rotation: jax.Array  # [3, 3] model to viewer (x right, y up, z to the viewer)
    translation: jax.Array  # [2] pixels
    scale: jax.Array  # [] pixels per metre


def project(pose: Pose, points: jax.Array) -> jax.Array:
    """Projects model points [..., 3] to pixels [..., 2]."""
    turned = points @ pose.rotation[:2].T
    return pose.scale * turned * _FLIP + pose.translation


def closed_form(points: jax.Array, xy: jax.Array, weights: jax.Array) -> Pose:
    """The pose that maps `points` to `xy`, by affine least squares and the nearest rotation.

    Args:
      points: [N, 3] model points, metres.
      xy: [N, 2] their pixels.
      weights: [N] non-negative; zero leaves a point out. Four points not in a plane must stay.
    """
    share = weights / jnp.sum(weights)
    center, center_xy = share @ points, share @ xy
    local, local_xy = points - center, (xy - center_xy) * _FLIP
    moment = (local * share[:, None]).T @ local  # [3, 3]
    # Finite for points in a plane too, and far below a face's own depth.
    moment = moment + 1e-6 * jnp.trace(moment) * jnp.eye(3, dtype=moment.dtype)
    affine = jnp.linalg.solve(moment, (local * share[:, None]).T @ local_xy).T  # [2, 3]
    lengths = jnp.linalg.norm(affine, axis=1)
    scale = jnp.mean(lengths)
    rows = affine / lengths[:, None]
    rotation = nearest_rotation(jnp.concatenate([rows, jnp.cross(rows[0], rows[1])[None]]))
    pose = Pose(rotation, jnp.zeros_like(center_xy), scale)
    return pose.replace(translation=center_xy - project(pose, center))


def frontal(points: jax.Array, xy: jax.Array, weights: jax.Array) -> Pose:
    """The thesis' start: no rotation; translation and scale from the points' centre and spread.

    Arguments as in `closed_form`. (The thesis knows the scale and puts the origin in the middle of
    the picture; a photo tells neither.)
    """
    share = weights / jnp.sum(weights)
    center, center_xy = share @ points, share @ xy
    spread = jnp.sqrt(share @ jnp.sum((points - center)[:, :2] ** 2, -1))
    spread_xy = jnp.sqrt(share @ jnp.sum((xy - center_xy) ** 2, -1))
    pose = Pose(jnp.eye(3, dtype=points.dtype), jnp.zeros_like(center_xy), spread_xy / spread)
    return pose.replace(translation=center_xy - project(pose, center))
