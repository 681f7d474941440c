"""The command that trains the face embedding, on pictures that take no time to draw."""

import functools
import json
from unittest import mock

import commands
import jax
import numpy as np
import pytest
from small_people import write_people

from models.perception import face_id_training
from models.perception.face_id import FaceIdConfig
from models.perception.face_id_io import read_face_id
from models.perception.face_id_training import FaceIdTraining
from scripts.identities import sightings_io
from scripts.shell.training import LoopConfig

PART, HELD_OUT = 6, 6
FILES = {
    *("face_id.safetensors", "neighbours.png", "metrics.json", "metrics.csv", "config.json"),
    "checkpoint.safetensors",
}
TINY = FaceIdConfig(side=16, stem=4, widths=(6, 8), units=(1, 1), size=8)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Makes a pool of coloured noise, a colour a person, and the network small."""
    folder = tmp_path_factory.mktemp("pool")
    for first in (0, PART, 2 * PART):
        write_people(folder, 16, PART, first)
    write_people(folder, 256, PART, 0)
    command = commands.load("train_face_id")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sightings_io, "_PART", PART)
        patch.setattr(command, "HELD_OUT", HELD_OUT)
        patch.setattr(command, "FaceIdConfig", lambda: TINY)
        preset = FaceIdTraining(steps=12, people=8)
        patch.setitem(face_id_training.PRESETS, "ci", preset)
        yield folder


def train(pool, out, *more):
    return commands.run(
        "train_face_id",
        *("--preset=ci", "--num_people=12", "--evaluate_every=6", "--judged=5"),
        *(f"--pool={pool}", f"--out={out}", *more),
    )


@pytest.fixture(scope="module")
def trained(pool, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "out"
    done = train(pool, out)
    assert done.returncode == 0, done.stderr
    return out, done


@pytest.mark.slow
def test_it_writes_an_embedding_its_scores_and_neighbours_to_look_at(trained):
    out, done = trained
    assert {path.name for path in out.iterdir()} == FILES
    report = json.loads((out / "metrics.json").read_text())
    assert report["steps"] == 12 and [row["step"] for row in report["history"]] == [6, 12]
    assert {"auc", "auc_of_dlib", "correlation_with_dlib"} < set(report)
    assert f"AUC {report['auc']:.4f} of strangers" in done.stdout
    assert read_face_id(out / "face_id.safetensors").config == TINY


@pytest.mark.slow
def test_ended_anywhere_and_started_again_it_ends_with_the_same_bytes(pool, trained, tmp_path):
    command = commands.load("train_face_id")
    whole = command.draw_pairs

    def breaks_at_nine(learnt, number, *rest):
        if number == 9:
            raise OSError("the machine is gone")
        return whole(learnt, number, *rest)

    often = functools.partial(LoopConfig, checkpoint_seconds=0.0)
    with (
        mock.patch.object(command, "draw_pairs", breaks_at_nine),
        mock.patch.object(command, "LoopConfig", often),
    ):
        assert train(pool, tmp_path).returncode != 0
    done = train(pool, tmp_path)
    assert done.returncode == 0 and "going on from step" in done.stdout, done
    kept, again = (
        read_face_id(folder / "face_id.safetensors") for folder in (trained[0], tmp_path)
    )
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, kept.params, again.params)))
    refused = train(pool, tmp_path, "--num_people=11")
    assert refused.returncode == 2 and "num_people" in refused.stderr


@pytest.mark.slow
def test_a_batch_follows_from_its_number_and_has_two_pictures_of_each(pool):
    command = commands.load("train_face_id")
    rgb = sightings_io.make_people(pool, 18, 0, 16).rgb
    how = FaceIdTraining(steps=1, people=5)
    with mock.patch.object(command, "_SEED", mock.Mock(value=0)):
        batch = command.draw_pairs(rgb, 3, how)
        np.testing.assert_array_equal(batch, command.draw_pairs(rgb, 3, how))
        assert not np.array_equal(batch, command.draw_pairs(rgb, 4, how))
    assert batch.shape == (5, 2, 16, 16, 3) and batch.dtype == np.float32
    mean = batch.mean((2, 3))
    assert np.abs(mean[:, 0] - mean[:, 1]).max() < 0.03  # one person's colour
    assert np.abs(mean[:, 0] - np.roll(mean[:, 0], 1, 0)).max() > 0.1


def test_a_pool_that_is_none_is_named(tmp_path):
    (tmp_path / "people-64-seed0-000000.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match="expected pictures of people, found a broken file at"):
        sightings_io.make_people(tmp_path, 5, 0, 64)
