"""Supervised learning of a generator: pictures whose latents are known are regressed from them.

A few thousand CPU-seconds teach what an adversarial training needs millions of pictures for, where
a fixed map says what picture a latent means. What makes it quick:

* the mapping starts affine, w = z + 2.5, and is held: each number of z is a direction of W from the
  first step on (official starts forget the pose before the pictures can show it);
* stages of growing resolution, each through the picture that the blocks so far have painted;
* the absolute error in every band of a Laplacian pyramid, with pixels weighted;
* Muon for the 3 x 3 kernels, Adam for all else.

The arithmetic, the parameters and their names stay StyleGAN2's.

Axes: N pictures of a batch, r their side, C channels.

Sources: Dosovitskiy et al. 2015 (pictures by regression from what is in them); Denton et al. 2015
(Laplacian pyramid); Karras et al. 2018 (growing); Jordan et al. 2024 (Muon).
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from optax import contrib

from models.averaging import moved_average
from models.stylegan.config import GeneratorConfig
from models.stylegan.generator import Generator, init_generator, map_latents, synthesize

_COARSEST = 4  # side at which the pyramid ends
_AFFINE_BIAS = 2.5  # deviations of z: almost none of it lands on the bent side of a leaky ReLU
_AFFINE_NOISE = 0.01
_QUIET_PAINT = 0.3  # of the first colours
_ADAM = {"adam_b1": 0.9, "adam_b2": 0.99}
_MUON_RMS = 0.4  # of a kernel's step, beside Adam's
_LAST_RATE = 0.02
_AVERAGED = 10_000  # latents that the mean latent is taken over


@dataclasses.dataclass(frozen=True)
class Stage:
    """Some steps at one resolution."""

    resolution: int  # r
    steps: int
    batch: int  # N
    rate: float


@dataclasses.dataclass(frozen=True)
class RegressionTraining:
    """Settings of `regression_step`; hashable, so static under jit."""

    stages: tuple[Stage, ...]
    warm_up: int = 30  # steps
    cool_down: float = 0.3  # share of all steps over which the rate falls
    decay: float = 0.998  # of the averaged parameters, a step

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def stage_of(self, step: int) -> Stage:
        """Returns the stage of a step's number; the last one for all beyond."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]


class RegressionBatch(NamedTuple):
    """Latents and what they mean."""

    z: jax.Array  # [N, z_dim]
    images: jax.Array  # [N, r, r, 3] in [-1, 1]
    weights: jax.Array  # [N, r, r] what pixels count


@struct.dataclass
class RegressionState:
    """What a training goes on from."""

    step: jax.Array  # [] int32
    mapping: Any  # held
    synthesis: Any
    averaged: Any  # of synthesis, over the last steps: what is kept in the end
    moments: Any


class RegressionReport(NamedTuple):
    """How a step went."""

    loss: jax.Array  # []
    scores: dict[str, jax.Array]  # train_psnr_db [], of the batch


def init_regression(
    key: jax.Array, config: GeneratorConfig, start: Generator | None = None
) -> RegressionState:
    """Returns the state before the first step.

    Args:
      key: of a new generator.
      config: its shape.
      start: a generator of that shape that was taught before; None makes a new one.
    """
    if start is None:
        params = affine_start(key, init_generator(key, config).params, config)
    else:
        params = jax.tree.map(jnp.copy, start.params)
    synthesis = params["synthesis"]
    averaged = jax.tree.map(jnp.copy, synthesis)
    moments = _optimizer().init(synthesis)
    return RegressionState(jnp.int32(0), params["mapping"], synthesis, averaged, moments)


def affine_start(key: jax.Array, params: Any, config: GeneratorConfig) -> Any:
    """Makes the mapping w = z + 2.5, with styles that begin with a mean of one, and quiet colours.

    Args:
      key: of a little noise in the mapping, so that no direction is left alone for ever.
      params: of a generator whose z and w are of one size.
      config: its own.
    """
    size = config.w_dim
    if config.z_dim != size:
        raise ValueError(f"expected z_dim and w_dim alike, found {config.z_dim} and {size}")
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    rate = config.mapping_rate
    mapping = {}
    for layer in range(config.mapping_layers):
        noise = _AFFINE_NOISE / math.sqrt(size) * rng.standard_normal((size, size))
        matrix = np.eye(size) / math.sqrt(2) + noise
        bias = np.full(size, _AFFINE_BIAS / math.sqrt(2) if layer == 0 else 0.0)
        # `FullyConnected` multiplies by rate over the root of its inputs, and biases by rate.
        mapping[f"fc{layer}"] = {"weight": matrix * math.sqrt(size) / rate, "bias": bias / rate}

    def settled(name: str, layer: dict[str, Any]) -> dict[str, Any]:
        affine = layer["affine"]
        shift = _AFFINE_BIAS / math.sqrt(size) * np.sum(affine["weight"], 0)
        layer = layer | {"affine": affine | {"bias": 1.0 - shift}}
        if name == "torgb":
            layer["weight"] = _QUIET_PAINT * np.asarray(layer["weight"])
        return layer

    synthesis = {
        block: {
            name: settled(name, layer) if isinstance(layer, dict) else layer
            for name, layer in layers.items()
        }
        for block, layers in params["synthesis"].items()
    }
    whole = {"mapping": mapping, "synthesis": synthesis}
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float32)), whole)


@functools.partial(jax.jit, static_argnames=("config", "training"), donate_argnames="state")
def regression_step(
    state: RegressionState,
    batch: RegressionBatch,
    share: jax.Array,
    config: GeneratorConfig,
    training: RegressionTraining,
) -> tuple[RegressionState, RegressionReport]:
    """Takes one step; the stage follows from the batch's pictures.

    On several devices it is the same function: see `models.devices`.

    Args:
      state: given away.
      batch: of this step.
      share: [] of the training that is done.
      config: static.
      training: static.
    """
    ws = _latents(state.mapping, batch.z, config)
    resolution = batch.images.shape[1]
    gradient, (loss, psnr_db) = jax.grad(_loss, has_aux=True)(
        state.synthesis, ws, batch, resolution, config
    )
    updates, moments = _optimizer().update(gradient, state.moments, state.synthesis)
    rate = _rate(state.step, share, training)
    synthesis = jax.tree.map(lambda p, u: p + rate * u, state.synthesis, updates)
    averaged = moved_average(state.averaged, synthesis, state.step, training.decay)
    state = RegressionState(state.step + 1, state.mapping, synthesis, averaged, moments)
    return state, RegressionReport(loss, {"train_psnr_db": psnr_db})


def regression_generator(
    state: RegressionState, config: GeneratorConfig, facts: dict[str, Any]
) -> Generator:
    """Returns the generator as it is now: averaged parameters, and the mean latent."""
    generator = init_generator(jax.random.key(0), config)
    params = {"mapping": state.mapping, "synthesis": state.averaged}
    z = np.random.default_rng(0).normal(size=(_AVERAGED, config.z_dim)).astype(np.float32)
    mean = jnp.mean(_latents(state.mapping, z, config)[:, 0], 0)
    buffers = generator.buffers | {"w_avg": mean}
    return Generator(params, buffers, config, facts)


def laplacian_loss(error: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the sum over bands of the mean absolute error, weighted.

    Args:
      error: [N, r, r, C].
      weights: [N, r, r] what pixels count; of mean one, or the loss is larger.
    """
    loss = jnp.zeros(())
    while error.shape[1] > _COARSEST:
        coarse = _halved(error)
        loss += _weighted_mean(weights, error - _doubled(coarse))
        error, weights = coarse, _halved(weights)
    return loss + _weighted_mean(weights, error)


def _loss(
    synthesis: Any,
    ws: jax.Array,
    batch: RegressionBatch,
    resolution: int,
    config: GeneratorConfig,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    images = synthesize({"synthesis": synthesis}, ws, None, config, upto=resolution)
    error = images - batch.images
    loss = laplacian_loss(error, batch.weights / jnp.mean(batch.weights))
    # Of pictures in [-1, 1]: the square of their range is four.
    return loss, (loss, -10.0 * jnp.log10(jnp.mean(error**2) / 4.0))


def _latents(mapping: Any, z: jax.Array, config: GeneratorConfig) -> jax.Array:
    """Latents of all layers, not truncated."""
    return map_latents({"mapping": mapping}, {"w_avg": jnp.zeros(config.w_dim)}, z, None, config)


def _rate(step: jax.Array, share: jax.Array, training: RegressionTraining) -> jax.Array:
    """The stage's rate, warmed up at the start of the training and brought down at its end."""
    ends = np.cumsum([stage.steps for stage in training.stages])
    rates = jnp.array([stage.rate for stage in training.stages], jnp.float32)
    stage = jnp.minimum(jnp.sum(step >= ends), len(ends) - 1)
    warm = jnp.minimum((step + 1.0) / training.warm_up, 1.0)
    cool = jnp.clip((1.0 - share) / training.cool_down, 0.0, 1.0)
    return rates[stage] * warm * (_LAST_RATE + (1.0 - _LAST_RATE) * cool)


def _optimizer() -> optax.GradientTransformation:
    return contrib.muon(
        learning_rate=1.0,
        consistent_rms=_MUON_RMS,
        muon_weight_dimension_numbers=_kernels,
        **_ADAM,
    )


def _kernels(params: Any) -> Any:
    """Tells Muon which leaves are kernels: matrices of nine taps times channels, by channels."""

    def kind(leaf: jax.Array) -> contrib.MuonDimensionNumbers | None:
        is_kernel = leaf.ndim == 4 and leaf.shape[0] == 3
        return contrib.MuonDimensionNumbers((0, 1, 2), 3) if is_kernel else None

    return jax.tree.map(kind, params)


def _halved(x: jax.Array) -> jax.Array:
    """Averages blocks of 2 x 2 of [N, r, r, ...]."""
    count, height, width, *rest = x.shape
    return jnp.mean(x.reshape(count, height // 2, 2, width // 2, 2, *rest), (2, 4))


def _doubled(x: jax.Array) -> jax.Array:
    return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)


def _weighted_mean(weights: jax.Array, error: jax.Array) -> jax.Array:
    return jnp.mean(weights[..., None] * jnp.abs(error))
