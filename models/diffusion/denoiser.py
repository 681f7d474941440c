"""One interface for all priors: the clean clip that a noisy one stands for.

A denoiser takes x = z + sigma eps, eps ~ N(0, I), and returns D(x; sigma) = E[z | x]. Samplers and
score distillation see nothing else of a network; (x - D) / sigma is its guess of eps, and
(D - x) / sigma^2 the score of the clips' density at that noise.

Axes: K noisy clips at once, each with a level of its own; whatever follows is a clip's shape.

Sources: Karras et al. 2022 (EDM, the interface and `from_v`); Ho et al. 2020 (eps prediction);
Salimans and Ho 2022 (v prediction).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from models.diffusion.schedule import sigmas_of, timestep_of

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]  # x [K, ...], sigma [K] -> D [K, ...]
Network = Callable[[jax.Array, jax.Array], jax.Array]  # scaled input [K, ...], time [K] -> [K, ...]


def from_eps(predict: Network, alphas_cumprod: jax.Array) -> Denoiser:
    """Makes a denoiser of a network that predicts the noise of a variance-preserving chain.

    The chain has z_t = sqrt(abar) z + sqrt(1 - abar) eps, which is x / sqrt(1 + sigma^2) for
    sigma^2 = (1 - abar) / abar. Between its steps time is interpolated in log sigma.

    Args:
      predict: eps of z_t [K, ...] and time t [K], a float in [0, steps - 1].
      alphas_cumprod: [steps] abar of each step.
    """
    sigmas = sigmas_of(alphas_cumprod)

    def denoise(x: jax.Array, sigma: jax.Array) -> jax.Array:
        s = along(sigma, x)
        return x - s * predict(x / jnp.sqrt(1.0 + s**2), timestep_of(sigma, sigmas))

    return denoise


def from_v(predict: Network) -> Denoiser:
    """Makes a denoiser of a network that predicts v in the EDM form, data of unit variance.

    D = x / (1 + sigma^2) - sigma / sqrt(1 + sigma^2) F(x / sqrt(1 + sigma^2), ln(sigma) / 4), as
    Stable Video Diffusion was trained (Karras et al. 2022, table 1, with sigma_data = 1).

    Args:
      predict: F of the scaled clip [K, ...] and c_noise [K].
    """

    def denoise(x: jax.Array, sigma: jax.Array) -> jax.Array:
        s = along(sigma, x)
        scale = jnp.sqrt(1.0 + s**2)
        return x / scale**2 - s / scale * predict(x / scale, 0.25 * jnp.log(sigma))

    return denoise


def guided(conditional: Denoiser, null: Denoiser, scale: float | jax.Array) -> Denoiser:
    """Classifier-free guidance: null + scale (conditional - null); a scale of one leaves it out.

    Args:
      conditional: told what is wanted.
      null: told nothing.
      scale: [] or one that broadcasts against a clip, for instance one a frame.
    """

    def denoise(x: jax.Array, sigma: jax.Array) -> jax.Array:
        plain = null(x, sigma)
        return plain + scale * (conditional(x, sigma) - plain)

    return denoise


def along(values: jax.Array, x: jax.Array) -> jax.Array:
    """Gives values [K] the rank of x [K, ...], to multiply it."""
    return values.reshape(-1, *[1] * (x.ndim - 1))
