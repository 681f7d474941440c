"""What the grid does between the transfers: momentum becomes velocity, and obeys the conditions.

Axes: G nodes per side. SI units. A grid is [G, G, 4 G]: for each node mass and momentum or, once
divided, a channel of no meaning and velocity (`transfer.py`).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from render.stages import stage
from sim.boundary import Conditions, constrain

_NO_MASS = 1e-30  # kilograms: less is nothing


@dataclasses.dataclass(frozen=True)
class GridConfig:
    """The grid, and what it takes from the motion."""

    num_nodes: int = 32  # G, per side
    side: float = 1.0  # metres
    rpic_damping: float = 0.0  # share of the affine motion's stretch that is lost, 0 to 1
    pic_damping: float = 0.0  # share of all affine motion that is lost; 1 is PIC
    velocity_scale: float = 1.0  # of the grid's velocity in each step; below one it damps
    forward_mode: bool = False  # differentiable by `jax.jvp` in place of `jax.vjp`

    @property
    def dx(self) -> float:
        """Spacing of the nodes, metres."""
        return self.side / self.num_nodes


def grid_velocity(
    grid: jax.Array, conditions: Conditions, time: jax.Array, dt: jax.Array, config: GridConfig
) -> jax.Array:
    """Divides momentum by mass, adds what gravity gives in a step, and applies the conditions.

    Args:
      grid: [G, G, 4 G] kilograms and kg m/s.
      conditions: gravity, and what acts on the grid.
      time: [] seconds.
      dt: [] seconds.
      config: static.

    Returns:
      [G, G, 4 G] a channel of no meaning, then velocity, m/s.
    """
    u = stage(_velocity, static_argnums=2)(grid, dt * conditions.gravity, config.velocity_scale)
    return stage(lambda u, *args: constrain(u, *args, config.dx))(u, conditions, time, dt)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _velocity(grid: jax.Array, gain: jax.Array, scale: float) -> jax.Array:
    """Momentum over mass, the gain of a step, and damping; the first channel has no meaning."""
    nodes = grid.reshape(-1, 4)
    u = scale * (nodes / jnp.maximum(nodes[:, :1], _NO_MASS) + _channels(gain))
    return u.reshape(grid.shape)


@_velocity.defjvp
def _velocity_jvp(scale, primals, tangents):
    # By hand: the derivative of a quotient has 1 / m^2, which is too large for float32 where a
    # particle barely touches a node.
    (grid, gain), (grid_dot, gain_dot) = primals, tangents
    nodes, nodes_dot = grid.reshape(-1, 4), grid_dot.reshape(-1, 4)
    inverse = 1.0 / jnp.maximum(nodes[:, :1], _NO_MASS)
    u_dot = (nodes_dot - nodes * inverse * nodes_dot[:, :1]) * inverse
    u_dot = scale * (u_dot + _channels(gain_dot))
    return _velocity(grid, gain, scale), u_dot.reshape(grid.shape)


def _channels(vector: jax.Array) -> jax.Array:
    return jnp.concatenate([jnp.zeros(1, vector.dtype), vector])


def grid_velocity_transposed(
    grid: jax.Array,
    velocity_bar: jax.Array,
    conditions: Conditions,
    time: jax.Array,
    dt: jax.Array,
    config: GridConfig,
) -> tuple[jax.Array, Conditions]:
    """Gives the cotangent of `grid_velocity` to mass and momentum, and to the conditions.

    Args:
      grid: [G, G, 4 G], as in `grid_velocity`.
      velocity_bar: [G, G, 4 G] cotangent of its result.
      conditions: as there, likewise time, dt and config.

    Returns:
      The cotangents of the grid [G, G, 4 G] and of the conditions.
    """
    scale, gain = config.velocity_scale, dt * conditions.gravity

    @stage
    def freed(u, velocity_bar, conditions):
        _, pull = jax.vjp(lambda u, c: constrain(u, c, time, dt, config.dx), u, conditions)
        return pull(velocity_bar)

    @stage
    def given(grid, u_bar):
        # By hand: a node's mass squared may be too small for float32.
        nodes, u_bar = grid.reshape(-1, 4), scale * u_bar.reshape(-1, 4)
        inverse = 1.0 / jnp.maximum(nodes[:, :1], _NO_MASS)
        momentum_bar = u_bar * inverse
        return momentum_bar, momentum_bar * nodes * inverse

    @stage
    def joined(momentum_bar, product):
        mass_bar = -(product[:, 1:2] + product[:, 2:3] + product[:, 3:4])
        return jnp.where(np.arange(4) > 0, momentum_bar, mass_bar).reshape(grid.shape)

    u = stage(_velocity, static_argnums=2)(grid, gain, scale)
    u_bar, conditions_bar = freed(u, velocity_bar, conditions)
    pull = dt * scale * jnp.sum(u_bar.reshape(-1, 4), 0)[1:]
    conditions_bar = conditions_bar.replace(gravity=conditions_bar.gravity + pull)
    return joined(*given(grid, u_bar)), conditions_bar
