"""Where a photo shows hair, and how sure that is.

Colours of skin are known from the face, those of hair from the skull, as far as it is unlike skin,
and those of surroundings and clothes from far around. Each pixel of a coarse picture is told by
them and by where it is; then the colours are counted again. Hair is connected to the skull.

Axes: V vertices, G, H rows and columns of the coarse picture of `outline`. Lengths are in outer eye
distances, heights from the eyes.

Source: Rother et al. 2004 (GrabCut), with three kinds of colour and no cut.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage, spatial, special

from recon.painting import outline
from recon.painting.sight import View
from recon.painting.surface import Surface
from recon.painting.trust import Seen

_ROUNDS = 4
_FEWEST = 0.08  # share of the skull in sight that is covered; below it the head is bald
_ENOUGH = 60  # pixels, to tell a colour
_FAR = 0.75  # from the head's outline, where hair is rare
_FOREHEAD = 0.25  # height from which hair may hang into the face
_CLOTHES = -1.35  # height below which, outside the head, everything may be clothes
_VOTE = 0.07  # width of the neighbourhood that decides
_RARE = 2e-4  # share of all colours that says nothing
_SURE = 0.8
_HOLE = 8  # pixels, radius of the largest highlight
# Log odds of hair before its colour is known.
_ON_SKULL, _ON_FOREHEAD, _ON_FACE = 1.5, -0.5, -4.0
_BESIDE, _FALL = 0.0, 2.0  # at the outline; by which they fall in an eye distance
_ON_CLOTHES = -1.0
_BEHIND = 0.3  # weight of what may be hair that a body hides
# Shares of skin's and of the surroundings' colours in what is no hair.
_SKIN_INSIDE, _SKIN_BESIDE = 0.6, 0.15


class HairMask(NamedTuple):
    """Hair on the coarse picture."""

    share: np.ndarray  # [G, H] probability of hair
    weight: np.ndarray  # [G, H] in [0, 1]; 0 where it may as well be something else
    picture: np.ndarray  # [G, H, 3]
    xy: np.ndarray  # [G, H, 2] pixels of the cut-out
    cell: float  # side of a pixel, pixels of the cut-out
    is_head: np.ndarray  # [G, H] within the model's outline


class _Places(NamedTuple):
    """What the fit says of the pixels."""

    is_head: np.ndarray  # [G, H]
    vertex: np.ndarray  # [G, H] the nearest of those in sight
    beyond: np.ndarray  # [G, H] distance from the model's outline, 0 inside
    height: np.ndarray  # [G, H]


def find_hair(photo: np.ndarray, view: View, surface: Surface, seen: Seen) -> HairMask | None:
    """Looks for hair; None on a bald head, or where too little of the skull is in sight.

    Args:
      photo: [H', W', 3] in [0, 1].
      view: of it, on the host.
      surface: of the model, on the host.
      seen: what the photo shows.
    """
    eyes = float(surface.eye_distance * view.pixels_per_metre)  # pixels of the cut-out
    picture, xy, cell = outline.around(photo, view, eyes)
    if picture.size == 0:
        return None
    places = _places(xy, view, surface, cell / eyes)
    is_skull, is_hair, is_skin = _seeds(places, picture, surface, seen, cell / eyes)
    if is_hair.sum() < max(_FEWEST * is_skull.sum(), _ENOUGH):
        return None
    is_far = ~places.is_head & (places.beyond > _FAR)
    is_other = is_far
    prior = _prior(places, surface)
    bins = outline.color_bins(picture)
    inside = places.is_head & (places.height > _CLOTHES)
    skin_share = np.where(inside, _SKIN_INSIDE, _SKIN_BESIDE)
    skin = _odds_of(bins, is_skin)
    vote = 2 * int(0.5 * _VOTE * eyes / cell) + 1
    root, sector = is_hair, outline.sectors_of(places.is_head)
    for _ in range(_ROUNDS):
        around = _local_odds_of(bins, is_other, sector)
        other = skin_share * skin + (1 - skin_share) * around
        evidence = np.log(_odds_of(bins, is_hair) + _RARE) - np.log(other + _RARE)
        share = special.expit(ndimage.uniform_filter(evidence, vote) + prior)
        label, _ = ndimage.label(share > 0.5)
        connected = np.isin(label, np.unique(label[root & (label > 0)]))
        share = np.where(connected, share, np.minimum(share, 0.5))
        # Beside the head, a wall as dark as hair would make hair of all that is like the wall.
        is_hair = (share > _SURE) & places.is_head
        is_other = is_far | (~inside & (share < 1 - _SURE))
        if min(is_hair.sum(), is_other.sum()) < _ENOUGH:
            return None
    share = _without_holes(share, places, surface)
    weight = np.abs(2 * share - 1) * np.where(places.height < _CLOTHES, _BEHIND, 1.0)
    return HairMask(share, weight, picture, xy, cell, places.is_head)


def _places(xy: np.ndarray, view: View, surface: Surface, cell: float) -> _Places:
    size = len(view.depth_picture)
    column, row = (np.clip(np.floor(v), 0, size - 1).astype(int) for v in np.moveaxis(xy, -1, 0))
    is_head = np.isfinite(view.depth_picture)[row, column] & ((xy > 0) & (xy < size)).all(-1)
    in_sight = np.flatnonzero(view.visible > 0.5)
    near = spatial.cKDTree(view.xy[in_sight]).query(xy[is_head])[1]
    vertex = np.full(is_head.shape, -1)
    vertex[is_head] = in_sight[near]
    beyond = ndimage.distance_transform_edt(~is_head) * cell
    return _Places(is_head, vertex, beyond, outline.height_of(xy, view, surface))


def _seeds(
    places: _Places, picture: np.ndarray, surface: Surface, seen: Seen, cell: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where [G, H] the skull is in sight, surely covered with hair, and where skin is."""
    parts, where = surface.parts, places.vertex[places.is_head]

    def at_pixels(values):
        picture = np.zeros(places.is_head.shape, bool)
        picture[places.is_head] = values[where]
        return picture

    counts = places.height > outline.MOUTH
    behind = outline.surroundings(picture, places.is_head, counts, cell)
    is_skull = at_pixels(parts["skull"] > 0.7) & ~behind
    bare = (parts["face"] > 0.5) & (parts["features"] < 0.5) & (surface.place[:, 1] < 0.1)
    is_skin = at_pixels(bare & (seen.unlike_skin < 0.5))
    return is_skull, is_skull & at_pixels(seen.unlike_skin > 0.8), is_skin


def _without_holes(share: np.ndarray, places: _Places, surface: Surface) -> np.ndarray:
    """Takes for hair [G, H] what hair surrounds on the skull: highlights look like other things."""
    is_skull = places.is_head & (surface.parts["skull"][places.vertex] > 0.5)
    disk = np.hypot(*np.mgrid[-1 : 1 : 2j * _HOLE + 1j, -1 : 1 : 2j * _HOLE + 1j]) <= 1
    closed = ndimage.binary_closing(np.pad(share > 0.5, _HOLE), disk)
    closed = closed[_HOLE:-_HOLE, _HOLE:-_HOLE] & is_skull
    return np.where(closed, np.maximum(share, 1 - share), share)


def _prior(places: _Places, surface: Surface) -> np.ndarray:
    """Log odds [G, H] of hair by the place alone."""
    parts, where = surface.parts, places.vertex
    skull = np.where(places.is_head, parts["skull"][where], 0.0)
    forehead = np.clip((places.height - _FOREHEAD) / 0.2 + 0.5, 0, 1)
    on_face = _ON_FACE + (_ON_FOREHEAD - _ON_FACE) * forehead
    inside = on_face + (_ON_SKULL - on_face) * skull
    outside = _BESIDE - _FALL * places.beyond + _ON_CLOTHES * (places.height < _CLOTHES)
    # The outline is a guess: what lies beside it counts as beside it on both sides.
    return np.where(places.is_head, inside, outside)


def _odds_of(bins: np.ndarray, where: np.ndarray) -> np.ndarray:
    """How common the colour of each pixel [G, H] is among those of a kind."""
    return outline.color_histogram(bins[where])[tuple(np.moveaxis(bins, -1, 0))]


def _local_odds_of(bins: np.ndarray, where: np.ndarray, sector: np.ndarray) -> np.ndarray:
    """The same among those of the whole picture, or of the sector and those next to it."""
    odds = _odds_of(bins, where)
    for number in range(outline.SECTORS):
        near = where & ((sector - number + 1) % outline.SECTORS < 3)
        if near.sum() > _ENOUGH:
            here = sector == number
            local = outline.color_histogram(bins[near])[tuple(np.moveaxis(bins[here], -1, 0))]
            odds[here] = np.maximum(odds[here], local)
    return odds
