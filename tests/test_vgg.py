"""LPIPS against the same arithmetic written twice: once in JAX, once in plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from jax.test_util import check_grads

from models.perception.vgg import Lpips, load_lpips, lpips, unit_features

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


def noisy_pair(height=32, width=21, seed=1):
    rng = np.random.default_rng(seed)
    image = rng.random((height, width, 3))
    noisy = np.clip(image + 0.2 * rng.standard_normal(image.shape), 0, 1)
    return noisy.astype(np.float32), image.astype(np.float32)


@jax.jit
def tap_distances(params, image, reference):
    return Lpips().apply({"params": params}, image, reference)


def tap_distances_reference(params, image, reference):
    """The five distances in float64, by loops over windows."""

    def features(picture):
        taps = []
        h = np.asarray(picture, np.float64) * 2 - 1
        h = (h - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
        for block, depth in enumerate(DEPTHS, 1):
            if block > 1:
                rows, columns = h.shape[0] // 2, h.shape[1] // 2
                h = h[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, -1).max((1, 3))
            for layer in range(1, depth + 1):
                convolution = params["trunk"][f"conv{block}_{layer}"]
                kernel = np.asarray(convolution["kernel"], np.float64)
                padded = np.pad(h, ((1, 1), (1, 1), (0, 0)))
                h = np.asarray(convolution["bias"], np.float64) + sum(
                    padded[i : i + h.shape[0], j : j + h.shape[1]] @ kernel[i, j]
                    for i in range(3)
                    for j in range(3)
                )
                h = np.maximum(h, 0)
            taps.append(h / (np.sqrt((h * h).sum(-1, keepdims=True)) + 1e-10))
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


def test_every_tap_has_the_distance_that_numpy_finds(params):
    noisy, image = noisy_pair()
    expected = tap_distances_reference(params, noisy, image)
    assert min(expected) > 0.01 * max(expected)  # a tap that vanishes would prove nothing
    np.testing.assert_allclose(tap_distances(params, noisy, image), expected, rtol=2e-5)
    np.testing.assert_allclose(lpips(params, noisy, image), sum(expected), rtol=2e-5)


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
