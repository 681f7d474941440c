"""Denoisers, levels of noise and score distillation against data whose score is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.diffusion import guidance, schedule
from models.diffusion.denoiser import along, from_eps, from_v, guided

MEAN, SPREAD = 0.7, 0.3  # of Gaussian data
SHAPE = (5, 4)


def exact(x, sigma):
    """E[z | x] of data N(MEAN, SPREAD^2)."""
    s = along(sigma, x)
    return MEAN + SPREAD**2 / (SPREAD**2 + s**2) * (x - MEAN)


def noisy(sigma):
    return jax.random.normal(jax.random.key(3), (len(sigma), *SHAPE)) * along(
        sigma, jnp.ones((1, 1, 1))
    )


def test_betas_are_those_of_the_public_chains():
    abar = schedule.scaled_linear()
    sigmas = schedule.sigmas_of(abar)
    # sqrt((1 - abar) / abar) at t = 20, 500, 980 and 999, by hand from the betas.
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    by_hand = np.cumprod(1 - betas)
    by_hand = np.sqrt((1 - by_hand) / by_hand)
    np.testing.assert_allclose(sigmas, by_hand, rtol=1e-4)
    np.testing.assert_allclose(
        sigmas[jnp.array([20, 500, 980, 999])], [0.138, 1.62, 13.0, 14.6], rtol=0.01
    )


def test_time_inverts_the_levels_and_holds_at_the_ends():
    sigmas = schedule.sigmas_of(schedule.scaled_linear())
    steps = jnp.array([0.0, 20.0, 700.0, 999.0])
    np.testing.assert_allclose(
        schedule.timestep_of(sigmas[steps.astype(int)], sigmas), steps, atol=2e-3
    )
    between = schedule.timestep_of(jnp.sqrt(sigmas[10] * sigmas[11]), sigmas)
    np.testing.assert_allclose(between, 10.5, atol=1e-3)
    np.testing.assert_allclose(schedule.timestep_of(jnp.array([1e-4, 1e3]), sigmas), [0, 999])


def test_karras_levels_fall_from_end_to_end_and_end_at_zero():
    levels = schedule.karras_sigmas(6, 0.02, 80.0)
    assert levels.shape == (7,) and levels[-1] == 0
    np.testing.assert_allclose(levels[jnp.array([0, 5])], [80.0, 0.02], rtol=1e-4)
    steps = jnp.diff(levels[:-1] ** (1 / 7))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3)


def test_stratified_levels_take_one_from_each_part():
    levels = schedule.stratified_sigmas(jax.random.key(0), 8, 4.0, 16.0)
    parts = 8 * np.log(np.asarray(levels) / 4.0) / np.log(4.0)
    np.testing.assert_array_equal(np.floor(parts), np.arange(8))


@pytest.mark.parametrize("form", ["eps", "v"])
def test_networks_of_both_kinds_become_the_same_denoiser(form):
    sigma = jnp.array([0.3, 1.1, 6.0])
    x = noisy(sigma)
    abar = schedule.scaled_linear()
    table = schedule.sigmas_of(abar)

    def eps(scaled, t):
        level = jnp.exp(jnp.interp(t, jnp.arange(1000.0), jnp.log(table)))
        x = scaled * along(jnp.sqrt(1 + level**2), scaled)
        return (x - exact(x, level)) / along(level, x)

    def v(scaled, c_noise):
        level = jnp.exp(4 * c_noise)
        s = along(level, scaled)
        x = scaled * jnp.sqrt(1 + s**2)
        return (x / (1 + s**2) - exact(x, level)) * jnp.sqrt(1 + s**2) / s

    denoise = from_eps(eps, abar) if form == "eps" else from_v(v)
    np.testing.assert_allclose(denoise(x, sigma), exact(x, sigma), atol=2e-4)


def test_guidance_of_one_is_the_conditional_and_zero_the_null():
    sigma = jnp.ones(2)
    x = noisy(sigma)

    def null(x, sigma):
        return 0.5 * x

    for scale, expected in ((1.0, exact(x, sigma)), (0.0, 0.5 * x)):
        np.testing.assert_allclose(guided(exact, null, scale)(x, sigma), expected, atol=1e-6)
    twice = guided(exact, null, 2.0)(x, sigma)
    np.testing.assert_allclose(twice, 2 * exact(x, sigma) - 0.5 * x, atol=1e-6)


def test_a_bank_is_antithetic_and_so_the_odd_part_of_its_residual_is_nothing():
    bank = guidance.draw_bank(jax.random.key(0), 3, SHAPE, (2.0, 8.0))
    np.testing.assert_array_equal(bank.eps[:3], -bank.eps[3:])
    np.testing.assert_array_equal(bank.sigma[:3], bank.sigma[3:])
    z = jax.random.normal(jax.random.key(1), SHAPE)
    # The denoiser of a Gaussian is linear: with pairs its mean residual has no noise at all.
    expected = np.mean([(z - MEAN) * s**2 / (SPREAD**2 + s**2) for s in np.asarray(bank.sigma)], 0)
    np.testing.assert_allclose(guidance.sds_residual(exact, z, bank), expected, atol=1e-5)


@pytest.mark.parametrize("name", guidance.WEIGHTS)
def test_weights_are_those_of_the_chain(name):
    abar = schedule.scaled_linear()[jnp.array([100, 500, 900])]
    sigma = schedule.sigmas_of(abar)
    expected = {
        "sigma": sigma,
        "uniform": jnp.ones(3),
        "sds": 1 - abar,
        "fantasia3d": jnp.sqrt(abar) * (1 - abar),
    }[name]
    np.testing.assert_allclose(guidance.WEIGHTS[name](sigma), expected, rtol=1e-3)
    bank = guidance.NoiseBank(sigma, jax.random.normal(jax.random.key(0), (3, *SHAPE)))
    z = jnp.zeros(SHAPE)
    x = along(sigma, bank.eps) * bank.eps
    eps_hat = (x - exact(x, sigma)) / along(sigma, x)
    np.testing.assert_allclose(
        guidance.residuals(exact, z, bank, name),
        along(expected, x) * (eps_hat - bank.eps),
        atol=1e-4,
    )


def test_the_classifiers_part_is_what_the_condition_changes():
    bank = guidance.draw_bank(jax.random.key(0), 4, SHAPE, (1.0, 4.0))
    z = jax.random.normal(jax.random.key(1), SHAPE)

    def null(x, sigma):
        return exact(x, sigma) - 0.25

    np.testing.assert_allclose(
        guidance.csd_residual(exact, null, z, bank), jnp.full(SHAPE, -0.25), atol=1e-5
    )


def test_both_modes_carry_a_residual_back_alike_and_not_through_the_network():
    bank = guidance.draw_bank(jax.random.key(0), 2, SHAPE, (1.0, 4.0))
    rest = jax.random.normal(jax.random.key(1), SHAPE)

    def video_of(theta):
        return jnp.sin(theta * rest)

    theta = jnp.float32(0.8)
    pulled, video, residual = guidance.pull_back(
        video_of, theta, lambda z: guidance.sds_residual(exact, z, bank)
    )
    slope = jax.jvp(video_of, (theta,), (jnp.float32(1.0),))[1]
    np.testing.assert_allclose(guidance.force(slope, residual), -pulled, rtol=1e-5)
    np.testing.assert_allclose(pulled, jnp.sum(rest * jnp.cos(theta * rest) * residual), rtol=1e-5)
    each = guidance.residuals(exact, video, bank)
    np.testing.assert_allclose(guidance.force(slope, each).mean(), -pulled, rtol=1e-4)
    through = jax.grad(lambda z: jnp.sum(guidance.sds_residual(exact, z, bank)))(video)
    np.testing.assert_allclose(through, jnp.ones(SHAPE), rtol=1e-5)  # of z alone


def test_an_encoder_in_chunks_gives_what_it_gives_at_once():
    video = jax.random.normal(jax.random.key(0), (6, 4, 4, 3))

    def encode(frames):
        return jnp.tanh(frames @ jnp.arange(6.0).reshape(3, 2))

    def whole(v):
        return encode(v)

    def parts(v):
        return guidance.encode_in_chunks(encode, v, 2)

    np.testing.assert_allclose(parts(video), whole(video), atol=1e-6)

    def gradient(f):
        return jax.grad(lambda v: jnp.sum(f(v) ** 2))(video)

    np.testing.assert_allclose(gradient(parts), gradient(whole), atol=1e-5)
    with pytest.raises(ValueError, match="chunks that divide 6 frames, found 4"):
        guidance.encode_in_chunks(encode, video, 4)
