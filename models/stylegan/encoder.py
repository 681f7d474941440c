"""An encoder: pictures to the latents that a generator paints them by, in one pass.

Convolutions halve the picture down to 4 x 4 pixels; from what is left come one latent and, small,
each layer's offset from it. A further network on top refines these latents. It is taught in two
phases: first the one latent, by latents alone, without a gradient through the generator; then, with
all that held, offsets and refinement, by the pictures that the latents give.

Pairs of latents and pictures come from the generator itself, and from pictures whose latents are
known. All latents here are in deviations of W along its principal axes.

Axes: N pictures [N, r, r, 3] in [-1, 1], L layers with a latent of their own, w numbers of it.

Sources: Tov et al. 2021 (a latent and small offsets); Sun et al. 2022 (NeRFEditor, 3.2: a
network on top of the encoder).
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct

from models.averaging import moved_average
from models.stylegan.config import GeneratorConfig
from models.stylegan.generator import map_latents, synthesize
from models.stylegan.inversion import picture_loss
from models.stylegan.latents import LatentStatistics, unwhitened, whitened

_ADAM = optax.scale_by_adam(b1=0.9, b2=0.99)
_SLOPE = 0.2
_REFINED = ("offsets", "refinement")  # taught in the second phase


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """The shape of an encoder; hashable, so static under jit."""

    resolution: int  # r
    num_ws: int  # L
    w_dim: int
    channels: tuple[int, ...]  # of sides r / 2, r / 4, ..., 4
    hidden: int = 256
    refining: int = 256  # units of the refinement

    def __post_init__(self):
        if self.resolution != 4 * 2 ** len(self.channels):
            raise ValueError(
                f"expected channels of the sides {self.resolution // 2}, ..., 4, found "
                f"{len(self.channels)}"
            )


@dataclasses.dataclass(frozen=True)
class EncoderTraining:
    """Settings of `encoder_step`; hashable, so static under jit."""

    steps: int  # of the first phase
    refining_steps: int  # of the second
    batch: int = 32  # N, half of them the generator's own where there are others
    rate: float = 2e-3
    refining_rate: float = 1e-3
    warm_up: int = 50  # steps
    offsets: float = 0.01  # weight of the layers' squared distance from each other
    latents: float = 0.1  # weight of the latents' error in the second phase
    square: float = 1.0  # weights of the pictures' error there
    absolute: float = 0.5

    @property
    def all_steps(self) -> int:
        return self.steps + self.refining_steps


PRESETS = {
    "ci": EncoderTraining(steps=60, refining_steps=20, batch=16),
    "cpu": EncoderTraining(steps=6000, refining_steps=600),
    "gpu": EncoderTraining(steps=60_000, refining_steps=20_000, batch=128, rate=1e-3),
}


class Encoded(NamedTuple):
    """Latents of pictures."""

    ws: jax.Array  # [N, L, w] refined
    coarse: jax.Array  # [N, L, w] before
    shared: jax.Array  # [N, w] without offsets of layers


class EncoderBatch(NamedTuple):
    """What a step is taught on."""

    z: jax.Array  # [N, z_dim] of which the generator paints pictures
    images: jax.Array | None  # [M, r, r, 3] other pictures, or None
    image_z: jax.Array | None  # [M, z_dim] what they mean


@struct.dataclass
class EncoderState:
    """What a training goes on from."""

    step: jax.Array  # [] int32
    params: Any
    averaged: Any  # over the last steps: what is kept in the end
    moments: Any


class EncoderReport(NamedTuple):
    """How a step went."""

    loss: jax.Array  # []
    scores: dict[str, jax.Array]


class TrainedEncoder(NamedTuple):
    """An encoder that can be used."""

    params: Any
    statistics: LatentStatistics
    config: EncoderConfig
    facts: dict[str, Any]  # JSON


class LatentEncoder(nn.Module):
    """The network; it gives latents in deviations."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, images: jax.Array) -> Encoded:
        """Returns the latents of pictures [N, r, r, 3]."""
        config, x = self.config, images
        for index, channels in enumerate(config.channels):
            x = nn.Conv(channels, (3, 3), 2, name=f"conv{index}")(x)
            x = nn.leaky_relu(x, _SLOPE)
        x = nn.Dense(config.hidden, name="hidden")(x.reshape(len(x), -1))
        x = nn.leaky_relu(x, _SLOPE)
        shape = config.num_ws, config.w_dim
        shared = nn.Dense(config.w_dim, name="shared")(x)
        small = nn.Dense(math.prod(shape), name="offsets", kernel_init=nn.initializers.zeros)
        coarse = shared[:, None] + small(x).reshape(-1, *shape)
        return Encoded(coarse + Refinement(config, name="refinement")(coarse, x), coarse, shared)


class Refinement(nn.Module):
    """What is added to the encoder's latents; nothing before it is taught."""

    config: EncoderConfig

    @nn.compact
    def __call__(self, coarse: jax.Array, seen: jax.Array) -> jax.Array:
        """Returns [N, L, w] of latents [N, L, w] and the encoder's features [N, hidden]."""
        x = jnp.concatenate([coarse.reshape(len(coarse), -1), seen], -1)
        x = nn.leaky_relu(nn.Dense(self.config.refining, name="fc0")(x), _SLOPE)
        last = nn.Dense(math.prod(coarse.shape[1:]), name="fc1", kernel_init=nn.initializers.zeros)
        return last(x).reshape(coarse.shape)


def encoder_config(generator: GeneratorConfig, base: int = 1024, most: int = 96) -> EncoderConfig:
    """Returns the shape of an encoder for a generator, narrow where pictures are large."""
    sides = [generator.resolution // 2**i for i in range(1, len(generator.channels))]
    channels = tuple(min(max(base // side, 16), most) for side in sides)
    return EncoderConfig(generator.resolution, generator.num_ws, generator.w_dim, channels)


@functools.partial(jax.jit, static_argnames="config")
def encode_latents(
    params: Any, images: jax.Array, statistics: LatentStatistics, config: EncoderConfig
) -> Encoded:
    """Returns latents, in W's own units, of pictures [N, r, r, 3] in [-1, 1]."""
    side = config.resolution
    if images.shape[1:] != (side, side, 3):
        raise ValueError(f"expected pictures of {side} x {side}, found {images.shape}")
    encoded = LatentEncoder(config).apply({"params": params}, images)
    return Encoded(*(unwhitened(values, statistics) for values in encoded))


def init_encoder(key: jax.Array, config: EncoderConfig) -> EncoderState:
    """Returns the state before the first step."""
    images = jnp.zeros((1, config.resolution, config.resolution, 3))
    params = jax.jit(LatentEncoder(config).init)(key, images)["params"]
    moments = {name: _ADAM.init(part) for name, part in params.items()}
    return EncoderState(jnp.int32(0), params, jax.tree.map(jnp.copy, params), moments)


@functools.partial(
    jax.jit, static_argnames=("config", "encoder", "training", "refines"), donate_argnames="state"
)
def encoder_step(
    state: EncoderState,
    batch: EncoderBatch,
    generator: Any,
    statistics: LatentStatistics,
    config: GeneratorConfig,
    encoder: EncoderConfig,
    training: EncoderTraining,
    refines: bool,
) -> tuple[EncoderState, EncoderReport]:
    """Takes one step.

    Args:
      state: given away.
      batch: of this step.
      generator: params of it.
      statistics: of W.
      config: static, of the generator.
      encoder: static.
      training: static.
      refines: static: whether it is a step of the second phase.
    """
    images, wanted = _pairs(batch, generator, statistics, config)
    moving = {name: p for name, p in state.params.items() if (name in _REFINED) == refines}
    gradient, report = jax.grad(_loss, has_aux=True)(
        moving, state.params, images, wanted, generator, statistics, config, encoder, training,
        refines,
    )  # fmt: skip
    rate = _rate(state.step, training, refines)
    params, moments = dict(state.params), dict(state.moments)
    for name, part in moving.items():
        updates, moments[name] = _ADAM.update(gradient[name], moments[name])
        params[name] = jax.tree.map(lambda p, u: p - rate * u, part, updates)
    averaged = moved_average(state.averaged, params, state.step, 0.998)
    return EncoderState(state.step + 1, params, averaged, moments), report


def _pairs(
    batch: EncoderBatch, generator: Any, statistics: LatentStatistics, config: GeneratorConfig
) -> tuple[jax.Array, jax.Array]:
    """Pictures [N + M, r, r, 3], and their latents [N + M, w] in deviations."""
    buffers = {"w_avg": statistics.mean}
    ws = map_latents(generator, buffers, batch.z, None, config)
    images = synthesize(generator, ws, None, config)
    if batch.images is not None:
        others = map_latents(generator, buffers, batch.image_z, None, config)
        ws, images = jnp.concatenate([ws, others]), jnp.concatenate([images, batch.images])
    return images, whitened(ws[:, 0], statistics)


def _loss(
    moving: Any,
    params: Any,
    images: jax.Array,
    wanted: jax.Array,
    generator: Any,
    statistics: LatentStatistics,
    config: GeneratorConfig,
    encoder: EncoderConfig,
    training: EncoderTraining,
    refines: bool,
) -> tuple[jax.Array, EncoderReport]:
    found = LatentEncoder(encoder).apply({"params": params | moving}, images)
    if not refines:
        error = jnp.mean((found.shared - wanted) ** 2)
        return error, EncoderReport(error, {"latent_r2": 1.0 - error / jnp.mean(wanted**2)})
    ws = found.ws
    painted = synthesize(generator, unwhitened(ws, statistics), None, config)
    each = picture_loss(painted - images, training.square, training.absolute)
    loss = jnp.mean(each) + training.latents * jnp.mean((ws - wanted[:, None]) ** 2)
    loss += training.offsets * jnp.mean((ws - jnp.mean(ws, 1, keepdims=True)) ** 2)
    noise = jnp.mean((painted - images) ** 2, (1, 2, 3)) / 4.0
    return loss, EncoderReport(loss, {"train_psnr_db": jnp.mean(-10.0 * jnp.log10(noise))})


def _rate(step: jax.Array, training: EncoderTraining, refines: bool) -> jax.Array:
    """Warmed up and brought down by a cosine, in each phase."""
    begin, length = (training.steps, training.refining_steps) if refines else (0, training.steps)
    at = step - begin
    share = jnp.clip(at / max(length, 1), 0.0, 1.0)
    warm = jnp.minimum((at + 1.0) / min(training.warm_up, max(length // 4, 1)), 1.0)
    return (
        (training.refining_rate if refines else training.rate)
        * warm
        * (0.02 + 0.98 * 0.5 * (1.0 + jnp.cos(np.pi * share)))
    )
