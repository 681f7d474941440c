"""Rays through a radiance field: where to sample it, and the picture that it makes.

Lengths here are the field's own: a capture is moved and scaled by its `SceneBox`, so that what is
looked at lies in the unit cube.

Axes: R rays, S samples, of the far field too where there is one.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from models.nerf import background
from models.nerf.field import Codes, NerfConfig, Params, query
from render import volume
from render.camera import Rays
from render.volume import OccupancyGrid, Spacing

_RENDERED_CHUNK = 8192  # rays at a time


@struct.dataclass
class SceneBox:
    """Where a capture's subject lies: its own space to the field's and back."""

    center: jax.Array  # [3] in the capture's unit
    radius: jax.Array  # [] half the side of the cube, in that unit


class RaySamples(NamedTuple):
    """Where rays are sampled: the intervals' edges, shared by all that is compared there."""

    near: jax.Array  # [R, S + 1] in s of `Spacing`
    far: jax.Array | None  # [R, S' + 1] inverse radii, falling from one to zero


class RayOutput(NamedTuple):
    """What rays see."""

    rgb: jax.Array  # [R, 3] before black
    depth: jax.Array  # [R] distance, the field's unit
    opacity: jax.Array  # [R]
    weights: jax.Array  # [R, S] of the near samples
    density: jax.Array  # [R, S] of the near samples, per length of the field


def to_field(box: SceneBox, rays: Rays) -> Rays:
    """Moves rays of the capture into the field's space."""
    return Rays((rays.origins - box.center) / box.radius, rays.directions)


def spacing_of(rays: Rays, config: NerfConfig) -> Spacing:
    """Says which part of the rays the near field fills."""
    if config.background == "contraction":
        start = jnp.full(len(rays.origins), 0.02)
        return Spacing(start, jnp.full_like(start, jnp.inf), even=2.0)
    if config.background == "sphere":
        return Spacing(*volume.ray_sphere(rays))
    return Spacing(*volume.ray_box(rays))


def in_unit_cube(x: jax.Array, config: NerfConfig) -> jax.Array:
    """Brings places of the field's space into the cube that table and grid fill."""
    if config.background == "contraction":
        return background.to_unit_cube(background.contract(x), 2.0)
    return background.to_unit_cube(x, 1.0)


def place_samples(
    key: jax.Array | None, rays: Rays, grid: OccupancyGrid, count: int, config: NerfConfig
) -> RaySamples:
    """Chooses where to sample, after a march through the grid.

    Args:
      key: shakes the samples; None for none.
      rays: R, in the field's space.
      grid: of the field.
      count: S, static.
      config: static.
    """
    keys = (None, None, None) if key is None else jax.random.split(key, 3)
    spacing, num = spacing_of(rays, config), len(rays.origins)
    bins = volume.stratified(keys[0], num, config.bins)
    t = volume.distances(spacing, bins)
    x = in_unit_cube(volume.points_along(rays, volume.midpoints(t)), config)
    weights = volume.grid_weights(volume.look_up(grid, x), bins, t)
    near = jax.lax.stop_gradient(volume.resample(keys[1], bins, weights, count))
    if config.background != "sphere":
        return RaySamples(near, None)
    return RaySamples(near, 1.0 - volume.stratified(keys[2], num, config.far_samples))


def render_samples(
    params: Params, rays: Rays, samples: RaySamples, codes: Codes, config: NerfConfig
) -> RayOutput:
    """Renders rays at given samples.

    Called twice with the same samples and two styles, it gives densities that can be compared.

    Args:
      params: of the field.
      rays: R, in the field's space.
      samples: where.
      codes: of the rays.
      config: static.
    """
    t = volume.distances(spacing_of(rays, config), samples.near)
    x = in_unit_cube(volume.points_along(rays, volume.midpoints(t)), config)
    density, rgb = query(params, x, rays.directions, codes, config)
    near = volume.composite_samples(density, rgb, t)
    if samples.far is None:
        return RayOutput(near.rgb, near.depth, near.opacity, near.weights, density)
    far = _render_far(params, rays, samples.far, codes, config)
    left = 1.0 - near.opacity
    opacity = near.opacity + left * far.opacity
    depth = near.opacity * near.depth + left * far.opacity * far.depth
    return RayOutput(
        near.rgb + left[:, None] * far.rgb,
        depth / jnp.maximum(opacity, 1e-10),
        opacity,
        near.weights,
        density,
    )


def _render_far(params, rays, inverse, codes, config) -> volume.Composite:
    middle = volume.midpoints(inverse)
    x = background.to_unit_cube(background.inverted_points(rays, middle), 2.0)
    density, rgb = query(params, x, rays.directions, codes, config, "far")
    weights = volume.transmitted(density, -inverse)  # lengths are those of the inverse radius
    return volume.composite_weights(weights, rgb, background.inverted_distances(rays, middle))


@functools.partial(jax.jit, static_argnames=("samples", "config"))
def render_rays(
    params: Params,
    rays: Rays,
    grid: OccupancyGrid,
    box: SceneBox,
    codes: Codes,
    samples: int,
    config: NerfConfig,
) -> RayOutput:
    """Renders rays of the capture's space, without chance; depths are in the capture's unit."""
    rays = to_field(box, rays)
    output = render_samples(
        params, rays, place_samples(None, rays, grid, samples, config), codes, config
    )
    return output._replace(depth=output.depth * box.radius)
