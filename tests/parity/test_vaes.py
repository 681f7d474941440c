"""The autoencoders of public video pipelines against diffusers, every parameter random."""

import jax
import numpy as np
import pytest
import tiny_networks as tiny

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")
from torch_twins import filled  # noqa: E402

pytestmark = pytest.mark.parity

PAIRS = {
    "of pictures": (tiny.vae, tiny.VAE, "AutoencoderKL"),
    "of videos": (tiny.video_vae, tiny.VIDEO_VAE, "AutoencoderKLTemporalDecoder"),
}


def to_torch(x):
    """[B, T, H, W, C] to [BT, C, H, W]."""
    return torch.from_numpy(np.moveaxis(x.reshape(-1, *x.shape[2:]), -1, 1).copy())


def from_torch(x, like):
    return np.moveaxis(x.numpy(), 1, -1).reshape(*like.shape[:2], *like.shape[2:-1], -1)


@pytest.mark.parametrize("pair", PAIRS)
def test_autoencoders_do_what_those_of_diffusers_do(pair):
    make, settings, name = PAIRS[pair]
    ours, (pictures, z) = make(), tiny.vae_inputs()
    params = {"params": tiny.params_of(ours.param_shapes())}
    theirs = filled(getattr(diffusers, name).from_config(settings), ours.param_shapes())
    with torch.no_grad():
        posterior = theirs.encode(to_torch(pictures)).latent_dist
        told = {"num_frames": z.shape[1]} if pair == "of videos" else {}
        decoded = theirs.decode(to_torch(z), **told).sample
    mean, log_variance = jax.jit(lambda x: ours.apply(params, x, method="encode"))(pictures)
    np.testing.assert_allclose(mean, from_torch(posterior.mean, z), rtol=0, atol=1e-5)
    np.testing.assert_allclose(log_variance, from_torch(posterior.logvar, z), rtol=0, atol=1e-5)
    found = jax.jit(lambda z: ours.apply(params, z, method="decode"))(z)
    np.testing.assert_allclose(found, from_torch(decoded, pictures), rtol=0, atol=1e-5)
    print(
        np.abs(mean - from_torch(posterior.mean, z)).max(),
        np.abs(found - from_torch(decoded, pictures)).max(),
    )
