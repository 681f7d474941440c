"""Cameras: from points in the world to pixels.

Camera axes: x right, y down, z forward (into the picture). World: metres, y up. Pixels: x right,
y down, the centre of the top left pixel at (0.5, 0.5).
"""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Camera:
    """A perspective or orthographic camera without lens distortion."""

    rotation: jax.Array  # [3, 3] world to camera
    translation: jax.Array  # [3] world to camera, metres
    focal: jax.Array  # [2] perspective: pixels; orthographic: pixels per metre
    center: jax.Array  # [2] principal point, pixels
    width: int = struct.field(pytree_node=False)
    height: int = struct.field(pytree_node=False)
    orthographic: bool = struct.field(pytree_node=False, default=False)


def world_to_camera(camera: Camera, points: jax.Array) -> jax.Array:
    """Moves world points [..., 3] into the camera's axes [..., 3], metres."""
    return points @ camera.rotation.T + camera.translation


def project(camera: Camera, points: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Projects world points [..., 3] to pixels [..., 2] and depth [...] in metres.

    Points at or behind a perspective camera have depth <= 0 and finite but meaningless pixels.
    """
    local = world_to_camera(camera, points)
    depth = local[..., 2]
    xy = local[..., :2]
    if not camera.orthographic:
        xy = xy / jnp.maximum(depth, 1e-6)[..., None]
    return xy * camera.focal + camera.center, depth
