"""A smooth scalar field over a box: three planes of features, and a small network behind them.

A point's features are those of its projections onto the planes xy, xz and yz, bilinear between
nodes, multiplied; two layers turn them into a number. Zero everywhere at the start.

Axes: P points, S nodes per side, C features, H hidden units.

Sources: Chan et al. 2022 (triplanes); Fridovich-Keil et al. 2023 (K-planes: the product, total
variation).
"""

import jax
import jax.numpy as jnp
from flax import struct

_PLANES = ((0, 1), (0, 2), (1, 2))


@struct.dataclass
class Field:
    """Parameters of a field."""

    planes: jax.Array  # [3, S, S, C]
    hidden: jax.Array  # [C, H]
    bias: jax.Array  # [H]
    out: jax.Array  # [H]


def init_field(key: jax.Array, size: int = 12, features: int = 8, width: int = 16) -> Field:
    """Returns a field that is zero.

    Args:
      key: of the features and the first layer.
      size: S.
      features: C.
      width: H.
    """
    plane_key, hidden_key = jax.random.split(key)
    planes = 1.0 + 0.1 * jax.random.normal(plane_key, (3, size, size, features))
    hidden = jax.random.normal(hidden_key, (features, width)) / jnp.sqrt(features)
    return Field(planes, hidden, jnp.zeros(width), jnp.zeros(width))


def field_at(field: Field, places: jax.Array) -> jax.Array:
    """Returns the field [P] at places [P, 3] in [0, 1]; outside, as at the next point inside."""
    features = 1.0
    for plane, axes in zip(field.planes, _PLANES, strict=True):
        features = features * _bilinear(plane, places[:, axes])
    return jax.nn.softplus(features @ field.hidden + field.bias) @ field.out


def _bilinear(plane: jax.Array, places: jax.Array) -> jax.Array:
    """Features [P, C] of a plane [S, S, C] at places [P, 2]."""
    last = plane.shape[0] - 1
    scaled = jnp.clip(places, 0.0, 1.0) * last
    node = jnp.clip(jnp.floor(scaled), 0, last - 1).astype(jnp.int32)
    (i, j), (a, b) = node.T, (scaled - node).T[..., None]
    low = (1.0 - b) * plane[i, j] + b * plane[i, j + 1]
    high = (1.0 - b) * plane[i + 1, j] + b * plane[i + 1, j + 1]
    return (1.0 - a) * low + a * high


def total_variation(field: Field) -> jax.Array:
    """Returns the mean square of the differences between neighbouring nodes: how rough it is."""
    steps = jnp.diff(field.planes, axis=1), jnp.diff(field.planes, axis=2)
    return sum(jnp.mean(step**2) for step in steps)
