"""Lists of what each tile of the screen may show, in arrays of fixed size.

A renderer says which rectangle of tiles each of its items (triangle, Gaussian) touches; here they
become one list per tile, in the order of the items. The size of the lists is static, so that the
whole can be compiled; what does not fit is dropped and reported.

Axes: N items in drawing order, S slots of the lists, L tiles (row by row from the top left), P
pixels of a tile, G groups of B tiles.

The order of the work (candidates, one sort of a single integer key) follows Kerbl et al. 2023; on
the CPU a sort of one int32 key is five times faster than one with a payload, so the key holds both.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_LAST_KEY = np.int32(2**31 - 1)


@dataclasses.dataclass(frozen=True)
class TileGrid:
    """A picture cut in square tiles; those at the right and the bottom may hang over."""

    width: int  # pixels
    height: int  # pixels
    size: int = 16  # pixels

    @property
    def columns(self) -> int:
        return -(-self.width // self.size)

    @property
    def rows(self) -> int:
        return -(-self.height // self.size)

    @property
    def num_tiles(self) -> int:
        return self.columns * self.rows


def _key_fits(grid: TileGrid, num_items: int) -> bool:
    return (grid.num_tiles - 1).bit_length() + num_items.bit_length() <= 31


def smallest_tile(width: int, height: int, num_items: int, at_least: int = 8) -> int:
    """Returns the smallest tile size, `at_least` times a power of two, that one sort can do.

    The key of a pair of item and tile has 31 bits: many items want few tiles, or several sorts.
    """
    size = at_least
    while not _key_fits(TileGrid(width, height, size), num_items):
        if size > max(width, height):
            raise ValueError(f"expected fewer than 2^31 items, found {num_items}")
        size *= 2
    return size


def radix_argsort(keys: jax.Array, num_bits: int) -> jax.Array:
    """Returns the stable order of int32 keys [N] in [0, 2^num_bits).

    Digits are sorted together with the place they come from, one integer a key, the lowest digit
    first: on the CPU each pass takes a fifth of the time of `argsort`.
    """
    num_keys = keys.shape[0]
    id_bits = max(num_keys - 1, 1).bit_length()
    place = jnp.arange(num_keys, dtype=jnp.int32)
    order = None
    for low in range(0, num_bits, 31 - id_bits):
        digit = (keys >> low) & ((1 << min(31 - id_bits, num_bits - low)) - 1)
        if order is not None:
            digit = digit.at[order].get(mode="promise_in_bounds")
        passed = lax.sort((digit << id_bits) | place, is_stable=False) & ((1 << id_bits) - 1)
        order = passed if order is None else order.at[passed].get(mode="promise_in_bounds")
    return order


class TileRectangles(NamedTuple):
    """The tiles each item touches, ends not included; empty where an end is not after its begin."""

    x_begin: jax.Array  # [N] int32
    x_end: jax.Array  # [N] int32
    y_begin: jax.Array  # [N] int32
    y_end: jax.Array  # [N] int32


class TileLists(NamedTuple):
    """Which items each tile shows: tile l owns slots start[l] ... start[l] + count[l]."""

    item: jax.Array  # [S] int32; N in slots without an item
    start: jax.Array  # [L] int32, a multiple of the chunk
    count: jax.Array  # [L] int32
    needed: jax.Array  # [2] int32 the candidate pairs and the slots that all would have taken
    overflow: jax.Array  # [] bool: something was dropped, the lists are not to be trusted


PairTest = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def tile_rectangles(
    grid: TileGrid, low: jax.Array, high: jax.Array, is_valid: jax.Array
) -> TileRectangles:
    """Returns the tiles that hold pixel centres between `low` and `high` [N, 2], in pixels.

    Items that are not valid, off screen, not finite, or between pixel centres get no tile.
    """
    limit = jnp.array([grid.width, grid.height], low.dtype)
    # Clipped before the conversion: a float beyond the integers has no meaning as one.
    first = jnp.clip(jnp.ceil(low - 0.5), 0, limit)
    last = jnp.clip(jnp.floor(high - 0.5), -1, limit - 1)
    is_seen = is_valid & jnp.all(first <= last, -1)  # false for NaN as well
    first = jnp.where(is_seen[:, None], first, 0).astype(jnp.int32)
    last = jnp.where(is_seen[:, None], last, -1).astype(jnp.int32)
    begin, end = first // grid.size, (last + grid.size) // grid.size
    return TileRectangles(begin[:, 0], end[:, 0], begin[:, 1], end[:, 1])


def build_tile_lists(
    grid: TileGrid,
    rectangles: TileRectangles,
    num_pairs: int,
    num_slots: int | None = None,
    chunk: int = 1,
    pair_test: PairTest | None = None,
) -> TileLists:
    """Sorts items into lists, one per tile, each in the order of the items.

    Args:
      grid: the tiles.
      rectangles: tiles of each item; the item's number is its place in the lists, so items whose
        order matters come sorted.
      num_pairs: static capacity in pairs of item and tile, before the test.
      num_slots: S, static capacity of the padded lists; `num_pairs` where it is not given.
      chunk: each list starts at a multiple of it, static. One leaves the lists packed.
      pair_test: takes item, tile column and tile row of all pairs, int32, and returns bool: whether
        the item really touches the tile. Its answer for slots without a pair is ignored.
    """
    pairs = _candidates(rectangles, num_pairs)
    is_pair = pairs.is_pair
    if pair_test is not None:
        is_pair &= pair_test(pairs.item, pairs.column, pairs.row)
    num_items = rectangles.x_begin.shape[0]
    tile, item = _sort_pairs(grid, pairs, is_pair, num_items)

    kept = jnp.sum(is_pair, dtype=jnp.int32)
    number = jnp.arange(grid.num_tiles, dtype=jnp.int32)
    begin = jnp.searchsorted(tile, number, method="scan").astype(jnp.int32)
    count = jnp.diff(begin, append=kept[None])
    if chunk == 1:
        start, slots_needed, num_slots = begin, kept, num_pairs
    else:
        num_slots = num_pairs if num_slots is None else num_slots
        padded = (count + chunk - 1) // chunk * chunk
        start, slots_needed = jnp.cumsum(padded) - padded, jnp.sum(padded, dtype=jnp.int32)
        slot = jnp.arange(num_pairs, dtype=jnp.int32) + (start - begin).at[tile].get(mode="clip")
        slot = jnp.where(tile == grid.num_tiles, num_slots, slot)
        item = jnp.full(num_slots, num_items, jnp.int32).at[slot].set(item, mode="drop")
    return TileLists(
        item=item,
        start=start,
        count=count,
        needed=jnp.stack([pairs.needed, slots_needed]),
        overflow=(pairs.needed > num_pairs) | (slots_needed > num_slots),
    )


def _sort_pairs(
    grid: TileGrid, pairs: "_Pairs", is_pair: jax.Array, num_items: int
) -> tuple[jax.Array, jax.Array]:
    """Returns tile and item of the pairs, tile by tile; L and N, at the end, of what is no pair."""
    tile = jnp.where(is_pair, pairs.row * grid.columns + pairs.column, grid.num_tiles)
    item = jnp.where(is_pair, pairs.item, num_items)
    id_bits = num_items.bit_length()
    if _key_fits(grid, num_items):
        key = jnp.where(is_pair, (tile << id_bits) | item, _LAST_KEY)
        key = lax.sort(key, is_stable=False)
        is_pair = key != _LAST_KEY
        item = jnp.where(is_pair, key & ((1 << id_bits) - 1), num_items)
        return jnp.where(is_pair, key >> id_bits, grid.num_tiles), item
    # They come item by item, which a stable order keeps.
    order = radix_argsort(tile, grid.num_tiles.bit_length())
    return (v.at[order].get(mode="promise_in_bounds") for v in (tile, item))


class _Pairs(NamedTuple):
    item: jax.Array  # [num_pairs] int32
    column: jax.Array  # [num_pairs] int32 of the tile
    row: jax.Array  # [num_pairs] int32
    is_pair: jax.Array  # [num_pairs] bool
    needed: jax.Array  # [] int32


def _candidates(rectangles: TileRectangles, num_pairs: int) -> _Pairs:
    """Gives each pair of an item and a tile of its rectangle a slot, item by item."""
    num_items = rectangles.x_begin.shape[0]
    if num_items == 0:
        zero = jnp.zeros(num_pairs, jnp.int32)
        return _Pairs(zero, zero, zero, zero.astype(bool), jnp.int32(0))
    width = jnp.maximum(rectangles.x_end - rectangles.x_begin, 0)
    count = width * jnp.maximum(rectangles.y_end - rectangles.y_begin, 0)
    end = jnp.cumsum(count)
    begin = end - count
    # The sum may pass 2^31 and wrap, a float's does not. Begins that wrapped land anywhere, which
    # does no harm: that many pairs are an overflow whatever the capacity.
    total = jnp.sum(count.astype(jnp.float32))
    needed = jnp.where(total < 2.0**31, jnp.sum(count, dtype=jnp.int32), _LAST_KEY)
    # The owner of a slot is the last item that begins at or before it.
    owner = jnp.zeros(num_pairs, jnp.int32).at[begin].add(1, mode="drop").cumsum() - 1
    owner = jnp.clip(owner, 0, num_items - 1)
    table = jnp.stack([begin, width, rectangles.x_begin, rectangles.y_begin], -1)
    begin, width, x_begin, y_begin = jnp.moveaxis(
        table.at[owner].get(mode="promise_in_bounds"), -1, 0
    )
    place = jnp.arange(num_pairs, dtype=jnp.int32)
    # Exact for as many tiles as there can be, and four times faster than integer division.
    step = place - begin
    row = jnp.floor((step.astype(jnp.float32) + 0.5) / width.astype(jnp.float32)).astype(jnp.int32)
    return _Pairs(owner, x_begin + step - row * width, y_begin + row, place < needed, needed)


class TileGroups(NamedTuple):
    """Tiles in groups of B that are worked on together, their lists of about the same length."""

    tile: jax.Array  # [G, B] int32; L where the last tiles leave a place empty
    start: jax.Array  # [G, B] int32, as in `TileLists`
    count: jax.Array  # [G, B] int32; zero in empty places
    origin: jax.Array  # [G, B, 2] float32 top left corner of the tile, pixels


def group_tiles(grid: TileGrid, lists: TileLists, size: int) -> TileGroups:
    """Groups tiles by the length of their lists: a group takes as long as its longest."""
    bits = (grid.num_tiles - 1).bit_length()
    number = jnp.arange(grid.num_tiles, dtype=jnp.int32)
    key = (jnp.minimum(lists.count, 2 ** (31 - bits) - 1) << bits) | number
    order = lax.sort(key, is_stable=False) & ((1 << bits) - 1)
    tile = jnp.pad(order, (-grid.num_tiles % size, 0), constant_values=grid.num_tiles)
    tile = tile.reshape(-1, size)
    start, count = (jnp.append(v, jnp.int32(0))[tile] for v in (lists.start, lists.count))
    corner = jnp.stack([tile % grid.columns, tile // grid.columns], -1) * grid.size
    return TileGroups(tile, start, count, corner.astype(jnp.float32))


def ungroup(grid: TileGrid, groups: TileGroups, values: jax.Array) -> jax.Array:
    """Returns what belongs to grouped tiles [G, B, ...] in the order of the tiles [L, ...]."""
    tile = groups.tile.ravel()
    place = jnp.zeros(grid.num_tiles + 1, jnp.int32)
    place = place.at[tile].set(jnp.arange(tile.shape[0], dtype=jnp.int32))
    return values.reshape(-1, *values.shape[2:])[place[: grid.num_tiles]]


def assemble(grid: TileGrid, groups: TileGroups, values: jax.Array) -> jax.Array:
    """Lays the pixels [G, B, P, ...] of grouped tiles out as a picture [H, W, ...]."""
    return lay_out(grid, ungroup(grid, groups, values))


def lay_out(grid: TileGrid, values: jax.Array) -> jax.Array:
    """Lays the pixels [L, P, ...] of all tiles out as a picture [H, W, ...]."""
    channels = values.shape[2:]
    values = values.reshape(grid.rows, grid.columns, grid.size, grid.size, *channels)
    picture = values.swapaxes(1, 2).reshape(grid.rows * grid.size, -1, *channels)
    return picture[: grid.height, : grid.width]


def map_blocks(function: Callable, size: int, *arrays: jax.Array):
    """Applies `function` to blocks of `size` rows of `arrays`, one block after the other.

    The same as `function(*arrays)` where rows do not depend on each other, but its temporaries
    stay in the cache; on the CPU, large ones cost more than the arithmetic.
    """
    num_rows = arrays[0].shape[0]
    if num_rows <= size:
        return function(*arrays)
    num_blocks = -(-num_rows // size)

    def cut(array):
        rest = num_blocks * size - num_rows
        # Edge values: whatever `function` does with them, it does with the last row as well.
        array = jnp.pad(array, [(0, rest)] + [(0, 0)] * (array.ndim - 1), mode="edge")
        return array.reshape(num_blocks, size, *array.shape[1:])

    blocks = lax.map(lambda block: function(*block), tuple(map(cut, arrays)))
    return jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:])[:num_rows], blocks)


def map_seen(function: Callable, is_seen: jax.Array, size: int = 2048):
    """Applies `function` to the samples that see something, zero for the others.

    They are brought together first, and blocks of what sees nothing are left out: where a picture
    has layers, most of them are empty.

    Args:
      function: takes the numbers [N] int32 of samples, counted through `is_seen`, and returns
        arrays [N, ...].
      is_seen: [...] bool.
      size: samples worked on at once, static.

    Returns:
      What `function` returns, [..., ...]. Differentiable in what it closes over.
    """
    seen = is_seen.ravel()
    place = jnp.cumsum(seen, dtype=jnp.int32) - 1
    num_blocks = -(-seen.shape[0] // size)
    sample = jnp.zeros(num_blocks * size, jnp.int32)
    to = jnp.where(seen, place, sample.shape[0])
    sample = sample.at[to].set(jnp.arange(seen.shape[0], dtype=jnp.int32), mode="drop")
    kinds = jax.eval_shape(function, jax.ShapeDtypeStruct((size,), jnp.int32))

    def leave_out(_):
        return jax.tree.map(lambda kind: jnp.zeros(kind.shape, kind.dtype), kinds)

    def work_on(_, block):
        number, sample = block
        return None, lax.cond(number * size <= place[-1], function, leave_out, sample)

    blocks = jnp.arange(num_blocks), sample.reshape(num_blocks, size)
    _, values = lax.scan(work_on, None, blocks)

    def spread(value):
        value = value.reshape(-1, *value.shape[2:])[jnp.maximum(place, 0)]
        value = jnp.where(seen.reshape(-1, *[1] * (value.ndim - 1)), value, 0)
        return value.reshape(*is_seen.shape, *value.shape[1:])

    return jax.tree.map(spread, values)
