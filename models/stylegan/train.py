"""Adversarial training of a generator and its discriminator, and the sizes that are trained.

A step moves both networks once: non-saturating losses of changed pictures, R1 on real ones and the
unevenness of path lengths every few steps. Where a picture's latent is known, its error can stay in
the loss: a generator that was taught by regression then keeps what its latents mean.

Axes: N pictures of a batch, r their side.

Source: Karras et al. 2020 (StyleGAN2, and adaptive augmentation).
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from models.averaging import moved_average
from models.stylegan.augment import adapted_probability, augment
from models.stylegan.config import DiscriminatorConfig, GeneratorConfig, channels_of
from models.stylegan.discriminator import discriminate, init_discriminator
from models.stylegan.generator import Generator, map_latents, random_noise, synthesize
from models.stylegan.losses import discriminator_loss, generator_loss, path_length, r1_penalty
from models.stylegan.mapping import mix_styles
from models.stylegan.regression import (
    RegressionBatch,
    RegressionTraining,
    Stage,
    laplacian_loss,
)

_ADAM = optax.scale_by_adam(b1=0.0, b2=0.99, eps=1e-8)
_R1 = 0.0002  # gamma is this times r^2 / N
_LATENT_DECAY = 0.998  # of the mean latent, a step
_ADAPT_EVERY = 4  # steps


@dataclasses.dataclass(frozen=True)
class StyleganTraining:
    """Settings of `train_stylegan_step`; hashable, so static under jit."""

    steps: int
    batch: int = 16  # N
    generator_rate: float = 2e-3
    discriminator_rate: float = 2e-3
    gamma: float | None = None  # of R1; None takes it from the pictures' size
    r1_every: int = 16  # steps
    path_weight: float = 2.0
    path_every: int = 4
    path_share: int = 2  # one picture of so many has its path measured
    mixing: float = 0.9  # chance that a picture's layers take two latents
    is_noisy: bool = True
    paired: float = 0.0  # weight of the error against the picture that the latent means
    holds_mapping: bool = False  # as regression does
    adapts: bool = True  # the probability of changes; otherwise it stays
    probability: float = 0.0  # of a change, at the start
    half_life: float = 10_000.0  # pictures over which the average forgets half
    dtype: str = "float32"


class StyleganPreset(NamedTuple):
    """What is trained, and how long each way."""

    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    regression: RegressionTraining
    adversarial: StyleganTraining


def _preset(
    resolution: int,
    base: int,
    most: int,
    latent: int,
    layers: int,
    regression: RegressionTraining,
    adversarial: StyleganTraining,
) -> StyleganPreset:
    channels = channels_of(resolution, base, most)
    generator = GeneratorConfig(
        resolution, channels, z_dim=latent, w_dim=latent, mapping_layers=layers
    )
    return StyleganPreset(
        generator, DiscriminatorConfig(resolution, channels), regression, adversarial
    )


PRESETS = {
    "ci": _preset(
        16, 256, 32, 64, 2,
        RegressionTraining((Stage(8, 60, 16, 1.5e-2), Stage(16, 140, 16, 1.2e-2))),
        StyleganTraining(steps=40, batch=8),
    ),
    "cpu": _preset(
        64, 1024, 96, 64, 4,
        RegressionTraining(
            (Stage(16, 2000, 32, 1.5e-2), Stage(32, 9000, 16, 1.2e-2), Stage(64, 9000, 16, 1e-2))
        ),
        StyleganTraining(steps=900, batch=16),
    ),
    "gpu": _preset(
        64, 4096, 256, 64, 4,
        RegressionTraining(
            (Stage(16, 4000, 64, 1.5e-2), Stage(32, 12_000, 64, 1e-2), Stage(64, 40_000, 64, 8e-3))
        ),
        StyleganTraining(steps=100_000, batch=64, dtype="bfloat16"),
    ),
}  # fmt: skip


@struct.dataclass
class StyleganState:
    """What a training goes on from."""

    step: jax.Array  # [] int32
    params: Any  # of the generator
    averaged: Any  # of the generator, over the last steps: what is kept in the end
    moments: Any
    discriminator: Any  # the discriminator's parameters
    discriminator_moments: Any
    mean_latent: jax.Array  # [w_dim]
    mean_length: jax.Array  # [] of paths
    probability: jax.Array  # [] of a change
    overfitting: jax.Array  # [] of the discriminator, r_t summed since the last look


class StyleganReport(NamedTuple):
    """How a step went."""

    loss: jax.Array  # [] of the generator
    scores: dict[str, jax.Array]


def init_stylegan(
    key: jax.Array,
    generator: Generator,
    discriminator: DiscriminatorConfig,
    training: StyleganTraining,
) -> StyleganState:
    """Returns the state before the first step, of a generator that knows nothing or much."""
    params = jax.tree.map(jnp.copy, generator.params)  # steps give theirs away
    discriminator_params = init_discriminator(key, discriminator)
    return StyleganState(
        step=jnp.int32(0),
        params=params,
        averaged=jax.tree.map(jnp.copy, params),
        moments=_ADAM.init(params),
        discriminator=discriminator_params,
        discriminator_moments=_ADAM.init(discriminator_params),
        mean_latent=jnp.copy(generator.buffers["w_avg"]),
        mean_length=jnp.float32(0.0),
        probability=jnp.float32(training.probability),
        overfitting=jnp.float32(0.0),
    )


@functools.partial(
    jax.jit, static_argnames=("config", "discriminator", "training"), donate_argnames="state"
)
def train_stylegan_step(
    key: jax.Array,
    state: StyleganState,
    batch: RegressionBatch,
    config: GeneratorConfig,
    discriminator: DiscriminatorConfig,
    training: StyleganTraining,
) -> tuple[StyleganState, StyleganReport]:
    """Takes one step of both networks.

    On several devices it is the same function: see `models.devices`.

    Args:
      key: of the run; the step's number is folded in.
      state: given away.
      batch: real pictures of the generator's resolution, and latents. With `training.paired` a
        picture shows what its latent means; otherwise they need not belong together.
      config: static.
      discriminator: static, of the discriminator.
      training: static.
    """
    keys = jax.random.split(jax.random.fold_in(key, state.step), 4)
    gradient, made = jax.grad(_generator_loss, argnums=1, has_aux=True)(
        keys[0], state.params, state, batch, config, discriminator, training
    )
    if training.holds_mapping:
        gradient = gradient | {"mapping": jax.tree.map(jnp.zeros_like, gradient["mapping"])}
    params, moments = _moved(gradient, state.params, state.moments, training.generator_rate)
    discriminator_gradient, (d_loss, overfitting) = jax.grad(
        _discriminator_loss, argnums=1, has_aux=True
    )(keys[1], state.discriminator, state, batch.images, made.images, discriminator, training)
    discriminator_params, discriminator_moments = _moved(
        discriminator_gradient,
        state.discriminator,
        state.discriminator_moments,
        training.discriminator_rate,
    )
    decay = 0.5 ** (len(batch.z) / training.half_life)
    mean = state.mean_latent
    probability, overfitting = _adapted(state, overfitting, len(batch.z), training)
    new = StyleganState(
        step=state.step + 1,
        params=params,
        averaged=moved_average(state.averaged, params, state.step, decay),
        moments=moments,
        discriminator=discriminator_params,
        discriminator_moments=discriminator_moments,
        mean_latent=mean + (1.0 - _LATENT_DECAY) * (jnp.mean(made.ws[:, 0], 0) - mean),
        mean_length=made.mean_length,
        probability=probability,
        overfitting=overfitting,
    )
    scores = {"discriminator_loss": d_loss, "augmentation": probability} | made.scores
    return new, StyleganReport(made.loss, scores)


class _Made(NamedTuple):
    """What the generator made in a step."""

    images: jax.Array
    ws: jax.Array
    mean_length: jax.Array
    loss: jax.Array
    scores: dict[str, jax.Array]


def _generator_loss(
    key: jax.Array,
    params: Any,
    state: StyleganState,
    batch: RegressionBatch,
    config: GeneratorConfig,
    discriminator: DiscriminatorConfig,
    training: StyleganTraining,
) -> tuple[jax.Array, _Made]:
    change_key, noise_key, mix_key, path_key = jax.random.split(key, 4)
    count = len(batch.z)
    noise = random_noise(noise_key, config, count) if training.is_noisy else None
    ws = map_latents(params, {"w_avg": state.mean_latent}, batch.z, None, config)
    mixed = _mixed(mix_key, ws, training.mixing) if training.mixing else ws
    images = synthesize(params, mixed, noise, config, dtype=training.dtype)
    changed = augment(change_key, images, state.probability)
    logits = discriminate(state.discriminator, changed, None, discriminator, training.dtype)
    adversarial = generator_loss(logits)
    loss, scores = adversarial, {"generator_loss": adversarial}
    if training.paired:
        error = laplacian_loss(images - batch.images, batch.weights / jnp.mean(batch.weights))
        loss += training.paired * error
        scores["paired_loss"] = error
    mean_length = state.mean_length
    if training.path_weight:
        some = slice(0, max(1, count // training.path_share))

        def measured() -> tuple[jax.Array, jax.Array]:
            of_some = None if noise is None else jax.tree.map(lambda n: n[some], noise)
            path = path_length(
                path_key,
                lambda ws: synthesize(params, ws, of_some, config, dtype=training.dtype),
                mixed[some],
                state.mean_length,
            )
            return training.path_weight * training.path_every * path.penalty, path.mean_length

        is_due = state.step % training.path_every == 0
        penalty, mean_length = jax.lax.cond(
            is_due, measured, lambda: (jnp.zeros(()), state.mean_length)
        )
        loss += penalty
    return loss, _Made(images, ws, mean_length, loss, scores)


def _discriminator_loss(
    key: jax.Array,
    discriminator_params: Any,
    state: StyleganState,
    real: jax.Array,
    made: jax.Array,
    discriminator: DiscriminatorConfig,
    training: StyleganTraining,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Returns the loss; and the loss without penalty, with how sure it is of the real ones."""
    real_key, made_key = jax.random.split(key)

    def logits_of(key: jax.Array, images: jax.Array) -> jax.Array:
        changed = augment(key, images, state.probability)
        return discriminate(discriminator_params, changed, None, discriminator, training.dtype)

    real_logits = logits_of(real_key, real)
    loss = discriminator_loss(real_logits, logits_of(made_key, made))
    gamma = training.gamma
    if gamma is None:
        gamma = _R1 * discriminator.resolution**2 / len(real)
    penalty = jax.lax.cond(
        state.step % training.r1_every == 0,
        lambda: r1_penalty(lambda images: logits_of(real_key, images), real),
        lambda: jnp.zeros(()),
    )
    overfitting = jnp.mean(jnp.sign(real_logits))
    return loss + 0.5 * gamma * training.r1_every * penalty, (loss, overfitting)


def _mixed(key: jax.Array, ws: jax.Array, chance: float) -> jax.Array:
    """Gives some pictures the latents of their neighbours from some layer on."""
    count, layers = ws.shape[:2]
    layer_key, chance_key = jax.random.split(key)
    crossover = jax.random.randint(layer_key, (count,), 1, layers)
    is_mixed = jax.random.uniform(chance_key, (count,)) < chance
    return mix_styles(ws, jnp.roll(ws, 1, 0), jnp.where(is_mixed, crossover, layers))


def _moved(gradient: Any, params: Any, moments: Any, rate: float) -> tuple[Any, Any]:
    updates, moments = _ADAM.update(gradient, moments)
    return jax.tree.map(lambda p, u: p - rate * u, params, updates), moments


def _adapted(
    state: StyleganState, overfitting: jax.Array, count: int, training: StyleganTraining
) -> tuple[jax.Array, jax.Array]:
    """The probability of changes from now on, and the sum of overfitting to go on with."""
    total = state.overfitting + overfitting
    if not training.adapts:
        return state.probability, total
    is_due = (state.step + 1) % _ADAPT_EVERY == 0
    pictures = _ADAPT_EVERY * count
    adapted = adapted_probability(state.probability, total / _ADAPT_EVERY, pictures)
    return jnp.where(is_due, adapted, state.probability), jnp.where(is_due, 0.0, total)


def averaged_generator(
    state: StyleganState, generator: Generator, facts: dict[str, Any]
) -> Generator:
    """Returns the generator as it is now: averaged parameters, and the mean latent.

    Args:
      state: of the training.
      generator: that it began with.
      facts: of the new one.
    """
    buffers = generator.buffers | {"w_avg": state.mean_latent}
    return Generator(state.averaged, buffers, generator.config, facts)
