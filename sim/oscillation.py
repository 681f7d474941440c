"""How a signal swings: frequency, damping and amplitude of a damped sine, and how sure they are.

Axes: T samples. On the host, in float64.

Sources: Golub and Pereyra 1973 (variable projection, the fit of the damped sine).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, least_squares

_FEWEST = 8  # samples that a fit is made to
_SURE_SHARE = 0.9  # of the signal's variance that a fit explains
_SURE_CYCLES = 1.5
_PADDING = 8  # finer steps of the spectrum
_DAMPING_GUESSES = (0.0, 0.05, 0.3, 1.0)  # decay over angular frequency
_DECAY_BOUNDS = (-0.2, 5.0)  # likewise; a motion that grows has a negative one
_MIN_CYCLES = 0.4  # in the time that was sampled
_NUM_FITS = 3
_NUM_UNKNOWNS = 6  # frequency, decay, two of the wave, two of the line


class Oscillation(NamedTuple):
    """A damped sine a exp(-d t) cos(w t + phase) in a signal; NaN where there is none."""

    frequency_hz: float  # w / 2 pi, as it is seen
    damping_ratio: float  # d / sqrt(d^2 + w^2), of critical damping; negative where it grows
    amplitude: float  # a at the first sample, in the signal's unit
    frequency_error_hz: float  # standard deviation, were what is left independent noise
    explained_share: float  # of the variance about a straight line
    num_cycles: float  # in the time that was sampled

    @property
    def is_sure(self) -> bool:
        return self.explained_share >= _SURE_SHARE and self.num_cycles >= _SURE_CYCLES


_NOTHING = Oscillation(*[float("nan")] * 4, explained_share=0.0, num_cycles=0.0)


def find_oscillation(seconds: NDArray, signal: NDArray) -> Oscillation:
    """Finds the damped sine that explains most of a signal.

    The peaks of the spectrum are where least squares for frequency and decay begin; phase,
    amplitude and a straight line below are solved for within (variable projection). What swings
    faster than twice per sample is taken for something slower.

    Args:
      seconds: [T] growing.
      signal: [T] of any unit: a height, the way of a tip. What is not finite is left out.
    """
    t, y = np.asarray(seconds, np.float64), np.asarray(signal, np.float64)
    is_known = np.isfinite(y)
    t, y = t[is_known] - t[0], y[is_known]
    if len(t) < _FEWEST:
        return _NOTHING
    rest = _projected_out(_line(t), y)
    size = float(np.std(rest))
    if size <= 1e-9 * max(float(np.max(np.abs(y))), 1e-300):
        return _NOTHING
    rest = rest / size
    fit = _fit_damped_sine(t, rest)
    frequency, decay = fit.x
    span = t[-1] - t[0]
    weights = np.linalg.lstsq(_columns(fit.x, t), rest)[0]
    fade = np.exp(-decay * frequency * span)
    spare = max(len(t) - _NUM_UNKNOWNS, 1)
    covariance = np.linalg.pinv(fit.jac.T @ fit.jac) * 2.0 * fit.cost / spare
    return Oscillation(
        frequency_hz=float(frequency / (2 * np.pi)),
        damping_ratio=float(decay / np.hypot(1.0, decay)),
        amplitude=float(size * np.hypot(*weights[:2]) / max(1.0, fade)),
        frequency_error_hz=float(np.sqrt(covariance[0, 0]) / (2 * np.pi)),
        explained_share=float(1.0 - 2.0 * fit.cost / len(t)),
        num_cycles=float(frequency * span / (2 * np.pi)),
    )


def _line(t: NDArray) -> NDArray:
    """The columns [T, 2] of a straight line."""
    return np.stack([np.ones_like(t), t / (t[-1] - t[0])], -1)


def _projected_out(basis: NDArray, signal: NDArray) -> NDArray:
    """What the columns [T, C] of a basis leave of a signal [T]."""
    return signal - basis @ np.linalg.lstsq(basis, signal)[0]


def _columns(guess: NDArray, t: NDArray) -> NDArray:
    """The columns [T, 4] of a damped sine, and of a line: what is linear in the model.

    A guess is the angular frequency, radians per second, and the decay per radian.
    """
    frequency, decay = guess
    wave, fade = frequency * t, np.exp(-decay * frequency * t)
    fade = fade / max(fade[0], fade[-1])
    swing = np.stack([fade * np.cos(wave), fade * np.sin(wave)], -1)
    return np.concatenate([swing, _line(t)], -1)


def _fit_damped_sine(t: NDArray, signal: NDArray) -> OptimizeResult:
    """The best fit of frequency and decay, begun at the peaks of the spectrum."""

    def residual(guess: NDArray) -> NDArray:
        return _projected_out(_columns(guess, t), signal)

    span = t[-1] - t[0]
    lowest, highest = 2 * np.pi * _MIN_CYCLES / span, np.pi * (len(t) - 1) / span
    bounds = (lowest, _DECAY_BOUNDS[0]), (highest, _DECAY_BOUNDS[1])
    guesses = [
        (np.clip(frequency, 1.01 * lowest, 0.99 * highest), decay)
        for frequency in _spectrum_peaks(t, signal)
        for decay in _DAMPING_GUESSES
    ]
    # The best beginnings only: most of the guesses lead to the same place.
    guesses.sort(key=lambda guess: float(np.sum(residual(np.array(guess)) ** 2)))
    fits = [
        least_squares(residual, guess, bounds=bounds, x_scale=(guess[0], 1.0), xtol=1e-12)
        for guess in guesses[:_NUM_FITS]
    ]
    return min(fits, key=lambda fit: fit.cost)


def _spectrum_peaks(t: NDArray, signal: NDArray, most: int = 3) -> list[float]:
    """Angular frequencies of the highest peaks of a signal's spectrum, the highest first."""
    even = np.linspace(t[0], t[-1], len(t))
    values = np.interp(even, t, signal) * np.hanning(len(t) + 2)[1:-1]
    power = np.abs(np.fft.rfft(values, _PADDING * len(t)))
    step = 2 * np.pi * (len(t) - 1) / ((t[-1] - t[0]) * _PADDING * len(t))
    inner = np.flatnonzero((power[1:-1] >= power[:-2]) & (power[1:-1] > power[2:])) + 1
    if not len(inner):
        inner = np.array([max(int(np.argmax(power[1:-1])) + 1, 1)])
    inner = inner[np.argsort(-power[inner], kind="stable")][:most]
    peaks = []
    for k in inner:
        before, here, after = np.log(power[k - 1 : k + 2] + 1e-300)
        bend = before - 2 * here + after
        shift = 0.5 * (before - after) / bend if bend < 0 else 0.0
        peaks.append(step * (k + np.clip(shift, -0.5, 0.5)))
    return peaks
