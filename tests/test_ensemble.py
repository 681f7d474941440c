"""The exact prior of known clips: its score, and whether the force that it exerts is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.diffusion.ensemble import band_weights, ensemble_denoiser
from models.diffusion.guidance import draw_bank, forces_along
from models.diffusion.sampler import sample
from models.diffusion.schedule import karras_sigmas
from sim import identify

BANDS = (4.6, 5.1, 5.6)
FRAMES, SIDE = 8, 24


def swaying(log10_modulus, kick=1.0):
    """A blob on a spring of that stiffness: [T, side, side], without a simulator."""
    share = jnp.linspace(0.0, 1.0, FRAMES)
    rate = 10.0 ** (0.5 * (log10_modulus - 5.1)) * 1.2  # radians a clip: stiff ones turn back
    way = 10.0 * kick / rate * jnp.sin(rate * share)
    places = jnp.arange(SIDE) - 0.5 * SIDE
    x = places[None] - way[:, None]
    return 1.6 * jnp.exp(-0.05 * (x[:, None, :] ** 2 + places[None, :, None] ** 2)) - 1.0


@pytest.fixture(scope="module")
def clips():
    key = jax.random.key(0)
    moduli = jax.random.uniform(key, 200, minval=3.9, maxval=6.3)
    kicks = 1.0 + 0.02 * jax.random.normal(jax.random.fold_in(key, 1), 200)
    return jax.vmap(swaying)(moduli, kicks), moduli


def test_the_denoiser_is_the_mean_of_the_posterior():
    clips = jnp.array([[0.0, 0.0], [2.0, 1.0], [-1.0, 3.0]])
    log_weights = jnp.log(jnp.array([0.5, 0.2, 0.3]))
    x, sigma = jnp.array([[1.0, 0.4], [5.0, 5.0]]), jnp.array([1.3, 0.7])
    by_hand = []
    for point, s in zip(np.asarray(x), np.asarray(sigma), strict=True):
        likely = np.exp(log_weights - np.sum((point - clips) ** 2, -1) / (2 * s**2))
        by_hand.append(likely @ np.asarray(clips) / likely.sum())
    np.testing.assert_allclose(ensemble_denoiser(clips, log_weights)(x, sigma), by_hand, atol=1e-5)


def test_it_gives_the_score_of_the_smoothed_clips():
    clips, log_weights = jnp.array([[0.0], [2.0], [3.0]]), jnp.zeros(3)
    sigma = 0.8

    def log_density(x):
        return jax.nn.logsumexp(-((x - clips) ** 2).sum(-1) / (2 * sigma**2))

    x = jnp.array([1.2])
    score = (ensemble_denoiser(clips, log_weights)(x[None], jnp.array([sigma]))[0] - x) / sigma**2
    np.testing.assert_allclose(score, jax.grad(log_density)(x), rtol=1e-4)


def test_samples_are_clips_of_the_ensemble_in_the_shares_of_their_weights():
    clips, log_weights = jnp.array([[-1.0, 0.0], [1.0, 0.5]]), jnp.log(jnp.array([0.25, 0.75]))
    drawn = sample(
        jax.random.key(0),
        ensemble_denoiser(clips, log_weights),
        (400, 2),
        karras_sigmas(20, 0.02, 40.0),
    )
    away = np.abs(np.asarray(drawn)[:, None] - np.asarray(clips)).max(-1)
    assert away.min(1).max() < 0.05
    np.testing.assert_allclose(np.mean(away.argmin(1) == 1), 0.75, atol=0.07)


@pytest.mark.parametrize("sigma", [4.0, 8.0, 16.0])
@pytest.mark.parametrize("band", BANDS)
def test_the_force_points_to_the_band_and_rests_there(clips, band, sigma):
    videos, moduli = clips
    grid = np.linspace(3.9, 6.3, 25)
    scan = jax.vmap(swaying)(grid)
    slopes = jax.vmap(lambda e: jax.jvp(swaying, (e,), (1.0,))[1])(grid)
    bank = draw_bank(jax.random.key(2), 12, videos.shape[1:], (sigma, sigma))
    denoise = ensemble_denoiser(videos, band_weights(moduli, band))
    mean = np.asarray(forces_along(denoise, scan, slopes, bank)).mean(1)
    assert identify.share_of_right_signs(grid, mean, band) >= 0.95
    zeros = identify.zeros_of(grid, mean)
    assert len(zeros) == 1 and abs(zeros[0] - band) < 0.1


def test_zeros_are_where_a_curve_falls_and_signs_count_beyond_the_tolerance():
    grid = np.array([4.0, 4.5, 5.0, 5.5, 6.0])
    mean = np.array([1.0, 0.5, -0.5, 0.2, 0.1])
    np.testing.assert_allclose(identify.zeros_of(grid, mean), [4.75])
    assert identify.share_of_right_signs(grid, mean, 4.6) == 0.5  # 4.5 is too near to count


def test_heuns_steps_follow_the_exact_flow_of_gaussian_data():
    spread, levels = 0.7, karras_sigmas(20, 0.05, 20.0)

    def denoise(x, sigma):
        return spread**2 / (spread**2 + sigma[:, None] ** 2) * x

    drawn = sample(jax.random.key(0), denoise, (5, 3), levels)
    start = 20.0 * jax.random.normal(jax.random.key(0), (5, 3))
    exact = start * spread / jnp.sqrt(spread**2 + 20.0**2)
    np.testing.assert_allclose(drawn, exact, rtol=0.02)  # Euler's are 8 % off
