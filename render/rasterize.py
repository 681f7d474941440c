"""Rasterizes triangle meshes: which triangles each pixel sees, where on them, in which colour.

The winners are found without gradients, by `zbuffer.py`. Barycentric coordinates and depth are then
computed anew from the winners' corners, so plain autodiff is exact wherever a pixel keeps its
triangle; what moves at outlines (a pixel changing its triangle) has no gradient.

Axes: V vertices, T triangles, C channels, K layers. Pixels and camera axes as in `camera.py`.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from render.camera import Camera, project, scale_camera
from render.frames import draw_frames
from render.image import RenderOutput, box_downsample, sample_texture
from render.layers import Layers, TileLayers, composite_cards, find_layers, find_tile_layers
from render.mesh import Mesh, vertex_normals
from render.program_io import kept
from render.tiles import map_blocks, map_seen
from render.transforms import safe_normalize
from render.zbuffer import RasterizeConfig, Winners, find_winners

_DEFAULT = RasterizeConfig()
_BAND = 16  # rows of pixels worked on at once: their temporaries stay in the cache
_TILES = 32  # tiles whose cards are shaded at once


class Fragments(NamedTuple):
    """What each pixel sees; of `rasterize_layers` with an axis [K, ...] in front, nearest first."""

    triangle: jax.Array  # [H, W] int32; -1 where there is none
    barycentric: jax.Array  # [H, W, 3] on the triangle in space; zero where there is none
    depth: jax.Array  # [H, W] metres; zero where there is none
    is_front: jax.Array  # [H, W] bool: seen from outside
    needed: jax.Array  # [] int32 triangle-tile pairs that the picture takes
    overflow: jax.Array  # [] bool: the picture misses triangles; raise `max_pairs` to `needed`


@functools.partial(jax.jit, static_argnames="config")
def rasterize(
    camera: Camera,
    vertices: jax.Array,
    triangles: jax.Array,
    config: RasterizeConfig = _DEFAULT,
) -> Fragments:
    """Finds the triangle each pixel sees, and where on it.

    Args:
      camera: the view.
      vertices: [V, 3] metres.
      triangles: [T, 3] int32 corners, counter-clockwise seen from outside.
      config: static settings.
    """
    corners, winners = _find_winners(camera, vertices, triangles, config)
    locate = functools.partial(_locate, camera, corners, _column_centers(camera))
    surface = map_blocks(locate, _BAND, winners.triangle, _row_centers(camera))
    return Fragments(*surface, winners.needed, winners.overflow)


@functools.partial(jax.jit, static_argnames=("num_layers", "config"))
def rasterize_layers(
    camera: Camera,
    vertices: jax.Array,
    triangles: jax.Array,
    num_opaque: jax.Array | int,
    num_layers: int,
    config: RasterizeConfig = _DEFAULT,
) -> Fragments:
    """Finds the triangles each pixel sees through cards, and where on them.

    Behind an opaque triangle a pixel sees nothing. Seen layers come first: where layer k sees
    nothing, neither do those after it. Hair takes many more triangle-tile pairs than a closed mesh:
    look at `overflow`.

    Args:
      camera: the view.
      vertices: [V, 3] metres.
      triangles: [T, 3] int32 corners, counter-clockwise seen from outside.
      num_opaque: triangles from this number on are cards, through which more is seen.
      num_layers: K, static.
      config: static settings.
    """
    corners, layers = _find_layers(camera, vertices, triangles, num_opaque, num_layers, config)
    is_seen = layers.triangle < triangles.shape[0]
    surface = map_seen(functools.partial(_locate_samples, camera, corners, layers), is_seen)
    surface = surface._replace(triangle=jnp.where(is_seen, layers.triangle, -1))
    return Fragments(*surface, layers.needed, layers.overflow)


def interpolate(fragments: Fragments, triangles: jax.Array, attributes: jax.Array) -> jax.Array:
    """Returns vertex attributes [V, C] at the pixels [..., H, W, C]; zero where there is nothing.

    Differentiable in `attributes`, and in the vertices through the barycentric coordinates.
    """
    blend = functools.partial(_blend, _corners(triangles, attributes))
    shape = fragments.triangle.shape
    rows = (v.reshape(-1, *v.shape[len(shape) - 1 :]) for v in fragments[:2])
    return map_blocks(blend, _BAND, *rows).reshape(*shape, attributes.shape[-1])


def rasterize_reference(
    camera: Camera,
    vertices: jax.Array,
    triangles: jax.Array,
    config: RasterizeConfig = _DEFAULT,
) -> Fragments:
    """Does what `rasterize` does, every triangle at every pixel: slow, for tests."""
    corners = _screen_corners(camera, vertices, triangles)
    num_triangles = triangles.shape[0]
    x, y = _column_centers(camera), _row_centers(camera)

    def draw(best, number):
        a, b, c = corners[number].reshape(3, 3)
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        everywhere = jnp.full((camera.height, camera.width), number)
        at = _locate(camera, corners, x, everywhere, y)
        edges = _edge_functions(corners[number], x, y)
        is_seen = jnp.all(jnp.stack(edges) * jnp.sign(area) >= 0, 0) & (at.depth < best[1])
        is_seen &= (area != 0) & jnp.all(jnp.isfinite(corners[number]))
        if not camera.orthographic:
            is_seen &= jnp.minimum(jnp.minimum(a[2], b[2]), c[2]) > config.near
        if config.cull_back_faces:
            is_seen &= area < 0
        return (jnp.where(is_seen, number, best[0]), jnp.where(is_seen, at.depth, best[1])), None

    nothing = jnp.full((camera.height, camera.width), num_triangles)
    nothing = nothing, jnp.full(nothing.shape, jnp.inf, corners.dtype)
    (winner, _), _ = jax.lax.scan(draw, nothing, jnp.arange(num_triangles))
    surface = _locate(camera, corners, x, winner, y)
    return Fragments(*surface, jnp.int32(0), jnp.array(False))


class _Surface(NamedTuple):
    """The fields of `Fragments` that are one a pixel."""

    triangle: jax.Array
    barycentric: jax.Array
    depth: jax.Array
    is_front: jax.Array


def _corners(triangles: jax.Array, attributes: jax.Array) -> jax.Array:
    """Gathers attributes [V, C] per triangle [T + 1, 3 C], zero for the last, added triangle.

    One row for each pixel to fetch instead of three, and one for the pixels that see nothing.
    """
    rows = attributes[triangles].reshape(triangles.shape[0], 3 * attributes.shape[-1])
    return jnp.pad(rows, [(0, 1), (0, 0)])


def _screen_corners(camera: Camera, vertices: jax.Array, triangles: jax.Array) -> jax.Array:
    """Returns pixel x, pixel y and depth of the corners [T + 1, 9], the last a dummy."""
    xy, depth = project(camera, vertices)
    return _corners(triangles, jnp.concatenate([xy, depth[:, None]], -1))


def _find_winners(
    camera: Camera, vertices: jax.Array, triangles: jax.Array, config: RasterizeConfig
) -> tuple[jax.Array, Winners]:
    """Returns the corners [T + 1, 9] on the screen, and the triangles that the pixels see."""
    corners = _screen_corners(camera, vertices, triangles)
    shape = camera.width, camera.height
    points = corners.reshape(-1, 3, 3)
    return corners, find_winners(points, *shape, camera.orthographic, config)


def _find_layers(
    camera: Camera,
    vertices: jax.Array,
    triangles: jax.Array,
    num_opaque: jax.Array | int,
    num_layers: int,
    config: RasterizeConfig,
    find: Callable = find_layers,
) -> tuple[jax.Array, Layers | TileLayers]:
    """Returns the corners [T + 1, 9] on the screen, and the layers that the pixels see."""
    corners = _screen_corners(camera, vertices, triangles)
    shape = camera.width, camera.height, camera.orthographic
    points = corners.reshape(-1, 3, 3)
    return corners, find(points, *shape, config, num_layers, num_opaque)


def _row_centers(camera: Camera) -> jax.Array:
    """Returns y [H, 1] of the pixels."""
    return (jnp.arange(camera.height) + 0.5)[:, None]


def _column_centers(camera: Camera) -> jax.Array:
    """Returns x [W] of the pixels."""
    return jnp.arange(camera.width) + 0.5


def _locate_samples(
    camera: Camera, corners: jax.Array, layers: Layers, sample: jax.Array
) -> _Surface:
    """Does `_locate` for samples [N], counted through the layers [K, H, W]."""
    y = sample // camera.width
    x = sample - y * camera.width
    y = y % camera.height
    triangle = layers.triangle.ravel().at[sample].get(mode="promise_in_bounds")
    return _locate(camera, corners, x + 0.5, triangle, y + 0.5)


def _locate(
    camera: Camera, corners: jax.Array, x: jax.Array, triangle: jax.Array, y: jax.Array
) -> _Surface:
    """Computes where on the triangles [...] the pixels at `x` and `y` lie; all three broadcast."""
    is_hit = triangle < corners.shape[0] - 1
    rows = corners.at[triangle].get(mode="promise_in_bounds")
    z0, z1, z2 = (jnp.where(is_hit, rows[..., i], 1.0) for i in (2, 5, 8))
    a, b, c = _edge_functions(rows, x, y)
    sign = jnp.sign(a + b + c)
    # Inclusive edges let pixels lie outside by a hair, which on thin triangles is much of them.
    a, b, c = (jnp.maximum(v * sign, 0.0) for v in (a, b, c))
    if not camera.orthographic:
        a, b, c = a / z0, b / z1, c / z2
    total = a + b + c
    inverse = jnp.where(total > 0, 1.0, 0.0) / jnp.where(total > 0, total, 1.0)
    a, b, c = a * inverse, b * inverse, c * inverse
    return _Surface(
        triangle=jnp.where(is_hit, triangle, -1),
        barycentric=jnp.stack([a, b, c], -1),
        depth=jnp.where(is_hit, a * z0 + b * z1 + c * z2, 0.0),
        is_front=is_hit & (sign < 0),
    )


def _edge_functions(rows: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, ...]:
    """Returns twice the signed areas that pixels at `x` and `y` span with the edges of triangles.

    Args:
      rows: [..., 9] corners on the screen.
      x: [...] of the pixels.
      y: [...] of the pixels.
    """
    x, y = x.astype(rows.dtype), y.astype(rows.dtype)
    dx0, dx1, dx2 = (rows[..., i] - x for i in (0, 3, 6))
    dy0, dy1, dy2 = (rows[..., i] - y for i in (1, 4, 7))
    return dx1 * dy2 - dx2 * dy1, dx2 * dy0 - dx0 * dy2, dx0 * dy1 - dx1 * dy0


def _blend(corners: jax.Array, triangle: jax.Array, barycentric: jax.Array) -> jax.Array:
    """Weighs corner attributes [T + 1, 3 C] for pixels [..., W]; returns [..., W, C]."""
    index = jnp.where(triangle < 0, corners.shape[0] - 1, triangle)
    rows = corners.at[index].get(mode="promise_in_bounds")
    rows = rows.reshape(*index.shape, 3, -1)
    return sum(rows[..., k, :] * barycentric[..., k, None] for k in range(3))


@dataclasses.dataclass(frozen=True)
class RenderConfig:
    """Settings of `render_mesh`; hashable, so static under jit."""

    rasterize: RasterizeConfig = _DEFAULT
    supersample: int = 1  # samples per pixel and side, averaged
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    headlight: bool | None = None  # shades by the angle to the view; None: if nothing has a colour
    base_color: tuple[float, float, float] = (0.8, 0.8, 0.8)  # where nothing has a colour
    layers: int = 4  # cards seen through each other, of a mesh that has some


_DEFAULT_RENDER = RenderConfig()


@functools.partial(kept, static_argnames="config")
def render_mesh(mesh: Mesh, camera: Camera, config: RenderConfig = _DEFAULT_RENDER) -> RenderOutput:
    """Renders a mesh with its texture, else its colours, else shaded grey.

    Triangles from `mesh.num_opaque` on are cards: the fourth channel of the texture says how much
    of what is behind them they cover. Nothing is looked for behind the last of `config.layers`.

    Differentiable in colours, texture, vertices and camera, but for what moves at outlines.
    """
    large = scale_camera(camera, config.supersample)
    color = _surface_color(mesh, large, config)
    background = jnp.array(config.background, mesh.vertices.dtype)
    if mesh.num_opaque is None:
        corners, found = _find_winners(large, mesh.vertices, mesh.triangles, config.rasterize)
        winner, cards = found.triangle, ()
    else:
        surface = mesh.vertices, mesh.triangles, mesh.num_opaque
        find = functools.partial(find_tile_layers, group=_TILES)
        corners, found = _find_layers(large, *surface, config.layers, config.rasterize, find)
        shade = functools.partial(_shade_card, large, corners, color)
        winner = found.opaque
        cards = (composite_cards(shade, found, mesh.num_opaque, mesh.triangles.shape[0]),)

    def draw_band(triangle, y, *cards):
        """Draws pixels [h, s, W] of the supersampled picture, s rows becoming one."""
        surface = _locate(large, corners, x, triangle.reshape(-1, large.width), y.reshape(-1, 1))
        is_hit = surface.triangle >= 0
        rgb = jnp.where(is_hit[..., None], color(surface)[..., :3], background)
        drawn = rgb, is_hit.astype(rgb.dtype), surface.depth
        if cards:
            front = cards[0].reshape(*is_hit.shape, -1)
            through = 1.0 - front[..., 3]
            front = front[..., :3], front[..., 3], front[..., 4]
            drawn = rgb * through[..., None], drawn[1] * through, drawn[2] * through
            drawn = map(operator.add, front, drawn)
        return tuple(box_downsample(v, samples) for v in drawn)

    samples, x = config.supersample, _column_centers(large)
    rows = winner, _row_centers(large), *cards
    rows = (v.reshape(camera.height, samples, *v.shape[1:]) for v in rows)
    rgb, alpha, depth = map_blocks(draw_band, max(1, _BAND // samples), *rows)
    return RenderOutput(
        rgb=rgb,
        alpha=alpha,
        depth=depth / jnp.where(alpha > 0, alpha, 1.0),
        needed=found.needed,
        overflow=found.overflow,
    )


def _shade_card(
    camera: Camera,
    corners: jax.Array,
    color: Callable[[_Surface], jax.Array],
    triangle: jax.Array,
    x: jax.Array,
    y: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Returns colour, one and depth [..., 5], and alpha [...] of cards at pixels [...]."""
    surface = _locate(camera, corners, x, triangle, y)
    values = jnp.broadcast_to(values := color(surface), (*triangle.shape, values.shape[-1]))
    alpha = values[..., 3] if values.shape[-1] == 4 else jnp.ones_like(surface.depth)
    rest = jnp.stack([jnp.ones_like(surface.depth), surface.depth], -1)
    return jnp.concatenate([values[..., :3], rest], -1), alpha


def render_frames(
    mesh: Mesh,
    cameras: Iterable[Camera],
    config: RenderConfig = _DEFAULT_RENDER,
    num_threads: int = 2,
) -> Iterator[RenderOutput]:
    """Renders one picture after another, for scripts: see `draw_frames`."""
    mesh = jax.device_put(mesh)

    def draw(camera: Camera, max_pairs: int | None) -> RenderOutput:
        room = dataclasses.replace(config.rasterize, max_pairs=max_pairs)
        return render_mesh(mesh, camera, dataclasses.replace(config, rasterize=room))

    # The need of a mesh changes much from view to view, and room in excess costs little.
    return draw_frames(draw, cameras, config.rasterize.max_pairs, 2.0, num_threads)


def _surface_color(
    mesh: Mesh, camera: Camera, config: RenderConfig
) -> Callable[[_Surface], jax.Array]:
    """Returns what gives the colour of the surface that pixels [...] see: [..., 3], or [3].

    With a texture of four channels it is [..., 4], the last one as it is there.
    """
    has_texture = mesh.texture is not None and mesh.uvs is not None
    headlight = config.headlight
    if headlight is None:
        headlight = not has_texture and mesh.colors is None
    uvs = _corners(mesh.uv_triangles, mesh.uvs) if has_texture else None
    colors = _corners(mesh.triangles, mesh.colors) if mesh.colors is not None else None
    normals = None
    if headlight:
        normals = _corners(mesh.triangles, vertex_normals(mesh.vertices, mesh.triangles))

    def color(surface: _Surface) -> jax.Array:
        pixels = surface.triangle, surface.barycentric
        if has_texture:
            rgb = sample_texture(mesh.texture, _blend(uvs, *pixels))
        elif colors is not None:
            rgb = _blend(colors, *pixels)
        else:
            rgb = jnp.array(config.base_color, mesh.vertices.dtype)
        if headlight:
            normal = safe_normalize(_blend(normals, *pixels))
            light = (0.2 + 0.8 * jnp.abs(normal @ camera.rotation[2]))[..., None]
            shaded = rgb[..., :3] * light
            rgb = shaded if rgb.shape[-1] == 3 else jnp.concatenate([shaded, rgb[..., 3:]], -1)
        return rgb

    return color
