"""What a photo shows of each vertex of a fitted head.

All looking happens in a square cut-out of the photo around the head, resampled to one size, so that
photos of all sizes share compiled code.

Axes: V vertices, T triangles, P sides of the cut-out. Pixels are those of the cut-out: x right,
y down, the centre of the top left one at (0.5, 0.5). Lengths in metres, colours sRGB in [0, 1].
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recon.fit import FaceParams, face_camera
from recon.morphable import MorphableModel, face_shape
from recon.painting.surface import Surface
from render.camera import Camera, project
from render.image import box_downsample, sample_texture
from render.mesh import apply, vertex_normals
from render.program_io import kept
from render.rasterize import rasterize
from render.zbuffer import RasterizeConfig

_MARGIN = 1.08  # side of the cut-out over that of the head
_CROP_STEP = 256  # pixels; crops of few different sizes, so that few programs are compiled
_COARSE = 4  # pixels of the cut-out on a side of one that vertices see: about their spacing
_BIAS = 4e-4  # metres that a vertex may lie behind what its pixel sees


@struct.dataclass
class View:
    """A head and its photo."""

    vertices: jax.Array  # [V, 3]
    normals: jax.Array  # [V, 3] in the model's axes
    facing: jax.Array  # [V, 3] normals in the viewer's axes: x right, y up, z to the viewer
    xy: jax.Array  # [V, 2] pixels
    depth: jax.Array  # [V] metres
    visible: jax.Array  # [V] in [0, 1]
    rgb: jax.Array  # [V, 3]
    picture: jax.Array  # [P, P, 3] the cut-out
    depth_picture: jax.Array  # [P, P] metres, infinite off the head
    pixels_per_metre: jax.Array  # []
    shrinking: jax.Array  # [] pixels of the cut-out per pixel of the photo
    border: jax.Array  # [4] left, top, right and bottom end of the photo, pixels
    overflow: jax.Array  # [] bool: the z-buffer misses triangles
    needed: jax.Array  # [] int32


def look(
    model: MorphableModel, surface: Surface, params: FaceParams, photo: np.ndarray, size: int
) -> View:
    """Looks at the photo [H, W, 3] through the fit; `size` is P.

    Raises:
      ValueError: the head lies outside the photo.
    """
    height, width = photo.shape[:2]
    vertices, low, high = _place(model, surface, params)
    low, high = np.asarray(low), np.asarray(high)
    side = float(_MARGIN * (high - low).max())
    corner = (low + high - side) / 2
    near = np.clip(np.floor(corner - 2), 0, [width, height]).astype(int)
    far = np.clip(np.ceil(corner + side + 2), 0, [width, height]).astype(int)
    crop = np.asarray(photo[near[1] : far[1], near[0] : far[0]], np.float32)
    if crop.size == 0:
        raise ValueError(
            f"expected a head inside the {width} x {height} photo, found it at "
            f"({low[0]:.0f}, {low[1]:.0f}) to ({high[0]:.0f}, {high[1]:.0f})"
        )
    padding = [(0, -length % _CROP_STEP) for length in crop.shape[:2]]
    crop = np.pad(crop, [*padding, (0, 0)], mode="edge")
    shrinking = size / side
    camera = jax.device_get(face_camera(params.pose, size, size))
    camera = camera.replace(
        focal=camera.focal * shrinking, center=(camera.center - corner) * shrinking
    )
    border = np.concatenate([-corner, [width, height] - corner]) * shrinking
    arguments = (
        vertices,
        surface.subdivision.triangles,
        camera,
        crop,
        np.float32(shrinking),
        np.asarray((near - corner) * shrinking, np.float32),
        np.asarray(border, np.float32),
    )
    view = _see(*arguments, RasterizeConfig())
    if view.overflow:
        view = _see(*arguments, RasterizeConfig(max_pairs=int(view.needed)))
    return view


def sample(picture: jax.Array, xy: jax.Array, size: int) -> jax.Array:
    """Reads a picture of the cut-out, whatever its resolution, at pixels [..., 2] of `size`."""
    return sample_texture(picture, jnp.stack([xy[..., 0], size - xy[..., 1]], -1) / size)


@jax.jit
def _place(
    model: MorphableModel, surface: Surface, params: FaceParams
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the fitted vertices [V, 3], and the corners [2] of their box in the photo."""
    shape = face_shape(model, params.identity, params.expression)
    vertices = apply(surface.subdivision, shape)
    xy = project(face_camera(params.pose, 1, 1), vertices)[0]
    return vertices, jnp.min(xy, 0), jnp.max(xy, 0)


@functools.partial(kept, static_argnames="config")
def _see(
    vertices: jax.Array,
    triangles: jax.Array,
    camera: Camera,
    crop: jax.Array,
    shrinking: jax.Array,
    shift: jax.Array,
    border: jax.Array,
    config: RasterizeConfig,
) -> View:
    size = camera.width
    picture = jax.image.scale_and_translate(
        crop, (size, size, 3), (0, 1), jnp.stack([shrinking] * 2), shift[::-1], "cubic"
    )
    picture = jnp.clip(picture, 0.0, 1.0)
    normals = vertex_normals(vertices, triangles)
    facing = normals @ camera.rotation.T * jnp.array([1.0, -1.0, -1.0])
    fragments = rasterize(camera, vertices, triangles, config)
    depth_picture = jnp.where(fragments.triangle >= 0, fragments.depth, jnp.inf)
    xy, depth = project(camera, vertices)
    # On a slope, the pixel's centre lies nearer than the vertex by up to a pixel's worth.
    slope = jnp.sqrt(jnp.maximum(1 - facing[:, 2] ** 2, 0)) / jnp.maximum(facing[:, 2], 0.05)
    limit = depth - _BIAS - 1.5 * slope / camera.focal[0]
    return View(
        vertices=vertices,
        normals=normals,
        facing=facing,
        xy=xy,
        depth=depth,
        visible=_share_beyond(depth_picture, xy, limit),
        rgb=sample(box_downsample(picture, _COARSE), xy, size),
        picture=picture,
        depth_picture=depth_picture,
        pixels_per_metre=camera.focal[0],
        shrinking=shrinking,
        border=border,
        overflow=fragments.overflow,
        needed=fragments.needed,
    )


def _share_beyond(depth_picture: jax.Array, xy: jax.Array, limit: jax.Array) -> jax.Array:
    """The bilinear share [V] of the four pixels around each vertex that see beyond its limit."""
    size = depth_picture.shape[0]
    x, y = (xy - 0.5).T
    share = jnp.zeros_like(limit)
    for row in (jnp.floor(y), jnp.floor(y) + 1):
        for column in (jnp.floor(x), jnp.floor(x) + 1):
            weight = (1 - jnp.abs(x - column)) * (1 - jnp.abs(y - row))
            i, j = (jnp.clip(v, 0, size - 1).astype(jnp.int32) for v in (row, column))
            share += weight * (depth_picture[i, j] >= limit)
    return share
