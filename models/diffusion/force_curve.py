"""The force on a stiffness, over all stiffnesses: where it vanishes, and whether it points there.

With the video V and its derivative dV/dl at a grid of l = log10 E, the force F(l) =
-<dV/dl, residual> says which way a prior pushes each of them. Where it falls through zero the
search comes to rest; a prior that works has one such place, at the stiffness that it was told.

Axes: E stiffnesses of the grid, K noises; a clip's shape follows.
"""

from typing import NamedTuple

import jax
import numpy as np
from jax import lax

from models.diffusion.denoiser import Denoiser
from models.diffusion.guidance import NoiseBank, force, residuals


class ForceCurve(NamedTuple):
    """Forces along a grid."""

    log10_modulus: np.ndarray  # [E] growing
    mean: np.ndarray  # [E] over the noises
    deviation: np.ndarray  # [E] of one noise


def forces(
    denoise: Denoiser,
    videos: jax.Array,
    slopes: jax.Array,
    bank: NoiseBank,
    weight: str = "sigma",
) -> jax.Array:
    """Returns the force of each noise at each point of a grid, [E, K].

    Args:
      denoise: the prior, told what is wanted.
      videos: [E, ...] clips.
      slopes: [E, ...] d clip / d log10 E.
      bank: the noise; the same at all points, so that the curve is smooth.
      weight: a name of `guidance.WEIGHTS`.
    """

    def at(point: tuple[jax.Array, jax.Array]) -> jax.Array:
        video, slope = point
        return force(slope, residuals(denoise, video, bank, weight))

    return lax.map(at, (videos, slopes))


def curve_of(log10_modulus: np.ndarray, values: np.ndarray) -> ForceCurve:
    """Returns the curve of forces [E, K] at stiffnesses [E]."""
    values = np.asarray(values, np.float64)
    return ForceCurve(np.asarray(log10_modulus), values.mean(1), values.std(1))


def stable_zeros(log10_modulus: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Returns where a curve falls through zero, by straight lines between the points."""
    x, y = np.asarray(log10_modulus, np.float64), np.asarray(mean, np.float64)
    falls = np.flatnonzero((y[:-1] > 0) & (y[1:] <= 0))
    return x[falls] + (x[falls + 1] - x[falls]) * y[falls] / (y[falls] - y[falls + 1])


def share_of_right_signs(
    log10_modulus: np.ndarray, mean: np.ndarray, wanted: float, tolerance: float = 0.15
) -> float:
    """Returns the share of points further than `tolerance` from `wanted` that are pushed to it."""
    away = wanted - np.asarray(log10_modulus)
    counts = np.abs(away) > tolerance
    return float(np.mean((np.sign(mean) == np.sign(away))[counts]))
