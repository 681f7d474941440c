"""Finds the stiffness at which a motion looks right, by a force that somebody else knows.

What looks right is said by a function of the clip, its residual: minus the way the clip should
change (score distillation gives one; so does the difference to a video). Along l = log10 E the
force is F(l) = -<dV/dl, residual>, and where it falls through zero a search comes to rest.

A single number needs no descent. Clips V and their derivatives are simulated once, at a grid of
stiffnesses; between its points both are interpolated by cubics; the force is then a curve, all of
whose zeros are seen, from whichever side a descent would have come.

Axes: E points of the grid, P points of the curve, K draws of noise; [T, H, W, 3] a clip.

Source: Huang et al. 2024 (DreamPhysics, eq. 3 to 5; the logarithm is theirs).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sim.motion_video import MotionView, video_and_slope
from sim.simulation import Simulation

Residual = Callable[[jax.Array], jax.Array]  # clip [T, H, W, 3] -> [K, T, H, W, 3]

_FINENESS = 4  # points of the curve in an interval of the grid
_RESAMPLED = 400  # draws of the noises, for the interval


class Scan(NamedTuple):
    """Clips of one scene over a grid of stiffnesses."""

    log10_modulus: np.ndarray  # [E] growing, pascals
    videos: np.ndarray  # [E, T, H, W, 3] in [-1, 1]
    slopes: np.ndarray  # [E, T, H, W, 3] d clip / d log10 E


class Curve(NamedTuple):
    """The force along the stiffnesses of a scan."""

    log10_modulus: np.ndarray  # [P]
    forces: np.ndarray  # [P, K] of each draw of noise

    @property
    def mean(self) -> np.ndarray:
        """[P] over the noises."""
        return self.forces.mean(1)


def scan_modulus(
    simulation: Simulation,
    view: MotionView,
    grid: np.ndarray,
    advance: Callable[[], None] = lambda: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Scan:
    """Simulates and films a scene at each stiffness of a grid; leaves out those that fail.

    Args:
      simulation: coloured for the view; its `dt` has to suit the stiffest.
      view: of the clips.
      grid: [E] log10 of pascals, growing.
      advance: is called after each.
      is_stopped: is asked before each.

    Returns:
      The clips of those that stay in their box; there may be none.
    """
    kept, videos, slopes = [], [], []
    for modulus in grid:
        if is_stopped():
            break
        clip, slope = video_and_slope(np.float32(modulus), simulation, view)
        if not bool(clip.failed) and np.isfinite(slope).all():
            kept.append(float(modulus))
            videos.append(np.asarray(clip.video))
            slopes.append(np.asarray(slope))
        advance()
    return Scan(np.array(kept), np.array(videos), np.array(slopes))


def identifiability(scan: Scan) -> np.ndarray:
    """Returns |dV/dl| [E], in units of a pixel's half range: how much a tenfold E would show."""
    return np.sqrt(np.sum(scan.slopes.astype(np.float64) ** 2, axis=(1, 2, 3, 4)))


def clip_between(scan: Scan, modulus: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the clip and its derivative at a stiffness of the range, by Hermite's cubics."""
    grid = scan.log10_modulus
    left = int(np.clip(np.searchsorted(grid, modulus, side="right") - 1, 0, len(grid) - 2))
    width = grid[left + 1] - grid[left]
    s = (modulus - grid[left]) / width
    a, b = scan.videos[left], scan.videos[left + 1]
    da, db = width * scan.slopes[left], width * scan.slopes[left + 1]
    clip = (
        (1 + 2 * s) * (1 - s) ** 2 * a
        + s * (1 - s) ** 2 * da
        + s**2 * (3 - 2 * s) * b
        + s**2 * (s - 1) * db
    )
    slope = (6 * s * (s - 1) * (a - b) + (1 - s) * (1 - 3 * s) * da + s * (3 * s - 2) * db) / width
    return clip.astype(np.float32), slope.astype(np.float32)


def force_along(
    scan: Scan, residual_of: Residual, advance: Callable[[], None] = lambda: None
) -> Curve:
    """Draws the force over the range of a scan, finer than its grid.

    Args:
      scan: of the scene.
      residual_of: of a clip, the same function at all points. Compiled by whoever makes it.
      advance: is called after each point.
    """
    grid = scan.log10_modulus
    places = np.linspace(0, len(grid) - 1, num_points(scan))
    points = np.interp(places, np.arange(len(grid)), grid)
    forces = []
    for point in points:
        clip, slope = clip_between(scan, point)
        forces.append(np.asarray(_forces(slope, residual_of(clip)), np.float64))
        advance()
    return Curve(points, np.stack(forces))


def num_points(scan: Scan) -> int:
    """Returns P of `force_along`."""
    return _FINENESS * (len(scan.log10_modulus) - 1) + 1


@jax.jit
def _forces(slope: jax.Array, residual: jax.Array) -> jax.Array:
    return -jnp.sum(slope * residual, (1, 2, 3, 4))


def zeros_of(points: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Returns where a force falls through zero: there a search rests."""
    falls = np.flatnonzero((mean[:-1] > 0) & (mean[1:] <= 0))
    share = mean[falls] / (mean[falls] - mean[falls + 1])
    return points[falls] + share * (points[falls + 1] - points[falls])


def share_of_right_signs(
    points: np.ndarray, mean: np.ndarray, wanted: float, tolerance: float = 0.15
) -> float:
    """Returns the share of points further than `tolerance` from `wanted` that are pushed to it."""
    away = wanted - points
    counts = np.abs(away) > tolerance
    return float(np.mean((np.sign(mean) == np.sign(away))[counts]))


def come_to_rest(points: np.ndarray, mean: np.ndarray, start: float) -> float:
    """Returns where a search that follows the force from `start` ends: a zero, or a bound."""
    zeros = zeros_of(points, mean)
    rises = np.interp(start, points, mean) > 0
    ahead = zeros[zeros >= start] if rises else zeros[zeros <= start]
    if not len(ahead):
        return float(points[-1] if rises else points[0])
    return float(ahead.min() if rises else ahead.max())


def interval_of(
    key: jax.Array, curve: Curve, rest: float, share: float = 0.9
) -> tuple[float, float]:
    """Returns where a zero lies for a share of noises that might as well have been drawn.

    Args:
      key: of the draws.
      curve: whose K draws are independent: an antithetic pair is one of them.
      rest: the zero.
      share: of the draws inside.
    """
    count = curve.forces.shape[1]
    drawn = np.asarray(jax.random.randint(key, (_RESAMPLED, count), 0, count))
    found = []
    for chosen in drawn:
        zeros = zeros_of(curve.log10_modulus, curve.forces[:, chosen].mean(1))
        if len(zeros):
            found.append(zeros[np.argmin(np.abs(zeros - rest))])
    if not found:
        return rest, rest
    low, high = np.quantile(found, [0.5 - 0.5 * share, 0.5 + 0.5 * share])
    return float(low), float(high)
