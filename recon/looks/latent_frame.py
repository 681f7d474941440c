"""Where the points of a face lie in the pictures of latents: their frame, by the turn of the head.

Camera and distance of those pictures are fixed, so that the mean head, turned, says where eyes,
nose and mouth are on average.

Axes: V views.
"""

import jax
import jax.numpy as jnp
import numpy as np

from recon.looks.latent_people import LATENT_SIZE, MAX_PITCH, MAX_YAW, view_of_latent
from recon.looks.picture import PictureConfig, person_camera
from recon.morphable import MorphableModel, landmark_embedding
from render.camera import project

_YAWS, _PITCHES = 17, 7
_SIDE = 64  # pixels; places are given as shares of it


def frame_views() -> np.ndarray:
    """Returns yaw and pitch [V, 2] of a grid over all that latents can mean, radians."""
    yaw = np.linspace(-MAX_YAW, MAX_YAW, _YAWS)
    pitch = np.linspace(-MAX_PITCH, MAX_PITCH, _PITCHES)
    return np.stack(np.meshgrid(yaw, pitch, indexing="ij"), -1).reshape(-1, 2)


@jax.jit
def frame_points(model: MorphableModel, pose: jax.Array) -> jax.Array:
    """Returns the 68 points [V, 68, 2] of the mean head, in shares of a picture's side.

    Args:
      model: the default head.
      pose: [V, 2] yaw and pitch, radians.
    """
    corners, weights = landmark_embedding(model)
    points = jnp.einsum("lk,lkd->ld", weights, model.mean[corners])
    view = view_of_latent(jnp.zeros(LATENT_SIZE))

    def seen(pose: jax.Array) -> jax.Array:
        turned = view.replace(angles=jnp.append(pose, 0.0))
        return project(person_camera(turned, PictureConfig(_SIDE, _SIDE)), points)[0] / _SIDE

    return jax.vmap(seen)(pose)
