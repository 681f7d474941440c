"""Features of pictures from fixed random convolutions: what sets of pictures are compared by.

They need no trained network, and are those of nobody else: distances compare trainings here, at
one resolution, and mean nothing beside numbers of Inception features.

Axes: N pictures, r their side, F features.

Source: Heusel et al. 2017 (Frechet distance of Gaussians over features).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

_SEED = 0
_WIDTH, _LAYERS = 24, 3
_CELLS = 2  # a side, over which means are taken
_DIMENSIONS = 48  # principal ones of the reference that are compared


@jax.jit
def random_features(images: jax.Array) -> jax.Array:
    """Returns means over quarters, and deviations, of channels at three scales [N, F].

    Args:
      images: [N, r, r, 3] in [-1, 1]; r is a power of two.
    """
    found, x = [], images
    for kernel in _kernels():
        x = jax.lax.conv_general_dilated(
            x, jnp.asarray(kernel), (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = 2.0 * jax.nn.relu(x)
        count, side, _, channels = x.shape
        parts = min(_CELLS, side)
        cells = x.reshape(count, parts, side // parts, parts, side // parts, channels)
        found += [jnp.mean(cells, (2, 4)).reshape(count, -1), jnp.std(x, (1, 2))]
    return jnp.concatenate(found, -1)


def frechet_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """Returns the squared Frechet distance of Gaussians over the reference's principal features.

    Two halves of one set are not at zero: the fewer pictures, the farther apart they are.

    Args:
      features: [N, F] of `random_features`.
      reference: [M, F] of the pictures that are to be met; gives scale and directions.
    """
    reference = np.asarray(reference, np.float64)
    middle, scale = reference.mean(0), reference.std(0) + 1e-6
    _, _, directions = np.linalg.svd((reference - middle) / scale, full_matrices=False)
    a, b = (
        ((values - middle) / scale) @ directions[:_DIMENSIONS].T
        for values in (np.asarray(features, np.float64), reference)
    )
    spread_a, spread_b = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(spread_a)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    both = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ spread_b @ root), 0.0)).sum()
    means = np.sum((a.mean(0) - b.mean(0)) ** 2)
    return float(means + np.trace(spread_a) + np.trace(spread_b) - 2.0 * both)


@functools.cache
def _kernels() -> list[np.ndarray]:
    rng, channels, kernels = np.random.default_rng(_SEED), 3, []
    for _ in range(_LAYERS):
        kernel = rng.normal(size=(3, 3, channels, _WIDTH)) / math.sqrt(9 * channels)
        kernels.append(np.float32(kernel - 0.5 * kernel.mean((0, 1))))  # more of edges
        channels = _WIDTH
    return kernels
