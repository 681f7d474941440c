"""Which triangles each pixel sees: a z-buffer over tiles, without gradients.

Axes: T triangles (the last one is a dummy that covers nothing), L tiles, G groups of B tiles,
C triangles of a chunk, P pixels of a tile. Pixels and camera axes as in `camera.py`.

Edges are inclusive, with a slack of a ten-thousandth of a pixel against rounding: neighbours leave
no crack, and where both cover a pixel the nearer one wins, or either. Triangles with a corner
nearer than `near` (behind a perspective camera included), with a corner that is not finite, or
thinner than the slack are left out.

Source: Pineda 1988 (edge functions).
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from render import tiles
from render.stages import stage

_SLACK = 1e-4  # pixels an edge lies further out than it should
_SLACK_OF_SIZE = 1e-6  # and the same for each pixel of the triangle's size: rounding grows with it
_FAR_PIXELS = 1e6  # triangles that reach further out of the picture are left out


@dataclasses.dataclass(frozen=True)
class RasterizeConfig:
    """Settings of `rasterize`; hashable, so static under jit."""

    cull_back_faces: bool = False  # of what is opaque; cards have two sides
    near: float = 1e-3  # metres before a perspective camera
    tile_size: int | None = None  # pixels; None takes 8, or more if the lists' keys need it
    chunk: int = 4  # triangles tested at once, a power of two
    group: int = 32  # tiles worked on at once; an accelerator wants thousands
    max_pairs: int | None = None  # triangle-tile pairs; None guesses from the mesh and the picture


class Winners(NamedTuple):
    triangle: jax.Array  # [H, W] int32; T - 1, the dummy, where there is none
    needed: jax.Array  # [] int32 triangle-tile pairs that the picture takes
    overflow: jax.Array  # [] bool


def find_winners(
    corners: jax.Array, width: int, height: int, orthographic: bool, config: RasterizeConfig
) -> Winners:
    """Finds the nearest triangle at each pixel centre.

    Args:
      corners: [T, 3, 3] pixel x, pixel y and depth of each corner; the last triangle is a dummy
        without area.
      width: of the picture, pixels.
      height: of the picture, pixels.
      orthographic: whether depth rather than its inverse is affine on the screen.
      config: static settings.
    """
    grid, lists, rows = set_up(corners, width, height, orthographic, config)
    groups, _, triangle = draw_nearest(grid, lists, rows, config)
    return Winners(tiles.assemble(grid, groups, triangle), lists.needed[0], lists.overflow)


def set_up(
    corners: jax.Array,
    width: int,
    height: int,
    orthographic: bool,
    config: RasterizeConfig,
    num_opaque: jax.Array | int | None = None,
) -> tuple[tiles.TileGrid, tiles.TileLists, jax.Array]:
    """Returns the tiles, the triangles that each may show, and the rows of `_rows_of`.

    Args:
      corners, width, height, orthographic, config: as for `find_winners`.
      num_opaque: triangles from this number on are cards; None: there are none.
    """
    if config.chunk & (config.chunk - 1):
        raise ValueError(f"expected a chunk that is a power of two, found {config.chunk}")
    num_triangles = corners.shape[0]
    tile_size = config.tile_size or tiles.smallest_tile(width, height, num_triangles)
    grid = tiles.TileGrid(width, height, tile_size)
    corners = lax.stop_gradient(corners).astype(jnp.float32)
    is_culled = None
    if config.cull_back_faces:
        is_culled = jnp.arange(num_triangles) < (
            num_triangles if num_opaque is None else num_opaque
        )
    rows, rectangles = _rows_of(corners, grid, orthographic, config, is_culled)
    max_pairs = config.max_pairs
    if max_pairs is None:
        # Enough for any few triangles, or for a fine mesh that fills half of the picture. Cards,
        # such as hair, are long and lie over each other.
        few = min(num_triangles * grid.num_tiles, 2**14)
        depth = 6 if num_opaque is None else 14
        max_pairs = max(few, 3 * num_triangles // 2 + depth * grid.num_tiles)
    return grid, tiles.build_tile_lists(grid, rectangles, max_pairs), rows


def _rows_of(
    corners: jax.Array,
    grid: tiles.TileGrid,
    orthographic: bool,
    config: RasterizeConfig,
    is_culled: jax.Array | None,
):
    """Prepares what the pixels ask of each triangle of [T, 3, 3], and the tiles it touches.

    A row of 12 holds x and y of the corners, turned to run clockwise on the screen (y down: with
    the inside on their right); nearness at corner 0 and its slopes along x and y; its least and
    largest value; the slack. Those of `is_culled` [T] count from in front only. Nearness is
    positive and affine on the screen: the inverse depth, or for an orthographic camera the depth
    turned round and moved to [1, 2].
    """
    (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = (tuple(corners[:, k].T) for k in range(3))
    low = jnp.stack([_least(x0, x1, x2), _least(y0, y1, y2)], -1)
    high = jnp.stack([_largest(x0, x1, x2), _largest(y0, y1, y2)], -1)
    extent = jnp.max(high - low, -1)
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)  # twice; front faces have it negative
    slack = (_SLACK + _SLACK_OF_SIZE * extent) * extent
    is_valid = jnp.abs(area) > slack  # the least height is the area by the longest side
    # NaN fails every comparison, infinity these.
    is_valid &= (extent < _FAR_PIXELS) & jnp.all(jnp.abs(low) < _FAR_PIXELS, -1)
    is_valid &= jnp.abs(z0 + z1 + z2) < jnp.inf
    if is_culled is not None:
        is_valid &= (area < 0) | ~is_culled
    if orthographic:
        nearest = jnp.min(jnp.where(is_valid, _least(z0, z1, z2), jnp.inf))
        farthest = jnp.max(jnp.where(is_valid, _largest(z0, z1, z2), -jnp.inf))
        scale = 1.0 / jnp.maximum(farthest - nearest, 1e-9)
        w0, w1, w2 = (2.0 - (z - nearest) * scale for z in (z0, z1, z2))
    else:
        is_valid &= _least(z0, z1, z2) > config.near
        w0, w1, w2 = (1.0 / z for z in (z0, z1, z2))
    is_valid = stage(lambda v: v)(is_valid)  # used by every column below
    slope_x = ((w1 - w0) * (y2 - y0) - (w2 - w0) * (y1 - y0)) / area
    slope_y = ((w2 - w0) * (x1 - x0) - (w1 - w0) * (x2 - x0)) / area
    w_bounds = [_least(w0, w1, w2), _largest(w0, w1, w2)]
    is_turned = area < 0
    turned = [jnp.where(is_turned, p, q) for p, q in ((x2, x1), (y2, y1), (x1, x2), (y1, y2))]
    columns = [x0, y0, *turned, w0, slope_x, slope_y, *w_bounds, slack]
    columns = [jnp.where(is_valid, column, -1.0) for column in columns]  # a slack nothing passes
    return jnp.stack(columns).T, tiles.tile_rectangles(grid, low, high, is_valid)


def _least(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    return jnp.minimum(jnp.minimum(a, b), c)


def _largest(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    return jnp.maximum(jnp.maximum(a, b), c)


def draw_nearest(
    grid: tiles.TileGrid, lists: tiles.TileLists, rows: jax.Array, config: RasterizeConfig
) -> tuple[tiles.TileGroups, jax.Array, jax.Array]:
    """Finds the nearest triangle of each pixel.

    Returns:
      The tiles in groups; bits [G, B, P] int32 of the nearness, but for the last ones, zero where
      there is nothing; and the triangles [G, B, P], there the dummy.
    """
    chunk, dummy = config.chunk, rows.shape[0] - 1
    # A chunk may read past its tile's list. The next tile's triangles do no harm there, as each
    # pixel tests what it is given; past the last list there must be something to read.
    item = jnp.concatenate([lists.item, jnp.full(chunk, dummy, jnp.int32)])
    item = jnp.minimum(item, dummy)
    empty = lists.item.shape[0]
    within_chunk = jnp.arange(chunk, dtype=jnp.int32)
    test_chunk = stage(functools.partial(_nearest_of_chunk, grid.size))

    def draw_group(_, tile: tiles.TileGroups):
        num_chunks = -(-tile.count // chunk)

        def draw_chunk(i, state):
            best, best_slot = state
            first = jnp.where(i < num_chunks, tile.start + i * chunk, empty)
            index = item.at[first[:, None] + within_chunk].get(mode="promise_in_bounds")
            key = test_chunk(rows.at[index].get(mode="promise_in_bounds"), tile.origin)
            slot = first[:, None] + (key & (chunk - 1))
            return jnp.maximum(best, key), jnp.where(key > best, slot, best_slot)

        nothing = jnp.zeros((tile.count.shape[0], grid.size**2), jnp.int32)
        last = jnp.max(num_chunks)
        state = lax.fori_loop(jnp.zeros_like(last), last, draw_chunk, (nothing, nothing + empty))
        return None, (state[0] & -chunk, item.at[state[1]].get(mode="promise_in_bounds"))

    groups = tiles.group_tiles(grid, lists, config.group)
    _, (bits, triangle) = lax.scan(draw_group, None, groups)
    return groups, bits, triangle


def _nearest_of_chunk(size: int, q: jax.Array, origin: jax.Array) -> jax.Array:
    """Tests the pixels of B tiles against C triangles each.

    Args:
      size: of a tile, pixels.
      q: [B, C, 12] rows of `_rows_of`.
      origin: [B, 2] pixel position of the tiles' top left corners.

    Returns:
      [B, P] int32: bits of the largest nearness, their last ones replaced by the place k of its
      triangle in the chunk; zero where no triangle covers the pixel. Nearness is positive, so its
      bits grow with it, and one maximum finds the winner together with its place.
    """
    num_triangles = q.shape[1]

    def key_of(k):
        is_inside, bits = cover_pixels(size, q[:, k], origin)
        return jnp.where(is_inside, (bits & -num_triangles) | k, 0)

    return functools.reduce(jnp.maximum, [key_of(k) for k in range(num_triangles)])


def cover_pixels(size: int, q: jax.Array, origin: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Tests the pixels of tiles at `origin` [B, 2] against one triangle [B, 12] each.

    Returns:
      Whether it covers them [B, P], and the bits of its nearness [B, P] int32.
    """
    y, x = (v.ravel().astype(np.float32) for v in np.mgrid[:size, :size] + 0.5)
    g = q[:, :, None]
    x0, y0, x1, y1, x2, y2 = (g[:, i] - origin[:, i % 2, None] for i in range(6))
    w0, slope_x, slope_y, w_min, w_max, slack = (g[:, 6 + i] for i in range(6))

    def edge(xa, ya, xb, yb):
        # From a corner on: products of whole coordinates would round too coarsely.
        dx, dy = xb - xa, ya - yb
        return dy * x + (dx * y + (slack - dy * xa - dx * ya))

    is_inside = _least(edge(x0, y0, x1, y1), edge(x1, y1, x2, y2), edge(x2, y2, x0, y0)) >= 0
    w = slope_x * x + (slope_y * y + (w0 - slope_x * x0 - slope_y * y0))
    return is_inside, lax.bitcast_convert_type(jnp.clip(w, w_min, w_max), jnp.int32)
