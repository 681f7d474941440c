"""The nearest triangles of each pixel, some of which, cards, are seen through, as in hair.

Axes: T triangles (the last one is a dummy that covers nothing), L tiles, G groups of B tiles, P
pixels of a tile, K layers, nearest first, C channels.

Layers are the nearest triangles of a pixel in their order, as far as the first opaque one. The list
of a tile holds its opaque triangles first. They are drawn as ever; the cards are then sorted into
the K places of each pixel, one test each, so what is opaque takes its time and no more.

Sources: Carpenter 1984 (the A-buffer), Bavoil et al. 2007 (its K nearest fragments in one pass);
Porter and Duff 1984 (the operator "over").
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from render import tiles
from render.stages import stage
from render.zbuffer import RasterizeConfig, cover_pixels, draw_nearest, set_up

Shade = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


class Layers(NamedTuple):
    triangle: jax.Array  # [K, H, W] int32, nearest first; T - 1, the dummy, where there is none
    needed: jax.Array  # [] int32 triangle-tile pairs that the picture takes
    overflow: jax.Array  # [] bool


class TileLayers(NamedTuple):
    """Layers as they are found, tile by tile."""

    grid: tiles.TileGrid
    groups: tiles.TileGroups  # by how many cards the tiles' pixels see at most, which is `count`
    triangle: jax.Array  # [L, K, P] int32, nearest first; T - 1, the dummy, where there is none
    opaque: jax.Array  # [H, W] int32 the nearest opaque triangle, behind the cards, or the dummy
    needed: jax.Array  # [] int32 triangle-tile pairs that the picture takes
    overflow: jax.Array  # [] bool


def find_layers(
    corners: jax.Array,
    width: int,
    height: int,
    orthographic: bool,
    config: RasterizeConfig,
    num_layers: int,
    num_opaque: jax.Array | int,
) -> Layers:
    """Finds the nearest triangles at each pixel centre, as far as the first opaque one.

    Depths nearer together than a millionth of the depth may come in either order; the more so, by
    one bit for each doubling, where a tile holds more than a thousand cards.

    Args:
      corners: as for `find_winners`.
      width: of the picture, pixels.
      height: of the picture, pixels.
      orthographic: whether depth rather than its inverse is affine on the screen.
      config: static settings.
      num_layers: K, static.
      num_opaque: triangles from this number on are cards, which do not hide what is behind them.
    """
    found = find_tile_layers(corners, width, height, orthographic, config, num_layers, num_opaque)
    triangle = tiles.lay_out(found.grid, jnp.swapaxes(found.triangle, 1, 2))
    return Layers(jnp.moveaxis(triangle, -1, 0), found.needed, found.overflow)


def find_tile_layers(
    corners: jax.Array,
    width: int,
    height: int,
    orthographic: bool,
    config: RasterizeConfig,
    num_layers: int,
    num_opaque: jax.Array | int,
    group: int | None = None,
) -> TileLayers:
    """Does what `find_layers` does, and leaves the layers in tiles.

    Args:
      corners, width, height, orthographic, config, num_layers, num_opaque: as of `find_layers`.
      group: B of the groups that are returned; None takes that of `config`.
    """
    if num_layers < 1:
        raise ValueError(f"expected one layer or more, found {num_layers}")
    grid, lists, rows = set_up(corners, width, height, orthographic, config, num_opaque)
    is_opaque = lists.item < num_opaque
    before = jnp.append(jnp.int32(0), jnp.cumsum(is_opaque, dtype=jnp.int32))
    count = before[lists.start + lists.count] - before[lists.start]
    # A chunk may read past its list: of the opaque ones, into the cards.
    item = jnp.where(is_opaque, lists.item, rows.shape[0] - 1)
    opaque = draw_nearest(grid, lists._replace(item=item, count=count), rows, config)
    cards = lists._replace(start=lists.start + count, count=lists.count - count)
    triangle = _draw_cards(grid, cards, rows, config, num_layers, *opaque)
    is_card = (triangle >= num_opaque) & (triangle < rows.shape[0] - 1)
    depth = jnp.max(jnp.sum(is_card, 1, dtype=jnp.int32), -1)
    groups = tiles.group_tiles(grid, cards._replace(count=depth), group or config.group)
    opaque_groups, _, winner = opaque
    winner = tiles.assemble(grid, opaque_groups, winner)
    return TileLayers(grid, groups, triangle, winner, lists.needed[0], lists.overflow)


def composite_cards(
    shade: Shade, layers: TileLayers, num_opaque: jax.Array | int, num_triangles: int
) -> jax.Array:
    """Lays the cards over each other that pixels see in front of what is opaque.

    Where the last layer is a card, the layers ran out before the pixel came to something opaque:
    that card closes, its alpha counts as one. Else what is behind hair would shine through it.

    Tiles whose pixels see as many cards are worked on together, and a layer is left out where none
    of them sees one: it takes the time of the cards that are seen, about.

    Args:
      shade: takes triangle, x and y [B, P] of pixels, and returns their colours [B, P, C] and
        alphas [B, P]; what it says of pixels without a card is ignored.
      layers: what the pixels see.
      num_opaque: triangles from this number on are cards.
      num_triangles: of all; from this number on there are none.

    Returns:
      Colours [H, W, C] times the share of each pixel that the cards cover. A channel that is one
      everywhere gives that share.
    """
    grid, num_layers = layers.grid, layers.triangle.shape[1]
    y, x = (v.ravel() + 0.5 for v in np.mgrid[: grid.size, : grid.size])

    def draw_group(_, tile: tiles.TileGroups):
        triangle = layers.triangle.at[tile.tile].get(mode="clip")
        at = tile.origin[:, 0, None] + x, tile.origin[:, 1, None] + y
        depth = jnp.max(tile.count)

        def add_layer(k, state):
            shown, through = state
            here = triangle[:, k]
            color, alpha = shade(here, *at)
            if k == num_layers - 1:
                alpha = jnp.ones_like(alpha)
            alpha = jnp.where((here >= num_opaque) & (here < num_triangles), alpha, 0.0)
            return shown + (through * alpha)[..., None] * color, through * (1.0 - alpha)

        color, alpha = jax.eval_shape(lambda: shade(triangle[:, 0], *at))
        nothing = jnp.zeros(color.shape, color.dtype)

        def blend():
            state = nothing, jnp.ones(alpha.shape, alpha.dtype)
            for k in range(num_layers):
                add = functools.partial(add_layer, k)
                state = lax.cond(k < depth, add, lambda state: state, state)
            return state[0]

        return None, lax.cond(depth > 0, blend, lambda: nothing)

    _, drawn = lax.scan(draw_group, None, layers.groups)
    return tiles.assemble(grid, layers.groups, drawn)


class _Ranks(NamedTuple):
    """How nearness and a place in a tile's list share one integer, which sorts by nearness."""

    lowest: jax.Array  # [] int32 bits of the least nearness
    shift: jax.Array  # [] int32 bits of nearness that there is no room for
    place_bits: jax.Array  # [] int32

    def of(self, bits: jax.Array) -> jax.Array:
        """Returns the integer of nearness `bits`, its place zero."""
        return (((bits - self.lowest) >> self.shift) + 1) << self.place_bits


def _ranks(rows: jax.Array, longest: jax.Array) -> _Ranks:
    """Divides the bits between nearness and the places in lists of at most `longest` triangles."""
    w_min, w_max = rows[:, 9], rows[:, 10]
    bounds = jnp.stack([jnp.min(jnp.where(w_min > 0, w_min, jnp.inf)), jnp.max(w_max)])
    lowest, highest = lax.bitcast_convert_type(bounds, jnp.int32)
    place_bits, bits = (32 - lax.clz(v) for v in (longest, jnp.maximum(highest - lowest, 0)))
    return _Ranks(lowest, jnp.maximum(bits + place_bits - 30, 0), place_bits)


def _draw_cards(
    grid: tiles.TileGrid,
    lists: tiles.TileLists,
    rows: jax.Array,
    config: RasterizeConfig,
    num_layers: int,
    opaque_groups: tiles.TileGroups,
    opaque_bits: jax.Array,
    opaque_triangle: jax.Array,
) -> jax.Array:
    """Returns the layers [L, K, P] of the cards in `lists` and of what `_draw` found opaque."""
    chunk, dummy = config.chunk, rows.shape[0] - 1
    item = jnp.concatenate([lists.item, jnp.full(chunk, dummy, jnp.int32)])
    item = jnp.minimum(item, dummy)
    within_chunk = jnp.arange(chunk, dtype=jnp.int32)
    ranks = _ranks(rows, jnp.max(lists.count, initial=0))
    test_chunk = stage(functools.partial(_ranks_of_chunk, grid.size))
    opaque_rank = jnp.where(opaque_bits > 0, ranks.of(opaque_bits), 0)
    opaque = [tiles.ungroup(grid, opaque_groups, v) for v in (opaque_rank, opaque_triangle)]

    def draw_group(_, tile: tiles.TileGroups):
        hidden_from, behind = (v.at[tile.tile].get(mode="clip") for v in opaque)
        num_chunks = -(-jnp.max(tile.count) // chunk)

        def draw_chunk(i, layers):
            place = i * chunk + within_chunk
            # Each card once: what the next tile's list shares with this one would come twice.
            is_card = place < tile.count[:, None]
            index = jnp.where(is_card, tile.start[:, None] + place, lists.item.shape[0])
            index = item.at[index].get(mode="promise_in_bounds")
            corners = rows.at[index].get(mode="promise_in_bounds")
            for rank in test_chunk(corners, tile.origin, place + 1, ranks):
                layers = _insert(layers, rank)
            return layers

        def triangle_of(rank):
            place = (rank & ((1 << ranks.place_bits) - 1)) - 1
            slot = jnp.where(rank > hidden_from, tile.start[:, None] + place, lists.item.shape[0])
            card = item.at[slot].get(mode="promise_in_bounds")
            return jnp.where(rank == hidden_from, behind, card)

        def sort_cards():
            nothing = jnp.zeros_like(hidden_from)
            start = (hidden_from, *(nothing,) * (num_layers - 1))
            layers = lax.fori_loop(jnp.zeros_like(num_chunks), num_chunks, draw_chunk, start)
            return jnp.stack([triangle_of(rank) for rank in layers], 1)

        def leave_out():
            nothing = jnp.full_like(behind, dummy)
            return jnp.stack([behind, *[nothing] * (num_layers - 1)], 1)

        return None, lax.cond(num_chunks > 0, sort_cards, leave_out)

    groups = tiles.group_tiles(grid, lists, config.group)
    _, triangle = lax.scan(draw_group, None, groups)
    return tiles.ungroup(grid, groups, triangle)


def _ranks_of_chunk(
    size: int, q: jax.Array, origin: jax.Array, place: jax.Array, ranks: _Ranks
) -> list[jax.Array]:
    """Returns the rank [B, P] of each of the C triangles [B, C, 12]; zero off the triangle."""

    def rank_of(k):
        is_inside, bits = cover_pixels(size, q[:, k], origin)
        return jnp.where(is_inside, ranks.of(bits) | place[k], 0)

    return [rank_of(k) for k in range(q.shape[1])]


def _insert(layers: tuple[jax.Array, ...], rank: jax.Array) -> tuple[jax.Array, ...]:
    """Sorts a rank into the K largest so far; the least of them all drops out."""
    pushed = [jnp.minimum(layer, rank) for layer in layers[:-1]]
    first = jnp.maximum(layers[0], rank)
    return first, *(jnp.maximum(*pair) for pair in zip(layers[1:], pushed, strict=True))
