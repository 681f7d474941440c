"""The space W of a generator, as its samples fill it: mean, principal axes, what is likely.

GANSpace is this: principal axes of W, along which pictures change most. An inversion searches in
the same axes, each in its own deviations, so that its steps and its prior mean the same for every
generator.

Axes: N samples, L layers, w numbers of a latent.

Source: Harkonen et al. 2020 (GANSpace).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.stylegan.generator import Generator, map_latents

_CHUNK = 1000
_FLOOR = 0.05  # of the mean variance: axes that samples leave out can be gone along, at a price


class LatentStatistics(NamedTuple):
    """How samples fill W."""

    mean: jax.Array  # [w]
    axes: jax.Array  # [w, w] rows: orthonormal principal axes, the largest first
    deviations: jax.Array  # [w] along them


def sample_latents(key: jax.Array, generator: Generator, count: int = 10_000) -> np.ndarray:
    """Draws latents [N, w], not truncated; labels of a conditional generator at random."""
    params, buffers, config, _ = generator
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    found = []
    for _ in range(-(-count // _CHUNK)):
        z = rng.standard_normal((_CHUNK, config.z_dim), np.float32)
        c = None
        if config.c_dim:
            c = np.eye(config.c_dim, dtype=np.float32)[rng.integers(config.c_dim, size=_CHUNK)]
        found.append(np.asarray(map_latents(params, buffers, z, c, config)[:, 0]))
    return np.concatenate(found)[:count]


def latent_statistics(samples: np.ndarray) -> LatentStatistics:
    """Returns mean and principal axes of samples [N, w]; in float64 on the host."""
    samples = np.asarray(samples, np.float64)
    mean = samples.mean(0)
    values, vectors = np.linalg.eigh(np.cov((samples - mean).T, bias=True))
    axes = vectors.T[::-1]
    # A sign of its own, so that the same samples give the same axes everywhere.
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
    deviations = np.sqrt(np.maximum(values[::-1], 0.0))
    return jax.device_put(LatentStatistics(*map(np.float32, (mean, axes, deviations))))


def whitened(ws: jax.Array, statistics: LatentStatistics) -> jax.Array:
    """Returns latents [..., w] in deviations along the principal axes."""
    return (ws - statistics.mean) @ statistics.axes.T / _scales(statistics)


def unwhitened(values: jax.Array, statistics: LatentStatistics) -> jax.Array:
    """Undoes `whitened`."""
    return (values * _scales(statistics)) @ statistics.axes + statistics.mean


def _scales(statistics: LatentStatistics) -> jax.Array:
    variances = statistics.deviations**2
    return jnp.sqrt(variances + _FLOOR * jnp.mean(variances))
