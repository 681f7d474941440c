"""The small prior: what clips of one kind of motion look like, at a stiffness that is told.

A clip is seen as `sim.motion_video` films it. What is noised and denoised is the change since the
first frame, in EDM's form with the standard deviation s of those changes:

  D = first + s^2 / (s^2 + sigma^2) y + sigma s / sqrt(s^2 + sigma^2) F(y / sqrt(s^2 + sigma^2))

with y = x - first. The first frame is known, and D gives it as it is. The stiffness is told as a
number, log10 of Young's modulus in pascals, which in training is blurred by a band of 0.15
decades: every clip teaches the label, and a word is but the middle of its band.

Axes: B clips, T frames, H and W pixels. Clips are [B, T, H, W, 3] in [-1, 1].

Source: Karras et al. 2022, section 5.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from models.diffusion.denoiser import Denoiser, along
from models.diffusion.motion_dit import DitConfig, MotionDit

_DIT = DitConfig()


@dataclasses.dataclass(frozen=True)
class PriorConfig:
    """What the parameters of a prior belong to."""

    family: str  # of `sim.families`
    deviation: float  # s, of the changes since the first frame
    log10_range: tuple[float, float]  # of the stiffnesses in the clips
    band: float = 0.15  # decades that the label was blurred by
    dit: DitConfig = _DIT


@struct.dataclass
class MotionPrior:
    """A trained prior."""

    params: Any
    config: PriorConfig = struct.field(pytree_node=False)


def predict_clip(
    params: Any,
    x: jax.Array,
    sigma: jax.Array,
    first: jax.Array,
    log10_modulus: jax.Array,
    told: jax.Array,
    config: PriorConfig,
) -> jax.Array:
    """Returns D [B, T, H, W, 3], the clip that is expected behind a noisy one.

    Args:
      params: of the network.
      x: [B, T, H, W, 3] clip + sigma eps.
      sigma: [B].
      first: [B, H, W, 3] the first frame.
      log10_modulus: [B] the label.
      told: [B] zero where the label does not count.
      config: static.
    """
    low, high = config.log10_range
    label = (log10_modulus - 0.5 * (low + high)) / (0.5 * (high - low))
    change, s = x - first[:, None], config.deviation
    spread = jnp.sqrt(s**2 + sigma**2)
    # The tokens have to tell 1 from 30: the logarithm, about 0.5 in the middle of what is used.
    level = 0.25 * jnp.log(sigma)
    F = MotionDit(config.dit).apply(params, change / along(spread, x), first, level, label, told)
    D = along((s / spread) ** 2, x) * change + along(sigma * s / spread, x) * F
    return D.at[:, 0].set(0.0) + first[:, None]


def motion_denoiser(
    prior: MotionPrior, first: jax.Array, log10_modulus: jax.Array | float | None
) -> Denoiser:
    """Binds a prior to a first frame and a stiffness.

    Args:
      prior: of the scene's family.
      first: [H, W, 3] the first frame.
      log10_modulus: [] what the clip is to look like; None tells nothing: the null prior.
    """
    told = jnp.float32(log10_modulus is not None)
    label = jnp.float32(0.0 if log10_modulus is None else log10_modulus)

    def denoise(x: jax.Array, sigma: jax.Array) -> jax.Array:
        shown = jnp.broadcast_to(first, (len(x), *first.shape))
        labels, tells = (jnp.full(len(x), value) for value in (label, told))
        return predict_clip(prior.params, x, sigma, shown, labels, tells, prior.config)

    return denoise
