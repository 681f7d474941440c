"""Levels of noise: those of public checkpoints, and those that we draw.

sigma is the standard deviation of the noise that is added to a clean clip, in the clip's own unit.

Sources: Rombach et al. 2022 (the "scaled linear" betas); Karras et al. 2022, eq. 5 (the grid).
"""

import jax
import jax.numpy as jnp


def scaled_linear(first: float = 0.00085, last: float = 0.012, steps: int = 1000) -> jax.Array:
    """Returns abar [steps] of betas whose square roots grow evenly, as ModelScope's do."""
    betas = jnp.linspace(first**0.5, last**0.5, steps) ** 2
    return jnp.exp(jnp.cumsum(jnp.log1p(-betas)))


def sigmas_of(alphas_cumprod: jax.Array) -> jax.Array:
    """Returns sigma [steps] of each step of a variance-preserving chain."""
    return jnp.sqrt((1.0 - alphas_cumprod) / alphas_cumprod)


def timestep_of(sigma: jax.Array, sigmas: jax.Array) -> jax.Array:
    """Returns the step of a chain, a float, at which the noise is `sigma`; held at its ends.

    Args:
      sigma: of any shape.
      sigmas: [steps] growing.
    """
    steps = jnp.arange(len(sigmas), dtype=sigmas.dtype)
    return jnp.interp(jnp.log(sigma), jnp.log(sigmas), steps)


def karras_sigmas(count: int, lowest: float, highest: float, rho: float = 7.0) -> jax.Array:
    """Returns falling levels [count + 1] for a sampler, from `highest` to `lowest`, then zero."""
    share = jnp.linspace(0.0, 1.0, count)
    a, b = highest ** (1 / rho), lowest ** (1 / rho)
    return jnp.append((a + share * (b - a)) ** rho, 0.0)


def stratified_sigmas(key: jax.Array, count: int, lowest: float, highest: float) -> jax.Array:
    """Draws levels [count], one from each of as many equal parts of the range of log sigma."""
    share = (jnp.arange(count) + jax.random.uniform(key, count)) / count
    return lowest * (highest / lowest) ** share
