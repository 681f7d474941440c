"""A generator as a whole: latents to pictures.

Axes: N pictures, L layers with a latent of their own (`config.num_ws`), H and W pixels, C channels.
Pictures are [N, H, W, 3] in about [-1, 1], not clipped, sRGB-encoded.

`params` and `buffers` as `config.py` says. The noise of a picture is an argument: that of the
buffers (`buffers["noise"]`, the same for every picture), `random_noise`, or None for no noise.
"""

from typing import Any, NamedTuple

import jax

from models.stylegan.config import GeneratorConfig

Params = dict[str, Any]
Noise = dict[str, dict[str, jax.Array]]  # noise["b8"]["conv0"] [8, 8], or [N, 8, 8]


class Generator(NamedTuple):
    """A generator that can be used."""

    params: Params  # {"mapping", "synthesis"}
    buffers: Params  # {"w_avg": [w_dim], "noise": Noise}
    config: GeneratorConfig
    facts: dict[str, Any]  # JSON: how it came to be


class BlockOutput(NamedTuple):
    """What a block hands on to the next one."""

    x: jax.Array  # [N, r, r, C] features, before they are painted
    image: jax.Array  # [N, r, r, 3] the picture so far, this block's share included


def init_generator(key: jax.Array, config: GeneratorConfig) -> Generator:
    """Returns a generator before training; its average latent is zero."""
    raise NotImplementedError


def map_latents(
    params: Params,
    buffers: Params,
    z: jax.Array,
    c: jax.Array | None,
    config: GeneratorConfig,
    psi: float = 1.0,
    cutoff: int | None = None,
) -> jax.Array:
    """Returns the latents of all layers.

    Args:
      params: of the generator.
      buffers: of the generator.
      z: [N, z_dim] normal.
      c: [N, c_dim] labels; None without labels.
      config: static.
      psi: how far latents stay from the average one, 1 as far as they are (truncation).
      cutoff: static; layers from this one on are not truncated. None truncates all.

    Returns:
      [N, L, w_dim].
    """
    raise NotImplementedError


def random_noise(key: jax.Array, config: GeneratorConfig, count: int) -> Noise:
    """Returns normal noise for `count` pictures."""
    raise NotImplementedError


def synthesize(
    params: Params,
    ws: jax.Array,
    noise: Noise | None,
    config: GeneratorConfig,
    upto: int | None = None,
    dtype: str = "float32",
) -> jax.Array:
    """Returns pictures [N, H, W, 3] of latents [N, L, w_dim].

    Args:
      params: of the generator.
      ws: [N, L, w_dim]; layers may have latents of different origin (W+).
      noise: of the buffers, random, or None.
      config: static.
      upto: static, side of the pictures; a lower one leaves blocks out. None for `resolution`.
      dtype: static, of features, "float32" or "bfloat16"; pictures are float32.
    """
    raise NotImplementedError


def synthesize_blocks(
    params: Params,
    ws: jax.Array,
    noise: Noise | None,
    config: GeneratorConfig,
    upto: int | None = None,
    dtype: str = "float32",
) -> dict[int, BlockOutput]:
    """Returns what every block gives, by its resolution; arguments as of `synthesize`."""
    raise NotImplementedError


def synthesize_from(
    params: Params,
    ws: jax.Array,
    noise: Noise | None,
    start: BlockOutput,
    config: GeneratorConfig,
    upto: int | None = None,
    dtype: str = "float32",
) -> jax.Array:
    """Returns pictures whose block of the features' resolution gave `start`."""
    raise NotImplementedError
