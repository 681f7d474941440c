"""Blends what pixels see through alpha-textured triangles, such as hair.

Axes: K layers, nearest first, C channels. `rasterize.rasterize_layers` finds the layers.

Source: Porter and Duff 1984 (the operator "over").
"""

import jax
import jax.numpy as jnp


def composite_layers(
    colors: jax.Array, alphas: jax.Array, is_card: jax.Array, background: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Lays the layers of each pixel over each other, and all over the background.

    Where the last layer is a card, the layers ran out before the pixel came to something opaque:
    that card closes, its alpha counts as one. Else what is behind hair would shine through it.

    Args:
      colors: [K, ..., C] not multiplied by alpha.
      alphas: [K, ...] one where the layer is opaque, zero where it sees nothing.
      is_card: [K, ...] bool, whether the layer sees a triangle that is not opaque.
      background: [C] or [..., C].

    Returns:
      Colours [..., C] and the share of each pixel that is covered [...].
    """
    # Layers that see something come first, so a last one means that none is missing.
    alphas = alphas.at[-1].set(jnp.where(is_card[-1], 1.0, alphas[-1]))
    behind = jnp.cumprod(1.0 - alphas, 0)
    through = jnp.concatenate([jnp.ones_like(behind[:1]), behind[:-1]])
    rgb = jnp.sum((through * alphas)[..., None] * colors, 0) + behind[-1][..., None] * background
    return rgb, 1.0 - behind[-1]
