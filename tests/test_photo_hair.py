"""The hair of a photo: where it is, which style it is, and how it hangs on a head."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from recon.looks import hair_mesh, hair_style, photo_hair
from recon.looks.photo_hair import AUTO, NONE, HairWish, Style
from recon.painting import hair_mask
from recon.painting.hair_mask import HairMask
from render.mesh import Mesh, vertex_normals

SIDE = 320  # pixels of the cut-out
PIXELS_PER_METRE = 1100.0
SKIN, HAIR, WALL, SHIRT = (0.8, 0.6, 0.5), (0.25, 0.16, 0.1), (0.55, 0.65, 0.75), (0.1, 0.3, 0.15)


@pytest.fixture(scope="module")
def surface(default_model):
    """What painting knows of the model, of its own mesh alone."""
    mean = np.asarray(default_model.mean, float)
    eyes = mean[np.asarray(default_model.landmark_vertices)[[36, 45]]]
    distance = np.linalg.norm(eyes[0] - eyes[1])
    parts = {name: np.asarray(share, float) for name, share in default_model.regions.items()}
    features = sum(parts[name] for name in ("lips", "eyelids", "eyeballs", "inner_mouth"))
    return types.SimpleNamespace(
        parts=parts | {"features": np.clip(features, 0, 1)},
        place=(mean - eyes.mean(0)) / distance,
        eye_distance=distance,
    )


@pytest.fixture(scope="module")
def view(default_model):
    """The mean head from the front, a little turned, in a cut-out of a photo of the same scale."""
    mean = np.asarray(default_model.mean, float)
    normals = np.asarray(vertex_normals(default_model.mean, default_model.triangles), float)
    turn = np.deg2rad(15)
    right = np.array([np.cos(turn), 0, -np.sin(turn)])
    to_viewer = np.array([np.sin(turn), 0, np.cos(turn)])
    across = np.stack([mean @ right, -mean[:, 1]], 1)
    xy = SIDE / 2 + PIXELS_PER_METRE * across
    depth = 1 - mean @ to_viewer
    picture = np.full((SIDE, SIDE), np.inf)
    column, row = xy.astype(int).T
    np.minimum.at(picture, (row, column), depth)
    # Vertices lie some pixels apart: each pixel takes the nearest of those around it.
    picture = ndimage.minimum_filter(picture, 13)
    inside = np.isfinite(picture)
    picture = np.where(ndimage.binary_erosion(inside, iterations=5), picture, np.inf)
    return types.SimpleNamespace(
        vertices=mean,
        normals=normals,
        facing=normals @ np.stack([right, [0, 1, 0], to_viewer], 1),
        xy=xy,
        depth=depth,
        visible=(depth < picture[row, column] + 6e-3) * (normals @ to_viewer > 0.1),
        depth_picture=picture,
        pixels_per_metre=PIXELS_PER_METRE,
        border=np.array([0.0, 0.0, SIDE, SIDE]),
        shrinking=1.0,
    )


def empty_mask(view, surface):
    """A mask that knows nothing yet, on the picture that a photo of the cut-out's size gives."""
    photo = np.zeros((SIDE, SIDE, 3))
    eyes = float(surface.eye_distance * view.pixels_per_metre)
    picture, xy, cell = hair_mask.outline.around(photo, view, eyes)
    column, row = np.moveaxis(xy, -1, 0).astype(int)
    is_head = np.isfinite(view.depth_picture)[row, column]
    return HairMask(np.zeros(is_head.shape), np.ones(is_head.shape), picture, xy, cell, is_head)


def worn(looks, view, surface, name, scale):
    """The mask of a head that wears a style."""
    mask = empty_mask(view, surface)
    screen = photo_hair.Screen(mask, view, surface)
    cards = hair_style.style_cards(looks, looks.hair_names.index(name))
    base = hair_style.rooted_on(cards, view.vertices)
    base, offsets = hair_style.opaque_points(cards, base, 3e-3)
    cover = screen.cover(screen.place(base + scale * offsets))
    return mask._replace(share=1.0 * (cover | screen.cover_of(surface.parts["skull"] > 0.5)))


@pytest.mark.parametrize("name, scale", [("afro01", 1.0), ("short02", 0.75), ("long01", 1.0)])
def test_the_style_that_the_photo_shows_is_found(looks, view, surface, name, scale):
    mask = worn(looks, view, surface, name, scale)
    style = photo_hair.choose_style(
        looks, mask, view, surface, surface.parts["skull"], HairWish(AUTO)
    )
    assert looks.hair_names[style.number] == name
    assert style.scale == pytest.approx((scale,) * 3, abs=0.25)
    assert style.misfit < 0.1 < style.painted_misfit


def test_cropped_hair_stays_paint(looks, view, surface, monkeypatch):
    monkeypatch.setattr(photo_hair, "_MOST", np.inf)  # that paint does as well is reason enough
    mask = empty_mask(view, surface)
    screen = photo_hair.Screen(mask, view, surface)
    cropped = screen.cover_of(surface.parts["skull"] > 0.5)
    mask = mask._replace(share=1.0 * ndimage.binary_dilation(cropped))  # 2.5 mm of it
    painted = surface.parts["skull"]
    assert photo_hair.choose_style(looks, mask, view, surface, painted, HairWish()) is None
    assert photo_hair.choose_style(looks, None, view, surface, painted, HairWish()) is None
    # Nor does a style help where paint covers all that there is, on face and skull.
    painted = np.maximum(painted, surface.parts["face"])
    mask = mask._replace(share=1.0 * screen.cover_of(painted > 0.5))
    assert photo_hair.choose_style(looks, mask, view, surface, painted, HairWish()) is None


def test_a_wall_taken_for_hair_is_not_worn(looks, view, surface):
    # A door frame behind the head, as grey as its hair: afro01 would cover the most of it.
    mask = empty_mask(view, surface)
    column, row = np.moveaxis(mask.xy, -1, 0)
    wall = (np.abs(column - SIDE / 2) < 130) & (row < SIDE / 2) & ~mask.is_head
    skull = photo_hair.Screen(mask, view, surface).cover_of(surface.parts["skull"] > 0.5)
    mask = mask._replace(share=1.0 * (wall | skull))
    painted = surface.parts["skull"]
    assert photo_hair.choose_style(looks, mask, view, surface, painted, HairWish()) is None


def test_small_holes_of_a_mask_are_closed():
    cover = np.random.default_rng(0).random((30, 40)) < 0.3
    expected = ndimage.binary_closing(np.pad(cover, 1), np.ones((3, 3)))[1:-1, 1:-1]
    np.testing.assert_array_equal(photo_hair._closed(cover), expected)
    assert expected.sum() > cover.sum()


def test_hair_takes_its_hue_from_more_than_its_darkest_pixels(view, surface):
    mask = empty_mask(view, surface)
    light = np.linspace(0.5, 1.5, mask.share.size).reshape(mask.share.shape)
    dark = (light < 0.83)[..., None] * [0, 0, 0.5]  # cameras leave little blue there
    mask = mask._replace(share=np.ones_like(light))
    mask = mask._replace(picture=light[..., None] * np.array(HAIR) * (1 - dark))
    color = photo_hair.color_of(mask)
    np.testing.assert_allclose(color / color[0], np.array(HAIR) / HAIR[0], atol=0.04)
    np.testing.assert_allclose(color[0], 0.9 * HAIR[0], atol=0.02)


def test_a_wish_is_granted(looks, view, surface):
    painted = surface.parts["skull"]
    mask = worn(looks, view, surface, "short01", 0.62)
    style = photo_hair.choose_style(looks, mask, view, surface, painted, HairWish("short01"))
    assert looks.hair_names[style.number] == "short01"
    assert style.scale == pytest.approx((0.62,) * 3, abs=0.3)
    other = photo_hair.choose_style(looks, mask, view, surface, painted, HairWish("bob01"))
    assert looks.hair_names[other.number] == "bob01"
    assert photo_hair.choose_style(looks, mask, view, surface, painted, HairWish(NONE)) is None
    bald = photo_hair.choose_style(looks, None, view, surface, painted, HairWish("bob01"))
    assert bald == Style(looks.hair_names.index("bob01"), (1.0, 1.0, 1.0), 0.0, 0.0)


def photo_of(view, surface, share, clothes_from):
    """A photo in four noisy colours: hair where `share` [G, H] says, skin, wall and a shirt."""
    mask = empty_mask(view, surface)
    column, row = (np.indices((SIDE, SIDE)) / mask.cell).astype(int)[::-1]
    row, column = np.minimum(row, share.shape[0] - 1), np.minimum(column, share.shape[1] - 1)
    photo = np.broadcast_to(np.array(WALL), (SIDE, SIDE, 3)).copy()
    photo[clothes_from:] = SHIRT
    photo[np.isfinite(view.depth_picture)] = SKIN
    photo[share[row, column] > 0.5] = HAIR
    noise = np.random.default_rng(0).normal(0, 0.02, photo.shape)
    return np.clip(photo + noise, 0, 1).astype(np.float32)


def seen_of(view, surface, photo):
    """What is unlike skin, vertex by vertex."""
    column, row = np.clip(view.xy.astype(int), 0, SIDE - 1).T
    away = np.linalg.norm(photo[row, column] - SKIN, axis=1)
    return types.SimpleNamespace(unlike_skin=1.0 * (away > 0.2))


@pytest.mark.parametrize("name, scale", [("short02", 1.0), ("afro01", 0.75)])
def test_hair_is_told_from_skin_wall_and_shirt(looks, view, surface, name, scale):
    truth = worn(looks, view, surface, name, scale)
    photo = photo_of(view, surface, truth.share, clothes_from=SIDE - 30)
    mask = hair_mask.find_hair(photo, view, surface, seen_of(view, surface, photo))
    is_hair = mask.share > 0.5
    both, either = (is_hair & (truth.share > 0.5)), (is_hair | (truth.share > 0.5))
    assert both.sum() > 0.9 * either.sum()
    assert mask.weight.mean() > 0.8
    np.testing.assert_allclose(photo_hair.color_of(mask), HAIR, atol=0.03)


def test_a_bald_head_has_no_hair(view, surface):
    photo = photo_of(view, surface, empty_mask(view, surface).share, clothes_from=SIDE - 30)
    assert hair_mask.find_hair(photo, view, surface, seen_of(view, surface, photo)) is None


def test_hair_like_the_wall_is_in_doubt(looks, view, surface):
    truth = worn(looks, view, surface, "short02", 1.0)
    photo = photo_of(view, surface, truth.share, clothes_from=SIDE - 30)
    is_wall = np.linalg.norm(photo - WALL, axis=-1) < 0.15
    photo = np.where(is_wall[..., None], photo - 0.9 * (np.array(WALL) - HAIR), photo)
    mask = hair_mask.find_hair(photo, view, surface, seen_of(view, surface, photo))
    beside = (truth.share > 0.5) & ~truth.is_head
    assert mask.weight[beside].mean() < 0.7


@pytest.fixture(scope="module")
def head(default_model):
    count = len(default_model.mean)
    return Mesh(
        vertices=default_model.mean,
        triangles=default_model.triangles,
        colors=jnp.full((count, 3), 0.5),
        uvs=default_model.uvs,
        uv_triangles=default_model.uv_triangles,
        texture=jnp.full((64, 64, 3), 0.5),
    )


@pytest.mark.parametrize("side, beside", [(64, 64), (640, 512)])
def test_cards_come_after_the_head_in_one_texture(side, beside, head, looks, view, surface):
    style = Style(looks.hair_names.index("short02"), (0.75, 0.5, 0.75), 0.0, 0.0)
    head = head.replace(texture=jnp.full((side, side, 3), 0.5))
    mesh = hair_mesh.dress(head, looks, style, np.array(HAIR), None, view, surface)
    count = len(head.vertices)
    assert mesh.num_opaque == len(head.triangles)
    np.testing.assert_array_equal(mesh.triangles[: mesh.num_opaque], head.triangles)
    assert mesh.triangles[mesh.num_opaque :].min() == count
    assert mesh.texture.shape == (side, side + beside, 4)
    np.testing.assert_array_equal(mesh.texture[:, :side, :3], 0.5)
    assert (mesh.texture[:, :side, 3] == 1).all() and mesh.texture[..., 3].min() == 0
    # Each part of the texture is looked up by its own triangles.
    middle = side / (side + beside)
    assert mesh.uvs[mesh.uv_triangles[: mesh.num_opaque]][..., 0].max() <= middle
    hair_uvs = mesh.uvs[mesh.uv_triangles[mesh.num_opaque :]]
    assert hair_uvs[..., 0].min() >= middle and hair_uvs[..., 0].max() <= 1
    assert hair_uvs[..., 1].min() >= 1 - beside / side and hair_uvs[..., 1].max() <= 1
    cards = hair_style.style_cards(looks, style.number)
    base = np.einsum("nk,nkd->nd", cards.weights, np.asarray(head.vertices)[cards.anchors])
    np.testing.assert_allclose(mesh.vertices[count:], base + cards.offsets * style.scale, atol=1e-6)


def test_hair_has_the_colour_that_it_is_given_and_the_photos_tint(head, looks, view, surface):
    style = Style(looks.hair_names.index("short02"), (1.0, 1.0, 1.0), 0.0, 0.0)
    plain = hair_mesh.dress(head, looks, style, np.array(HAIR), None, view, surface)
    own = plain.colors[len(head.vertices) :]
    np.testing.assert_allclose(np.median(own, 0), HAIR, atol=0.06)
    # A photo lit from the left: the tint follows where the hair is seen, not at the back.
    mask = worn(looks, view, surface, "short02", 1.0)
    x = np.linspace(0, 1, mask.share.shape[1])[:, None]
    mask = mask._replace(picture=np.array(HAIR) * (0.6 + x) * np.ones((*mask.share.shape, 1)))
    tinted = hair_mesh.dress(head, looks, style, np.array(HAIR), mask, view, surface)
    gain = (tinted.colors[len(head.vertices) :] / np.maximum(own, 0.02)).mean(1)
    places = tinted.vertices[len(head.vertices) :]
    front = places @ [np.sin(np.deg2rad(15)), 0, np.cos(np.deg2rad(15))] > 0.03
    right, left = front & (places[:, 0] < -0.04), front & (places[:, 0] > 0.04)
    assert gain[left].mean() > 1.15 * gain[right].mean()
    back = places[:, 2] < -0.09
    np.testing.assert_allclose(np.median(gain[back]), 1, atol=0.05)
