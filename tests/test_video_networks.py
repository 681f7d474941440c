"""Networks of public video pipelines, without torch: what it computed of small ones, and the names
of all that full-size ones hold.
"""

import json
import pathlib

import numpy as np
import pytest
import tiny_networks as tiny
from flax import traverse_util

from models.diffusion.configs import ModelScopeConfig, SvdConfig, VaeConfig, VideoVaeConfig
from models.diffusion.unet_modelscope import ModelScopeUnet
from models.diffusion.unet_svd import SvdUnet
from models.diffusion.vae import Vae, VideoVae
from models.torch_names import torch_places

GOLDEN = pathlib.Path(__file__).parent / "golden" / "video_networks.npz"
MANIFESTS = pathlib.Path(__file__).parents[1] / "models" / "diffusion" / "manifests"
FULL_SIZE = {
    "modelscope_unet": (ModelScopeConfig, ModelScopeUnet, 1480, 1.411e9),
    "svd_unet": (SvdConfig, SvdUnet, 1428, 1.525e9),
    "modelscope_vae": (VaeConfig, Vae, 248, 83.7e6),
    "svd_vae": (VideoVaeConfig, VideoVae, 374, 97.7e6),
}


def assert_golden(found):
    with np.load(GOLDEN) as golden:
        for name, array in found.items():
            np.testing.assert_allclose(array, golden[name], rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.compiles
def test_modelscope_computes_what_torch_did():
    assert_golden(tiny.modelscope_output(*tiny.modelscope_inputs()))


@pytest.mark.compiles
def test_svd_computes_what_torch_did():
    assert_golden(tiny.svd_output(*tiny.svd_inputs()))


@pytest.mark.compiles
def test_autoencoders_compute_what_torch_did():
    assert_golden(tiny.vae_output(*tiny.vae_inputs()))
    assert_golden(tiny.video_vae_output(*tiny.vae_inputs()))


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_networks_hold_the_entries_that_torchs_do(name):
    config, network, keys, parameters = FULL_SIZE[name]
    manifest = json.loads((MANIFESTS / f"{name}.json").read_text())
    entries = traverse_util.flatten_dict(manifest["entries"], sep=".")
    assert len(entries) == manifest["keys"] == keys
    assert manifest["parameters"] == pytest.approx(parameters, rel=1e-3)
    settings = config.from_json(manifest["config"])
    assert settings == config()  # the defaults are those of the public checkpoints
    places = torch_places(network(settings).param_shapes())
    assert {name: list(place.shape) for name, place in places.items()} == entries
