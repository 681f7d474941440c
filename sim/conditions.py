"""From a scene file's boundary conditions to what acts on the grid and the particles.

Axes: N particles.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sim.boundary import (
    BoundingBox,
    Conditions,
    Cuboid,
    Enforced,
    Handle,
    Push,
    Sphere,
    Surface,
    Wind,
)
from sim.scene_conditions import (
    BoundaryCondition,
    BoxWalls,
    DragHandle,
    EnforcedRotation,
    EnforcedTranslation,
    MovingCuboid,
    MovingSphere,
    ParticleImpulse,
    Pin,
    RegionCondition,
    SequentialRelease,
    SurfaceCollider,
    TotalForce,
    WindRegion,
    name_of,
)
from sim.thinning import MeantParticles, pushes_per_mass


def make_conditions(
    entries: Sequence[BoundaryCondition],
    gravity: Sequence[float],
    x: jax.Array,
    mass: jax.Array,
    meant: MeantParticles | None = None,
) -> Conditions:
    """Builds what acts on particles that start at x, on the host.

    Args:
      entries: boundary conditions of a `SceneFile`.
      gravity: [3] m/s^2.
      x: [N, 3] metres in the box.
      mass: [N] kilograms.
      meant: the particles that the file's forces on each of them are meant for, if not these.

    Raises:
      ValueError: a region without particles that is to hold or push some.
    """
    places, masses = np.asarray(x, np.float64), np.asarray(mass, np.float64)
    on_grid, on_particles = [], []
    for entry in entries:
        if type(entry) in _ON_GRID:
            on_grid.append(_ON_GRID[type(entry)](entry))
        elif isinstance(entry, ParticleImpulse):
            on_particles.append(_impulse(entry, places, masses, meant))
        else:
            on_particles.append(_ON_PARTICLES[type(entry)](entry, places, masses))
    conditions = Conditions(np.asarray(gravity), tuple(on_grid), tuple(on_particles))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, x.dtype), conditions)


def _fields(entry: BoundaryCondition, *names: str) -> dict[str, np.ndarray]:
    return {name: np.asarray(getattr(entry, name), np.float64) for name in names}


_SPAN = ("start_time", "end_time")


def _cuboid(entry: MovingCuboid) -> Cuboid:
    return Cuboid(**_fields(entry, "point", "size", "velocity", *_SPAN), resets=entry.reset)


def _pin(entry: Pin) -> Cuboid:
    # On the grid: particles that were put back would tear from those beside them.
    return Cuboid(**_fields(entry, "point", "size", *_SPAN), velocity=np.zeros(3))


def _surface(entry: SurfaceCollider) -> Surface:
    return Surface(**_fields(entry, "point", "normal", "friction", *_SPAN), kind=entry.surface)


def _sphere(entry: MovingSphere) -> Sphere:
    path = np.asarray(entry.path, np.float64)
    others = _fields(entry, "radius", "friction", *_SPAN)
    return Sphere(path[:, 0], path[:, 1:], **others, kind=entry.surface)


def _wind(entry: WindRegion) -> Wind:
    names = "velocity", "rate", "gust", "gust_frequency", "point", "size", *_SPAN
    return Wind(**_fields(entry, *names))


_ON_GRID = {
    BoxWalls: lambda entry: BoundingBox(),
    MovingCuboid: _cuboid,
    Pin: _pin,
    SurfaceCollider: _surface,
    MovingSphere: _sphere,
    WindRegion: _wind,
}


def is_in_region(entry: RegionCondition | EnforcedRotation, x: np.ndarray) -> np.ndarray:
    """Returns which places [N, 3] lie in the box or the cylinder of an entry, [N] bool."""
    if isinstance(entry, RegionCondition):
        return np.all(np.abs(x - np.asarray(entry.point)) < entry.size, -1)
    normal, away = np.asarray(entry.normal), x - entry.point
    height = away @ normal
    radius = np.linalg.norm(away - height[:, None] * normal, axis=-1)
    half_height, largest = entry.half_height_and_radius
    return (np.abs(height) < half_height) & (radius < largest)


def _in_box(entry: RegionCondition, x: np.ndarray) -> np.ndarray:
    return _some(entry, is_in_region(entry, x), x)


def _some(
    entry: RegionCondition | EnforcedRotation, chosen: np.ndarray, x: np.ndarray
) -> np.ndarray:
    if not chosen.any():
        low, high = (np.array2string(v, precision=3) for v in (x.min(0), x.max(0)))
        raise ValueError(
            f"expected particles in the region of {name_of(entry)} around "
            f"{list(entry.point)}, "
            f"found none; they lie from {low} to {high}"
        )
    return chosen.astype(np.float64)


def _impulse(
    entry: ParticleImpulse, x: np.ndarray, mass: np.ndarray, meant: MeantParticles | None
) -> Push:
    force = np.asarray([entry.force], np.float64)
    weight = _in_box(entry, x) / mass
    if meant is not None and (meant_chosen := is_in_region(entry, meant.x)).any():
        weight = pushes_per_mass(x, mass, weight > 0, meant, meant_chosen)
    return Push(weight, np.zeros(1), force, **_fields(entry, *_SPAN))


def _force(entry: TotalForce, x: np.ndarray, mass: np.ndarray) -> Push:
    curve = np.asarray(entry.curve, np.float64)
    chosen = _in_box(entry, x)
    weight = chosen / np.sum(chosen * mass)
    return Push(weight, curve[:, 0], curve[:, 1:], **_fields(entry, *_SPAN))


def _drag(entry: DragHandle, x: np.ndarray, mass: np.ndarray) -> Handle:
    del mass
    path, chosen = np.asarray(entry.path, np.float64), _in_box(entry, x)
    # Each particle keeps its place beside their middle, which follows the handle.
    rest = x - x[chosen > 0].mean(0)
    span = _fields(entry, "frequency", *_SPAN)
    return Handle(chosen, rest, path[:, 0], path[:, 1:], **span)


def _enforced(
    entry: BoundaryCondition,
    chosen: np.ndarray,
    velocity: Sequence[float] = (0, 0, 0),
    turning: Sequence[float] = (0, 0, 0),
    point: Sequence[float] = (0, 0, 0),
    until: np.ndarray | None = None,
) -> Enforced:
    until = entry.end_time if until is None else until
    return Enforced(
        chosen=chosen,
        start_time=np.full(len(chosen), entry.start_time, np.float64),
        end_time=np.broadcast_to(until, chosen.shape).astype(np.float64),
        velocity=np.asarray(velocity, np.float64),
        angular_velocity=np.asarray(turning, np.float64),
        point=np.asarray(point, np.float64),
    )


def _translation(entry: EnforcedTranslation, x: np.ndarray, mass: np.ndarray) -> Enforced:
    del mass
    return _enforced(entry, _in_box(entry, x), entry.velocity)


def _rotation(entry: EnforcedRotation, x: np.ndarray, mass: np.ndarray) -> Enforced:
    del mass
    normal = np.asarray(entry.normal)
    chosen = _some(entry, is_in_region(entry, x), x)
    velocity = entry.translation_scale * normal
    return _enforced(entry, chosen, velocity, -entry.rotation_scale * normal, entry.point)


def _release(entry: SequentialRelease, x: np.ndarray, mass: np.ndarray) -> Enforced:
    del mass
    start, end = entry.start_position, entry.end_position
    share = (x @ np.asarray(entry.normal) - start) / (end - start)
    layer = np.clip(np.floor(share * entry.num_layers), 0, entry.num_layers - 1)
    duration = entry.end_time - entry.start_time
    until = entry.start_time + duration * (layer + 1) / entry.num_layers
    return _enforced(entry, np.ones(len(x)), until=until)


_ON_PARTICLES = {
    TotalForce: _force,
    DragHandle: _drag,
    EnforcedTranslation: _translation,
    EnforcedRotation: _rotation,
    SequentialRelease: _release,
}
