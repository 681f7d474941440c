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


@functools.partial(jax.jit, static_argnames=("config", "inversion"))
def invert(
    key: jax.Array,
    params: Any,
    images: jax.Array,
    start: jax.Array,
    statistics: LatentStatistics,
    features: Any | None,
    config: GeneratorConfig,
    inversion: InversionConfig = InversionConfig(),
) -> Inversion:
    """Searches the latents of pictures.

    Args:
      key: of the first noise, where it is searched.
      params: of the generator.
      images: [N, H, W, 3] in [-1, 1], of the generator's resolution.
      start: [N, L, w] latents to begin with.
      statistics: of W.
      features: parameters of LPIPS, or None to do without.
      config: static, of the generator.
      inversion: static.
    """
    side = config.resolution
    if images.shape[1:] != (side, side, config.image_channels):
        raise ValueError(f"expected pictures of {side} x {side}, found {images.shape}")
    noise = random_noise(key, config, len(images)) if inversion.has_noise else None
    distance = None
    if features is not None and inversion.perceptual:
        distance = functools.partial(perceptual_distance, features, network=inversion.network)
    return search_latents(
        lambda ws, noise: synthesize(params, ws, noise, config),
        images, start, noise, statistics, distance, inversion,
    )  # fmt: skip


def search_latents(
    paint: Paint,
    images: jax.Array,
    start: jax.Array,
    noise: Noise | None,
    statistics: LatentStatistics,
    distance: Distance | None,
    inversion: InversionConfig,
) -> Inversion:
    """Searches the latents of pictures for any generator; arguments as of `invert`.

    Args:
      paint: the generator.
      images: [N, H, W, C].
      start: [N, L, w].
      noise: to begin with, or None for a search without it.
      statistics: of W.
      distance: a further term of the loss, or None.
      inversion: settings.
    """
    at = whitened(start, statistics)
    shared = jnp.mean(at, 1)
    found = {"shared": shared}
    if inversion.space == "w+":
        found["offsets"] = at - shared[:, None]
    if noise is not None:
        found["noise"] = noise

    def latents(found: dict[str, Any]) -> jax.Array:
        values = jnp.broadcast_to(found["shared"][:, None], start.shape)
        return unwhitened(values + found.get("offsets", 0.0), statistics)

    def loss(found: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
        error = paint(latents(found), found.get("noise")) - images
        each = picture_loss(error, inversion.square, inversion.absolute)
        if distance is not None:
            each += inversion.perceptual * distance(error + images, images)
        each += inversion.prior * jnp.mean(found["shared"] ** 2, -1)
        if "offsets" in found:
            each += inversion.spread * jnp.mean(found["offsets"] ** 2, (-2, -1))
        if "noise" in found:
            each += inversion.noise * noise_correlation(found["noise"])
        return jnp.sum(each), each

    warm = max(1, round(inversion.warm_up * inversion.steps))
    rate = optax.warmup_cosine_decay_schedule(0.0, inversion.rate, warm, inversion.steps + 1)
    adam = optax.adam(rate)

    def step(state: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], jax.Array]:
        found, moments = state
        gradient, each = jax.grad(loss, has_aux=True)(found)
        updates, moments = adam.update(gradient, moments)
        found = optax.apply_updates(found, updates)
        if "noise" in found:
            found = found | {"noise": jax.tree.map(_normal, found["noise"])}
        return (found, moments), each

    (found, _), losses = jax.lax.scan(step, (found, adam.init(found)), length=inversion.steps)
    ws, noise = latents(found), found.get("noise")
    return Inversion(ws, noise, paint(ws, noise), losses)


def picture_loss(error: jax.Array, square: float, absolute: float) -> jax.Array:
    """Returns weighted means of squares and absolute values [N] of errors [N, H, W, C]."""
    axes = (1, 2, 3)
    return square * jnp.mean(error**2, axes) + absolute * jnp.mean(jnp.abs(error), axes)


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
