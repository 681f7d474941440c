"""What a video network says of a clip, at the clip's pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pipeline_folders
import pytest

from models.diffusion import pipelines
from models.diffusion.denoiser import guided
from models.diffusion.guidance import draw_bank, sds_residual
from models.diffusion.video_answers import Asking, picture_residual, size_unit, text_residual

SIDE = 8  # pixels; two, in the latents of the small networks
CLIP = jnp.tanh(jax.random.normal(jax.random.key(5), (2, SIDE, SIDE, 3)))
KEY = jax.random.key(0)
ASKING = Asking(num_pairs=1, sigma_range=(1.0, 4.0), scale=3.0)


def gradient_of_the_usual_loss(prior, denoise, asking):
    """d/dV of half the squared distance to the target z - residual, which is held (SDS)."""
    encode_key, noise_key = jax.random.split(KEY)

    def encode(clip):
        return prior.encode(encode_key, 0.5 + 0.5 * clip, 1)

    z = encode(CLIP)
    bank = draw_bank(noise_key, asking.num_pairs, z.shape, asking.sigma_range)
    target = z - sds_residual(denoise, z, bank, asking.weight)
    return jax.grad(lambda clip: 0.5 * jnp.sum((encode(clip) - target) ** 2))(CLIP)


@pytest.mark.slow
def test_a_texts_residual_is_the_gradient_of_the_usual_loss(tmp_path):
    prior = pipelines.load_modelscope(pipeline_folders.write_modelscope(tmp_path))
    told, untold = prior.context("a soft ball"), prior.context("")
    found = text_residual(KEY, prior, told, untold, CLIP, ASKING)
    denoise = guided(prior.denoiser(told), prior.denoiser(untold), ASKING.scale)
    expected = jax.jit(lambda: gradient_of_the_usual_loss(prior, denoise, ASKING))()
    np.testing.assert_allclose(found, expected, atol=1e-4 * float(jnp.abs(expected).max()))
    assert size_unit(prior) == 4


@pytest.mark.slow
def test_a_pictures_residual_guides_later_frames_more(tmp_path):
    prior = pipelines.load_svd(pipeline_folders.write_svd(tmp_path))
    told = prior.condition(KEY, jnp.full((SIDE, SIDE, 3), 0.4))
    found = picture_residual(KEY, prior, told, CLIP, ASKING)
    scale = jnp.array([1.0, ASKING.scale])[:, None, None, None]
    denoise = guided(prior.denoiser(told), prior.denoiser(told.null()), scale)
    expected = jax.jit(lambda: gradient_of_the_usual_loss(prior, denoise, ASKING))()
    np.testing.assert_allclose(found, expected, atol=1e-4 * float(jnp.abs(expected).max()))
