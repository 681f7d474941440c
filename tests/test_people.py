"""Random people: the light on them, what hangs under their heads, and who they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.default_head.head_samples import TRAITS
from recon.looks import bust, casting, light_transport, looks_io, people, studio, words
from recon.looks.picture import PictureConfig, person_camera, render_person
from recon.morphable import face_shape
from render import harmonics
from render.camera import project
from render.transforms import euler_rotation

_SIZE = 32


@pytest.fixture(scope="module")
def cast(default_model, looks):
    return casting.build_casting(default_model, looks, looks_io.load_traits())


def directions(count=200):
    values = np.random.default_rng(0).normal(size=(count, 3))
    return jnp.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), jnp.float32)


def test_an_even_sky_lights_every_side_alike():
    grey = jnp.array([0.2, 0.5, 1.0])
    light = light_transport.sky_light(grey, grey, directions(1)[0])
    lit = light_transport.open_irradiance(directions(), light)
    np.testing.assert_allclose(lit, np.broadcast_to(grey, lit.shape), rtol=1e-5)


def test_a_sky_is_seen_as_it_is_painted():
    above, below = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, 0.5, 0.5])
    up = directions(1)[0]
    light = light_transport.sky_light(above, below, up)
    ways = jnp.stack([up, -up])
    seen = harmonics.evaluate(jnp.broadcast_to(light, (2, 9, 3)), ways)
    np.testing.assert_allclose(seen, [above, below], rtol=1e-5)


def test_a_light_is_as_strong_as_it_says_where_it_falls_straight():
    way, color = directions(1)[0], jnp.array([0.3, 1.0, 2.0])
    light = light_transport.directional_light(way, color)
    lit = light_transport.open_irradiance(jnp.stack([way, -way]), light)
    np.testing.assert_allclose(lit[0], color, rtol=1e-5)
    # Nine harmonics leave a sixteenth of it on the far side: (1 - 2 + 5/4) / (1 + 2 + 5/4).
    np.testing.assert_allclose(lit[1], color / 17, rtol=1e-4)


def test_scattering_keeps_the_light_and_blurs_red_the_most():
    light = light_transport.directional_light(directions(1)[0], jnp.ones(3))
    lit = light_transport.open_irradiance(directions(20_000), light_transport.scattered(light))
    before = light_transport.open_irradiance(directions(20_000), light)
    np.testing.assert_allclose(lit.mean(0), before.mean(0), rtol=0.02)
    red, green, blue = lit.std(0)
    assert red < green < blue < before.std(0)[2]


@pytest.mark.compiles
def test_the_bust_hangs_on_the_neck_and_is_seen_from_outside(default_model):
    one = bust.build_bust(default_model)
    identity = np.random.default_rng(0).normal(size=60)
    head = face_shape(default_model, jnp.asarray(identity, jnp.float32), jnp.zeros(0))
    turned = euler_rotation(*jnp.array([0.5, 0.1, -0.1]))
    places = bust.bust_vertices(one, head, turned, jnp.array(1.1))
    num_places = np.flatnonzero(np.diff(np.asarray(one.uvs)[:, 0]) < 0)[0] + 1
    np.testing.assert_allclose(
        places[:num_places], head[one.edge[:num_places]], atol=1e-6
    )  # whichever way the body faces
    first, last = places[0::num_places], places[num_places - 1 :: num_places]
    np.testing.assert_allclose(first, last, atol=1e-6)
    a, b, c = (places[one.triangles[:, k]] for k in range(3))
    faces = jnp.cross(b - a, c - a)
    axis = jnp.array([0.0, 0.0, -0.03])
    outward = ((a + b + c) / 3 - axis) * jnp.array([1.0, 0.0, 1.0])
    share = jnp.mean(jnp.sum(faces * outward, -1) > 0)
    assert share > 0.97
    assert jnp.mean(jnp.sum(one.normals[one.triangles[:, 0]] * faces, -1) > 0) > 0.97


def test_shoulders_turn_with_the_body(default_model):
    one = bust.build_bust(default_model)
    turned = euler_rotation(*jnp.array([0.5, 0.0, 0.0]))
    ahead, aside = (
        bust.bust_vertices(one, default_model.mean, body, jnp.ones(()))
        for body in (jnp.eye(3), turned)
    )
    last = np.asarray(one.turn) == 1
    expected = (ahead - bust._PIVOT) @ turned.T + bust._PIVOT
    np.testing.assert_allclose(aside[last], expected[last], atol=1e-6)


def test_traits_and_what_they_leave_make_up_the_prior(cast):
    """Together they vary by one in every mode, but for the traits' own slight correlation."""
    variance = np.sum(cast.trait_directions**2, 0) + np.sum(cast.rest**2, 1)
    assert abs(variance.mean() - 1) < 0.03
    assert np.all(abs(variance - 1) < 0.25)


def test_men_have_larger_jaws_than_women(default_model, cast):
    """The direction of a trait is what its name says."""
    male = TRAITS.index("male")
    chin, nose = (int(default_model.landmark_vertices[i]) for i in (8, 33))
    lengths = []
    for value in (0.0, 1.0):
        traits = cast.trait_mean.at[male].set(value)
        head = face_shape(default_model, cast.identity(traits, jnp.zeros(60)), jnp.zeros(0))
        lengths.append(head[nose, 1] - head[chin, 1])
    assert lengths[1] > 1.01 * lengths[0]


@pytest.mark.compiles
@pytest.mark.slow
def test_a_person_comes_from_the_key_alone(default_model, looks, cast):
    small = studio.build_albedo_model(looks, default_model, 16)
    keys = jax.random.split(jax.random.key(0), 64)
    many = jax.vmap(people.sample_person, (0, None, None))(keys, cast, small)
    one = people.sample_person(keys[5], cast, small)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[5], b, rtol=1e-4, atol=1e-5), many, one)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(many))
    for name in ("sex", "age_group", "tone", "hair_color", "expression"):
        assert len(np.unique(getattr(many.attributes, name))) > 1
    is_woman = np.asarray(many.attributes.sex) == people.SEXES.index("female")
    assert not np.asarray(many.attributes.beard)[is_woman].any()
    first = jax.tree.map(lambda leaf: leaf[0], many)
    said = words.attributes_in_words(first, looks, cast)
    assert said["tone"] in people.TONES and said["hair_color"] in people.HAIR_COLORS


@pytest.mark.slow
def test_a_picture_shows_who_was_asked_for(default_model, looks):
    room = studio.build_studio(default_model, looks, looks_io.load_traits(), 64)
    key = jax.random.key(3)
    person = people.sample_person(key, room.casting, room.albedo_model)
    view = people.sample_view(key)
    view = view.replace(angles=jnp.zeros(3), body_angles=jnp.zeros(3), extent=jnp.array(0.35))
    config = PictureConfig(_SIZE, _SIZE, 1, 3)

    def drawn(**look):
        other = person.replace(look=person.look.replace(**look))
        picture = render_person(room, other, view, config)
        assert not picture.overflow and np.isfinite(picture.rgb).all()
        return picture

    bald, haired = drawn(hair=jnp.int32(-1), stubble=jnp.float32(0.0)), drawn(hair=jnp.int32(0))
    labels = studio.LABELS
    assert not (bald.label == labels.index("hair")).any()
    assert (haired.label == labels.index("hair")).sum() > 30
    np.testing.assert_array_equal(bald.label[bald.alpha == 0], labels.index("background"))
    # The picture's middle is the face, its landmarks lie where the camera puts the head's.
    assert bald.label[_SIZE // 2, _SIZE // 2] == labels.index("skin")
    head = face_shape(default_model, person.identity, person.expression)
    expected = project(person_camera(view, config), head[default_model.landmark_vertices])[0]
    np.testing.assert_allclose(bald.landmarks, expected, atol=1e-3)
    eyes = bald.landmarks[36:48].mean(0)
    assert bald.label[int(eyes[1]) - 4, int(eyes[0])] == labels.index("skin")  # forehead
    # Bare skin nowhere goes black, neither the scalp under hair.
    skin = np.isin(bald.label, [labels.index("skin"), labels.index("neck")])
    light = np.asarray(bald.rgb).mean(-1)[skin]
    assert light.min() > 0.2 * np.median(light)
    dark = drawn(tone=person.look.tone - 1.5)
    assert dark.rgb[skin].mean() < bald.rgb[skin].mean()
