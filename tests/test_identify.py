"""The search for a stiffness, on clips that formulas give."""

import golden_scans
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.diffusion.ensemble import band_weights, ensemble_denoiser
from models.diffusion.guidance import draw_bank, forces_along, residuals
from sim import identify

FRAMES, SIDE = 6, 12
GRID = np.linspace(3.9, 6.3, 25)


def swaying(log10_modulus):
    """A blob on a spring of that stiffness, [T, side, side, 1]."""
    share = jnp.linspace(0.0, 1.0, FRAMES)
    rate = 10.0 ** (0.5 * (log10_modulus - 5.1)) * 1.2  # radians a clip
    way = 5.0 / rate * jnp.sin(rate * share)
    places = jnp.arange(SIDE) - 0.5 * SIDE
    x = places[None] - way[:, None]
    blob = jnp.exp(-0.2 * (x[:, None, :] ** 2 + places[None, :, None] ** 2))
    return 1.6 * blob[..., None] - 1.0


def scan_of(clip_of, grid=GRID):
    grid = np.asarray(grid)
    slopes = jax.vmap(lambda e: jax.jvp(clip_of, (e,), (1.0,))[1])(grid)
    return identify.Scan(grid, np.asarray(jax.vmap(clip_of)(grid)), np.asarray(slopes))


def test_between_the_points_cubics_are_exact_and_their_slopes_are_theirs():
    factors = jax.random.normal(jax.random.key(0), (4, 2, 3, 3, 1))

    def cubic(e):
        return sum(factor * (e - 5.0) ** power for power, factor in enumerate(factors))

    scan = scan_of(cubic, [4.0, 4.5, 5.7])
    for modulus in (4.0, 4.2, 4.5, 5.0, 5.7):
        clip, slope = identify.clip_between(scan, modulus)
        value, exact = jax.jvp(cubic, (modulus,), (1.0,))
        np.testing.assert_allclose(clip, value, atol=1e-4)
        np.testing.assert_allclose(slope, exact, atol=1e-3)


def test_a_video_to_match_is_found_from_both_sides():
    scan = scan_of(swaying)
    truth = 4.83
    curve = identify.force_along(scan, lambda clip: (clip - swaying(truth))[None])
    (rest,) = identify.zeros_of(curve.log10_modulus, curve.mean)
    assert abs(rest - truth) < 0.01
    for start in (truth - 0.9, truth + 1.0):
        assert identify.come_to_rest(curve.log10_modulus, curve.mean, start) == pytest.approx(rest)


def test_the_exact_prior_of_a_band_is_followed_to_its_middle_with_an_interval_around():
    scan = scan_of(swaying)
    moduli = np.random.default_rng(0).uniform(3.9, 6.3, 200)
    clips = jax.vmap(swaying)(moduli)
    for band in (4.6, 5.1, 5.6):
        denoise = ensemble_denoiser(clips, band_weights(moduli, band))
        bank = draw_bank(jax.random.key(1), 8, clips.shape[1:], (1.0, 4.0))

        @jax.jit
        def of_pairs(z, d=denoise, b=bank):
            return residuals(d, z, b).reshape(2, -1, *z.shape).mean(0)

        curve = identify.force_along(scan, of_pairs)
        ends = [
            identify.come_to_rest(curve.log10_modulus, curve.mean, start)
            for start in (band - 0.7, band + 0.7)
        ]
        assert abs(ends[0] - band) < 0.1 and abs(ends[0] - ends[1]) < 0.05
        low, high = identify.interval_of(jax.random.key(2), curve, ends[0])
        assert low <= ends[0] + 1e-6 and ends[0] - 1e-6 <= high and high - low < 0.2


def test_who_rests_nowhere_ends_at_a_bound():
    points = np.array([4.0, 5.0, 6.0])
    assert identify.come_to_rest(points, np.array([1.0, 2.0, 1.0]), 4.5) == 6.0
    assert identify.come_to_rest(points, np.array([-1.0, -2.0, -1.0]), 4.5) == 4.0
    fall = np.array([1.0, -1.0, 1.0])  # rests at 4.5; beyond 5.5 it runs away
    assert identify.come_to_rest(points, fall, 4.1) == pytest.approx(4.5)
    assert identify.come_to_rest(points, fall, 5.2) == pytest.approx(4.5)
    assert identify.come_to_rest(points, fall, 5.8) == 6.0


def test_identifiability_is_the_length_of_the_derivative():
    scan = scan_of(lambda e: jnp.full((2, 3, 3, 1), 1.0) * (e - 5.0) ** 2, [4.0, 5.0, 6.0])
    np.testing.assert_allclose(
        identify.identifiability(scan), [np.sqrt(18) * 2, 0, np.sqrt(18) * 2]
    )


@pytest.fixture(scope="module")
def family_scans():
    """A real scene of each family over a grid, its derivatives from neighbours."""
    with np.load(golden_scans.PATH) as file:
        found = {name: file[name] / np.float32(127.5) - 1.0 for name in golden_scans.NAMES}
    grid = golden_scans.GRID
    return {
        name: identify.Scan(grid, videos, np.gradient(videos, grid, axis=0))
        for name, videos in found.items()
    }


@pytest.mark.parametrize("name", golden_scans.NAMES)
def test_on_real_clips_searches_from_both_sides_meet_at_the_band(family_scans, name):
    """The exact prior of a scene's own clips: what the method can do at best."""
    scan = family_scans[name]
    bank = draw_bank(jax.random.key(0), 6, scan.videos.shape[1:], (8.0, 16.0))
    points, slopes, clips = GRID, jnp.asarray(scan.slopes), jnp.asarray(scan.videos)
    for band in (4.6, 5.1, 5.6):
        denoise = ensemble_denoiser(clips, band_weights(GRID, band))
        mean = np.asarray(forces_along(denoise, clips, slopes, bank)).mean(1)
        ends = [identify.come_to_rest(points, mean, band + side) for side in (-0.7, 0.7)]
        assert max(abs(end - band) for end in ends) < 0.1 and abs(ends[0] - ends[1]) < 0.05
        assert identify.share_of_right_signs(points, mean, band) >= 0.95
