"""Layers of StyleGAN2 against their definitions in NumPy, pixel by pixel."""

import jax
import numpy as np
import pytest
from stylegan_twin import down_twin, filtered, transposed_twin, upsampled_twin

from models.stylegan import layers
from models.stylegan.config import DiscriminatorConfig, GeneratorConfig
from models.stylegan.discriminator import discriminate, init_discriminator
from models.stylegan.generator import init_generator, synthesize

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 4, 6, 3)).astype(np.float32)
KERNEL = RNG.normal(size=(3, 3, 3, 5)).astype(np.float32)


def test_doubling_convolution_lays_kernels_two_pixels_apart_and_smooths():
    expected = np.stack([filtered(transposed_twin(x, KERNEL), 1, 4.0) for x in X])
    assert expected.shape == (2, 8, 12, 5)
    for function in layers.conv_up, layers.conv_up_reference:
        np.testing.assert_allclose(jax.jit(function)(X, KERNEL), expected, atol=1e-5)


class Elsewhere:
    """What a module sees of JAX where its device is no CPU."""

    def __getattr__(self, name):
        return (lambda: "gpu") if name == "default_backend" else getattr(jax, name)


@pytest.mark.parametrize(("name", "shape"), [("conv_up", (8, 12)), ("conv_down", (2, 3))])
def test_convolutions_are_the_same_on_other_devices(monkeypatch, name, shape):
    cotangent = RNG.normal(size=(2, *shape, 5)).astype(np.float32)

    def taken():
        def pulled(x, kernel):
            y, pull = jax.vjp(getattr(layers, name), x, kernel)
            return y, pull(cotangent)

        return jax.jit(pulled).lower(X, KERNEL)

    here = taken()
    monkeypatch.setattr(layers, "jax", Elsewhere())
    there = taken()
    assert "stablehlo.convolution" not in here.as_text()
    assert "stablehlo.convolution" in there.as_text()
    assert_same(there.compile()(X, KERNEL), here.compile()(X, KERNEL), 2e-5)


def assert_same(found, expected, atol):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol), found, expected
    )


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


@pytest.mark.slow
def test_networks_are_the_same_on_other_devices(monkeypatch):
    """The convolutions that are taken there, through a generator and its judge, and back."""
    shape = GeneratorConfig(8, (4, 3), z_dim=4, w_dim=4, mapping_layers=1)
    judge = DiscriminatorConfig(8, (4, 5))
    first, second = jax.random.split(jax.random.key(0))
    made = init_generator(first, shape).params, init_discriminator(second, judge)
    ws = RNG.normal(size=(2, shape.num_ws, 4)).astype(np.float32)

    def taken():
        def loss(params, ws):
            images = synthesize.__wrapped__(params[0], ws, None, shape)
            logits = discriminate.__wrapped__(params[1], images, None, judge)
            return logits @ np.float32([1.0, -2.0]), (images, logits)

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True)).lower(made, ws)

    here = taken()
    monkeypatch.setattr(layers, "jax", Elsewhere())
    there = taken()
    convolutions = [text.as_text().count("stablehlo.convolution(") for text in (here, there)]
    assert convolutions[0] < convolutions[1]
    found, expected = (lowered.compile()(made, ws) for lowered in (there, here))
    assert_same(found, expected, 1e-5)
