"""The discriminator of StyleGAN2: how much pictures look like those of the training set.

Residual blocks of halving resolution, then the deviation of pictures from each other as one more
feature, and a logit; with labels, the logit is a product with the label's mapping.

Axes: N pictures [N, H, W, 3] as generators give them, about [-1, 1].

Source: Karras et al. 2020 (StyleGAN2) and its official code; Karras et al. 2018 (deviations).
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.stylegan.config import DiscriminatorConfig
from models.stylegan.layers import (
    FullyConnected,
    activate,
    conv,
    conv_down,
    init_params,
    unset,
)
from models.stylegan.mapping import Mapping


class PlainConv(nn.Module):
    """A convolution whose weights are kept normal and scaled when used."""

    features: int
    side: int  # of the kernel
    clamp: float | None
    is_down: bool = False
    is_linear: bool = False  # without bias, activation and clamp

    @nn.compact
    def __call__(self, x: jax.Array, gain: float = 1.0) -> jax.Array:
        """Returns features of x [N, r, r, I], times `gain`."""
        shape = (self.side, self.side, x.shape[-1], self.features)
        kernel = self.param("weight", unset, shape) / math.sqrt(math.prod(shape[:3]))
        x = (conv_down if self.is_down else conv)(x, kernel.astype(x.dtype))
        if self.is_linear:
            return gain * x
        bias = self.param("bias", unset, (self.features,))
        return activate(x + bias.astype(x.dtype), gain, self.clamp)


class DiscriminatorBlock(nn.Module):
    """Halves the side of features; the first block takes pictures."""

    features: int
    features_out: int
    clamp: float | None
    is_first: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns features [N, r / 2, r / 2, features_out]."""
        if self.is_first:
            x = PlainConv(self.features, 1, self.clamp, name="fromrgb")(x)
        half = math.sqrt(0.5)  # each of two shares has half the variance
        skip = PlainConv(self.features_out, 1, None, is_down=True, is_linear=True, name="skip")
        kept = skip(x, half)
        x = PlainConv(self.features, 3, self.clamp, name="conv0")(x)
        last = PlainConv(self.features_out, 3, self.clamp, is_down=True, name="conv1")
        return kept + last(x, half)


class DiscriminatorEnd(nn.Module):
    """Features at 4 x 4 pixels to numbers, one without labels."""

    config: DiscriminatorConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [N, 1], or [N, cmap_dim], of features [N, 4, 4, C] or a picture."""
        config, features = self.config, self.config.channels[0]
        if config.resolution == 4:
            x = PlainConv(features, 1, config.clamp, name="fromrgb")(x)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        x = with_deviation(x, config.group_size, config.group_channels)
        x = PlainConv(features, 3, config.clamp, name="conv")(x)
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # the official order
        x = FullyConnected(features, is_activated=True, name="fc")(x)
        return FullyConnected(max(config.cmap_dim, 1), name="out")(x)


class Discriminator(nn.Module):
    """The whole network."""

    config: DiscriminatorConfig
    dtype: str = "float32"  # of the features, but for the last at 4 x 4 pixels

    @nn.compact
    def __call__(self, images: jax.Array, c: jax.Array | None = None) -> jax.Array:
        """Returns logits [N], high for real ones, of pictures and labels [N, c_dim] or None."""
        config = self.config
        x = images.astype(self.dtype)
        blocks = list(zip(config.resolutions, config.channels, strict=True))
        for (resolution, features), (_, fewer) in zip(blocks[:0:-1], blocks[-2::-1], strict=True):
            is_first = resolution == config.resolution
            x = DiscriminatorBlock(features, fewer, config.clamp, is_first, name=f"b{resolution}")(
                x
            )
        scores = DiscriminatorEnd(config, name="b4")(x)
        if c is None:
            return scores[:, 0]
        mapping = Mapping(
            config.cmap_dim, config.mapping_layers, config.mapping_rate, name="mapping"
        )
        return jnp.sum(scores * mapping(None, c), -1) / math.sqrt(config.cmap_dim)


def with_deviation(x: jax.Array, group_size: int, group_channels: int) -> jax.Array:
    """Appends how much the pictures of a group differ, mean over all places and channels.

    Args:
      x: [N, H, W, C]; the groups are n, n + N / size, n + 2 N / size, ...
      group_size: pictures of a group; all N if there are fewer, else a divisor of N.
      group_channels: into how many parts the channels fall, each with a mean of its own.

    Returns:
      [N, H, W, C + group_channels].
    """
    count, height, width, channels = x.shape
    size = min(group_size, count)
    if count % size:
        raise ValueError(f"expected a multiple of {size} pictures, found {count}")
    groups = x.reshape(size, -1, height, width, group_channels, channels // group_channels)
    deviation = jnp.sqrt(jnp.var(groups, 0) + 1e-8).mean((1, 2, 4))
    each = jnp.tile(deviation, (size, 1))[:, None, None]
    return jnp.concatenate([x, jnp.broadcast_to(each, (*x.shape[:3], group_channels))], -1)


def init_discriminator(key: jax.Array, config: DiscriminatorConfig) -> dict[str, Any]:
    """Returns the parameters of a discriminator before training."""
    shape = (1, config.resolution, config.resolution, config.image_channels)
    c = jnp.zeros((1, config.c_dim)) if config.c_dim else None
    module = Discriminator(config)
    return init_params(key, lambda k: module.init(k, jnp.zeros(shape), c), config.mapping_rate)


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def discriminate(
    params: dict[str, Any],
    images: jax.Array,
    c: jax.Array | None,
    config: DiscriminatorConfig,
    dtype: str = "float32",
) -> jax.Array:
    """Returns logits [N], high for what looks real.

    Args:
      params: from `init_discriminator`.
      images: [N, H, W, 3] in about [-1, 1]; N at most, or a multiple of, `config.group_size`.
      c: [N, c_dim] labels; None without labels.
      config: static.
      dtype: static, of features, "float32" or "bfloat16".
    """
    return Discriminator(config, dtype).apply({"params": params}, images, c)
