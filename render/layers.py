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
    # Layers that see something come first, so where the last one does, none is missing.
    alphas = [*alphas[:-1], jnp.where(is_card[-1], 1.0, alphas[-1])]
    shown, through = jnp.zeros_like(colors[0]), jnp.ones_like(alphas[0])
    for color, alpha in zip(colors, alphas, strict=True):
        shown += (through * alpha)[..., None] * color
        through *= 1.0 - alpha
    return shown + through[..., None] * background, 1.0 - through
