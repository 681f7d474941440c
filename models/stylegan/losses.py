"""What generator and discriminator are taught by: the non-saturating losses, R1, path length.

Both penalties need a derivative of a derivative, and change slowly: they are added every few steps
only, that much stronger ("lazy": R1 every 16 steps, path length every 4). They are added to the
loss of a step, not given a step of their own as in the official code, so that Adam's rate and
betas need no correction.

Axes: N pictures, L layers with a latent of their own.

Sources: Goodfellow et al. 2014 (losses); Mescheder et al. 2018 (R1); Karras et al. 2020 (StyleGAN2:
path length, lazy regularisation).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from render.transforms import safe_norm


class PathLength(NamedTuple):
    """How far pictures move with latents, and the penalty on its unevenness."""

    penalty: jax.Array  # []
    mean_length: jax.Array  # [] of the last steps, this one included
    lengths: jax.Array  # [N] of this step


def generator_loss(fake_logits: jax.Array) -> jax.Array:
    """Returns the mean of -log p(real) of made-up pictures' logits [N]."""
    return jnp.mean(jax.nn.softplus(-fake_logits))


def discriminator_loss(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Returns the mean of -log p(real) of real pictures, plus of -log p(fake) of made-up ones."""
    return jnp.mean(jax.nn.softplus(-real_logits)) + jnp.mean(jax.nn.softplus(fake_logits))


def r1_penalty(logits_of: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    """Returns the mean squared length of the logits' gradients to real pictures.

    The official loss adds gamma / 2 of it; gamma grows with the pictures' area, and falls with
    their number in a batch: about 0.0002 H W / N.

    Args:
      logits_of: images [N, H, W, 3] to logits [N], augmentation included.
      images: [N, H, W, 3] real ones.
    """
    gradient = jax.grad(lambda images: jnp.sum(logits_of(images)))(images)
    return jnp.mean(jnp.sum(gradient**2, (1, 2, 3)))


def path_length(
    key: jax.Array,
    images_of: Callable[[jax.Array], jax.Array],
    ws: jax.Array,
    mean_length: jax.Array,
    decay: float = 0.01,
) -> PathLength:
    """Penalises that a step in W moves some pictures farther than others.

    The length is that of the gradient of the pictures times noise y / sqrt(H W): |J^T y|, whose
    mean over y says how far J moves a picture. The official loss adds 2 of the penalty.

    Args:
      key: of the noise.
      images_of: latents [N, L, w_dim] to pictures [N, H, W, 3].
      ws: [N, L, w_dim].
      mean_length: [] of the steps before; zero at the start.
      decay: share of this step in the new mean.
    """
    shape = jax.eval_shape(images_of, ws).shape
    noise = jax.random.normal(key, shape, ws.dtype) / jnp.sqrt(1.0 * shape[1] * shape[2])
    gradient = jax.grad(lambda ws: jnp.sum(images_of(ws) * noise))(ws)
    # Over the layers the mean of squares, not their sum.
    lengths = safe_norm(gradient.reshape(len(ws), -1)) / jnp.sqrt(1.0 * ws.shape[1])
    mean_length = mean_length + decay * (jnp.mean(lengths) - mean_length)
    penalty = jnp.mean((lengths - mean_length) ** 2)
    return PathLength(penalty, jax.lax.stop_gradient(mean_length), lengths)
