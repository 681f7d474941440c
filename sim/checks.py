"""Physics-based metrics of a simulated motion: what a look at the video does not tell.

`sample` sums up a moment of the simulation on the device, `report` what such moments say together:
whether energy and momentum are kept, how long bodies touch, how they swing, how far matter yields.

Axes: N particles, T moments. SI units: joules, kilograms, metres, seconds. Distances from obstacles
are signed: negative inside.

Letters: x, v, C, F as in `mpm.py`; dx the grid's spacing. A particle carries an affine velocity
field, v + C r, spread over the grid with a variance of dx^2 / 4 per axis (quadratic B-splines); its
kinetic energy and angular momentum are part of the sums.

Sources: Jiang et al. 2015 (APIC; angular momentum, section 5.3); Golub and Pereyra 1973 (variable
projection, the fit of the damped sine).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import least_squares

from sim import polar
from sim.constitutive import LAWS
from sim.material import Material, lame_parameters
from sim.mpm import MpmState

_SURE_SHARE = 0.9  # of the signal's variance that a fit explains
_SURE_CYCLES = 1.5
_PADDING = 8  # finer steps of the spectrum
_DAMPING_GUESSES = (0.0, 0.05, 0.3, 1.0)  # decay over angular frequency
_DECAY_BOUNDS = (-0.2, 5.0)  # likewise; a motion that grows has a negative one
_MIN_CYCLES = 0.4  # in the time that was sampled


class Sample(NamedTuple):
    """A moment of a simulation in a few numbers; stacked, each leaf is [T, ...]."""

    seconds: jax.Array  # []
    kinetic: jax.Array  # [] joules, the affine motion's with it
    elastic: jax.Array  # [] joules
    potential: jax.Array  # [] joules, of gravity; zero at the origin
    momentum: jax.Array  # [3] kg m/s
    angular_momentum: jax.Array  # [3] kg m^2/s, about the centre of mass
    center: jax.Array  # [3] metres, of mass
    clearance: jax.Array  # [] metres from the obstacle to the nearest particle; infinite without
    penetrating: jax.Array  # [] share of the particles inside the obstacle
    smallest_volume: jax.Array  # [] det F; of the elastic part alone, as F is
    largest_volume: jax.Array
    mean_volume: jax.Array  # weighted by the volume at rest
    largest_stretch: jax.Array  # [] singular value of F


class EnergyReport(NamedTuple):
    """How a total of energies changes; the scale is the most that any one of them changes."""

    scale: float  # joules
    drift: float  # joules, last minus first
    largest_gain: float  # joules above the least before; a passive system must not gain


class Contacts(NamedTuple):
    """When a body touches; times are interpolated between samples."""

    intervals: list[tuple[float, float]]  # seconds, begin and end
    num_impacts: int  # of the intervals, those that begin while it is watched


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


def sample(
    state: MpmState,
    material: Material,
    gravity: jax.Array,
    dx: float,
    distance: Callable[[jax.Array], jax.Array] | None = None,
) -> Sample:
    """Sums up a moment. Compile it with `jax.jit`, `dx` and `distance` closed over.

    Args:
      state: particles.
      material: of all of them.
      gravity: [3] m/s^2.
      dx: metres.
      distance: signed distances [N] of places [N, 3] from what they are not to enter, metres;
        several obstacles are the minimum of theirs.
    """
    x, v, C, F = state.x, state.v, state.C, state.F
    mass = jnp.broadcast_to(material.density, state.volume.shape) * state.volume
    gap = jnp.full(len(x), jnp.inf, x.dtype) if distance is None else distance(x)
    ratio = polar.determinant(_lanes(F))
    return Sample(
        seconds=state.time,
        kinetic=kinetic_energy(mass, v, C, dx),
        elastic=elastic_energy(F, state.history, state.volume, material),
        potential=potential_energy(mass, x, gravity),
        momentum=linear_momentum(mass, v),
        angular_momentum=angular_momentum(mass, x, v, C, dx),
        center=center_of_mass(mass, x),
        clearance=jnp.min(gap),
        penetrating=jnp.mean((gap < 0).astype(x.dtype)),
        smallest_volume=jnp.min(ratio),
        largest_volume=jnp.max(ratio),
        mean_volume=jnp.sum(state.volume * ratio) / jnp.sum(state.volume),
        largest_stretch=jnp.max(largest_stretch(F)),
    )


def kinetic_energy(mass: jax.Array, v: jax.Array, C: jax.Array, dx: float) -> jax.Array:
    """Kinetic energy [] of particles and of the affine motion within them, joules."""
    squared = jnp.sum(v * v, -1) + 0.25 * dx**2 * jnp.sum(C * C, (-2, -1))
    return 0.5 * jnp.sum(mass * squared)


def elastic_energy(
    F: jax.Array, history: jax.Array, volume: jax.Array, material: Material
) -> jax.Array:
    """Stored energy [] of particles, by the law of each run, joules."""
    mu, lam = lame_parameters(material)
    known = {"mu": mu, "lam": lam}
    total, start = jnp.zeros((), F.dtype), 0
    for name, size in material.laws:
        run = slice(start, start + size)
        start += size
        law = LAWS[name]
        values = {key: known.get(key, getattr(material, key, None)) for key in law.parameters}
        p = {
            key: jnp.broadcast_to(jnp.asarray(value, F.dtype), volume.shape)[run]
            for key, value in values.items()
        }
        density = law.energy(_lanes(F[run]), p, history[run])
        total += jnp.sum(volume[run] * density)
    if start != len(F):
        raise ValueError(f"expected laws of {len(F)} particles, found {start}")
    return total


def potential_energy(mass: jax.Array, x: jax.Array, gravity: jax.Array) -> jax.Array:
    """Energy [] of particles in a field of gravity [3], zero at the origin, joules."""
    return -jnp.sum(mass * (x @ jnp.asarray(gravity, x.dtype)))


def linear_momentum(mass: jax.Array, v: jax.Array) -> jax.Array:
    """Momentum [3], kg m/s."""
    return mass @ v


def center_of_mass(mass: jax.Array, x: jax.Array) -> jax.Array:
    """Centre of mass [3], metres."""
    return mass @ x / jnp.sum(mass)


def angular_momentum(
    mass: jax.Array, x: jax.Array, v: jax.Array, C: jax.Array, dx: float
) -> jax.Array:
    """Angular momentum [3] about the centre of mass, kg m^2/s.

    A particle that turns by w has C = [w]x, whose axial vector is 2 w.
    """
    arm = x - center_of_mass(mass, x)
    axial = jnp.stack(
        [C[:, 2, 1] - C[:, 1, 2], C[:, 0, 2] - C[:, 2, 0], C[:, 1, 0] - C[:, 0, 1]], -1
    )
    return mass @ (jnp.cross(arm, v) + 0.25 * dx**2 * axial)


def largest_stretch(F: jax.Array) -> jax.Array:
    """The largest singular value of each F [..., 3, 3]: how many times longer a line has become.

    The root of the largest eigenvalue of F^T F, by the trigonometric formula (Smith 1961).
    """
    a = _lanes(F)
    S = polar.multiply(polar.transpose(a), a)
    mean = (S[0] + S[4] + S[8]) / 3.0
    S = [s - mean if k in (0, 4, 8) else s for k, s in enumerate(S)]
    spread = jnp.sqrt(sum(s * s for s in S) / 6.0)
    unit = jnp.where(spread > 0, spread, 1.0)
    cosine = 0.5 * polar.determinant([s / unit for s in S])
    angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0)) / 3.0
    return jnp.sqrt(mean + 2.0 * spread * jnp.cos(angle))


def plane_distance(x: jax.Array, point: jax.Array, normal: jax.Array) -> jax.Array:
    """Heights [N] of places [N, 3] above a plane with a unit normal, metres."""
    return (x - jnp.asarray(point)) @ jnp.asarray(normal, x.dtype)


def sphere_distance(x: jax.Array, center: jax.Array, radius: float) -> jax.Array:
    """Distances [N] of places [N, 3] from a ball, metres."""
    return jnp.linalg.norm(x - jnp.asarray(center), axis=-1) - radius


def box_distance(x: jax.Array, center: jax.Array, half_sides: jax.Array) -> jax.Array:
    """Distances [N] of places [N, 3] from a box along the axes, metres."""
    beyond = jnp.abs(x - jnp.asarray(center)) - jnp.asarray(half_sides)
    outside = jnp.linalg.norm(jnp.maximum(beyond, 0.0), axis=-1)
    return outside + jnp.minimum(jnp.max(beyond, -1), 0.0)


def energy_report(kinetic: np.ndarray, elastic: np.ndarray, potential: np.ndarray) -> EnergyReport:
    """Tells how well a total of energies [T], joules, is kept."""
    parts = np.stack([np.asarray(v, np.float64) for v in (kinetic, elastic, potential)])
    total = parts.sum(0)
    gain = total - np.minimum.accumulate(total)
    return EnergyReport(
        scale=float(np.max(np.ptp(parts, 1))),
        drift=float(total[-1] - total[0]),
        largest_gain=float(gain.max()),
    )


def contacts(seconds: np.ndarray, clearance: np.ndarray, tolerance: float) -> Contacts:
    """Finds when a body is within `tolerance` metres of an obstacle.

    A bounce that is shorter than the time between two samples may be missed.

    Args:
      seconds: [T] of the samples.
      clearance: [T] metres, of the nearest point.
      tolerance: metres; about half the grid's spacing, which is where matter feels a wall.
    """
    t, gap = np.asarray(seconds, np.float64), np.asarray(clearance, np.float64) - tolerance
    touches = gap <= 0
    change = np.flatnonzero(touches[1:] != touches[:-1])
    crossing = t[change] + np.diff(t)[change] * gap[change] / (gap[change] - gap[change + 1])
    begins, ends = crossing[~touches[change]].tolist(), crossing[touches[change]].tolist()
    num_impacts = len(begins)
    if touches[0]:
        begins.insert(0, float(t[0]))
    if touches[-1]:
        ends.append(float(t[-1]))
    return Contacts(list(zip(begins, ends, strict=True)), num_impacts)


def oscillation(seconds: np.ndarray, signal: np.ndarray) -> Oscillation:
    """Finds the damped sine that explains most of a signal, on the host.

    The peaks of the spectrum are where least squares for frequency and decay begin; phase,
    amplitude and a straight line below are solved for within (variable projection). What swings
    faster than twice per sample is taken for something slower.

    Args:
      seconds: [T] growing.
      signal: [T] of any unit: a height, the way of a tip.
    """
    t, y = np.asarray(seconds, np.float64), np.asarray(signal, np.float64)
    nothing = Oscillation(*[float("nan")] * 3, float("nan"), 0.0, 0.0)
    is_known = np.isfinite(y)
    t, y = t[is_known] - t[0], y[is_known]
    if len(t) < 8:
        return nothing
    span = t[-1] - t[0]
    line = np.stack([np.ones_like(t), t / span], -1)
    rest = y - line @ np.linalg.lstsq(line, y)[0]
    size = float(np.std(rest))
    if size <= 1e-9 * max(float(np.max(np.abs(y))), 1e-300):
        return nothing
    rest = rest / size

    def columns(guess: np.ndarray) -> np.ndarray:
        frequency, decay = guess  # radians per second; per radian
        wave, fade = frequency * t, np.exp(-decay * frequency * t)
        fade = fade / max(fade[0], fade[-1])
        return np.concatenate([np.stack([fade * np.cos(wave), fade * np.sin(wave)], -1), line], -1)

    def residual(guess: np.ndarray) -> np.ndarray:
        basis = columns(guess)
        return rest - basis @ np.linalg.lstsq(basis, rest)[0]

    lowest, highest = 2 * np.pi * _MIN_CYCLES / span, np.pi * (len(t) - 1) / span
    bounds = (lowest, _DECAY_BOUNDS[0]), (highest, _DECAY_BOUNDS[1])
    guesses = [
        (np.clip(frequency, 1.01 * lowest, 0.99 * highest), decay)
        for frequency in _spectrum_peaks(t, rest)
        for decay in _DAMPING_GUESSES
    ]
    # The best beginnings only: most of the guesses lead to the same place.
    guesses.sort(key=lambda guess: float(np.sum(residual(np.array(guess)) ** 2)))
    fits = [
        least_squares(residual, guess, bounds=bounds, x_scale=(guess[0], 1.0), xtol=1e-12)
        for guess in guesses[:3]
    ]
    fit = min(fits, key=lambda fit: fit.cost)
    frequency, decay = fit.x
    basis = columns(fit.x)
    weights = np.linalg.lstsq(basis, rest)[0]
    fade = np.exp(-decay * frequency * span)
    spare = max(len(t) - 6, 1)
    covariance = np.linalg.pinv(fit.jac.T @ fit.jac) * 2.0 * fit.cost / spare
    return Oscillation(
        frequency_hz=float(frequency / (2 * np.pi)),
        damping_ratio=float(decay / np.hypot(1.0, decay)),
        amplitude=float(size * np.hypot(*weights[:2]) / max(1.0, fade)),
        frequency_error_hz=float(np.sqrt(covariance[0, 0]) / (2 * np.pi)),
        explained_share=float(1.0 - 2.0 * fit.cost / len(t)),
        num_cycles=float(frequency * span / (2 * np.pi)),
    )


def report(
    samples: Sample,
    tolerance: float,
    up: tuple[float, float, float] = (0.0, 1.0, 0.0),
    signal: np.ndarray | None = None,
) -> dict[str, float | int | bool | None]:
    """Tells what samples say together, in flat names for report.json; None is "not to be told".

    Args:
      samples: stacked, [T, ...].
      tolerance: metres that count as contact.
      up: unit vector that heights are along.
      signal: [T] what may swing; the height of the centre of mass without it.
    """
    s = Sample(*(np.asarray(leaf, np.float64) for leaf in samples))
    energy = energy_report(s.kinetic, s.elastic, s.potential)
    height = s.center @ np.asarray(up, np.float64)
    swing = oscillation(s.seconds, height if signal is None else signal)
    has_obstacle = bool(np.isfinite(s.clearance).any())
    touched = contacts(s.seconds, s.clearance, tolerance) if has_obstacle else Contacts([], 0)
    found = {
        "seconds": s.seconds[-1] - s.seconds[0],
        "energy_scale_joules": energy.scale,
        "energy_drift_joules": energy.drift,
        "energy_drift_ratio": _ratio(energy.drift, energy.scale),
        "energy_largest_gain_joules": energy.largest_gain,
        "energy_largest_gain_ratio": _ratio(energy.largest_gain, energy.scale),
        "kinetic_energy_peak_joules": s.kinetic.max(),
        "elastic_energy_peak_joules": s.elastic.max(),
        "momentum_change_kg_m_per_s": np.linalg.norm(s.momentum[-1] - s.momentum[0]),
        "momentum_peak_kg_m_per_s": np.linalg.norm(s.momentum, axis=-1).max(),
        "angular_momentum_change_kg_m2_per_s": np.linalg.norm(
            s.angular_momentum[-1] - s.angular_momentum[0]
        ),
        "angular_momentum_peak_kg_m2_per_s": np.linalg.norm(s.angular_momentum, axis=-1).max(),
        "center_way_metres": np.linalg.norm(np.diff(s.center, axis=0), axis=-1).sum(),
        "center_lowest_metres": height.min(),
        "center_highest_metres": height.max(),
        "penetration_peak_metres": max(-s.clearance.min(), 0.0) if has_obstacle else None,
        "penetration_peak_share": s.penetrating.max() if has_obstacle else None,
        "contact_seconds": sum(end - begin for begin, end in touched.intervals),
        "contact_first_seconds": touched.intervals[0][0] if touched.intervals else None,
        "contact_last_seconds": touched.intervals[-1][1] if touched.intervals else None,
        "contact_longest_seconds": max((b - a for a, b in touched.intervals), default=0.0),
        "contact_intervals": len(touched.intervals),
        "contact_impacts": touched.num_impacts,
        "oscillation_frequency_hz": swing.frequency_hz,
        "oscillation_frequency_error_hz": swing.frequency_error_hz,
        "oscillation_damping_ratio": swing.damping_ratio,
        "oscillation_amplitude": swing.amplitude,
        "oscillation_cycles": swing.num_cycles,
        "oscillation_explained_share": swing.explained_share,
        "oscillation_is_sure": swing.is_sure,
        "volume_ratio_smallest": s.smallest_volume.min(),
        "volume_ratio_largest": s.largest_volume.max(),
        "volume_ratio_mean_smallest": s.mean_volume.min(),
        "volume_ratio_mean_largest": s.mean_volume.max(),
        "stretch_largest": s.largest_stretch.max(),
    }
    return {name: _plain(value) for name, value in found.items()}


def _lanes(F: jax.Array) -> list[jax.Array]:
    return [F[..., i, j] for i in range(3) for j in range(3)]


def _spectrum_peaks(t: np.ndarray, signal: np.ndarray, most: int = 3) -> list[float]:
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


def _ratio(value: float, scale: float) -> float | None:
    return value / scale if scale > 0 else None


def _plain(value):
    """A number that JSON knows; None for one that is not finite."""
    if value is None or isinstance(value, bool | int):
        return value
    return float(value) if np.isfinite(value) else None
