"""The face embedding that comes along, on people that nobody has seen."""

import numpy as np
import pytest

from scripts.identities import judge, sightings_io
from scripts.shell import identity

pytestmark = pytest.mark.slow


def test_strangers_are_told_apart_and_known_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sightings_io, "_PART", 20)
    people = sightings_io.make_people(tmp_path, 20, 1, 64)
    embed = identity.load_face_id()
    found = np.asarray(embed(judge.as_floats(people.rgb.reshape(-1, 64, 64, 3))))
    scores = judge.verification(judge.cosines(found), people)
    assert scores["auc"] > 0.96 and scores["d_prime"] > 2.5, scores
    assert scores["likeness_same"] > 0.65 and abs(scores["likeness_different"]) < 0.2, scores
