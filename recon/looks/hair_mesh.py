"""A style of hair as a part of a head's mesh, in the colours of a photo.

Axes: N vertices and T triangles of a style, P points on it, V vertices of the refined head, S side
of its texture. Colours are sRGB in [0, 1] unless said otherwise.
"""

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from recon.looks.bake_light import hair_normals
from recon.looks.hair_style import (
    TEXTURE_SIDE,
    StyleCards,
    rooted_on,
    sample_cards,
    style_cards,
    texels_of,
)
from recon.looks.look import Looks
from recon.looks.photo_hair import Screen, Style
from recon.painting.hair_mask import HairMask
from recon.painting.sight import View
from recon.painting.surface import Surface, ramp
from render import harmonics
from render.image import area_downsample, linear_to_srgb, srgb_to_linear
from render.mesh import Mesh

_CONTRAST = 0.35  # log colour per standard deviation of the texture
_PHOTO_CONTRAST = 0.15  # of the texture's strands, where the photo shows its own
_SPACING = 1.5e-3  # metres between points on a card that are lit
_SKY = np.array([1.0, -0.5, *[0.0] * 7])  # harmonics of radiance, brighter above
_SHADE = 0.35, 1.25  # of the mean light
_FACING = 0.05, 0.6  # cosine to the viewer from which, and up to which, the photo tints
_LAYER = 8e-3  # metres of depth of the hair that a photo tints
_CEILING = 1.2  # log light by which a tint differs
_DARK = 0.008  # linear; below it all is black
_LIGHT_CELLS = 256  # of the texture's side, over which light is averaged
_LIGHT_BLUR = 0.8, 6.0  # cells: usual, and where no point is near
_Z_LIMIT, _LUMINANCE_FLOOR = 2.2, 8.0


def dress(
    mesh: Mesh,
    looks: Looks,
    style: Style,
    color: np.ndarray,
    mask: HairMask | None,
    view: View,
    surface: Surface,
) -> Mesh:
    """Hangs a style on a painted head: alpha-textured triangles after the head's own.

    Args:
      mesh: the head, with a texture [S, S, 3].
      looks: of the head.
      style: which, and its scale.
      color: [3] of the hair.
      mask: what the photo shows of hair, which tints it; None tints nothing.
      view: of the photo, on the host.
      surface: of the model, on the host.
    """
    cards = style_cards(looks, style.number)
    places = rooted_on(cards, view.vertices) + cards.offsets * style.scale
    samples = sample_cards(cards, places, _SPACING)
    light = samples.of(np.log(_shade(cards))[:, None]) * np.ones(3)
    weight = np.zeros(len(light))
    if mask is not None:
        normals = samples.of(hair_normals(places, cards.triangles))
        screen = Screen(mask, view, surface)
        tint, weight = _tint(mask, screen, samples.of(places), normals, view, color)
        light = light + weight[:, None] * (tint - light)
    lit = np.concatenate([light, weight[:, None]], 1)
    texture = _texture(cards, color, _in_texture(samples.of(cards.uvs), lit))
    column, row = texels_of(cards.uvs, TEXTURE_SIDE)
    return _joined(mesh, places, cards, texture, texture[row, column, :3])


def _shade(cards: StyleCards) -> np.ndarray:
    """Light [N] from an even sky on a style, relative to its mean."""
    light = cards.transfer @ (_SKY / harmonics.CONSTANT)
    return np.clip(light / light.mean(), *_SHADE)


def _tint(
    mask: HairMask,
    screen: Screen,
    places: np.ndarray,
    normals: np.ndarray,
    view: View,
    color: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Log light [P, 3] that turns the colour into the photo's, and how far [P] that counts."""
    on_screen = screen.place(places)
    (row, column), depth = screen.pixels(on_screen), on_screen[:, 2]
    nearest = np.full(mask.share.shape, np.inf)
    inside = row >= 0
    np.minimum.at(nearest, (row[inside], column[inside]), depth[inside])
    nearest = ndimage.minimum_filter(nearest, 3)
    to_viewer = np.linalg.lstsq(np.float64(view.normals), np.float64(view.facing[:, 2]))[0]
    facing = ramp(normals @ to_viewer, *_FACING)
    in_front = inside & (depth < nearest[row, column] + _LAYER)
    sure = ndimage.minimum_filter(mask.share > 0.5, 3)  # nothing of what is beside hair
    shown = _linear(mask.picture)[row, column]
    tint = np.log((shown + _DARK) / (_linear(color) + _DARK))
    return np.clip(tint, -_CEILING, _CEILING), facing * in_front * sure[row, column]


def _in_texture(uvs: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Lays values [P, D] at texture coordinates out [512, 512, D], blurred to close gaps.

    Where several cards share texels, these get the mean.
    """
    column, row = texels_of(uvs, _LIGHT_CELLS)
    cell = row * _LIGHT_CELLS + column
    columns = [*values.T, np.ones(len(values))]
    sums = np.stack([np.bincount(cell, c, _LIGHT_CELLS**2) for c in columns], -1)
    sums = sums.reshape(_LIGHT_CELLS, _LIGHT_CELLS, -1)
    near, wide = (ndimage.gaussian_filter(sums, (s, s, 0), truncate=4) for s in _LIGHT_BLUR)
    near += 1e-3 * wide
    light = near[..., :-1] / np.maximum(near[..., -1:], 1e-9)
    zoom = TEXTURE_SIDE // _LIGHT_CELLS
    return light.repeat(zoom, 0).repeat(zoom, 1)


def _texture(cards: StyleCards, color: np.ndarray, lit: np.ndarray) -> np.ndarray:
    """The texture [512, 512, 4] of hair of a colour [3].

    Args:
      cards: with the luminance and alpha of the strands.
      color: sRGB.
      lit: [512, 512, 4] log light, and how far it is the photo's, which shows strands of its own.
    """
    luminance, alpha = np.moveaxis(cards.texture.astype(np.float64), -1, 0)
    logs = np.log(luminance + _LUMINANCE_FLOOR)
    mean = np.average(logs, weights=alpha)
    deviation = np.sqrt(np.average((logs - mean) ** 2, weights=alpha))
    strands = np.clip((logs - mean) / deviation, -_Z_LIMIT, _Z_LIMIT)[..., None]
    contrast = _CONTRAST + (_PHOTO_CONTRAST - _CONTRAST) * lit[..., 3:]
    linear = (_linear(color) + _DARK) * np.exp(lit[..., :3] + contrast * strands) - _DARK
    rgb = np.asarray(linear_to_srgb(jnp.clip(linear, 0.0, 1.0)))
    return np.concatenate([rgb, alpha[..., None] / 255.0], -1).astype(np.float32)


def _linear(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(srgb_to_linear(jnp.asarray(rgb)), np.float64)


def _joined(
    mesh: Mesh, places: np.ndarray, cards: StyleCards, texture: np.ndarray, colors: np.ndarray
) -> Mesh:
    """The head and its hair as one mesh: the hair's texture to the right of the head's."""
    head = np.asarray(mesh.texture)
    side = len(head)
    beside = min(side, TEXTURE_SIDE)
    if beside < TEXTURE_SIDE:
        texture = area_downsample(texture, beside, beside)
    wide = np.ones((side, side + beside, 4), np.float32)
    wide[:, :side, :3] = head
    wide[:beside, side:] = texture
    wide[beside:, side:] = 0.0
    width, first = side + beside, len(mesh.vertices)
    uvs = np.asarray(mesh.uvs) * [side / width, 1.0]
    hair_uvs = cards.uvs * [beside, beside] / [width, side] + [side / width, 1 - beside / side]
    return Mesh(
        vertices=np.concatenate([mesh.vertices, places]).astype(np.float32),
        triangles=np.concatenate([mesh.triangles, first + cards.triangles]),
        colors=np.concatenate([mesh.colors, colors]).astype(np.float32),
        uvs=np.concatenate([uvs, hair_uvs]).astype(np.float32),
        uv_triangles=np.concatenate([mesh.uv_triangles, len(uvs) + cards.triangles]),
        texture=wide,
        num_opaque=len(mesh.triangles),
    )
