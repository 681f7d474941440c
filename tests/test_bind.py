"""Gaussians bound to a mesh: they cover it, look like it, and follow its triangles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from jax.test_util import check_grads

from recon import assets, morphable
from recon.bind import BindConfig, bind, bound_gaussians
from render import harmonics
from render.camera import Camera, orbit
from render.gaussians import covariances, view_colors
from render.image import psnr
from render.mesh import Mesh, subdivide_mesh
from render.rasterize import RenderConfig, render_mesh
from render.splat import SplatConfig, splat
from render.transforms import rodrigues
from render.zbuffer import RasterizeConfig

pytestmark = pytest.mark.compiles

EXACT = BindConfig(max_edge=0.05, thickness=0.0, inset=0.0)


@pytest.fixture(scope="module")
def model():
    return assets.load_model("default")


def ball(level=2, radius=0.1):
    sphere = trimesh.creation.icosphere(level, radius)
    vertices = np.asarray(sphere.vertices) * [1.0, 1.2, 0.8]
    colors = np.clip(0.5 + 4.0 * vertices, 0.0, 1.0)
    return Mesh(
        jnp.asarray(vertices, jnp.float32), np.asarray(sphere.faces, np.int32), colors=colors
    )


def sheet(corners, triangles=((0, 1, 2), (0, 2, 3))):
    return Mesh(jnp.asarray(corners, jnp.float32), np.array(triangles, np.int32))


SQUARE = sheet([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])


def turntable(vertices, num_frames, size):
    low, high = vertices.min(0), vertices.max(0)
    extent = 1.15 * float(high[1] - low[1])
    return orbit(0.5 * (low + high), extent, num_frames, size, size)


def test_the_pieces_of_a_triangle_have_its_area_centre_and_spread():
    corners = np.random.default_rng(0).normal(size=(3, 3))
    config = BindConfig(max_edge=0.3, spread=1.0, thickness=0.0, inset=0.0)
    binding = bind(sheet(corners, [[0, 1, 2]]), config)
    pieces = jax.device_get(bound_gaussians(binding, jnp.asarray(corners, jnp.float32)))
    assert len(pieces.means) > 30
    spreads = np.asarray(jax.jit(covariances)(pieces))
    shape = np.asarray(binding.shape)
    # Shares of the triangle: det [[2, -1], [-1, 2]] / 36 is 1 / 432 for the whole of it.
    area = np.sqrt(shape[:, 0] * shape[:, 2] - shape[:, 1] ** 2) * np.sqrt(432.0)
    np.testing.assert_allclose(area.sum(), 1.0, rtol=1e-4)
    mean = np.einsum("n,ni->i", area, pieces.means)
    np.testing.assert_allclose(mean, corners.mean(0), atol=1e-5)
    away = pieces.means - mean
    total = np.einsum("n,nij->ij", area, spreads + away[:, :, None] * away[:, None])
    whole = corners - corners.mean(0)
    np.testing.assert_allclose(total, whole.T @ whole / 12.0, atol=1e-5)


def test_long_triangles_are_cut_until_they_are_short_or_room_runs_out():
    # No triangle is wider, in standard deviations, than its longest edge over the root of 18.
    config = BindConfig(max_edge=0.1, spread=1.0, thickness=0.0)
    gaussians = bound_gaussians(bind(SQUARE, config), SQUARE.vertices)
    assert float(jnp.exp(gaussians.log_scales).max()) < 0.1 / np.sqrt(18.0) * 1.001
    for room in (2, 37, 100):
        few = bind(SQUARE, BindConfig(max_edge=0.001, max_gaussians=room))
        assert len(few.triangle) == room
        assert np.bincount(few.triangle).min() >= room // 2 - 1


def test_gaussians_stretch_with_their_triangles():
    mesh = ball()
    binding = bind(mesh, EXACT)
    stretch = jnp.array([[1.5, 0.4, 0.0], [0.0, 0.7, 0.3], [-0.2, 0.0, 1.1]])
    before = bound_gaussians(binding, mesh.vertices)
    after = bound_gaussians(binding, mesh.vertices @ stretch.T)
    np.testing.assert_allclose(after.means, before.means @ stretch.T, atol=1e-6)
    flat, expected = covariances(after), stretch @ covariances(before) @ stretch.T
    np.testing.assert_allclose(flat, expected, atol=1e-4 * float(jnp.abs(expected).max()))


def test_covariances_are_those_of_the_edges_and_the_thickness():
    mesh = ball()
    binding = bind(mesh, BindConfig(max_edge=0.02, thickness=0.003))
    a, b, c = (np.asarray(mesh.vertices)[mesh.triangles[binding.triangle, k]] for k in range(3))
    edges = np.stack([b - a, c - a], -1)
    shape = np.asarray(binding.shape)[:, [0, 1, 1, 2]].reshape(-1, 2, 2)
    expected = edges @ shape @ edges.mT + 0.003**2 * np.eye(3)
    found = covariances(bound_gaussians(binding, mesh.vertices))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_a_turned_mesh_looks_like_the_mesh_from_a_turned_camera():
    mesh = ball()
    binding = bind(mesh, BindConfig(max_edge=0.01))
    rotation = jax.jit(rodrigues)(jnp.array([0.4, -1.9, 0.7]))
    shift = jnp.array([0.01, -0.02, 0.03])
    camera = turntable(np.asarray(mesh.vertices), 1, 96)[0]
    turned = camera.replace(
        rotation=camera.rotation @ rotation,
        translation=camera.rotation @ shift + camera.translation,
    )
    moved = splat(bound_gaussians(binding, mesh.vertices @ rotation.T + shift), camera)
    still = splat(bound_gaussians(binding, mesh.vertices), turned)
    assert float(moved.alpha.mean()) > 0.3
    assert float(psnr(moved.rgb, still.rgb)) > 60.0


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_gradients_of_a_picture_match_finite_differences():
    vertices = jnp.array([[0, 0, 0], [1, 0.1, 0.2], [0.9, 1.1, 0], [0.1, 0.9, -0.3]])
    mesh = Mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]]), colors=np.eye(4, 3))
    binding = bind(mesh, BindConfig(max_edge=0.8, opacity=0.7, thickness=0.02, inset=0.02))
    camera = orbit((0.5, 0.5, 0.0), 2.0, 1, 16, 16, azimuth_degrees=(20.0, 20.0))[0]
    target = jax.random.uniform(jax.random.key(0), (16, 16, 3), jnp.float64)

    @jax.jit
    def loss(vertices):
        config = SplatConfig(max_pairs=256)
        return jnp.mean(
            (splat(bound_gaussians(binding, vertices), camera, config).rgb - target) ** 2
        )

    check_grads(loss, (vertices,), order=1, modes=["rev"], eps=1e-6, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_triangles_without_area_and_round_gaussians_have_finite_gradients():
    corners = [[0, 0, 0], [1, 0, 0], [0.5, np.sqrt(0.75), 0], [2, 0, 0], [1, 0, 0], [0, 0, 3]]
    mesh = sheet(corners, [[0, 1, 2], [0, 1, 3], [1, 4, 1], [1, 1, 2], [0, 5, 2]])
    binding = bind(mesh, BindConfig(max_edge=2.0, inset=0.01))

    @jax.jit
    @jax.value_and_grad
    def size(vertices):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(bound_gaussians(binding, vertices)))

    for vertices in (mesh.vertices, 0.0 * mesh.vertices, mesh.vertices[::-1]):
        value, gradient = size(vertices)
        assert np.isfinite(value) and np.isfinite(gradient).all()
    gaussians = bound_gaussians(binding, mesh.vertices)
    assert float(jnp.abs(gaussians.log_scales[0, 0] - gaussians.log_scales[0, 1])) < 1e-3


def test_the_border_gives_way_like_the_surface():
    config = BindConfig(max_edge=0.02, inset=0.1)
    means = np.asarray(bound_gaussians(bind(SQUARE, config), SQUARE.vertices).means)
    slanted = 0.1 / np.sqrt(2.0)  # at the corners of a square, the way out is a diagonal
    np.testing.assert_allclose(means[:, :2].min(0), slanted, atol=0.01)
    np.testing.assert_allclose(means[:, :2].max(0), 1.0 - slanted, atol=0.01)
    np.testing.assert_allclose(means[:, 2], -0.1, atol=1e-6)


def test_a_seam_of_doubled_vertices_is_no_border():
    square = SQUARE.vertices
    doubled = sheet(jnp.concatenate([square, square[np.array([0, 2])]]), [[0, 1, 2], [4, 5, 3]])
    assert len(bind(doubled, EXACT).border) == len(bind(SQUARE, EXACT).border) == 4


def test_a_pattern_finer_than_the_gaussians_becomes_its_mean():
    texture = (np.indices((64, 64)).sum(0) % 2)[..., None] * np.ones(3, np.float32)
    mesh = SQUARE.replace(
        uvs=SQUARE.vertices[:, :2], uv_triangles=SQUARE.triangles, texture=jnp.asarray(texture)
    )
    colors = view_colors(bound_gaussians(bind(mesh, EXACT), mesh.vertices), camera_along_z())
    np.testing.assert_allclose(colors, 0.5, atol=0.1)
    half = mesh.replace(
        texture=jnp.asarray(np.linspace(0, 1, 64)[None, :, None] * np.ones((64, 1, 3)))
    )
    gaussians = bound_gaussians(bind(half, EXACT), mesh.vertices)
    expected = np.clip((gaussians.means[:, :1] * 64 - 0.5) / 63, 0.0, 1.0) * np.ones(3)
    np.testing.assert_allclose(view_colors(gaussians, camera_along_z()), expected, atol=0.01)


def camera_along_z(rotation=None):
    rotation = jnp.eye(3) if rotation is None else rotation
    zero = jnp.zeros(2)
    return Camera(rotation, jnp.zeros(3), zero + 1.0, zero, 8, 8, orthographic=True)


def test_a_mesh_without_colours_is_brightest_where_it_faces_the_viewer():
    mesh = ball(3).replace(colors=None)
    gaussians = bound_gaussians(bind(mesh, EXACT), mesh.vertices)
    normals = np.asarray(gaussians.means) / np.array([1.0, 1.2, 0.8]) ** 2
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    for turn in ([0.0, 0.0, 0.0], [0.3, 2.0, -1.0]):
        camera = camera_along_z(jax.jit(rodrigues)(jnp.array(turn)))
        cosine = -normals @ np.asarray(camera.rotation)[2]
        is_seen = cosine > 0
        expected = 0.8 * (0.4 + 0.6 * cosine[is_seen, None]) * np.ones(3)
        colors = np.asarray(view_colors(gaussians, camera))[is_seen]
        np.testing.assert_allclose(colors, expected, atol=0.02)


def test_an_expression_moves_the_splats_of_the_mouth_alone(model):
    rest = np.asarray(model.mean)
    binding = bind(Mesh(model.mean, np.asarray(model.triangles)), BindConfig(max_edge=0.01))
    gaussians = jax.jit(lambda vertices: bound_gaussians(binding, vertices))
    largest = jnp.abs(model.expression_basis[model.landmark_vertices[62]]).sum(0).argmax()
    expression = (
        jnp.zeros_like(model.expression_sd).at[largest].set(model.expression_bounds[largest, 1])
    )
    identity = jnp.zeros_like(model.identity_sigma)
    means = np.asarray(gaussians(model.mean).means)
    shape = jax.jit(morphable.face_shape)(model, identity, expression)
    moved = np.linalg.norm(gaussians(shape).means - means, axis=-1)
    mouth = rest[model.landmark_vertices[48:]].mean(0)
    is_mouth = np.linalg.norm(means - mouth, axis=-1) < 0.02
    is_crown = means[:, 1] > mouth[1] + 0.12
    assert moved[is_mouth].mean() > 0.002 and is_crown.sum() > 100
    assert moved[is_crown].max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("grey", marks=pytest.mark.slow), "coloured"])
def test_a_head_of_gaussians_looks_like_the_mesh_from_all_sides(model, kind):
    mesh = Mesh(model.mean, np.asarray(model.triangles))
    if kind == "coloured":
        waves = 0.6 + 0.2 * np.sin(150.0 * np.asarray(model.mean))
        mesh = mesh.replace(colors=jnp.asarray(waves, jnp.float32))
    mesh = subdivide_mesh(mesh, 1)
    gaussians = bound_gaussians(bind(mesh), mesh.vertices)
    drawn = RenderConfig(RasterizeConfig(cull_back_faces=True, max_pairs=150_000), supersample=2)
    for camera in turntable(np.asarray(mesh.vertices), 5, 512):
        expected = render_mesh(mesh, camera, drawn)
        found = splat(gaussians, camera, SplatConfig(max_pairs=1_500_000))
        assert not expected.overflow and not found.overflow
        assert float(psnr(found.rgb, expected.rgb)) > 30.0


def test_cards_take_their_opacity_from_the_texture_and_their_place_from_the_mesh():
    # Opaque skin below; a card above, whose texture is red and solid, green and thin, empty.
    square = np.array([[0, 0, 0], [0.03, 0, 0], [0.03, 0.03, 0], [0, 0.03, 0]])
    corners = np.concatenate([square, square + np.array([0, 0, 0.02])])
    texture = np.zeros((8, 12, 4), np.float32)
    texture[:, :4] = 1, 0, 0, 1
    texture[:, 4:8] = 0, 1, 0, 0.5
    texture[:, 8:] = 0, 0, 1, 0
    mesh = sheet(corners, [[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]]).replace(
        uvs=jnp.array(np.concatenate([square[:, :2], square[:, :2]]) / 0.03, jnp.float32),
        uv_triangles=np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], np.int32),
        texture=jnp.array(texture),
        num_opaque=2,
    )
    config = BindConfig(max_edge=0.008, card_edge=0.002, overlap=2.0, max_card_gaussians=5000)
    binding = bind(mesh, config)
    found = bound_gaussians(binding, mesh.vertices)
    is_card = np.asarray(binding.triangle) >= 2
    assert found.means[is_card, 0].max() < 0.022  # two thirds, and what is blended at their end
    np.testing.assert_allclose(found.means[is_card, 2], 0.02, atol=1e-7)
    # Pieces over each other let through what the card does; none is tinged by what is not there.
    opacity = jax.nn.sigmoid(found.logit_opacities)
    colors = 0.5 + np.asarray(found.harmonics)[:, 0] * harmonics.CONSTANT
    solid = is_card & (found.means[:, 0] < 0.008)
    thin = is_card & (found.means[:, 0] > 0.012) & (found.means[:, 0] < 0.018)
    np.testing.assert_allclose((1 - opacity[solid]) ** 2, 0.01, rtol=1e-3)
    np.testing.assert_allclose((1 - opacity[thin]) ** 2, 0.5, rtol=1e-3)
    np.testing.assert_allclose(colors[is_card, 2], 0.0, atol=1e-5)
    np.testing.assert_allclose(colors[thin], [[0, 1, 0]] * int(thin.sum()), atol=1e-3)
    # The skin is what it is without the card, but for the alpha of its own texture.
    skin = mesh.replace(
        vertices=mesh.vertices[:4],
        triangles=mesh.triangles[:2],
        uv_triangles=mesh.uv_triangles[:2],
        num_opaque=None,
    )
    alone = bound_gaussians(bind(skin, config), skin.vertices)
    for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(one, other[~is_card], atol=1e-6)
