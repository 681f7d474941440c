"""How people look: the skins, eyes, hair, brows and lashes there are, and one person's choice.

Axes: V vertices of the default head, N of all cards, T triangles of all cards; S skins, E eyes,
H hair styles, B brows, L lashes, C = H + B + L cards, in this order.
Units: metres; y up, z out of the face, x to the subject's left. Row 0 of a picture is on top.
"""

import jax
from flax import struct

NUM_MODES = 16  # of the albedo model
BALD = -1  # the hair style that is none


@struct.dataclass
class Looks:
    """What the default head can look like, as the file has it; `looks_io` reads it.

    A card is a sheet of alpha-textured triangles that hangs on the head: position = sum of
    weight * anchor + offset, for every identity and expression.
    """

    skins: jax.Array  # [S, 345, 183, 3] uint8 sRGB, the texels of the head's skin chart
    skin_window: jax.Array  # [4] u0, v0, u1, v1 of their outer edges, v up
    eyes: jax.Array  # [E, 96, 96, 3] uint8 sRGB, one eye from the front; see `IRIS_RADIUS`
    card_anchors: jax.Array  # [N, 3] int32 vertices of the head
    card_weights: jax.Array  # [N, 3] sum to one
    card_offsets: jax.Array  # [N, 3] metres
    card_uvs: jax.Array  # [N, 2] in the card's own texture, v up
    card_triangles: jax.Array  # [T, 3] int32 rows from the card's first vertex on; two-sided
    hair_textures: jax.Array  # [H, 512, 512, 2] uint8 sRGB luminance, alpha
    small_textures: jax.Array  # [B + L, 256, 256] uint8 alpha of brows and lashes
    # Irradiance / pi = transfer @ radiance, 9 harmonics of `render.harmonics` in the head's axes,
    # with the shadows of the mean head and its hair: row 0 bald, row 1 + h under hair h.
    head_transfer: jax.Array  # [1 + H, V, 9]
    hair_transfer: jax.Array  # [N of hair, 9]
    # Card i owns rows start[i]:start[i + 1].
    card_vertex_start: tuple[int, ...] = struct.field(pytree_node=False)  # [C + 1]
    card_triangle_start: tuple[int, ...] = struct.field(pytree_node=False)  # [C + 1]
    skin_names: tuple[str, ...] = struct.field(pytree_node=False)
    eye_names: tuple[str, ...] = struct.field(pytree_node=False)
    hair_names: tuple[str, ...] = struct.field(pytree_node=False)
    brow_names: tuple[str, ...] = struct.field(pytree_node=False)
    lash_names: tuple[str, ...] = struct.field(pytree_node=False)


IRIS_RADIUS = 22.5  # texels of `Looks.eyes`, from the middle; 24 degrees from the gaze


@struct.dataclass
class Look:
    """One person's look. All leaves are arrays, so that people batch by `vmap`."""

    tone: jax.Array  # [3] log(linear albedo + 0.008), mean over the face
    detail: jax.Array  # [16] scores of the albedo model's modes, in standard deviations
    contrast: jax.Array  # [] times the detail
    lip_tint: jax.Array  # [3] log, added on the lips
    brow: jax.Array  # [] int32 of `Looks.brow_names`
    brow_color: jax.Array  # [3] linear
    lash: jax.Array  # [] int32 of `Looks.lash_names`
    eye: jax.Array  # [] int32 of `Looks.eye_names`
    iris_gain: jax.Array  # [3] times the linear colour of the iris
    gaze: jax.Array  # [2] radians to the subject's left, up
    hair: jax.Array  # [] int32 of `Looks.hair_names`; BALD
    hair_color: jax.Array  # [3] linear
    hair_contrast: jax.Array  # [] log colour per standard deviation of the texture
    hair_scale: jax.Array  # [] times the offsets of the hair cards
    stubble: jax.Array  # [] 0..1 cover of hair-coloured paint on the skull
    beard: jax.Array  # [] 0..1
    teeth: jax.Array  # [] brightness
