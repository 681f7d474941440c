"""Swings whose frequency, damping and amplitude are known."""

import numpy as np
import pytest

from sim.oscillation import find_oscillation


@pytest.mark.parametrize("frequency", [0.73, 2.0, 9.1])
@pytest.mark.parametrize("damping", [0.0, 0.02, 0.1, 0.3])
def test_a_damped_sine_is_found_to_a_hundredth(frequency, damping):
    t = 1.0 + np.arange(150) / 30
    pulse = 2 * np.pi * frequency
    decay = damping / np.sqrt(1 - damping**2) * pulse
    y = 5.0 + 0.1 * t + 0.3 * np.exp(-decay * (t - 1)) * np.cos(pulse * (t - 1) + 0.7)
    found = find_oscillation(t, y)
    np.testing.assert_allclose(found.frequency_hz, frequency, rtol=0.01)
    np.testing.assert_allclose(found.damping_ratio, damping, rtol=0.01, atol=1e-4)
    np.testing.assert_allclose(found.amplitude, 0.3, rtol=0.01)
    assert found.is_sure and found.explained_share > 0.999


def test_a_swing_that_grows_has_a_negative_damping():
    t = np.arange(150) / 30
    found = find_oscillation(t, np.exp(0.3 * t) * np.cos(12 * t))
    np.testing.assert_allclose(found.damping_ratio, -0.3 / np.hypot(0.3, 12), rtol=0.01)
    np.testing.assert_allclose(found.amplitude, 1.0, rtol=0.01)


def test_noise_widens_the_error_and_is_not_taken_for_a_swing():
    rng = np.random.default_rng(0)
    t = np.arange(200) / 50
    y = np.exp(-0.5 * t) * np.sin(2 * np.pi * 2.0 * t)
    found = find_oscillation(t, y + 0.1 * rng.normal(size=200))
    np.testing.assert_allclose(found.frequency_hz, 2.0, atol=4 * found.frequency_error_hz)
    assert 1e-3 < found.frequency_error_hz < 0.05 and found.is_sure
    assert not find_oscillation(t, rng.normal(size=200)).is_sure


def test_uneven_samples_and_holes_are_borne():
    rng = np.random.default_rng(1)
    t = np.sort(rng.uniform(0, 6, 200))
    y = np.exp(-0.3 * t) * np.cos(2 * np.pi * 1.5 * t)
    y[[3, 50]] = np.nan
    found = find_oscillation(t, y)
    np.testing.assert_allclose(found.frequency_hz, 1.5, rtol=0.01)
    np.testing.assert_allclose(found.damping_ratio, 0.3 / np.hypot(0.3, 3 * np.pi), rtol=0.01)


@pytest.mark.parametrize("signal", [np.zeros(50), np.full(50, 3.0), np.linspace(0, 9, 50)])
def test_what_does_not_swing_has_no_frequency(signal):
    found = find_oscillation(np.arange(50) / 10, signal)
    assert np.isnan(found.frequency_hz) and not found.is_sure
    assert np.isnan(find_oscillation(np.arange(3.0), np.arange(3.0)).frequency_hz)


def test_a_free_fall_is_not_sure_to_swing():
    t = np.arange(30) / 30
    assert not find_oscillation(t, 1.0 - 4.9 * t**2).is_sure
