"""What acts on matter from outside: walls, moving obstacles, wind, pushes, pins, handles.

Some act on the velocity of the grid's nodes, some on the velocity of chosen particles. All are
pytrees of numbers, so that gradients flow into forces and velocities.

Axes: N particles, G nodes per side, L knots of a curve. SI units; places in the box of the grid.

Sources: Xie et al. 2024 (PhysGaussian: the kinds of scene files); Stomakhin et al. 2013, section 8
(friction on the grid).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from render.stages import stage

WALL_CELLS = 3  # nodes from the edge of the grid to the walls of a bounding box
_RESET_STEPS = 15  # that matter is held after a cuboid has gone
_CUT_DRAG = 0.3  # of the velocity along a "cut" surface that is left

_Vector = Sequence[jax.Array]  # three, along x, y and z, that broadcast to [G, G, G]


@struct.dataclass
class BoundingBox:
    """Walls around the grid that matter slides along and leaves freely."""


@struct.dataclass
class Cuboid:
    """A box that moves, and all within it likewise."""

    point: jax.Array  # [3] metres, its middle at the start
    size: jax.Array  # [3] metres, half its sides
    velocity: jax.Array  # [3] m/s
    start_time: jax.Array  # [] seconds
    end_time: jax.Array
    resets: bool = struct.field(pytree_node=False, default=False)  # at the end, stops all within


@struct.dataclass
class Surface:
    """A plane; what is below it is solid."""

    point: jax.Array  # [3]
    normal: jax.Array  # [3] unit
    friction: jax.Array  # [] of Coulomb
    start_time: jax.Array
    end_time: jax.Array
    kind: str = struct.field(pytree_node=False, default="separate")  # sticky, slip, separate, cut


@struct.dataclass
class Sphere:
    """A ball that moves."""

    times: jax.Array  # [L] seconds, growing
    path: jax.Array  # [L, 3] of its middle, linear between the times
    radius: jax.Array  # []
    friction: jax.Array  # []
    start_time: jax.Array
    end_time: jax.Array
    kind: str = struct.field(pytree_node=False, default="separate")


@struct.dataclass
class Wind:
    """Air that takes matter along, in gusts."""

    velocity: jax.Array  # [3] m/s
    rate: jax.Array  # [] 1/s: how fast matter takes the wind's velocity on
    gust: jax.Array  # [] share of the velocity that comes and goes
    gust_frequency: jax.Array  # [] Hz
    point: jax.Array  # [3]
    size: jax.Array  # [3]
    start_time: jax.Array
    end_time: jax.Array


@struct.dataclass
class Push:
    """A force on chosen particles, in the course of time."""

    weight: jax.Array  # [N] acceleration per force, 1/kg; zero of those not chosen
    times: jax.Array  # [L] seconds, growing
    force: jax.Array  # [L, 3] newtons; linear between the times, before and after as at the ends
    start_time: jax.Array  # []
    end_time: jax.Array  # []


@struct.dataclass
class Enforced:
    """Particles that move as told: v = velocity + angular velocity x (x - point)."""

    chosen: jax.Array  # [N]
    start_time: jax.Array  # [N]
    end_time: jax.Array  # [N]
    velocity: jax.Array  # [3]
    angular_velocity: jax.Array  # [3] rad/s
    point: jax.Array  # [3] on the axis


@struct.dataclass
class Handle:
    """A spring from chosen particles to a place that moves, damped so that it does not swing."""

    chosen: jax.Array  # [N]
    rest: jax.Array  # [N, 3] places of the particles, from the handle's first place
    times: jax.Array  # [L]
    path: jax.Array  # [L, 3] of the handle, as `Push.force`
    frequency: jax.Array  # [] Hz
    start_time: jax.Array  # []
    end_time: jax.Array  # []


PER_PARTICLE = {
    Push: ("weight",),
    Enforced: ("chosen", "start_time", "end_time"),
    Handle: ("chosen", "rest"),
}  # fields whose first axis is N


@struct.dataclass
class Conditions:
    """All that acts from outside."""

    gravity: jax.Array  # [3] m/s^2
    on_grid: tuple = ()  # BoundingBox, Cuboid, Surface, Sphere, Wind
    on_particles: tuple = ()  # Push, Enforced, Handle


def curve_at(
    time: jax.Array | float, times: jax.Array | np.ndarray, values: jax.Array | np.ndarray
) -> jax.Array:
    """Returns where a curve of straight pieces is at a time, [3]; beyond its ends, as there.

    Args:
      time: [] seconds.
      times: [L] seconds of the knots, growing.
      values: [L, 3] of the knots.
    """
    return jnp.stack([jnp.interp(time, times, values[:, axis]) for axis in range(3)])


def constrain(
    u: jax.Array, conditions: Conditions, time: jax.Array, dt: jax.Array, dx: float
) -> jax.Array:
    """Applies what acts on the grid, one after the other.

    Args:
      u: [G, G, 4 G] for each node a channel of no meaning, then velocity, m/s.
      conditions: all; those on particles are not looked at.
      time: [] seconds.
      dt: [] seconds.
      dx: metres between nodes.
    """
    others = [c for c in conditions.on_grid if not isinstance(c, BoundingBox)]
    if others:
        channels = stage(_split)(u)
        velocity, places = channels[1:], _nodes(u.shape[0], dx, u.dtype)
        for condition in others:
            apply = stage(_ON_GRID[type(condition)])
            velocity = apply(condition, velocity, places, time, dt)
        u = stage(_merge)(channels[0], *velocity)
    return _bound(u) if len(others) < len(conditions.on_grid) else u


def _split(u: jax.Array) -> list[jax.Array]:
    """One array [G, G, G] for each channel: XLA is slow where neighbours differ in kind."""
    size = u.shape[0]
    return [u.reshape(size, size, size, 4)[..., i] for i in range(4)]


def _merge(*channels: jax.Array) -> jax.Array:
    return jnp.stack(channels, -1).reshape(*channels[0].shape[:2], -1)


def _nodes(size: int, dx: float, dtype: np.dtype) -> _Vector:
    """Places of the nodes along x, y and z, each of a shape that broadcasts to [G, G, G]."""
    places = dx * jnp.arange(size, dtype=dtype)
    return [places[:, None, None], places[:, None], places]


def _is_on(condition, time: jax.Array) -> jax.Array:
    return (time >= condition.start_time) & (time < condition.end_time)


def _is_in_box(places: _Vector, point: jax.Array, size: jax.Array) -> jax.Array:
    inside = [jnp.abs(p - c) < s for p, c, s in zip(places, point, size, strict=True)]
    return inside[0] & inside[1] & inside[2]


def _bound(u: jax.Array) -> jax.Array:
    """Stops what moves into the walls of the grid."""
    # Rows of constants, so that the processor goes along the grid in one run.
    index, channel = np.arange(u.shape[0]), np.arange(u.shape[-1]) % 4
    far = np.finfo(u.dtype).max
    for is_wall, limit, end in (
        (index < WALL_CELLS, jnp.maximum, -far),
        (index >= len(index) - WALL_CELLS, jnp.minimum, far),
    ):
        along_x = np.where(is_wall[:, None] & (channel == 1), 0.0, end)
        is_wall_z = np.repeat(is_wall, 4) & (channel == 3)
        along_yz = np.where((is_wall[:, None] & (channel == 2)) | is_wall_z, 0.0, end)
        u = limit(u, along_x[:, None].astype(u.dtype))
        u = limit(u, along_yz.astype(u.dtype))
    return u


def _move_cuboid(
    condition: Cuboid, u: _Vector, places: _Vector, time: jax.Array, dt: jax.Array
) -> _Vector:
    moved = jnp.maximum(time - condition.start_time, 0.0) * condition.velocity
    inside = _is_in_box(places, condition.point + moved, condition.size)
    if condition.resets:
        end = condition.end_time
        is_over = (time >= end) & (time < end + _RESET_STEPS * dt)
        u = [jnp.where(is_over & inside, 0.0, v) for v in u]
    is_taken = _is_on(condition, time) & inside
    return [jnp.where(is_taken, w, v) for v, w in zip(u, condition.velocity, strict=True)]


def _hit_surface(
    condition: Surface, u: _Vector, places: _Vector, time: jax.Array, dt: jax.Array
) -> _Vector:
    del dt
    normal = list(condition.normal)
    away = [p - c for p, c in zip(places, condition.point, strict=True)]
    is_inside = _is_on(condition, time) & (_dot(normal, away) < 0)
    blocked = _blocked(condition, u, normal)
    return [jnp.where(is_inside, b, v) for b, v in zip(blocked, u, strict=True)]


def _hit_sphere(
    condition: Sphere, u: _Vector, places: _Vector, time: jax.Array, dt: jax.Array
) -> _Vector:
    middle = curve_at(time, condition.times, condition.path)
    velocity = (curve_at(time + dt, condition.times, condition.path) - middle) / dt
    away = [p - c for p, c in zip(places, middle, strict=True)]
    squared = _dot(away, away)
    is_inside = _is_on(condition, time) & (squared < condition.radius**2)
    inverse = lax.rsqrt(jnp.where(squared > 0, squared, 1.0))
    relative = [v - w for v, w in zip(u, velocity, strict=True)]
    blocked = _blocked(condition, relative, [inverse * a for a in away])
    return [jnp.where(is_inside, b + w, v) for b, w, v in zip(blocked, velocity, u, strict=True)]


def _blocked(condition: Surface | Sphere, u: _Vector, normal: _Vector) -> _Vector:
    """What a wall at rest leaves of the velocity."""
    if condition.kind == "sticky":
        return [jnp.zeros_like(v) for v in u]
    along_normal = _dot(u, normal)
    sliding = [v - along_normal * n for v, n in zip(u, normal, strict=True)]
    if condition.kind == "cut":
        return [_CUT_DRAG * s for s in sliding]
    left = jnp.zeros_like(along_normal)
    if condition.kind == "separate":
        left = jnp.maximum(along_normal, 0.0)
    squared = _dot(sliding, sliding)
    inverse_speed = lax.rsqrt(jnp.where(squared > 0, squared, 1.0))
    grip = condition.friction * jnp.maximum(-along_normal, 0.0)
    kept = jnp.maximum(1.0 - grip * inverse_speed, 0.0)
    return [left * n + kept * s for n, s in zip(normal, sliding, strict=True)]


def _dot(a: _Vector, b: _Vector) -> jax.Array:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _blow(condition: Wind, u: _Vector, places: _Vector, time: jax.Array, dt: jax.Array) -> _Vector:
    turn = 2.0 * jnp.pi * condition.gust_frequency * (time - condition.start_time)
    # Gusts of one frequency alone would look like a machine.
    wave = 0.6 * jnp.sin(turn) + 0.4 * jnp.sin(2.3 * turn + 1.0)
    air = condition.velocity * (1.0 + condition.gust * wave)
    is_blown = _is_on(condition, time) & _is_in_box(places, condition.point, condition.size)
    taken = jnp.where(is_blown, -jnp.expm1(-condition.rate * dt), 0.0)
    return [v + taken * (w - v) for v, w in zip(u, air, strict=True)]


_ON_GRID = {
    Cuboid: _move_cuboid,
    Surface: _hit_surface,
    Sphere: _hit_sphere,
    Wind: _blow,
}


def push_particles(
    conditions: tuple[Push | Enforced | Handle, ...],
    x: jax.Array,
    v: jax.Array,
    time: jax.Array,
    dt: jax.Array,
) -> jax.Array:
    """Applies what acts on particles before a step.

    Args:
      conditions: Push, Enforced, Handle, their arrays [N] in the layout of the particles.
      x: [..., 3, B] metres.
      v: [..., 3, B] m/s.
      time: [] seconds.
      dt: [] seconds.

    Returns:
      Velocities.
    """
    for condition in conditions:
        v = _ON_PARTICLES[type(condition)](condition, x, v, time, dt)
    return v


def hold_particles(
    conditions: tuple[Push | Enforced | Handle, ...],
    before: jax.Array,
    after: tuple[jax.Array, jax.Array],
    time: jax.Array,
    dt: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Puts enforced particles where they were told to go, after a step.

    Args:
      conditions: as in `push_particles`.
      before: positions [..., 3, B] before the step.
      after: positions and velocities after it.
      time: [] seconds.
      dt: [] seconds.

    Returns:
      Positions and velocities.
    """
    x, v = after
    for condition in conditions:
        if isinstance(condition, Enforced):
            told = _told_velocity(condition, before)
            is_held = _is_held(condition, time)
            x, v = jnp.where(is_held, before + dt * told, x), jnp.where(is_held, told, v)
    return x, v


def _column(vector: jax.Array) -> jax.Array:
    return vector[:, None]


def _push(condition: Push, x: jax.Array, v: jax.Array, time: jax.Array, dt: jax.Array) -> jax.Array:
    del x
    # The part of the step that the force acts in: short pushes keep their impulse whatever dt.
    begin, end = jnp.maximum(time, condition.start_time), jnp.minimum(time + dt, condition.end_time)
    force = curve_at(time, condition.times, condition.force)
    impulse = jnp.maximum(end - begin, 0.0) * _column(force)
    return v + condition.weight[..., None, :] * impulse


def _told_velocity(condition: Enforced, x: jax.Array) -> jax.Array:
    a, b, c = condition.angular_velocity
    dx, dy, dz = (x[..., i, :] - condition.point[i] for i in range(3))
    turning = jnp.stack([b * dz - c * dy, c * dx - a * dz, a * dy - b * dx], -2)
    return turning + _column(condition.velocity)


def _is_held(condition: Enforced | Handle, time: jax.Array) -> jax.Array:
    return ((condition.chosen > 0) & _is_on(condition, time))[..., None, :]


def _enforce(
    condition: Enforced, x: jax.Array, v: jax.Array, time: jax.Array, dt: jax.Array
) -> jax.Array:
    del dt
    return jnp.where(_is_held(condition, time), _told_velocity(condition, x), v)


def _pull(
    condition: Handle, x: jax.Array, v: jax.Array, time: jax.Array, dt: jax.Array
) -> jax.Array:
    place = curve_at(time, condition.times, condition.path)
    speed = (curve_at(time + dt, condition.times, condition.path) - place) / dt
    rate = 2.0 * jnp.pi * condition.frequency
    away = _column(place) + jnp.moveaxis(condition.rest, -1, -2) - x
    # Critical damping, implicit: stable however stiff.
    stiff = rate * dt
    pulled = v + stiff * (rate * away + (stiff + 2.0) * _column(speed))
    pulled = pulled / (1.0 + stiff) ** 2
    return jnp.where(_is_held(condition, time), pulled, v)


_ON_PARTICLES = {Push: _push, Enforced: _enforce, Handle: _pull}
