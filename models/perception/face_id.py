"""Who somebody is, as a direction: an embedding of pictures of faces that can be differentiated.

Two pictures of one person have a cosine near one, two people's a lower one, whatever the pose, the
light, the face that is made and the hairdo. The small network here was taught random people of this
project; `arcface` has the large one that papers use.

Pictures are squares [N, S, S, 3] in [0, 1], sRGB-encoded, framed as the pictures of random people
are: the whole head, its middle in that of the picture.

Axes: N pictures, S their side, C channels, D numbers of an embedding.

Sources: Wang et al. 2018 (CosFace; `face_id_training`); He et al. 2016 (residual units).
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

_EPS = 1e-12


@dataclasses.dataclass(frozen=True)
class FaceIdConfig:
    """The shape of a `FaceIdNet`; hashable, so static under jit."""

    side: int = 64  # of the pictures that the network sees, pixels
    stem: int = 24  # channels at half of that side
    widths: tuple[int, ...] = (48, 96, 160)  # channels of each stage, which halves the side
    units: tuple[int, ...] = (1, 2, 1)  # residual units of each stage
    size: int = 128  # D


class FaceId(NamedTuple):
    """An embedding that can be used."""

    params: Any
    config: FaceIdConfig


class FaceIdNet(nn.Module):
    """Residual stages, and places of the face weighted channel by channel."""

    config: FaceIdConfig

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns unit embeddings [N, D] of pictures [N, side, side, 3] in [0, 1]."""
        config = self.config
        h = nn.Conv(config.stem, (3, 3), name="stem")(_folded(2.0 * images - 1.0))
        for stage, (width, units) in enumerate(zip(config.widths, config.units, strict=True)):
            # Folding and a matrix halve the side; a stride's gradient is slow on CPUs.
            h = nn.Dense(width, name=f"down{stage}")(self._activated(_folded(h), f"norm{stage}"))
            for unit in range(units):
                name = f"{stage}_{unit}"
                branch = self._activated(h, f"unit_norm{name}")
                h = h + nn.Conv(width, (3, 3), name=f"unit{name}")(branch)
        h = self._activated(h, "norm")
        initial = nn.initializers.constant(1.0 / np.prod(h.shape[1:3]))
        places = self.param("places", initial, h.shape[1:])
        h = jnp.einsum("nhwc,hwc->nc", h, places)
        return unit_length(nn.Dense(config.size, name="embedding")(h))

    def _activated(self, h: jax.Array, name: str) -> jax.Array:
        return nn.relu(nn.LayerNorm(epsilon=1e-5, name=name)(h))


@functools.partial(jax.jit, static_argnames="config")
def embed_faces(params: Any, images: jax.Array, config: FaceIdConfig) -> jax.Array:
    """Returns unit embeddings [N, D] of pictures; the product of two is their cosine.

    Args:
      params: of a `FaceId`.
      images: [N, S, S, 3] in [0, 1], of any side; averaged over areas to the network's.
      config: static.

    Raises:
      ValueError: the pictures have another shape.
    """
    return FaceIdNet(config).apply({"params": params}, fit_side(images, config.side))


def fit_side(images: jax.Array, side: int) -> jax.Array:
    """Averages square pictures [N, S, S, 3] over the areas of pixels of another side.

    Raises:
      ValueError: they are not square, or no batch of pictures.
    """
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3:
        raise ValueError(f"expected square pictures [N, S, S, 3], found {images.shape}")
    if images.shape[1] == side:
        return images
    edges = np.linspace(0, images.shape[1], side + 1)
    old = np.arange(images.shape[1])
    overlap = np.minimum(edges[1:, None], old + 1.0) - np.maximum(edges[:-1, None], old)
    shares = np.maximum(overlap, 0.0) * (side / images.shape[1])
    return resampled(images, shares)


def resampled(images: jax.Array, matrix: np.ndarray) -> jax.Array:
    """Takes both sides of pictures [N, S, S, C] through a matrix [T, S]."""
    matrix = jnp.asarray(matrix, images.dtype)
    return jnp.einsum("ti,nijc,uj->ntuc", matrix, images, matrix)


def unit_length(h: jax.Array) -> jax.Array:
    """Scales [..., D] to length one, with a finite gradient at zero."""
    return h * lax.rsqrt(jnp.sum(h * h, -1, keepdims=True) + _EPS)


def _folded(h: jax.Array) -> jax.Array:
    """Lays blocks of 2 x 2 pixels of [N, H, W, C] into channels [N, H / 2, W / 2, 4 C]."""
    count, height, width, channels = h.shape
    h = h.reshape(count, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return h.reshape(count, height // 2, width // 2, 4 * channels)
