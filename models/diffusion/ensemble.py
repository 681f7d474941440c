"""The exact denoiser of a handful of clips: a prior without a network.

For clips V_i of weights w_i, smoothed by noise, E[V | x] is known in closed form:
D(x; sigma) = sum_i softmax_i(log w_i - |x - V_i|^2 / (2 sigma^2)) V_i. With it everything around a
network can be tested without one: samplers, score distillation, the search for a stiffness.
"""

import jax
import jax.numpy as jnp

from models.diffusion.denoiser import Denoiser


def ensemble_denoiser(clips: jax.Array, log_weights: jax.Array) -> Denoiser:
    """Returns the denoiser of clips [M, ...] with log weights [M], which need not be normalised."""
    clips = jnp.asarray(clips)
    flat = clips.reshape(len(clips), -1)
    squares = jnp.sum(flat**2, -1)

    def denoise(x: jax.Array, sigma: jax.Array) -> jax.Array:
        rows = x.reshape(len(x), -1)
        # |x|^2 is the same for all clips, and softmax does not see it.
        closeness = rows @ flat.T - 0.5 * squares
        share = jax.nn.softmax(log_weights + closeness / sigma[:, None] ** 2, -1)
        return (share @ flat).reshape(x.shape)

    return denoise


def band_weights(log10_modulus: jax.Array, band: jax.Array, width: float = 0.15) -> jax.Array:
    """Log weights [M] of clips of stiffnesses [M] that make up a band of log10 E."""
    return -0.5 * ((log10_modulus - band) / width) ** 2
