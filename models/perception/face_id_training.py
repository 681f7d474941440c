"""Trains the face embedding: people of a batch are told apart, with a margin.

A batch has two pictures of each of its people. For each picture its partner is the right answer
among all others of the batch, and has to win although a margin is taken off its cosine (CosFace's
margin in the supervised contrastive loss: no table of all people has to be learnt beside).

Axes: P people of a batch, S side of the pictures, D numbers of an embedding.

Sources: Wang et al. 2018 (CosFace); Khosla et al. 2020 (supervised contrastive learning); Jordan et
al. 2024 (Muon).
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
from models.perception.face_id import FaceIdConfig, FaceIdNet, resampled

_LAST_RATE = 0.01
_MUON_RMS = 0.3  # of a kernel's step, beside Adam's
# How pictures are spoilt, so that those of generators are read too: noise, brightness and colours
# as deviations of logarithms, and up to all of a blur.
_NOISE, _BRIGHTNESS, _COLOR = 0.02, 0.15, 0.03


@dataclasses.dataclass(frozen=True)
class FaceIdTraining:
    """Settings of `face_id_step`; hashable, so static under jit."""

    steps: int
    people: int = 64  # P
    rate: float = 3e-3
    warm_up: int = 40  # steps
    scale: float = 14.0  # of cosines, as logits
    margin: float = 0.2  # taken off the right answer's cosine
    decay: float = 0.99  # of the averaged parameters, a step


PRESETS = {
    "ci": FaceIdTraining(steps=150),
    "cpu": FaceIdTraining(steps=2000),
    "gpu": FaceIdTraining(steps=6000, people=256, decay=0.998),
}


@struct.dataclass
class FaceIdState:
    """What a training goes on from."""

    step: jax.Array  # [] int32
    params: Any
    averaged: Any  # of the parameters, over the last steps: what is kept in the end
    moments: Any


class FaceIdReport(NamedTuple):
    """How a step went."""

    loss: jax.Array  # []
    scores: dict[str, jax.Array]  # `train_found`: share of pictures whose partner is the nearest


@functools.partial(jax.jit, static_argnames=("config", "training"))
def init_face_id(key: jax.Array, config: FaceIdConfig, training: FaceIdTraining) -> FaceIdState:
    """Returns the state before the first step."""
    del training
    images = jnp.zeros((1, config.side, config.side, 3))
    params = FaceIdNet(config).init(key, images)["params"]
    averaged = jax.tree.map(jnp.copy, params)
    return FaceIdState(jnp.int32(0), params, averaged, _optimizer().init(params))


@functools.partial(jax.jit, static_argnames=("config", "training"), donate_argnames="state")
def face_id_step(
    key: jax.Array,
    state: FaceIdState,
    images: jax.Array,
    share: jax.Array,
    config: FaceIdConfig,
    training: FaceIdTraining,
) -> tuple[FaceIdState, FaceIdReport]:
    """Takes one step.

    Args:
      key: of the run; the step's number is folded in.
      state: given away.
      images: [P, 2, S, S, 3] in [0, 1], two pictures of each person.
      share: [] of the training that is done.
      config: static.
      training: static.
    """
    key = jax.random.fold_in(key, state.step)
    spoilt = spoil(key, images.reshape(-1, *images.shape[2:]))

    def loss_of(params):
        embeddings = FaceIdNet(config).apply({"params": params}, spoilt)
        return contrastive_loss(embeddings, training.scale, training.margin)

    (loss, found), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    updates, moments = _optimizer().update(gradient, state.moments, state.params)
    rate = _rate(state.step, share, training)
    params = jax.tree.map(lambda p, u: p + rate * u, state.params, updates)
    averaged = moved_average(state.averaged, params, state.step, training.decay)
    state = FaceIdState(state.step + 1, params, averaged, moments)
    return state, FaceIdReport(loss, {"train_found": found})


def contrastive_loss(
    embeddings: jax.Array, scale: float, margin: float
) -> tuple[jax.Array, jax.Array]:
    """Returns the loss [], and the share [] of pictures whose partner is the nearest.

    Args:
      embeddings: [2 P, D] unit; the pictures of a person follow each other.
      scale: of cosines, as logits.
      margin: taken off the partner's cosine.
    """
    count = embeddings.shape[0]
    number = jnp.arange(count)
    partner = number ^ 1
    cosines = embeddings @ embeddings.T
    cosines = jnp.where(jnp.eye(count, dtype=bool), -jnp.inf, cosines)
    found = jnp.mean(jnp.argmax(cosines, 1) == partner)
    logits = scale * cosines.at[number, partner].add(-margin)
    right = jax.nn.log_softmax(logits)[number, partner]
    return -jnp.mean(right), found


def spoil(key: jax.Array, images: jax.Array) -> jax.Array:
    """Changes the light of pictures [N, S, S, 3] a little, blurs them by chance and adds noise."""
    bright_key, color_key, blur_key, noise_key = jax.random.split(key, 4)
    each = images.shape[0], 1, 1, 1
    gain = _BRIGHTNESS * jax.random.normal(bright_key, each)
    gain = jnp.exp(gain + _COLOR * jax.random.normal(color_key, (*each[:3], 3)))
    share = jnp.maximum(jax.random.uniform(blur_key, each, minval=-1.0), 0.0)
    images = images + share * (_blurred(images) - images)
    return images * gain + _NOISE * jax.random.normal(noise_key, images.shape)


def _blurred(images: jax.Array) -> jax.Array:
    """Filters with [1, 4, 6, 4, 1] / 16 along both sides, as a product with a matrix."""
    side = images.shape[1]
    away = np.arange(side) - np.arange(side)[:, None]
    weights = np.array([6.0, 4.0, 1.0, 0.0])[np.minimum(np.abs(away), 3)]
    return resampled(images, weights / weights.sum(1, keepdims=True))


def _optimizer() -> optax.GradientTransformation:
    return contrib.muon(
        learning_rate=1.0,
        consistent_rms=_MUON_RMS,
        adam_b1=0.9,
        adam_b2=0.98,
        muon_weight_dimension_numbers=_matrices,
    )


def _matrices(params: Any) -> Any:
    """Tells Muon which leaves are matrices: kernels of the stages, not the stem and the ends."""

    def kind(path: Any, leaf: jax.Array) -> contrib.MuonDimensionNumbers | None:
        layer, name = (part.key for part in path[-2:]) if len(path) > 1 else ("", "")
        if name != "kernel" or not layer.startswith(("unit", "down")):
            return None
        last = leaf.ndim - 1
        return contrib.MuonDimensionNumbers(tuple(range(last)), last)

    return jax.tree_util.tree_map_with_path(kind, params)


def _rate(step: jax.Array, share: jax.Array, training: FaceIdTraining) -> jax.Array:
    """The rate: a warm-up, then a cosine down to a hundredth."""
    warm = jnp.minimum((step + 1.0) / training.warm_up, 1.0)
    fall = 0.5 * (1.0 + jnp.cos(np.pi * share))
    return training.rate * warm * (_LAST_RATE + (1.0 - _LAST_RATE) * fall)
