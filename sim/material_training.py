"""Learns properties of a scene from what is said of its clips, by descent.

A step simulates and films a clip, asks for its residual (minus the way it should change: score
distillation, or the difference to a video), carries that back to the coordinates of the unknown
properties, and moves them. Few numbers are differentiated forwards, at the price of a clip or two
each and whatever the noise; many, as in a field, backwards, with a state kept for each frame.

  state = init_material(theta)
  state, report = material_step(state, batch, share, residual_of, scene, training)

Axes: T, H, W as in `motion_video`; P coordinates in all.

Source: Huang et al. 2024 (DreamPhysics, eq. 3 to 5).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.flatten_util import ravel_pytree

from render.stages import compiled
from sim.motion_video import LN10, MotionVideo, MotionView, film_motion, in_forward_mode
from sim.properties import Smooth, Theta, Unknowns, bounded, roughness, with_properties
from sim.simulation import Simulation

RULES = ("log", "linear", "paper")
_FEW = 8  # coordinates up to which forward mode is the cheaper
_LAST_RATE = 0.1  # of the first one, where the cosine ends
_MEMORY = 0.9  # of the mean length of gradients, a step
_FIELD_RATE = 0.06  # of a number's rate: that of a field's parameters
_LONGEST = 5.0  # times that mean may a gradient be


@dataclasses.dataclass(frozen=True)
class MaterialTraining:
    """How properties are learnt.

    Rules: `log` is Adam on the coordinates. `linear` is Adam on the values themselves, over those
    of the start. `paper` adds t times the derivative with respect to the value to the logarithm
    (eq. 5), t such that the first step is `rate`.
    """

    steps: int = 40
    rate: float = 0.12  # decades of a first step; falls along a cosine
    rule: str = "log"  # of RULES
    smoothness: float = 1.0  # weight of a field's total variation, over the clip's own size


class MaterialBatch(NamedTuple):
    """What chance says of a step."""

    key: jax.Array  # of the noise
    group: jax.Array  # [] int32, of the view's groups


class LearntScene(NamedTuple):
    """What is simulated and filmed."""

    simulation: Simulation
    unknowns: Unknowns
    view: MotionView


ResidualOf = Callable[[jax.Array, MaterialBatch], jax.Array]  # of a clip, in its shape


@struct.dataclass
class MaterialState:
    """What a training goes on from."""

    step: jax.Array  # [] int32
    theta: Theta
    start: Theta  # before the first step
    moments: Any
    length: jax.Array  # [] running mean of the gradients' lengths
    first_length: jax.Array  # [] of the first gradient, as the rule `paper` takes it
    shortened: jax.Array  # [] int32, gradients that were too long


class MaterialReport(NamedTuple):
    """How a step went."""

    loss: jax.Array  # [] half the squared residual of a clip; not finite where the clip failed
    length: jax.Array  # [] of the gradient, before it was shortened
    was_shortened: jax.Array  # [] bool


def init_material(theta: Theta) -> MaterialState:
    """Returns the state before the first step."""
    zero = jnp.zeros(())
    # One array may not be given away twice.
    start, theta = (jax.tree.map(jnp.copy, theta) for _ in range(2))
    return MaterialState(jnp.int32(0), theta, start, _adam().init(theta), zero, zero, jnp.int32(0))


def material_step(
    state: MaterialState,
    batch: MaterialBatch,
    share: jax.Array | float,
    residual_of: ResidualOf,
    scene: LearntScene,
    training: MaterialTraining,
) -> tuple[MaterialState, MaterialReport]:
    """Takes one step.

    Args:
      state: is kept.
      batch: of this step.
      share: of the training that is done.
      residual_of: compiled by whoever makes it.
      scene: with the properties that are not learnt.
      training: static.
    """
    pulled = _pull_forwards if num_coordinates(state.theta) <= _FEW else _pull_backwards
    gradient, residual, failed = pulled(state.theta, batch, residual_of, scene)
    return _move(state, gradient, residual, failed, share, scene.unknowns, training)


def num_coordinates(theta: Theta) -> int:
    """Returns P."""
    return sum(leaf.size for leaf in jax.tree.leaves(theta))


def video_and_slopes(
    theta: Theta, scene: LearntScene, group: jax.Array | int = 0
) -> tuple[MotionVideo, jax.Array]:
    """Returns a clip and its derivatives [P, T, H, W, 3], in the order of `ravel_pytree`."""
    return _compiled_slopes(
        theta, scene._replace(simulation=in_forward_mode(scene.simulation)), group
    )


def _video(theta: Theta, scene: LearntScene, group: jax.Array | int) -> MotionVideo:
    simulation = with_properties(theta, scene.unknowns, scene.simulation)
    return film_motion(simulation, scene.view, group)


def _video_and_slopes(theta, scene, group):
    flat, unravel = ravel_pytree(theta)

    def film(values):
        clip = _video(unravel(values), scene, group)
        return clip.video, clip

    def slope(way):
        return jax.jvp(film, (flat,), (way,), has_aux=True)[1:]

    if len(flat) == 1:  # one pass gives the clip, too
        one, clip = slope(jnp.ones(1))
        return clip, one[None]
    slopes = jax.lax.map(lambda way: slope(way)[0], jnp.eye(len(flat)))
    return film(flat)[1], slopes


_compiled_slopes = compiled(_video_and_slopes)


def _pull_forwards(theta, batch, residual_of, scene):
    clip, slopes = video_and_slopes(theta, scene, batch.group)
    residual = residual_of(clip.video, batch)
    return _dot(theta, slopes, residual), residual, clip.failed


@jax.jit
def _dot(theta, slopes, residual):
    return ravel_pytree(theta)[1](jnp.einsum("pthwc,thwc->p", slopes, residual))


_compiled_video = compiled(_video)


def _pull_backwards(theta, batch, residual_of, scene):
    def film(theta):
        clip = _compiled_video(theta, scene, batch.group)
        return clip.video, clip.failed

    video, pull, failed = jax.vjp(film, theta, has_aux=True)
    residual = residual_of(video, batch)
    return pull(residual)[0], residual, failed


@functools.partial(jax.jit, static_argnames="training")
def _move(state, gradient, residual, failed, share, unknowns, training):
    size = jnp.sum(residual**2)
    if training.smoothness:
        # As large as the clip's own part, whatever its pixels: the weight says how much of it.
        rough = jax.grad(lambda theta: 0.5 * roughness(theta))(state.theta)
        scale = training.smoothness * size
        gradient = jax.tree.map(lambda g, r: g + scale * r, gradient, rough)
    length = optax.tree.norm(gradient)
    mean = jnp.where(state.step == 0, length, state.length)
    limit = jnp.where(mean > 0.0, _LONGEST * mean, jnp.inf)
    was_shortened = length > limit
    gradient = jax.tree.map(lambda g: g * jnp.where(was_shortened, limit / length, 1.0), gradient)
    mean = _MEMORY * mean + (1.0 - _MEMORY) * jnp.minimum(length, limit)
    cosine = _LAST_RATE + (1.0 - _LAST_RATE) * 0.5 * (1.0 + jnp.cos(jnp.pi * share))
    moved, moments, first = _rule(state, gradient, training.rate * cosine, training)
    theta = bounded(moved, unknowns)
    loss = jnp.where(failed, jnp.inf, 0.5 * size)
    state = MaterialState(
        state.step + 1,
        theta,
        state.start,
        moments,
        length=mean,
        first_length=first,
        shortened=state.shortened + was_shortened,
    )
    return state, MaterialReport(loss, length, was_shortened)


def _rule(state, gradient, rate, training):
    """Returns new coordinates, moments, and the length that the rule `paper` measures by."""
    # How the coordinates follow the values, d log10(v / v0) / d(v / v0), as far as they have moved.
    ratio = jax.tree.map(lambda u, u0: 10.0 ** (u - u0), state.theta, state.start)
    by_value = jax.tree.map(lambda g, r: g / (LN10 * r), gradient, ratio)
    if training.rule == "paper":
        first = jnp.where(state.step == 0, optax.tree.norm(by_value), state.first_length)
        t = rate / jnp.maximum(first, 1e-30)
        moved = jax.tree.map(lambda u, g: u - t * g, state.theta, by_value)
        return moved, state.moments, first
    used = by_value if training.rule == "linear" else gradient
    updates, moments = _adam().update(used, state.moments)
    if training.rule == "linear":
        moved = jax.tree.map(
            lambda u0, r, d: u0 + jnp.log10(jnp.maximum(r - LN10 * rate * d, 1e-3)),
            *(state.start, ratio, updates),
        )
    else:
        moved = {name: _stepped(state.theta[name], updates[name], rate) for name in updates}
    return moved, moments, state.first_length


def _stepped(values, update, rate):
    if not isinstance(values, Smooth):
        return values - rate * update
    # All features of a field work together: each takes a small part of the way.
    slow = jax.tree.map(lambda f, d: f - _FIELD_RATE * rate * d, values.field, update.field)
    return Smooth(values.level - rate * update.level, slow)


def _adam() -> optax.GradientTransformation:
    return optax.scale_by_adam(0.8, 0.95)
