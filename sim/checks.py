"""Physics-based metrics of a simulated motion: what a look at the video does not tell.

`sample` sums up a moment of the simulation on the device, `metrics` what such moments say together:
whether energy and momentum are kept, how long bodies touch, how they swing, how far matter yields.

Axes: N particles, T moments. SI units: joules, kilograms, metres, seconds. Distances from obstacles
are signed: negative inside.

Letters: x, v, C, F as in `mpm.py`; dx the grid's spacing. A particle carries an affine velocity
field, v + C r, spread over the grid with a variance of dx^2 / 4 per axis (quadratic B-splines); its
kinetic energy and angular momentum are part of the sums.

Sources: Jiang et al. 2015 (APIC; angular momentum, section 5.3).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sim import polar
from sim.constitutive import LAWS
from sim.material import Material, lame_parameters
from sim.mpm import MpmState
from sim.oscillation import find_oscillation


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
    """Stored energy [] of particles with F [N, 3, 3] and history [N, H], joules, run by run."""
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
        remembered = tuple(history[run, i] for i in range(law.num_history))
        density = law.energy(_lanes(F[run]), p, remembered)
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


def metrics(
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
    swing = find_oscillation(s.seconds, height if signal is None else signal)
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


def _ratio(value: float, scale: float) -> float | None:
    return value / scale if scale > 0 else None


def _plain(value):
    """A number that JSON knows; None for one that is not finite."""
    if value is None or isinstance(value, bool | int):
        return value
    return float(value) if np.isfinite(value) else None
