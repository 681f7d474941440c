"""Draws clips from a prior, to look at what it believes.

Source: Karras et al. 2022, algorithm 1 (Heun's method on the probability-flow ODE).
"""

import jax
import jax.numpy as jnp
from jax import lax

from models.diffusion.denoiser import Denoiser


def sample(
    key: jax.Array, denoise: Denoiser, shape: tuple[int, ...], sigmas: jax.Array
) -> jax.Array:
    """Draws clips [K, ...] by Heun's method.

    Args:
      key: of the first noise; the rest follows from it.
      denoise: the prior.
      shape: [K, ...] of the clips.
      sigmas: falling levels; the last is zero (`schedule.karras_sigmas`).
    """
    count = shape[0]

    def slope(x: jax.Array, sigma: jax.Array) -> jax.Array:
        return (x - denoise(x, jnp.full(count, sigma))) / sigma

    def step(x: jax.Array, levels: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        now, then = levels
        first = slope(x, now)
        reached = x + (then - now) * first
        second = slope(reached, then)
        return x + (then - now) * 0.5 * (first + second), None

    x = sigmas[0] * jax.random.normal(key, shape)
    x, _ = lax.scan(step, x, (sigmas[:-2], sigmas[1:-1]))
    # To zero in one step of Euler's: there is no slope to average with.
    return denoise(x, jnp.full(count, sigmas[-2]))
