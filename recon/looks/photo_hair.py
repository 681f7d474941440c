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

import numpy as np

from recon.looks.hair_style import opaque_points, rooted_on, style_cards
from recon.looks.look import Looks
from recon.painting import shading
from recon.painting.hair_mask import HairMask
from recon.painting.sight import View
from recon.painting.surface import Surface

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


_ACROSS_SCALES = 0.4, 0.6, 0.8, 1.0, 1.2  # of the offsets along x and z
_UP_SCALES = 0.3, 0.6, 0.9, 1.2  # along y: hair may lie flat on top and be wide at the sides
_FINALISTS = 3  # styles that are tried at every scale, the others at a few
_ACROSS = np.array([1.0, 0.0, 1.0])
_STIFFNESS = 0.02  # misfit that a scale other than one is to save, per squared logarithm
_WISHED_STIFFNESS = 0.1  # the same for a style that is wished for, however unlike the photo's
_GAIN = 0.03  # of the misfit, below which paint is left alone
_MOST = 0.5  # misfit of hair that is worn: where half is wrong, the mask shows no hair, but a wall
_DARKER = 0.2, 0.6  # quantiles of lightness between which hair is as light as it is: no highlights
_COLORED = 0.2, 0.9  # and between which it shows its hue: the darkest pixels exaggerate it
_SPACING = 3e-3  # metres between points on a card
_SLACK = 4e-3  # metres that hair may lie behind the head's surface and still be seen


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
    screen = Screen(mask, view, surface)
    paint = screen.cover_of(painted > 0.5)
    painted_misfit = screen.misfit(paint)
    points = {}
    for number, name in enumerate(looks.hair_names):
        if wish.style in (AUTO, name):
            cards = style_cards(looks, number)
            base, offsets = opaque_points(cards, rooted_on(cards, view.vertices), _SPACING)
            parts = (screen.turn(offsets * axes) for axes in (_ACROSS, 1 - _ACROSS))
            points[number] = screen.place(base), *parts

    stiffness = _STIFFNESS if wish.style == AUTO else _WISHED_STIFFNESS

    def try_scales(number, across, up):
        base, wide, high = points[number]
        for scale in itertools.product(across, up):
            misfit = screen.misfit(paint | screen.cover(base + scale[0] * wide + scale[1] * high))
            yield misfit + stiffness * np.sum(np.log(scale) ** 2), misfit, number, scale

    first = [min(try_scales(number, _ACROSS_SCALES[1::2], _UP_SCALES[::2])) for number in points]
    tried = [
        one
        for *_, number, _ in sorted(first)[:_FINALISTS]
        for one in try_scales(number, _ACROSS_SCALES, _UP_SCALES)
    ]
    _, misfit, number, (wide, high) = min(tried)
    if wish.style == AUTO and misfit > min(painted_misfit - _GAIN, _MOST):
        return None
    return Style(number, (wide, high, wide), misfit, painted_misfit)


class Screen:
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
        return self._pixels_closed(*self.pixels(self.place(self._view.vertices[shown])))

    def cover(self, places: np.ndarray) -> np.ndarray:
        """Where [G, H] hair with points at places [P, 3] is seen."""
        row, column = self.pixels(places)
        shown = places[:, 2] < self._depth[row, column] + _SLACK
        return self._pixels_closed(row[shown], column[shown])

    def _pixels_closed(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        cover = np.zeros(self._shape, bool)
        cover[row[row >= 0], column[row >= 0]] = True
        return _closed(cover)

    def misfit(self, cover: np.ndarray) -> float:
        """The area off the skull where a silhouette [G, H] is wrong, relative to that of hair."""
        mask = self._mask
        wrong = np.sum(self._weight * np.where(cover, 1 - mask.share, mask.share))
        return float(wrong / max(np.sum(mask.weight * mask.share), 1e-9))


def _closed(cover: np.ndarray) -> np.ndarray:
    """Closes holes of a mask [G, H] that are one or two pixels wide."""
    # By a square of three pixels, one axis after the other: far faster than SciPy's.
    closed = np.pad(cover, 2)
    for combine in (np.logical_or, np.logical_and):
        closed = combine(combine(closed[:-2], closed[1:-1]), closed[2:])
        closed = combine(combine(closed[:, :-2], closed[:, 1:-1]), closed[:, 2:])
    return closed


def color_of(mask: HairMask) -> np.ndarray:
    """The colour [3] of hair: as light as its darker pixels, in the hue of nearly all."""
    rgb = mask.picture[mask.share * mask.weight > 0.5]
    light = shading.luma(rgb)

    def mean_between(shares):
        low, high = np.quantile(light, shares)
        return rgb[(light >= low) & (light <= high)].mean(0)

    color = mean_between(_COLORED)
    return color * shading.luma(mean_between(_DARKER)) / max(shading.luma(color), 1e-6)
