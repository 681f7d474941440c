"""The blocks that the networks of public video pipelines are made of.

Axes: B clips, T frames, H rows, W columns, C channels (last), S tokens, N heads, E width of the
embedded time. What a clip is told (time, text) has no frame axis and holds for all its frames.

A submodule has torch's name, with a list's index glued on by `_`: one rule (`models.torch_names`)
then finds the place of every entry of a checkpoint. Computed is in the dtype of parameters and
inputs; norms, embeddings and softmax in float32.

Sources: Rombach et al. 2022 (UNet and autoencoder), Wang et al. 2023 (ModelScope), Blattmann et al.
2023 (Stable Video Diffusion); diffusers 0.42, which tests/parity compares with.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn


def frame_norm(name: str, groups: int = 32, eps: float = 1e-5) -> nn.GroupNorm:
    """A group norm with the statistics of each frame of [B, T, H, W, C]."""
    return _group_norm(name, groups, eps, (-3, -2, -1))


def clip_norm(name: str, groups: int = 32, eps: float = 1e-5) -> nn.GroupNorm:
    """A group norm with the statistics of each clip, all frames together."""
    return _group_norm(name, groups, eps, (-4, -3, -2, -1))


def _group_norm(name: str, groups: int, eps: float, axes: tuple[int, ...]) -> nn.GroupNorm:
    # The fast variance, a difference of large numbers, loses the digits that parity is about.
    return nn.GroupNorm(
        groups, epsilon=eps, reduction_axes=axes, use_fast_variance=False, name=name
    )


def layer_norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)


# Parameters come from checkpoints: drawing them would be a third of what tracing costs.
_UNDRAWN = nn.initializers.zeros


def linear(name: str, channels: int, has_bias: bool = True) -> nn.Dense:
    return nn.Dense(channels, has_bias, kernel_init=_UNDRAWN, name=name)


def frame_conv(
    name: str | None, channels: int, size: int = 3, strides: int = 1, padding: tuple | None = None
) -> nn.Conv:
    """A convolution of each frame by a square window."""
    padding = size // 2 if padding is None else padding
    return nn.Conv(
        channels, (size, size), strides, padding=padding, kernel_init=_UNDRAWN, name=name
    )


def time_conv(name: str, channels: int, size: int = 3) -> nn.Conv:
    """A convolution of each pixel with itself in the frames around."""
    padding = ((size // 2, size // 2), (0, 0), (0, 0))
    return nn.Conv(channels, (size, 1, 1), padding=padding, kernel_init=_UNDRAWN, name=name)


def sinusoids(t: jax.Array, channels: int) -> jax.Array:
    """Embeds `t` [...] as cosines, then sines [..., channels], of periods 2 pi to 20,000 pi."""
    half = channels // 2
    angles = t.astype(jnp.float32)[..., None] * 1e4 ** (-jnp.arange(half) / half)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1)


class TimestepEmbedding(nn.Module):
    """Two linear layers on top of `sinusoids`."""

    hidden: int
    channels: int

    @nn.compact
    def __call__(self, waves: jax.Array) -> jax.Array:
        h = nn.silu(linear("linear_1", self.hidden)(waves))
        return linear("linear_2", self.channels)(h)


class ResnetBlock(nn.Module):
    """Two convolutions, the time added between them, and a way around; in space or over frames."""

    channels: int
    groups: int = 32
    eps: float = 1e-5
    over_time: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, emb: jax.Array | None = None) -> jax.Array:
        """Maps `x` [B, T, H, W, C] and the embedded time [B, E] to [B, T, H, W, channels]."""
        norm, conv = (clip_norm, time_conv) if self.over_time else (frame_norm, frame_conv)
        h = nn.silu(norm("norm1", self.groups, self.eps)(x))
        h = conv("conv1", self.channels)(h)
        if emb is not None:
            time = linear("time_emb_proj", self.channels)(nn.silu(emb))
            h += time[:, None, None, None]
        h = nn.silu(norm("norm2", self.groups, self.eps)(h))
        h = conv("conv2", self.channels)(h)
        if x.shape[-1] != self.channels:
            x = conv("conv_shortcut", self.channels, 1)(x)
        return x + h


class AlphaBlender(nn.Module):
    """A learnt mix of what a clip is frame by frame and what it is over time."""

    favours_time: bool = False  # the larger its parameter; else what is frame by frame

    @nn.compact
    def __call__(self, frames: jax.Array, clip: jax.Array) -> jax.Array:
        share = nn.sigmoid(self.param("mix_factor", nn.initializers.constant(0.5), (1,)))
        share = (1.0 - share if self.favours_time else share).astype(frames.dtype)
        return share * frames + (1.0 - share) * clip


class SpatioTemporalResnet(nn.Module):
    """A block in space, one over frames on top of it, and their mix."""

    channels: int
    eps: float = 1e-5
    time_eps: float = 1e-5
    favours_time: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, emb: jax.Array | None = None) -> jax.Array:
        frames = ResnetBlock(self.channels, eps=self.eps, name="spatial_res_block")(x, emb)
        over_time = ResnetBlock(
            self.channels, eps=self.time_eps, over_time=True, name="temporal_res_block"
        )
        blend = AlphaBlender(self.favours_time, name="time_mixer")
        return blend(frames, over_time(frames, emb))


class Attention(nn.Module):
    """Attention of the tokens `x` [..., S, C] to those of `context`, by default to each other."""

    heads: int
    head_size: int
    groups: int | None = None  # with a group norm before, as in autoencoders: all have biases then

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array | None = None) -> jax.Array:
        if self.groups is not None:
            h = _group_norm("group_norm", self.groups, 1e-6, (-2, -1))(x)
        else:
            h = x
        context = h if context is None else context
        q, k, v = (
            self._heads_of(name, tokens)
            for name, tokens in (("to_q", h), ("to_k", context), ("to_v", context))
        )
        logits = jnp.einsum("...qnc,...knc->...nqk", q * self.head_size**-0.5, k)
        weights = nn.softmax(logits.astype(jnp.float32)).astype(v.dtype)
        mixed = jnp.einsum("...nqk,...knc->...qnc", weights, v)
        return linear("to_out_0", x.shape[-1])(mixed.reshape(*x.shape[:-1], -1))

    def _heads_of(self, name: str, tokens: jax.Array) -> jax.Array:
        has_bias = self.groups is not None
        h = linear(name, self.heads * self.head_size, has_bias)(tokens)
        return h.reshape(*tokens.shape[:-1], self.heads, self.head_size)


class GatedGelu(nn.Module):
    """A linear map, multiplied by the GELU of another (Shazeer 2020)."""

    channels: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h, gate = jnp.split(linear("proj", 2 * self.channels)(x), 2, -1)
        return h * nn.gelu(gate, approximate=False)


class FeedForward(nn.Module):
    """The token-wise network between attentions, four times as wide inside."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return linear("net_2", x.shape[-1])(GatedGelu(4 * x.shape[-1], name="net_0")(x))


class TransformerBlock(nn.Module):
    """Attention among the tokens [..., S, C], attention to a context, a token-wise network."""

    heads: int
    head_size: int
    feeds_first: bool = False  # a token-wise network before all else, as over SVD's frames

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array | None = None) -> jax.Array:
        if self.feeds_first:
            x += FeedForward(name="ff_in")(layer_norm("norm_in")(x))
        x += Attention(self.heads, self.head_size, name="attn1")(layer_norm("norm1")(x))
        x += Attention(self.heads, self.head_size, name="attn2")(layer_norm("norm2")(x), context)
        return x + FeedForward(name="ff")(layer_norm("norm3")(x))


class Downsample(nn.Module):
    """Half the rows and columns, by a convolution."""

    padding: tuple | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return frame_conv("conv", x.shape[-1], strides=2, padding=self.padding)(x)


class Upsample(nn.Module):
    """Twice the rows and columns, cut to `size` where that is odd, and a convolution."""

    @nn.compact
    def __call__(self, x: jax.Array, size: tuple[int, int] | None = None) -> jax.Array:
        x = x.repeat(2, -3).repeat(2, -2)
        if size is not None:
            x = x[..., : size[0], : size[1], :]
        return frame_conv("conv", x.shape[-1])(x)


class Layer(NamedTuple):
    """What one level of a UNet repeats; `index` counts the layers of the level."""

    resnet: Callable[[int, jax.Array], jax.Array]  # index, x
    attend: Callable[[int, jax.Array], jax.Array] | None = None


class DownBlock(nn.Module):
    """A level on the way down."""

    num_layers: int
    halves: bool
    padding: tuple | None = None

    @nn.compact
    def __call__(self, x: jax.Array, layer: Layer) -> list[jax.Array]:
        """Returns what each layer gives, and last the level's half as large result."""
        steps = []
        for index in range(self.num_layers):
            x = layer.resnet(index, x)
            x = layer.attend(index, x) if layer.attend else x
            steps.append(x)
        if self.halves:
            steps.append(Downsample(self.padding, name="downsamplers_0")(x))
        return steps


class MidBlock(nn.Module):
    """The bottom: attention between two residual blocks."""

    @nn.compact
    def __call__(self, x: jax.Array, layer: Layer) -> jax.Array:
        return layer.resnet(1, layer.attend(0, layer.resnet(0, x)))


class UpBlock(nn.Module):
    """A level on the way up."""

    doubles: bool

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        layer: Layer,
        skips: Sequence[jax.Array | None],
        size: tuple[int, int] | None = None,
    ) -> jax.Array:
        """Runs a layer for each of `skips`, put beside `x` where there is one."""
        for index, skip in enumerate(skips):
            x = x if skip is None else jnp.concatenate([x, skip], -1)
            x = layer.resnet(index, x)
            x = layer.attend(index, x) if layer.attend else x
        return Upsample(name="upsamplers_0")(x, size) if self.doubles else x


def run_levels(
    x: jax.Array, levels: int, num_layers: int, layer_of: Callable[[str, int], Layer]
) -> jax.Array:
    """Runs a UNet's levels down and up again, with what it passes across.

    Args:
      x: [B, T, H, W, C], of any H and W.
      levels: how many.
      num_layers: of each level on the way down; one more on the way up.
      layer_of: tells of "down", "mid" or "up", and of a level, what it repeats.
    """
    skips = [x]
    for level in range(levels):
        block = DownBlock(num_layers, halves=level < levels - 1, name=f"down_blocks_{level}")
        skips += block(skips[-1], layer_of("down", level))
    x = MidBlock(name="mid_block")(skips[-1], layer_of("mid", levels - 1))
    for level in reversed(range(levels)):
        taken = [skips.pop() for _ in range(num_layers + 1)]
        size = skips[-1].shape[-3:-1] if skips else None
        block = UpBlock(doubles=level > 0, name=f"up_blocks_{levels - 1 - level}")
        x = block(x, layer_of("up", level), taken, size)
    return x


@functools.cache
def param_shapes(network: nn.Module, *inputs: tuple[int, ...]) -> dict:
    """Returns the shapes of a network's parameters, given those of its inputs; shared."""
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs]
    return jax.eval_shape(network.init, jax.random.key(0), *inputs)["params"]
