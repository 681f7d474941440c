"""The texture picture of a head: which surface point each texel shows, and its colour.

Axes: V vertices, T triangles, U texture coordinates, S sides of the picture, N texels that show
the surface, C channels. Texture coordinates: u right, v up; rows of pictures run down.

Between the charts every texel repeats the nearest one that shows the surface, so that neither
bilinear look-ups nor mipmaps bring in a foreign colour.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from scipy import ndimage

from render.camera import orthographic_camera
from render.rasterize import rasterize
from render.zbuffer import RasterizeConfig


@struct.dataclass
class Atlas:
    """Where the texels lie on the surface; depends on the model alone."""

    corners: jax.Array  # [N, 3] int32 vertices around each texel
    weights: jax.Array  # [N, 3] barycentric
    place: jax.Array  # [N] int32 pixel of each texel, row by row
    source: jax.Array  # [S, S] int32 texel n that each pixel of the picture repeats


def build_atlas(uvs: jax.Array, uv_triangles: jax.Array, triangles: jax.Array, size: int) -> Atlas:
    """Rasterizes the layout.

    Args:
      uvs: [U, 2] in [0, 1].
      uv_triangles: [T, 3] rows of `uvs`.
      triangles: [T, 3] vertices.
      size: S.

    Raises:
      ValueError: the layout covers no texel.
    """
    flat = jnp.concatenate([uvs, jnp.zeros((uvs.shape[0], 1), uvs.dtype)], -1)
    above, middle = jnp.array([0.5, 0.5, 1.0]), jnp.array([0.5, 0.5, 0.0])
    camera = orthographic_camera(above, middle, size, size, 1.0)
    seen = rasterize(camera, flat, uv_triangles)
    if seen.overflow:
        enough = RasterizeConfig(max_pairs=int(seen.needed))
        seen = rasterize(camera, flat, uv_triangles, enough)
    triangle = np.asarray(seen.triangle)
    is_hit = triangle >= 0
    if not is_hit.any():
        raise ValueError("expected texture coordinates in [0, 1] that enclose an area, found none")
    number = np.cumsum(is_hit).reshape(is_hit.shape) - 1
    row, column = ndimage.distance_transform_edt(
        ~is_hit, return_distances=False, return_indices=True
    )
    return Atlas(
        corners=jnp.asarray(triangles)[triangle[is_hit]],
        weights=jnp.asarray(np.asarray(seen.barycentric)[is_hit]),
        place=jnp.asarray(np.flatnonzero(is_hit), jnp.int32),
        source=jnp.asarray(number[row, column], jnp.int32),
    )


def at_texels(atlas: Atlas, attributes: jax.Array) -> jax.Array:
    """Returns vertex attributes [V, C] at the texels [N, C]."""
    return sum(atlas.weights[:, k, None] * attributes[atlas.corners[:, k]] for k in range(3))


def to_picture(atlas: Atlas, texels: jax.Array) -> jax.Array:
    """Lays texel values [N, C] out as the picture [S, S, C]."""
    return texels[atlas.source]
