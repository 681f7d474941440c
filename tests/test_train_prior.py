"""The command that teaches the small prior, on clips small enough to learn in seconds."""

import dataclasses
import json
import shutil

import commands
import numpy as np
import pytest

from models.diffusion.motion_prior_io import load_prior
from scripts.priors import clips_io
from sim.families import family as family_lib
from sim.motion_video import ClipTiming

FILES = {
    *("prior.safetensors", "forces.png", "clips.png", "metrics.json", "metrics.csv"),
    *("config.json", "checkpoint.safetensors"),
}


@pytest.fixture(scope="module")
def tiny():
    """Makes the stalk small, its clips few, for as long as this file runs."""
    whole = family_lib.FAMILIES["stalk"]
    timing = ClipTiming(3, 12)
    seconds = timing.per_frame * whole.dt
    small = dataclasses.replace(
        whole, num_particles=40, frame_seconds=seconds, timing=timing, size=16
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(family_lib.FAMILIES, "stalk", small)
        patch.setattr(clips_io, "HELD_OUT", 4)
        patch.setattr(clips_io, "_PART", 4)
        patch.setattr(clips_io, "_GRID", 5)
        yield small


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior")
    done = train(folder / "out", folder / "clips")
    assert done.returncode == 0, done.stderr
    return folder, done


def train(out, clips, *more):
    return commands.run(
        "train_prior",
        *("--preset=ci", "--num_clips=6", "--scenes=2", "--steps=8", "--evaluate_every=4"),
        *(f"--clips={clips}", f"--out={out}", *more),
    )


@pytest.mark.slow
def test_it_writes_a_prior_its_scores_and_pictures_to_look_at(folder, tiny):
    out, done = folder[0] / "out", folder[1]
    assert {path.name for path in out.iterdir()} == FILES
    report = json.loads((out / "metrics.json").read_text())
    assert report["gate_passed"] is False and report["steps"] == 8
    assert 0.5 < report["error_4"] < 1.2 and len(report["scene_errors"]) == 2
    assert len(report["history"]) == 2
    assert f"relative error {report['error_4']:.3f}, not below 0.15: train on" in done.stdout
    prior = load_prior(out / "prior.safetensors")
    assert prior.config.dit.num_frames == tiny.timing.num_frames
    assert prior.config.deviation > 0


@pytest.mark.slow
def test_clips_follow_from_their_numbers_and_what_is_there_is_not_made_again(folder, tiny):
    clips = folder[0] / "clips"
    part = np.load(clips / "stalk-000004.npz")
    before = {path: path.stat().st_mtime_ns for path in clips.iterdir()}
    shutil.rmtree(clips / "gone", ignore_errors=True)
    (clips / "stalk-000004.npz").unlink()
    learnt, held_out = clips_io.make_clips(clips, tiny, 6)
    assert len(learnt.videos) == 6 and len(held_out.videos) == 4
    np.testing.assert_array_equal(learnt.videos[:4], part["videos"])
    after = {path: path.stat().st_mtime_ns for path in clips.iterdir()}
    assert {path for path in before if after[path] != before[path]} == {clips / "stalk-000004.npz"}


@pytest.mark.slow
def test_trained_again_it_gives_the_same_bytes_and_other_settings_are_refused(folder, tmp_path):
    kept, clips = folder[0] / "out", folder[0] / "clips"
    assert train(tmp_path / "twin", clips).returncode == 0
    name = "prior.safetensors"
    twin = load_prior(tmp_path / "twin" / name).params["params"]["pixels"]["kernel"]
    np.testing.assert_array_equal(
        twin, load_prior(kept / name).params["params"]["pixels"]["kernel"]
    )
    done = train(kept, clips, "--seed=3")
    assert done.returncode == 2 and "seed" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_samples_show_each_band(folder, tmp_path):
    done = commands.run(
        "train_prior",
        "--sample",
        f"--prior={folder[0] / 'out/prior.safetensors'}",
        f"--out={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    names = {f"{word}.{kind}" for word in ("soft", "rubber", "stiff") for kind in ("mp4", "png")}
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sample",), "expected --prior with --sample"),
        (("--sample", "--prior=oak"), "expected a prior's file or one of"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, message):
    done = commands.run("train_prior", *arguments, f"--out={tmp_path}")
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_broken_clips_are_named(tiny, tmp_path):
    for number in (0, 4):
        (tmp_path / f"stalk-{number:06d}.npz").write_bytes(b"PK nothing")
    done = commands.run(
        "train_prior", "--num_clips=4", f"--clips={tmp_path}", f"--out={tmp_path / 'out'}"
    )
    assert done.returncode == 2 and "found something else in" in done.stderr
