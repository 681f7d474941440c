"""Stable Video Diffusion's network, which continues a picture.

Axes as in `blocks.py`. Diffusers' UNetSpatioTemporalConditionModel; Blattmann et al. 2023.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.diffusion import blocks
from models.diffusion.configs import SvdConfig


class SpatioTemporalTransformer(nn.Module):
    """A transformer block among a frame's pixels, one among the frames of each pixel, their mix."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
        """Maps `x` [B, T, H, W, C], with `context` [B, S, E], to the same shape."""
        channels = x.shape[-1]
        parts = self.heads, channels // self.heads
        context = context[:, None]
        h = blocks.linear("proj_in", channels)(blocks.frame_norm("norm", eps=1e-6)(x))
        h = h.reshape(*x.shape[:2], -1, channels)  # [B, T, HW, C]
        frames = blocks.TransformerBlock(*parts, name="transformer_blocks_0")(h, context)

        waves = blocks.sinusoids(jnp.arange(x.shape[1]), channels).astype(x.dtype)
        embed = blocks.TimestepEmbedding(4 * channels, channels, name="time_pos_embed")
        clip = (frames + embed(waves)[:, None]).swapaxes(1, 2)
        among_frames = blocks.TransformerBlock(
            *parts, feeds_first=True, name="temporal_transformer_blocks_0"
        )
        clip = among_frames(clip, context).swapaxes(1, 2)
        h = blocks.AlphaBlender(name="time_mixer")(frames, clip)
        return x + blocks.linear("proj_out", channels)(h).reshape(x.shape)


class SvdUnet(nn.Module):
    """The denoiser of latents, predicting v."""

    config: SvdConfig = SvdConfig()

    @nn.compact
    def __call__(
        self, x: jax.Array, c_noise: jax.Array, context: jax.Array, time_ids: jax.Array
    ) -> jax.Array:
        """Returns the network's share of the clean latents [B, T, H, W, out_channels].

        Args:
          x: [B, T, H, W, in_channels] latents scaled to unit variance, the picture's beside them.
          c_noise: [B] a quarter of the logarithm of sigma.
          context: [B, S, cross_attention_dim] embedding of the picture.
          time_ids: [B, 3] frames a second minus one, motion bucket, noise on the picture.
        """
        config, widths = self.config, self.config.block_out_channels
        embed = [
            blocks.TimestepEmbedding(4 * widths[0], 4 * widths[0], name=name)
            for name in ("time_embedding", "add_embedding")
        ]
        ids = blocks.sinusoids(time_ids, config.addition_time_embed_dim)
        ids = ids.reshape(len(x), -1).astype(x.dtype)
        emb = embed[0](blocks.sinusoids(c_noise, widths[0]).astype(x.dtype)) + embed[1](ids)
        context = context.astype(x.dtype)
        x = blocks.frame_conv("conv_in", widths[0])(x)

        def layer_of(way: str, level: int) -> blocks.Layer:
            attends = config.attends(way, level)
            # As it was trained, whatever its settings say.
            eps = 1e-6 if way == "up" or (way == "down" and attends) else 1e-5

            def resnet(index: int, x: jax.Array) -> jax.Array:
                name = f"resnets_{index}"
                return blocks.SpatioTemporalResnet(widths[level], eps, eps, name=name)(x, emb)

            def attend(index: int, x: jax.Array) -> jax.Array:
                heads = config.num_attention_heads[level]
                return SpatioTemporalTransformer(heads, name=f"attentions_{index}")(x, context)

            return blocks.Layer(resnet, attend if attends else None)

        x = blocks.run_levels(x, len(widths), config.layers_per_block, layer_of)
        x = nn.silu(blocks.frame_norm("conv_norm_out")(x))
        return blocks.frame_conv("conv_out", config.out_channels)(x)

    @nn.nowrap
    def param_shapes(self) -> dict:
        """Returns the tree of its parameters' shapes and dtypes."""
        x = 1, 2, 8, 8, self.config.in_channels
        context = 1, 1, self.config.cross_attention_dim
        return blocks.param_shapes(self, x, (1,), context, (1, 3))
