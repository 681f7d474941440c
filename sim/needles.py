"""Long Gaussians cut along their axes, so that what bends does not leave them standing as needles.

A Gaussian moves as one affine map; where matter bends within its length it sticks out. Before a run
each that moves is replaced by a row of pieces no longer than the particles are apart:

* Covariance. A normal density of variance s^2 is one of variance s^2 - p^2 convolved with one of
  variance p^2, the piece's. At a spacing d the sum over pieces differs from the integral by a
  ripple of 2 exp(-2 pi^2 p^2 / d^2), the first term of Poisson's summation: 0.03 % at d = 1.5 p.
* Opacity. Pieces are composited, 1 - a = prod_k (1 - a_k g_k) (Porter and Duff 1984, over; Kerbl et
  al. 2023, eq. 3), so opaque ones cannot share as faint ones do. The a_k are found by Richardson's
  and Lucy's rule (1972, 1974), so that along its axis the row covers what the one Gaussian did, and
  the other axes shrink, as copies in one place have to (Kheradmand et al. 2024, eq. 9), so that it
  does one standard deviation beside the middle as well. Both hold seen from the side: from its end
  a row is more opaque.

A Gaussian cut along one axis is cut along the next as well if it is long there. One that is longer
than `_LONGEST` pieces, haze over the whole scene, is capped to that. Host code, not differentiable.

Axes: A Gaussians, Q pieces beside the middle ones, K pieces of a row.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, logit

from render.gaussians import Gaussians

_SHARE = 0.5  # of the particles' spacing: standard deviation of a piece
_SHORT = 1.5  # pieces that a Gaussian may be long and stay whole
_STEP = 1.5  # standard deviations of a piece between two
_REACH = 2.4  # standard deviations of what the pieces are spread by, from the middle to the end
_LONGEST = 24.0  # standard deviations of a piece
_ROUNDS = 20  # of the searches for opacities and widths
_MOST = 0.9999  # opacity of a piece
_BATCH = 2_000_000  # numbers of a K x K table at a time
_MOST_PIECES = (4, 200_000)  # per Gaussian that moves, and beside
_COARSER = 1.25  # pieces become longer by that until there are not too many


class Pieces(NamedTuple):
    """How the Gaussians of a scene were cut."""

    max_std: float  # standard deviation of a piece, in the splats' own space
    parents: np.ndarray  # [Q] int32 whose piece each Gaussian after those of the file is


def cut(gaussians: Gaussians, moving: np.ndarray, spacing: float) -> tuple[Gaussians, Pieces]:
    """Cuts the Gaussians that move to the spacing of the particles.

    Args:
      gaussians: [A] in their own space.
      moving: indices of those that move.
      spacing: of the particles, in that space.

    Returns:
      [A + Q]: the middle pieces, and all Gaussians that were not cut, in their old places; then the
      others.
    """
    max_std = _SHARE * spacing
    per_one, beside = _MOST_PIECES
    log_scales = np.asarray(gaussians.log_scales, np.float64)[moving]
    while _num_pieces(log_scales, max_std) > per_one * len(moving) + beside:
        max_std *= _COARSER
    return cut_to(gaussians, moving, max_std)


def cut_to(gaussians: Gaussians, moving: np.ndarray, max_std: float) -> tuple[Gaussians, Pieces]:
    """As `cut`, to pieces of a given standard deviation; the same input gives the same pieces."""
    fields = jax.tree.map(np.asarray, gaussians)
    is_finite = np.isfinite(fields.means).all(-1) & np.isfinite(fields.logit_opacities)
    is_finite &= np.isfinite(fields.quats).all(-1) & ~np.isnan(fields.log_scales).any(-1)
    moving = np.asarray(moving)[is_finite[moving]]
    num_old = len(fields.means)
    parents = np.arange(num_old)
    may_cut = np.zeros(num_old, bool)
    may_cut[moving] = True
    cap = np.log(_LONGEST * max_std)
    fields = fields.replace(
        log_scales=np.where(
            may_cut[:, None], np.minimum(fields.log_scales, cap), fields.log_scales
        ).astype(np.float32)
    )
    with np.errstate(all="ignore"):  # those that stay may be anything
        for axis in range(3):
            fields, source = _cut_axis(fields, may_cut, axis, max_std)
            parents, may_cut = parents[source], may_cut[source]
    pieces = Pieces(float(max_std), parents[num_old:].astype(np.int32))
    return jax.tree.map(jnp.asarray, fields), pieces


def _counts(log_scales: np.ndarray, max_std: float) -> np.ndarray:
    """How many pieces, odd, Gaussians of these standard deviations make along the axis."""
    ratio = np.minimum(np.exp(log_scales) / max_std, _LONGEST)
    ratio = np.where(np.isnan(ratio), 0.0, ratio)
    spread = np.sqrt(np.maximum(ratio**2 - 1.0, 0.0))
    return np.where(ratio > _SHORT, 2 * np.round(_REACH * spread / _STEP) + 1, 1).astype(int)


def _num_pieces(log_scales: np.ndarray, max_std: float) -> float:
    log_scales = np.where(np.isnan(log_scales), -np.inf, log_scales)
    with np.errstate(over="ignore"):
        return float(np.sum(np.prod(_counts(log_scales, max_std), -1, dtype=np.float64)))


def _cut_axis(
    fields: Gaussians, may_cut: np.ndarray, axis: int, max_std: float
) -> tuple[Gaussians, np.ndarray]:
    """Cuts along one axis; returns the Gaussians and whose piece each is."""
    counts = np.where(may_cut, _counts(fields.log_scales[:, axis], max_std), 1)
    direction = _axis_of(fields.quats, axis)
    std = np.exp(fields.log_scales[:, axis].astype(np.float64))
    opacities = expit(fields.logit_opacities.astype(np.float64))
    means, log_scales = fields.means.copy(), fields.log_scales.copy()
    logits = fields.logit_opacities.copy()
    source, new_means, new_logits = [], [], []
    for count in np.unique(counts[counts > 1]):
        index = np.flatnonzero(counts == count)
        places = _STEP * (np.arange(count) - count // 2)  # in standard deviations of a piece
        rows = [
            _row(places, std[some] / max_std, opacities[some])
            for some in np.array_split(index, -(-len(index) * 2 * count**2 // _BATCH))
        ]
        found, width = (np.concatenate(values) for values in zip(*rows, strict=True))
        log_scales[index] += np.log(width)[:, None]
        at = means[index][:, None] + max_std * places[:, None] * direction[index][:, None]
        is_other = np.arange(count) != count // 2
        source.append(np.repeat(index, count - 1))
        new_means.append(at[:, is_other].reshape(-1, 3))
        new_logits.append(logit(found[:, is_other]).ravel())
        logits[index] = logit(found[:, count // 2])
        log_scales[index, axis] = np.log(max_std)
    everyone = np.arange(len(means))
    if not source:
        return fields, everyone
    source = np.concatenate([everyone, *source])
    fields = fields.replace(log_scales=log_scales)
    fields = jax.tree.map(lambda leaf: leaf[source], fields)
    return fields.replace(
        means=np.concatenate([means, *new_means]).astype(np.float32),
        logit_opacities=np.concatenate([logits, *new_logits]).astype(np.float32),
    ), source


def _row(
    places: np.ndarray, ratios: np.ndarray, opacities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Opacities [A, K] of pieces that look as one Gaussian did, and how much thinner they are, [A].

    Args:
      places: [K] along the axis, in standard deviations of a piece.
      ratios: [A] of the Gaussian's standard deviation to a piece's.
      opacities: [A].
    """
    count = len(places)
    at = places[0] + 0.5 * _STEP * np.arange(-1, 2 * count)  # the pieces' places, and between
    nearness = np.exp(-0.5 * (at[:, None] - places) ** 2)
    wanted = opacities[:, None] * np.exp(-0.5 * (at / ratios[:, None]) ** 2)
    share = nearness / nearness.sum(0)
    found = np.broadcast_to(0.5 * opacities[:, None], (len(opacities), count))
    for _ in range(_ROUNDS):
        covered = 1.0 - np.prod(1.0 - found[:, None] * nearness, -1)
        found = np.minimum(found * ((wanted / covered) @ share), _MOST)
    middle = found * np.exp(-0.5 * (places - places[count // 2]) ** 2)
    beside = np.exp(-0.5) * (1.0 - np.prod(1.0 - middle, -1))
    low, high = np.zeros(len(opacities)), np.full(len(opacities), np.exp(-0.5))
    for _ in range(_ROUNDS):
        fall = 0.5 * (low + high)
        is_less = 1.0 - np.prod(1.0 - middle * fall[:, None], -1) < beside
        low, high = np.where(is_less, fall, low), np.where(is_less, high, fall)
    return found, np.sqrt(-0.5 / np.log(0.5 * (low + high)))


def _axis_of(quats: np.ndarray, axis: int) -> np.ndarray:
    """Unit vectors [A, 3] along an axis of rotations given as quaternions wxyz of any length."""
    quats = quats.astype(np.float64)
    length = np.linalg.norm(quats, axis=-1, keepdims=True)
    w, x, y, z = (quats / np.where(length > 0, length, 1.0)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)],
        [2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)],
        [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack(rows[axis], -1)
