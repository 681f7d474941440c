"""The UNets of public video pipelines against diffusers, every parameter random."""

import jax
import numpy as np
import pytest
import tiny_networks as tiny

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")
from torch_twins import filled  # noqa: E402

pytestmark = pytest.mark.parity

SIZES = {"odd": (2, 3, 5, 4), "even": (2, 5, 4, 6), "one frame": (1, 1, 4, 2)}


def run(network, params, *inputs):
    return jax.jit(lambda *inputs: network.apply({"params": params}, *inputs))(*inputs)


@pytest.mark.parametrize("size", SIZES)
def test_modelscope_predicts_the_noise_that_diffusers_does(size):
    ours, (x, t, text) = tiny.modelscope_unet(), tiny.modelscope_inputs(*SIZES[size])
    shapes = ours.param_shapes()
    theirs = filled(diffusers.UNet3DConditionModel.from_config(tiny.MODELSCOPE), shapes)
    with torch.no_grad():
        x_torch = torch.from_numpy(np.moveaxis(x, -1, 1))
        expected = theirs(x_torch, torch.from_numpy(t), torch.from_numpy(text)).sample
    expected = np.moveaxis(expected.numpy(), 1, -1)
    found = run(ours, tiny.params_of(shapes), x, t, text)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_svd_predicts_what_diffusers_does(size):
    ours, (x, c_noise, image, ids) = tiny.svd_unet(), tiny.svd_inputs(*SIZES[size])
    shapes = ours.param_shapes()
    theirs = filled(diffusers.UNetSpatioTemporalConditionModel.from_config(tiny.SVD), shapes)
    with torch.no_grad():
        x_torch = torch.from_numpy(np.moveaxis(x, -1, 2))
        rest = [torch.from_numpy(array) for array in (c_noise, image, ids)]
        expected = theirs(x_torch, *rest).sample
    expected = np.moveaxis(expected.numpy(), 2, -1)
    found = run(ours, tiny.params_of(shapes), x, c_noise, image, ids)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
