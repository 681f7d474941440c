"""The mapping of StyleGAN2: normal numbers to latents, and what is done with these.

Axes: N pictures, L layers with a latent of their own.

Source: Karras et al. 2019 (StyleGAN: truncation, style mixing), 2020 (StyleGAN2).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.stylegan.layers import FullyConnected


class Mapping(nn.Module):
    """Maps normal numbers z and labels c to latents w; a discriminator's has labels alone."""

    w_dim: int
    layers: int
    rate: float

    @nn.compact
    def __call__(self, z: jax.Array | None, c: jax.Array | None) -> jax.Array:
        """Returns latents [N, w_dim] of z [N, z_dim], or None, and c [N, c_dim], or None."""
        inputs = [] if z is None else [_normalised(z)]
        if c is not None:
            inputs.append(_normalised(FullyConnected(self.w_dim, name="embed")(c)))
        x = jnp.concatenate(inputs, -1)
        for layer in range(self.layers):
            x = FullyConnected(self.w_dim, self.rate, is_activated=True, name=f"fc{layer}")(x)
        return x


def truncate(
    ws: jax.Array, w_avg: jax.Array, psi: float | jax.Array, cutoff: int | None = None
) -> jax.Array:
    """Brings latents [N, L, w_dim] nearer to the average: by `psi`, of layers before `cutoff`."""
    near = w_avg + psi * (ws - w_avg)
    if cutoff is None:
        return near
    is_near = jnp.arange(ws.shape[1]) < cutoff
    return jnp.where(is_near[:, None], near, ws)


def mix_styles(ws: jax.Array, others: jax.Array, crossover: int | jax.Array) -> jax.Array:
    """Takes the layers from `crossover` on, one number or [N], of other latents [N, L, w_dim]."""
    is_kept = jnp.arange(ws.shape[1]) < jnp.asarray(crossover)[..., None]
    return jnp.where(is_kept[..., None], ws, others)


def _normalised(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-8)
