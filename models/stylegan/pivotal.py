"""Pivotal tuning: the generator is bent a little, until the found latents show their pictures.

The latents of an inversion, the pivots, stay; the synthesis network learns the pictures at them.
What lies around is held: at latents between a pivot and random ones the tuned generator is asked
for what the untuned one paints, so that edits of the pivots go on to mean what they meant.

Axes: N pictures [N, H, W, 3] in [-1, 1], L layers with a latent of their own, w numbers of it.

Source: Roich et al. 2022 (pivotal tuning, locality).
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from models.stylegan.config import GeneratorConfig
from models.stylegan.generator import synthesize
from models.stylegan.inversion import perceptual_distance, picture_loss
from models.stylegan.latents import LatentStatistics
from models.stylegan.synthesis import Noise


@dataclasses.dataclass(frozen=True)
class TuningConfig:
    """Settings of `tune`; hashable, so static under jit."""

    steps: int = 350  # at most
    rate: float = 1e-3  # the paper's, for generators of 1024 pixels, is 3e-4
    square: float = 1.0  # weights: of the mean squared error, of pictures in [-1, 1]
    absolute: float = 0.0  # of the mean absolute error
    perceptual: float = 1.0  # of LPIPS, where its features are there
    locality: float = 0.1  # of the squared change around the pivots
    reach: float = 1.0  # how far around: in root mean square distances of W from its mean
    stop_lpips: float = 0.03  # it ends when all pictures are as near as this (the paper: .06),
    stop_psnr_db: float = 34.0  # or, without features, as this
    network: str = "vgg16"  # of LPIPS


class Tuning(NamedTuple):
    """What came of it."""

    params: Any  # of the generator
    distances: jax.Array  # [N] before the last step: LPIPS, or root mean squares in [0, 1]
    steps: jax.Array  # [] that were taken


@struct.dataclass
class _State:
    step: jax.Array  # [] int32
    synthesis: Any
    moments: Any
    distances: jax.Array  # [N] before the last step


def tune(
    key: jax.Array,
    params: Any,
    ws: jax.Array,
    images: jax.Array,
    noise: Noise | None,
    statistics: LatentStatistics,
    features: Any | None,
    config: GeneratorConfig,
    tuning: TuningConfig = TuningConfig(),
    on_step: Callable[[], None] = lambda: None,
) -> Tuning:
    """Tunes one generator to all pictures of a batch.

    Steps are called one by one, as those of `inversion.invert` are.

    Args:
      key: of the latents at which it is held.
      params: of the generator; the mapping stays.
      ws: [N, L, w] the pivots.
      images: [N, H, W, 3] in [-1, 1].
      noise: of the pictures, or None.
      statistics: of W.
      features: parameters of LPIPS, or None to do without.
      config: of the generator.
      tuning: settings.
      on_step: called after each step.
    """
    before = params["synthesis"]
    state = _State(
        step=jnp.int32(0),
        synthesis=jax.tree.map(jnp.copy, before),  # steps give theirs away
        moments=optax.adam(tuning.rate).init(before),
        distances=jnp.full(len(ws), jnp.inf),
    )
    stop = tuning.stop_lpips
    if not _is_perceptual(features, tuning):
        stop = 10.0 ** (-tuning.stop_psnr_db / 20.0)
    while int(state.step) < tuning.steps and bool(jnp.any(state.distances > stop)):
        state = _tune_step(
            key, state, before, ws, images, noise, statistics, features, stop, config, tuning
        )
        on_step()
    return Tuning(params | {"synthesis": state.synthesis}, state.distances, state.step)


@functools.partial(jax.jit, static_argnames=("config", "tuning"), donate_argnames="state")
def _tune_step(
    key: jax.Array,
    state: _State,
    before: Any,
    ws: jax.Array,
    images: jax.Array,
    noise: Noise | None,
    statistics: LatentStatistics,
    features: Any | None,
    stop: jax.Array,
    config: GeneratorConfig,
    tuning: TuningConfig,
) -> _State:
    def loss(synthesis: Any) -> tuple[jax.Array, jax.Array]:
        painted = _painted(synthesis, ws, noise, config)
        each = picture_loss(painted - images, tuning.square, tuning.absolute)
        if _is_perceptual(features, tuning):
            distances = perceptual_distance(features, painted, images, tuning.network)
            each += tuning.perceptual * distances
        else:
            distances = 0.5 * jnp.sqrt(jnp.mean((painted - images) ** 2, (1, 2, 3)))
        total = jnp.sum(each)
        if tuning.locality:
            # Without noise: that of the pictures is theirs.
            around = _around(drawn, ws, statistics, tuning.reach)
            new, old = (_painted(s, around, None, config) for s in (synthesis, before))
            total += tuning.locality * len(ws) * jnp.mean((new - old) ** 2)
        return total, distances

    drawn = jax.random.fold_in(key, state.step)
    gradient, distances = jax.grad(loss, has_aux=True)(state.synthesis)
    updates, moments = optax.adam(tuning.rate).update(gradient, state.moments)
    # The distances are those before the step; they stop it, and the step with it.
    share = jnp.where(jnp.all(distances <= stop), 0.0, 1.0)
    synthesis = jax.tree.map(lambda p, u: p + share * u, state.synthesis, updates)
    return _State(state.step + 1, synthesis, moments, distances)


def _is_perceptual(features: Any | None, tuning: TuningConfig) -> bool:
    return features is not None and tuning.perceptual > 0


def _painted(
    synthesis: Any, ws: jax.Array, noise: Noise | None, config: GeneratorConfig
) -> jax.Array:
    return synthesize({"synthesis": synthesis}, ws, noise, config)


def _around(key: jax.Array, ws: jax.Array, statistics: LatentStatistics, reach: float) -> jax.Array:
    """A latent [1, L, w] some way from one of the pivots, towards a random one."""
    which, how = jax.random.split(key)
    pivot = ws[jax.random.randint(which, (), 0, len(ws))]
    values = jax.random.normal(how, statistics.deviations.shape) * statistics.deviations
    away = values @ statistics.axes + statistics.mean - pivot
    length = jnp.sqrt(jnp.sum(away**2, -1, keepdims=True))
    far = reach * math.sqrt(2.0) * jnp.sqrt(jnp.sum(statistics.deviations**2))
    return (pivot + far * away / (length + 1e-8))[None]
