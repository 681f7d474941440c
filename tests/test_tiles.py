import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from render.tiles import (
    TileGrid,
    TileRectangles,
    assemble,
    build_tile_lists,
    group_tiles,
    map_blocks,
    radix_argsort,
    smallest_tile,
    tile_rectangles,
)

pytestmark = pytest.mark.compiles

GRID = TileGrid(70, 50, 16)  # 5 x 4 tiles, the last ones hang over


def random_boxes(seed, count=40):
    rng = np.random.default_rng(seed)
    low = rng.uniform(-30, 80, (count, 2)).astype(np.float32)
    return low, low + rng.uniform(0, 40, (count, 2)).astype(np.float32)


def expected_lists(low, high, is_valid=None):
    """The items of each tile, by walking over all pixel centres."""
    x, y = np.arange(GRID.width) + 0.5, np.arange(GRID.height) + 0.5
    lists = [[] for _ in range(GRID.num_tiles)]
    for item in range(len(low)):
        if is_valid is not None and not is_valid[item]:
            continue
        columns = np.unique(np.flatnonzero((x >= low[item, 0]) & (x <= high[item, 0])) // GRID.size)
        rows = np.unique(np.flatnonzero((y >= low[item, 1]) & (y <= high[item, 1])) // GRID.size)
        for row in rows:
            for column in columns:
                lists[row * GRID.columns + column].append(item)
    return lists


def read_lists(lists):
    item, start, count = map(np.asarray, (lists.item, lists.start, lists.count))
    return [item[s : s + c].tolist() for s, c in zip(start, count, strict=True)]


@functools.partial(jax.jit, static_argnames=("num_pairs", "num_slots", "chunk", "pair_test"))
def build(low, high, is_valid=True, num_pairs=200, **kwargs):
    is_valid = jnp.broadcast_to(is_valid, low.shape[:1])
    rectangles = tile_rectangles(GRID, low, high, is_valid)
    return build_tile_lists(GRID, rectangles, num_pairs, **kwargs)


@pytest.mark.parametrize("chunk", [1, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_lists_hold_what_a_walk_over_the_pixels_finds(seed, chunk):
    low, high = random_boxes(seed)
    expected = expected_lists(low, high)
    num_pairs = sum(map(len, expected))
    num_slots = sum(-(-len(items) // chunk) * chunk for items in expected)
    lists = build(low, high, chunk=chunk, num_slots=400)
    assert read_lists(lists) == expected
    assert not lists.overflow
    np.testing.assert_array_equal(lists.needed, [num_pairs, num_slots])
    assert (lists.start % chunk == 0).all()
    if chunk > 1:  # whole chunks can be read: what pads them is no item
        for start, items in zip(lists.start, expected, strict=True):
            padding = lists.item[start + len(items) : start + -(-len(items) // chunk) * chunk]
            assert (padding == len(low)).all()


def test_items_that_show_nothing_make_no_pairs():
    nan, inf = np.nan, np.inf
    low = np.array([[5, 5], [nan, 5], [5, 5], [200, 5], [5, -90], [5.6, 5], [-inf, 5], [9, 9]])
    high = np.array([[9, 9], [9, 9], [9, nan], [300, 9], [9, -50], [6.4, 9], [inf, 9], [5, 5]])
    is_valid = np.array([False, True, True, True, True, True, True, True])
    lists = build(low.astype(np.float32), high.astype(np.float32), is_valid)
    found = read_lists(lists)
    assert found[:5] == [[6]] * 5  # only the band across the whole picture has pixel centres
    assert not any(found[5:])
    np.testing.assert_array_equal(lists.needed, [5, 5])


def test_no_items_give_empty_lists():
    lists = build(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32))
    assert not lists.count.any() and not lists.overflow and not lists.needed.any()


def test_pairs_that_fail_the_test_are_left_out():
    low, high = random_boxes(2)
    expected = [
        [item for item in items if (item + tile % 5 + tile // 5) % 3]
        for tile, items in enumerate(expected_lists(low, high))
    ]
    lists = build(low, high, pair_test=lambda item, column, row: (item + column + row) % 3 > 0)
    assert read_lists(lists) == expected
    assert lists.needed[1] == sum(map(len, expected)) < lists.needed[0]


def test_too_many_pairs_are_reported_with_the_room_they_need():
    low, high = random_boxes(3)
    needed = sum(map(len, expected_lists(low, high)))
    for num_pairs in (1, needed - 1):
        lists = build(low, high, num_pairs=num_pairs)
        assert lists.overflow and lists.needed[0] == needed
    assert not build(low, high, num_pairs=needed).overflow


def test_too_many_slots_are_reported_with_the_room_they_need():
    low, high = random_boxes(4)
    lists = build(low, high, chunk=8, num_slots=64)
    assert lists.overflow
    again = build(low, high, chunk=8, num_slots=int(lists.needed[1]))
    assert not again.overflow
    assert read_lists(again) == expected_lists(low, high)


def test_a_count_beyond_the_integers_is_an_overflow():
    grid = TileGrid(4096, 4096, 16)
    all_tiles = jnp.full(2**15, 256, jnp.int32)
    none = jnp.zeros_like(all_tiles)
    rectangles = TileRectangles(none, all_tiles, none, all_tiles)  # 2^31 pairs
    lists = jax.jit(build_tile_lists, static_argnums=(0, 2))(grid, rectangles, 100)
    assert lists.overflow and lists.needed[0] == 2**31 - 1


def test_lists_of_more_tiles_and_items_than_a_key_holds_are_the_same(monkeypatch):
    low, high = random_boxes(5)
    expected = read_lists(build(low, high, chunk=4))
    monkeypatch.setattr("render.tiles._key_fits", lambda grid, num_items: False)
    assert read_lists(build(low, high, chunk=4)) == expected


@pytest.mark.parametrize("num_bits, num_keys", [(3, 50), (20, 5000), (28, 200_000)])
def test_the_radix_sort_is_the_stable_order(num_bits, num_keys):
    # Few enough values that many keys are equal.
    keys = np.random.default_rng(0).integers(0, 2**num_bits, num_keys // 2).repeat(2)
    order = jax.jit(radix_argsort, static_argnums=1)(jnp.asarray(keys, jnp.int32), num_bits)
    np.testing.assert_array_equal(order, np.argsort(keys, kind="stable"))


def test_the_smallest_tile_fits_the_key():
    assert smallest_tile(512, 512, 128_616) == 8
    assert smallest_tile(1024, 1024, 356_608) == 16
    assert smallest_tile(2048, 2048, 128_616) == 16


@pytest.mark.parametrize("size", [1, 3, 64])
def test_groups_hold_every_tile_and_lay_out_the_picture(size):
    lists = build(*random_boxes(0))
    groups = group_tiles(GRID, lists, size)
    tiles = np.asarray(groups.tile).ravel()
    assert sorted(tiles[tiles < GRID.num_tiles]) == list(range(GRID.num_tiles))
    assert (np.diff(groups.count.ravel()) >= 0).all()
    real = tiles < GRID.num_tiles
    np.testing.assert_array_equal(groups.count.ravel()[real], lists.count[tiles[real]])
    np.testing.assert_array_equal(groups.start.ravel()[real], lists.start[tiles[real]])
    # Each tile paints the positions of its own pixels.
    y, x = (v.ravel() for v in np.mgrid[: GRID.size, : GRID.size])
    values = groups.origin[:, :, None] + np.stack([x, y], -1)
    picture = assemble(GRID, groups, values)
    y, x = np.mgrid[: GRID.height, : GRID.width]
    np.testing.assert_array_equal(picture, np.stack([x, y], -1))


@pytest.mark.parametrize("size", [3, 7, 100])
def test_blocks_change_nothing(size):
    x = jax.random.normal(jax.random.key(0), (17, 3))
    y = jnp.arange(17)

    def function(x, y):
        return jnp.sin(x) * y[:, None], y + 1

    expected, found = function(x, y), map_blocks(function, size, x, y)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_array_equal(found[1], expected[1])
    gradients = [
        jax.grad(lambda x, f=f: f(x)[0].sum())(x)
        for f in (lambda x: function(x, y), lambda x: map_blocks(function, size, x, y))
    ]
    np.testing.assert_allclose(*gradients, atol=1e-6)
