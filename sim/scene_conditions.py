"""Boundary conditions as scene files give them, one type each; `conditions.py` makes them act.

Metres in the box, seconds, SI. `size` is half of the sides: a region is |x - point| < size on each
axis, and *chosen* means the particles that lie in it at the start. `normal` has length one. A path
is a row (t, x, y, z) for each of its knots, linear between them.

Source: Xie et al. 2024 (PhysGaussian), whose kinds the first seven are.
"""

import dataclasses
import itertools

FOREVER = 1e3  # seconds; PhysGaussian's own end of what has none
Vector = tuple[float, float, float]
Knots = tuple[tuple[float, float, float, float], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundaryCondition:
    """What acts from `start_time` until `end_time`."""

    start_time: float = 0.0
    end_time: float = FOREVER

    @property
    def top_speed(self) -> float:
        """The fastest that matter is moved by it, m/s."""
        return 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegionCondition(BoundaryCondition):
    """One that acts in a box."""

    point: Vector
    size: Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxWalls(BoundaryCondition):
    """Walls 3 cells from the edge: nothing flows outwards there, along them it slips."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MovingCuboid(RegionCondition):
    """Grid nodes inside move at `velocity`, and so does the cuboid."""

    velocity: Vector
    reset: bool = False  # nodes stand still for 15 substeps afterwards

    @property
    def top_speed(self) -> float:
        return _norm(self.velocity)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParticleImpulse(RegionCondition):
    """A force on each chosen particle, for `num_dt` substeps of the file, which give `end_time`.

    A longer substep takes its share: dv = force / mass * (seconds of it before the end).
    """

    force: Vector  # newtons, on each chosen particle
    num_dt: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnforcedTranslation(RegionCondition):
    """Chosen particles have this velocity."""

    velocity: Vector

    @property
    def top_speed(self) -> float:
        return _norm(self.velocity)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnforcedRotation(BoundaryCondition):
    """Particles chosen in a cylinder: v = translation_scale n - rotation_scale n x (x - point).

    The minus is PhysGaussian's own.
    """

    point: Vector
    normal: Vector
    half_height_and_radius: tuple[float, float]
    rotation_scale: float  # rad/s
    translation_scale: float  # m/s

    @property
    def top_speed(self) -> float:
        turning = self.rotation_scale * self.half_height_and_radius[1]
        return _norm((turning, self.translation_scale))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurfaceCollider(BoundaryCondition):
    """A half space."""

    point: Vector
    normal: Vector  # out of the solid
    surface: str = "sticky"  # sticky, slip, separate or cut
    friction: float = 0.0  # of Coulomb


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequentialRelease(BoundaryCondition):
    """All stand still; layer by layer they are let go, from start to end along the normal."""

    normal: Vector
    start_position: float
    end_position: float
    num_layers: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindRegion(RegionCondition):
    """Matter inside takes on the wind: dv/dt = rate (wind - v)."""

    velocity: Vector
    rate: float = 1.0  # 1/s
    gust: float = 0.0  # share of the velocity that comes and goes, in [0, 1]
    gust_frequency: float = 1.0  # Hz

    @property
    def top_speed(self) -> float:
        return _norm(self.velocity)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TotalForce(RegionCondition):
    """A force shared by the chosen particles."""

    curve: Knots  # (t, fx, fy, fz), newtons in total; held before and after


@dataclasses.dataclass(frozen=True, kw_only=True)
class DragHandle(RegionCondition):
    """A spring pulls the chosen so that their middle follows a handle."""

    path: Knots  # of the handle
    frequency: float = 8.0  # Hz

    @property
    def top_speed(self) -> float:
        return _path_speed(self.path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pin(RegionCondition):
    """What is inside does not move; at least a cell wide."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MovingSphere(BoundaryCondition):
    """A ball that moves, as a collider; it is there from start to end."""

    path: Knots  # of its middle
    radius: float
    surface: str = "sticky"
    friction: float = 0.0

    @property
    def top_speed(self) -> float:
        return _path_speed(self.path)


CONDITIONS: dict[str, type[BoundaryCondition]] = {
    "bounding_box": BoxWalls,
    "cuboid": MovingCuboid,
    "particle_impulse": ParticleImpulse,
    "enforce_particle_translation": EnforcedTranslation,
    "enforce_particle_velocity_rotation": EnforcedRotation,
    "surface_collider": SurfaceCollider,
    "release_particles_sequentially": SequentialRelease,
    "wind": WindRegion,
    "force": TotalForce,
    "drag": DragHandle,
    "pin": Pin,
    "sphere": MovingSphere,
}  # by their names in scene files
_NAMES = {kind: name for name, kind in CONDITIONS.items()}


def name_of(condition: BoundaryCondition) -> str:
    """Returns the name that scene files have for its type."""
    return _NAMES[type(condition)]


def _norm(vector: tuple[float, ...]) -> float:
    return sum(v * v for v in vector) ** 0.5


def _path_speed(path: Knots) -> float:
    steps = itertools.pairwise(path)
    speeds = [
        _norm([b - a for a, b in zip(start[1:], end[1:], strict=True)]) / (end[0] - start[0])
        for start, end in steps
    ]
    return max(speeds, default=0.0)
