"""Pictures of one person: what stays, what changes, and who dlib takes them for."""

import jax
import numpy as np
import pytest

from recon.detection.descriptor import describe_face
from recon.looks import looks_io, sightings
from recon.looks.albedo import build_albedo_model
from recon.looks.casting import build_casting
from recon.looks.latent_people import MAX_PITCH, MAX_YAW
from recon.looks.people import sample_person
from scripts.identities import sightings_io

pytestmark = pytest.mark.slow

COUNT = 64
KEPT = {
    *("identity", "look.detail", "look.contrast", "look.brow", "look.brow_color"),
    *("look.eye", "look.iris_gain", "look.beard", "look.lash", "look.teeth"),
    *("clothes.shoulders", "attributes.sex", "attributes.age", "attributes.tone"),
}
HAIRDO = {"look.hair", "look.hair_scale", "look.stubble", "look.lip_tint", "look.hair_contrast"}
NEW = {"expression", "look.gaze", "clothes.color", "clothes.neckline"}


@pytest.fixture(scope="module")
def met(default_model, looks):
    """Meets 64 people, and each again on another day."""
    casting = build_casting(default_model, looks, looks_io.load_traits())
    skins = build_albedo_model(looks, default_model, 16)

    def meet(key):
        person = sample_person(key, casting, skins)
        again, restyled = sightings.on_another_day(
            jax.random.fold_in(key, 1), person, casting, skins
        )
        return person, again, restyled, sightings.portrait_view(jax.random.fold_in(key, 2))

    keys = jax.random.split(jax.random.key(0), COUNT)
    person, again, restyled, views = jax.device_get(jax.jit(jax.vmap(meet))(keys))

    def fields(tree):
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path).lstrip("."): leaf for path, leaf in leaves}

    return fields(person), fields(again), restyled, views


def test_who_somebody_is_stays_and_the_day_changes(met):
    person, again, restyled, _ = met
    for name in KEPT:
        np.testing.assert_array_equal(person[name], again[name], name)
    for name in HAIRDO:
        np.testing.assert_array_equal(person[name][~restyled], again[name][~restyled], name)
    assert (person["look.hair"] != again["look.hair"])[restyled].mean() > 0.4
    for name in NEW:
        assert (np.abs(person[name] - again[name]).reshape(COUNT, -1).max(1) > 0).mean() > 0.9, name
    assert 0.15 < restyled.mean() < 0.45
    np.testing.assert_array_equal(again["look.hair"], again["attributes.hair_style"])
    dyed = (person["look.hair_color"] != again["look.hair_color"]).any(-1)
    assert 0.2 < dyed.mean() < 0.6
    assert dyed[restyled].any() and dyed[~restyled].any()
    tan = again["look.tone"] - person["look.tone"]
    assert 0.1 < np.std(tan[:, 1]) < 0.3
    np.testing.assert_allclose(tan[:, 2], 1.2 * tan[:, 1], atol=1e-5)


def test_views_are_those_that_the_embedding_is_for(met):
    views = met[3]
    assert (np.abs(views.angles[:, :2]) <= [MAX_YAW + 1e-6, MAX_PITCH + 1e-6]).all()
    assert np.degrees(np.ptp(views.angles[:, 0])) > 70
    assert np.std(np.log(views.extent)) < 0.06


def test_people_are_those_of_their_number_and_dlib_knows_them_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sightings_io, "_PART", 3)
    monkeypatch.setattr(sightings_io, "_CHUNK", 3)
    people = sightings_io.make_people(tmp_path, 3, 0, 160)
    assert people.rgb.shape == (3, sightings_io.VIEWS, 160, 160, 3)
    again = sightings_io.make_people(tmp_path, 2, 0, 160)
    np.testing.assert_array_equal(again.rgb, people.rgb[:2])
    inner = people.landmarks[:, :, 17:]  # a chin may touch the edge
    assert (inner > 0).all() and (inner < 160).all()
    with pytest.raises(ValueError, match="expected 3 people in 4 pictures of 64 pixels"):
        (path,) = tmp_path.glob("*.npz")
        sightings_io._read_part(path, 64)
    described = np.array(
        [
            [describe_face(rgb, xy) for rgb, xy in zip(*seen, strict=True)]
            for seen in zip(people.rgb, people.landmarks, strict=True)
        ]
    )
    apart = np.linalg.norm(described[:, :, None, None] - described, axis=-1)
    own = np.mean([apart[n, :, n].sum() / 12 for n in range(3)])
    others = np.mean([apart[n, :, m].mean() for n in range(3) for m in range(3) if n != m])
    assert own < others - 0.1
