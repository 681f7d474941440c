"""A generator as a whole: latents to pictures.

Axes: N pictures, L layers with a latent of their own (`config.num_ws`), H and W pixels, C channels.
Pictures are [N, H, W, 3] in about [-1, 1], not clipped, sRGB-encoded.

`params` and `buffers` as `config.py` says. The noise of a picture is an argument: that of the
buffers (`buffers["noise"]`, the same for every picture), `random_noise`, or None for no noise.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.stylegan.config import GeneratorConfig
from models.stylegan.layers import init_params
from models.stylegan.mapping import Mapping, truncate
from models.stylegan.synthesis import BlockOutput, Noise, Synthesis

Params = dict[str, Any]


class Generator(NamedTuple):
    """A generator that can be used."""

    params: Params  # {"mapping", "synthesis"}
    buffers: Params  # {"w_avg": [w_dim], "noise": Noise}
    config: GeneratorConfig
    facts: dict[str, Any]  # JSON: how it came to be


def init_generator(key: jax.Array, config: GeneratorConfig) -> Generator:
    """Returns a generator before training; its average latent is zero."""
    z, ws = jnp.zeros((1, config.z_dim)), jnp.zeros((1, config.num_ws, config.w_dim))
    c = jnp.zeros((1, config.c_dim)) if config.c_dim else None

    def init(key: jax.Array) -> Params:
        mapping = _mapping(config).init(key, z, c)
        synthesis = Synthesis(config).init(key, ws)
        return {"params": {"mapping": mapping["params"], "synthesis": synthesis["params"]}}

    rng = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.fold_in(key, 1))))
    noise = {
        block: {name: rng.standard_normal(shape, np.float32) for name, shape in layers.items()}
        for block, layers in _noise_shapes(config).items()
    }
    buffers = {"w_avg": np.zeros(config.w_dim, np.float32), "noise": noise}
    params = init_params(key, init, config.mapping_rate)
    return Generator(params, jax.device_put(buffers), config, {})


@functools.partial(jax.jit, static_argnames=("config", "cutoff"))
def map_latents(
    params: Params,
    buffers: Params,
    z: jax.Array,
    c: jax.Array | None,
    config: GeneratorConfig,
    psi: float | jax.Array = 1.0,
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
    if (c is None) != (config.c_dim == 0):
        raise ValueError(f"expected labels of {config.c_dim} numbers, found {_shape_of(c)}")
    w = _mapping(config).apply({"params": params["mapping"]}, z, c)
    ws = jnp.broadcast_to(w[:, None], (len(w), config.num_ws, config.w_dim))
    return truncate(ws, buffers["w_avg"], psi, cutoff)


@functools.partial(jax.jit, static_argnames=("config", "count"))
def random_noise(key: jax.Array, config: GeneratorConfig, count: int) -> Noise:
    """Returns normal noise of its own for each of `count` pictures."""
    shapes = _noise_shapes(config)
    sizes = [count * shape[0] * shape[1] for layers in shapes.values() for shape in layers.values()]
    # One draw, cut: each draw of its own would be compiled for itself.
    parts = iter(jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1]))
    return {
        block: {name: next(parts).reshape(count, *shape) for name, shape in layers.items()}
        for block, layers in shapes.items()
    }


@functools.partial(jax.jit, static_argnames=("config", "upto", "dtype"))
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
    outputs = synthesize_blocks(params, ws, noise, config, upto, dtype)
    return outputs[max(outputs)].image


@functools.partial(jax.jit, static_argnames=("config", "upto", "dtype"))
def synthesize_blocks(
    params: Params,
    ws: jax.Array,
    noise: Noise | None,
    config: GeneratorConfig,
    upto: int | None = None,
    dtype: str = "float32",
) -> dict[int, BlockOutput]:
    """Returns what every block gives, by its resolution; arguments as of `synthesize`."""
    _check_resolution(upto, config)
    return Synthesis(config, dtype).apply({"params": params["synthesis"]}, ws, noise, None, upto)


@functools.partial(jax.jit, static_argnames=("config", "upto", "dtype"))
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
    _check_resolution(upto, config)
    variables = {"params": params["synthesis"]}
    outputs = Synthesis(config, dtype).apply(variables, ws, noise, start, upto)
    return outputs[max(outputs)].image if outputs else start.image


def _mapping(config: GeneratorConfig) -> Mapping:
    return Mapping(config.w_dim, config.mapping_layers, config.mapping_rate)


def _noise_shapes(config: GeneratorConfig) -> dict[str, dict[str, tuple[int, int]]]:
    """Shapes of the noise of every convolution, in the order of the layers."""
    return {
        f"b{side}": {
            name: (side, side) for name in ("conv0", "conv1") if (side, name) != (4, "conv0")
        }
        for side in config.resolutions
    }


def _check_resolution(upto: int | None, config: GeneratorConfig) -> None:
    if upto is not None and upto not in config.resolutions:
        raise ValueError(f"expected a resolution of {config.resolutions}, found {upto}")


def _shape_of(c: jax.Array | None) -> str:
    return "none" if c is None else str(c.shape)
