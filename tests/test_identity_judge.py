"""Scores of who is who, counted pair by pair."""

import itertools

import numpy as np
import pytest

from scripts.identities import judge, sheets
from scripts.identities.sightings_io import People

PEOPLE, VIEWS = 4, 3


@pytest.fixture
def people():
    rng = np.random.default_rng(0)
    angles = np.radians(rng.uniform(-40, 40, (PEOPLE, VIEWS, 3)))
    restyled = rng.random((PEOPLE, VIEWS)) < 0.5
    return People(np.zeros((PEOPLE, VIEWS, 8, 8, 3), np.uint8), angles, restyled, None)


@pytest.fixture
def likeness():
    values = np.random.default_rng(1).normal(size=(PEOPLE * VIEWS,) * 2).round(1)
    return values + values.T + 2 * np.kron(np.eye(PEOPLE), np.ones((VIEWS, VIEWS)))


def auc_of(same, different):
    wins = [(a > b) + 0.5 * (a == b) for a in same for b in different]
    return np.mean(wins)


def test_scores_are_those_of_all_pairs(people, likeness):
    same, different, turned, restyled = [], [], ([], []), []
    for a, b in itertools.combinations(range(PEOPLE * VIEWS), 2):
        (p, v), (q, w) = divmod(a, VIEWS), divmod(b, VIEWS)
        value = likeness[a, b]
        (same if p == q else different).append(value)
        yaws = np.degrees([people.angles[p, v, 0], people.angles[q, w, 0]])
        if abs(yaws[0] - yaws[1]) > 30:
            turned[p != q].append(value)
        if p == q and people.restyled[p, v] != people.restyled[q, w]:
            restyled.append(value)
    found = judge.verification(likeness, people)
    spread = np.sqrt((np.var(same) + np.var(different)) / 2)
    expected = {
        "auc": auc_of(same, different),
        "d_prime": (np.mean(same) - np.mean(different)) / spread,
        "auc_turned": auc_of(*turned),
        "auc_restyled": auc_of(restyled, different),
        "likeness_same": np.mean(same),
        "likeness_different": np.mean(different),
        "likeness_same_turned": np.mean(turned[0]),
    }
    assert found == pytest.approx(expected)
    assert 0.5 < found["auc"] < 1


def test_agreement_is_one_with_anything_that_grows_alike(people, likeness):
    found = judge.agreement(likeness, likeness**3, people)
    assert found["rank_correlation"] == pytest.approx(1)
    assert found["rank_correlation_of_strangers"] == pytest.approx(1)
    assert 0.5 < found["correlation"] < 1
    assert judge.agreement(likeness, -likeness, people)["correlation"] == pytest.approx(-1)


def test_likenesses_are_cosines_and_distances():
    described = np.random.default_rng(2).normal(size=(2, 2, 5))
    flat = described.reshape(4, 5)
    apart = np.linalg.norm(flat[:, None] - flat, axis=-1)
    np.testing.assert_allclose(judge.closeness(described), -apart, atol=1e-7)
    np.testing.assert_allclose(judge.cosines(described), flat @ flat.T)


def test_neighbours_are_laid_out_in_rows(people, likeness, tmp_path):
    sheets.write_neighbours(tmp_path / "n.png", people.rgb, likeness)
    assert (tmp_path / "n.png").is_file()
