"""The pixel contour of a face, its distance map, and distances to it.

The 17 contour landmarks are joined to a line. The thesis rasterizes the line (Bresenham 1965) and
looks distances up in an exact Euclidean distance transform; the distance to the polyline itself is
the same quantity without a map, smooth and exact below a pixel.

Axes: L = 17 landmarks, H and W cells of the map. Lengths in pixels, pixel centres at +0.5.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from flax import struct
from numpy.typing import NDArray
from skimage import draw

from render.transforms import safe_norm, safe_normalize

MAP_SIZE = 512  # cells a side: one pixel each on the thesis' 500-pixel faces, and one compilation


@struct.dataclass
class DistanceMap:
    """Distance to the pixel contour, on a square window around it."""

    values: jax.Array  # [H, W] pixels
    origin: jax.Array  # [2] pixel position of the window's top left corner
    cell: jax.Array  # [] side of a cell, pixels


def pixel_contour(cells: NDArray) -> NDArray:
    """Cells [N, 2] (x, y) of the open polyline through integer cells [L, 2]."""
    pieces = [draw.line(*start, *end) for start, end in itertools.pairwise(cells)]
    return np.concatenate([np.stack(piece, axis=-1) for piece in pieces])


def distance_map(contour_xy: NDArray, size: int = MAP_SIZE) -> DistanceMap:
    """Builds the distance map of a contour [L, 2] on a window twice as large as the contour."""
    low, high = contour_xy.min(0), contour_xy.max(0)
    side = 2.0 * max(float((high - low).max()), 1.0)
    cell = side / size
    origin = 0.5 * (low + high) - 0.5 * side
    on_contour = np.zeros((size, size), bool)
    x, y = pixel_contour(np.floor((contour_xy - origin) / cell).astype(int)).T
    on_contour[y, x] = True
    values = scipy.ndimage.distance_transform_edt(~on_contour) * cell
    return DistanceMap(
        values=jnp.asarray(values, jnp.float32),
        origin=jnp.asarray(origin, jnp.float32),
        cell=jnp.asarray(cell, jnp.float32),
    )


def map_distance(contour: DistanceMap, xy: jax.Array) -> jax.Array:
    """Looks up the distance [...] at pixels `xy` [..., 2], bilinear, past the window too."""
    height, width = contour.values.shape
    uv = (xy - contour.origin) / contour.cell - 0.5
    inside = jnp.clip(uv, 0.0, jnp.array([width - 1.001, height - 1.001], uv.dtype))
    base = jnp.floor(inside).astype(jnp.int32)
    fx, fy = jnp.moveaxis(inside - base, -1, 0)
    x, y = jnp.moveaxis(base, -1, 0)
    v = contour.values
    top = v[y, x] * (1.0 - fx) + v[y, x + 1] * fx
    bottom = v[y + 1, x] * (1.0 - fx) + v[y + 1, x + 1] * fx
    outside = contour.cell * safe_norm(uv - inside)
    return top * (1.0 - fy) + bottom * fy + outside


def polyline_distance(contour_xy: jax.Array, xy: jax.Array) -> jax.Array:
    """Distance [] from a pixel `xy` [2] to the open polyline through `contour_xy` [L, 2]."""
    start, along = contour_xy[:-1], contour_xy[1:] - contour_xy[:-1]
    length_squared = jnp.sum(along**2, -1)
    share = jnp.sum((xy - start) * along, -1) / jnp.maximum(length_squared, 1e-12)
    offset = xy - start - jnp.clip(share, 0.0, 1.0)[:, None] * along  # [L - 1, 2]
    nearest = jnp.argmin(jnp.sum(offset**2, -1))
    return safe_norm(offset[nearest])


def contour_tangents(contour_xy: jax.Array) -> jax.Array:
    """Unit tangents [L, 2] of the polyline at its points, by central differences."""
    ends = jnp.concatenate([contour_xy[:1], contour_xy, contour_xy[-1:]])
    return safe_normalize(ends[2:] - ends[:-2])
