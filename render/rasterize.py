"""Rasterizes triangle meshes: which triangle each pixel sees, where on it, in which colour.

The winners are found without gradients, by `zbuffer.py`. Barycentric coordinates and depth are then
computed anew from the winners' corners, so plain autodiff is exact wherever a pixel keeps its
triangle; what moves at outlines (a pixel changing its triangle) has no gradient.

Axes: V vertices, T triangles, C channels. Pixels and camera axes as in `camera.py`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from render.camera import Camera, project, scale_camera
from render.frames import draw_frames
from render.image import RenderOutput, box_downsample
from render.mesh import Mesh, vertex_normals
from render.program_io import kept
from render.tiles import map_blocks
from render.transforms import safe_normalize
from render.zbuffer import RasterizeConfig, Winners, find_winners

_DEFAULT = RasterizeConfig()
_BAND = 16  # rows of pixels worked on at once: their temporaries stay in the cache


class Fragments(NamedTuple):
    """What each pixel sees."""

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
    surface = map_blocks(
        functools.partial(_locate, camera, corners), _BAND, winners.triangle, _row_centers(camera)
    )
    return Fragments(*surface, winners.needed, winners.overflow)


def interpolate(fragments: Fragments, triangles: jax.Array, attributes: jax.Array) -> jax.Array:
    """Returns vertex attributes [V, C] at the pixels [H, W, C]; zero where there is no triangle.

    Differentiable in `attributes`, and in the vertices through the barycentric coordinates.
    """
    corners = _corners(triangles, attributes)
    return map_blocks(
        functools.partial(_blend, corners), _BAND, fragments.triangle, fragments.barycentric
    )


def rasterize_reference(
    camera: Camera,
    vertices: jax.Array,
    triangles: jax.Array,
    config: RasterizeConfig = _DEFAULT,
) -> Fragments:
    """Does what `rasterize` does, every triangle at every pixel: slow, for tests."""
    xy, depth = project(camera, vertices)
    corners = _corners(triangles, jnp.concatenate([xy, depth[:, None]], -1))
    num_triangles = triangles.shape[0]

    def draw(best, number):
        a, b, c = corners[number].reshape(3, 3)
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        everywhere = jnp.full((camera.height, camera.width), number)
        at = _locate(camera, corners, everywhere, _row_centers(camera))
        edges = _edge_functions(camera, corners[number], _row_centers(camera))
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
    surface = _locate(camera, corners, winner, _row_centers(camera))
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


def _find_winners(
    camera: Camera, vertices: jax.Array, triangles: jax.Array, config: RasterizeConfig
) -> tuple[jax.Array, Winners]:
    """Returns the corners [T + 1, 9] on the screen, and the triangles that the pixels see."""
    xy, depth = project(camera, vertices)
    corners = _corners(triangles, jnp.concatenate([xy, depth[:, None]], -1))
    shape = camera.width, camera.height
    points = corners.reshape(-1, 3, 3)
    return corners, find_winners(points, *shape, camera.orthographic, config)


def _row_centers(camera: Camera) -> jax.Array:
    return jnp.arange(camera.height) + 0.5


def _locate(camera: Camera, corners: jax.Array, triangle: jax.Array, y: jax.Array) -> _Surface:
    """Computes where on the triangles [h, W] the pixels of the rows at `y` [h] lie."""
    is_hit = triangle < corners.shape[0] - 1
    rows = corners.at[triangle].get(mode="promise_in_bounds")
    z0, z1, z2 = (jnp.where(is_hit, rows[..., i], 1.0) for i in (2, 5, 8))
    a, b, c = _edge_functions(camera, rows, y)
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


def _edge_functions(camera: Camera, rows: jax.Array, y: jax.Array) -> tuple[jax.Array, ...]:
    """Returns twice the signed areas [h, W] that the pixels span with the edges of `rows`.

    Args:
      camera: gives the pixels' x.
      rows: [h, W, 9] or [9] corners on the screen.
      y: [h] of the pixels.
    """
    x = (jnp.arange(camera.width) + 0.5).astype(rows.dtype)
    y = y.astype(rows.dtype)[:, None]
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


_DEFAULT_RENDER = RenderConfig()


@functools.partial(kept, static_argnames="config")
def render_mesh(mesh: Mesh, camera: Camera, config: RenderConfig = _DEFAULT_RENDER) -> RenderOutput:
    """Renders a mesh with its texture, else its colours, else shaded grey.

    Differentiable in colours, texture, vertices and camera, but for what moves at outlines.
    """
    large = scale_camera(camera, config.supersample)
    corners, winners = _find_winners(large, mesh.vertices, mesh.triangles, config.rasterize)
    color = _surface_color(mesh, large, config)
    background = jnp.array(config.background, mesh.vertices.dtype)

    def draw_band(triangle, y):
        """Draws pixels [h, s, W] of the supersampled picture, s rows becoming one."""
        surface = _locate(large, corners, triangle.reshape(-1, large.width), y.reshape(-1))
        is_hit = surface.triangle >= 0
        rgb = jnp.where(is_hit[..., None], color(surface), background)
        alpha = is_hit.astype(rgb.dtype)
        return tuple(box_downsample(v, samples) for v in (rgb, alpha, surface.depth))

    samples = config.supersample
    triangle = winners.triangle.reshape(camera.height, samples, large.width)
    y = _row_centers(large).reshape(camera.height, samples)
    rgb, alpha, depth = map_blocks(draw_band, max(1, _BAND // samples), triangle, y)
    return RenderOutput(
        rgb=rgb,
        alpha=alpha,
        depth=depth / jnp.where(alpha > 0, alpha, 1.0),
        needed=winners.needed,
        overflow=winners.overflow,
    )


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


def sample_texture(texture: jax.Array, uv: jax.Array) -> jax.Array:
    """Reads a texture [H, W, C] at `uv` [..., 2] (v up), bilinearly; the border goes on outside."""
    height, width = texture.shape[:2]
    x = jnp.clip(uv[..., 0] * width - 0.5, 0.0, width - 1.0)
    y = jnp.clip((1.0 - uv[..., 1]) * height - 0.5, 0.0, height - 1.0)
    x0 = jnp.clip(jnp.floor(x), 0, max(width - 2, 0)).astype(jnp.int32)
    y0 = jnp.clip(jnp.floor(y), 0, max(height - 2, 0)).astype(jnp.int32)
    x1, y1 = jnp.minimum(x0 + 1, width - 1), jnp.minimum(y0 + 1, height - 1)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    top = texture[y0, x0] * (1 - fx) + texture[y0, x1] * fx
    bottom = texture[y1, x0] * (1 - fx) + texture[y1, x1] * fx
    return top * (1 - fy) + bottom * fy


def _surface_color(
    mesh: Mesh, camera: Camera, config: RenderConfig
) -> Callable[[_Surface], jax.Array]:
    """Returns what gives the colour [h, W, 3] of the surface that pixels [h, W] see."""
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
            rgb = rgb * (0.2 + 0.8 * jnp.abs(normal @ camera.rotation[2]))[..., None]
        return rgb

    return color
