"""The hair of a photo as cards: which style, how long, in which colours; or none.

Every style is laid over the photo in the head's pose, its offsets at several scales, and compared
with what the photo shows of hair. A style is worn only where it says more of that than hair painted
on the skull does.

Axes: N vertices and T triangles of a style, P points sampled on it, G, H rows and columns of the
hair mask, V vertices of the refined head. Colours are sRGB in [0, 1] unless said otherwise.
"""

import dataclasses
import itertools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from recon.looks.bake_light import hair_normals
from recon.looks.look import Looks
from recon.painting import shading
from recon.painting.hair_mask import HairMask
from recon.painting.sight import View
from recon.painting.surface import Surface, ramp
from render import harmonics
from render.image import area_downsample, linear_to_srgb, srgb_to_linear
from render.mesh import Mesh

AUTO, NONE = "auto", "none"  # of `HairWish.style`, beside the names of styles


@dataclasses.dataclass(frozen=True)
class HairWish:
    """Which hair a head is to have."""

    style: str = AUTO  # AUTO chooses one, or none where that is better; NONE is paint alone
    color: tuple[float, float, float] | None = None  # sRGB; None: the photo's


class Style(NamedTuple):
    """A style that was compared with the photo."""

    number: int  # of `Looks.hair_names`
    scale: tuple[float, float, float]  # of the offsets along x, y and z
    misfit: float  # area where its silhouette and the photo's hair differ, of that of the hair
    painted_misfit: float  # the same of hair that is paint alone


class StyleCards(NamedTuple):
    """One style's cards, on the host."""

    anchors: np.ndarray  # [N, 3]
    weights: np.ndarray  # [N, 3]
    offsets: np.ndarray  # [N, 3]
    uvs: np.ndarray  # [N, 2]
    triangles: np.ndarray  # [T, 3]
    texture: np.ndarray  # [512, 512, 2] luminance, alpha in [0, 255]
    transfer: np.ndarray  # [N, 9]


_ACROSS_SCALES = 0.4, 0.6, 0.8, 1.0, 1.2  # of the offsets along x and z
_UP_SCALES = 0.3, 0.6, 0.9, 1.2  # along y: hair may lie flat on top and be wide at the sides
_ACROSS = np.array([1.0, 0.0, 1.0])
_GAIN = 0.05  # of the misfit, below which paint is left alone
_CONTRAST = 0.35  # log colour per standard deviation of the texture
_DARKER = 0.2, 0.6  # quantiles of lightness between which hair shows its colour: no highlights
_PHOTO_CONTRAST = 0.15  # of the texture's strands, where the photo shows its own
_SPACING, _FINE_SPACING = 3e-3, 1.5e-3  # metres between points on a card: outline, light
_OPAQUE = 100  # alpha in [0, 255]
_SLACK = 4e-3  # metres that hair may lie behind the head's surface and still be seen
_PLASTIC = np.array([0.7548776662, 0.5698402910])  # Roberts 2018: an even sequence in the plane
_SKY = np.array([1.0, -0.5, *[0.0] * 7])  # harmonics of radiance, brighter above
_SHADE = 0.35, 1.25  # of the mean light
_FACING = 0.05, 0.6  # cosine to the viewer from which, and up to which, the photo tints
_LAYER = 8e-3  # metres of depth of the hair that a photo tints
_CEILING = 1.2  # log light by which a tint differs
_DARK = 0.008  # linear; below it all is black
_LIGHT_CELLS = 256  # of the texture's side, over which light is averaged
_LIGHT_BLUR = 0.8, 6.0  # cells: usual, and where no point is near
_Z_LIMIT, _LUMINANCE_FLOOR = 2.2, 8.0
_TEXTURE_SIDE = 512


def style_cards(looks: Looks, number: int) -> StyleCards:
    """Fetches one style to the host."""
    own = slice(*looks.card_vertex_start[number : number + 2])
    triangles = slice(*looks.card_triangle_start[number : number + 2])
    fields = (looks.card_anchors, looks.card_weights, looks.card_offsets, looks.card_uvs)
    return StyleCards(
        *(np.asarray(field)[own] for field in fields),
        triangles=np.asarray(looks.card_triangles)[triangles],
        texture=np.asarray(looks.hair_textures)[number],
        transfer=np.asarray(looks.hair_transfer)[own],
    )


def choose_style(
    looks: Looks,
    mask: HairMask | None,
    view: View,
    surface: Surface,
    painted: np.ndarray,
    wish: HairWish,
) -> Style | None:
    """Finds the style that covers what the photo shows of hair, and at which scale.

    Args:
      looks: of the head.
      mask: what the photo shows, None if no hair.
      view: of the photo, on the host.
      surface: of the model, on the host.
      painted: [V] share of hair where it is paint on the head.
      wish: which style.

    Returns:
      None where paint says more, unless a style is wished for.
    """
    if wish.style == NONE or (wish.style == AUTO and mask is None):
        return None
    if mask is None:
        return Style(looks.hair_names.index(wish.style), (1.0, 1.0, 1.0), 0.0, 0.0)
    screen = _Screen(mask, view, surface)
    paint = screen.cover_of(painted > 0.5)
    painted_misfit = screen.misfit(paint)
    tried = []
    for number, name in enumerate(looks.hair_names):
        if wish.style in (AUTO, name):
            cards = style_cards(looks, number)
            base, offsets = _opaque(cards, _on_head(cards, view.vertices))
            base = screen.place(base)
            across, up = (screen.turn(offsets * axes) for axes in (_ACROSS, 1 - _ACROSS))
            for scale in itertools.product(_ACROSS_SCALES, _UP_SCALES):
                cover = screen.cover(base + scale[0] * across + scale[1] * up)
                tried.append((screen.misfit(paint | cover), number, scale))
    misfit, number, (wide, high) = min(tried)
    if wish.style == AUTO and misfit > painted_misfit - _GAIN:
        return None
    return Style(number, (wide, high, wide), misfit, painted_misfit)


class _Screen:
    """The pixels of a mask, and the head in front of which hair is seen or not."""

    def __init__(self, mask: HairMask, view: View, surface: Surface):
        self._mask, self._view = mask, view
        self._shape = mask.share.shape
        size = len(view.depth_picture)
        column, row = (
            np.clip(np.floor(v), 0, size - 1).astype(int) for v in np.moveaxis(mask.xy, -1, 0)
        )
        self._depth = np.where(mask.is_head, view.depth_picture[row, column], np.inf)
        # The camera is affine: three coordinates to column, row and depth.
        points = np.concatenate([view.vertices, np.ones((len(view.vertices), 1))], 1)
        corner = mask.xy[0, 0] - 0.5 * mask.cell
        seen = np.concatenate([(view.xy - corner) / mask.cell, view.depth[:, None]], 1)
        self._camera = np.linalg.lstsq(points[::16], seen[::16], rcond=None)[0]
        # The skull is hair whether that is paint or cards.
        is_skull = self.cover_of(surface.parts["skull"] > 0.5) & mask.is_head
        self._weight = mask.weight * ~is_skull

    def place(self, points: np.ndarray) -> np.ndarray:
        """Column, row and depth [P, 3] of points [P, 3]."""
        return points @ self._camera[:3] + self._camera[3]

    def turn(self, vectors: np.ndarray) -> np.ndarray:
        """How places [P, 3] change when points move by [P, 3]."""
        return vectors @ self._camera[:3]

    def pixels(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row and column [P] of places [P, 3]; -1 outside."""
        column, row = np.floor(places[:, :2]).astype(int).T
        outside = (row < 0) | (row >= self._shape[0]) | (column < 0) | (column >= self._shape[1])
        return np.where(outside, -1, row), np.where(outside, -1, column)

    def cover_of(self, is_part: np.ndarray) -> np.ndarray:
        """Where [G, H] vertices [V] of a part of the head are seen."""
        shown = is_part & (self._view.visible > 0.5)
        return self._closed(*self.pixels(self.place(self._view.vertices[shown])))

    def cover(self, places: np.ndarray) -> np.ndarray:
        """Where [G, H] hair with points at places [P, 3] is seen."""
        row, column = self.pixels(places)
        shown = places[:, 2] < self._depth[row, column] + _SLACK
        return self._closed(row[shown], column[shown])

    def _closed(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        cover = np.zeros(self._shape, bool)
        cover[row[row >= 0], column[row >= 0]] = True
        return ndimage.binary_closing(np.pad(cover, 1), np.ones((3, 3)))[1:-1, 1:-1]

    def misfit(self, cover: np.ndarray) -> float:
        """The area off the skull where a silhouette [G, H] is wrong, relative to that of hair."""
        mask = self._mask
        wrong = np.sum(self._weight * np.where(cover, 1 - mask.share, mask.share))
        return float(wrong / max(np.sum(mask.weight * mask.share), 1e-9))


class _Samples(NamedTuple):
    """Points on cards, evenly spread."""

    corners: np.ndarray  # [P, 3] vertices around each
    weights: np.ndarray  # [P, 3] barycentric

    def of(self, values: np.ndarray) -> np.ndarray:
        """Values [P, D] at the points of vertices that have them [N, D]."""
        return np.einsum("pk,pkd->pd", self.weights, values[self.corners])


def _sample(cards: StyleCards, places: np.ndarray, spacing: float) -> _Samples:
    """Spreads points over cards whose vertices are at `places` [N, 3], some `spacing` apart."""
    corners = places[cards.triangles]
    area = np.linalg.norm(np.cross(*(corners[:, k] - corners[:, 0] for k in (1, 2))), axis=1) / 2
    count = np.ceil(area / spacing**2).astype(int)
    triangle = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(triangle)) - np.repeat(np.cumsum(count) - count, count)
    u, v = ((within[:, None] + 1) * _PLASTIC % 1.0).T
    is_over = u + v > 1
    u, v = np.where(is_over, 1 - u, u), np.where(is_over, 1 - v, v)
    return _Samples(cards.triangles[triangle], np.stack([1 - u - v, u, v], 1))


def _opaque(cards: StyleCards, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points where cards are opaque: on the head and offset from there [P, 3] each."""
    samples = _sample(cards, base + cards.offsets, _SPACING)
    column, row = _texels(samples.of(cards.uvs), _TEXTURE_SIDE)
    counts = cards.texture[row, column, 1] > _OPAQUE
    samples = _Samples(samples.corners[counts], samples.weights[counts])
    return samples.of(base), samples.of(cards.offsets)


def _on_head(cards: StyleCards, head: np.ndarray) -> np.ndarray:
    """Where on a head [V, 3] the vertices [N, 3] of cards are rooted."""
    return np.einsum("nk,nkd->nd", cards.weights, head[cards.anchors])


def _texels(uvs: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Column and row [N] of texture coordinates [N, 2] in a picture."""
    return tuple(np.clip((uvs * [1, -1] + [0, 1]) * side, 0, side - 1).astype(int).T)


def color_of(mask: HairMask) -> np.ndarray:
    """The colour [3] of hair: the mean of its darker pixels, without highlights."""
    rgb = mask.picture[mask.share * mask.weight > 0.5]
    light = shading.luma(rgb)
    low, high = np.quantile(light, _DARKER)
    return rgb[(light >= low) & (light <= high)].mean(0)


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
    places = _on_head(cards, view.vertices) + cards.offsets * style.scale
    samples = _sample(cards, places, _FINE_SPACING)
    light = samples.of(np.log(_shade(cards))[:, None]) * np.ones(3)
    weight = np.zeros(len(light))
    if mask is not None:
        normals = samples.of(hair_normals(places, cards.triangles))
        screen = _Screen(mask, view, surface)
        tint, weight = _tint(mask, screen, samples.of(places), normals, view, color)
        light = light + weight[:, None] * (tint - light)
    lit = np.concatenate([light, weight[:, None]], 1)
    texture = _texture(cards, color, _in_texture(samples.of(cards.uvs), lit))
    column, row = _texels(cards.uvs, _TEXTURE_SIDE)
    return _joined(mesh, places, cards, texture, texture[row, column, :3])


def _shade(cards: StyleCards) -> np.ndarray:
    """Light [N] from an even sky on a style, relative to its mean."""
    light = cards.transfer @ (_SKY / harmonics.CONSTANT)
    return np.clip(light / light.mean(), *_SHADE)


def _tint(
    mask: HairMask,
    screen: _Screen,
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
    sure = ndimage.minimum_filter(mask.share * mask.weight, 3)  # nothing of what is beside hair
    shown = _linear(mask.picture)[row, column]
    tint = np.log((shown + _DARK) / (_linear(color) + _DARK))
    return np.clip(tint, -_CEILING, _CEILING), facing * in_front * sure[row, column]


def _in_texture(uvs: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Lays values [P, D] at texture coordinates out [512, 512, D], blurred to close gaps.

    Where several cards share texels, these get the mean.
    """
    column, row = _texels(uvs, _LIGHT_CELLS)
    cell = row * _LIGHT_CELLS + column
    columns = [*values.T, np.ones(len(values))]
    sums = np.stack([np.bincount(cell, c, _LIGHT_CELLS**2) for c in columns], -1)
    sums = sums.reshape(_LIGHT_CELLS, _LIGHT_CELLS, -1)
    near, wide = (ndimage.gaussian_filter(sums, (s, s, 0), truncate=4) for s in _LIGHT_BLUR)
    near += 1e-3 * wide
    light = near[..., :-1] / np.maximum(near[..., -1:], 1e-9)
    zoom = _TEXTURE_SIDE // _LIGHT_CELLS
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
    beside = min(side, _TEXTURE_SIDE)
    if beside < _TEXTURE_SIDE:
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
