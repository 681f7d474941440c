"""The network of the small prior: a transformer over tubelets of a short clip.

A tubelet is a square of pixels over all or some frames; each is a token, and so is its square of
the first frame, which is known and joined on the channels. Noise level and stiffness steer every
block through the scales and shifts of its norms.

Axes: B clips, T frames, H rows and W columns of pixels, N tokens, D width.

Sources: Peebles and Xie 2023 (DiT, adaLN-zero); Arnab et al. 2021 (ViViT, tubelets).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

_LEVEL_WAVES, _LABEL_WAVES = (16, 30.0), (16, 12.0)  # how many, and the fastest


@dataclasses.dataclass(frozen=True)
class DitConfig:
    """Shape of the network."""

    num_frames: int = 8  # T
    size: int = 32  # H and W, pixels
    patch: int = 8  # pixels of a tubelet
    span: int = 8  # frames of a tubelet
    width: int = 192  # D
    depth: int = 4
    heads: int = 6

    @property
    def num_tokens(self) -> int:
        """N of a clip."""
        return (self.num_frames // self.span) * (self.size // self.patch) ** 2


class MotionDit(nn.Module):
    """Predicts F of the EDM form; see `motion_prior.py` for what goes in and out."""

    config: DitConfig

    @nn.compact
    def __call__(
        self, x: jax.Array, first: jax.Array, level: jax.Array, label: jax.Array, told: jax.Array
    ) -> jax.Array:
        """Returns F [B, T, H, W, 3].

        Args:
          x: [B, T, H, W, 3] the noisy change since the first frame, of unit variance.
          first: [B, H, W, 3] the first frame, in [-1, 1].
          level: [B] of the noise, about [-1, 1].
          label: [B] of the stiffness, about [-1, 1].
          told: [B] one where the label counts, zero where it is not told.
        """
        width = self.config.width
        clip = jnp.concatenate([x, jnp.broadcast_to(first[:, None], x.shape)], -1)
        tokens = nn.Dense(width, name="embed")(cut(clip, self.config))
        places = nn.initializers.normal(0.02)
        tokens = tokens + self.param("places", places, (self.config.num_tokens, width))
        null = self.param("null", nn.initializers.normal(0.02), (width,))
        meant = nn.Dense(width, name="label")(waves(label, *_LABEL_WAVES))
        meant = jnp.where(told[:, None] > 0, meant, null)
        hidden = nn.silu(nn.Dense(width, name="level")(waves(level, *_LEVEL_WAVES)) + meant)
        steering = nn.silu(nn.Dense(width, name="steering")(hidden))
        blocks = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=self.config.depth,
        )
        tokens, _ = blocks(self.config.heads, name="blocks")(tokens, steering)
        shift, scale = _steer(steering, 2, width, "last_steering")
        tokens = _norm(tokens) * (1.0 + scale) + shift
        pixels = self.config.span * self.config.patch**2 * 3
        last = nn.Dense(pixels, kernel_init=nn.initializers.zeros, name="pixels")
        return join(last(tokens), self.config)


class Block(nn.Module):
    """Attention and a feed-forward layer, each shifted, scaled and gated by the steering."""

    heads: int

    @nn.compact
    def __call__(self, tokens: jax.Array, steering: jax.Array) -> tuple[jax.Array, None]:
        width = tokens.shape[-1]
        shift, scale, gate, shift2, scale2, gate2 = _steer(steering, 6, width, "steer")
        h = nn.Dense(3 * width, name="qkv")(_norm(tokens) * (1.0 + scale) + shift)
        q, k, v = (self._by_head(part) for part in jnp.split(h, 3, -1))
        h = nn.dot_product_attention(q, k, v).reshape(tokens.shape)
        tokens = tokens + gate * nn.Dense(width, name="out")(h)
        h = nn.Dense(4 * width, name="widen")(_norm(tokens) * (1.0 + scale2) + shift2)
        return tokens + gate2 * nn.Dense(width, name="narrow")(nn.gelu(h)), None

    def _by_head(self, h: jax.Array) -> jax.Array:
        return h.reshape(*h.shape[:-1], self.heads, -1)


def _steer(steering: jax.Array, count: int, width: int, name: str) -> list[jax.Array]:
    """Returns `count` vectors [B, 1, D], zero at the start: then a block changes nothing."""
    dense = nn.Dense(count * width, kernel_init=nn.initializers.zeros, name=name)
    return jnp.split(dense(steering)[:, None], count, -1)


def _norm(tokens: jax.Array) -> jax.Array:
    return nn.LayerNorm(use_bias=False, use_scale=False, use_fast_variance=False)(tokens)


def waves(values: jax.Array, count: int, fastest: float) -> jax.Array:
    """Sines and cosines [B, 2 count] of values [B], their rates from one to `fastest` radians."""
    phase = values[:, None] * np.geomspace(1.0, fastest, count, dtype=np.float32)
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], -1)


def cut(clip: jax.Array, config: DitConfig) -> jax.Array:
    """Cuts clips [B, T, H, W, C] into tubelets [B, N, span patch patch C]."""
    p, s, side = config.patch, config.span, config.size // config.patch
    clip = clip.reshape(len(clip), config.num_frames // s, s, side, p, side, p, -1)
    return clip.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(len(clip), config.num_tokens, -1)


def join(tubelets: jax.Array, config: DitConfig) -> jax.Array:
    """Joins tubelets [B, N, span patch patch C] to clips [B, T, H, W, C], as `cut` has cut them."""
    p, s, side = config.patch, config.span, config.size // config.patch
    clip = tubelets.reshape(len(tubelets), config.num_frames // s, side, side, s, p, p, -1)
    clip = clip.transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return clip.reshape(len(clip), config.num_frames, config.size, config.size, -1)
