"""LPIPS against the package of its authors: its heads, its arithmetic, the same trunk."""

import pathlib

import numpy as np
import pytest
import skimage.data

pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("lpips")

import lpips as lpips_package
import torch

from models.perception import features_io
from models.perception.lpips import NETWORKS, lpips
from models.weights import read_entries
from scripts.shell import perceptual

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(params=NETWORKS)
def network(request):
    return request.param


@pytest.fixture
def params(network, monkeypatch):
    """The real weights, where `scripts.fetch_features` has left them for the user."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    path = features_io.features_file(perceptual.features_folder(), network)
    if not path.is_file():
        pytest.skip("wants the weights of scripts.fetch_features")
    return features_io.read_features(path, network)


def package_heads(network):
    folder = pathlib.Path(lpips_package.__file__).parent / "weights" / "v0.1"
    return folder / {"vgg16": "vgg.pth", "alexnet": "alex.pth"}[network]


def test_heads_are_those_of_the_package(network, params):
    heads = read_entries(package_heads(network))
    assert len(heads) == 5
    for tap in range(5):
        head = heads[f"lin{tap}.model.1.weight"].ravel()
        np.testing.assert_array_equal(params[f"head{tap + 1}"], head)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.4])
def test_distances_are_those_of_the_package(network, params, noise):
    net = {"vgg16": "vgg", "alexnet": "alex"}[network]
    theirs = lpips_package.LPIPS(net=net, pnet_rand=True, verbose=False).eval()
    convolutions = [m for m in theirs.net.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.no_grad():
        for module, layer in zip(convolutions, params["trunk"].values(), strict=True):
            kernel = np.asarray(layer["kernel"]).transpose(3, 2, 0, 1)
            module.weight.copy_(torch.from_numpy(kernel.copy()))
            module.bias.copy_(torch.from_numpy(np.array(layer["bias"])))
        image = skimage.data.astronaut()[40:168, 150:300].astype(np.float32) / 255
        rng = np.random.default_rng(0)
        noisy = np.clip(image + noise * rng.standard_normal(image.shape, np.float32), 0, 1)
        pair = (torch.from_numpy(x.transpose(2, 0, 1)[None].copy()) for x in (noisy, image))
        expected = float(theirs(*pair, normalize=True))
    found = float(lpips(params, noisy, image, network=network))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
