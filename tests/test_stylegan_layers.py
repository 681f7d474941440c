"""Layers of StyleGAN2 against their definitions in NumPy, pixel by pixel."""

import jax
import numpy as np
import pytest
from stylegan_twin import down_twin, filtered, transposed_twin, upsampled_twin

from models.stylegan import layers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 4, 6, 3)).astype(np.float32)
KERNEL = RNG.normal(size=(3, 3, 3, 5)).astype(np.float32)


def test_doubling_convolution_lays_kernels_two_pixels_apart_and_smooths():
    expected = np.stack([filtered(transposed_twin(x, KERNEL), 1, 4.0) for x in X])
    assert expected.shape == (2, 8, 12, 5)
    for function in layers.conv_up, layers.conv_up_reference:
        np.testing.assert_allclose(jax.jit(function)(X, KERNEL), expected, atol=1e-5)


def test_both_ways_to_double_have_the_same_gradients():
    cotangent = RNG.normal(size=(2, 8, 12, 5)).astype(np.float32)

    def pulled(function):
        return jax.jit(lambda x, k: jax.vjp(function, x, k)[1](cotangent))(X, KERNEL)

    fast, plain = pulled(layers.conv_up), pulled(layers.conv_up_reference)
    for a, b in zip(fast, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("side", [1, 3])
def test_halving_convolution_smooths_and_strides(side):
    kernel = KERNEL[:side, :side]
    expected = np.stack([down_twin(x, kernel) for x in X])
    found = jax.jit(layers.conv_down)(X, kernel)
    assert found.shape == (2, 2, 3, 5)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_pictures_double_by_the_filter_over_pixels_between_zeros():
    expected = np.stack([upsampled_twin(x) for x in X])
    np.testing.assert_allclose(jax.jit(layers.upsample)(X), expected, atol=1e-6)


def test_activation_keeps_the_variance_and_clamps_with_its_gain():
    x = np.float32([-100.0, -1.0, 0.0, 1.0, 100.0])
    found = layers.activate(x, 0.5, 8.0)
    root = np.sqrt(2.0)
    np.testing.assert_allclose(found, [-4.0, -0.1 * root, 0.0, 0.5 * root, 4.0], rtol=1e-6)
