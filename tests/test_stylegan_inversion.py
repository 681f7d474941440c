"""Inversion and pivotal tuning: a linear generator has a closed form; a small one is inverted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.stylegan.config import GeneratorConfig
from models.stylegan.generator import init_generator, map_latents, synthesize
from models.stylegan.inversion import (
    InversionConfig,
    found_latents,
    init_search,
    invert,
    noise_correlation,
    picture_loss,
    psnr_db,
    search_step,
)
from models.stylegan.latents import latent_statistics, sample_latents, unwhitened, whitened
from models.stylegan.pivotal import TuningConfig, tune

SIDE, LAYERS, SIZE = 4, 3, 5
CONFIG = GeneratorConfig(8, (16, 12), z_dim=6, w_dim=6, mapping_layers=1)


@pytest.fixture(scope="module")
def linear():
    """A generator that is a matrix, the statistics of its W, and pictures that it cannot make."""
    rng = np.random.default_rng(0)
    matrix = np.float32(rng.normal(size=(LAYERS, SIZE, SIDE * SIDE * 3)))
    mixing = rng.normal(size=(SIZE, SIZE))
    statistics = latent_statistics(rng.normal(size=(400, SIZE)) @ mixing + 3.0)
    images = np.float32(rng.normal(size=(2, SIDE, SIDE, 3)))
    return matrix, statistics, images


def found_in(linear, **settings):
    matrix, statistics, images = linear

    def paint(ws, noise):
        del noise
        flat = jnp.einsum("nlw,lwp->np", ws, matrix)
        return flat.reshape(-1, SIDE, SIDE, 3)

    start = jnp.broadcast_to(statistics.mean, (2, LAYERS, SIZE))
    config = InversionConfig(steps=600, absolute=0.0, **({"spread": 0.0} | settings))

    @jax.jit
    def search(images):
        state = init_search(start, None, statistics, config)

        def step(state, _):
            return search_step(state, paint, images, statistics, None, config)

        return found_latents(jax.lax.scan(step, state, length=config.steps)[0], statistics)

    return search(images)


def test_the_latents_of_a_linear_generator_are_the_least_squares_solution(linear):
    matrix, _, images = linear
    each = found_in(linear, prior=0.0)
    flat = images.reshape(2, -1)
    wanted = np.linalg.lstsq(matrix.reshape(-1, flat.shape[1]).T, flat.T, rcond=None)[0].T
    np.testing.assert_allclose(each.reshape(2, -1), wanted, atol=2e-3)
    shared = found_in(linear, prior=0.0, space="w")
    wanted = np.linalg.lstsq(matrix.sum(0).T, flat.T, rcond=None)[0].T
    np.testing.assert_allclose(shared, np.repeat(wanted[:, None], LAYERS, 1), atol=2e-3)


def test_with_a_prior_they_are_those_of_ridge_regression_in_deviations_of_w(linear):
    matrix, statistics, images = linear
    ws = found_in(linear, prior=2.0, space="w")
    flat, of_w = images.reshape(2, -1), np.float64(matrix).sum(0)
    axes = np.asarray(unwhitened(np.eye(SIZE, dtype=np.float32), statistics) - statistics.mean)
    of_values = axes @ of_w / np.sqrt(flat.shape[1])
    rest = (flat - np.asarray(statistics.mean) @ of_w) / np.sqrt(flat.shape[1])
    square = of_values @ of_values.T + 2.0 / SIZE * np.eye(SIZE)
    wanted = np.linalg.solve(square, of_values @ rest.T).T
    away = whitened(ws, statistics)
    np.testing.assert_allclose(away, np.repeat(wanted[:, None], LAYERS, 1), atol=5e-3)
    np.testing.assert_allclose(unwhitened(away, statistics), ws, atol=1e-5)


def test_layers_are_held_together_as_ridge_regression_of_their_offsets_would(linear):
    matrix, statistics, images = linear
    ws = found_in(linear, prior=2.0, spread=1.0)
    flat, pixels = images.reshape(2, -1), images[0].size
    axes = np.asarray(unwhitened(np.eye(SIZE, dtype=np.float32), statistics) - statistics.mean)
    each = np.einsum("vw,lwp->lvp", axes, matrix).reshape(-1, pixels)  # of the layers' offsets
    every = each.reshape(LAYERS, SIZE, pixels).sum(0)  # of what they share
    rest = flat - np.asarray(statistics.mean) @ np.float64(matrix).sum(0)
    square = np.concatenate([every, each]) / np.sqrt(pixels)
    costs = np.repeat([2.0 / SIZE, 1.0 / (SIZE * LAYERS)], [SIZE, SIZE * LAYERS])
    wanted = np.linalg.solve(square @ square.T + np.diag(costs), square @ rest.T / np.sqrt(pixels))
    shared, offsets = wanted[:SIZE].T[:, None], wanted[SIZE:].T.reshape(2, LAYERS, SIZE)
    np.testing.assert_allclose(whitened(ws, statistics), shared + offsets, atol=1e-2)


def test_noise_that_is_searched_stays_normal_and_is_kept_from_painting(linear):
    _, statistics, _ = linear
    slope = np.linspace(-1.0, 1.0, 16, dtype=np.float32)
    images = np.broadcast_to(slope[:, None, None], (1, 16, 16, 1))
    start = jnp.broadcast_to(statistics.mean, (1, LAYERS, SIZE))
    first = np.random.default_rng(0).normal(size=(1, 16, 16)).astype(np.float32)

    def paint(ws, noise):
        return noise["b16"]["conv1"][..., None] + 0.0 * ws.sum()

    config, noise = InversionConfig(steps=40), {"b16": {"conv1": first}}

    @jax.jit
    def search(noise):
        def step(state, _):
            return search_step(state, paint, images, statistics, None, config)

        state = init_search(start, noise, statistics, config)
        return jax.lax.scan(step, state, length=config.steps)[0].noise

    found = search(noise)
    held = np.asarray(found["b16"]["conv1"])
    assert abs(held.mean()) < 1e-5 and held.var() == pytest.approx(1.0, abs=1e-4)
    loud = np.float32(images[..., 0] / slope.std())  # the picture, painted into it
    assert noise_correlation(found)[0] < 0.1 * noise_correlation({"b16": {"conv1": loud}})[0]


def test_errors_are_weighed_and_measured_by_their_definitions():
    error = np.random.default_rng(0).normal(size=(3, 4, 4, 3)).astype(np.float32)
    wanted = 2.0 * np.mean(error**2, (1, 2, 3)) + 3.0 * np.mean(abs(error), (1, 2, 3))
    np.testing.assert_allclose(picture_loss(error, 2.0, 3.0), wanted, rtol=1e-5)
    dark = np.full((2, 4, 4, 3), -1.0, np.float32)
    made = np.stack([dark[0] + 0.2, dark[0] - 5.0])  # a tenth of the range; clipped
    np.testing.assert_allclose(psnr_db(made, dark), [20.0, 100.0], rtol=1e-4)


@pytest.fixture(scope="module")
def small():
    """A generator of 8 pixels, the statistics of W, and three latents with their pictures."""
    generator = init_generator(jax.random.key(0), CONFIG)
    statistics = latent_statistics(sample_latents(jax.random.key(1), generator, 500))
    z = np.random.default_rng(2).normal(size=(3, CONFIG.z_dim)).astype(np.float32)
    ws = map_latents(generator.params, generator.buffers, z, None, CONFIG)
    return generator, statistics, ws, synthesize(generator.params, ws, None, CONFIG)


@pytest.mark.slow
def test_pictures_of_the_generator_are_found_and_none_knows_of_the_others(small):
    generator, statistics, ws, images = small
    config = InversionConfig(steps=300, prior=0.0, spread=0.0)
    start = jnp.broadcast_to(statistics.mean, ws.shape)

    def find(images):
        return invert(
            jax.random.key(0), generator.params, images, start, statistics, None, CONFIG, config
        )

    found = find(images)
    # Without `psnr_db`, which clips: pictures of a random generator are far from [-1, 1].
    before = synthesize(generator.params, start, None, CONFIG)
    errors = [np.mean((made - images) ** 2, (1, 2, 3)) for made in (before, found.images)]
    assert np.all(errors[1] < 0.05 * errors[0]), errors
    assert found.losses.shape == (300, 3) and np.all(found.losses[-1] < 0.3 * found.losses[0])
    others = find(images.at[1:].set(0.3))
    np.testing.assert_allclose(others.ws[0], found.ws[0], atol=1e-3)


@pytest.mark.slow
@pytest.mark.compiles
def test_tuning_shows_the_pictures_at_the_pivots_and_leaves_others_alone(small):
    generator, statistics, ws, images = small
    wanted = images[:1] + 0.2 * jnp.sign(images[1:2])
    config = TuningConfig(steps=400, rate=3e-3, locality=3.0, stop_psnr_db=26.0)
    tuned = tune(
        jax.random.key(0), generator.params, ws[:1], wanted, None, statistics, None, CONFIG, config
    )
    shown, others = (synthesize(tuned.params, some, None, CONFIG) for some in (ws[:1], ws[1:]))
    away = 0.5 * np.sqrt(np.mean((shown - wanted) ** 2))
    assert away < 1.01 * 10 ** (-26 / 20) and 0 < tuned.steps < config.steps, tuned
    np.testing.assert_allclose(tuned.distances, away, rtol=1e-3)
    changed = np.sqrt(np.mean((others - images[1:]) ** 2))
    assert changed < 0.65 * 0.2, changed
    np.testing.assert_array_equal(
        tuned.params["mapping"]["fc0"]["weight"], generator.params["mapping"]["fc0"]["weight"]
    )


def test_white_noise_does_not_go_with_itself_and_a_picture_does():
    rng = np.random.default_rng(0)
    white = np.float32(rng.normal(size=(2, 32, 32)))
    slope = np.broadcast_to(np.linspace(-1.7, 1.7, 32, dtype=np.float32), (2, 32, 32))
    quiet, loud = (noise_correlation({"b32": {"conv1": noise}}) for noise in (white, slope))
    assert np.all(quiet < 0.1) and np.all(loud > 1.0)
    # Squares of 8 pixels: neighbours are alike by 7/8 - 1/8, those of the half size by 3/4 - 1/4 of
    # a variance that the sum over four has made four; along both sides.
    squares = np.kron([[1.0, -1.0], [-1.0, 1.0]], np.ones((8, 8)))[None].astype(np.float32)
    found = noise_correlation({"b16": {"conv1": squares}})
    np.testing.assert_allclose(found, 2 * (0.75**2 + (4 * 0.5) ** 2), rtol=1e-5)
