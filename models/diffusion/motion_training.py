"""Trains the small prior on clips: EDM's loss, matrices by Muon and the rest by Adam.

Axes: B clips of a batch. A batch is a pure function of seed and step.

Sources: Karras et al. 2022 (the loss, its weight); Jordan et al. 2024 (Muon).
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from optax import contrib

from models.averaging import moved_average
from models.diffusion.denoiser import along
from models.diffusion.motion_answers import SIGMA_RANGE
from models.diffusion.motion_dit import MotionDit
from models.diffusion.motion_prior import PriorConfig, predict_clip


@dataclasses.dataclass(frozen=True)
class PriorTraining:
    """How a prior is trained."""

    steps: int
    batch: int = 16  # B
    rate: float = 2e-2  # of Muon; falls to a hundredth along a cosine
    adam_rate: float = 1.5e-3
    warm_up: int = 100  # steps
    null_share: float = 0.2  # of clips whose label is not told
    sigma_range: tuple[float, float] = SIGMA_RANGE
    decay: float = 0.995  # of the averaged parameters, a step


PRESETS = {
    "ci": PriorTraining(steps=300),
    "cpu": PriorTraining(steps=6_500, batch=32),
    "gpu": PriorTraining(steps=40_000, batch=128),
}


class Batch(NamedTuple):
    """Clips of one step."""

    clips: jax.Array  # [B, T, H, W, 3] in [-1, 1]
    log10_modulus: jax.Array  # [B]


@struct.dataclass
class PriorState:
    """What a training goes on from."""

    step: jax.Array  # [] int32
    params: Any
    averaged: Any  # of the parameters, over the last steps: what is kept in the end
    moments: Any


class PriorReport(NamedTuple):
    """How a step went."""

    loss: jax.Array  # [] weighted, about one at the start


@functools.partial(jax.jit, static_argnames=("config", "training"))
def init_prior(key: jax.Array, config: PriorConfig, training: PriorTraining) -> PriorState:
    """Returns the state before the first step."""
    dit = config.dit
    frame = jnp.zeros((1, dit.size, dit.size, 3))
    clip = jnp.zeros((1, dit.num_frames, dit.size, dit.size, 3))
    one = jnp.zeros(1)
    params = MotionDit(dit).init(key, clip, frame, one, one, one)
    averaged = jax.tree.map(jnp.copy, params)
    return PriorState(jnp.int32(0), params, averaged, _optimizer(training).init(params))


@functools.partial(jax.jit, static_argnames=("config", "training"), donate_argnames="state")
def train_prior_step(
    key: jax.Array,
    state: PriorState,
    batch: Batch,
    share: jax.Array,
    config: PriorConfig,
    training: PriorTraining,
) -> tuple[PriorState, PriorReport]:
    """Takes one step.

    Args:
      key: of the run; the step's number is folded in.
      state: given away.
      batch: clips of this step.
      share: [] of the training that is done.
      config: static.
      training: static.
    """
    noise = _draw_noise(jax.random.fold_in(key, state.step), batch, config, training)
    loss, gradient = jax.value_and_grad(_loss)(state.params, batch.clips, noise, config)
    updates, moments = _optimizer(training).update(gradient, state.moments, state.params)
    rate = _rate(state.step, share, training)
    params = jax.tree.map(lambda p, u: p + rate * u, state.params, updates)
    averaged = moved_average(state.averaged, params, state.step, training.decay)
    return PriorState(state.step + 1, params, averaged, moments), PriorReport(loss)


@functools.partial(jax.jit, static_argnames="config")
def relative_errors(
    key: jax.Array, params: Any, batch: Batch, sigma: jax.Array | float, config: PriorConfig
) -> tuple[jax.Array, jax.Array]:
    """Returns squared errors and energies [B] of clips at one level, told their stiffness.

    Their ratio is zero for a prior that knows the clip, and one for a prior that says that
    nothing moves.
    """
    eps = jax.random.normal(key, batch.clips.shape)
    level = jnp.full(len(batch.clips), sigma)
    D = predict_clip(
        params,
        batch.clips + sigma * eps,
        level,
        batch.clips[:, 0],
        batch.log10_modulus,
        jnp.ones_like(level),
        config,
    )
    still = batch.clips[:, :1]
    axes = (1, 2, 3, 4)
    return jnp.sum((D - batch.clips) ** 2, axes), jnp.sum((batch.clips - still) ** 2, axes)


class _Noise(NamedTuple):
    eps: jax.Array  # [B, T, H, W, 3]
    sigma: jax.Array  # [B]
    label: jax.Array  # [B]
    told: jax.Array  # [B]


def _draw_noise(key, batch: Batch, config: PriorConfig, training: PriorTraining) -> _Noise:
    keys = jax.random.split(key, 4)
    count = len(batch.clips)
    low, high = training.sigma_range
    part = (jnp.arange(count) + jax.random.uniform(keys[0], count)) / count
    sigma = low * (high / low) ** jax.random.permutation(keys[3], part)
    blur = config.band * jax.random.normal(keys[1], count)
    told = jax.random.uniform(keys[2], count) >= training.null_share
    eps = jax.random.normal(keys[0], batch.clips.shape)
    return _Noise(eps, sigma, batch.log10_modulus + blur, told.astype(jnp.float32))


def _loss(params, clips, noise: _Noise, config: PriorConfig) -> jax.Array:
    noisy = clips + along(noise.sigma, clips) * noise.eps
    D = predict_clip(params, noisy, noise.sigma, clips[:, 0], noise.label, noise.told, config)
    s = config.deviation
    weight = (noise.sigma**2 + s**2) / (noise.sigma * s) ** 2  # F's error then, of all levels alike
    return jnp.mean(weight * jnp.mean((D - clips)[:, 1:] ** 2, (1, 2, 3, 4)))


def _optimizer(training: PriorTraining) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        contrib.muon(
            learning_rate=training.rate,
            adam_learning_rate=training.adam_rate,
            adam_b2=0.98,
            muon_weight_dimension_numbers=_matrices,
        ),
    )


def _matrices(params: Any) -> Any:
    """Tells Muon which leaves are matrices of the blocks, one for each of the scanned layers."""

    def kind(path, leaf):
        is_block = any(getattr(part, "key", None) == "blocks" for part in path)
        is_steer = any(getattr(part, "key", None) == "steer" for part in path)
        if is_block and leaf.ndim == 3 and not is_steer:
            return contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2)
        return None

    return jax.tree_util.tree_map_with_path(kind, params)


def _rate(step: jax.Array, share: jax.Array, training: PriorTraining) -> jax.Array:
    """The share of the full rates: a warm-up, then a cosine down to a hundredth."""
    warm = jnp.minimum((step + 1.0) / training.warm_up, 1.0)
    return warm * (0.01 + 0.99 * 0.5 * (1.0 + jnp.cos(np.pi * share)))
