"""The synthesis network of StyleGAN2: latents to pictures, by blocks of doubling resolution.

Each block works on features and adds a picture of its own to the enlarged one of the block before
("skip"). The latent of a layer scales the channels that come in (modulation); what goes out is
scaled back to a variance of one (demodulation): the same as a kernel for each picture, and cheaper.

Axes: N pictures, L layers with a latent of their own, r the side of a block, I and O channels.

Source: Karras et al. 2020 (StyleGAN2) and its official code.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.stylegan.config import GeneratorConfig
from models.stylegan.layers import FullyConnected, activate, clamped, conv, conv_up, unset, upsample

Noise = dict[str, dict[str, jax.Array]]  # noise["b8"]["conv0"] [8, 8], or [N, 8, 8]


class BlockOutput(NamedTuple):
    """What a block hands on to the next one."""

    x: jax.Array  # [N, r, r, C] features
    image: jax.Array  # [N, r, r, 3] the picture so far, this block's share included


class StyledConv(nn.Module):
    """A convolution whose kernel is scaled by a latent, with noise."""

    features: int
    clamp: float | None
    is_up: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array, noise: jax.Array | None) -> jax.Array:
        """Returns features of x [N, r, r, I], latents [N, w_dim] and noise [..., r, r]."""
        channels = x.shape[-1]
        styles = FullyConnected(channels, name="affine")(w)
        kernel = self.param("weight", unset, (3, 3, channels, self.features))
        strength = self.param("noise_strength", unset, ())
        bias = self.param("bias", unset, (self.features,))
        power = styles**2 @ jnp.sum(kernel**2, (0, 1))
        scales = jax.lax.rsqrt(power + 1e-8).astype(x.dtype)
        x = x * styles.astype(x.dtype)[:, None, None]
        x = (conv_up if self.is_up else conv)(x, kernel.astype(x.dtype))
        x = x * scales[:, None, None]
        if noise is not None:
            x = x + (strength * noise).astype(x.dtype)[..., None]
        return activate(x + bias.astype(x.dtype), clamp=self.clamp)


class ToRgb(nn.Module):
    """Paints features: a picture of its own for each block."""

    features: int
    clamp: float | None

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        """Returns pictures [N, r, r, 3], float32, of x [N, r, r, I] and latents [N, w_dim]."""
        channels = x.shape[-1]
        styles = FullyConnected(channels, name="affine")(w) / math.sqrt(channels)
        kernel = self.param("weight", unset, (1, 1, channels, self.features))
        bias = self.param("bias", unset, (self.features,))
        x = conv(x * styles.astype(x.dtype)[:, None, None], kernel.astype(x.dtype))
        return clamped(x + bias.astype(x.dtype), clamp=self.clamp).astype(bias.dtype)


class SynthesisBlock(nn.Module):
    """Features and picture at one resolution."""

    features: int
    config: GeneratorConfig
    dtype: str

    @nn.compact
    def __call__(
        self, before: BlockOutput | None, ws: jax.Array, noise: dict[str, jax.Array]
    ) -> BlockOutput:
        """Goes on from the block before; None for the first.

        Args:
          before: of half the resolution.
          ws: [N, 3, w_dim] of conv0, conv1 and torgb; without the first in the first block.
          noise: of conv0 and conv1; those that are missing have none.
        """
        clamp = self.config.clamp
        if before is None:
            const = self.param("const", unset, (4, 4, self.features))
            x = jnp.broadcast_to(const.astype(self.dtype), (len(ws), *const.shape))
        else:
            x = before.x.astype(self.dtype)
            up = StyledConv(self.features, clamp, is_up=True, name="conv0")
            x = up(x, ws[:, -3], noise.get("conv0"))
        x = StyledConv(self.features, clamp, name="conv1")(x, ws[:, -2], noise.get("conv1"))
        share = ToRgb(self.config.image_channels, clamp, name="torgb")(x, ws[:, -1])
        return BlockOutput(x, share if before is None else upsample(before.image) + share)


class Synthesis(nn.Module):
    """All blocks."""

    config: GeneratorConfig
    dtype: str = "float32"  # of the features; pictures are float32

    @nn.compact
    def __call__(
        self,
        ws: jax.Array,
        noise: Noise | None = None,
        start: BlockOutput | None = None,
        upto: int | None = None,
    ) -> dict[int, BlockOutput]:
        """Returns what the blocks give, by their resolution.

        Args:
          ws: [N, L, w_dim].
          noise: of each convolution, or None.
          start: what some block gave; only those after it are run. None runs all.
          upto: the last resolution to run; None for the pictures' own.
        """
        begin = 0 if start is None else start.x.shape[1]
        before, outputs = start, {}
        for index, resolution in enumerate(self.config.resolutions):
            if not begin < resolution <= (upto or self.config.resolution):
                continue
            name, features = f"b{resolution}", self.config.channels[index]
            # The latent of a block's picture is also that of the next block's first layer.
            latents = ws[:, max(2 * index - 1, 0) : 2 * index + 2]
            block = SynthesisBlock(features, self.config, self.dtype, name=name)
            before = block(before, latents, (noise or {}).get(name, {}))
            outputs[resolution] = before
        return outputs
