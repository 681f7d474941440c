"""The map from latents to people: each block moves what it names, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.looks import latent_people, looks_io
from recon.looks.albedo import AlbedoModel
from recon.looks.casting import build_casting
from recon.looks.latent_cast import HAIR_STYLES, build_latent_cast
from recon.looks.latent_people import BLOCKS, LATENT_SIZE, MAX_PITCH, MAX_YAW, pose_of_latent
from recon.looks.look import BALD

COUNT = 64  # of every batch: one compilation
SKIN = {"look.tone", "look.detail", "attributes.tone"}
HAIR_COLOR = {"look.hair_color", "look.brow_color", "attributes.hair_color"}
EYES = {"look.iris_gain", "attributes.eye_color"}
STYLE = {"look.hair", "look.stubble", "attributes.hair_style"}
BROW = {"look.brow", "attributes.brow"}
LIPS = {"look.lip_tint", "attributes.painted_lips"}
BEARD = {"look.beard", "attributes.beard"}
FACE = {"expression", "attributes.smile", "attributes.mouth_open", "attributes.expression"}
LIGHT = {"light_directions", "light_colors", "sky"}
MOVES = {
    "yaw": {"angles", "body_angles"},
    "pitch": {"angles", "body_angles"},
    "sex": {"identity", "clothes.shoulders", "attributes.sex", "look.detail"}
    | STYLE
    | BROW
    | LIPS
    | BEARD,
    "age": {"identity", "attributes.age", "attributes.age_group", "look.detail"} | HAIR_COLOR,
    "origin": {"identity"} | SKIN | HAIR_COLOR | EYES,
    "build": {"identity"},
    "identity": {"identity"},
    "smile": FACE,
    "mouth_open": FACE,
    "brows_raised": FACE,
    "eyes_wide": FACE,
    "pucker": FACE,
    "tone": SKIN | HAIR_COLOR | EYES,
    "redness": {"look.tone", "attributes.tone"},
    "skin": {"look.detail"},
    "hair_length": STYLE,
    "hair_volume": {"look.hair_scale"},
    "hair_light": HAIR_COLOR,
    "hair_red": HAIR_COLOR,
    "brow_thickness": BROW,
    "brow_light": {"look.brow_color"},
    "lip_paint": LIPS,
    "lip_dark": {"look.lip_tint"},
    "eye_color": EYES,
    "beard": BEARD,
    "cloth": {"clothes.color", "clothes.trim"},
    "neckline": {"clothes.neckline", "clothes.dip"},
    "light_azimuth": LIGHT,
    "light_elevation": LIGHT,
    "light_contrast": LIGHT,
    "light_warmth": LIGHT,
    "background": {"background"},
    "background_slope": {"background"},
}


@pytest.fixture(scope="module")
def people(default_model, looks):
    """Makes the fields of the people that 64 latents mean, by name."""
    casting = build_casting(default_model, looks, looks_io.load_traits())
    rng = np.random.default_rng(0)
    tones = np.linspace(-1.0, -3.0, len(looks.skin_names))[:, None] * np.array([1.0, 1.1, 1.2])
    skins = AlbedoModel(*[None] * 2, tones, rng.normal(size=(len(tones), 16)), *[None] * 3)
    cast = build_latent_cast(casting, skins, looks)
    read = jax.jit(jax.vmap(lambda z: latent_people.person_of_latent(z, cast, casting)))

    def fields(z):
        person, view = jax.device_get(read(jnp.asarray(z, jnp.float32)))
        leaves = jax.tree_util.tree_leaves_with_path((person, view))
        return {jax.tree_util.keystr(path[1:]).lstrip("."): leaf for path, leaf in leaves}

    return fields


@pytest.fixture(scope="module")
def latents():
    return np.random.default_rng(3).normal(size=(COUNT, LATENT_SIZE))


def test_blocks_share_out_the_latent():
    taken = np.concatenate([np.arange(LATENT_SIZE)[block] for block in BLOCKS.values()])
    np.testing.assert_array_equal(taken, np.arange(64))
    assert set(MOVES) == set(BLOCKS)


def test_each_block_moves_what_it_names_and_nothing_else(people, latents):
    before = people(latents)
    for name, block in BLOCKS.items():
        turned = latents.copy()
        turned[:, block] *= -1  # keeps the length, which all numbers share
        after = people(turned)
        moved = {field for field in before if not np.array_equal(before[field], after[field])}
        assert moved and moved <= MOVES[name], name


def test_the_pose_is_what_the_latent_says(people, latents):
    seen = people(3.0 * latents)  # of any length
    pose = np.asarray(pose_of_latent(jnp.asarray(latents, jnp.float32)))
    np.testing.assert_allclose(seen["angles"][:, :2], pose, atol=1e-6)
    assert not seen["angles"][:, 2].any()
    assert (np.abs(pose) < [MAX_YAW, MAX_PITCH]).all()
    assert np.degrees(pose[:, 0].std()) == pytest.approx(19, abs=3)


def test_numbers_grow_what_they_name(people, latents):
    def both_ends(name):
        for value in (-1.5, 1.5):
            z = latents.copy()
            z[:, BLOCKS[name]] = value
            yield people(z)

    low, high = both_ends("smile")
    assert (high["attributes.smile"] > low["attributes.smile"] + 0.3).all()
    low, high = both_ends("mouth_open")
    assert (low["attributes.mouth_open"] == 0).all() and (high["attributes.mouth_open"] > 0.2).all()
    low, high = both_ends("tone")
    assert (high["look.tone"].mean(1) < low["look.tone"].mean(1)).all()
    low, high = both_ends("light_azimuth")
    left, right = (ends["light_directions"][:, 0, 0] for ends in (low, high))
    assert (left < 0).all() and (right > 0).all()
    low, high = both_ends("beard")
    is_male = high["attributes.sex"] == 1
    assert (high["attributes.beard"][is_male] >= low["attributes.beard"][is_male]).all()
    assert high["attributes.beard"][is_male].max() > 0.3
    assert high["attributes.beard"][~is_male].max() < 0.1
    low, high = both_ends("hair_length")
    assert (low["look.hair"] == BALD).any() and not (high["look.hair"] == BALD).any()


def test_colours_and_lights_change_the_way_they_are_called(people, latents):
    def both_ends(name, value=1.5):
        z = np.repeat(latents[None], 2, 0)
        z[:, :, BLOCKS[name]] = np.array([-value, value])[:, None, None]
        return people(z[0]), people(z[1])

    def share(color, channel):
        return color[..., channel] / color.sum(-1)

    low, high = both_ends("sex")
    assert (low["attributes.sex"] == 0).all() and (high["attributes.sex"] == 1).all()
    low, high = both_ends("hair_red")
    redder = share(high["look.hair_color"], 0) - share(low["look.hair_color"], 0)
    assert (redder > -1e-6).all() and redder.max() > 0.05
    low, high = both_ends("lip_paint")
    assert not low["attributes.painted_lips"].any() and high["attributes.painted_lips"].any()
    low, high = both_ends("eye_color")
    bluer = share(high["look.iris_gain"], 2) - share(low["look.iris_gain"], 2)
    assert (bluer > 0).mean() > 0.9
    low, high = both_ends("light_contrast")
    assert (high["light_colors"][:, 0] > low["light_colors"][:, 0]).all()
    assert (high["sky"] < low["sky"]).all()
    low, high = both_ends("light_warmth")
    warmer = share(high["light_colors"][:, 0], 0) - share(low["light_colors"][:, 0], 0)
    assert (warmer > 0).all()
    low, high = both_ends("light_elevation")
    assert (high["light_directions"][:, 0, 1] > low["light_directions"][:, 0, 1]).all()
    for number, axis in ((0, 2), (1, 1)):  # brighter to the right, downwards
        sloping = latents.copy()
        sloping[:, BLOCKS["background_slope"]] = 2.0 * np.eye(2)[number]
        assert (np.diff(people(sloping)["background"], axis=axis) > 0).all()


def test_only_styles_step(people, latents):
    """Between neighbours on a line from latent to latent nothing else jumps."""
    steps = []
    for share in np.linspace(0.4, 0.6, 9):
        steps.append(people((1 - share) * latents + share * np.roll(latents, 1, 0)))
    for field, values in steps[0].items():
        if values.dtype.kind in "ib" or field == "look.stubble":
            continue
        path = np.stack([step[field] for step in steps]).reshape(len(steps), COUNT, -1)
        jumps = np.abs(np.diff(path, axis=0)).max((0, 2))
        assert jumps.max() <= 0.25 * max(np.ptp(path), 1e-6), field


def test_every_style_is_worn(people):
    z = np.random.default_rng(5).normal(size=(8, COUNT, LATENT_SIZE))
    worn = np.concatenate([people(part)["attributes.hair_style"] for part in z])
    shares = np.unique(worn, return_counts=True)[1] / len(worn)
    assert len(shares) == len(HAIR_STYLES) and shares.min() > 0.03
