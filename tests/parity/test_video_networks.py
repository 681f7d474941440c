"""The networks of public video pipelines against diffusers, every parameter random."""

import json

import numpy as np
import pytest
import tiny_networks as tiny

pytest.importorskip("diffusers")
import manifests
import torch_twins

pytestmark = pytest.mark.parity

SIZES = {"odd": (2, 3, 5, 4), "even": (2, 5, 4, 6), "one frame": (1, 1, 4, 2)}


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert array.std() > 0.1  # what vanishes would prove nothing
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("size", SIZES)
def test_modelscope_predicts_the_noise_that_diffusers_does(size):
    inputs = tiny.modelscope_inputs(*SIZES[size])
    assert_equal(tiny.modelscope_output(*inputs), torch_twins.modelscope(*inputs))


@pytest.mark.parametrize("size", SIZES)
def test_svd_predicts_what_diffusers_does(size):
    inputs = tiny.svd_inputs(*SIZES[size])
    assert_equal(tiny.svd_output(*inputs), torch_twins.svd(*inputs))


def test_autoencoders_do_what_those_of_diffusers_do():
    inputs = tiny.vae_inputs()
    assert_equal(tiny.vae_output(*inputs), torch_twins.vae(*inputs))
    assert_equal(tiny.video_vae_output(*inputs), torch_twins.video_vae(*inputs))


@pytest.mark.parametrize("name", manifests.CONFIGS)
def test_manifests_are_what_full_size_networks_of_diffusers_hold(name):
    kept = json.loads((manifests.FOLDER / f"{name}.json").read_text())
    assert kept == manifests.manifest_of(manifests.CONFIGS[name])
