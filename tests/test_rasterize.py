import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from jax.test_util import check_grads

from render.camera import camera_rays, orbit, orthographic_camera, perspective_camera
from render.image import box_downsample, sample_texture
from render.mesh import Mesh
from render.rasterize import (
    RenderConfig,
    interpolate,
    rasterize,
    rasterize_reference,
    render_frames,
    render_mesh,
)
from render.zbuffer import RasterizeConfig

pytestmark = pytest.mark.compiles

# One picture size and, by `padded`, one mesh size: each new shape takes seconds to compile.
SIZE = 64
NUM_VERTICES, NUM_TRIANGLES = 2562, 5120


def camera_of(kind, size=SIZE, eye=(0.0, 0.0, 1.0)):
    eye = jnp.array(eye)
    if kind == "perspective":
        return perspective_camera(eye, np.zeros(3), size, size)
    return orthographic_camera(eye, np.zeros(3), size, size, extent=0.5)


def padded(vertices, triangles):
    """Adds vertices and triangles that do not show."""
    vertices, triangles = np.asarray(vertices, np.float32), np.asarray(triangles, np.int32)
    more = NUM_VERTICES - len(vertices), NUM_TRIANGLES - len(triangles)
    vertices = np.concatenate([vertices, np.full((more[0], 3), vertices[0])])
    return jnp.array(vertices), jnp.array(np.concatenate([triangles, np.zeros((more[1], 3), int)]))


@functools.cache
def icosphere(subdivisions=4):
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.2)
    return padded(mesh.vertices, mesh.faces)


def ray_sphere(camera, radius):
    """Depth of the first hit, and how far the rays pass from the middle."""
    rays = jax.tree.map(lambda v: np.asarray(v, np.float64), camera_rays(camera))
    along = -(rays.origins * rays.directions).sum(-1)
    miss = np.linalg.norm(rays.origins + along[..., None] * rays.directions, axis=-1)
    distance = along - np.sqrt(np.maximum(radius**2 - miss**2, 0))
    forward = np.asarray(camera.rotation[2])
    start = rays.origins @ forward + camera.translation[2]
    return start + distance * (rays.directions @ forward), miss


def square(z, half=0.1, center=(0.0, 0.0)):
    x, y = center
    corners = [
        [x - half, y - half],
        [x + half, y - half],
        [x + half, y + half],
        [x - half, y + half],
    ]
    return np.array([[*corner, z] for corner in corners], np.float32)


SQUARE = np.array([[0, 1, 2], [0, 2, 3]])


def random_scene(seed, count=60):
    """Triangles large and small, and some of every kind that must not show."""
    rng = np.random.default_rng(seed)
    center = rng.normal(0, 0.12, (count, 1, 3))
    vertices = center + rng.normal(0, 1, (count, 3, 3)) * rng.choice(
        [0.01, 0.05, 0.3], (count, 1, 1)
    )
    vertices[0, 1] = np.nan
    vertices[1, 2, 2] = np.inf
    vertices[2, 2] = vertices[2, 1]  # without area
    vertices[3, 0] = [0.0, 0.0, 1.5]  # behind the camera
    vertices[4] += [0.0, 0.0, 3.0]
    vertices[5] += [9.0, 0.0, 0.0]  # out of the picture
    return jnp.array(vertices.reshape(-1, 3), jnp.float32), jnp.arange(3 * count).reshape(-1, 3)


@pytest.mark.parametrize(
    ("kind", "cull"),
    [
        ("perspective", False),
        pytest.param("orthographic", False, marks=pytest.mark.slow),
        ("perspective", True),
    ],
)
def test_rasterize_agrees_with_the_reference(kind, cull):
    camera, config = camera_of(kind), RasterizeConfig(cull_back_faces=cull)
    reference = jax.jit(rasterize_reference, static_argnames="config")
    for seed in range(3):
        scene = random_scene(seed)
        found = rasterize(camera, *padded(*scene), config)
        expected = reference(camera, *scene, config)
        assert not found.overflow
        assert 0.3 < (found.triangle >= 0).mean() < 1.0
        same = found.triangle == expected.triangle
        assert same.mean() > 0.999  # where triangles cut through each other either may win
        np.testing.assert_allclose(found.depth, expected.depth, atol=1e-5)
        np.testing.assert_array_equal(found.is_front[same], expected.is_front[same])
        np.testing.assert_allclose(found.barycentric[same], expected.barycentric[same], atol=1e-5)
        if cull:
            np.testing.assert_array_equal(found.is_front, found.triangle >= 0)
        else:
            assert (found.is_front < (found.triangle >= 0)).any()


@pytest.mark.parametrize("kind", ["perspective", "orthographic"])
def test_a_sphere_has_the_depth_of_a_sphere(kind):
    camera = camera_of(kind, eye=(0.3, 0.4, 0.8))
    found = rasterize(camera, *icosphere())
    depth, miss = ray_sphere(camera, 0.2)
    inner = miss < 0.17
    error = found.depth[inner] - depth[inner]
    # Triangles lie inside the sphere, 0.046 radians from their corners at most.
    assert inner.sum() > 500
    assert -1e-5 < error.min() and error.max() < 0.2 * 0.046**2 / 2 / 0.5
    np.testing.assert_array_equal((found.triangle >= 0)[miss < 0.199], True)
    np.testing.assert_array_equal((found.triangle >= 0)[miss > 0.2001], False)


@pytest.mark.parametrize("subdivisions", [1, 2, 3, 4])
def test_a_closed_mesh_has_no_cracks(subdivisions):
    # Through a crack the pixel would see the far side from behind, or nothing.
    vertices, triangles = icosphere(subdivisions)
    radius = 0.2 * (1 - 0.3 / 4**subdivisions)  # the mesh holds a sphere of this size
    for camera in orbit(np.zeros(3), 0.37, 12, SIZE, SIZE, elevation_degrees=31.0):
        found = rasterize(camera, vertices, triangles)
        assert not found.overflow
        np.testing.assert_array_equal(found.is_front, found.triangle >= 0)
        _, miss = ray_sphere(camera, 0.2)
        np.testing.assert_array_equal((found.triangle >= 0)[miss < radius], True)


def test_pixel_centres_on_edges_and_corners_leave_no_crack():
    # A grid of triangles whose corners fall on pixel centres, the worst case for the fill rule.
    count = 49
    i, j = np.meshgrid(np.arange(count - 1), np.arange(count - 1), indexing="ij")
    a, b, c, d = (i * count + j), (i * count + j + 1), (i + 1) * count + j, (i + 1) * count + j + 1
    triangles = np.concatenate([np.stack([a, c, b], -1), np.stack([b, c, d], -1)]).reshape(-1, 3)
    place = (np.arange(count) - 23.5) * 0.5 / SIZE
    x, y = np.meshgrid(place, place)
    vertices = np.stack([x, y, 0 * x], -1).reshape(-1, 3)
    found = rasterize(camera_of("orthographic"), *padded(vertices, triangles))
    covered = np.asarray(found.triangle >= 0)
    assert covered[8:56, 8:56].all()
    assert covered.sum() <= count**2


@pytest.mark.parametrize("kind", ["perspective", "orthographic"])
def test_the_nearer_square_hides_the_farther_one(kind):
    near, far = square(0.1), square(-0.1, half=0.4)
    for first, second, near_triangles in ((near, far, (0, 1)), (far, near, (2, 3))):
        scene = padded(np.concatenate([first, second]), np.concatenate([SQUARE, SQUARE + 4]))
        found = rasterize(camera_of(kind), *scene)
        middle = np.s_[SIZE // 2 - 5 : SIZE // 2 + 5]
        assert np.isin(found.triangle[middle, middle], near_triangles).all()
        np.testing.assert_allclose(found.depth[middle, middle], 0.9, atol=1e-5)
        assert (found.triangle >= 0).all() and not np.isin(found.triangle[:3], near_triangles).any()


@pytest.mark.parametrize("kind", ["perspective", "orthographic"])
def test_interpolation_on_a_slanted_plane_is_the_ray_plane_intersection(kind):
    # Few large triangles reach far out of the picture and, in perspective, far away.
    corners = np.array([[-2.0, -2.0, 0.6], [2.0, -2.0, 0.3], [2.0, 2.0, -4.0], [-2.0, 2.0, -3.7]])
    camera = camera_of(kind)
    vertices, triangles = padded(corners, SQUARE)
    found = rasterize(camera, vertices, triangles)
    points = interpolate(found, triangles, vertices)
    assert (found.triangle >= 0).all()
    normal = np.cross(corners[1] - corners[0], corners[3] - corners[0])
    rays = camera_rays(camera)
    distance = ((corners[0] - rays.origins) @ normal) / (rays.directions @ normal)
    expected = rays.origins + distance[..., None] * rays.directions
    np.testing.assert_allclose(points, expected, atol=2e-5)
    np.testing.assert_allclose(found.depth, 1.0 - expected[..., 2], atol=2e-5)


def test_tiles_chunks_and_groups_change_nothing():
    camera, scene = camera_of("perspective"), icosphere(3)
    expected = rasterize(camera, *scene)
    found = rasterize(camera, *scene, RasterizeConfig(tile_size=11, chunk=2, group=7))
    assert (found.triangle == expected.triangle).mean() > 0.99  # on an edge either may win
    np.testing.assert_array_equal(found.triangle >= 0, expected.triangle >= 0)
    np.testing.assert_allclose(found.depth, expected.depth, atol=1e-6)


@pytest.mark.parametrize(
    "kind", ["perspective", pytest.param("orthographic", marks=pytest.mark.slow)]
)
def test_gradients_match_finite_differences(kind):
    rng = np.random.default_rng(0)
    vertices = np.concatenate([square(0.1), square(-0.1, 0.2)])
    vertices = vertices.astype(np.float64) + rng.normal(0, 0.02, vertices.shape)
    triangles = np.concatenate([SQUARE, SQUARE + 4])
    # Only pixels that keep their triangle while the finite differences move it.
    found = np.asarray(rasterize(camera_of(kind), *padded(vertices, triangles)).triangle)
    keeps = found >= 0
    for axis, shift in ((0, 1), (0, -1), (1, 1), (1, -1)):
        keeps &= np.roll(found, shift, axis) == found
    assert keeps.sum() > 600 and set(found[keeps]) == {0, 1, 2, 3}
    with jax.enable_x64(True):
        camera = jax.tree.map(lambda v: v.astype(jnp.float64), camera_of(kind))
        colors, weights = jnp.array(rng.random((8, 2))), jnp.array(rng.random((SIZE, SIZE, 3)))

        @jax.jit
        def picture(vertices, colors, translation):
            found = rasterize(camera.replace(translation=translation), vertices, triangles)
            values = interpolate(found, triangles, colors)
            values = jnp.concatenate([values, found.depth[..., None]], -1)
            return jnp.sum(jnp.where(keeps[..., None], values * weights, 0.0), (0, 1))

        arguments = jnp.array(vertices), colors, camera.translation
        check_grads(picture, arguments, order=1, modes=("rev",), eps=1e-6, rtol=1e-5, atol=1e-5)


BACKGROUND = (0.25, 0.5, 0.75)
CONFIG = RenderConfig(background=BACKGROUND)


@pytest.mark.slow
def test_nothing_to_see_is_the_background():
    behind = padded(square(2.0), SQUARE)
    broken = padded(np.full((4, 3), np.nan), SQUARE)
    empty = jnp.zeros((0, 3)), jnp.zeros((0, 3), jnp.int32)
    for scene in (behind, broken, empty):
        output = render_mesh(Mesh(*scene), camera_of("perspective"), CONFIG)
        np.testing.assert_array_equal(output.rgb, np.broadcast_to(BACKGROUND, (SIZE, SIZE, 3)))
        assert not output.alpha.any() and not output.depth.any() and not output.overflow


def test_a_turntable_compiles_once_and_gets_the_room_it_needs():
    mesh = Mesh(*icosphere())
    cameras = orbit(np.zeros(3), 0.5, 4, SIZE, SIZE)
    config = dataclasses.replace(CONFIG, rasterize=RasterizeConfig(max_pairs=1000))
    before = render_mesh._cache_size()
    small = render_mesh(mesh, cameras[0], config)
    assert small.overflow and small.needed > 1000
    frames = list(render_frames(mesh, cameras, config))
    assert render_mesh._cache_size() == before + 2  # once for the small room, once for the large
    assert len(frames) == 4 and not any(frame.overflow for frame in frames)
    expected = render_mesh(mesh, cameras[2], CONFIG)
    np.testing.assert_array_equal(frames[2].rgb, expected.rgb)


def test_supersampling_averages_samples():
    mesh = Mesh(*icosphere(1))
    large = render_mesh(mesh, camera_of("perspective"), CONFIG)
    small = render_mesh(
        mesh, camera_of("perspective", SIZE // 2), dataclasses.replace(CONFIG, supersample=2)
    )
    np.testing.assert_allclose(small.rgb, box_downsample(large.rgb, 2), atol=1e-5)
    np.testing.assert_allclose(small.alpha, box_downsample(large.alpha, 2), atol=1e-6)
    assert ((small.alpha > 0) & (small.alpha < 1)).any()
    covered = small.alpha > 0
    assert (small.depth[covered] > 0.7).all() and not small.depth[~covered].any()


def test_a_headlight_shades_by_the_angle():
    camera = camera_of("perspective")
    output = render_mesh(Mesh(*icosphere()), camera, CONFIG)
    depth, miss = ray_sphere(camera, 0.2)
    cosine = (1.0 - depth) / 0.2  # the normal of the sphere along the camera's axis
    inner = miss < 0.17
    expected = 0.8 * (0.2 + 0.8 * cosine)
    np.testing.assert_allclose(output.rgb[inner], np.repeat(expected[inner][:, None], 3, 1), 0.02)


def test_a_texture_stands_upright():
    # Red top left, green top right, blue bottom left, white bottom right.
    texture = jnp.array([[[1.0, 0, 0], [0, 1, 0]], [[0, 0, 1], [1, 1, 1]]])
    mesh = Mesh(
        jnp.array(square(0.0, half=0.2)),
        jnp.array(SQUARE),
        uvs=jnp.array([[1.0, 1], [0, 1], [0, 0], [1, 0]]),
        uv_triangles=jnp.array([[2, 3, 0], [2, 0, 1]]),
        texture=texture,
    )
    rgb = render_mesh(mesh, camera_of("orthographic")).rgb
    for i, row in enumerate((16, 47)):
        for j, column in enumerate((16, 47)):
            np.testing.assert_allclose(rgb[row, column], texture[i, j], atol=0.1)
    np.testing.assert_allclose(rgb[0, 0], 1.0)


def test_texture_lookup_is_bilinear_and_stops_at_the_border():
    texture = jnp.arange(12.0).reshape(3, 4, 1)
    uv = jnp.array([[0.125, 1 - 1 / 6], [0.25, 1 - 1 / 6], [0.125, 1 - 1 / 3], [-1, 2], [2, -1]])
    np.testing.assert_allclose(sample_texture(texture, uv)[:, 0], [0, 0.5, 2, 0, 11], atol=1e-5)
    np.testing.assert_allclose(sample_texture(jnp.full((1, 1, 3), 0.5), uv), 0.5)


def test_a_chunk_must_be_a_power_of_two():
    with pytest.raises(ValueError, match="power of two, found 6"):
        rasterize(camera_of("perspective"), *icosphere(2), RasterizeConfig(chunk=6))
