"""Inversion: the latents whose picture is the one that is given.

The latent of a picture is searched by Adam from a start, an encoder's or the mean one, in W (one
latent for all layers) or in W+ (each layer its own). W+ comes nearer to the picture; latents that
stay near to W are those that can be edited, so that the layers' distance from each other costs, as
does that from the mean. Both are measured in deviations of W along its principal axes.

Pictures of a batch are searched side by side, none of them knows of the others.

Axes: N pictures [N, H, W, 3] in [-1, 1], L layers with a latent of their own, w numbers of it.

Sources: Abdal et al. 2019 (W+); Karras et al. 2020 (projection, regularisation of noise); Zhu et
al. 2020 (the prior in whitened axes); Tov et al. 2021 (offsets of the layers).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from models.perception.lpips import lpips
from models.stylegan.config import GeneratorConfig
from models.stylegan.generator import random_noise, synthesize
from models.stylegan.latents import LatentStatistics, unwhitened, whitened
from models.stylegan.synthesis import Noise

SPACES = ("w", "w+")
Paint = Callable[[jax.Array, Noise | None], jax.Array]  # latents [N, L, w], noise -> pictures
Distance = Callable[[jax.Array, jax.Array], jax.Array]  # two batches of pictures -> [N]

_NOISE_SIDE = 8  # below it, noise is not asked to be uncorrelated


@dataclasses.dataclass(frozen=True)
class InversionConfig:
    """Settings of `invert`; hashable, so static under jit."""

    space: str = "w+"  # one of SPACES
    steps: int = 200
    rate: float = 0.1  # of Adam at its height, in deviations of W
    warm_up: float = 0.05  # share of the steps
    square: float = 1.0  # weights: of the mean squared error, of pictures in [-1, 1]
    absolute: float = 0.5  # of the mean absolute error
    perceptual: float = 0.8  # of LPIPS, where its features are there
    prior: float = 1e-2  # of the squared distance from the mean latent, in deviations
    spread: float = 1e-2  # of the layers' squared distance from each other, likewise
    has_noise: bool = False  # the layers' noise is searched too
    noise: float = 1e3  # weight of its correlation with itself
    network: str = "vgg16"  # of LPIPS

    def __post_init__(self):
        if self.space not in SPACES:
            raise ValueError(f"expected a space of {SPACES}, found {self.space!r}")


class Inversion(NamedTuple):
    """What was found."""

    ws: jax.Array  # [N, L, w]
    noise: Noise | None  # [N, r, r] each, where it was searched
    images: jax.Array  # [N, H, W, 3] of them
    losses: jax.Array  # [steps, N]


@struct.dataclass
class SearchState:
    """Where a search is, all of it in deviations of W."""

    shared: jax.Array  # [N, w]
    offsets: jax.Array  # [N, L, w] of the layers; zero in W
    noise: Noise | None
    moments: Any


def invert(
    key: jax.Array,
    params: Any,
    images: jax.Array,
    start: jax.Array,
    statistics: LatentStatistics,
    features: Any | None,
    config: GeneratorConfig,
    inversion: InversionConfig = InversionConfig(),
    on_step: Callable[[], None] = lambda: None,
) -> Inversion:
    """Searches the latents of pictures.

    Steps are called one by one: on CPUs, convolutions within a loop of XLA's take five times as
    long.

    Args:
      key: of the first noise, where it is searched.
      params: of the generator.
      images: [N, H, W, 3] in [-1, 1], of the generator's resolution.
      start: [N, L, w] latents to begin with.
      statistics: of W.
      features: parameters of LPIPS, or None to do without.
      config: of the generator.
      inversion: settings.
      on_step: called after each step.
    """
    side = config.resolution
    if images.shape[1:] != (side, side, config.image_channels):
        raise ValueError(f"expected pictures of {side} x {side}, found {images.shape}")
    noise = random_noise(key, config, len(images)) if inversion.has_noise else None
    state, losses = init_search(start, noise, statistics, inversion), []
    for _ in range(inversion.steps):
        state, each = _invert_step(state, params, images, statistics, features, config, inversion)
        losses.append(jax.block_until_ready(each))
        on_step()
    ws = found_latents(state, statistics)
    made = synthesize(params, ws, state.noise, config)
    return Inversion(ws, state.noise, made, jnp.stack(losses))


@functools.partial(jax.jit, static_argnames=("config", "inversion"), donate_argnames="state")
def _invert_step(
    state: SearchState,
    params: Any,
    images: jax.Array,
    statistics: LatentStatistics,
    features: Any | None,
    config: GeneratorConfig,
    inversion: InversionConfig,
) -> tuple[SearchState, jax.Array]:
    distance = None
    if features is not None and inversion.perceptual:
        distance = functools.partial(perceptual_distance, features, network=inversion.network)

    def paint(ws: jax.Array, noise: Noise | None) -> jax.Array:
        return synthesize(params, ws, noise, config)

    return search_step(state, paint, images, statistics, distance, inversion)


def init_search(
    start: jax.Array, noise: Noise | None, statistics: LatentStatistics, inversion: InversionConfig
) -> SearchState:
    """Returns the state before the first step.

    Args:
      start: [N, L, w] latents to begin with; in W, their mean.
      noise: to begin with, or None for a search without it.
      statistics: of W.
      inversion: settings.
    """
    at = whitened(jnp.asarray(start, jnp.float32), statistics)
    shared = jnp.mean(at, 1)
    offsets = at - shared[:, None]
    if inversion.space == "w":
        offsets = jnp.zeros_like(offsets)
    state = SearchState(shared, offsets, noise, None)
    return state.replace(moments=_adam(inversion).init(_searched(state)))


def search_step(
    state: SearchState,
    paint: Paint,
    images: jax.Array,
    statistics: LatentStatistics,
    distance: Distance | None,
    inversion: InversionConfig,
) -> tuple[SearchState, jax.Array]:
    """Takes one step towards the latents of pictures, for any generator.

    Args:
      state: from `init_search`.
      paint: the generator.
      images: [N, H, W, C].
      statistics: of W.
      distance: a further term of the loss, or None.
      inversion: settings.

    Returns:
      The state after it, and the loss [N] before it.
    """

    def loss(found: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
        at = state.replace(**found)
        error = paint(found_latents(at, statistics), at.noise) - images
        each = picture_loss(error, inversion.square, inversion.absolute)
        if distance is not None:
            each += inversion.perceptual * distance(error + images, images)
        each += inversion.prior * jnp.mean(at.shared**2, -1)
        each += inversion.spread * jnp.mean(at.offsets**2, (-2, -1))
        if at.noise is not None:
            each += inversion.noise * noise_correlation(at.noise)
        return jnp.sum(each), each

    found = _searched(state)
    gradient, each = jax.grad(loss, has_aux=True)(found)
    if inversion.space == "w":
        gradient["offsets"] = jnp.zeros_like(state.offsets)
    updates, moments = _adam(inversion).update(gradient, state.moments)
    found = optax.apply_updates(found, updates)
    if state.noise is not None:
        found["noise"] = jax.tree.map(_normal, found["noise"])
    return state.replace(**found, moments=moments), each


def found_latents(state: SearchState, statistics: LatentStatistics) -> jax.Array:
    """Returns the latents [N, L, w] where a search is."""
    return unwhitened(state.shared[:, None] + state.offsets, statistics)


def _searched(state: SearchState) -> dict[str, Any]:
    return {"shared": state.shared, "offsets": state.offsets, "noise": state.noise}


def _adam(inversion: InversionConfig) -> optax.GradientTransformation:
    warm = max(1, round(inversion.warm_up * inversion.steps))
    rate = optax.warmup_cosine_decay_schedule(0.0, inversion.rate, warm, inversion.steps + 1)
    return optax.adam(rate)


def picture_loss(error: jax.Array, square: float, absolute: float) -> jax.Array:
    """Returns weighted means of squares and absolute values [N] of errors [N, H, W, C]."""
    axes = (1, 2, 3)
    return square * jnp.mean(error**2, axes) + absolute * jnp.mean(jnp.abs(error), axes)


@functools.partial(jax.jit, static_argnames="network")
def perceptual_distance(
    features: Any, images: jax.Array, references: jax.Array, network: str
) -> jax.Array:
    """Returns LPIPS [N] of pictures [N, H, W, 3] in [-1, 1].

    Args:
      features: the parameters of LPIPS.
      images: [N, H, W, 3].
      references: [N, H, W, 3].
      network: that the features are of.
    """
    to_unit = [jnp.clip(0.5 * pictures + 0.5, 0.0, 1.0) for pictures in (images, references)]
    return jax.vmap(lambda a, b: lpips(features, a, b, network))(*to_unit)


def noise_correlation(noise: Noise) -> jax.Array:
    """Returns how much noise [N, r, r] of each layer goes with that beside it, summed, [N].

    A search would otherwise paint the picture into the noise. White noise has about zero.
    """
    total = jnp.zeros(())
    for layer in jax.tree.leaves(noise):
        while layer.shape[-1] >= _NOISE_SIDE:
            for axis in (1, 2):
                total += jnp.mean(layer * jnp.roll(layer, 1, axis), (1, 2)) ** 2
            count, side, _ = layer.shape
            layer = layer.reshape(count, side // 2, 2, side // 2, 2).mean((2, 4)) * 2.0
    return total


def psnr_db(images: jax.Array, references: jax.Array) -> jax.Array:
    """Returns the peak signal-to-noise ratio [N] of pictures [N, H, W, 3] in [-1, 1], clipped."""
    error = jnp.clip(images, -1.0, 1.0) - references
    return -10.0 * jnp.log10(jnp.maximum(jnp.mean(error**2, (1, 2, 3)) / 4.0, 1e-10))


def _normal(noise: jax.Array) -> jax.Array:
    """Noise [N, r, r] of mean zero and variance one."""
    noise = noise - jnp.mean(noise, (1, 2), keepdims=True)
    return noise * jax.lax.rsqrt(jnp.mean(noise**2, (1, 2), keepdims=True) + 1e-8)
