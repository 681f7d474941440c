"""ModelScope's network, which tells the noise in the latents of a clip that a text describes.

Axes as in `blocks.py`. Diffusers' UNet3DConditionModel; Wang et al. 2023.
"""

import jax
from flax import linen as nn

from models.diffusion import blocks
from models.diffusion.configs import ModelScopeConfig

_TIME_HEADS = 8  # of the transformer right behind the first convolution, whatever its width


class TemporalConv(nn.Module):
    """Four convolutions over frames, and a way around them."""

    groups: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = x
        # The places of norm and convolution in torch's sequences, where a dropout lies in all but
        # the first.
        for name, last in (("conv1", 2), ("conv2", 3), ("conv3", 3), ("conv4", 3)):
            h = nn.silu(blocks.clip_norm(f"{name}_0", self.groups)(h))
            h = blocks.time_conv(f"{name}_{last}", x.shape[-1])(h)
        return x + h


class Transformer(nn.Module):
    """A transformer block among a frame's pixels, or among the frames of each pixel."""

    heads: int
    head_size: int
    groups: int
    over_time: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array | None = None) -> jax.Array:
        """Maps `x` [B, T, H, W, C], with `context` [B, S, E], to the same shape."""
        norm = blocks.clip_norm if self.over_time else blocks.frame_norm
        h = norm("norm", self.groups, 1e-6)(x)
        h = blocks.linear("proj_in", self.heads * self.head_size)(h)
        h = h.reshape(*x.shape[:2], -1, h.shape[-1])  # [B, T, HW, C]
        h = h.swapaxes(1, 2) if self.over_time else h
        block = blocks.TransformerBlock(self.heads, self.head_size, name="transformer_blocks_0")
        h = block(h, None if context is None else context[:, None])
        h = h.swapaxes(1, 2) if self.over_time else h
        return x + blocks.linear("proj_out", x.shape[-1])(h).reshape(x.shape)


class ModelScopeUnet(nn.Module):
    """The denoiser of latents, predicting the noise."""

    config: ModelScopeConfig = ModelScopeConfig()

    @nn.compact
    def __call__(self, x: jax.Array, t: jax.Array, context: jax.Array) -> jax.Array:
        """Returns the noise in `x`.

        Args:
          x: [B, T, H, W, in_channels] latents, scaled to the variance that t says.
          t: [B] time step in 0..999; need not be whole.
          context: [B, S, cross_attention_dim] states of the text.
        """
        config, widths = self.config, self.config.block_out_channels
        groups, size = config.norm_num_groups, config.attention_head_dim
        waves = blocks.sinusoids(t, widths[0]).astype(x.dtype)
        emb = blocks.TimestepEmbedding(4 * widths[0], 4 * widths[0], name="time_embedding")(waves)
        context = context.astype(x.dtype)
        x = blocks.frame_conv("conv_in", widths[0])(x)
        x = Transformer(_TIME_HEADS, size, groups, over_time=True, name="transformer_in")(x)

        def layer_of(way: str, level: int) -> blocks.Layer:
            def resnet(index: int, x: jax.Array) -> jax.Array:
                x = blocks.ResnetBlock(widths[level], groups, name=f"resnets_{index}")(x, emb)
                return TemporalConv(groups, name=f"temp_convs_{index}")(x)

            def attend(index: int, x: jax.Array) -> jax.Array:
                parts = widths[level] // size, size, groups
                x = Transformer(*parts, name=f"attentions_{index}")(x, context)
                return Transformer(*parts, over_time=True, name=f"temp_attentions_{index}")(x)

            return blocks.Layer(resnet, attend if config.attends(way, level) else None)

        x = blocks.run_levels(x, len(widths), config.layers_per_block, layer_of)
        x = nn.silu(blocks.frame_norm("conv_norm_out", groups)(x))
        return blocks.frame_conv("conv_out", config.out_channels)(x)

    @nn.nowrap
    def param_shapes(self) -> dict:
        """Returns the tree of its parameters' shapes and dtypes."""
        context = 1, 1, self.config.cross_attention_dim
        return blocks.param_shapes(self, (1, 2, 8, 8, self.config.in_channels), (1,), context)
