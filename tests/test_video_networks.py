"""Networks of public video pipelines, without torch: what the small ones of it decoded, and the
names of all that the full-size ones hold. What they encode and denoise is in test_pipelines.py.
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

MANIFESTS = pathlib.Path(__file__).parent / "golden" / "manifests"
FULL_SIZE = {
    "modelscope_unet": (ModelScopeConfig, ModelScopeUnet, 1480, 1.411e9),
    "svd_unet": (SvdConfig, SvdUnet, 1428, 1.525e9),
    "modelscope_vae": (VaeConfig, Vae, 248, 83.7e6),
    "svd_vae": (VideoVaeConfig, VideoVae, 374, 97.7e6),
}


@pytest.mark.compiles
@pytest.mark.parametrize("kind", ["vae", "video_vae"])
def test_autoencoders_decode_as_torchs_do(kind):
    network, (_, z) = getattr(tiny, kind)(), tiny.vae_inputs()
    found = tiny.apply(network, "decode", z)
    np.testing.assert_allclose(found, tiny.golden(f"{kind}_decoded"), rtol=0, atol=1e-4)


@pytest.mark.compiles
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
