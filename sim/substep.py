"""One step of the material point method, fast and differentiable.

Particles give mass and momentum to the grid (P2G), the grid moves under forces and obstacles, and
particles take the motion back (G2P) and deform by it. P2G and G2P are each other's transposes, so
the step has its own derivative rule: one more G2P and one more P2G, with the cotangents.

Everything is cut into chunks that fit the processor's cache. Within a chunk each component is an
array of its own ("lanes"), and fences (`render.stages`) keep XLA from merging pieces that are
faster apart. Particles come in groups, one for each constitutive law.

Axes: K chunks, B particles of a chunk, G nodes per side. SI units. Grid and window as in
`transfer.py`.

Sources: Hu et al. 2018 (MLS-MPM, the stress term); Jiang et al. 2015, 2017 (APIC; RPIC damping).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from render.stages import stage
from sim import transfer
from sim.boundary import Conditions, constrain
from sim.constitutive import LAWS, Law
from sim.grid import GridConfig, grid_velocity, grid_velocity_transposed


class Lanes(NamedTuple):
    """What changes of the particles of one law."""

    x: jax.Array  # [K, 3, B] metres
    v: jax.Array  # [K, 3, B] m/s
    C: jax.Array  # [K, 9, B] 1/s, row major
    F: jax.Array  # [K, 9, B] row major
    history: tuple[jax.Array, ...]  # [K, B] each, as many as the law remembers


class Properties(NamedTuple):
    """What stays."""

    mass: jax.Array  # [K, B] kg
    volume: jax.Array  # [K, B] m^3
    parameters: dict[str, jax.Array]  # [K, B] each, those that the law reads


def substep(
    lanes: tuple[Lanes, ...],
    properties: tuple[Properties, ...],
    conditions: Conditions,
    time: jax.Array,
    dt: jax.Array,
    laws: tuple[str, ...],
    config: GridConfig,
) -> tuple[Lanes, ...]:
    """Moves particles on by `dt`.

    Differentiable in all but `time` and `dt`, whose derivatives are given as zero in reverse mode:
    in reverse by a rule of its own, or, where the config says so, in forward mode. (One function
    for both would be a `custom_jvp` around a `linear_call`, which knows no `vmap`.)

    Args:
      lanes: a group for each law.
      properties: a group for each law.
      conditions: gravity, and what acts on the grid.
      time: [] seconds.
      dt: [] seconds.
      laws: names in `constitutive.LAWS`; static.
      config: static.
    """
    step = _plain_substep if config.forward_mode else _reversible_substep
    return step(lanes, properties, conditions, time, dt, laws, config)


def _plain_substep(lanes, properties, conditions, time, dt, laws, config):
    return _forward(lanes, properties, conditions, time, dt, laws, config)[0]


_reversible_substep = jax.custom_vjp(_plain_substep, nondiff_argnums=(5, 6))


def _forward(lanes, properties, conditions, time, dt, laws, config):
    grid = _p2g(lanes, properties, dt, laws, config)
    velocity = grid_velocity(grid, conditions, time, dt, config)
    moved = []
    for group, props, name in zip(lanes, properties, laws, strict=True):
        law = LAWS[name]

        def body(chunk, law=law):
            x, *rest = chunk
            start, f = transfer.locate(x, config.dx, config.num_nodes)
            moments = transfer.collect(f, transfer.take_windows(velocity, start))
            x, v, C, F, history = _advance_stage(law, config)(_to_lanes(moments), x, *rest, dt)
            return Lanes(_stack(*x), v, _stack(*C), _stack(*F), history)

        moved.append(lax.map(body, (group.x, group.F, group.history, props.parameters)))
    return tuple(moved), grid


def _p2g(lanes, properties, dt, laws, config) -> jax.Array:
    shape = (config.num_nodes, config.num_nodes, 4 * config.num_nodes)
    grid = jnp.zeros(shape, lanes[0].x.dtype)
    for group, props, name in zip(lanes, properties, laws, strict=True):
        law = LAWS[name]

        def body(grid, chunk, law=law):
            group, props = chunk
            start, f = transfer.locate(group.x, config.dx, config.num_nodes)
            momenta = _momenta_stage(law, config)(*group[1:], props, dt)
            windows = transfer.spread(f, _to_rows(*momenta))
            return transfer.add_windows(grid, start, windows), None

        grid, _ = lax.scan(body, grid, (group, props))
    return grid


def _momenta(law: Law, config: GridConfig, v, C, F, history, props: Properties, dt):
    """Mass, momentum and the slopes of momentum per cell, with the impulse of the stress."""
    stress = law.stress(F, C, props.parameters, history)
    kept = [props.mass * config.dx * c for c in _damped(C, config)]
    impulse = 4.0 / config.dx * dt * props.volume
    slopes = [k - impulse * s for k, s in zip(kept, stress, strict=True)]
    return props.mass, [props.mass * u for u in v], slopes


def _damped(C: list[jax.Array], config: GridConfig) -> list[jax.Array]:
    if config.pic_damping == config.rpic_damping == 0.0:
        return C
    kept = 1.0 - config.pic_damping
    own, other = kept * (1.0 - 0.5 * config.rpic_damping), kept * 0.5 * config.rpic_damping
    return [own * C[3 * i + j] - other * C[3 * j + i] for i in range(3) for j in range(3)]


def _advance(law: Law, v, C, x, F, history, parameters, dt):
    """Moves and deforms particles by their velocity and its gradient."""
    F = [
        F[3 * i + j] + dt * sum(C[3 * i + k] * F[3 * k + j] for k in range(3))
        for i in range(3)
        for j in range(3)
    ]
    if law.project is not None:
        F, history = law.project(F, parameters, history, dt)
    return [a + dt * b for a, b in zip(x, v, strict=True)], F, history


@stage
def _stack(*rows: jax.Array) -> jax.Array:
    # Concatenation within arithmetic would have XLA do the arithmetic anew for every row.
    return jnp.stack(rows)


@stage
def _transpose(lanes: jax.Array) -> jax.Array:
    return lanes.T.reshape(-1, 4, 4)


@stage
def _to_lanes(rows: jax.Array) -> jax.Array:
    return rows.reshape(-1, 16).T


def _to_rows(mass, momentum, slopes) -> jax.Array:
    """Puts mass [B], three momenta and nine slopes into coefficients [B, 4, 4]."""
    zero = jnp.zeros_like(mass)
    columns = [row for j in range(3) for row in (zero, *slopes[j::3])]
    return _transpose(_stack(mass, *momentum, *columns))


@functools.cache
def _momenta_stage(law: Law, config: GridConfig):
    @stage
    def momenta(v, C, F, history, props, dt):
        return _momenta(law, config, [*v], [*C], [*F], history, props, dt)

    return momenta


@functools.cache
def _advance_stage(law: Law, config: GridConfig):
    @stage
    def advance(moments, x, F, history, parameters, dt):
        v = moments[1:4]
        C = [4.0 / config.dx * moments[5 + 4 * j + i] for i in range(3) for j in range(3)]
        x, F, history = _advance(law, [*v], C, [*x], [*F], history, parameters, dt)
        return x, v, C, F, history

    return advance


def _substep_forward(lanes, properties, conditions, time, dt, laws, config):
    moved, grid = _forward(lanes, properties, conditions, time, dt, laws, config)
    saved = lanes, properties, conditions, time, dt, tuple(group.C for group in moved), grid
    return moved, saved


def _substep_backward(laws, config, saved, cotangents):
    lanes, properties, conditions, time, dt, moved_C, grid = saved
    velocity = grid_velocity(grid, conditions, time, dt, config)

    grid_bar, partial = jnp.zeros_like(grid), []
    for group, props, C, bar, name in zip(
        lanes, properties, moved_C, cotangents, laws, strict=True
    ):
        transposed = functools.partial(_g2p_transposed, LAWS[name], config, velocity, dt)
        grid_bar, group_bar = lax.scan(transposed, grid_bar, (group, props.parameters, C, bar))
        partial.append(group_bar)

    grid_bar, conditions_bar = grid_velocity_transposed(
        grid, grid_bar, conditions, time, dt, config
    )
    lanes_bar, properties_bar = [], []
    for group, props, bar, name in zip(lanes, properties, partial, laws, strict=True):
        transposed = functools.partial(_p2g_transposed, LAWS[name], config, grid_bar, dt)
        group_bar, props_bar = lax.map(transposed, (group, props, bar))
        lanes_bar.append(group_bar)
        properties_bar.append(props_bar)
    zero = jnp.zeros_like(time), jnp.zeros_like(dt)
    return tuple(lanes_bar), tuple(properties_bar), conditions_bar, *zero


def _g2p_transposed(law, config, velocity, dt, grid_bar, chunk):
    """Gives the cotangents of moved particles to the grid's velocity.

    Returns:
      The grid's cotangent with this chunk, and what the particles had of it themselves: the
      position's by the stencil, x, F, history, parameters.
    """
    group, parameters, C, bar = chunk
    start, f = transfer.locate(group.x, config.dx, config.num_nodes)
    transposed = _advance_transposed(law, config)
    v_bar, C_bar, x_bar, F_bar, *others = transposed(C, group, parameters, dt, bar)
    rows = _to_rows(jnp.zeros_like(v_bar[0]), v_bar, C_bar)
    window = transfer.take_windows(velocity, start)
    _, f_bar = transfer.collect_with_gradient(f, window, rows)
    grid_bar = transfer.add_windows(grid_bar, start, transfer.spread(f, rows))
    return grid_bar, (f_bar, _stack(*x_bar), _stack(*F_bar), *others)


@functools.cache
def _advance_transposed(law: Law, config: GridConfig):
    @stage
    def transposed(C, group, parameters, dt, bar):
        def moved(v, C, x, F, history, parameters):
            return _advance(law, v, C, x, F, history, parameters, dt)

        # The motion is linear in the velocity: any will do.
        point = [*group.v], [*C], [*group.x], [*group.F], group.history, parameters
        _, pull = jax.vjp(moved, *point)
        v_bar, C_bar, *own = pull(([*bar.x], [*bar.F], bar.history))
        v_bar = [a + b for a, b in zip(v_bar, bar.v, strict=True)]
        C_bar = [4.0 / config.dx * (a + b) for a, b in zip(C_bar, bar.C, strict=True)]
        return v_bar, C_bar, *own

    return transposed


def _p2g_transposed(law, config, grid_bar, dt, chunk):
    """Collects the cotangents of the grid's mass and momentum; adds what G2P gave already."""
    group, props, (f_bar, x_bar, F_bar, history_bar, parameters_bar) = chunk
    start, f = transfer.locate(group.x, config.dx, config.num_nodes)
    rows = _to_rows(*_momenta_stage(law, config)(*group[1:], props, dt))
    moments, f_bar2 = transfer.collect_with_gradient(
        f, transfer.take_windows(grid_bar, start), rows
    )
    v_bar, C_bar, F_bar2, history_bar2, props_bar = _momenta_transposed(law, config)(
        group, props, dt, _to_lanes(moments)
    )
    group_bar = Lanes(
        x=x_bar + (f_bar + f_bar2) / config.dx,
        v=_stack(*v_bar),
        C=_stack(*C_bar),
        F=F_bar + _stack(*F_bar2),
        history=jax.tree.map(jnp.add, history_bar, history_bar2),
    )
    parameters_bar = jax.tree.map(jnp.add, parameters_bar, props_bar.parameters)
    return group_bar, props_bar._replace(parameters=parameters_bar)


@functools.cache
def _momenta_transposed(law: Law, config: GridConfig):
    @stage
    def transposed(group, props, dt, bar):
        def momenta(v, C, F, history, props):
            return _momenta(law, config, v, C, F, history, props, dt)

        _, pull = jax.vjp(momenta, [*group.v], [*group.C], [*group.F], group.history, props)
        slopes_bar = [bar[5 + 4 * j + i] for i in range(3) for j in range(3)]
        return pull((bar[0], [*bar[1:4]], slopes_bar))

    return transposed


_reversible_substep.defvjp(_substep_forward, _substep_backward)


def substep_reference(
    lanes: tuple[Lanes, ...],
    properties: tuple[Properties, ...],
    conditions: Conditions,
    time: jax.Array,
    dt: jax.Array,
    laws: tuple[str, ...],
    config: GridConfig,
) -> tuple[Lanes, ...]:
    """`substep` as the papers write it, 27 nodes for each particle: slow, to check the other by."""
    dx, size = config.dx, config.num_nodes
    shift = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(27, 3)
    grid, stencils = jnp.zeros((size, size, size, 4), lanes[0].x.dtype), []
    for group, props, name in zip(lanes, properties, laws, strict=True):
        x, v, C, F = (jnp.moveaxis(a, 1, -1) for a in group[:4])  # [K, B, ...]
        base = jnp.floor(x / dx - 0.5).astype(jnp.int32)
        f = x / dx - base
        w = jnp.stack([0.5 * (1.5 - f) ** 2, 0.75 - (f - 1) ** 2, 0.5 * (f - 0.5) ** 2], -2)
        w = jnp.prod(jnp.stack([w[..., shift[:, a], a] for a in range(3)]), 0)  # [K, B, 27]
        node, offset = base[..., None, :] + shift, dx * (shift - f[..., None, :])
        i, j, k = jnp.moveaxis(node, -1, 0)
        stencils.append((i, j, k, w, offset))

        nine = lambda a: list(jnp.moveaxis(a, -1, 0))  # noqa: E731
        stress = LAWS[name].stress(nine(F), nine(C), props.parameters, group.history)
        stress = jnp.stack(stress, -1).reshape(*x.shape, 3)
        kept = jnp.stack(_damped(nine(C), config), -1).reshape(*x.shape, 3)
        scaled = (4 / dx**2 * dt * props.volume)[..., None, None] * stress
        affine = props.mass[..., None, None] * kept - scaled
        momentum = (props.mass[..., None] * v)[..., None, :]
        momentum = momentum + jnp.einsum("kbij,kbsj->kbsi", affine, offset)
        mass = jnp.broadcast_to(props.mass[..., None, None], (*w.shape, 1))
        grid = grid.at[i, j, k].add(w[..., None] * jnp.concatenate([mass, momentum], -1))

    mass = grid[..., :1]
    u = jnp.where(mass > 0, grid / jnp.where(mass > 0, mass, 1.0), 0.0)
    u = config.velocity_scale * (u + dt * jnp.pad(conditions.gravity, (1, 0)))
    u = constrain(u.reshape(size, size, -1), conditions, time, dt, dx).reshape(grid.shape)[..., 1:]

    moved = []
    for group, props, name, stencil in zip(lanes, properties, laws, stencils, strict=True):
        i, j, k, w, offset = stencil
        v = jnp.einsum("kbs,kbsi->kib", w, u[i, j, k])
        C = 4 / dx**2 * jnp.einsum("kbs,kbsi,kbsj->kijb", w, u[i, j, k], offset)
        C = C.reshape(group.C.shape)
        nine = lambda a: list(jnp.moveaxis(a, 1, 0))  # noqa: E731
        x, F, history = _advance(
            *(LAWS[name], nine(v), nine(C), nine(group.x), nine(group.F)),
            *(group.history, props.parameters, dt),
        )
        moved.append(Lanes(jnp.stack(x, 1), v, C, jnp.stack(F, 1), history))
    return tuple(moved)
