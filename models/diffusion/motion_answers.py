"""What the small prior says when it is asked, compiled: residuals, forces, clips of its own.

Wherever a stiffness is told, log10 of pascals, None tells nothing: the null prior answers.

Axes: E stiffnesses, K noises; [T, H, W, 3] a clip in [-1, 1].
"""

import functools

import jax
import jax.numpy as jnp

from models.diffusion.denoiser import Denoiser, guided
from models.diffusion.guidance import NoiseBank, draw_bank, forces_along, residuals, sds_residual
from models.diffusion.motion_prior import MotionPrior, motion_denoiser
from models.diffusion.sampler import sample
from models.diffusion.schedule import karras_sigmas

SIGMA_RANGE = (1.0, 60.0)  # what the prior is taught: from details to almost nothing seen
# A token has fewer numbers than its tubelet has pixels, so it cannot take out every grain of noise:
# below this level what is left of it shows.
_LAST_SIGMA = 2.5


@functools.partial(jax.jit, static_argnames=("scale", "weight"))
def clip_residuals(
    prior: MotionPrior,
    first: jax.Array,
    log10_modulus: jax.Array | None,
    clip: jax.Array,
    bank: NoiseBank,
    scale: float = 1.0,
    weight: str = "sigma",
) -> jax.Array:
    """Returns the residuals [K / 2, T, H, W, 3] of a clip, one for each antithetic pair of noises.

    They are minus the way that the clip should change.

    Args:
      prior: of the clip's family.
      first: [H, W, 3] the frame that it begins with.
      log10_modulus: [] what it is to look like.
      clip: [T, H, W, 3].
      bank: the noise.
      scale: of classifier-free guidance; one is without. Static.
      weight: a name of `guidance.WEIGHTS`; static.
    """
    each = residuals(_guided(prior, first, log10_modulus, scale), clip, bank, weight)
    return each.reshape(2, -1, *clip.shape).mean(0)


@functools.partial(jax.jit, static_argnames=("num_pairs", "sigma_range", "weight", "scale"))
def drawn_residual(
    key: jax.Array,
    prior: MotionPrior,
    log10_modulus: jax.Array,
    clip: jax.Array,
    num_pairs: int,
    sigma_range: tuple[float, float],
    weight: str = "sigma",
    scale: float = 1.0,
) -> jax.Array:
    """Returns the mean residual [T, H, W, 3] of a clip under noise that is drawn for it.

    Args:
      key: of the noise.
      prior: of the clip's family.
      log10_modulus: [] what it is to look like.
      clip: [T, H, W, 3]; its first frame is told.
      num_pairs: of noises.
      sigma_range: of their levels.
      weight: a name of `guidance.WEIGHTS`.
      scale: of classifier-free guidance; one is without.
    """
    denoise = _guided(prior, clip[0], log10_modulus, scale)
    bank = draw_bank(key, num_pairs, clip.shape, sigma_range)
    return sds_residual(denoise, clip, bank, weight)


def _guided(prior: MotionPrior, first: jax.Array, log10_modulus, scale: float) -> Denoiser:
    denoise = motion_denoiser(prior, first, log10_modulus)
    if scale == 1.0 or log10_modulus is None:
        return denoise
    return guided(denoise, motion_denoiser(prior, first, None), scale)


@jax.jit
def scan_forces(
    prior: MotionPrior,
    log10_modulus: jax.Array | None,
    videos: jax.Array,
    slopes: jax.Array,
    bank: NoiseBank,
) -> jax.Array:
    """Returns the forces [E, K] on the stiffness along a scan, see `guidance.forces_along`.

    Args:
      prior: of the scene's family.
      log10_modulus: [] what the scene is to look like.
      videos: [E, T, H, W, 3] its clips; they begin alike.
      slopes: [E, T, H, W, 3] their derivatives to log10 E.
      bank: the noise.
    """
    videos, slopes = jnp.float32(videos), jnp.float32(slopes)
    denoise = motion_denoiser(prior, videos[0, 0], log10_modulus)
    return forces_along(denoise, videos, slopes, bank)


@functools.partial(jax.jit, static_argnames="num_levels")
def believed_clip(
    key: jax.Array,
    prior: MotionPrior,
    first: jax.Array,
    log10_modulus: jax.Array | None,
    num_levels: int = 24,
) -> jax.Array:
    """Draws a clip [T, H, W, 3] that the prior believes in.

    Args:
      key: of the noise that it is made of.
      prior: whose belief.
      first: [H, W, 3] the frame that it begins with.
      log10_modulus: [] its stiffness.
      num_levels: steps of the sampler, static.
    """
    shape = (1, prior.config.dit.num_frames, *first.shape)
    sigmas = karras_sigmas(num_levels, _LAST_SIGMA, SIGMA_RANGE[1])
    return sample(key, motion_denoiser(prior, first, log10_modulus), shape, sigmas)[0]
