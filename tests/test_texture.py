import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from recon import assets, texture
from recon.evaluation.appearance import lit
from recon.fit import FaceParams, face_camera
from recon.morphable import MorphableModel
from recon.painting import atlas, fill, hair, outline, shading, surface
from recon.pose import Pose
from render.image import linear_to_srgb, sample_texture, srgb_to_linear
from render.mesh import Mesh, apply, vertex_normals
from render.rasterize import RenderConfig, render_mesh
from render.zbuffer import RasterizeConfig

pytestmark = pytest.mark.compiles

CONFIG = texture.TextureConfig(size=512, max_vertices=20_000, cutout=512)
MAGENTA = (1.0, 0.0, 1.0)
SKIN, HAIR = np.array([0.78, 0.58, 0.48]), np.array([0.25, 0.17, 0.10])


@pytest.fixture(scope="module")
def head():
    return texture.prepare(assets.load_model("default"), CONFIG)


@pytest.fixture(scope="module")
def turned(head):
    """A head of known, symmetric colours seen from 20 degrees to its left: (truth, photo, mesh)."""
    return painted_photo(head, true_colors(head), yaw=20)


def params_at(head, yaw, center=(150.0, 160.0), pixels_per_metre=1000.0):
    angle = np.radians(yaw)
    c, s = np.cos(angle), np.sin(angle)
    rotation = jnp.array([[c, 0, -s], [0, 1, 0], [s, 0, c]], jnp.float32)
    pose = Pose(rotation, jnp.array(center, jnp.float32), jnp.float32(pixels_per_metre))
    model = head.model
    identity = jnp.zeros(model.identity_sigma.shape[0])
    return FaceParams(identity, jnp.zeros(model.expression_sd.shape[0]), pose, jnp.zeros(17))


def true_colors(head, light=0.0):
    """Skin with a soft symmetric pattern, and hair; `light` brightens the subject's left."""
    place = np.asarray(head.surface.place)
    pattern = 1 + 0.08 * np.cos(9 * place[:, :1]) * np.sin(7 * place[:, 1:2])
    is_hair = np.asarray(head.surface.parts["skull"])[:, None] > 0.5
    albedo = np.where(is_hair, HAIR, SKIN) * pattern
    mean = apply(head.surface.subdivision, head.model.mean)
    normals = np.asarray(vertex_normals(mean, head.surface.subdivision.triangles))
    return np.clip(albedo * np.exp(light * normals[:, :1]), 0, 1)


def painted_photo(head, truth, yaw, size=(320, 300)):
    params = params_at(head, yaw)
    vertices = apply(head.surface.subdivision, head.model.mean)
    colors = jnp.asarray(truth, jnp.float32)
    mesh = Mesh(vertices, head.surface.subdivision.triangles, colors=colors)
    camera = face_camera(params.pose, size[1], size[0])
    config = RenderConfig(RasterizeConfig(max_pairs=200_000), supersample=2, background=MAGENTA)
    photo = render_mesh(mesh, camera, config)
    assert not photo.overflow
    return truth, np.asarray(photo.rgb), texture.paint(head, params, np.asarray(photo.rgb), CONFIG)


def judged(head, photo, yaw):
    """The trust [V] in a photo, and what it shows."""
    view = texture.look(head.model, head.surface, params_at(head, yaw), photo, CONFIG.cutout)
    view, ground = jax.device_get(view), surface.on_host(head.surface)
    inside = outline.inside_photo_outline(photo, view, ground)
    return texture.judge(view, ground, inside, CONFIG.trust).trust, view


def is_plain_face(head):
    """Face [V] without lips, lids, eyes and mouth, of which the true head has none."""
    parts = surface.on_host(head.surface).parts
    return (parts["face"] > 0.9) & (parts["features"] < 0.05)


def mirrored_only(head, photo, yaw):
    """Vertices [V] of which the photo shows only the mirror image."""
    trust = judged(head, photo, yaw)[0]
    return (trust < 0.02) & (trust[np.asarray(head.surface.mirror)] > 0.6)


def magenta_share(colors):
    """How much magenta is in colours of skin and hair, whose green lies above the blue."""
    colors = np.asarray(colors)
    return np.minimum(colors[..., 0], colors[..., 2]) - colors[..., 1]


def test_trusted_vertices_have_the_photo_s_colours(head, turned):
    truth, photo, mesh = turned
    trust = judged(head, photo, 20)[0]
    error = np.abs(np.asarray(mesh.colors) - truth)[trust > 0.5]
    assert len(error) > 2500
    assert error.mean() < 0.006
    assert np.quantile(error, 0.99) < 0.05


def test_no_background_reaches_the_head(turned):
    mesh = turned[2]
    assert magenta_share(mesh.colors).max() < 0.02
    assert magenta_share(mesh.texture).max() < 0.02


@pytest.mark.parametrize("yaw", [pytest.param(0, marks=pytest.mark.slow), 30])
def test_a_skull_larger_than_the_photo_s_shows_no_wall(head, yaw):
    """The person's skull is a fifth smaller than the model's: a green wall shows in its place."""
    green = np.array([0.2, 0.75, 0.3])
    params = params_at(head, yaw)
    vertices = np.array(apply(head.surface.subdivision, head.model.mean))
    skull = np.asarray(head.surface.parts["skull"])[:, None]
    middle = vertices[np.asarray(head.surface.parts["face"]) > 0.5].mean(0)
    vertices += 0.2 * skull * (middle - vertices)
    mesh = Mesh(jnp.asarray(vertices), head.surface.subdivision.triangles, colors=true_colors(head))
    wall = RenderConfig(RasterizeConfig(max_pairs=200_000), supersample=2, background=tuple(green))
    photo = np.asarray(render_mesh(mesh, face_camera(params.pose, 300, 320), wall).rgb)
    painted = texture.paint(head, params, photo, CONFIG)
    for colors in (painted.colors, painted.texture):
        assert np.max(colors[..., 1] - colors[..., 0]) < 0.0  # skin and hair are redder than green
    if yaw:  # from the front, no hair lies far enough inside the photo's outline
        median = np.median(np.asarray(painted.colors)[skull[:, 0] > 0.95], 0)
        assert np.abs(median - HAIR).max() < 0.05


def test_a_collar_does_not_colour_the_jaw(head, turned):
    blue = np.array([0.1, 0.2, 0.9])
    lips = np.asarray(head.model.mean)[np.asarray(head.model.landmark_vertices)[57]]
    row = int(160 - 1000 * lips[1]) + 36  # just below the chin
    photo = turned[1].copy()
    photo[row:] = blue
    mesh = texture.paint(head, params_at(head, 20), photo, CONFIG)
    for colors in (mesh.colors, mesh.texture):
        assert np.max(np.asarray(colors[..., 2] - colors[..., 0])) < 0.02


def test_the_unseen_side_mirrors_the_seen_one(head, turned):
    truth, photo, mesh = turned
    unseen = mirrored_only(head, photo, 20) & is_plain_face(head)
    assert unseen.sum() > 500
    error = np.abs(np.asarray(mesh.colors) - truth)[unseen]
    assert error.mean() < 0.01


def one_sided_photo(head, yaw, azimuth, ambient):
    """A photo of the head under Lambert's light from one side, and what it shows of each vertex."""
    pose = params_at(head, yaw).pose
    vertices = apply(head.surface.subdivision, head.model.mean)
    normals = vertex_normals(vertices, head.surface.subdivision.triangles) @ pose.rotation.T
    angle = np.radians(azimuth)
    direction = jnp.array([0.95 * np.sin(angle), 0.3, 0.95 * np.cos(angle)])
    warm = jnp.array([1.05, 1.0, 0.95])
    light = lit(normals, direction, jnp.full(3, ambient), (1.1 - ambient) * warm)
    shown = linear_to_srgb(srgb_to_linear(jnp.asarray(true_colors(head))) * light)
    return painted_photo(head, np.clip(shown, 0, 1), yaw)


# The mean errors that were measured when the unseen side got the light that the seen side's
# harmonics, extrapolated, would have cast on it.
@pytest.mark.parametrize(
    "yaw, azimuth, ambient, before",
    [(20, 70, 0.1, 0.416), (35, 35, 0.35, 0.250), (20, -70, 0.1, 0.156)],
)
def test_the_unseen_side_is_neither_burnt_nor_black(head, yaw, azimuth, ambient, before):
    """Whatever side the light comes from, the other has its albedo, lit like the lit side."""
    shown, photo, mesh = one_sided_photo(head, yaw, azimuth, ambient)
    trust, view = judged(head, photo, yaw)
    facing, colors = view.facing[:, 2], np.asarray(mesh.colors)
    parts = surface.on_host(head.surface).parts
    is_skin = (parts["face"] + parts["ears"] > 0.9) & (parts["features"] < 0.05)
    unseen = is_skin & (facing < 0) & (np.asarray(head.surface.place)[:, 0] < 0)
    assert unseen.sum() > 300
    error = np.abs(colors - true_colors(head))[unseen].mean()
    assert error < 0.5 * before

    is_seen = trust > 0.5
    brightest = np.quantile(shading.luma(shown)[is_seen], 0.99)
    assert shading.luma(colors)[trust < 0.02].max() <= brightest + 0.01


def test_light_is_recovered_where_it_adds_up(head):
    """Lambert's light in linear light, and a tenth of the skin in brows' colour."""
    normals = np.asarray(vertex_normals(head.model.mean, head.model.triangles), np.float64)
    weight = np.maximum(normals[:, 2], 0)
    direction = np.array([0.6, 0.2, 0.77])
    light = 0.15 + 0.75 * np.maximum(normals @ direction, 0)[:, None]
    true = (SKIN**2.2 * light) ** (1 / 2.2)
    shown = np.where(np.random.default_rng(3).random((len(normals), 1)) < 0.1, 0.1, true)
    skin = shading.fit_skin(shading.to_log(shown), normals, weight)
    error = np.abs(shading.lit_skin(skin, normals) - shading.to_log(true))[weight > 0.2]
    assert error.mean() < 0.06
    even = shading.to_rgb(shading.evenly_lit_skin(skin, normals, np.asarray(head.model.mirror)))
    assert shading.luma(even).max() <= shading.luma(true[weight > 0.2]).max() + 0.02
    assert np.ptp(shading.luma(even)) < 0.6 * np.ptp(shading.luma(true[weight > 0.2]))


def test_an_evenly_lit_head_keeps_its_light(head):
    normals = np.asarray(vertex_normals(head.model.mean, head.model.triangles), np.float64)
    shown = shading.to_log(SKIN * np.sqrt(0.6 + 0.4 * np.maximum(normals[:, 2:], 0)))
    skin = shading.fit_skin(shown, normals, np.maximum(normals[:, 2], 0))
    even = shading.evenly_lit_skin(skin, normals, np.asarray(head.model.mirror))
    np.testing.assert_allclose(even, shading.lit_skin(skin, normals), atol=0.01)


def test_light_from_one_side_leaves_no_seam(head):
    truth, _, mesh = painted_photo(head, true_colors(head, light=0.35), yaw=25)
    colors = np.asarray(mesh.colors)
    a, b = np.asarray(head.surface.edges).T
    x, y, _ = np.asarray(head.surface.place).T
    is_face = is_plain_face(head) & (np.abs(x) < 0.7)  # without the hairline
    is_face &= np.hypot(x, y + 0.42) > 0.22  # nostrils are dark where unseen
    inside = is_face[a] & is_face[b]
    step = np.abs(colors[a] - colors[b]).max(-1)[inside]
    true_step = np.abs(truth[a] - truth[b]).max(-1)[inside]
    assert step.max() < true_step.max() + 0.02


def test_hair_fills_the_back_and_stops_at_the_ears_and_the_neck(head, turned):
    colors = np.asarray(turned[2].colors)
    parts = {name: np.asarray(part) for name, part in head.surface.parts.items()}
    # Strands vary its lightness.
    assert np.abs(np.median(colors[parts["skull"] > 0.95], 0) - HAIR).max() < 0.05
    for bare in ("ears", "neck"):
        brightness = colors[parts[bare] > 0.95, 0] / SKIN[0]
        assert np.median(brightness) == pytest.approx(1, abs=0.15)


def test_the_texture_shows_what_the_vertices_show(head, turned):
    mesh = turned[2]
    corner, uv_corner = np.asarray(mesh.triangles).ravel(), np.asarray(mesh.uv_triangles).ravel()
    read = np.asarray(sample_texture(mesh.texture, mesh.uvs[uv_corner]))
    error = np.abs(read - np.asarray(mesh.colors)[corner]).mean(-1)
    assert mesh.texture.shape == (CONFIG.size, CONFIG.size, 3)
    assert np.median(error) < 0.01
    is_skull = np.asarray(head.surface.parts["skull"])[corner] > 0.95
    assert error[is_skull].mean() < 0.01
    assert np.quantile(error, 0.9) < 0.04  # the hairline and the chart borders are a texel wide


def test_the_texture_is_sharper_than_the_vertices(head):
    """Stripes that only the photo resolves arrive in the texture."""
    photo = painted_photo(head, true_colors(head), yaw=0)[1]
    fine = 0.04 * np.sign(np.sin(np.arange(photo.shape[1]) * 1.3))[None, :, None]
    photo = np.clip(photo + fine * (magenta_share(photo) < 0)[..., None], 0, 1)
    mesh = texture.paint(head, params_at(head, 0), photo, CONFIG)
    camera = face_camera(params_at(head, 0).pose, photo.shape[1], photo.shape[0])
    config = RenderConfig(RasterizeConfig(max_pairs=200_000), background=MAGENTA)
    plain = mesh.replace(texture=None, uvs=None, uv_triangles=None)
    errors = []
    for shown in (mesh, plain):
        seen = np.asarray(render_mesh(shown, camera, config).rgb)
        errors.append(np.abs(seen - photo)[140:180, 130:170].mean())
    assert errors[0] < 0.5 * errors[1]


def test_the_photo_s_size_and_grain_do_not_matter(head, turned):
    _, photo, mesh = turned
    large = ndimage.zoom(photo, (2, 2, 1), order=1, grid_mode=True, mode="nearest")
    grain = np.where(np.add.outer(np.arange(640) // 2, np.arange(600) // 2) % 2, 0.1, -0.1)
    large = np.clip(large + grain[..., None], 0, 1)
    params = params_at(head, 20, center=(300.0, 320.0), pixels_per_metre=2000.0)
    again = texture.paint(head, params, large, CONFIG)
    difference = np.abs(np.asarray(again.colors) - np.asarray(mesh.colors))
    assert difference.mean() < 0.01


def test_a_head_cut_off_by_the_photo_is_still_painted_whole(head, turned):
    truth, photo, _ = turned
    cut = photo[:, :150]
    trust, view = judged(head, cut, 20)
    is_outside = view.xy[:, 0] > view.border[2]
    assert 0.2 < is_outside.mean() < 0.8
    assert trust[is_outside].max() == 0
    mesh = texture.paint(head, params_at(head, 20), cut, CONFIG)
    assert magenta_share(mesh.colors).max() < 0.02
    face = np.asarray(head.surface.parts["face"]) > 0.9
    assert np.abs(np.asarray(mesh.colors) - truth)[face].mean() < 0.04


def test_a_head_outside_the_photo_is_refused(head, turned):
    with pytest.raises(ValueError, match="inside the 300 x 320 photo"):
        texture.paint(head, params_at(head, 20, center=(900.0, 160.0)), turned[1], CONFIG)


def tiny_model(uvs=None, uv_triangles=None):
    """An egg without landmarks, regions, mirror table or expressions."""
    theta, phi = np.meshgrid(np.linspace(0.1, 3.04, 14), np.arange(16) * np.pi / 8, indexing="ij")
    x, y, z = np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)
    mean = np.stack([0.08 * x, 0.11 * y, 0.1 * z], -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(13), np.arange(16), indexing="ij")
    corner = [(i + a) * 16 + (j + b) % 16 for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))]
    quads = np.stack(corner, -1).reshape(-1, 4)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return MorphableModel(
        mean=jnp.asarray(mean, jnp.float32),
        triangles=jnp.asarray(triangles, jnp.int32),
        identity_basis=jnp.zeros((len(mean), 3, 1)),
        identity_sigma=jnp.ones(1),
        expression_basis=jnp.zeros((len(mean), 3, 0)),
        expression_sd=jnp.zeros(0),
        expression_bounds=jnp.zeros((0, 2)),
        landmark_vertices=jnp.full(68, -1),
        path_vertices=jnp.zeros((17, 2, 3), jnp.int32),
        path_weights=jnp.zeros((17, 2, 3)),
        uvs=uvs,
        uv_triangles=uv_triangles,
    )


def test_a_model_without_regions_mirror_or_layout_is_painted():
    egg = texture.prepare(tiny_model(), CONFIG)
    y, x = np.mgrid[:320, :300] + 0.5
    is_egg = np.hypot((x - 150) / 80, (y - 160) / 110) < 1
    photo = np.where(is_egg[..., None], SKIN, MAGENTA)
    mesh = texture.paint(egg, params_at(egg, 0), photo, CONFIG)
    assert mesh.texture is None
    assert np.abs(np.asarray(mesh.colors) - SKIN).mean() < 0.05
    assert magenta_share(mesh.colors).max() < 0.05


def test_a_guessed_skull_is_where_the_default_head_has_its_own(head):
    bare = head.model.replace(regions=None)
    guessed = np.asarray(surface.refine(bare, 5_000).parts["skull"]) > 0.5
    true = np.asarray(head.model.regions["skull"]) > 0.5
    assert (guessed & true).sum() > 0.8 * (guessed | true).sum()


def test_mirror_pairs_find_each_other_and_stay_in_their_part(head):
    mirror = np.asarray(head.surface.mirror)
    assert (mirror[mirror] == np.arange(len(mirror))).mean() > 0.999
    for part in head.surface.parts.values():
        np.testing.assert_allclose(part[mirror], part, atol=0.02)


def test_openness_is_low_in_the_mouth_and_in_the_ears(head):
    openness = np.asarray(head.surface.openness)
    parts = head.surface.parts
    open_skull = np.median(openness[np.asarray(parts["skull"]) > 0.9])
    assert open_skull > 0.95
    for hollow in ("ears", "inner_mouth"):
        assert openness[np.asarray(parts[hollow]) > 0.9].min() < 0.3 * open_skull


def test_every_pixel_of_an_atlas_repeats_the_nearest_texel_of_the_surface():
    uvs = jnp.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]])
    triangles = jnp.array([[0, 1, 2], [0, 2, 3]])
    layout = atlas.build_atlas(uvs, triangles, triangles, 32)
    picture = np.asarray(atlas.to_picture(layout, atlas.at_texels(layout, uvs)))
    v, u = 1 - (np.arange(32) + 0.5) / 32, (np.arange(32) + 0.5) / 32
    inside = np.clip(np.stack(np.meshgrid(u, v), -1), 0.25 + 0.5 / 32, 0.75 - 0.5 / 32)
    np.testing.assert_allclose(picture, inside, atol=1e-4)


def test_a_layout_without_area_is_refused():
    uvs, triangles = jnp.full((4, 2), 0.5), jnp.array([[0, 1, 2], [0, 2, 3]])
    with pytest.raises(ValueError, match="enclose an area"):
        atlas.build_atlas(uvs, triangles, triangles, 32)


def test_skin_is_found_among_a_third_of_other_things():
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(2000, 3))
    normals[:, 2] = np.abs(normals[:, 2])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    light = 0.2 * normals[:, :1] - 0.1 * normals[:, 1:2]
    true = shading.to_log(SKIN) + light
    shown = true + 0.03 * rng.normal(size=true.shape)
    is_hair = rng.random(2000) < 0.33
    shown[is_hair] = shading.to_log(HAIR)
    skin = shading.fit_skin(shown, normals, np.ones(2000))
    np.testing.assert_allclose(shading.lit_skin(skin, normals), true, atol=0.1)
    off = shading.deviations(skin, shown - shading.lit_skin(skin, normals))
    assert off[is_hair].min() > 3.5
    assert np.quantile(off[~is_hair], 0.9) < 2.5


def test_log_colours_come_back():
    rgb = np.random.default_rng(0).random((50, 3))
    np.testing.assert_allclose(shading.to_rgb(shading.to_log(rgb)), rgb, atol=1e-12)


def test_the_weighted_median_splits_the_weight():
    values = np.array([[3.0, 1.0], [1.0, 2.0], [2.0, 3.0]])
    median = shading.weighted_median(values, np.array([5.0, 1.0, 1.0]))
    np.testing.assert_array_equal(median, [3.0, 1.0])


def test_strands_run_down_and_wrap_around():
    angle = np.linspace(0, 2 * np.pi, 40_001)
    ring = np.stack([np.sin(angle), 0 * angle, -0.85 + np.cos(angle)], -1)
    pattern = hair.strands(ring)
    assert 0.5 < pattern.std() < 1.5
    assert np.abs(pattern[0] - pattern[-1]) < 1e-6
    assert np.abs(np.diff(pattern)).max() < 0.05


def test_what_hangs_over_temples_and_ears_leaves_no_patch(head):
    ground = surface.on_host(head.surface)
    count = len(ground.place)
    dark = np.full((count, 3), -3.0)
    seen = seen_with(dark, np.full(count, 0.5))._replace(unlike_skin=np.ones(count))
    share = (ground.parts["skull"] > 0.5).astype(float)
    trust = hair.without_stray_hair(ground, seen, share).trust
    x = np.abs(ground.place[:, 0])
    assert trust[(share == 0) & (x > 0.7)].max() == 0
    np.testing.assert_array_equal(trust[(share == 1) | (x < 0.55)], 0.5)


def test_hair_of_a_lilac_cast_is_not_painted_lilac(head):
    ground = surface.on_host(head.surface)
    lilac = np.tile(shading.to_log(np.array([0.2, 0.13, 0.14])), (len(ground.place), 1))
    seen = seen_with(lilac, ground.parts["skull"])._replace(unlike_skin=ground.parts["skull"])
    red, green, blue = shading.to_rgb(hair.hair_color(ground, seen)[0])
    assert red > green >= blue


def test_a_prepared_model_survives_pickling(head):
    again = pickle.loads(pickle.dumps(jax.device_get(head)))
    assert jax.tree.structure(again) == jax.tree.structure(head)
    jax.tree.map(np.testing.assert_array_equal, again, head)


def seen_with(log_rgb, trust):
    skin = shading.Skin(np.zeros((9, 3)), *np.zeros((3, 3)), np.eye(3))
    return texture.Seen(log_rgb, trust, np.zeros(len(trust)), skin)


@pytest.mark.parametrize("trusted", ["all", "none", "mirror"])
def test_the_solve_keeps_what_is_trusted_and_takes_the_rest_from_elsewhere(head, trusted):
    rng = np.random.default_rng(2)
    count = len(head.surface.place)
    photo, mirrored, plain = rng.normal(size=(3, count, 3))
    trust = np.full(count, float(trusted == "all"))
    other = fill.Mirrored(plain + 0.5 if trusted == "mirror" else mirrored, 1 - trust)
    if trusted == "none":
        other = other._replace(trust=np.zeros(count))
    log_rgb = fill.complete(
        surface.on_host(head.surface),
        seen_with(photo, trust),
        other,
        fill.Plain(plain, np.zeros(count)),
        np.zeros(count),
        fill.FillConfig(),
    )
    # A mirror image gives differences; the level is the plain head's.
    expected = photo if trusted == "all" else plain
    np.testing.assert_allclose(log_rgb, expected, atol=0.01)


def test_guide_shares_sum_to_one_and_prefer_the_photo():
    trust, other = np.meshgrid(np.linspace(0, 1, 5), np.linspace(0, 1, 5))
    shares = fill.guide_shares(trust, other)
    np.testing.assert_allclose(sum(shares), 1)
    assert shares[0][:, -1].min() == 1.0
    assert shares[2][0, 0] == 1.0
    assert fill.guide_shares(0.1, 0.8)[1] > 0.7


def test_painting_is_the_same_for_jax_and_numpy_photos(head, turned):
    again = texture.paint(head, params_at(head, 20), jnp.asarray(turned[1]), CONFIG)
    jax.tree.map(np.testing.assert_array_equal, again, turned[2])
