"""Fits properties of a scene to a motion that was seen: a video, or where the particles went.

Least squares in a few coordinates, by Levenberg and Marquardt with the exact Jacobian that forward
mode gives. What swings has many local minima in stiffness: a clip that is out of step by a whole
period looks right in places, and so does a stripe that lies on its neighbour. So the first key
frames are fitted before the later ones, and coarse pictures before fine ones.

This is what PhysDreamer (Zhang et al. 2024) does with a video that a network made up, there by
gradient descent; and the control that says how much a clip can tell of a stiffness at all.

Axes: T key frames, P coordinates, N particles.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from render.stages import compiled
from sim.material_training import LearntScene, video_and_slopes
from sim.motion_video import in_forward_mode
from sim.particles import out_of_box
from sim.properties import Theta, bounded, with_properties
from sim.simulation import roll_clip

# What is seen at coordinates: values [T, ...], derivatives [P, T, ...], whether the clip failed.
Observe = Callable[[Theta], tuple[jax.Array, jax.Array, jax.Array]]

_LONGEST = 0.4  # of a step, coordinates
_DAMPING = 1e-3  # at the start, of the normal matrix' diagonal
_MOST_DAMPING = 1e6


class Stage(NamedTuple):
    """A part of a fit."""

    share: float  # of the key frames, from the first on
    pixels: int  # of a side, that count as one
    still: float  # coordinates: a step that is shorter ends it


LAST = Stage(1.0, 1, 1e-3)
STAGES = (Stage(0.4, 4, 0.03), Stage(0.7, 2, 0.03), LAST)


class Match(NamedTuple):
    """What a fit found."""

    theta: Theta
    cost: float  # half the mean squared difference to what was seen, at all key frames
    converged: bool
    evaluations: int


def observe_video(scene: LearntScene) -> Observe:
    """Sees clips, in [-1, 1]."""

    def observe(theta: Theta) -> tuple[jax.Array, jax.Array, jax.Array]:
        clip, slopes = video_and_slopes(theta, scene)
        return clip.video, slopes, clip.failed

    return observe


def observe_places(scene: LearntScene) -> Observe:
    """Sees where the particles are, [T, N, 3] in the splats' own space."""

    def observe(theta: Theta) -> tuple[jax.Array, jax.Array, jax.Array]:
        return _places_and_slopes(theta, scene)

    return observe


def _places_and_slopes_of(theta, scene):
    simulation = in_forward_mode(scene.simulation)
    flat, unravel = ravel_pytree(theta)
    timing = scene.view.timing

    def places(values):
        moving = with_properties(unravel(values), scene.unknowns, simulation)
        per_frame = timing.groups * timing.per_frame
        frames = roll_clip(moving, per_frame, timing.num_frames)
        return out_of_box(simulation.placement, frames.x), frames.out_of_grid

    x, failed = places(flat)
    slopes = jax.lax.map(
        lambda way: jax.jvp(lambda v: places(v)[0], (flat,), (way,))[1], jnp.eye(len(flat))
    )
    return x, slopes, failed


_places_and_slopes = compiled(_places_and_slopes_of)


def match(
    observe: Observe,
    seen: np.ndarray,
    theta: Theta,
    scene: LearntScene,
    stages: Sequence[Stage] = STAGES,
    steps: int = 12,
    advance: Callable[[], None] = lambda: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Match:
    """Fits coordinates to what was seen.

    Args:
      observe: of the scene.
      seen: [T, ...], as `observe` gives values.
      theta: to start from.
      scene: whose unknowns bound them.
      stages: one after the other.
      steps: most evaluations for each stage.
      advance: is called after each evaluation.
      is_stopped: is asked before each.
    """
    evaluations, converged = 0, False
    for stage in stages:
        length = max(2, round(stage.share * len(seen)))
        theta, cost, converged, used = _fit(
            observe, seen[:length], theta, scene, stage, steps, advance, is_stopped
        )
        evaluations += used
    return Match(theta, cost, converged, evaluations)


def _fit(observe, seen, theta, scene, stage, steps, advance, is_stopped):
    """Levenberg and Marquardt on the key frames `seen`, as coarse as a stage has them."""

    def part(values):
        values = np.asarray(values[: len(seen)], np.float64)
        if values.ndim < 4 or stage.pixels == 1:
            return values.ravel()
        length, height, width, channels = values.shape
        n = stage.pixels
        values = values[:, : height // n * n, : width // n * n]
        return values.reshape(length, height // n, n, width // n, n, channels).mean((2, 4)).ravel()

    wanted = part(seen)
    flat, unravel = ravel_pytree(theta)
    flat = np.asarray(flat, np.float64)

    def look(flat):
        values, slopes, failed = jax.device_get(observe(unravel(jnp.float32(flat))))
        advance()
        residual = part(values) - wanted
        J = np.stack([part(slope) for slope in slopes])
        cost = np.inf if failed or not np.isfinite(J).all() else 0.5 * np.mean(residual**2)
        return cost, residual, J

    cost, residual, J = look(flat)
    damping, count, converged = _DAMPING, 1, False
    while count < steps and damping < _MOST_DAMPING and not converged and not is_stopped():
        if not np.isfinite(cost):
            break
        normal, gradient = J @ J.T, J @ residual
        step = -np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-30), gradient)
        step *= _LONGEST / max(_LONGEST, np.abs(step).max())
        inside = ravel_pytree(bounded(unravel(jnp.float32(flat + step)), scene.unknowns))[0]
        step = np.asarray(inside, np.float64) - flat
        is_short = bool(np.abs(step).max() < stage.still)
        new = look(flat + step)
        count += 1
        # A step that is short because it is damped says nothing.
        converged = is_short and (new[0] <= cost or damping <= 1.0)
        if new[0] <= cost:
            flat, (cost, residual, J) = flat + step, new
            damping *= 0.2
        else:
            damping *= 10.0
    return unravel(jnp.float32(flat)), float(cost), converged, count
