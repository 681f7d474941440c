"""How far each vertex may trust the colour that the photo shows where it is.

Trust is a product in [0, 1]: visible x facing the camera x well inside the outlines, the model's
and the photo's own x not next to a part that hides it x skin, where there must be skin. The fit
misses outlines by some hundredths of the eye distance, and at the skull, of which no landmark
tells, by more; what lies beyond them is background, collar or hair.

Axes: V vertices, P sides of the cut-out. Fractions are of the outer eye distance.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from recon.painting import shading
from recon.painting.shading import Skin
from recon.painting.sight import View
from recon.painting.surface import Surface, ramp

_HIDING_STEP = 0.003  # metres between neighbouring pixels: one part hides another
_TOO_LITTLE = 0.02  # trust that counts as none: where it is all there is, it would decide
_PHOTO_BLUR = 2.0  # pixels of the photo over which a border is blurred


@dataclasses.dataclass(frozen=True)
class TrustConfig:
    """Settings of `judge`. Pairs are where trust starts and where it is full."""

    facing: tuple[float, float] = (0.05, 0.65)  # cosine to the view
    outline_band: tuple[float, float] = (0.02, 0.07)  # fraction inside the outline
    skull_band: tuple[float, float] = (0.08, 0.23)  # hair stands off the skull
    surroundings_band: tuple[float, float] = (0.05, 0.12)  # fraction inside the photo's own outline
    turned_band: float = 2.0  # by which bands widen on a side turned away
    hidden_band: tuple[float, float] = (0.012, 0.04)  # fraction from what stands in front
    neck_end: tuple[float, float] = (-1.45, -1.25)  # height from the eyes; then come collars
    skin_limits: tuple[float, float] = (2.0, 4.0)  # standard deviations: surely, surely not


class Seen(NamedTuple):
    """What is seen of each vertex, judged."""

    log_rgb: np.ndarray  # [V, 3]
    trust: np.ndarray  # [V]
    unlike_skin: np.ndarray  # [V] 1 where it is something other than skin
    skin: Skin


def judge(view: View, surface: Surface, from_surroundings: np.ndarray, config: TrustConfig) -> Seen:
    """Finds out what can be trusted, and the skin on the way.

    Args:
      view: of the photo, on the host.
      surface: of the model, on the host.
      from_surroundings: [V] fraction inside the photo's own outline, from `inside_photo_outline`.
      config: settings.
    """
    parts = surface.parts
    facing = np.float64(view.facing)
    pixels = float(surface.eye_distance * view.pixels_per_metre)  # of the eye distance
    from_outline, from_hiding = (distance / pixels for distance in _distances(view))

    start, full = config.facing
    trust = np.clip((facing[:, 2] - start) / (full - start), 0, 1) ** 1.5
    # Where the other side is seen better, doubtful outlines are not worth a risk.
    better = np.clip(trust[surface.mirror] - trust, 0, 1)
    low, high = (
        (face + (skull - face) * parts["skull"]) * (1 + config.turned_band * better)
        for face, skull in zip(config.outline_band, config.skull_band, strict=True)
    )
    trust = trust * view.visible * ramp(from_outline, low, high)
    trust = trust * ramp(from_surroundings, *config.surroundings_band)
    # Eyes and teeth lie behind lids and lips, and are seen well next to them.
    behind = np.maximum(parts["eyeballs"], parts["inner_mouth"])
    trust = trust * np.maximum(ramp(from_hiding, *config.hidden_band), behind)
    trust = trust * (1 - parts["sockets"])
    place = surface.place
    trust = trust * (1 - parts["neck"] * (1 - ramp(place[:, 1], *config.neck_end)))

    log_rgb = shading.to_log(np.float64(view.rgb))
    # Below the brows, where no hair falls into the face.
    is_bare = (parts["face"] > 0.5) & (parts["features"] < 0.5)
    is_bare &= (np.abs(place[:, 0]) < 0.55) & (place[:, 1] < 0.1)
    skin = shading.fit_skin(log_rgb, facing, trust * is_bare)
    rest = log_rgb - shading.lit_skin(skin, facing)
    unlike_skin = ramp(shading.deviations(skin, rest), *config.skin_limits)
    strange = _widened(unlike_skin, view, surface) * _must_be_skin(parts, place, from_outline)
    trust = np.maximum(trust * (1 - strange) - _TOO_LITTLE, 0) / (1 - _TOO_LITTLE)
    return Seen(log_rgb, trust, unlike_skin, skin)


def _distances(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [V] to the outline or the photo's end, and to where one part hides another."""
    depth = view.depth_picture
    size = depth.shape[0]
    is_head = np.isfinite(depth)
    inside = ndimage.distance_transform_edt(np.pad(is_head, 1))[1:-1, 1:-1]
    is_hidden = np.zeros(depth.shape, bool)
    for far, near in (
        (np.s_[1:], np.s_[:-1]),
        (np.s_[:-1], np.s_[1:]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        is_hidden[far] |= is_head[far] & (depth[far] > depth[near] + _HIDING_STEP)
    to_hidden = np.full(depth.shape, np.inf)
    if is_hidden.any():
        to_hidden = ndimage.distance_transform_edt(~is_hidden)

    xy, border = view.xy, view.border
    to_border = np.concatenate([xy - border[:2], border[2:] - xy], -1).min(-1)
    column, row = np.clip(np.floor(xy), 0, size - 1).astype(int).T
    return np.minimum(inside[row, column], to_border), to_hidden[row, column]


def _must_be_skin(
    parts: dict[str, np.ndarray], place: np.ndarray, from_outline: np.ndarray
) -> np.ndarray:
    """1 [V] around the features below the brows, where anything but skin is not of the face."""
    from_nose = np.hypot(place[:, 0] / 0.5, (place[:, 1] + 0.4) / 0.75)
    around = np.maximum(ramp(from_nose, 0.7, 0.95), 1 - ramp(from_outline, 0.1, 0.2))
    around = around * (1 - ramp(place[:, 1], 0.05, 0.2))
    bare = np.maximum(np.maximum(parts["ears"], parts["neck"]), around)
    return bare * (1 - ramp(parts["skull"] + parts["features"], 0.05, 0.6))


def _widened(unlike_skin: np.ndarray, view: View, surface: Surface) -> np.ndarray:
    """Widens what is not skin [V], without its specks, by the blur of the photo."""
    photo_pixels_per_metre = float(view.pixels_per_metre / view.shrinking)
    edge = float(surface.edge_length) * photo_pixels_per_metre  # of the mesh, photo pixels
    rings = 2 + int(np.clip(np.ceil(_PHOTO_BLUR / edge), 1, 5))
    a, b = surface.edges.T

    def largest_around(values):
        largest = values.copy()
        np.maximum.at(largest, a, values[b])
        np.maximum.at(largest, b, values[a])
        return largest

    strange = -largest_around(-unlike_skin)
    for _ in range(rings):
        strange = largest_around(strange)
    return strange
