"""Triangle meshes: normals and subdivision.

Axes: V vertices, T triangles, U texture coordinates. Triangles are counter-clockwise seen from
outside. Texture coordinates: u right, v up, (0, 0) at the bottom left of the picture.
"""

import jax
from flax import struct


@struct.dataclass
class Mesh:
    """A triangle mesh with optional colours and texture (sRGB-encoded, in [0, 1])."""

    vertices: jax.Array  # [V, 3] metres
    triangles: jax.Array  # [T, 3] int32
    colors: jax.Array | None = None  # [V, 3]
    uvs: jax.Array | None = None  # [U, 2]
    uv_triangles: jax.Array | None = None  # [T, 3] int32, rows of `uvs`
    texture: jax.Array | None = None  # [H, W, 3], row 0 on top
