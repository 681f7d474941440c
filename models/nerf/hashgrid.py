"""The multiresolution hash encoding of a position, in tiny-cuda-nn's conventions.

Each level lays a grid of its own resolution over the unit cube; a position is the trilinear blend
of the features of its cell's eight corners. A level whose corners all find room in the table is
stored in order, finer ones share entries by a hash.

Axes: L levels, T entries of a level, F features, N positions, C = 8 corners.

Conventions of tiny-cuda-nn, so that tables can be exchanged: the scale of level l is
coarsest b^l - 1, a position lies at x scale + 0.5, x varies fastest in levels that are stored in
order, and the primes are those below. (nerfstudio adds no half and hashes every level.) In its
files a level that is stored in order takes as many rows as it has corners; here all levels have T,
of which such a level uses the first.

The levels are scanned and the corners blended by one product: on a CPU, unrolled levels and sums of
products take four times as long, forwards and backwards.

Source: Mueller et al. 2022.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

_PRIMES = np.array([1, 2654435761, 805459861], np.uint32)
_START = 1e-4  # largest feature at first


@dataclasses.dataclass(frozen=True)
class HashGridConfig:
    """The shape of an encoding; hashable, so static under jit."""

    levels: int = 16  # L
    features: int = 2  # F
    log2_entries: int = 19  # of T
    coarsest: int = 16  # corners along a side
    finest: int = 2048

    @property
    def width(self) -> int:
        """Numbers that encode a position."""
        return self.levels * self.features


def init_table(key: jax.Array, config: HashGridConfig) -> jax.Array:
    """Returns the features [L, T, F] before training, all of them small."""
    shape = (config.levels, 2**config.log2_entries, config.features)
    return jax.random.uniform(key, shape, minval=-_START, maxval=_START)


def level_scales(config: HashGridConfig) -> tuple[np.ndarray, np.ndarray]:
    """Returns scales [L] and corners along a side [L] of the levels."""
    growth = (config.finest / config.coarsest) ** (1.0 / max(config.levels - 1, 1))
    scales = config.coarsest * growth ** np.arange(config.levels) - 1.0
    # The last power may fall short of `finest` by rounding.
    return scales, np.ceil(np.round(scales, 6)).astype(int) + 1


def encode(table: jax.Array, x: jax.Array, config: HashGridConfig) -> jax.Array:
    """Encodes positions.

    Args:
      table: [L, T, F] features.
      x: [N, 3] in the unit cube; what lies outside is taken to its border.
      config: static.

    Returns:
      [N, L F], the features of the coarsest level first.
    """
    scales, sides = level_scales(config)
    is_stored = sides.astype(np.int64) ** 3 <= 2**config.log2_entries
    x = jnp.clip(x, 0.0, 1.0)

    def level(_, part):
        features, scale, side, is_stored = part
        place = x * scale + 0.5
        cell = jnp.floor(place)
        offset = place - cell
        in_order = jnp.stack([jnp.ones_like(side), side, side * side])
        factor = jnp.where(is_stored, in_order, _PRIMES)
        low = cell.astype(jnp.uint32) * factor
        ends = jnp.stack([low, low + factor])  # [2, N, 3], of the cell along each axis
        shares = jnp.stack([1.0 - offset, offset])
        entries, weights = [], []
        for corner in itertools.product((0, 1), repeat=3):
            a, b, c = (ends[end, :, axis] for axis, end in enumerate(corner))
            entries.append(jnp.where(is_stored, a + b + c, a ^ b ^ c))
            a, b, c = (shares[end, :, axis] for axis, end in enumerate(corner))
            weights.append(a * b * c)
        entry = (jnp.stack(entries, -1) & mask).astype(jnp.int32)  # [N, C]
        found = features.at[entry].get(mode="promise_in_bounds")
        return None, jnp.einsum("ncf,nc->nf", found, jnp.stack(weights, -1))

    mask = np.uint32(2**config.log2_entries - 1)
    parts = (table, scales.astype(x.dtype), sides.astype(np.uint32), is_stored)
    _, blended = jax.lax.scan(level, None, parts)  # [L, N, F]
    return jnp.swapaxes(blended, 0, 1).reshape(len(x), config.width)
