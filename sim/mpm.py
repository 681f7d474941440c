"""Material point simulation: particles of several materials move together through a grid.

  state = initial_state(x, volume)
  state = rollout(state, material, conditions, dt, num_substeps=100, config=MpmConfig())

| to simulate | derivatives | compiles anew for |
| --- | --- | --- |
| `advance` | forward mode | another number of particles, or another config |
| `rollout` | reverse or forward mode, as the config says | and another number of substeps |
| `rollout_frames` | likewise | and another number of frames |

Axes: N particles; K chunks of B particles, lanes within (`substep.py`). SI units.

Sources: Hu et al. 2018 (MLS-MPM); Jiang et al. 2016 (the course on the material point method).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from sim import boundary
from sim.boundary import Conditions
from sim.constitutive import LAWS
from sim.grid import GridConfig
from sim.material import Material, lame_parameters
from sim.substep import Lanes, Properties, substep
from sim.transfer import MARGIN

_CPU_CHUNK = 500  # the windows of so many particles stay in the second cache
_GRID = GridConfig()


@struct.dataclass
class MpmState:
    """Particles at one moment."""

    x: jax.Array  # [N, 3] metres, in the box of the grid: [0, side]^3
    v: jax.Array  # [N, 3] m/s
    C: jax.Array  # [N, 3, 3] 1/s, velocity gradient (APIC's affine matrix)
    F: jax.Array  # [N, 3, 3] elastic deformation gradient
    history: jax.Array  # [N, H] what the laws remember; H the most that one of them does
    volume: jax.Array  # [N] m^3, at rest
    time: jax.Array  # [] seconds
    out_of_grid: jax.Array  # [] bool: a particle has left the grid, or is not finite


@dataclasses.dataclass(frozen=True)
class MpmConfig:
    """Settings of `rollout`."""

    grid: GridConfig = _GRID
    segment: int = 64  # substeps between sortings; what `rollout` keeps for its gradient at once
    chunk: int | None = None  # particles of a chunk; None: what suits the device


def initial_state(
    x: jax.Array, volume: jax.Array, v: jax.Array | float = 0.0, num_history: int = 1
) -> MpmState:
    """Returns particles at x [N, 3], undeformed, with velocities v [N, 3] or [3].

    `num_history` is the material's; one number is enough for all laws but "viscoelastic".
    """
    eye = jnp.eye(3, dtype=x.dtype)
    return MpmState(
        x=x,
        v=jnp.broadcast_to(jnp.asarray(v, x.dtype), x.shape),
        C=jnp.zeros((len(x), 3, 3), x.dtype),
        F=jnp.broadcast_to(eye, (len(x), 3, 3)),
        history=jnp.zeros((len(x), num_history), x.dtype),
        volume=jnp.broadcast_to(jnp.asarray(volume, x.dtype), len(x)),
        time=jnp.zeros((), x.dtype),
        out_of_grid=jnp.zeros((), bool),
    )


class Frames(NamedTuple):
    """Particles at the key frames of a clip."""

    x: jax.Array  # [T, N, 3] metres, in the box
    F: jax.Array  # [T, N, 3, 3]
    out_of_grid: jax.Array  # [] bool, of any of them


@functools.partial(jax.jit, static_argnames="config")
def advance(
    state: MpmState,
    material: Material,
    conditions: Conditions,
    dt: jax.Array,
    num_substeps: jax.Array,
    config: MpmConfig,
) -> MpmState:
    """Simulates `num_substeps` [] steps of `dt` seconds; one compilation serves any number.

    Not differentiable in reverse: see `rollout`.
    """
    dt = lax.stop_gradient(jnp.asarray(dt, state.x.dtype))
    num_substeps = jnp.asarray(num_substeps, jnp.int32)
    num_segments = -(-num_substeps // config.segment)

    def body(index, state):
        count = jnp.minimum(num_substeps - index * config.segment, config.segment)

        def repeat(step, lanes):
            return lax.fori_loop(0, count, lambda number, lanes: step(lanes, number), lanes)

        return _segment(state, material, conditions, dt, count, repeat, config)

    return lax.fori_loop(0, num_segments, body, state)


@functools.partial(jax.jit, static_argnames=("num_substeps", "config"))
def rollout(
    state: MpmState,
    material: Material,
    conditions: Conditions,
    dt: jax.Array,
    num_substeps: int,
    config: MpmConfig,
) -> MpmState:
    """Simulates `num_substeps` steps of `dt` seconds.

    Differentiable in the state, the material and the conditions, not in `dt`: in reverse, or in
    forward mode if `config.grid.forward_mode`. Reverse mode keeps a state for each segment, and
    what one segment needs.

    Returns:
      The state afterwards. Once `out_of_grid` is set, positions mean nothing any more.
    """
    dt = lax.stop_gradient(jnp.asarray(dt, state.x.dtype))
    num_segments = -(-num_substeps // config.segment)
    if num_segments <= 1:
        repeat = _scan(num_substeps, None)
        return _segment(state, material, conditions, dt, num_substeps, repeat, config)
    length = -(-num_substeps // num_segments)
    ends = jnp.minimum(length * jnp.arange(1, num_segments + 1), num_substeps)
    counts = None if num_segments * length == num_substeps else jnp.diff(ends, prepend=0)

    @jax.checkpoint
    def body(state, count):
        steps = length if count is None else count
        repeat = _scan(length, count)
        return _segment(state, material, conditions, dt, steps, repeat, config), None

    return lax.scan(body, state, counts, num_segments)[0]


@functools.partial(jax.jit, static_argnames=("per_frame", "num_frames", "config", "tracked"))
def rollout_frames(
    state: MpmState,
    material: Material,
    conditions: Conditions,
    dt: jax.Array,
    per_frame: int,
    num_frames: int,
    config: MpmConfig,
    tracked: int | None = None,
) -> Frames:
    """Simulates a clip: the start, and `num_frames - 1` frames of `per_frame` substeps after it.

    Differentiable as `rollout`; reverse mode keeps a state for each frame, and simulates each
    frame once more.

    Args:
      state, material, conditions, dt, config: as of `rollout`.
      per_frame: substeps of a frame, static.
      num_frames: T, static.
      tracked: the last substeps before each frame that derivatives pass through, static: truncated
        back-propagation through time. None: all, from the start.
    """

    @jax.checkpoint
    def body(state, _):
        if tracked is None:
            moved = rollout(state, material, conditions, dt, per_frame, config)
        else:
            last = min(tracked, per_frame)
            before = rollout(state, material, conditions, dt, per_frame - last, config)
            before = lax.stop_gradient(before)
            moved = rollout(before, material, conditions, dt, last, config)
        return moved, (moved.x, moved.F)

    last, later = lax.scan(body, state, None, num_frames - 1)
    x, F = (jnp.concatenate([a[None], b]) for a, b in zip((state.x, state.F), later, strict=True))
    return Frames(x, F, last.out_of_grid)


def _scan(length: int, count: jax.Array | None) -> Callable:
    """Returns what repeats a step `length` times, of which the first `count` count; None: all."""

    def repeat(step, lanes):
        def body(lanes, number):
            moved = step(lanes, number)
            if count is not None:
                moved = jax.tree.map(lambda a, b: jnp.where(number < count, a, b), moved, lanes)
            return moved, None

        return lax.scan(body, lanes, jnp.arange(length))[0]

    return repeat


def _segment(
    state: MpmState,
    material: Material,
    conditions: Conditions,
    dt: jax.Array,
    num_substeps: jax.Array | int,
    repeat: Callable,
    config: MpmConfig,
) -> MpmState:
    """Sorts the particles, and simulates `num_substeps` as `repeat(step, lanes)` does."""
    runs = _runs(material, len(state.x))
    chunk = config.chunk or (_CPU_CHUNK if jax.default_backend() == "cpu" else len(state.x))
    orders = [
        _order(state.x[start : start + size], start, chunk, config.grid) for _, start, size in runs
    ]
    laws = tuple(name for name, _, _ in runs)
    lanes = tuple(_pack(state, order, name) for name, order in zip(laws, orders, strict=True))
    properties = tuple(
        _properties(state, material, order, name, size)
        for name, (_, _, size), order in zip(laws, runs, orders, strict=True)
    )
    pushes = [_pack_conditions(conditions.on_particles, order) for order in orders]
    on_grid = conditions.replace(on_particles=())

    def step(lanes, index):
        time = state.time + index * dt  # a sum of steps would drift in float32
        pushed = tuple(
            group._replace(v=boundary.push_particles(push, group.x, group.v, time, dt))
            for group, push in zip(lanes, pushes, strict=True)
        )
        moved = substep(pushed, properties, on_grid, time, dt, laws, config.grid)
        moved = tuple(
            _held(push, old, new, time, dt)
            for push, old, new in zip(pushes, lanes, moved, strict=True)
        )
        return moved

    lanes = repeat(step, lanes)
    time = state.time + dt * num_substeps
    return _unpack(state, lanes, orders, runs, time, config.grid)


def _held(conditions, before: Lanes, after: Lanes, time, dt) -> Lanes:
    x, v = boundary.hold_particles(conditions, before.x, (after.x, after.v), time, dt)
    return after._replace(x=x, v=v)


def _runs(material: Material, num_particles: int) -> list[tuple[str, int, int]]:
    """Law, first particle and number of particles of each run."""
    runs, start = [], 0
    for name, size in material.laws:
        if size:
            runs.append((name, start, size))
        start += size
    if start != num_particles:
        raise ValueError(f"expected laws of {num_particles} particles, found {start}")
    return runs


def _order(x: jax.Array, start: int, chunk: int, grid: GridConfig) -> jax.Array:
    """Orders a run [n, 3] by cell: particle of each place [K, B]; the last one fills the rest."""
    cell = jnp.clip((x / grid.dx - 0.5).astype(jnp.int32), 0, grid.num_nodes - MARGIN)
    key = (cell[:, 0] * grid.num_nodes + cell[:, 1]) * grid.num_nodes + cell[:, 2]
    order = start + jnp.argsort(key)
    chunk = min(chunk, len(x))
    num_chunks = -(-len(x) // chunk)
    fill = jnp.broadcast_to(order[-1], num_chunks * chunk - len(x))
    return jnp.concatenate([order, fill]).reshape(num_chunks, chunk)


def _pack(state: MpmState, order: jax.Array, law: str) -> Lanes:
    count = LAWS[law].num_history
    if state.history.shape[1] < count:
        found = state.history.shape[1]
        raise ValueError(f"expected {count} numbers of history for {law}, found {found}")

    def rows(values):
        return values.reshape(len(values), -1)[order].swapaxes(1, 2)

    history = tuple(state.history[order, i] for i in range(count))
    return Lanes(rows(state.x), rows(state.v), rows(state.C), rows(state.F), history)


def _properties(state, material: Material, order, name: str, size: int) -> Properties:
    def column(values):
        return jnp.broadcast_to(jnp.asarray(values, state.x.dtype), len(state.x))[order]

    mu, lam = lame_parameters(material)
    values = {"mu": mu, "lam": lam}
    parameters = {
        key: column(values[key] if key in values else getattr(material, key))
        for key in LAWS[name].parameters
    }
    # What fills the last chunk has no mass: it is moved, and moves nothing.
    is_real = (jnp.arange(order.size) < size).reshape(order.shape)
    volume = jnp.where(is_real, state.volume[order], 0.0)
    return Properties(volume * column(material.density), volume, parameters)


def _pack_conditions(conditions: tuple, order: jax.Array) -> tuple:
    return tuple(
        condition.replace(
            **{
                name: getattr(condition, name)[order]
                for name in boundary.PER_PARTICLE[type(condition)]
            }
        )
        for condition in conditions
    )


def _unpack(state, lanes, orders, runs, time, grid: GridConfig) -> MpmState:
    """Puts lanes back into the order of the state, and looks whether all are in the grid."""

    order = jnp.concatenate(
        [order.reshape(-1)[:size] for order, (_, _, size) in zip(orders, runs, strict=True)]
    )

    def history(group):
        rest = state.history.shape[1] - len(group.history)
        return jnp.stack([*group.history, *[jnp.zeros_like(group.x[:, 0])] * rest], 1)

    def join(old, values):
        parts = [
            each.swapaxes(1, 2).reshape(-1, each.shape[1])[:size]
            for each, (_, _, size) in zip(values, runs, strict=True)
        ]
        joined = jnp.concatenate(parts).reshape(old.shape)
        return jnp.zeros_like(old).at[order].set(joined, unique_indices=True)

    x = join(state.x, [group.x for group in lanes])
    low, high = 0.5 * grid.dx, (grid.num_nodes - MARGIN + 1.5) * grid.dx
    is_inside = jnp.all((x >= low) & (x < high))  # not so for NaN
    return state.replace(
        x=x,
        v=join(state.v, [group.v for group in lanes]),
        C=join(state.C, [group.C for group in lanes]),
        F=join(state.F, [group.F for group in lanes]),
        history=join(state.history, [history(group) for group in lanes]),
        time=time,
        out_of_grid=state.out_of_grid | ~is_inside,
    )
