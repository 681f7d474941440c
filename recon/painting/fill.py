"""Completes the colours of a head of which a photo shows a part: one sparse solve.

The solve asks three things. Trusted vertices keep what the photo shows. Across an edge, colours
differ as the photo shows, or else as its mirror image does under this side's light, or else as on a
plain head of the same skin and hair. Far from all that is seen, colours are the plain head's. As
differences are carried over, not colours, seen and unseen parts meet without a step.

Axes: V vertices, E edges. Colours are logarithms, as in `shading.py`.

Source: Perez et al. 2003 (guided interpolation).
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from recon.painting import shading
from recon.painting.hair import hair_color
from recon.painting.surface import Surface, ramp
from recon.painting.trust import Seen

_SCLERA = np.array([0.72, 0.69, 0.68])
_MOUTH = np.array([0.20, 0.08, 0.08])
_MAX_RELIGHT = 0.7  # log light; relit beyond it, a mirror image shows the noise of its shadows
_BRIGHT = 0.98  # share of what is seen that is darker than all that is not
_HAIRLINE = 0.15  # difference of hair across an edge from which its ends ignore each other


@dataclasses.dataclass(frozen=True)
class FillConfig:
    """Settings of `complete`, relative to full trust."""

    smoothness: float = 0.1
    pull: float = 1e-3  # of skin towards the plain head
    hair_pull: float = 1e-3


class Mirrored(NamedTuple):
    """What the other side of the head suggests."""

    log_rgb: np.ndarray  # [V, 3] under this side's light
    trust: np.ndarray  # [V]


class Plain(NamedTuple):
    """A head of the same skin and hair without features."""

    log_rgb: np.ndarray  # [V, 3]
    strand_contrast: np.ndarray  # [V] log colour per unit of the pattern of strands


def mirror_image(surface: Surface, seen: Seen, lit: np.ndarray, even: np.ndarray) -> Mirrored:
    """Reflects what is seen, and lights it as the unseen is to be lit.

    Args:
      surface: of the model, on the host.
      seen: what the photo shows.
      lit: [V, 3] skin as the photo lights it.
      even: [V, 3] skin as the unseen is to be lit.
    """
    mirror = surface.mirror
    ratio = even - lit[mirror]
    believed = np.exp(-((np.abs(ratio).max(-1) / _MAX_RELIGHT) ** 2))
    return Mirrored(seen.log_rgb[mirror] + ratio, seen.trust[mirror] * believed)


def plain_head(
    surface: Surface, seen: Seen, lit: np.ndarray, hair: np.ndarray, pattern: np.ndarray
) -> Plain:
    """Paints a head with the skin and hair of the photo.

    Args:
      surface: of the model, on the host.
      seen: what the photo shows.
      lit: [V, 3] log colours of its skin, as it is to be lit.
      hair: [V] share of hair.
      pattern: [V] of strands.
    """
    parts = surface.parts
    openness = surface.openness[:, None]
    usual = shading.weighted_median(openness, seen.trust * parts["face"] + 1e-9)
    dimming = 0.5 * np.log(np.clip(openness / usual, 0.3, 1.2))
    hair_log, contrast = hair_color(surface, seen)
    eyes = shading.to_log(_SCLERA)
    if np.sum(seen.trust * parts["eyeballs"]) > 1:
        eyes = shading.weighted_median(seen.log_rgb, seen.trust * parts["eyeballs"])
    layers = (
        (hair, hair_log + 0.6 * (lit - lit.mean(0)) + dimming + contrast * pattern[:, None]),
        (ramp(parts["eyeballs"], 0.3, 0.7), eyes),
        (ramp(parts["inner_mouth"], 0.3, 0.7), shading.to_log(_MOUTH)),
    )
    log_rgb = lit + dimming
    for share, layer in layers:
        log_rgb = log_rgb + share[:, None] * (layer - log_rgb)
    return Plain(log_rgb, contrast * hair * (1 - seen.trust))


def brightest(surface: Surface, seen: Seen) -> float:
    """The luma that nothing unseen exceeds: nearly the highest of the lit half of the head."""
    light = shading.luma(shading.to_rgb(seen.log_rgb))[:, None]
    is_left = surface.place[:, 0] > 0
    halves = [seen.trust * is_left, seen.trust * ~is_left]
    enough = 0.2 * seen.trust.sum()
    levels = [
        shading.weighted_quantile(light, half, _BRIGHT)[0] for half in halves if half.sum() > enough
    ]
    return float(max(levels, default=1.0))


def guide_shares(trust: np.ndarray, mirrored_trust: np.ndarray) -> tuple[np.ndarray, ...]:
    """Whose detail counts [...]: the photo's own, its mirror image's, none's. They sum to one."""
    own = trust**2
    other = 0.25 * ((1 - trust) * mirrored_trust) ** 2
    none = 0.03 * (1 - trust) ** 2
    total = own + other + none
    return own / total, other / total, none / total


def complete(
    surface: Surface,
    seen: Seen,
    mirrored: Mirrored,
    plain: Plain,
    hair: np.ndarray,
    config: FillConfig,
) -> np.ndarray:
    """Solves for the log colours [V, 3] of the whole head; `hair` [V] is the share of it."""
    a, b = surface.edges.T
    shares = guide_shares(
        np.minimum(seen.trust[a], seen.trust[b]), np.minimum(mirrored.trust[a], mirrored.trust[b])
    )
    colors = (seen.log_rgb, mirrored.log_rgb, plain.log_rgb)
    guide = sum(
        share[:, None] * (log_rgb[a] - log_rgb[b])
        for share, log_rgb in zip(shares, colors, strict=True)
    )
    # What is seen of hair says nothing of the skin beside it.
    stiffness = config.smoothness * surface.stiffness
    stiffness = stiffness * (1e-3 + np.exp(-(((hair[a] - hair[b]) / _HAIRLINE) ** 2)))

    num_vertices, num_edges = len(hair), len(a)
    rows, one = np.arange(num_edges), np.ones(num_edges)
    step = sparse.csr_array(
        (np.concatenate([one, -one]), (np.tile(rows, 2), np.concatenate([a, b]))),
        shape=(num_edges, num_vertices),
    )
    weighted = sparse.diags_array(stiffness) @ step
    pull = config.pull + (config.hair_pull - config.pull) * hair
    system = sparse.diags_array(seen.trust + pull) + step.T @ weighted
    right = seen.trust[:, None] * seen.log_rgb + pull[:, None] * plain.log_rgb
    factors = linalg.splu(
        sparse.csc_array(system),
        permc_spec="MMD_AT_PLUS_A",  # the system is symmetric
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    return factors.solve(right + weighted.T @ guide)
