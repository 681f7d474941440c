"""What the public video networks say of a clip, carried from their latents back to its pixels.

A clip V is encoded to latents z, which the network's residual is of; the residual's pull-back
through the encoder is what pixels are told. Nothing is differentiated through the denoiser.

Axes: T frames; clips are [T, H, W, 3] in [-1, 1], as `sim.motion_video` films them.

Sources: Poole et al. 2022 (SDS); Huang et al. 2024 (DreamPhysics, eq. 3); Blattmann et al. 2023
(Stable Video Diffusion guides later frames more).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from models.diffusion.denoiser import Denoiser, guided
from models.diffusion.guidance import draw_bank, pull_back, sds_residual
from models.diffusion.pipelines import ModelScopePrior, SvdCondition, SvdPrior


@dataclasses.dataclass(frozen=True)
class Asking:
    """How a network is asked."""

    num_pairs: int = 1  # antithetic, of noises
    # Levels: those of steps 20 to 980 of ModelScope's chain, which are the paper's.
    sigma_range: tuple[float, float] = (0.138, 13.0)
    weight: str = "sds"  # of `guidance.WEIGHTS`
    scale: float = 8.0  # of classifier-free guidance
    frames_at_once: int = 1  # whose activations the encoder keeps; divides T


def size_unit(prior: ModelScopePrior | SvdPrior) -> int:
    """Returns the pixels that a clip's sides are to be a multiple of: 64, at full size."""
    levels = len(prior.vae_config.block_out_channels) + len(prior.unet_config.block_out_channels)
    return 2 ** (levels - 2)


@functools.partial(jax.jit, static_argnames="asking")
def text_residual(
    key: jax.Array,
    prior: ModelScopePrior,
    context: jax.Array,
    null_context: jax.Array,
    clip: jax.Array,
    asking: Asking,
) -> jax.Array:
    """Returns the mean residual [T, H, W, 3] of a clip that a text describes.

    Args:
      key: of the latents' draw and the noise.
      prior: the network.
      context: [77, E] of the text, see `ModelScopePrior.context`.
      null_context: [77, E] of "", or of what is not wanted.
      clip: [T, H, W, 3].
      asking: static.
    """
    denoise = guided(prior.denoiser(context), prior.denoiser(null_context), asking.scale)
    return _pulled(key, prior, denoise, clip, asking)


@functools.partial(jax.jit, static_argnames="asking")
def picture_residual(
    key: jax.Array, prior: SvdPrior, condition: SvdCondition, clip: jax.Array, asking: Asking
) -> jax.Array:
    """Returns the mean residual [T, H, W, 3] of a clip that starts with a picture.

    Guidance grows from one at the first frame to `Asking.scale` at the last, as the network's own
    sampler has it.

    Args:
      key: of the latents' draw and the noise.
      prior: the network.
      condition: of the picture, see `SvdPrior.condition`.
      clip: [T, H, W, 3].
      asking: static.
    """
    scale = jnp.linspace(1.0, asking.scale, len(clip))[:, None, None, None]
    denoise = guided(prior.denoiser(condition), prior.denoiser(condition.null()), scale)
    return _pulled(key, prior, denoise, clip, asking)


def _pulled(
    key: jax.Array,
    prior: ModelScopePrior | SvdPrior,
    denoise: Denoiser,
    clip: jax.Array,
    asking: Asking,
) -> jax.Array:
    encode_key, noise_key = jax.random.split(key)

    def encode(clip: jax.Array) -> jax.Array:
        return prior.encode(encode_key, 0.5 + 0.5 * clip, asking.frames_at_once)

    def residual_of(z: jax.Array) -> jax.Array:
        bank = draw_bank(noise_key, asking.num_pairs, z.shape, asking.sigma_range)
        return sds_residual(denoise, z, bank, asking.weight)

    return pull_back(encode, clip, residual_of)[0]
