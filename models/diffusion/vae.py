"""Autoencoders between pictures and latents of an eighth of their rows and columns.

Axes as in `blocks.py`; pictures are in [-1, 1]. `Vae` is diffusers' AutoencoderKL (Rombach et al.
2022), applied frame by frame; `VideoVae` its AutoencoderKLTemporalDecoder (Blattmann et al. 2023),
which encodes frame by frame and decodes all frames together.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.diffusion import blocks
from models.diffusion.configs import VaeConfig, VideoVaeConfig

_Config = VaeConfig | VideoVaeConfig
_EPS = 1e-6  # of the norms of pictures; those over time keep 1e-5
_HALVING = ((0, 1), (0, 1))  # padding
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class Latents(NamedTuple):
    """The normal distribution of the latents of pictures; not yet scaled for a UNet."""

    mean: jax.Array  # [B, T, h, w, latent_channels]
    log_variance: jax.Array  # the same


class Encoder(nn.Module):
    """Pictures to the numbers of their latents' distribution."""

    config: _Config

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        config, levels = self.config, len(self.config.block_out_channels)
        x = blocks.frame_conv("conv_in", config.block_out_channels[0])(x)
        for level, channels in enumerate(config.block_out_channels):
            block = blocks.DownBlock(
                config.layers_per_block, level < levels - 1, _HALVING, name=f"down_blocks_{level}"
            )
            x = block(x, _layer(config, channels))[-1]
        x = blocks.MidBlock(name="mid_block")(x, _mid_layer(config, channels))
        x = blocks.frame_norm("conv_norm_out", config.norm_num_groups, _EPS)(x)
        return blocks.frame_conv("conv_out", 2 * config.latent_channels)(nn.silu(x))


class Decoder(nn.Module):
    """Latents to pictures."""

    config: _Config
    over_time: bool = False

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        config = self.config
        widths = config.block_out_channels[::-1]
        x = blocks.frame_conv("conv_in", widths[0])(z)
        x = blocks.MidBlock(name="mid_block")(x, _mid_layer(config, widths[0], self.over_time))
        for level, channels in enumerate(widths):
            block = blocks.UpBlock(level < len(widths) - 1, name=f"up_blocks_{level}")
            layer = _layer(config, channels, self.over_time)
            x = block(x, layer, [None] * (config.layers_per_block + 1))
        x = blocks.frame_norm("conv_norm_out", config.norm_num_groups, _EPS)(x)
        x = blocks.frame_conv("conv_out", config.out_channels)(nn.silu(x))
        return blocks.time_conv("time_conv_out", config.out_channels)(x) if self.over_time else x


def _layer(config: _Config, channels: int, over_time: bool = False) -> blocks.Layer:
    """What a level of `channels` is made of."""
    groups = config.norm_num_groups

    def resnet(index: int, x: jax.Array) -> jax.Array:
        name = f"resnets_{index}"
        if over_time:
            block = blocks.SpatioTemporalResnet(channels, _EPS, favours_time=True, name=name)
        else:
            block = blocks.ResnetBlock(channels, groups, _EPS, name=name)
        return block(x)

    return blocks.Layer(resnet)


def _mid_layer(config: _Config, channels: int, over_time: bool = False) -> blocks.Layer:
    """The same at the bottom, where the pixels of a frame attend to each other."""

    def attend(index: int, x: jax.Array) -> jax.Array:
        tokens = x.reshape(*x.shape[:2], -1, channels)
        attention = blocks.Attention(
            1, channels, config.norm_num_groups, name=f"attentions_{index}"
        )
        return x + attention(tokens).reshape(x.shape)

    return _layer(config, channels, over_time)._replace(attend=attend)


class VideoVae(nn.Module):
    """The autoencoder whose decoder knows what comes before and after a frame."""

    config: VideoVaeConfig = VideoVaeConfig()

    def setup(self):
        self.encoder = Encoder(self.config)
        self.quant_conv = blocks.frame_conv(None, 2 * self.config.latent_channels, 1)
        self.decoder = Decoder(self.config, over_time=True)

    def encode(self, pictures: jax.Array) -> Latents:
        """Encodes pictures [B, T, H, W, 3] in [-1, 1]."""
        mean, log_variance = jnp.split(self.quant_conv(self.encoder(pictures)), 2, -1)
        return Latents(mean, jnp.clip(log_variance, -30.0, 20.0))

    def decode(self, z: jax.Array) -> jax.Array:
        """Decodes latents [B, T, h, w, latent_channels], as `encode` gives them."""
        return self.decoder(z)

    def __call__(self, pictures: jax.Array) -> jax.Array:
        """Encodes and decodes."""
        return self.decode(self.encode(pictures).mean)

    @nn.nowrap
    def param_shapes(self) -> dict:
        """Returns the tree of its parameters' shapes and dtypes."""
        return blocks.param_shapes(self, (1, 1, 16, 16, self.config.in_channels))


class Vae(VideoVae):
    """The autoencoder of single pictures."""

    config: VaeConfig = VaeConfig()

    def setup(self):
        self.encoder = Encoder(self.config)
        self.quant_conv = blocks.frame_conv(None, 2 * self.config.latent_channels, 1)
        self.decoder = Decoder(self.config)
        self.post_quant_conv = blocks.frame_conv(None, self.config.latent_channels, 1)

    def decode(self, z: jax.Array) -> jax.Array:
        """Decodes latents [B, T, h, w, latent_channels], as `encode` gives them."""
        return self.decoder(self.post_quant_conv(z))


def current_name(name: str) -> str:
    """Gives the present name of an entry: autoencoders of 2023 call their attention otherwise."""
    for old, new in _OLD_NAMES.items():
        name = name.replace(f".attentions.0.{old}.", f".attentions.0.{new}.")
    return name
