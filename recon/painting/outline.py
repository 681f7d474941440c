"""Where the photo's own head ends, told by colour: the model's outline is a guess at the skull.

Colours that are commoner far beyond the model's outline than inside it are the surroundings', and
where these reach in from outside, the head has ended. Hair stands off the skull, so that what lies
just beyond the outline tells nothing.

Axes: V vertices, G, H rows and columns of a coarse picture of head and surroundings. Lengths are
in outer eye distances.

Source: Rother et al. 2004 (GrabCut: statistics of the colours on both sides of a rough outline,
told apart again and again).
"""

import numpy as np
from scipy import ndimage

from recon.painting.sight import View
from recon.painting.surface import Surface

_CELLS = 32  # pixels of the coarse picture per eye distance
_MARGIN = 1.0  # of surroundings around the cut-out
_FAR = 0.3  # beyond the model's outline: rarely hair
_INSIDE = 0.1
SECTORS = 8  # around the head; what is behind it is looked for in the same and both next to it
MOUTH = -0.45  # height from the eyes; surroundings are looked at above it, where no collar is
_ROUNDS = 4
_BINS = 16  # of each channel
_BIN_BLUR = 0.8  # bins by which a colour also speaks for its neighbours
_TOO_RARE = 1e-4  # share of all colours that says nothing
_DARK = 0.02  # added before the square root, where colours are noise
_VOTE = 0.06  # width of the neighbourhood that decides
_ENOUGH = 100  # pixels on either side, to tell colours apart
_ODDS, _ODDS_INSIDE = 2.0, 8.0  # that tell surroundings, at the outline and an eye distance inside


def inside_photo_outline(photo: np.ndarray, view: View, surface: Surface) -> np.ndarray:
    """How far [V] each vertex is from what is not of the head; infinite if nothing is known.

    Args:
      photo: [H', W', 3] in [0, 1].
      view: of it, on the host.
      surface: of the model, on the host.
    """
    eyes = float(surface.eye_distance * view.pixels_per_metre)  # pixels of the cut-out
    nothing = np.full(len(view.xy), np.inf)
    picture, xy, cell = around(photo, view, eyes)
    if picture.size == 0:
        return nothing
    height = height_of(xy, view, surface)
    size = len(view.depth_picture)
    column, row = (np.clip(np.floor(v), 0, size - 1).astype(int) for v in np.moveaxis(xy, -1, 0))
    is_head = np.isfinite(view.depth_picture)[row, column] & ((xy > 0) & (xy < size)).all(-1)
    is_behind = surroundings(picture, is_head, height > MOUTH, cell / eyes)
    if not is_behind.any():
        return nothing
    distance = ndimage.distance_transform_edt(~is_behind) * cell / eyes
    place = (view.xy - xy[0, 0]) / cell
    return ndimage.map_coordinates(distance, place.T[::-1], order=1, mode="nearest")


def surroundings(
    picture: np.ndarray, is_head: np.ndarray, counts: np.ndarray, cell: float
) -> np.ndarray:
    """Where inside the model's outline [G, H] the photo shows what is behind the head.

    Args:
      picture: [G, H, 3].
      is_head: [G, H] within the model's outline.
      counts: [G, H] where what lies beyond the outline is no part of the person.
      cell: side of a pixel.
    """
    depth = ndimage.distance_transform_edt(np.pad(is_head, 1, mode="edge"))[1:-1, 1:-1] * cell
    far = counts & (ndimage.distance_transform_edt(~is_head) * cell > _FAR)
    bins = color_bins(picture)
    inside = counts & (depth > _INSIDE)
    is_behind = np.zeros_like(is_head)
    if min(far.sum(), inside.sum()) < _ENOUGH:
        return is_behind
    sector = sectors_of(is_head)
    common_far = np.zeros(is_head.shape)
    for number in range(SECTORS):
        near = far & ((sector - number + 1) % SECTORS < 3)
        here = sector == number
        common_far[here] = color_histogram(bins[near if near.sum() > _ENOUGH else far])[
            _at(bins[here])
        ]
    odds = _ODDS + (_ODDS_INSIDE - _ODDS) * depth
    vote = 2 * int(0.5 * _VOTE / cell) + 3
    for _ in range(_ROUNDS):
        common_inside = color_histogram(bins[inside & ~is_behind])[_at(bins)]
        strange = common_far > odds * common_inside + _TOO_RARE
        strange = ndimage.uniform_filter(strange.astype(np.float32), vote) > 0.5
        # Of what is strange inside the head, an eye or a badge does not reach its outline.
        label, _ = ndimage.label((strange | ~is_head) & counts)
        reached = np.unique(label[far])
        is_behind = is_head & strange & np.isin(label, reached[reached > 0])
    return is_behind


def sectors_of(is_head: np.ndarray) -> np.ndarray:
    """The sector [G, H] around the middle of the head."""
    rows, columns = np.nonzero(is_head)
    y, x = np.mgrid[: is_head.shape[0], : is_head.shape[1]]
    angle = np.arctan2(y - rows.mean(), x - columns.mean())
    return np.floor((angle / (2 * np.pi) + 0.5) * SECTORS).astype(int) % SECTORS


def around(photo: np.ndarray, view: View, eyes: float) -> tuple[np.ndarray, np.ndarray, float]:
    """The coarse picture [G, H, 3], its pixels' places in the cut-out [G, H, 2], and their side."""
    size = len(view.depth_picture)
    shift, scale = view.border[:2], float(view.shrinking)
    margin = _MARGIN * eyes
    low = np.maximum((-margin - shift) / scale, 0).astype(int)
    high = np.minimum((size + margin - shift) / scale, photo.shape[1::-1]).astype(int)
    step = max(int(eyes / scale / _CELLS), 1)
    columns, rows = np.maximum((high - low) // step, 0)
    crop = photo[low[1] : low[1] + rows * step, low[0] : low[0] + columns * step]
    crop = np.asarray(crop).reshape(rows, step, columns, step, 3)
    y, x = np.mgrid[:rows, :columns]
    xy = ((np.stack([x, y], -1) + 0.5) * step + low) * scale + shift
    return crop.mean((1, 3), dtype=np.float32), xy, step * scale


def height_of(xy: np.ndarray, view: View, surface: Surface) -> np.ndarray:
    """The height [G, H] above the eyes of what lies at `xy`, along the head's own axis."""
    y = surface.place[:, 1]
    high, low = view.xy[y > 0].mean(0), view.xy[y <= 0].mean(0)
    rise = y[y > 0].mean() - y[y <= 0].mean()
    up = (high - low) / max(np.sum((high - low) ** 2), 1e-6) * rise
    return (xy - high) @ up + y[y > 0].mean()


def color_bins(rgb: np.ndarray) -> np.ndarray:
    """The bin [..., 3] of each colour; the root tells dark colours apart as well as bright ones."""
    return np.clip(_BINS * np.sqrt((rgb + _DARK) / (1 + _DARK)), 0, _BINS - 1).astype(int)


def color_histogram(bins: np.ndarray) -> np.ndarray:
    """The share of each colour among `bins` [N, 3]."""
    shape = (_BINS,) * 3
    counts = np.bincount(np.ravel_multi_index(_at(bins), shape), minlength=_BINS**3)
    smooth = ndimage.gaussian_filter(counts.reshape(shape).astype(np.float64), _BIN_BLUR)
    return smooth / max(len(bins), 1)


def _at(bins: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.moveaxis(bins, -1, 0))
