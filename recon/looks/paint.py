"""Paints one person: skin, lips, eyes, teeth, stubble, hair, brows, lashes and clothes, in one
picture of linear colour and opacity.

    +-------------------+
    |                   |   S rows: the head, on its own texture coordinates
    |       head        |
    |                   |
    +---------+----+----+
    |  hair   |brow|lash|   S / 2 rows: the cards; under brows and lashes neck and clothes
    |         +----+----+
    |         |  bust   |
    +---------+---------+

Axes: S sides of the head's texture, N texels of a part, E places around the neck. Colours are
linear albedo.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from scipy import ndimage

from recon.looks.albedo import AlbedoModel, log_albedo, to_albedo
from recon.looks.bust import Bust
from recon.looks.look import IRIS_RADIUS, Look, Looks
from recon.morphable import MorphableModel
from recon.painting.atlas import at_texels, build_atlas, to_picture
from recon.painting.surface import ramp
from render.image import srgb_to_linear

_IRIS_ANGLE = np.radians(24.0)  # of the iris' edge from the gaze: `IRIS_RADIUS` texels
_WHITE = (0.54, 0.52, 0.50)  # of the eye's white in the pictures; more glows on dark faces
_MOST_WHITE = 0.31
_MOUTH = (0.16, 0.045, 0.04)
_TOOTH = (0.62, 0.57, 0.49)
_SOCKET = (0.85, 0.6, 0.55)  # times the skin
_PLUG = (0.85, 0.77, 0.14, 0.07)  # middle and half sides of the chart behind the lips, u and v
_NUM_TEETH = 12  # across the plug
_LASH = (0.012, 0.010, 0.009)
_STUBBLE_LIGHTEST = 0.8  # times the skin
_STUBBLE_GRAIN = 0.12  # how much the skin shows between the hairs of stubble
_HAIR_BLACK = 8.0  # added to the texture's 0..255 before the logarithm
_MOST_DEVIATION = 2.2
_STRANDS = {"afro01": 0.3}  # share of the contrast; its shell is a patchwork
_NECK_WAVES = 3
_GRAIN_SEED = 5


@struct.dataclass
class Clothes:
    """What the shoulders wear; leaves are arrays, so that people batch by `vmap`."""

    color: jax.Array  # [3] linear
    trim: jax.Array  # [3] linear, of the hem and of stripes
    neckline: jax.Array  # [] ring of the bust
    dip: jax.Array  # [] rings that it is deeper in front
    stripes: jax.Array  # [] 0..1
    shoulders: jax.Array  # [] times the width


@struct.dataclass
class Canvas:
    """What the texture of any person is painted with; depends on the model, looks and S alone."""

    lips: jax.Array  # [S, S] in [0, 1]
    beard: jax.Array  # [S, S] in [0, 1] where a beard grows
    grain: jax.Array  # [S, S] of unit variance, of hairs that are shaved
    flesh: jax.Array  # [S, S, 3] log, added: sockets, inner mouth
    eye_texels: jax.Array  # [N] int32, row by row
    eye_directions: jax.Array  # [N, 3] unit, from the middle of the eyeball
    eyes: jax.Array  # [E, 96, 96, 3] linear
    mouth_texels: jax.Array  # [N] int32
    teeth: jax.Array  # [N] share of tooth
    mouth_shade: jax.Array  # [N]
    strands: jax.Array  # [H + 1, S/2, S/2] deviation of hair's log luminance; last bald
    hair_alpha: jax.Array  # [H + 1, S/2, S/2]
    small_alpha: jax.Array  # [B + L, S/4, S/4]
    neck_texels: jax.Array  # [S/2] int32 at the neck's edge, all around
    neck_waves: jax.Array  # [., S/2] orthonormal functions around the neck
    cloth: jax.Array  # [S/4, S/2] log shade of folds
    num_brows: int = struct.field(pytree_node=False)
    num_rings: int = struct.field(pytree_node=False)

    @property
    def size(self) -> int:
        return self.lips.shape[0]


def build_canvas(model: MorphableModel, looks: Looks, bust: Bust, size: int) -> Canvas:
    """Lays out everything for textures of `size`, a multiple of four, on the host."""
    atlas = build_atlas(model.uvs, model.uv_triangles, model.triangles, size)

    def picture(values):
        return np.asarray(to_picture(atlas, at_texels(atlas, jnp.asarray(values))))

    regions = {name: picture(share[:, None])[..., 0] for name, share in model.regions.items()}
    places = picture(model.mean)
    rng = np.random.default_rng(_GRAIN_SEED)
    eye_texels, eye_directions = _eyeballs(model, regions["eyeballs"], places)
    mouth = np.flatnonzero(np.maximum(regions["inner_mouth"], regions["mouth_plug"]) > 0.5)
    plug_texels, teeth, shade = _mouth(size, mouth)
    strands, alpha = _hair(looks, size // 2)
    edge = np.asarray(bust.edge).reshape(-1, _edge_length(bust))[0]
    real = {
        "lips": regions["lips"],
        "beard": _beard_zone(places, regions),
        "grain": _grain(rng, size),
        "flesh": np.log(_SOCKET) * regions["sockets"][..., None],
        "eye_directions": eye_directions,
        "eyes": srgb_to_linear(jnp.asarray(looks.eyes, jnp.float32) / 255.0),
        "teeth": teeth,
        "mouth_shade": shade,
        "strands": strands,
        "hair_alpha": alpha,
        "small_alpha": _shrunk(np.asarray(looks.small_textures, np.float32) / 255, size // 4),
        "neck_waves": _waves(size // 2),
        "cloth": _folds(rng, size // 4, size // 2),
    }
    whole = {
        "eye_texels": eye_texels,
        "mouth_texels": plug_texels,
        "neck_texels": _texels_of(model, edge, size, size // 2),
    }
    return Canvas(
        **{name: jnp.asarray(value, jnp.float32) for name, value in real.items()},
        **{name: jnp.asarray(value, jnp.int32) for name, value in whole.items()},
        num_brows=len(looks.brow_names),
        num_rings=bust.edge.shape[0] // _edge_length(bust),
    )


def paint_look(
    look: Look, clothes: Clothes, albedo_model: AlbedoModel, canvas: Canvas
) -> jax.Array:
    """Returns the texture [3 S / 2, S, 4] of a person: linear albedo, and opacity."""
    head = _paint_head(look, albedo_model, canvas)
    size = canvas.size
    texture = jnp.ones((size * 3 // 2, size, 4), head.dtype)
    texture = texture.at[:size, :, :3].set(head)
    strands = canvas.strands[look.hair]
    hair = look.hair_color * jnp.exp(look.hair_contrast * strands)[..., None]
    parts = [
        (size, 0, jnp.minimum(hair, 1.0), canvas.hair_alpha[look.hair]),
        (size, size // 2, look.brow_color, canvas.small_alpha[look.brow]),
        (
            size,
            3 * size // 4,
            jnp.array(_LASH),
            canvas.small_alpha[canvas.num_brows + look.lash],
        ),
        (5 * size // 4, size // 2, _paint_bust(head, clothes, canvas), None),
    ]
    for top, left, color, alpha in parts:
        shape = color.shape[:2] if alpha is None else alpha.shape
        alpha = jnp.ones(shape) if alpha is None else alpha
        rgb = jnp.broadcast_to(color, (*shape, 3))
        part = jnp.concatenate([rgb, alpha[..., None]], -1).astype(texture.dtype)
        texture = lax.dynamic_update_slice(texture, part, (top, left, 0))
    return texture


def neckline(clothes: Clothes, uvs: jax.Array, num_rings: int) -> jax.Array:
    """Returns how many rings below the hem of the clothes points of the bust [..., 2] lie."""
    ring = (1.0 - uvs[..., 1]) * (num_rings - 1)
    angle = (uvs[..., 0] - 0.5) * 2 * jnp.pi  # zero in front
    return ring - clothes.neckline - clothes.dip * jnp.exp(-((angle / 0.55) ** 2))


def _paint_head(look: Look, albedo_model: AlbedoModel, canvas: Canvas) -> jax.Array:
    """Skin [S, S, 3], with all that is painted on it."""
    logs = log_albedo(albedo_model, look.tone, look.detail, look.contrast)
    logs = logs + canvas.lips[..., None] * look.lip_tint + canvas.flesh
    skin = to_albedo(logs)
    hairy = albedo_model.hair_zone * (1.0 + 0.15 * albedo_model.stubble_pattern)
    cover = look.stubble * hairy
    cover = jnp.maximum(cover, look.beard * canvas.beard * (1 + _STUBBLE_GRAIN * canvas.grain))
    cover = jnp.clip(cover, 0.0, 1.0)[..., None]
    # Short hairs only darken: white ones look like the skin between them.
    skin = skin + cover * (jnp.minimum(look.hair_color * 0.8, skin * _STUBBLE_LIGHTEST) - skin)
    flat = skin.reshape(-1, 3)
    eyes = _paint_eyes(look, canvas)
    flat = flat.at[canvas.eye_texels].set(eyes, mode="promise_in_bounds", unique_indices=True)
    mouth = jnp.array(_MOUTH) * canvas.mouth_shade[:, None]
    tooth = jnp.array(_TOOTH) * look.teeth * canvas.mouth_shade[:, None]
    mouth = mouth + canvas.teeth[:, None] * (tooth - mouth)
    flat = flat.at[canvas.mouth_texels].set(mouth, mode="promise_in_bounds", unique_indices=True)
    return flat.reshape(skin.shape)


def _paint_eyes(look: Look, canvas: Canvas) -> jax.Array:
    """Colours [N, 3] of the eyeballs' texels: a disc about the gaze, as azimuthal maps have it."""
    yaw, pitch = look.gaze
    forward = jnp.array([jnp.sin(yaw) * jnp.cos(pitch), jnp.sin(pitch), jnp.cos(yaw)])
    forward = forward / jnp.linalg.norm(forward)
    right = jnp.cross(jnp.array([0.0, 1.0, 0.0]), forward)
    right = right / jnp.linalg.norm(right)
    up = jnp.cross(forward, right)
    x, y, z = (canvas.eye_directions @ axis for axis in (right, up, forward))
    sine = jnp.maximum(jnp.sqrt(x * x + y * y), 1e-6)
    angle = jnp.arctan2(sine, z)
    radius = angle * (IRIS_RADIUS / _IRIS_ANGLE)
    side = canvas.eyes.shape[1]
    reach = jnp.minimum(radius, side / 2 - 2.0)
    column = side / 2 - 0.5 + reach * x / sine
    row = side / 2 - 0.5 - reach * y / sine
    color = _bilinear(canvas.eyes[look.eye], row, column)
    is_iris = jax.nn.sigmoid((IRIS_RADIUS - radius) * 1.5)[:, None]
    white = jnp.minimum(color * jnp.array(_WHITE), _MOST_WHITE)
    white = white * jnp.clip(1.25 - 0.5 * angle, 0.35, 1.0)[:, None]  # rounder, for the corners
    lid = 1 - 0.45 * jnp.clip(canvas.eye_directions[:, 1:2] * 4.0, 0.0, 1.0)  # its shadow
    return (is_iris * color * look.iris_gain + (1 - is_iris) * white) * lid


def _paint_bust(head: jax.Array, clothes: Clothes, canvas: Canvas) -> jax.Array:
    """Neck and clothes [S/4, S/2, 3]."""
    height, width = canvas.cloth.shape
    edge = head.reshape(-1, 3)[canvas.neck_texels]  # [S/2, 3]
    middle = jnp.mean(edge, 0)
    waves = canvas.neck_waves
    edge = waves.T @ (waves @ (edge - middle))  # texel by texel it would run down in streaks
    down = jnp.linspace(0.0, 1.0, height)[:, None]
    skin = middle + jnp.exp(-12.0 * down)[..., None] * edge
    uvs = jnp.stack(jnp.broadcast_arrays((jnp.arange(width) + 0.5)[None] / width, 1.0 - down), -1)
    below = neckline(clothes, uvs, canvas.num_rings)[..., None]
    is_cloth = jnp.clip(below * 8.0 + 0.5, 0.0, 1.0)
    stripe = jnp.clip(4.0 * jnp.sin(2 * jnp.pi * (1 - uvs[..., 1:]) * 11.0), 0.0, 1.0)
    is_trim = jnp.maximum(clothes.stripes * stripe, (below < 0.35) * 1.0)
    cloth = clothes.color + is_trim * (clothes.trim - clothes.color)
    cloth = cloth * jnp.exp(canvas.cloth)[..., None]
    # The hem shades the skin above it.
    skin = skin * (1.0 - 0.35 * jnp.clip(1.0 + below * 3.0, 0.0, 1.0))
    return skin + is_cloth * (cloth - skin)


def _bilinear(picture: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
    """Reads a picture [H, W, C] at rows and columns [N] inside of it."""
    top, left = jnp.floor(row), jnp.floor(column)
    fy, fx = (row - top)[:, None], (column - left)[:, None]
    i, j = top.astype(jnp.int32), left.astype(jnp.int32)

    def at(di, dj):
        return picture.at[i + di, j + dj].get(mode="promise_in_bounds")

    return (at(0, 0) * (1 - fx) + at(0, 1) * fx) * (1 - fy) + (
        at(1, 0) * (1 - fx) + at(1, 1) * fx
    ) * fy


def _edge_length(bust: Bust) -> int:
    """Places on a ring: the edge's first vertex comes again at the seam."""
    edge = np.asarray(bust.edge)
    return int(np.flatnonzero(edge == edge[0])[1]) + 1


def _eyeballs(
    model: MorphableModel, region: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The texels of both eyeballs, and where they lie seen from the middle of their own."""
    texels = np.flatnonzero(region > 0.5)
    points = places.reshape(-1, 3)[texels]
    mean = np.asarray(model.mean)[np.asarray(model.regions["eyeballs"]) > 0.5]
    directions = np.zeros_like(points)
    for side in (1, -1):
        own = mean[side * mean[:, 0] > 0]
        middle = (own.min(0) + own.max(0)) / 2
        here = side * points[:, 0] > 0
        directions[here] = points[here] - middle
    return texels, directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _mouth(size: int, texels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The texels of the mouth, the share of tooth of each, and its shade."""
    u, v, half_u, half_v = _PLUG
    row, column = np.divmod(texels, size)
    a = ((column + 0.5) / size - u) / half_u
    b = (1 - (row + 0.5) / size - v) / half_v
    is_plug = ramp(-np.hypot(a, b), -1.15, -1.0)
    upper = ramp(b, 0.16, 0.3) * ramp(-np.abs(a), -0.86, -0.7)
    lower = 0.5 * ramp(-b, 0.72, 0.85) * ramp(-np.abs(a), -0.7, -0.5)
    gap = np.abs(np.sin(np.pi * (a * _NUM_TEETH / 2 + 0.5)))
    teeth = is_plug * np.maximum(upper, lower) * (0.78 + 0.22 * np.sqrt(gap))
    shade = 1 - 0.55 * np.clip(np.abs(a), 0, 1) ** 2 - 0.25 * np.clip(-b, 0, 1)
    return texels, teeth, shade


def _grain(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise [size, size] of unit variance, a little wider than a texel."""
    noise = ndimage.gaussian_filter(rng.normal(size=(size, size)), 0.7)
    return noise / noise.std()


def _beard_zone(places: np.ndarray, regions: dict[str, np.ndarray]) -> np.ndarray:
    """Where a beard grows [S, S]: jaw, chin, around the mouth, and a little down the throat."""
    x, y, z = np.abs(places[..., 0]), places[..., 1], places[..., 2]
    top = np.interp(z, [-0.01, 0.02, 0.055, 0.08], [0.0, -0.022, -0.042, -0.037])
    zone = ramp(top - y, -0.010, 0.016)
    zone = zone * ramp(z, -0.012, 0.006) * ramp(y, -0.112, -0.094)
    corner = np.exp(-(((x - 0.013) / 0.010) ** 2) - ((y + 0.070) / 0.006) ** 2)
    lips = np.clip(regions["lips"] * 2, 0, 1)
    skin = np.clip(regions["face"] + regions["neck"], 0, 1)
    return zone * skin * (1 - lips) * (1 - 0.5 * corner)


def _hair(looks: Looks, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Deviations of the strands' log luminance, and alpha [H + 1, size, size]; the last is none."""
    light, alpha = np.moveaxis(np.asarray(looks.hair_textures, np.float32), -1, 0)
    alpha = alpha / 255
    logs = np.log(light + _HAIR_BLACK)
    counted = alpha * (light > 4)  # some have black between their strands
    total = counted.sum((1, 2), keepdims=True)
    mean = (counted * logs).sum((1, 2), keepdims=True) / total
    sd = np.sqrt((counted * (logs - mean) ** 2).sum((1, 2), keepdims=True) / total)
    deviation = np.clip((logs - mean) / sd, -_MOST_DEVIATION, _MOST_DEVIATION)
    deviation *= np.array([_STRANDS.get(name, 1.0) for name in looks.hair_names])[:, None, None]
    cover = np.maximum(_shrunk(alpha, size), 1e-4)
    strands = _shrunk(deviation * alpha, size) / cover
    none = np.zeros((1, size, size), np.float32)
    return np.concatenate([strands, none]), np.concatenate([cover, none])


def _shrunk(pictures: np.ndarray, size: int) -> np.ndarray:
    """Pictures [N, H, W] at another size [N, size, size], averaged over what a texel covers."""
    shape = (len(pictures), size, size)
    return np.asarray(jax.image.resize(jnp.asarray(pictures), shape, "linear", antialias=True))


def _folds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Log shade of cloth [height, width]: soft folds that run down, and a weave."""
    coarse = jax.image.resize(jnp.asarray(rng.normal(size=(4, 14))), (height, width), "cubic")
    return 0.10 * np.asarray(coarse) + 0.03 * rng.normal(size=(height, width))


def _waves(count: int) -> np.ndarray:
    """Sines and cosines [2 W, count] around a ring, orthonormal."""
    angle = 2 * np.pi * (np.arange(count) + 0.5) / count
    numbers = np.arange(1, _NECK_WAVES + 1)[:, None]
    return np.concatenate([np.sin(numbers * angle), np.cos(numbers * angle)]) * np.sqrt(2 / count)


def _texels_of(model: MorphableModel, loop: np.ndarray, size: int, count: int) -> np.ndarray:
    """Texels [count] at the vertices of a loop, evenly along its places."""
    row_of = np.zeros(model.mean.shape[0], int)
    row_of[np.asarray(model.triangles).ravel()] = np.asarray(model.uv_triangles).ravel()
    uv = np.asarray(model.uvs)[row_of[loop]]
    column = np.clip((uv[:, 0] * size).astype(int), 0, size - 1)
    row = np.clip(((1 - uv[:, 1]) * size).astype(int), 0, size - 1)
    nearest = np.round(np.linspace(0, len(loop) - 1, count)).astype(int)
    return (row * size + column)[nearest]
