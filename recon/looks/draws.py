"""Random numbers for whoever asks for many of them, one by one."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri


class Draws:
    """Numbers drawn all at once and dealt out: one draw compiles, a hundred take seconds to."""

    def __init__(self, key: jax.Array, count: int):
        self._values, self._used = jax.random.uniform(key, (count,)), 0
        ends = jnp.finfo(self._values.dtype).eps
        self._deviations = ndtri(jnp.clip(self._values, ends, 1 - ends))

    def _next(self, shape: Sequence[int]) -> slice:
        first, self._used = self._used, self._used + int(np.prod(shape))
        if self._used > self._values.shape[0]:
            raise ValueError(f"expected {self._values.shape[0]} draws, found more asked for")
        return slice(first, self._used)

    def uniform(self, low=0.0, high=1.0, shape: Sequence[int] = ()) -> jax.Array:
        return low + (high - low) * self._values[self._next(shape)].reshape(shape)

    def normal(self, sd=1.0, shape: Sequence[int] = ()) -> jax.Array:
        return sd * self._deviations[self._next(shape)].reshape(shape)

    def chance(self, probability) -> jax.Array:
        return self.uniform() < probability

    def choice(self, shares: jax.Array | Sequence[float], shape: Sequence[int] = ()) -> jax.Array:
        """Draws numbers of shares [N] that need not sum to one."""
        shares = jnp.asarray(shares, jnp.float32)
        up_to = np.tri(shares.shape[0], dtype=np.float32)
        ends = jnp.sum(up_to * shares, -1)  # a cumulative sum is slow to compile
        at = self.uniform(shape=shape)[..., None] * ends[-1]
        return jnp.minimum(jnp.sum(at >= ends, -1), ends.shape[0] - 1).astype(jnp.int32)
