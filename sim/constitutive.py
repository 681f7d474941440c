"""Constitutive laws: from the deformation of a particle to its stress, and its plastic flow.

A matrix is nine arrays of one shape, row after row (`polar`). SI units: pascals, seconds.

Letters: F the elastic deformation gradient, C the velocity gradient 1/s, J = det F, mu and lam
Lame's parameters, p the properties of the particles by name; sigma the singular values of F.

The laws that flow are those of principal logarithmic ("Hencky") stretches e = log(sigma): stress
2 mu e + lam sum(e). Yield conditions bound the norm of the stress deviator, 2 mu |dev e|.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from render.stages import stage
from sim import polar

Matrix = polar.Matrix
Parameters = dict[str, jax.Array]  # of particles, by name: what a law reads
History = tuple[jax.Array, ...]  # what a law remembers, an array [...] for each number
Projected = tuple[list[jax.Array], History]  # F and history after flow


class Law(NamedTuple):
    """A constitutive law."""

    parameters: tuple[str, ...]  # the properties it reads
    stress: Callable  # (F, C, p, history) -> Kirchhoff stress, symmetric, pascals
    energy: Callable  # (F, p, history) -> stored energy per volume at rest, J/m^3
    project: Callable | None = None  # (F, p, history, dt) -> (F, history), after flow
    num_history: int = 0  # numbers that it remembers of a particle, zero at the start
    speed: float = 1.0  # at most so many times faster are its waves than its mu and lam say


_SMALLEST = 0.05  # of J and sigma in logarithms: below it they go on as straight lines


def _guarded_log(x: jax.Array, smallest: float = _SMALLEST) -> tuple[jax.Array, jax.Array]:
    """log(x), and x times its derivative; with a straight line below `smallest`.

    So a collapsed or inverted particle has a finite energy, which falls as it opens again.
    """
    safe = jnp.maximum(x, smallest)
    ratio = x / safe
    return jnp.log(safe) + (ratio - 1.0), ratio


def _row_dot(a: Matrix, b: Matrix, i: int, j: int) -> jax.Array:
    return a[3 * i] * b[3 * j] + a[3 * i + 1] * b[3 * j + 1] + a[3 * i + 2] * b[3 * j + 2]


def _symmetric(entry: Callable, pressure: jax.Array) -> list[jax.Array]:
    """The matrix of `entry(i, j)`, i <= j, plus `pressure` on the diagonal."""
    xy, xz, yz = entry(0, 1), entry(0, 2), entry(1, 2)
    xx, yy, zz = (entry(i, i) + pressure for i in range(3))
    return [xx, xy, xz, xy, yy, yz, xz, yz, zz]


def _jelly_stress(F: Matrix, C: Matrix, p: Parameters, history: History) -> list[jax.Array]:
    """Fixed corotated elasticity: P = 2 mu (F - R) + lam (J - 1) cof F (Stomakhin et al. 2012)."""
    del C, history
    P = [2.0 * p["mu"] * (f - r) for f, r in zip(F, polar.rotation_of(F), strict=True)]
    J = polar.determinant(F)
    return _symmetric(lambda i, j: _row_dot(P, F, i, j), p["lam"] * J * (J - 1.0))


def _jelly_energy(F: Matrix, p: Parameters, history: History) -> jax.Array:
    del history
    stretch = sum((f - r) ** 2 for f, r in zip(F, polar.rotation_of(F), strict=True))
    return p["mu"] * stretch + 0.5 * p["lam"] * (polar.determinant(F) - 1.0) ** 2


def _neo_hookean_stress(F: Matrix, C: Matrix, p: Parameters, history: History) -> list[jax.Array]:
    """mu (F F^T - I) + lam log(J) I (Bonet and Wood 2008)."""
    del C, history
    log_J, slope = _guarded_log(polar.determinant(F))
    pressure = (p["lam"] * log_J - p["mu"]) * slope
    return _symmetric(lambda i, j: p["mu"] * _row_dot(F, F, i, j), pressure)


def _neo_hookean_energy(F: Matrix, p: Parameters, history: History) -> jax.Array:
    del history
    log_J, _ = _guarded_log(polar.determinant(F))
    return p["mu"] * (0.5 * (sum(f * f for f in F) - 3.0) - log_J) + 0.5 * p["lam"] * log_J**2


def _hencky_stress(F: Matrix, C: Matrix, p: Parameters, history: History) -> list[jax.Array]:
    """U diag(2 mu e + lam sum(e)) U^T (Klar et al. 2016)."""
    del C, history
    return polar.symmetric(polar.frame_of(F), lambda s: _principal_stress(s, p, _guarded_log))


def _principal_stress(values: Sequence[jax.Array], p: Parameters, log: Callable) -> list[jax.Array]:
    """Those of Hencky's law where the strains are `log(values)`."""
    e, slopes = zip(*(log(value) for value in values), strict=True)
    pressure = p["lam"] * (e[0] + e[1] + e[2])
    return [(2.0 * p["mu"] * x + pressure) * slope for x, slope in zip(e, slopes, strict=True)]


def _hencky_energy(F: Matrix, p: Parameters, history: History) -> jax.Array:
    del history
    return _quadratic_energy(_log_stretches(polar.frame_of(F).sigma), p)


def _quadratic_energy(e: Sequence[jax.Array], p: Parameters) -> jax.Array:
    return p["mu"] * sum(x * x for x in e) + 0.5 * p["lam"] * sum(e) ** 2


def _log_stretches(sigma: Sequence[jax.Array]) -> list[jax.Array]:
    return [_guarded_log(s)[0] for s in sigma]


def _deviator(e: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """The mean of three arrays, the norm of what is left, and its direction (zero if it is)."""
    mean = (e[0] + e[1] + e[2]) / 3.0
    rest = [x - mean for x in e]
    squared = sum(x * x for x in rest)
    is_zero = squared == 0.0
    norm = jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, squared)))
    return mean, norm, [x / jnp.where(is_zero, 1.0, norm) for x in rest]


def _flow(F: Matrix, plastic_step: Callable) -> Projected:
    """Adds to F the change of `plastic_step`: sigma -> (change of sigma, the one number known)."""
    frame = polar.frame_of(F)
    change = polar.between(frame, lambda sigma: plastic_step(sigma)[0])
    return [f + d for f, d in zip(F, change, strict=True)], (plastic_step(frame.sigma)[1],)


def _von_mises(
    F: Matrix, mu: jax.Array, strength: jax.Array, hardening: jax.Array, strain: jax.Array
) -> Projected:
    """Radial return to |2 mu dev e| = strength + hardening * flow (Simo and Hughes 1998).

    Args:
      F: trial deformation gradient.
      mu: shear modulus, pascals.
      strength: the bound before this step, pascals; below zero as zero.
      hardening: pascals per plastic strain; negative softens.
      strain: plastic strain so far, the history.
    """

    def plastic_step(sigma):
        _, norm, direction = _deviator(_log_stretches(sigma))
        excess = jnp.maximum(2.0 * mu * norm - strength, 0.0)
        # Softening faster than the stress falls, or down to no strength, frees all of it.
        flow = jnp.minimum(excess / jnp.maximum(2.0 * mu + hardening, 1e-3 * mu), norm)
        change = [s * jnp.expm1(-flow * n) for s, n in zip(sigma, direction, strict=True)]
        return change, strain + flow

    return _flow(F, plastic_step)


def _metal_project(F: Matrix, p: Parameters, history: History, dt: jax.Array) -> Projected:
    """Linear hardening; history is the plastic strain."""
    del dt
    (strain,) = history
    hardening = 2.0 * p["mu"] * p["hardening"]
    strength = p["yield_stress"] + hardening * strain
    return _von_mises(F, p["mu"], strength, hardening, strain)


def _plasticine_project(F: Matrix, p: Parameters, history: History, dt: jax.Array) -> Projected:
    """Strength lost with plastic strain, the history."""
    del dt
    (strain,) = history
    strength = p["yield_stress"] - p["softening"] * strain
    return _von_mises(F, p["mu"], strength, -p["softening"], strain)


_BREAKING = 0.1  # share of the yield stress below which plasticine loses its stiffness too


def _softened(p: Parameters, history: History) -> Parameters:
    """The properties of plasticine: stiffness goes, smoothly, with the last of the strength."""
    lost = p["softening"] * history[0] / jnp.maximum(p["yield_stress"], 1e-6 * p["mu"])
    left = jnp.clip((1.0 - lost) / _BREAKING, 0.0, 1.0)
    factor = left * left * (3.0 - 2.0 * left)
    return {"mu": factor * p["mu"], "lam": factor * p["lam"]}


def _plasticine_stress(F: Matrix, C: Matrix, p: Parameters, history: History) -> list[jax.Array]:
    return _hencky_stress(F, C, _softened(p, history), history)


def _plasticine_energy(F: Matrix, p: Parameters, history: History) -> jax.Array:
    return _hencky_energy(F, _softened(p, history), history)


def _sand_project(F: Matrix, p: Parameters, history: History, dt: jax.Array) -> Projected:
    """Drucker-Prager without cohesion (Klar et al. 2016).

    History is the log of the volume gained while falling apart, taken back before the grains
    press again (Tampubolon et al. 2017).
    """
    del dt
    (gained,) = history
    sine = jnp.sin(p["friction_angle"])
    friction = math.sqrt(2.0 / 3.0) * 2.0 * sine / (3.0 - sine)
    mu, lam = p["mu"], p["lam"]

    def plastic_step(sigma):
        mean, norm, direction = _deviator(_log_stretches(sigma))
        mean = mean + gained / 3.0
        is_apart = mean >= 0.0
        bound = -3.0 * mean * friction * (3.0 * lam + 2.0 * mu) / (2.0 * mu)
        flow = jnp.maximum(norm - bound, 0.0)
        change = [
            jnp.where(is_apart, 1.0 - s, s * jnp.expm1(gained / 3.0 - flow * n))
            for s, n in zip(sigma, direction, strict=True)
        ]
        return change, jnp.where(is_apart, 3.0 * mean, 0.0)

    return _flow(F, plastic_step)


def _foam_project(F: Matrix, p: Parameters, history: History, dt: jax.Array) -> Projected:
    """Viscoplastic flow toward |2 mu dev e| = sqrt(2/3) yield stress (Yue et al. 2015)."""
    (strain,) = history

    def plastic_step(sigma):
        _, norm, direction = _deviator(_log_stretches(sigma))
        excess = 2.0 * p["mu"] * norm - math.sqrt(2.0 / 3.0) * p["yield_stress"]
        # Of the excess, the share that flows in dt; all of it without viscosity.
        rate = 2.0 * p["mu"] * dt * sum(s * s for s in sigma) / 3.0
        share = rate / jnp.maximum(rate + p["plastic_viscosity"], 1e-12 * p["mu"] * dt)
        flow = share * jnp.maximum(excess, 0.0) / (2.0 * p["mu"])
        change = [s * jnp.expm1(-flow * n) for s, n in zip(sigma, direction, strict=True)]
        return change, strain + flow

    return _flow(F, plastic_step)


_STIFFEST = 10.0  # times its moduli at rest does packed snow get


def _packed(p: Parameters, history: History) -> Parameters:
    """Moduli of snow, times exp(hardening (1 - Jp)) (Stomakhin et al. 2013, eq. 2)."""
    exponent = p["hardening"] * -jnp.expm1(jnp.minimum(history[0], 1.0))
    factor = jnp.exp(jnp.clip(exponent, -math.log(_STIFFEST), math.log(_STIFFEST)))
    return {"mu": factor * p["mu"], "lam": factor * p["lam"]}


def _snow_stress(F: Matrix, C: Matrix, p: Parameters, history: History) -> list[jax.Array]:
    return _jelly_stress(F, C, _packed(p, history), history)


def _snow_energy(F: Matrix, p: Parameters, history: History) -> jax.Array:
    return _jelly_energy(F, _packed(p, history), history)


def _snow_project(F: Matrix, p: Parameters, history: History, dt: jax.Array) -> Projected:
    """Clamps the stretches (Stomakhin et al. 2013); history is log(Jp)."""
    del dt
    (log_Jp,) = history

    def plastic_step(sigma):
        low, high = 1.0 - p["critical_compression"], 1.0 + p["critical_stretch"]
        clamped = [jnp.clip(s, low, high) for s in sigma]
        lost = sum(_log_stretches(sigma)) - sum(_log_stretches(clamped))
        return [c - s for c, s in zip(clamped, sigma, strict=True)], log_Jp + lost

    return _flow(F, plastic_step)


_EXPONENT = 7.0  # of the fluid's pressure
_DENSEST = 0.5  # J of the fluid below which its pressure goes on as a straight line


def _fluid_pressure(J: jax.Array, bulk_modulus: jax.Array) -> tuple[jax.Array, jax.Array]:
    """K / 7 (J^-7 - 1) (Cole 1948), and its integral, the energy, with K = lam + 2/3 mu."""
    safe = jnp.maximum(J, _DENSEST)
    below = J - safe
    power = safe**-_EXPONENT
    pressure = (power - 1.0) / _EXPONENT
    slope = -power / safe
    energy = ((power * safe - 1.0) / (_EXPONENT - 1.0) + safe - 1.0) / _EXPONENT
    energy = energy - below * (pressure + 0.5 * below * slope)
    return bulk_modulus * (pressure + below * slope), bulk_modulus * energy


def _bulk_modulus(p: Parameters) -> jax.Array:
    return p["lam"] + 2.0 / 3.0 * p["mu"]


def _fluid_stress(F: Matrix, C: Matrix, p: Parameters, history: History) -> list[jax.Array]:
    """Pressure, and 2 viscosity dev(sym C)."""
    del history
    J = polar.determinant(F)
    pressure, _ = _fluid_pressure(J, _bulk_modulus(p))
    drag = p["viscosity"] * J
    spread = 2.0 / 3.0 * (C[0] + C[4] + C[8])
    return _symmetric(
        lambda i, j: drag * (C[3 * i + j] + C[3 * j + i]), -J * pressure - drag * spread
    )


def _fluid_energy(F: Matrix, p: Parameters, history: History) -> jax.Array:
    del history
    return _fluid_pressure(polar.determinant(F), _bulk_modulus(p))[1]


def _fluid_project(F: Matrix, p: Parameters, history: History, dt: jax.Array) -> Projected:
    """Keeps of F the volume alone."""
    del p, dt
    side = jnp.exp(jnp.log(jnp.maximum(polar.determinant(F), _SMALLEST)) / 3.0)
    zero = jnp.zeros_like(side)
    return [side, zero, zero, zero, side, zero, zero, zero, side], history


def _branch_strain(F: Matrix, history: History) -> tuple[list[jax.Array], list[jax.Array]]:
    """b = F G F^T and F G, of G = Cv^-1, the viscous strain that the history tells."""
    xx, xy, xz, yy, yz, zz = history
    G = [1.0 + xx, xy, xz, xy, 1.0 + yy, yz, xz, yz, 1.0 + zz]
    FG = polar.multiply(F, G)
    return polar.multiply(FG, polar.transpose(F)), FG


def _half_log(square: jax.Array) -> tuple[jax.Array, jax.Array]:
    """e = log(square) / 2, and 2 square times its derivative."""
    log, slope = _guarded_log(square, _SMALLEST**2)
    return 0.5 * log, slope


def _viscoelastic_stress(F: Matrix, C: Matrix, p: Parameters, history: History) -> list[jax.Array]:
    """That of equilibrium, neo-Hookean, and beside it a spring on a dashpot: a Maxwell branch.

    The branch is Hencky's law of its elastic strain b, with `branch_ratio` times the moduli
    (Reese and Govindjee 1998; Fang et al. 2019; Liu et al. 2024, Physics3D).
    """
    b, _ = stage(_branch_strain)(F, history)
    frame = polar.frame_of_symmetric(b)
    branch = polar.between(frame, lambda squares: _principal_stress(squares, p, _half_log))
    equilibrium = _neo_hookean_stress(F, C, p, ())
    return [a + p["branch_ratio"] * x for a, x in zip(equilibrium, branch, strict=True)]


def _viscoelastic_energy(F: Matrix, p: Parameters, history: History) -> jax.Array:
    b, _ = _branch_strain(F, history)
    e = [_half_log(s)[0] for s in polar.frame_of_symmetric(b).sigma]
    return _neo_hookean_energy(F, p, ()) + p["branch_ratio"] * _quadratic_energy(e, p)


def _viscoelastic_project(F: Matrix, p: Parameters, history: History, dt: jax.Array) -> Projected:
    """Relaxes the branch: e -> e exp(-dt / tau), tau = branch_viscosity / (branch_ratio mu).

    History is Cv^-1 - 1, upper triangle row after row. The dashpot resists a change of volume as
    the spring does, so shape and volume relax together.
    """
    b, FG = stage(_branch_strain)(F, history)
    stiffness = p["branch_ratio"] * p["mu"] * dt
    rate = stiffness / jnp.maximum(p["branch_viscosity"], 1e-12 * p["mu"] * dt)

    def change(square):  # of b, between two of its inverses
        change_of_e = jnp.expm1(-rate) * _half_log(square)[0]
        return jnp.expm1(2.0 * change_of_e) / jnp.maximum(square, _SMALLEST**2)

    frame = polar.frame_of_symmetric(b)
    M = polar.between(frame, lambda squares: [change(square) for square in squares])
    return list(F), stage(_relaxed)(history, FG, M)


def _relaxed(history: History, FG: Matrix, M: Matrix) -> History:
    """Adds (F G)^T M F G, which is F^-1 (change of b) F^-T without the inverse."""
    MFG = polar.multiply(M, FG)
    pairs = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    change = [sum(FG[3 * k + i] * MFG[3 * k + j] for k in range(3)) for i, j in pairs]
    return tuple(a + b for a, b in zip(history, change, strict=True))


_ELASTIC = ("mu", "lam")
_HENCKY = (_hencky_stress, _hencky_energy)

LAWS = {
    "jelly": Law(_ELASTIC, _jelly_stress, _jelly_energy),
    "neo_hookean": Law(_ELASTIC, _neo_hookean_stress, _neo_hookean_energy),
    "hencky": Law(_ELASTIC, *_HENCKY),
    "metal": Law((*_ELASTIC, "yield_stress", "hardening"), *_HENCKY, _metal_project, 1),
    "sand": Law((*_ELASTIC, "friction_angle"), *_HENCKY, _sand_project, 1),
    "foam": Law((*_ELASTIC, "yield_stress", "plastic_viscosity"), *_HENCKY, _foam_project, 1),
    "snow": Law(
        (*_ELASTIC, "hardening", "critical_compression", "critical_stretch"),
        *(_snow_stress, _snow_energy, _snow_project, 1),
        speed=math.sqrt(_STIFFEST),
    ),
    "plasticine": Law(
        (*_ELASTIC, "yield_stress", "softening"),
        *(_plasticine_stress, _plasticine_energy, _plasticine_project, 1),
    ),
    "fluid": Law((*_ELASTIC, "viscosity"), _fluid_stress, _fluid_energy, _fluid_project),
    "viscoelastic": Law(
        (*_ELASTIC, "branch_ratio", "branch_viscosity"),
        *(_viscoelastic_stress, _viscoelastic_energy, _viscoelastic_project, 6),
    ),
}
