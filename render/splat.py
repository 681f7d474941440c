"""Renders 3D Gaussians: colours, depth and coverage of every pixel, with exact gradients.

Each Gaussian goes to the tiles where it covers at least 1/255 of a pixel centre (an exact test),
in the order of depth, and is blended there from front to back by `compositing.py`.

Axes: N Gaussians, H rows and W columns of pixels, S slots of the tiles' lists.

Sources: Kerbl et al. 2023; Ye et al. 2024 (gsplat, the conventions).
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from render.camera import Camera, pixel_centers
from render.compositing import CHUNK, NUM_CHANNELS, ROW, composite
from render.frames import draw_frames, round_capacity
from render.gaussians import (
    MIN_ALPHA,
    Footprints,
    Gaussians,
    project_gaussians,
    view_colors,
)
from render.image import RenderOutput
from render.stages import compiled, stage
from render.tiles import (
    TileGrid,
    TileLists,
    TileRectangles,
    assemble,
    build_tile_lists,
    group_tiles,
    radix_argsort,
    tile_rectangles,
)

_TILE = 16  # pixels; larger tiles test more pixels in vain, smaller ones make longer lists
_DEPTH_BITS = 28  # of a float above the smallest depth: exact over 32 powers of two
_WHITE = (1.0, 1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class SplatConfig:
    """Settings of `splat`; hashable, so static under jit."""

    max_pairs: int | None = None  # capacity in pairs of Gaussian and tile; None guesses
    near: float = 0.01  # metres; what is nearer is not seen in perspective
    dilation: float = 0.3  # pixels^2, added to the variance on the screen
    antialiased: bool = False  # opacity makes up for the dilation: for pictures of other sizes
    min_transmittance: float = 1e-4  # what lies behind less is left out; 0 leaves nothing out
    forward_mode: bool = False  # differentiable by `jax.jvp` in place of `jax.vjp`


_DEFAULT = SplatConfig()


def splat(
    gaussians: Gaussians,
    camera: Camera,
    config: SplatConfig = _DEFAULT,
    background: jax.Array | tuple[float, float, float] = _WHITE,
) -> RenderOutput:
    """Renders Gaussians.

    Differentiable in the Gaussians, the camera and the background. The lists of the tiles have a
    fixed capacity; where it does not suffice, `overflow` is set, the picture is not to be used,
    and `needed` tells the `max_pairs` that would do. Compiled; inside another `jit` or `grad`
    it becomes a part of that. `needed_pairs` tells the capacity beforehand.

    Args:
      gaussians: [N].
      camera: perspective or orthographic.
      config: static settings.
      background: [3] or [H, W, 3], sRGB-encoded like the colours.
    """
    return _splat(gaussians, camera, config, background)


def _render(gaussians, camera, config, background):
    if not gaussians.means.shape[0]:  # one that nobody sees, so that lists have something to hold
        gaussians = jax.tree.map(lambda v: jnp.full((1, *v.shape[1:]), jnp.nan, v.dtype), gaussians)
    footprints, colors = _see(gaussians, camera, config)
    grid = TileGrid(camera.width, camera.height, _TILE)
    order, lists = lax.stop_gradient(_bin(footprints, grid, camera, config))
    rows = _gather_rows(footprints, colors, order, lists, grid)

    groups = group_tiles(grid, lists, _group_size(grid))
    pixels = composite(
        rows, groups.start, groups.count, _TILE, config.min_transmittance, config.forward_mode
    )
    sums = [assemble(grid, groups, pixels[:, :, i]) for i in range(NUM_CHANNELS + 1)]
    *rgb, depth, transmittance = sums
    return _output(
        jnp.stack(rgb, -1), depth, transmittance, background, jnp.max(lists.needed), lists.overflow
    )


_splat = compiled(_render, static_argnames=("config",))


def splat_clip(
    gaussians: Gaussians,
    camera: Camera,
    config: SplatConfig = _DEFAULT,
    background: jax.Array | tuple[float, float, float] = _WHITE,
) -> RenderOutput:
    """Renders the key frames of a moving scene.

    Differentiable as `splat`; reverse mode keeps one frame's intermediate values at a time, and
    renders each frame once more. Where a frame overflows, `frames.with_room` repeats the clip.

    Args:
      gaussians: leaves [T, N, ...].
      camera: one that stands still.
      config: static settings; `max_pairs` is the capacity of each frame.
      background: [3] or [H, W, 3], sRGB-encoded like the colours.

    Returns:
      Colours [T, H, W, 3], coverage and depth [T, H, W]; `needed` of the frame that needs most,
      `overflow` of any.
    """
    return _splat_clip(gaussians, camera, config, background)


def _render_clip(gaussians, camera, config, background):
    @jax.checkpoint
    def frame(_, gaussians):
        return None, _render(gaussians, camera, config, background)

    video = lax.scan(frame, None, gaussians)[1]
    return video.replace(needed=jnp.max(video.needed), overflow=jnp.any(video.overflow))


_splat_clip = compiled(_render_clip, static_argnames=("config",))


@functools.partial(jax.jit, static_argnames="config")
def needed_pairs(gaussians: Gaussians, camera: Camera, config: SplatConfig = _DEFAULT) -> jax.Array:
    """Returns a `max_pairs` [] that `splat` will not overflow: its need, and at most a bit more."""
    grid = TileGrid(camera.width, camera.height, _TILE)
    box = _rectangles(_project(gaussians, camera, config), grid)
    tiles = (box.x_end - box.x_begin) * (box.y_end - box.y_begin)
    pairs = jnp.sum(tiles.astype(jnp.float32))  # may pass the integers
    padding = (CHUNK - 1) * jnp.minimum(pairs, grid.num_tiles)
    return jnp.minimum(pairs + padding, 2.0**31 - 256).astype(jnp.int32)


def splat_frames(
    scenes: Gaussians | Iterable[Gaussians],
    cameras: Iterable[Camera],
    config: SplatConfig = _DEFAULT,
    background: jax.Array | tuple[float, float, float] = _WHITE,
    num_threads: int = 2,
    on_growth: Callable[[int], None] = lambda max_pairs: None,
) -> Iterator[RenderOutput]:
    """Renders one picture after another, of one scene or of one a camera: see `draw_frames`."""
    if isinstance(scenes, Gaussians):
        scenes = itertools.repeat(jax.device_put(scenes))
    views = zip(scenes, cameras, strict=False)
    views, ahead = itertools.tee(views)
    max_pairs = config.max_pairs
    if max_pairs is None:
        for first in itertools.islice(ahead, 1):
            max_pairs = round_capacity(1.1 * int(needed_pairs(*first, config)))
    del ahead

    def draw(view: tuple[Gaussians, Camera], max_pairs: int | None) -> RenderOutput:
        return splat(*view, dataclasses.replace(config, max_pairs=max_pairs), background)

    return draw_frames(draw, views, max_pairs, 1.3, num_threads, on_growth)


def splat_reference(
    gaussians: Gaussians,
    camera: Camera,
    config: SplatConfig = _DEFAULT,
    background: jax.Array | tuple[float, float, float] = _WHITE,
) -> RenderOutput:
    """Does what `splat` does, every Gaussian at every pixel: slow, for tests."""
    seen, colors = _see(gaussians, camera, config)
    depth = jnp.where(seen.is_visible, seen.depth, jnp.inf)
    order = jnp.argsort(lax.stop_gradient(depth), stable=True)
    x, y = jnp.moveaxis(pixel_centers(camera.width, camera.height), -1, 0)

    def blend(state, index):
        transmittance, sums = state
        one = jax.tree.map(lambda v: v[index], seen)
        dx, dy = x - one.x, y - one.y
        square = one.a * dx * dx + 2 * one.b * dx * dy + one.c * dy * dy
        alpha = jnp.exp(one.log_opacity - 0.5 * square)
        alpha = jnp.where(one.is_visible & (alpha > MIN_ALPHA), jnp.minimum(alpha, 0.999), 0.0)
        alpha = jnp.where(transmittance > config.min_transmittance, alpha, 0.0)
        weight = alpha * transmittance
        channels = jnp.append(colors[index], one.depth)
        return (transmittance - weight, sums + weight[..., None] * channels), None

    nothing = jnp.zeros((*x.shape, NUM_CHANNELS), depth.dtype)
    (transmittance, sums), _ = lax.scan(blend, (nothing[..., 0] + 1, nothing), order)
    return _output(
        sums[..., :3], sums[..., 3], transmittance, background, jnp.int32(0), jnp.array(False)
    )


def _output(rgb, depth, transmittance, background, needed, overflow) -> RenderOutput:
    alpha = 1.0 - transmittance
    # Where next to nothing is covered, the mean is a ratio of rounding errors.
    is_covered = alpha > 0.5 * MIN_ALPHA
    return RenderOutput(
        rgb=rgb + transmittance[..., None] * jnp.asarray(background, rgb.dtype),
        alpha=alpha,
        depth=jnp.where(is_covered, depth / jnp.where(is_covered, alpha, 1.0), 0.0),
        needed=needed,
        overflow=overflow,
    )


def _see(gaussians: Gaussians, camera: Camera, config: SplatConfig) -> tuple[Footprints, jax.Array]:
    """Returns footprints and colours [N, 3]; what has no finite colour is not visible."""
    has_color = jnp.all(jnp.isfinite(gaussians.harmonics), (1, 2))
    shown = jnp.where(has_color[:, None, None], gaussians.harmonics, 0.0)
    footprints = _project(gaussians, camera, config)
    footprints = footprints._replace(is_visible=footprints.is_visible & has_color)
    return footprints, view_colors(gaussians.replace(harmonics=shown), camera)


def _project(gaussians: Gaussians, camera: Camera, config: SplatConfig) -> Footprints:
    return stage(project_gaussians, static_argnums=(2, 3, 4))(
        gaussians, camera, config.near, config.dilation, config.antialiased
    )


def _bin(
    seen: Footprints, grid: TileGrid, camera: Camera, config: SplatConfig
) -> tuple[jax.Array, TileLists]:
    """Returns the order of depth [N], and the lists of the tiles, which count in that order."""
    order = _depth_order(seen, camera, config)
    rectangles = TileRectangles(*_take(_pack(*_rectangles(seen, grid)), order).T)
    reach = 2.0 * (seen.log_opacity - np.log(MIN_ALPHA))
    table = _take(_pack(seen.x, seen.y, seen.a, seen.b, seen.c, reach), order)

    def touches(item, column, row):
        """Whether the ellipse of `MIN_ALPHA` reaches the box of the tile's pixel centres.

        The quadratic form is least at the mean, or on one of the two edges that face it.
        """
        x, y, a, b, c, reach = _take(table, item).T
        left = column * float(grid.size) + 0.5 - x
        top = row * float(grid.size) + 0.5 - y
        right, bottom = left + (grid.size - 1), top + (grid.size - 1)
        near_x, near_y = jnp.clip(0.0, left, right), jnp.clip(0.0, top, bottom)

        def form(dx, dy):
            return a * dx * dx + 2 * b * dx * dy + c * dy * dy

        at_side = form(near_x, jnp.clip(-b * near_x / c, top, bottom))
        at_end = form(jnp.clip(-b * near_y / a, left, right), near_y)
        least = jnp.minimum(
            jnp.where(near_x != 0, at_side, jnp.inf), jnp.where(near_y != 0, at_end, jnp.inf)
        )
        least = jnp.where((near_x == 0) & (near_y == 0), 0.0, least)
        return least <= reach * 1.0001 + 1e-4  # rounding may let one in too many, never out

    max_pairs = config.max_pairs
    if max_pairs is None:
        max_pairs = 4 * order.shape[0] + CHUNK * grid.num_tiles
    capacity = -(-max_pairs // CHUNK) * CHUNK
    return order, build_tile_lists(grid, rectangles, capacity, capacity, CHUNK, touches)


def _rectangles(seen: Footprints, grid: TileGrid) -> TileRectangles:
    half = jnp.stack([seen.half_width, seen.half_height], -1)
    middle = jnp.stack([seen.x, seen.y], -1)
    return tile_rectangles(grid, middle - half, middle + half, seen.is_visible)


def _depth_order(seen: Footprints, camera: Camera, config: SplatConfig) -> jax.Array:
    """Returns Gaussians from near to far, those of one depth as they come, invisible ones last."""
    depth, smallest = seen.depth.astype(jnp.float32), config.near
    if camera.orthographic:  # depths of any sign
        depth = depth - jnp.min(jnp.where(seen.is_visible, depth, jnp.inf)) + smallest
    # Positive floats are in the order of their bits.
    key = lax.bitcast_convert_type(jnp.maximum(depth, smallest), jnp.int32)
    key = jnp.minimum(key - np.float32(smallest).view(np.int32), 2**_DEPTH_BITS - 2)
    return radix_argsort(jnp.where(seen.is_visible, key, 2**_DEPTH_BITS - 1), _DEPTH_BITS)


@stage
def _pack(*columns: jax.Array) -> jax.Array:
    """Makes rows of columns; stacked first and then turned, so that no column is computed twice."""
    return jnp.stack(columns).T


def _gather_rows(
    seen: Footprints, colors: jax.Array, order: jax.Array, lists: TileLists, grid: TileGrid
) -> jax.Array:
    """Returns the rows [S + K, 16] of the lists' slots and one empty chunk."""
    columns = [seen.x, seen.y, seen.a, seen.b, seen.c, seen.log_opacity, *colors.T, seen.depth]
    columns += [jnp.zeros_like(seen.x)] * (ROW - len(columns))
    empty = jnp.zeros((1, ROW), seen.x.dtype).at[0, 5].set(-1e9)
    table = jnp.concatenate([_pack(*columns), empty])
    nobody = order.shape[0]  # both in the lists, which count in the order, and in the table
    item = jnp.pad(lists.item, (0, CHUNK), constant_values=nobody)
    rows = table.at[_take(jnp.append(order, nobody), item)].get(mode="promise_in_bounds")
    chunks = rows.reshape(-1, CHUNK, ROW)
    middle = _chunk_middles(lists, grid, chunks.shape[0]).astype(chunks.dtype)
    return (chunks - jnp.pad(middle, ((0, 0), (0, ROW - 2)))[:, None]).reshape(-1, ROW)


def _chunk_middles(lists: TileLists, grid: TileGrid, num_chunks: int) -> jax.Array:
    """Returns the middle [S / K + 1, 2] of the tile that each chunk belongs to, pixels."""
    # The owner of a chunk is the last tile that begins at or before it.
    owner = jnp.zeros(num_chunks, jnp.int32).at[lists.start // CHUNK].add(1, mode="drop").cumsum()
    owner = owner - 1
    return (jnp.stack([owner % grid.columns, owner // grid.columns], -1) + 0.5) * grid.size


@stage
def _take(rows: jax.Array, index: jax.Array) -> jax.Array:
    return rows.at[index].get(mode="promise_in_bounds")


def _group_size(grid: TileGrid) -> int:
    """Tiles worked on at a time: what fits the cache of a core, or what fills an accelerator."""
    return 8 if jax.default_backend() == "cpu" else grid.num_tiles
