"""The looks as they ship: their file, the cards on a head, the light that was baked."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon import assets
from recon.looks import looks_io
from recon.looks.cards import BROW, HAIR, LASH, build_wardrobe, card_vertices, wear
from recon.looks.look import BALD
from recon.morphable import face_shape
from render import harmonics
from render.mesh import vertex_normals

FILE = pathlib.Path(assets.__file__).parent / "data" / "looks.npz"
SKY = np.array([1 / harmonics.CONSTANT, *[0.0] * 8])  # a constant radiance of one


@pytest.fixture(scope="module")
def wardrobe(looks):
    return build_wardrobe(looks)


def cards_of(wardrobe, hair=0, brow=0, lash=0):
    return wear(wardrobe, jnp.int32(hair), jnp.int32(brow), jnp.int32(lash))


def face(default_model, seed):
    keys = jax.random.split(jax.random.key(seed))
    return (
        jax.random.normal(keys[0], default_model.identity_sigma.shape),
        0.3 * jax.random.uniform(keys[1], default_model.expression_sd.shape),
    )


def test_file_is_small_and_whole(looks, default_model):
    assert FILE.stat().st_size <= 6e6
    assert looks.skins.shape == (20, 345, 183, 3)
    names = looks.hair_names, looks.brow_names, looks.lash_names, looks.eye_names
    assert tuple(map(len, names)) == (10, 12, 4, 8)
    num_cards = sum(map(len, names[:3]))
    assert len(looks.card_vertex_start) == len(looks.card_triangle_start) == num_cards + 1
    assert looks.head_transfer.shape == (11, len(default_model.mean), 9)
    assert looks.card_anchors.max() < len(default_model.mean)
    np.testing.assert_allclose(looks.card_weights.sum(-1), 1, atol=1e-6)
    assert looks.card_weights.min() > -1e-3  # 16 bits


def test_a_file_written_again_is_the_same(looks, tmp_path):
    looks_io.save_looks(tmp_path / "again.npz", looks)
    assert (tmp_path / "again.npz").read_bytes() == FILE.read_bytes()


def test_another_file_is_refused_in_one_line(tmp_path):
    np.savez(tmp_path / "other.npz", skins=np.zeros(3))
    with pytest.raises(ValueError, match=r"expected looks .*, found no '.*' in .*other\.npz"):
        looks_io.load_looks(tmp_path / "other.npz")


def test_cards_are_linear_in_identity_and_expression(wardrobe, default_model):
    cards = cards_of(wardrobe, hair=4)

    @jax.jit
    def moved(identity, expression):
        shape = face_shape(default_model, identity, expression)
        return card_vertices(cards, shape, jnp.float32(0.7)) - card_vertices(
            cards, default_model.mean, jnp.float32(0.7)
        )

    (a, x), (b, y) = face(default_model, 1), face(default_model, 2)
    np.testing.assert_allclose(
        moved(2 * a - b, 2 * x - y), 2 * moved(a, x) - moved(b, y), atol=1e-6
    )


def test_scale_shrinks_hair_towards_the_skin_and_leaves_brows(wardrobe, default_model):
    cards = cards_of(wardrobe)
    none, half, full = (
        card_vertices(cards, default_model.mean, jnp.float32(s)) for s in (0, 0.5, 1)
    )
    np.testing.assert_allclose(half, (none + full) / 2, atol=1e-7)
    is_hair = np.asarray(cards.kind) == HAIR
    np.testing.assert_array_equal(full[~is_hair], none[~is_hair])
    assert np.linalg.norm(full - none, axis=1)[is_hair].max() > 0.03


def test_no_expression_moves_hair_and_brows_follow_theirs(wardrobe, default_model):
    cards = cards_of(wardrobe, hair=4)
    names = default_model.expression_names
    for name, moves in (("jawOpen", (HAIR, 0.0, 1e-3)), ("browOuterUpLeft", (BROW, 3e-3, 0.03))):
        kind, least, most = moves
        units = default_model.expression_basis[..., names.index(name)]
        shift = card_vertices(cards, default_model.mean + units, jnp.float32(1))
        shift = np.linalg.norm(
            shift - card_vertices(cards, default_model.mean, jnp.float32(1)), axis=1
        )
        assert least <= shift[np.asarray(cards.kind) == kind].max() <= most


def test_every_style_is_worn_whole(wardrobe, looks, default_model):
    places = np.einsum(
        "nk,nkd->nd", looks.card_weights, np.asarray(default_model.mean)[looks.card_anchors]
    )
    places = places + np.asarray(looks.card_offsets)
    for hair, brow, lash in ((0, 3, 0), (9, 0, 3)):
        cards = cards_of(wardrobe, hair, brow, lash)
        worn = np.asarray(card_vertices(cards, default_model.mean, jnp.float32(1)))
        for kind, number in ((HAIR, hair), (BROW, 10 + brow), (LASH, 22 + lash)):
            own = places[slice(*looks.card_vertex_start[number : number + 2])]
            of_kind = worn[np.asarray(cards.kind) == kind]
            np.testing.assert_allclose(of_kind[: len(own)], own, atol=1e-6)
            assert not of_kind[len(own) :].any()
            start, end = looks.card_triangle_start[number : number + 2]
            first = np.flatnonzero(np.asarray(cards.kind) == kind)[0]
            at = {HAIR: -wardrobe.hair.triangles.shape[1], BROW: 0}.get(
                kind, wardrobe.brows.triangles.shape[1]
            )
            mine = np.asarray(cards.triangles)[at:][: end - start]
            np.testing.assert_array_equal(mine - first, looks.card_triangles[start:end])


def test_bald_heads_wear_no_triangle_with_an_area(wardrobe):
    cards = cards_of(wardrobe, hair=BALD)
    hair = np.asarray(cards.triangles)[-wardrobe.hair.triangles.shape[1] :]
    assert (hair == hair[:, :1]).all()


def test_brows_lie_on_the_skin_above_the_eyes(wardrobe, default_model):
    eyes = np.asarray(default_model.mean)[np.asarray(default_model.landmark_vertices)[36:48]]
    for brow in range(len(wardrobe.brows.anchors)):
        cards = cards_of(wardrobe, brow=brow)
        is_brow = np.asarray(cards.kind) == BROW
        assert np.linalg.norm(cards.offsets[is_brow], axis=1).max() < 4e-3
        places = np.asarray(card_vertices(cards, default_model.mean, jnp.float32(1)))[is_brow]
        assert places[:, 1].min() > eyes[:, 1].mean()


def test_light_on_an_open_skull_is_the_clamped_cosine(looks, default_model):
    # Ramamoorthi and Hanrahan 2001: irradiance / pi = sum of (1, 2/3, 1/4) by band.
    normals = vertex_normals(default_model.mean, default_model.triangles)
    expected = harmonics.basis(normals, 2) * np.repeat([1, 2 / 3, 1 / 4], [1, 3, 5])
    crown = np.asarray(default_model.mean)[:, 1] > 0.09
    assert crown.sum() > 50
    np.testing.assert_allclose(looks.head_transfer[0][crown], expected[crown], atol=0.03)


def test_hair_and_hollows_are_in_the_shade(looks, default_model):
    light = np.asarray(looks.head_transfer) @ SKY
    assert light[0].max() < 1.1
    sockets = np.asarray(default_model.regions["sockets"]) > 0.5
    assert light[0][sockets].mean() < 0.5 * light[0].mean()
    skull = np.asarray(default_model.regions["skull"]) > 0.9
    assert (light[1:, skull].mean(1) < 0.8 * light[0, skull].mean()).all()
