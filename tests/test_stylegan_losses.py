"""The penalties against differences of the twin in NumPy, float64; the losses' closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stylegan_twin import generated_twin, judged_twin

from models.stylegan.config import DiscriminatorConfig, GeneratorConfig
from models.stylegan.discriminator import discriminate, init_discriminator
from models.stylegan.generator import init_generator, synthesize
from models.stylegan.losses import (
    discriminator_loss,
    generator_loss,
    path_length,
    r1_penalty,
)

EPS = 1e-5
RNG = np.random.default_rng(0)
SLOW_NETWORK = pytest.param("network", marks=pytest.mark.slow)


def moved(params, scale=0.3):
    """Parameters elsewhere, and a direction to move them along."""
    leaves, tree = jax.tree.flatten(params)
    drawn = [RNG.normal(scale=scale, size=(2, *np.shape(leaf))) for leaf in leaves]
    base = [np.float64(leaf) + d[0] for leaf, d in zip(leaves, drawn, strict=True)]
    return tree.unflatten(base), tree.unflatten([d[1] for d in drawn])


def slope(function, params, direction):
    """Derivative of a function of parameters along a direction, by differences."""

    def at(step):
        return function(jax.tree.map(lambda p, d: p + step * d, params, direction))

    return (at(1e-4) - at(-1e-4)) / 2e-4


def differences(function, x):
    """Derivatives of a scalar function to every number of x."""
    gradient = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = EPS
        gradient[index] = (function(x + step) - function(x - step)) / (2 * EPS)
    return gradient


def value_and_slope(loss, params, direction):
    """The same of a function in JAX: at float32, along the direction by its gradient."""
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    (value, more), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(single)
    products = jax.tree.map(lambda g, d: np.sum(np.float64(g) * d), gradient, direction)
    return value, more, sum(jax.tree.leaves(products))


def judge(kind):
    """Parameters, a direction, their logits in JAX and in NumPy, and pictures."""
    if kind == "formula":

        def logits(theta, x, maths=jnp):
            return maths.tanh(x.reshape(len(x), -1) @ theta) @ np.float32([1.0, 2.0])

        twin = functools.partial(logits, maths=np)
        return *moved(np.zeros((48, 2))), logits, twin, RNG.normal(size=(2, 4, 4, 3))
    config = DiscriminatorConfig(8, (3, 2), clamp=None, group_size=2)
    params, direction = moved(jax.device_get(init_discriminator(jax.random.key(0), config)))

    def logits(params, x):
        return discriminate(params, x, None, config)

    def twin(params, x):
        return judged_twin(params, x, None, 2, np.inf, 1.0)

    return params, direction, logits, twin, RNG.normal(size=(2, 8, 8, 3))


def draw(kind):
    """Parameters, a direction, their pictures in JAX and in NumPy, and latents."""
    if kind == "formula":

        def images(theta, ws, maths=jnp):
            return maths.tanh(ws.reshape(len(ws), -1) @ theta).reshape(-1, 4, 4, 3)

        twin = functools.partial(images, maths=np)
        return *moved(np.zeros((6, 48))), images, twin, RNG.normal(size=(2, 2, 3))
    config = GeneratorConfig(8, (3, 3), z_dim=4, w_dim=4, mapping_layers=1, clamp=None)
    made = init_generator(jax.random.key(0), config)
    params, direction = moved(jax.device_get(made.params["synthesis"]))
    noise = jax.device_get(made.buffers["noise"])

    def images(params, ws):
        return synthesize({"synthesis": params}, ws, noise, config)

    def twin(params, ws):
        return np.stack([generated_twin(params, each, noise, np.inf)[8][1] for each in ws])

    return params, direction, images, twin, RNG.normal(size=(2, config.num_ws, 4))


@pytest.mark.parametrize("kind", ["formula", SLOW_NETWORK])
def test_r1_is_the_squared_gradient_of_the_logits_to_the_pictures(kind):
    params, direction, logits, twin, images = judge(kind)

    def expected(params):
        return np.sum(differences(lambda x: twin(params, x).sum(), images) ** 2) / len(images)

    def found(params):
        return r1_penalty(functools.partial(logits, params), jnp.float32(images)), None

    value, _, change = value_and_slope(found, params, direction)
    np.testing.assert_allclose(value, expected(params), rtol=1e-4)
    np.testing.assert_allclose(change, slope(expected, params, direction), rtol=1e-3)


@pytest.mark.parametrize("kind", ["formula", SLOW_NETWORK])
def test_path_length_is_how_far_noise_pulls_latents(kind):
    params, direction, images, twin, ws = draw(kind)
    key, shape = jax.random.key(5), twin(params, ws).shape

    def found(params):
        images_of = functools.partial(images, params)
        report = path_length(key, images_of, jnp.float32(ws), jnp.float32(2.0), decay=0.25)
        return report.penalty, (report, jax.random.normal(key, shape))  # compiled once

    value, (report, noise), change = value_and_slope(found, params, direction)
    pulled = np.float64(noise) / shape[1]

    def lengths(params):
        gradient = differences(lambda ws: np.sum(twin(params, ws) * pulled), ws)
        return np.sqrt(np.mean(np.sum(gradient**2, -1), -1))

    def expected(params):
        each = lengths(params)
        return np.mean((each - (0.75 * 2.0 + 0.25 * each.mean())) ** 2)

    np.testing.assert_allclose(value, expected(params), rtol=1e-4)
    np.testing.assert_allclose(change, slope(expected, params, direction), rtol=1e-3)
    np.testing.assert_allclose(report.lengths, lengths(params), rtol=1e-4)
    np.testing.assert_allclose(report.mean_length, 1.5 + 0.25 * report.lengths.mean(), rtol=1e-6)


def test_losses_are_cross_entropies():
    real, fake = np.float32([2.0, -1.0]), np.float32([0.5, 3.0])
    said = 1.0 / (1.0 + np.exp(-real)), 1.0 / (1.0 + np.exp(-fake))
    np.testing.assert_allclose(generator_loss(fake), -np.mean(np.log(said[1])), rtol=1e-6)
    expected = -np.mean(np.log(said[0])) - np.mean(np.log(1.0 - said[1]))
    np.testing.assert_allclose(discriminator_loss(real, fake), expected, rtol=1e-6)
