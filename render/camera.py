"""Cameras: from points in the world to pixels, and back along rays.

Camera axes: x right, y down, z forward (into the picture). World: metres, y up. Pixels: x right,
y down, the centre of the top left pixel at (0.5, 0.5). A head looks along +z, so the camera of
azimuth zero stands on the +z side of it; a growing azimuth moves the camera towards +x. Where up is
another axis, `world_axes` says where the front is.

Axes: F frames.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

DEFAULT_FOV_DEGREES = 30.0  # over the shorter side of the picture: a portrait lens
Y_UP = (0.0, 1.0, 0.0)


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


@struct.dataclass
class Rays:
    """Half lines, one a pixel."""

    origins: jax.Array  # [..., 3] metres
    directions: jax.Array  # [..., 3] unit length


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


def camera_position(camera: Camera) -> jax.Array:
    """Returns where the camera stands in the world [3], metres."""
    return -camera.translation @ camera.rotation


def looked_at(cameras: Sequence[Camera]) -> np.ndarray:
    """Returns the point [3] nearest to all optical axes: what cameras around a subject look at."""
    cameras = jax.device_get(list(cameras))
    eyes = np.stack([-np.asarray(c.translation) @ np.asarray(c.rotation) for c in cameras])
    forward = np.stack([np.asarray(camera.rotation)[2] for camera in cameras])
    # sum (I - f f^T) (p - eye) = 0
    across = np.eye(3) - forward[:, :, None] * forward[:, None]
    right = np.einsum("fij,fj->i", across, eyes)
    return np.linalg.lstsq(across.sum(0), right, rcond=1e-3)[0]


def world_axes(up: Sequence[float]) -> np.ndarray:
    """Returns side, up and front [3, 3] of a world, unit rows, right-handed.

    The side is +x whatever the up, so that the front is +z where y is up, -z where y is down (the
    first camera of most captures stands there) and -y where z is up (Blender's front view); where
    x itself is up or down, the front is +z.
    """
    up = np.asarray(up, np.float64)
    length = np.linalg.norm(up)
    if not (np.isfinite(length) and length > 0):
        raise ValueError(f"expected a direction as up, found {up.tolist()}")
    up = up / length
    side = np.array([1.0, 0.0, 0.0]) - up[0] * up
    if np.linalg.norm(side) < 1e-3:
        side = np.cross(up, [0.0, 0.0, 1.0])
    side = side / np.linalg.norm(side)
    return np.stack([side, up, np.cross(side, up)])


def orbit_axes(
    azimuth_degrees: float, elevation_degrees: float, up: Sequence[float] = Y_UP
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the unit vectors [3] from the target to a camera of an orbit, and up its picture."""
    side, up, front = world_axes(up)
    azimuth, elevation = np.radians(azimuth_degrees), np.radians(elevation_degrees)
    flat = np.sin(azimuth) * side + np.cos(azimuth) * front
    away = np.cos(elevation) * flat + np.sin(elevation) * up
    return away, np.cos(elevation) * up - np.sin(elevation) * flat


def look_at(
    eye: jax.Array, target: jax.Array, up: jax.Array | Sequence[float] = Y_UP
) -> tuple[jax.Array, jax.Array]:
    """Returns the world-to-camera rotation [3, 3] and translation [3] of a camera at `eye`.

    The camera looks at `target`, and `up` points up in its picture. Where it looks along `up`
    itself, the world's z axis takes that part, or its x axis where z is up.
    """
    eye, target, up = (jnp.asarray(value, jnp.result_type(float)) for value in (eye, target, up))
    forward = (target - eye) / jnp.linalg.norm(target - eye)
    side = jnp.cross(forward, up)
    is_steep = jnp.linalg.norm(side) < 1e-6 * jnp.linalg.norm(up)
    # At the pole the picture's top points away from the viewer's side of the head.
    instead = jnp.where(jnp.abs(forward[2]) < 0.9, jnp.eye(3)[2], jnp.eye(3)[0]).astype(side.dtype)
    side = jnp.where(is_steep, jnp.cross(forward, instead), side)
    right = side / jnp.linalg.norm(side)
    rotation = jnp.stack([right, jnp.cross(forward, right), forward])
    return rotation, -rotation @ eye


def perspective_camera(
    eye: jax.Array,
    target: jax.Array,
    width: int,
    height: int,
    fov_degrees: float = DEFAULT_FOV_DEGREES,
    up: jax.Array | Sequence[float] = Y_UP,
) -> Camera:
    """Builds the camera at `eye` that sees `fov_degrees` over its shorter side."""
    focal = 0.5 * min(width, height) / np.tan(np.radians(fov_degrees) / 2)
    return _centered(eye, target, up, focal, width, height, orthographic=False)


def orthographic_camera(
    eye: jax.Array,
    target: jax.Array,
    width: int,
    height: int,
    extent: float,
    up: jax.Array | Sequence[float] = Y_UP,
) -> Camera:
    """Builds the orthographic camera that sees `extent` metres over its shorter side."""
    focal = min(width, height) / extent
    return _centered(eye, target, up, focal, width, height, orthographic=True)


@functools.partial(jax.jit, static_argnames=("width", "height", "orthographic"))
def _centered(eye, target, up, focal, width, height, orthographic) -> Camera:
    rotation, translation = look_at(eye, target, up)
    return Camera(
        rotation=rotation,
        translation=translation,
        focal=jnp.full(2, focal, rotation.dtype),
        center=jnp.array([width / 2, height / 2], rotation.dtype),
        width=width,
        height=height,
        orthographic=orthographic,
    )


def orbit(
    target: jax.Array,
    extent: float,
    num_frames: int,
    width: int,
    height: int,
    elevation_degrees: float = 0.0,
    azimuth_degrees: tuple[float, float] = (0.0, 360.0),
    fov_degrees: float = DEFAULT_FOV_DEGREES,
    orthographic: bool = False,
    up: Sequence[float] = Y_UP,
) -> list[Camera]:
    """Returns the cameras of a turntable around `target`, all of one shape.

    Args:
      target: [3] what the cameras look at, metres.
      extent: metres of the target's plane that fill the picture's shorter side; sets the distance.
      num_frames: F; the last azimuth is left out, so that a full turn loops.
      width: of the picture, pixels.
      height: of the picture, pixels.
      elevation_degrees: of the cameras above the target's horizon.
      azimuth_degrees: first and last azimuth, zero at the front, growing towards the side.
      fov_degrees: of a perspective camera, over the shorter side.
      orthographic: leaves perspective out; the distance then only sets the depth's zero.
      up: the axis of the turn; `world_axes` says which side is then the front.
    """
    target = np.asarray(target, np.float64)
    distance = 0.5 * extent / np.tan(np.radians(fov_degrees) / 2)
    cameras = []
    for azimuth in np.linspace(*azimuth_degrees, num_frames, endpoint=False):
        away, top = orbit_axes(azimuth, elevation_degrees, up)
        eye = target + distance * away
        # Up the picture rather than up the world: over the pole, too, there is such a direction.
        if orthographic:
            cameras.append(orthographic_camera(eye, target, width, height, extent, top))
        else:
            cameras.append(perspective_camera(eye, target, width, height, fov_degrees, top))
    return cameras


def scale_camera(camera: Camera, factor: int) -> Camera:
    """Returns the camera of the same view with `factor` times the pixels on each side."""
    return camera.replace(
        focal=camera.focal * factor,
        center=camera.center * factor,
        width=camera.width * factor,
        height=camera.height * factor,
    )


def fit_camera(camera: Camera, width: int, height: int) -> Camera:
    """Returns the camera of a picture of another size that shows the whole view, in the middle.

    Where the sides have another ratio, it shows more beside the view, or above and below.
    """
    scale = min(width / camera.width, height / camera.height)
    old, new = np.array([camera.width, camera.height]), np.array([width, height])
    return camera.replace(
        focal=camera.focal * scale,
        center=(camera.center - 0.5 * old) * scale + 0.5 * new,
        width=width,
        height=height,
    )


def camera_through(
    camera: Camera, rotation: jax.Array, translation: jax.Array, scale: jax.Array | float = 1.0
) -> Camera:
    """Returns the camera that sees a point x as `camera` sees scale R x + t.

    Args:
      camera: of the space that x is carried into.
      rotation: [3, 3] R.
      translation: [3] t, metres.
      scale: of lengths, positive; depths become `scale` times smaller.
    """
    return camera.replace(
        rotation=camera.rotation @ rotation,
        translation=(camera.rotation @ translation + camera.translation) / scale,
        focal=camera.focal * scale if camera.orthographic else camera.focal,
    )


def pixel_centers(width: int, height: int) -> jax.Array:
    """Returns the pixel positions [height, width, 2] of the pixels' centres."""
    x, y = jnp.meshgrid(jnp.arange(width) + 0.5, jnp.arange(height) + 0.5)
    return jnp.stack([x, y], -1)


def pixel_rays(camera: Camera, pixels: jax.Array) -> Rays:
    """Returns the rays through `pixels` [..., 2].

    A perspective camera's rays leave from where it stands, an orthographic camera's from the plane
    of depth zero.
    """
    xy = (pixels - camera.center) / camera.focal
    if camera.orthographic:
        local = jnp.concatenate([xy, jnp.zeros_like(xy[..., :1])], -1)
        origins = (local - camera.translation) @ camera.rotation
        directions = jnp.broadcast_to(camera.rotation[2], origins.shape)
    else:
        local = jnp.concatenate([xy, jnp.ones_like(xy[..., :1])], -1)
        local = local / jnp.linalg.norm(local, axis=-1, keepdims=True)
        directions = local @ camera.rotation
        origins = jnp.broadcast_to(camera_position(camera), directions.shape)
    return Rays(origins, directions)


def camera_rays(camera: Camera) -> Rays:
    """Returns the rays through all pixel centres, leaves [height, width, 3]."""
    return pixel_rays(camera, pixel_centers(camera.width, camera.height))
