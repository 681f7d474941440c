"""Volume rendering: where along a ray to look, and what the samples there add up to.

A ray is cut into intervals of which each has one density and one colour. Their edges are chosen in
two goes: a coarse march through an occupancy grid says where the ray meets matter, and a fixed
number of intervals is laid there. Empty space costs a look into the grid and nothing else, and all
shapes are static.

Axes: R rays, S intervals of a ray, K bins of the coarse march, G cells along the grid's side, P
patches of B x B pixels. Densities are per length, lengths in the scene's own unit. `s` in [0, 1]
says how far along a ray a place is, by `Spacing`.

Sources: Max 1995 (quadrature); Barron et al. 2022 (distortion, spacing, proposals); Mueller et al.
2022 (grid); Niemeyer et al. 2022 (depth patches); Philip and Deschaintre 2023 (gradients near).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from render.camera import Rays

_TINY = 1e-10
_FLOOR = 0.15  # share of the intervals that is laid where nothing is known to be
_BELIEVED = 0.7  # most that a cell of the grid is believed to dim a ray that passes, optical depth
_EVEN = 0.5  # share of the bins of an unbounded ray that are of one length


@struct.dataclass
class OccupancyGrid:
    """About how dense the cells of the unit cube are: the largest seen, slowly forgotten."""

    density: jax.Array  # [G, G, G] per length


class Spacing(NamedTuple):
    """How far along a ray the places s in [0, 1] are."""

    near: jax.Array  # [R] distance of s = 0
    far: jax.Array  # [R] of s = 1; infinite where rays have no end
    even: float = 1.0  # of endless rays: the length that the first half of s covers


class Composite(NamedTuple):
    """What the intervals of rays add up to."""

    rgb: jax.Array  # [R, 3] before a black background
    depth: jax.Array  # [R] distance along the ray, mean over what is covered; zero where nothing is
    opacity: jax.Array  # [R] share of the ray's light that the samples stop
    weights: jax.Array  # [R, S] share of each interval


def init_grid(size: int, density: float = 1.0) -> OccupancyGrid:
    """Returns a grid [size, size, size] of which every cell may hold something."""
    return OccupancyGrid(jnp.full([size] * 3, density, jnp.float32))


def draw_cells(key: jax.Array, grid: OccupancyGrid, count: int) -> tuple[jax.Array, jax.Array]:
    """Draws cells to look at anew.

    Returns:
      Flat indices [count] of cells, and a random place [count, 3] of the unit cube in each.
    """
    index_key, place_key = jax.random.split(key)
    size = grid.density.shape[0]
    index = jax.random.randint(index_key, (count,), 0, size**3)
    cell = jnp.stack(jnp.unravel_index(index, grid.density.shape), -1)
    return index, (cell + jax.random.uniform(place_key, (count, 3))) / size


def update_grid(
    grid: OccupancyGrid, index: jax.Array, density: jax.Array, decay: float
) -> OccupancyGrid:
    """Forgets a little, and takes in what was found.

    Args:
      grid: before.
      index: [M] flat, of cells.
      density: [M] found there.
      decay: what is left of the cells that were looked at, unless they hold more.
    """
    flat = grid.density.ravel()
    seen = flat.at[index].multiply(decay).at[index].max(density)
    return OccupancyGrid(seen.reshape(grid.density.shape))


def see(grid: OccupancyGrid, x: jax.Array, density: jax.Array) -> OccupancyGrid:
    """Takes in densities [...] that were met on the way at places [..., 3] of the unit cube."""
    flat = grid.density.ravel().at[_cells(grid, x).ravel()].max(density.ravel())
    return OccupancyGrid(flat.reshape(grid.density.shape))


def look_up(grid: OccupancyGrid, x: jax.Array) -> jax.Array:
    """Returns the density [...] of the cells at places [..., 3] of the unit cube."""
    return grid.density.ravel()[_cells(grid, x)]


def _cells(grid: OccupancyGrid, x: jax.Array) -> jax.Array:
    size = grid.density.shape[0]
    cell = jnp.clip((x * size).astype(jnp.int32), 0, size - 1)
    return (cell[..., 0] * size + cell[..., 1]) * size + cell[..., 2]


def distances(spacing: Spacing, s: jax.Array) -> jax.Array:
    """Returns the distances [R, S] of places s [R, S] along rays.

    Bounded rays are evenly spaced. Endless ones are at first; then what lies between two places
    grows with the distance, and s = 1 is infinitely far.
    """
    near, far = spacing.near[:, None], spacing.far[:, None]
    is_endless = jnp.isinf(far)
    bounded = near + s * (jnp.where(is_endless, near, far) - near)
    slope = spacing.even / _EVEN
    beyond = spacing.even * (1.0 - _EVEN) / jnp.maximum(1.0 - s, 1e-4)
    endless = near + jnp.where(s <= _EVEN, slope * s, beyond)
    return jnp.where(is_endless, endless, bounded)


def points_along(rays: Rays, t: jax.Array) -> jax.Array:
    """Returns the points [R, S, 3] at distances t [R, S]."""
    return rays.origins[:, None] + t[..., None] * rays.directions[:, None]


def midpoints(edges: jax.Array) -> jax.Array:
    """Returns the middles [R, S] between edges [R, S + 1]."""
    return 0.5 * (edges[..., 1:] + edges[..., :-1])


def ray_box(rays: Rays, half: float = 1.0) -> tuple[jax.Array, jax.Array]:
    """Returns where rays enter and leave the cube of half side `half` around the origin.

    Two distances [R], from the ray's origin on and not behind it; equal where it is missed.
    """
    direction = rays.directions
    safe = jnp.where(jnp.abs(direction) < 1e-9, 1e-9, direction)
    ends = jnp.stack([-half - rays.origins, half - rays.origins]) / safe
    near = jnp.maximum(jnp.max(jnp.min(ends, 0), -1), 0.0)
    return near, jnp.maximum(jnp.min(jnp.max(ends, 0), -1), near)


def ray_sphere(rays: Rays, radius: float = 1.0) -> tuple[jax.Array, jax.Array]:
    """Returns where rays enter and leave a ball around the origin, as `ray_box` does."""
    middle = -jnp.sum(rays.origins * rays.directions, -1)
    height = jnp.sum(rays.origins**2, -1) - middle**2  # squared distance of the whole line
    half = jnp.sqrt(jnp.maximum(radius**2 - height, 0.0))
    near = jnp.maximum(middle - half, 0.0)
    return near, jnp.maximum(middle + half, near)


def stratified(key: jax.Array | None, num_rays: int, count: int) -> jax.Array:
    """Returns edges [R, count + 1] of intervals that fill [0, 1]: even, or shaken with a key."""
    even = jnp.broadcast_to(jnp.linspace(0.0, 1.0, count + 1), (num_rays, count + 1))
    if key is None or count == 1:
        return even
    shift = (jax.random.uniform(key, (num_rays, count - 1)) - 0.5) / count
    return even.at[:, 1:-1].add(shift)


def grid_weights(grid_density: jax.Array, edges: jax.Array, t: jax.Array) -> jax.Array:
    """Returns how many proposals each bin deserves [R, K], by what the grid holds there.

    That is the light the bin would stop, and so that nothing is missed a little everywhere. A cell
    that holds something may still let a ray by, so that no bin is believed to stop all of it.

    Args:
      grid_density: [R, K] in the bins.
      edges: [R, K + 1] in s.
      t: [R, K + 1] the distances there.
    """
    length = jnp.maximum(jnp.diff(t), _TINY)
    return _shares(transmitted(jnp.minimum(grid_density, _BELIEVED / length), t), edges)


def proposal_weights(density: jax.Array, edges: jax.Array, t: jax.Array) -> jax.Array:
    """Returns how many samples each proposal deserves [R, K], by its density, as above."""
    return _shares(transmitted(density, t), edges)


def _shares(weights: jax.Array, edges: jax.Array) -> jax.Array:
    # A bin's neighbour may hold what the bin just misses.
    ends = jnp.pad(weights, ((0, 0), (1, 1)))
    weights = jnp.maximum(weights, 0.5 * (ends[:, 2:] + ends[:, :-2]))
    total = jnp.sum(weights, -1, keepdims=True)
    return (1.0 - _FLOOR) * weights / jnp.maximum(total, 1e-3) + _FLOOR * jnp.diff(edges)


def resample(key: jax.Array | None, edges: jax.Array, weights: jax.Array, count: int) -> jax.Array:
    """Lays intervals where bins have weight, by the inverse of its running sum.

    Args:
      key: shakes the new edges; None for none.
      edges: [R, K + 1] of the bins, rising.
      weights: [R, K] at least zero.
      count: S, static.

    Returns:
      Edges [R, S + 1], rising, from the first old one to the last.
    """
    weights = weights + 1e-6
    running = jnp.cumsum(weights, -1)
    running = jnp.pad(running / running[:, -1:], ((0, 0), (1, 0)))  # [R, K + 1], 0 to 1
    wanted = stratified(key, len(weights), count)
    # How many bins end before it: rows are short, comparing all is faster than a search.
    bin_ = jnp.sum(running[:, None, 1:-1] <= wanted[..., None], -1)
    low, high = (jnp.take_along_axis(running, bin_ + shift, -1) for shift in (0, 1))
    start, end = (jnp.take_along_axis(edges, bin_ + shift, -1) for shift in (0, 1))
    share = jnp.clip((wanted - low) / jnp.maximum(high - low, _TINY), 0.0, 1.0)
    return start + share * (end - start)


def transmitted(density: jax.Array, t: jax.Array) -> jax.Array:
    """Returns the share [R, S] of a ray's light that each interval stops.

    Args:
      density: [R, S] per length.
      t: [R, S + 1] edges, lengths.
    """
    depth = density * jnp.diff(t)
    before = jnp.cumsum(depth, -1) - depth
    return jnp.exp(-before) * -jnp.expm1(-depth)


def fade_near(values: jax.Array, t: jax.Array) -> jax.Array:
    """Returns values of samples as they are, and lets those close to the camera learn slowly.

    A place is met by the more rays of a photo the closer it is to its camera: what they teach it is
    fog that no other photo sees. Gradients are multiplied by the square of the distance, up to a
    distance of one length unit (Philip and Deschaintre 2023).

    Args:
      values: [R, S, ...] densities or colours.
      t: [R, S + 1] distances of the intervals' edges.
    """
    share = jnp.minimum(midpoints(t) ** 2, 1.0)
    share = share.reshape(*share.shape, *[1] * (values.ndim - 2))
    return share * values + jax.lax.stop_gradient((1.0 - share) * values)


def composite_samples(density: jax.Array, color: jax.Array, t: jax.Array) -> Composite:
    """Adds up the samples of rays.

    Args:
      density: [R, S] per length.
      color: [R, S, 3].
      t: [R, S + 1] distances of the intervals' edges.
    """
    weights = transmitted(density, t)
    return composite_weights(weights, color, midpoints(t))


def composite_weights(weights: jax.Array, color: jax.Array, middle: jax.Array) -> Composite:
    """Adds up colours [R, S, 3] and distances [R, S] of intervals by their shares [R, S]."""
    opacity = jnp.sum(weights, -1)
    depth = jnp.sum(weights * middle, -1) / jnp.maximum(opacity, _TINY)
    rgb = jnp.einsum("rs,rsc->rc", weights, color)
    return Composite(rgb, jnp.where(opacity > 0, depth, 0.0), opacity, weights)


def distortion(edges: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns how far the weight of each ray [R] is spread, its own mean distance in s.

    Integrates |s - s'| over the ray's weight twice (Barron et al. 2022, Eq. 15) in one pass.

    Args:
      edges: [R, S + 1] in s.
      weights: [R, S].
    """
    middle = midpoints(edges)
    before = jnp.cumsum(weights, -1) - weights
    moment = jnp.cumsum(weights * middle, -1) - weights * middle
    between = 2.0 * jnp.sum(weights * (middle * before - moment), -1)
    return between + jnp.sum(weights**2 * jnp.diff(edges), -1) / 3.0


def patch_pixels(corners: jax.Array, size: int = 8) -> jax.Array:
    """Returns the pixel centres [P, B, B, 2] of square patches, x then y.

    Args:
      corners: [P, 2] whole numbers, the pixel at the patch's top left.
      size: B, pixels a side.
    """
    step = jnp.arange(size)
    offset = jnp.stack(jnp.meshgrid(step, step), -1)
    return corners[:, None, None] + offset + 0.5


def depth_smoothness(depth: jax.Array) -> jax.Array:
    """Returns the mean squared step between neighbouring depths of patches [P, B, B]."""
    across = jnp.mean(jnp.diff(depth, axis=2) ** 2)
    return across + jnp.mean(jnp.diff(depth, axis=1) ** 2)
