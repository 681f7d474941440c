"""Score distillation: how a clip should change to be more plausible, and what that means for theta.

A clip z that a simulation made of theta is noised, denoised by a prior, and compared with what
came out: the residual w(sigma) (z - D) / sigma = w(sigma) (eps_hat - eps) is pulled back to theta
through the simulation alone, never through the network (Poole et al. 2022, eq. 3).

Noise is drawn once, as a bank: antithetic pairs at levels that cover a range evenly. With one bank
the residual is a fixed function of z, so that its zeros can be looked for and its derivatives
checked. The pairs cancel the part of D that is odd in eps.

Axes: K noises; a clip's shape follows. Sources: Poole et al. 2022 (DreamFusion: SDS); Yu et al.
2023 (classifier score distillation, CSD); Huang et al. 2024 (DreamPhysics, section 3.2).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from models.diffusion.denoiser import Denoiser, along
from models.diffusion.schedule import stratified_sigmas

WEIGHTS = {
    # sigma makes forces of all levels comparable: the residual is z - D itself.
    "sigma": lambda sigma: sigma,
    "uniform": lambda sigma: jnp.ones_like(sigma),
    # 1 - abar of the variance-preserving chain: DreamFusion's, and the paper's.
    "sds": lambda sigma: sigma**2 / (1.0 + sigma**2),
    # sqrt(abar) (1 - abar): Fantasia3D's.
    "fantasia3d": lambda sigma: sigma**2 / (1.0 + sigma**2) ** 1.5,
}


class NoiseBank(NamedTuple):
    """Noise that a clip is compared under."""

    sigma: jax.Array  # [K]
    eps: jax.Array  # [K, ...] of unit variance; the second half is the first one's negative


def draw_bank(
    key: jax.Array, num_pairs: int, shape: tuple[int, ...], sigma_range: tuple[float, float]
) -> NoiseBank:
    """Draws antithetic pairs of noise, K = 2 num_pairs.

    Args:
      key: of the noise.
      num_pairs: each pair has one level.
      shape: of a clip.
      sigma_range: lowest and highest level; pairs divide its logarithm evenly.
    """
    level_key, noise_key = jax.random.split(key)
    sigma = stratified_sigmas(level_key, num_pairs, *sigma_range)
    eps = jax.random.normal(noise_key, (num_pairs, *shape))
    return NoiseBank(jnp.tile(sigma, 2), jnp.concatenate([eps, -eps]))


def residuals(denoise: Denoiser, z: jax.Array, bank: NoiseBank, weight: str = "sigma") -> jax.Array:
    """Returns w(sigma) (z - D(z + sigma eps)) / sigma [K, ...], one for each noise."""
    denoised = denoise(z + along(bank.sigma, bank.eps) * bank.eps, bank.sigma)
    factor = WEIGHTS[weight](bank.sigma) / bank.sigma
    return along(factor, bank.eps) * (z - lax.stop_gradient(denoised))


def sds_residual(
    denoise: Denoiser, z: jax.Array, bank: NoiseBank, weight: str = "sigma"
) -> jax.Array:
    """Returns the mean residual of a bank, in the shape of z: minus the way z should go."""
    return jnp.mean(residuals(denoise, z, bank, weight), 0)


def csd_residual(
    conditional: Denoiser, null: Denoiser, z: jax.Array, bank: NoiseBank, weight: str = "sigma"
) -> jax.Array:
    """Returns the part of the mean residual that the condition makes: the classifier's alone."""
    return sds_residual(conditional, z, bank, weight) - sds_residual(null, z, bank, weight)


def pull_back(
    video_of: Callable[[Any], jax.Array],
    theta: Any,
    residual_of: Callable[[jax.Array], jax.Array],
) -> tuple[Any, jax.Array, jax.Array]:
    """Carries the residual of a clip back to what made it, in reverse mode: for many parameters.

    Args:
      video_of: the clip of theta. Differentiable.
      theta: any pytree.
      residual_of: of a clip; taken as it is, not differentiated.

    Returns:
      The gradient with respect to theta, the clip, and its residual.
    """
    video, pull = jax.vjp(video_of, theta)
    residual = lax.stop_gradient(residual_of(video))
    (gradient,) = pull(residual)
    return gradient, video, residual


def force(slope: jax.Array, residual: jax.Array) -> jax.Array:
    """Returns -<dV/dtheta, residual>: which way one number is pushed, in forward mode.

    Args:
      slope: dV/dtheta, in the shape of a clip.
      residual: [..., *clip], for instance one for each noise.

    Returns:
      [...].
    """
    axes = tuple(range(residual.ndim - slope.ndim, residual.ndim))
    return -jnp.sum(slope * residual, axes)


def forces_along(
    denoise: Denoiser,
    videos: jax.Array,
    slopes: jax.Array,
    bank: NoiseBank,
    weight: str = "sigma",
) -> jax.Array:
    """Returns the force of each noise on each of E clips, [E, K].

    Args:
      denoise: the prior, told what is wanted.
      videos: [E, ...] clips, of a scene at one value of theta each.
      slopes: [E, ...] d clip / d theta.
      bank: the noise; the same for all, so that forces change smoothly along theta.
      weight: a name of `WEIGHTS`.
    """

    def at(point: tuple[jax.Array, jax.Array]) -> jax.Array:
        video, slope = point
        return force(slope, residuals(denoise, video, bank, weight))

    return lax.map(at, (videos, slopes))


def encode_in_chunks(
    encode: Callable[[jax.Array], jax.Array], video: jax.Array, size: int
) -> jax.Array:
    """Applies an encoder to chunks of frames; reverse mode keeps one chunk's activations at a time.

    Args:
      encode: frames [size, H, W, C] to latents [size, ...], each frame by itself.
      video: [T, H, W, C].
      size: frames of a chunk; has to divide T.
    """
    if len(video) % size:
        raise ValueError(f"expected chunks that divide {len(video)} frames, found {size}")
    chunks = video.reshape(-1, size, *video.shape[1:])
    latents = lax.map(jax.checkpoint(encode), chunks)
    return latents.reshape(-1, *latents.shape[2:])
