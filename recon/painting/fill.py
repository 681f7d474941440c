"""Completes the colours of a head of which a photo shows a part: one sparse solve.

The solve asks three things. Trusted vertices keep what the photo shows. Across an edge, colours
differ as the photo shows, or else as its mirror image does under this side's light, or else as on a
plain head of the same skin and hair. Far from all that is seen, colours are the plain head's. As
differences are carried over, not colours, seen and unseen parts meet without a step.

Axes: V vertices, E edges. Colours are logarithms, as in `shading.py`.

Sources: Perez et al. 2003 (guided interpolation); Tatebe 1993 (conjugate gradients that a multigrid
cycle preconditions).
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from recon.painting import shading
from recon.painting.hair import hair_color
from recon.painting.surface import Surface, ramp, refinement
from recon.painting.trust import Seen

_SCLERA = np.array([0.72, 0.69, 0.68])
_MOUTH = np.array([0.20, 0.08, 0.08])
_OCCLUSION = 0.25  # power of the share of the sky that a hollow sees, by which it is darker
_MAX_RELIGHT = 0.7  # log light; relit beyond it, a mirror image shows the noise of its shadows
_BRIGHT = 0.98  # share of what is seen that is darker than all that is not
_DAMPING = 0.7  # of Jacobi's iteration: smooths, and keeps the approximation symmetric
_TOLERANCE = 1e-6  # relative to the right side
_MAX_ITERATIONS = 200  # some dozen do
_HAIRLINE = 0.15  # difference of hair across an edge from which its ends ignore each other


@dataclasses.dataclass(frozen=True)
class FillConfig:
    """Settings of `complete`, relative to full trust."""

    smoothness: float = 0.1
    pull: float = 1e-3  # of skin towards the plain head
    hair_pull: float = 2e-4


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
    dimming = _OCCLUSION * np.log(np.clip(openness / usual, 0.3, 1.2))
    hair_log, contrast = hair_color(surface, seen)
    eyes = shading.to_log(_SCLERA)
    if np.sum(seen.trust * parts["eyeballs"]) > 1:
        eyes = shading.weighted_median(seen.log_rgb, seen.trust * parts["eyeballs"])
    # Light has a colour, but skin has more of one: what varies over it is for hair grey.
    shade = 0.6 * (lit - lit.mean(0)).mean(-1, keepdims=True)
    layers = (
        (hair, hair_log + shade + dimming + contrast * pattern[:, None]),
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
    # What is seen of hair says nothing of the skin beside it, nor where it frays of either.
    stiffness = config.smoothness * surface.stiffness
    share = 0.5 * (hair[a] + hair[b])
    frayed = np.exp(-(((hair[a] - hair[b]) / _HAIRLINE) ** 2)) * (1 - 2 * share) ** 2
    stiffness = stiffness * (1e-3 + frayed)

    flow = stiffness[:, None] * guide
    sources = [
        np.bincount(a, column, len(hair)) - np.bincount(b, column, len(hair)) for column in flow.T
    ]
    pull = config.pull + (config.hair_pull - config.pull) * hair
    known = seen.trust + pull
    ties = sparse.csr_array((stiffness, (a, b)), shape=(len(hair), len(hair)))
    ties = ties + ties.T
    system = sparse.csr_array(sparse.diags_array(ties.sum(axis=1) + known) - ties)
    right = seen.trust[:, None] * seen.log_rgb + pull[:, None] * plain.log_rgb
    return _solve(system, right + np.stack(sources, -1), plain.log_rgb, refinement(surface))


def _solve(
    system: sparse.csr_array, right: np.ndarray, start: np.ndarray, refine: sparse.csr_array
) -> np.ndarray:
    """Solves a symmetric system [V, V] for [V, 3] by conjugate gradients on two grids.

    The weights, and with them a factorisation, are another for each photo. The model's own mesh is
    the same for all and small: it is solved on directly, and its refinement only smoothed.
    """
    coarsen = sparse.csr_array(refine.T)
    coarse = linalg.splu(
        sparse.csc_array(coarsen @ system @ refine),
        permc_spec="MMD_AT_PLUS_A",  # the system is symmetric
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    damped = _DAMPING / system.diagonal()[:, None]

    def approximate(rest):
        rest = rest.reshape(right.shape)
        x = damped * rest
        x = x + refine @ coarse.solve(coarsen @ (rest - system @ x))
        return (x + damped * (rest - system @ x)).ravel()

    def apply(x):
        return (system @ x.reshape(right.shape)).ravel()

    shape = (right.size, right.size)
    x, _ = linalg.cg(
        linalg.LinearOperator(shape, apply, dtype=np.float64),
        right.ravel(),
        start.ravel(),
        rtol=_TOLERANCE,
        maxiter=_MAX_ITERATIONS,
        M=linalg.LinearOperator(shape, approximate, dtype=np.float64),
    )
    return x.reshape(right.shape)
