"""Draws scenes of a family: blobs on a stem that is kicked, or blobs that fall.

A scene follows from its family and a number alone. Shapes are unions of ellipsoids and a stem,
filled by a jittered lattice of particles; each particle is one Gaussian.

Axes: P particles, B blobs. Places in metres in the box, z up.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from sim.boundary import BoundingBox, Conditions, Enforced
from sim.carry import bind
from sim.families.family import Family
from sim.grid import GridConfig
from sim.material import Material
from sim.motion_video import LN10, draw_particles, rest_colors, with_colors
from sim.mpm import MpmConfig, initial_state
from sim.particles import Placement
from sim.simulation import Simulation

Inside = Callable[[np.ndarray], np.ndarray]  # of points [P, 3]: whether matter is there [P]

_POISSON_RATIO = (0.2, 0.35)
_PROBES = 40_000  # points that measure a volume: to half a percent of its box
_JITTER = 0.3  # of the lattice's pitch, to each side
_FOREVER = 1e9  # seconds


def random_scene(number: int, family: Family) -> Simulation:
    """Returns scene `number` of a family, with Gaussians coloured by where they rest.

    Its Young's modulus is the middle of the family's range: whoever runs it says another.
    """
    rng = np.random.default_rng([number, sum(family.name.encode())])
    draw = {"stalk": _stalk, "block": _block, "drop": _drop}[family.name]
    x, volume, v, held, foot = draw(rng, family)
    return _simulation(family, x, volume / len(x), v, held, foot, rng.uniform(*_POISSON_RATIO))


def random_log10_modulus(number: int, family: Family) -> float:
    """Returns the stiffness that scene `number` is simulated at, uniform over the range."""
    rng = np.random.default_rng([number, sum(family.name.encode()), 1])
    return float(rng.uniform(*family.log10_range))


def _stalk(rng: np.random.Generator, family: Family):
    """A stem with one to three blobs, held at its foot, in motion as after one blow."""
    length, radius = rng.uniform(0.38, 0.46), rng.uniform(0.072, 0.09)
    lean = rng.uniform(-0.12, 0.12, 2)
    count = rng.integers(1, 4)
    along = np.array([1.0, *rng.uniform(0.6, 1.0, count - 1)]) * length
    turn = rng.uniform(0.0, 2 * np.pi, count)
    beside = np.array([0.0, *rng.uniform(0.05, 0.1, count - 1)])
    centers = np.stack(
        [lean[0] * along + beside * np.cos(turn), lean[1] * along + beside * np.sin(turn), along],
        -1,
    )
    radii = rng.uniform(0.07, 0.11, (count, 1)) * np.ones(3)

    def is_inside(points):
        z = points[:, 2]
        off = np.linalg.norm(points[:, :2] - lean * z[:, None], axis=1)
        is_stem = (off < radius * (1.15 - 0.3 * z / length)) & (z > 0) & (z < length)
        return is_stem | _is_in_ellipsoids(points, centers, radii)

    low, high = [-0.28, -0.28, 0.0], [0.28, 0.28, 0.72]
    x, volume = _fill(rng, is_inside, family.num_particles, low, high)
    held = x[:, 2] < 1.5 * family.dx
    angle, speed = rng.uniform(-0.6, 0.6), rng.uniform(1.2, 2.0) * rng.choice([-1.0, 1.0])
    bend = np.clip(x[:, 2] / length, 0.0, 1.2) ** 2 * ~held  # as a beam bends that is held below
    v = speed * bend[:, None] * np.array([np.cos(angle), np.sin(angle), 0.0])
    foot = np.array([family.middle, family.middle, family.floor - 0.5 * family.dx])
    return x + foot, volume, v, held, foot


def _block(rng: np.random.Generator, family: Family):
    """Something broad with blobs on it, held at its foot, in motion as after one blow."""
    height = rng.uniform(0.3, 0.5)
    half = 0.5 * rng.uniform(0.6, 1.15, 2) * height
    roundness = rng.uniform(2.0, 8.0)  # an ellipse at two, nearly a rectangle at eight
    taper = rng.uniform(-0.35, 0.35)
    count = rng.integers(0, 4)
    radii = rng.uniform(0.06, 0.12, (count, 3))
    aside = rng.uniform(-0.8, 0.8, (count, 2)) * half
    centers = np.concatenate([aside, rng.uniform(0.5, 1.0, (count, 1)) * height], 1)

    def is_inside(points):
        z = points[:, 2] / height
        wide = np.abs(points[:, :2]) / (half * (1.0 - taper * (z - 0.5))[:, None])
        is_body = (np.sum(wide**roundness, 1) < 1.0) & (z > 0.0) & (z < 1.0)
        return is_body | _is_in_ellipsoids(points, centers, radii)

    low, high = [-0.45, -0.45, 0.0], [0.45, 0.45, 0.65]
    x, volume = _fill(rng, is_inside, family.num_particles, low, high)
    held = x[:, 2] < rng.uniform(1.0, 2.0) * family.dx
    angle = rng.uniform(-0.6, 0.6)
    speed = family.kick * height * rng.uniform(0.65, 1.35) * rng.choice([-1.0, 1.0])
    bend = np.clip(x[:, 2] / height, 0.0, 1.3) ** rng.uniform(0.8, 1.6) * ~held
    v = speed * bend[:, None] * np.array([np.cos(angle), np.sin(angle), 0.0])
    foot = np.array([family.middle, family.middle, family.floor - 0.5 * family.dx])
    return x + foot, volume, v, held, foot


def _drop(rng: np.random.Generator, family: Family):
    """Two to four blobs in one piece, just above the floor, falling."""
    count = rng.integers(2, 5)
    centers = 0.07 * rng.normal(size=(count, 3))
    centers -= centers.mean(0)
    radii = rng.uniform(0.09, 0.14, (count, 3))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))

    def is_inside(points):
        return _is_in_ellipsoids(points @ turn, centers, radii)

    x, volume = _fill(rng, is_inside, family.num_particles, [-0.35] * 3, [0.35] * 3)
    x -= x.mean(0)
    gap = rng.uniform(0.02, 0.06)
    aside = family.middle + rng.uniform(-0.04, 0.04, 2)
    x += np.array([*aside, family.floor + gap - x[:, 2].min()])
    v = np.broadcast_to([rng.uniform(-0.5, 0.5), 0.0, -rng.uniform(2.0, 2.8)], x.shape)
    foot = np.array([*aside, x[:, 2].min()])
    return x, volume, v, np.zeros(len(x), bool), foot


def _is_in_ellipsoids(points: np.ndarray, centers: np.ndarray, radii: np.ndarray) -> np.ndarray:
    away = (points[:, None] - centers) / radii  # [P, B, 3]
    return np.any(np.sum(away**2, -1) < 1.0, 1)


def _fill(
    rng: np.random.Generator, is_inside: Inside, count: int, low: list, high: list
) -> tuple[np.ndarray, float]:
    """Returns `count` points inside a shape, evenly spread, and the shape's volume."""
    low, high = np.asarray(low), np.asarray(high)
    share = is_inside(rng.uniform(low, high, (_PROBES, 3))).mean()
    volume = float(np.prod(high - low) * share)
    pitch = (volume / count) ** (1 / 3)
    while True:
        axes = [np.arange(a, b, pitch) for a, b in zip(low, high, strict=True)]
        lattice = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        points = lattice + rng.uniform(-_JITTER, _JITTER, lattice.shape) * pitch
        points = points[is_inside(points)]
        if len(points) >= count:
            return rng.permutation(points)[:count], volume
        pitch *= 0.99


def _simulation(family, x, volume, v, held, foot, poisson_ratio) -> Simulation:
    count = len(x)
    still, zeros = np.zeros(3, np.float32), np.zeros(count, np.float32)
    hold = Enforced(held.astype(np.float32), zeros, zeros + _FOREVER, still, still, still)
    gravity = np.array([0.0, 0.0, family.gravity], np.float32)
    x, v = x.astype(np.float32), v.astype(np.float32)
    material = Material(
        laws=((family.law, count),),
        log_youngs_modulus=np.float32(LN10 * np.mean(family.log10_range)),
        poisson_ratio=np.float32(poisson_ratio),
        density=np.float32(family.density),
    )
    gaussians = draw_particles(x, volume ** (1 / 3))
    simulation = Simulation(
        state=initial_state(jnp.asarray(x), np.float32(volume), v),
        material=material,
        conditions=Conditions(gravity, (BoundingBox(),), (hold,) if held.any() else ()),
        dt=np.float32(family.dt),
        substeps=np.int32(family.timing.per_frame),
        placement=Placement(np.float32(1.0), np.eye(3, dtype=np.float32), still),
        gaussians=with_colors(gaussians, rest_colors(x, foot.astype(np.float32), family.height)),
        binding=bind(x, np.arange(count), np.zeros(0, int), x),
        config=MpmConfig(GridConfig(num_nodes=family.num_nodes, side=family.side)),
    )
    return jax.device_put(simulation)
