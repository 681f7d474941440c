"""Layers of alpha-textured triangles, against every triangle at every pixel, sorted by depth."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from render import tiles
from render.camera import orthographic_camera, perspective_camera, project
from render.image import sample_texture
from render.layers import TileLayers, composite_cards
from render.mesh import Mesh
from render.rasterize import (
    RenderConfig,
    interpolate,
    rasterize,
    rasterize_layers,
    render_mesh,
)
from render.zbuffer import RasterizeConfig

pytestmark = pytest.mark.compiles

SIZE, NUM_TRIANGLES, NUM_LAYERS = 40, 200, 5
CONFIG = RasterizeConfig(group=8, max_pairs=2**14)


def camera_of(kind):
    eye = jnp.array([0.0, 0.0, 1.0])
    if kind == "perspective":
        return perspective_camera(eye, np.zeros(3), SIZE, SIZE)
    return orthographic_camera(eye, np.zeros(3), SIZE, SIZE, extent=0.5)


def random_triangles(seed, count=NUM_TRIANGLES):
    rng = np.random.default_rng(seed)
    sizes = rng.choice([0.02, 0.1, 0.2], (count, 1, 1))
    vertices = rng.normal(0, 0.1, (count, 1, 3)) + rng.normal(0, 1, (count, 3, 3)) * sizes
    triangles = np.arange(3 * count).reshape(-1, 3)
    return jnp.array(vertices.reshape(-1, 3), jnp.float32), jnp.array(triangles, jnp.int32)


def sorted_by_depth(camera, vertices, triangles, num_opaque, num_layers):
    """Returns triangle, -1 for none, and depth [K, H, W] of the nearest, all of them tested."""
    xy, depth = (np.asarray(v, np.float64) for v in project(camera, vertices))
    xy, depth = xy[np.asarray(triangles)], depth[np.asarray(triangles)]
    x, y = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    ahead, beyond = xy[:, [1, 2, 0]], xy[:, [2, 0, 1]]
    dx, dy = ahead[..., 0] - beyond[..., 0], ahead[..., 1] - beyond[..., 1]
    share = [v[..., None, None] for v in (dx, dy, *np.moveaxis(ahead, -1, 0))]
    share = share[0] * (y - share[3]) - share[1] * (x - share[2])  # [T, 3, H, W]
    share /= share.sum(1, keepdims=True)
    if camera.orthographic:
        at = np.einsum("tkhw,tk->thw", share, depth)
    else:
        at = 1.0 / np.einsum("tkhw,tk->thw", share, 1.0 / depth)
    at = np.where((share >= 0).all(1) & (depth > 1e-3).all(1)[:, None, None], at, np.inf)
    at[:num_opaque] = np.where(
        at[:num_opaque] == at[:num_opaque].min(0, initial=np.inf), at[:num_opaque], np.inf
    )
    at = np.where(at <= at[:num_opaque].min(0, initial=np.inf), at, np.inf)
    order = np.argsort(at, 0)[:num_layers]
    at = np.take_along_axis(at, order, 0)
    return np.where(np.isfinite(at), order, -1), np.where(np.isfinite(at), at, 0.0)


@pytest.mark.parametrize("kind", ["perspective", "orthographic"])
@pytest.mark.parametrize("num_opaque", [0, 20, NUM_TRIANGLES])
def test_layers_are_all_triangles_sorted_by_depth(kind, num_opaque):
    camera, scene = camera_of(kind), random_triangles(num_opaque)
    found = rasterize_layers(camera, *scene, num_opaque, NUM_LAYERS, CONFIG)
    triangle, depth = sorted_by_depth(camera, *scene, num_opaque, NUM_LAYERS)
    assert not found.overflow
    same = found.triangle == triangle
    # Where triangles cut through each other, or a centre lies on an edge, either may win.
    assert same.mean() > 0.998
    np.testing.assert_allclose(found.depth[same], depth[same], atol=1e-5)
    counts = (triangle >= 0).sum(0)
    if num_opaque < NUM_TRIANGLES:
        assert (counts == NUM_LAYERS).mean() > 0.2 and (counts < NUM_LAYERS).mean() > 0.1


def test_where_all_is_opaque_one_layer_holds_what_rasterize_finds():
    camera, scene = camera_of("perspective"), random_triangles(1)
    found = rasterize_layers(camera, *scene, NUM_TRIANGLES, NUM_LAYERS, CONFIG)
    expected = rasterize(camera, *scene, CONFIG)
    np.testing.assert_array_equal(found.triangle[0], expected.triangle)
    np.testing.assert_array_equal(found.barycentric[0], expected.barycentric)
    assert (found.triangle[1:] == -1).all() and not found.depth[1:].any()


OFF_DIAGONAL = ~np.eye(SIZE, dtype=bool)[::-1]  # there two triangles of a square meet


def stack_of_squares(heights):
    """Squares that fill the picture, two triangles each, at `heights` over the origin."""
    corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]]
    vertices = np.array([[*corner, z] for z in heights for corner in corners], np.float32)
    vertices = np.pad(vertices, [(0, 3 * NUM_TRIANGLES - len(vertices)), (0, 0)])
    pairs = np.array([[0, 1, 2], [0, 2, 3]])
    triangles = np.concatenate([pairs + 4 * k for k in range(len(heights))])
    triangles = np.pad(triangles, [(0, NUM_TRIANGLES - len(triangles)), (0, 0)])
    return jnp.array(vertices), jnp.array(triangles, jnp.int32)


@pytest.mark.slow
def test_only_what_is_opaque_has_backs_that_are_culled():
    # Two opaque squares and two cards; the first opaque one and the last card show their backs.
    vertices, triangles = stack_of_squares([0.3, 0.0, 0.2, 0.1])
    turned = jnp.array([0, 1, 6, 7])
    triangles = triangles.at[turned].set(triangles[turned, ::-1])
    config = dataclasses.replace(CONFIG, cull_back_faces=True)
    found = rasterize_layers(camera_of("perspective"), vertices, triangles, 4, NUM_LAYERS, config)
    square = np.asarray(found.triangle)[:, OFF_DIAGONAL] // 2
    np.testing.assert_array_equal(square, np.array([[2], [3], [1], [-1], [-1]]) + 0 * square)


def test_neighbours_in_a_list_do_not_swallow_each_other():
    # Whatever their order in the list, each pixel sees all of them, chunk by chunk or not.
    for seed in range(3):
        heights = np.random.default_rng(seed).permutation(NUM_LAYERS) * 0.1
        scene = stack_of_squares(heights)
        found = rasterize_layers(camera_of("perspective"), *scene, 0, NUM_LAYERS, CONFIG)
        square = np.asarray(found.triangle)[:, OFF_DIAGONAL] // 2
        np.testing.assert_array_equal(square, np.argsort(-heights)[:, None] + 0 * square)


def over(colors, alphas, background):
    """Lays one layer after another over the background, the farthest first."""
    shown, covered = background, 0.0
    for color, alpha in zip(colors[::-1], alphas[::-1], strict=True):
        shown = alpha * color + (1 - alpha) * shown
        covered = alpha + (1 - alpha) * covered
    return shown, covered


def test_cards_are_laid_over_each_other_and_the_last_one_closes():
    rng, side, most = np.random.default_rng(0), 8, 4
    grid = tiles.TileGrid(2 * side, side, side)
    # Card 1 lies in front of card 2 and so on; a pixel sees none to all of them, then what is
    # opaque, number 0, if it is seen at all. The tile on the right sees two at most.
    depth = rng.integers(0, most + 1, (2, side**2))
    depth[1] = np.minimum(depth[1], 2)
    layer, number_of_none = np.arange(most)[None, :, None], most + 1
    behind = rng.choice([0, number_of_none], depth.shape)
    triangle = np.where(layer < depth[:, None], 1 + layer, number_of_none)
    triangle = np.where(layer == depth[:, None], behind[:, None], triangle)
    lists = tiles.TileLists(None, jnp.zeros(2, jnp.int32), jnp.array(depth.max(1)), None, None)
    groups = tiles.group_tiles(grid, lists, 1)
    layers = TileLayers(grid, groups, jnp.array(triangle), None, None, None)
    colors, alphas = rng.random((most + 2, side, 2 * side, 2)), rng.random((most + 2, side, 16))

    def shade(triangle, x, y):
        at = triangle, jnp.floor(y).astype(int), jnp.floor(x).astype(int)
        return jnp.array(colors)[at], jnp.array(alphas)[at]

    found = np.asarray(composite_cards(shade, layers, 1, number_of_none))
    depth = depth.reshape(2, side, side).swapaxes(0, 1).reshape(side, -1)
    for row, column in np.ndindex(depth.shape):
        seen = slice(1, 1 + depth[row, column])
        closed = alphas[seen, row, column].copy()
        closed[most - 1 :] = 1.0
        expected = over(colors[seen, row, column], closed, np.zeros(2))[0]
        np.testing.assert_allclose(found[row, column], expected, atol=1e-6)


def cards(texture, seed=2, dtype=jnp.float32):
    """Large triangles with a texture of their own places, the first five of them opaque."""
    vertices, triangles = random_triangles(seed)
    uvs = np.random.default_rng(seed).random((3 * NUM_TRIANGLES, 2))
    return Mesh(
        vertices.astype(dtype),
        triangles,
        uvs=jnp.array(uvs, dtype),
        uv_triangles=triangles,
        texture=jnp.array(texture, dtype),
        num_opaque=5,
    )


RENDER = RenderConfig(CONFIG, supersample=2, background=(0.2, 0.4, 0.6), layers=NUM_LAYERS)


def test_a_mesh_with_cards_is_its_layers_laid_over_each_other():
    mesh = cards(np.random.default_rng(3).random((5, 7, 4)))
    camera = camera_of("perspective")
    found = render_mesh(mesh, camera, dataclasses.replace(RENDER, supersample=1))
    layers = rasterize_layers(
        camera, mesh.vertices, mesh.triangles, mesh.num_opaque, NUM_LAYERS, CONFIG
    )
    uv = interpolate(layers, mesh.uv_triangles, mesh.uvs)
    values = np.asarray(sample_texture(mesh.texture, uv))
    triangle = np.asarray(layers.triangle)
    alpha = np.where(triangle < 5, 1.0, values[..., 3]) * (triangle >= 0)
    alpha[-1] = np.where(triangle[-1] >= 5, 1.0, alpha[-1])
    background = np.array(RENDER.background)
    rgb, covered = over(values[..., :3], alpha[..., None], background)
    np.testing.assert_allclose(found.rgb, rgb, atol=1e-5)
    np.testing.assert_allclose(found.alpha, covered[..., 0], atol=1e-5)
    depth = over(np.asarray(layers.depth)[..., None], alpha[..., None], 0.0)[0]
    depth /= np.where(covered > 0, covered, 1.0)
    np.testing.assert_allclose(found.depth, depth[..., 0], atol=1e-5)


@pytest.mark.slow
def test_gradients_match_finite_differences():
    texture = 0.2 + 0.6 * np.random.default_rng(3).random((5, 7, 4))
    with jax.enable_x64(True):
        mesh = cards(texture, dtype=jnp.float64)
        camera = jax.tree.map(lambda v: v.astype(jnp.float64), camera_of("perspective"))
        weights = jnp.array(np.random.default_rng(4).random((SIZE, SIZE, 3)))
        step = 1e-7  # moves next to no sample to another triangle

        @jax.jit
        def picture(texture, vertices):
            drawn = render_mesh(mesh.replace(texture=texture, vertices=vertices), camera, RENDER)
            return jnp.sum(drawn.rgb * weights) + jnp.sum(drawn.alpha * weights[..., 0])

        check_grads(picture, (mesh.texture, mesh.vertices), order=1, modes=("rev",), eps=step)
