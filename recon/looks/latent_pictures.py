"""Pictures of what latents mean, in the bytes that are kept of them.

Axes: N latents; H, W sides.
"""

import functools

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from recon.looks.latent_cast import LatentCast
from recon.looks.latent_people import person_of_latent
from recon.looks.picture import PictureConfig, render_person
from recon.looks.studio import Studio


@struct.dataclass
class LatentPicture:
    """What is kept of a picture."""

    rgb: jax.Array  # [N, H, W, 3] uint8 sRGB
    alpha: jax.Array  # [N, H, W] uint8
    label: jax.Array  # [N, H, W] uint8 of `studio.LABELS`
    needed: jax.Array  # [] room that the pictures take
    overflow: jax.Array  # [] bool: there was too little, they are wrong


@functools.partial(jax.jit, static_argnames="config")
def draw_latents(
    studio: Studio, cast: LatentCast, z: jax.Array, config: PictureConfig
) -> LatentPicture:
    """Draws what latents [N, 64] mean."""

    def draw(z):
        picture = render_person(studio, *person_of_latent(z, cast, studio.casting), config)
        rgb, alpha = (
            jnp.round(255 * values).astype(jnp.uint8) for values in (picture.rgb, picture.alpha)
        )
        return rgb, alpha, picture.label, picture.needed, picture.overflow

    rgb, alpha, label, needed, overflow = lax.map(draw, z)
    return LatentPicture(rgb, alpha, label, jnp.max(needed), jnp.any(overflow))
