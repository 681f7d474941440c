"""Rays through a radiance field: where to sample it, and the picture that it makes.

Lengths here are the field's own: a capture is moved and scaled by its `SceneBox`, so that what is
looked at lies in the unit cube.

Axes: R rays, S samples, of the far field too where there is one.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from models.nerf import background
from models.nerf.field import Codes, NerfConfig, Params, codes_of, density_at, query
from render import volume
from render.camera import Camera, Rays, camera_rays
from render.image import RenderOutput
from render.volume import OccupancyGrid, Spacing

Color = tuple[float, float, float]
_RENDERED = 8192  # rays at a time
_UNSEEN = 1e-3  # optical depth of rays that meet nothing


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
    depth: jax.Array  # [R] distance at the mean s of what is covered, the field's unit
    opacity: jax.Array  # [R]
    weights: jax.Array  # [R, S] of the near samples
    density: jax.Array  # [R, S] of the near samples, per length of the field
    places: jax.Array  # [R, S, 3] of the near samples, in the unit cube that table and grid fill


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
    key: jax.Array | None,
    params: Params,
    rays: Rays,
    grid: OccupancyGrid,
    codes: Codes,
    count: int,
    config: NerfConfig,
) -> RaySamples:
    """Chooses where to sample: by the grid first, then by the field's own density there.

    The grid is coarse, and knows of a cell its largest density alone: a few proposals are laid by
    it. What the field holds at them, a look that is never differentiated and so costs little, says
    where the samples go.

    Args:
      key: shakes the samples; None for none.
      params: of the field.
      rays: R, in the field's space.
      grid: of the field.
      codes: of the rays.
      count: S, static.
      config: static.
    """
    keys = (None, None, None, None) if key is None else jax.random.split(key, 4)
    params, codes = jax.lax.stop_gradient((params, codes))
    spacing, num = spacing_of(rays, config), len(rays.origins)
    edges = volume.stratified(keys[0], num, config.bins)
    t = volume.distances(spacing, edges)
    held = volume.look_up(grid, _places(rays, t, config))
    weights = volume.grid_weights(held, edges, t)
    if config.proposals:
        edges = volume.resample(keys[3], edges, weights, config.proposals)
        t = volume.distances(spacing, edges)
        density = density_at(params, _places(rays, t, config), codes, config)
        weights = volume.proposal_weights(density, edges, t)
    near = jax.lax.stop_gradient(volume.resample(keys[1], edges, weights, count))
    if config.background != "sphere":
        return RaySamples(near, None)
    return RaySamples(near, 1.0 - volume.stratified(keys[2], num, config.far_samples))


def _places(rays: Rays, t: jax.Array, config: NerfConfig) -> jax.Array:
    """Returns the middles of intervals with edges t [R, S + 1], in the unit cube [R, S, 3]."""
    return in_unit_cube(volume.points_along(rays, volume.midpoints(t)), config)


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
    spacing = spacing_of(rays, config)
    t = volume.distances(spacing, samples.near)
    x = _places(rays, t, config)
    density, rgb = query(params, x, rays.directions, codes, config)
    density, rgb = volume.fade_near(density, t), volume.fade_near(rgb, t)
    weights = volume.transmitted(density, t)
    near = volume.composite_weights(weights, rgb, volume.midpoints(samples.near))
    # The mean is one of s: a glimpse of what is endlessly far would make any mean of distances so.
    depth = volume.distances(spacing, near.depth[:, None])[:, 0]
    near = near._replace(depth=jnp.where(near.opacity > 0, depth, 0.0))
    if samples.far is None:
        return RayOutput(near.rgb, near.depth, near.opacity, near.weights, density, x)
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
        x,
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
    places = place_samples(None, params, rays, grid, codes, samples, config)
    output = render_samples(params, rays, places, codes, config)
    return output._replace(depth=output.depth * box.radius)


def render_picture(
    params: Params,
    camera: Camera,
    grid: OccupancyGrid,
    box: SceneBox,
    style: float,
    samples: int,
    config: NerfConfig,
    background: Color = (1.0, 1.0, 1.0),
) -> RenderOutput:
    """Renders a picture, in the mean of all photos' appearances.

    Runs on the host: rays go to the device in chunks of one size, so that pictures of any size
    share a compiled program, and those that meet nothing by the grid do not go at all.

    Args:
      params: of the field.
      camera: of the capture's space.
      grid: of the field.
      box: of the field.
      style: alpha in [0, 1].
      samples: S, of a ray.
      config: static.
      background: of what the field leaves free.
    """
    rays = _camera_rays(camera)
    height, width = camera.height, camera.width
    total = height * width
    chosen = np.arange(total)
    if config.background == "none":
        chosen = np.flatnonzero(np.asarray(_meets(rays, grid, box, config)))
    count = -(-len(chosen) // _RENDERED) * _RENDERED
    padded = np.resize(chosen, count) if len(chosen) else chosen
    found = []
    for start in range(0, count, _RENDERED):
        index = padded[start : start + _RENDERED]
        some = jax.tree.map(lambda leaf, i=index: leaf[i], rays)
        found.append(_rendered(params, some, grid, box, np.float32(style), samples, config))
    rgb = np.zeros((total, 3), np.float32)
    depth, opacity = np.zeros(total, np.float32), np.zeros(total, np.float32)
    if found:
        found = [np.concatenate(parts)[: len(chosen)] for parts in zip(*found, strict=True)]
        rgb[chosen], depth[chosen], opacity[chosen] = found
    along = np.asarray(rays.directions @ camera.rotation[2]).ravel()  # distances are no depths
    rgb += (1.0 - opacity)[:, None] * np.float32(background)
    return RenderOutput(
        rgb=rgb.reshape(height, width, 3),
        alpha=opacity.reshape(height, width),
        depth=(depth * along).reshape(height, width),
        needed=np.int32(0),
        overflow=np.bool_(False),
    )


@jax.jit
def _camera_rays(camera: Camera) -> Rays:
    return jax.tree.map(lambda leaf: leaf.reshape(-1, 3), camera_rays(camera))


@functools.partial(jax.jit, static_argnames="config")
def _meets(rays: Rays, grid: OccupancyGrid, box: SceneBox, config: NerfConfig) -> jax.Array:
    """Whether the grid holds something that rays [R] meet."""
    rays = to_field(box, rays)
    spacing = spacing_of(rays, config)
    t = volume.distances(spacing, volume.stratified(None, len(rays.origins), config.bins))
    stopped = jnp.sum(volume.look_up(grid, _places(rays, t, config)) * jnp.diff(t), -1)
    return stopped > _UNSEEN


@functools.partial(jax.jit, static_argnames=("samples", "config"))
def _rendered(params, rays, grid, box, style, samples, config):
    codes = codes_of(params, jnp.full(len(rays.origins), style))
    output = render_rays(params, rays, grid, box, codes, samples, config)
    return output.rgb, output.depth, output.opacity
