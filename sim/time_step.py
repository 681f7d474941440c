"""How long a substep may be.

Letters: dx side of a cell, K bulk modulus, rho density, eta viscosity, c speed of waves.

One explicit step v += dt a(F), F += dt grad(v) F is stable while dt omega < 2 for every frequency
omega of matter on the grid. With quadratic splines a particle's velocity gradient is
4 / dx^2 sum_i w_i v_i d_i^T, where sum_i w_i d_i d_i^T = dx^2 / 4, so by Cauchy and Schwarz
|grad v|^2 <= 4 / dx^2 sum_i w_i |v_i|^2: no particle, however placed, stores elastic energy faster
than omega^2 = 4 / dx^2 * (3 lambda + 2 mu) / rho allows (uniform compression is the stiffest
motion, 3 lambda + 2 mu = 3 K). Hence dt <= dx / sqrt(3 K / rho): sharp for a particle alone, and
what PhysGaussian's own ficus keeps with 6 % to spare. Viscous stress 2 eta D adds the damping rate
gamma = 4 / dx^2 * 2 eta / rho, and dt^2 omega^2 + 2 dt gamma <= 4. A Maxwell branch is a spring
beside the first until it relaxes: its moduli are added.

The bound is that of small strains; what is pressed together gets stiffer. A substep that is chosen
here stays at `CFL` of it. (Sun, Shinar and Schroeder 2020 derive bounds of the kind for MPM.)
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from sim.constitutive import LAWS
from sim.material import Material, lame_parameters
from sim.scene import SceneFile

CFL = 0.5


class TimeStep(NamedTuple):
    """A substep that divides a frame."""

    dt: float  # seconds
    per_frame: int
    bound: float  # seconds; longer is unstable


def largest_dt(material: Material, dx: float, speed: float = 0.0) -> float:
    """Returns the longest stable substep of particles that move at `speed`, seconds.

    Matter is not to cross a cell in a step either, which is what `speed` is for.
    """
    return _largest_dt(material, dx, speed, is_at_rest=True)


def choose_time_step(scene: SceneFile, material: Material, dx: float) -> TimeStep:
    """Chooses the substep of a scene, or checks the one it gives, and fits it into a frame.

    Args:
      scene: of which are read: times, motion, boundary conditions.
      material: of the particles.
      dx: side of a cell, metres.

    Raises:
      ValueError: when the given one is longer than `largest_dt`.
    """
    bound = largest_dt(material, dx, _start_speed(scene))
    wanted = scene.substep_dt
    if wanted is None:
        speed = max(_start_speed(scene), _later_speed(scene))
        wanted = CFL * _largest_dt(material, dx, speed, is_at_rest=False)
    elif wanted > bound * (1.0 + 1e-6):
        raise ValueError(
            f"expected a substep_dt of at most {_floor(bound):g} s, as stiffness and density in "
            f"cells of {dx:g} m allow, found {wanted:g} in {scene.path}"
        )
    per_frame = max(1, math.ceil(scene.frame_dt / wanted - 1e-6))
    return TimeStep(scene.frame_dt / per_frame, per_frame, bound)


def _largest_dt(material: Material, dx: float, speed: float, is_at_rest: bool) -> float:
    """The bound at rest, or that of the fastest waves that a law may come to have."""
    shear, lam = lame_parameters(material)
    modulus = np.asarray(3.0 * lam + 2.0 * shear, np.float64)
    factor = [1.0 if is_at_rest else LAWS[law].speed ** 2 for law, _ in material.laws]
    has_branch = ["branch_ratio" in LAWS[law].parameters for law, _ in material.laws]
    counts = [count for _, count in material.laws]
    share = np.repeat(has_branch, counts) * np.asarray(material.branch_ratio, np.float64)
    modulus = modulus * np.repeat(factor, counts) * (1.0 + share)
    density = np.asarray(material.density, np.float64)
    omega = 2.0 / dx * np.sqrt(modulus / density)
    gamma = 8.0 / dx**2 * np.asarray(jnp.asarray(material.viscosity), np.float64) / density
    dt = 4.0 / (gamma + np.sqrt(gamma**2 + 4.0 * omega**2))
    return float(1.0 / (1.0 / np.min(dt) + speed / dx))


def _start_speed(scene: SceneFile) -> float:
    reach = 0.5 * math.sqrt(3.0) * scene.scale
    return math.hypot(*scene.velocity) + reach * math.hypot(*scene.angular_velocity)


def _later_speed(scene: SceneFile) -> float:
    """How fast matter may get by falling through the box and by what the scene moves."""
    falling = math.sqrt(2.0 * math.hypot(*scene.gravity) * scene.grid_lim)
    return max([falling, *(condition.top_speed for condition in scene.boundaries)])


def _floor(value: float) -> float:
    """Rounds down to three digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.floor(value / unit) * unit
