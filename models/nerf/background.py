"""What surrounds a subject without end, brought into a bounded cube.

Either all of space is one field, shrunk outside of the unit cube (contraction), or what lies
outside of the unit ball is a field of its own, sampled evenly in the inverse of its distance
(NeRF++'s inverted sphere). Lengths are in halves of the scene's side.

Axes: R rays, S samples.

Sources: Barron et al. 2022 (contraction; its maximum norm by Tancik et al. 2023, which fills a
cube); Zhang et al. 2020 (NeRF++).
"""

import jax
import jax.numpy as jnp

from render.camera import Rays


def contract(x: jax.Array) -> jax.Array:
    """Brings space [..., 3] into the cube of half side two; the unit cube stays as it is."""
    size = jnp.maximum(jnp.max(jnp.abs(x), -1, keepdims=True), 1.0)
    return x * (2.0 - 1.0 / size) / size


def to_unit_cube(x: jax.Array, half: float) -> jax.Array:
    """Takes the cube of half side `half` around the origin to that from zero to one."""
    return 0.5 + x / (2.0 * half)


def inverted_points(rays: Rays, inverse: jax.Array) -> jax.Array:
    """Returns where rays leave balls around the origin, as places in the ball of radius two.

    The place of a point p is (2 - 1 / |p|) p / |p|: the unit sphere stays, infinity is the sphere
    of radius two. With u = 1 / |p| the direction p / |p| is u o + (u t) d, where
    u t = -u (o . d) + sqrt(1 - u^2 (|o|^2 - (o . d)^2)), which stays exact at u = 0.

    Args:
      rays: R; origins inside the unit ball.
      inverse: [R, S] the balls' inverse radii, in [0, 1].

    Returns:
      [R, S, 3].
    """
    o, d = rays.origins[:, None], rays.directions[:, None]
    u = inverse[..., None]
    along = jnp.sum(o * d, -1, keepdims=True)
    missed = jnp.sum(o * o, -1, keepdims=True) - along**2
    root = jnp.sqrt(jnp.maximum(1.0 - u**2 * missed, 1e-12))
    direction = u * o + (root - u * along) * d
    return (2.0 - u) * direction


def inverted_distances(rays: Rays, inverse: jax.Array) -> jax.Array:
    """Returns how far along the rays the balls of inverse radii [R, S] are left [R, S]."""
    along = jnp.sum(rays.origins * rays.directions, -1)[:, None]
    missed = jnp.sum(rays.origins**2, -1)[:, None] - along**2
    radius = 1.0 / jnp.maximum(inverse, 1e-4)
    return jnp.sqrt(jnp.maximum(radius**2 - missed, 0.0)) - along
