"""Parameters averaged over the last steps of a training: what it keeps in the end."""

from typing import TypeVar

import jax
import jax.numpy as jnp

Params = TypeVar("Params")


def moved_average(
    averaged: Params, params: Params, step: jax.Array, decay: float | jax.Array
) -> Params:
    """Returns the exponential moving average after a step.

    Args:
      averaged: before it.
      params: after it.
      step: [] its number, from zero.
      decay: share of the old average, a step; less in the first ones, since a young average would
        remember the start.
    """
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: a + (1.0 - decay) * (p - a), averaged, params)
