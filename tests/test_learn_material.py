"""The command that finds a stiffness: its files, its doubts, bad input."""

import contextlib
import json
import os
import signal
from unittest import mock

import commands
import jax
import numpy as np
import pipeline_folders
import pytest
import safetensors.numpy

from models.diffusion.motion_prior import MotionPrior, PriorConfig
from models.diffusion.motion_prior_io import write_prior
from models.diffusion.motion_training import PriorTraining, init_prior
from render import shapes, splat_io
from scripts.materials import answer, search
from sim.families.family import FAMILIES
from sim.identify import Curve, Scan

STALK = FAMILIES["stalk"]
FILES = {"material.json", "force.png", "clips.png", "before.mp4", "after.mp4", "config.json"}


@pytest.fixture(scope="module")
def untaught(tmp_path_factory):
    """The file of a prior that was never taught."""
    config = PriorConfig("stalk", 0.3, STALK.log10_range)
    params = init_prior(jax.random.key(0), config, PriorTraining(steps=1)).params
    path = tmp_path_factory.mktemp("prior") / "untaught.safetensors"
    write_prior(path, MotionPrior(params, config), {})
    return path


SCENE = {
    **{"units": "SI", "scale": 0.5, "grid_lim": 1.4, "n_grid": 14, "material": "neo_hookean"},
    **{"E": 1e5, "nu": 0.3, "density": 1000, "g": [0, 0, 0], "frame_dt": 0.02, "seconds": 0.1},
    **{"velocity": [0.4, 0, 0], "angular_velocity": [0, 1.6, 0]},
    "boundary_conditions": [
        {"type": "pin", "point": [0.7, 0.7, 0.45], "size": [0.4, 0.4, 0.11]},
    ],
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Flags that name a small cube and its scene."""
    folder = tmp_path_factory.mktemp("inputs")
    scene = folder / "scene.json"
    scene.write_text(json.dumps(SCENE))
    cube = jax.tree.map(lambda leaf: leaf[::60], shapes.shape("cube"))
    splat_io.write_splats(folder / "cube.ply", cube)
    return (
        f"--splats={folder / 'cube.ply'}",
        f"--scene={scene}",
        *("--max_particles=200", "--film_frames=2", "--size=32"),
    )


def report_of(out):
    return json.loads((out / "material.json").read_text())


@pytest.mark.slow
def test_it_writes_what_it_found_and_says_that_an_untaught_prior_knows_nothing(
    untaught, inputs, tmp_path
):
    done = commands.run(
        "learn_material",
        *inputs,
        *(f"--prior={untaught}", "--prompt=soft", "--values=5", "--noises=4"),
        f"--out={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == FILES
    found = report_of(tmp_path)
    low, high = found["interval_pa"]
    assert low <= found["youngs_modulus_pa"] <= high
    assert found["prior_error_on_scene"] > 0.5
    assert "does not know this motion" in done.stderr
    assert f"{found['youngs_modulus_pa']:.3g} Pa" in done.stdout


@pytest.mark.slow
def test_regions_are_learnt_by_descent_from_two_starts_and_gone_on_with(untaught, inputs, tmp_path):
    how = (
        *(f"--prior={untaught}", "--regions=2", "--learn=youngs_modulus,density"),
        *("--start=0.5,2", "--iterations=3", "--noises=1"),
    )
    done = commands.run("learn_material", *inputs, *how, f"--out={tmp_path / 'whole'}")
    assert done.returncode == 0, done.stderr
    found = report_of(tmp_path / "whole")
    assert [len(found["values"][name]) for name in ("youngs_modulus", "density")] == [2, 2]
    assert len(found["by_start"]) == 2 and sum(found["particles_by_region"]) > 50
    assert (tmp_path / "whole" / "starts.mp4").stat().st_size > 1000
    # Stopped after a step, and called again.
    part = tmp_path / "part"
    with stopped_after_a_step():
        done = commands.run("learn_material", *inputs, *how, f"--out={part}")
        assert done.returncode == 143
    done = commands.run("learn_material", *inputs, *how, f"--out={part}")
    assert done.returncode == 0 and "going on from step" in done.stdout + done.stderr
    assert report_of(part)["by_start"] == found["by_start"]
    for name in ("descent_0.5", "descent_2"):
        states = [
            safetensors.numpy.load_file(folder / name / "checkpoint.safetensors")
            for folder in (tmp_path / "whole", part)
        ]
        jax.tree.map(np.testing.assert_array_equal, *states)


@contextlib.contextmanager
def stopped_after_a_step():
    """Has SIGTERM come when the first step has been taken."""
    take = search.material_step

    def step(*arguments):
        taken = take(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)
        return taken

    with mock.patch.object(search, "material_step", step):
        yield


@pytest.mark.slow
def test_a_smooth_field_is_learnt(untaught, inputs, tmp_path):
    done = commands.run(
        "learn_material",
        *inputs,
        *(f"--prior={untaught}", "--regions=field", "--iterations=2", "--noises=1"),
        f"--out={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    assert report_of(tmp_path)["values"]["youngs_modulus"][0] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["modelscope", "svd"])
def test_a_public_networks_folder_takes_a_step(kind, inputs, tmp_path):
    """By text, and by the first frame; the folders are laid out as diffusers lays them out."""
    write = {"modelscope": pipeline_folders.write_modelscope, "svd": pipeline_folders.write_svd}
    folder = write[kind](tmp_path / kind)
    out = tmp_path / "out"
    told = ["--prompt=a soft ball"] if kind == "modelscope" else []
    done = commands.run(
        "learn_material",
        *inputs,
        *(f"--prior={kind}:{folder}", *told, "--search=descent"),
        *("--iterations=1", "--resolution=16", "--frames=3", "--noises=1", f"--out={out}"),
    )
    assert done.returncode == 0, done.stderr
    before = 1e5
    found = report_of(out)["youngs_modulus_pa"]
    assert abs(np.log10(found / before)) == pytest.approx(0.12, abs=1e-3)  # a whole first step


@pytest.mark.slow
def test_a_trajectory_is_matched(inputs, tmp_path):
    done = commands.run(
        "simulate", *inputs[:3], "--frames=5", "--size=32", f"--out={tmp_path / 'seen'}"
    )
    assert done.returncode == 0, done.stderr
    done = commands.run(
        "learn_material",
        *inputs,
        *(f"--prior=reference:{tmp_path / 'seen' / 'trajectory.npz'}", "--start=0.1,10"),
        f"--out={tmp_path / 'out'}",
    )
    assert done.returncode == 0, done.stderr
    for found in report_of(tmp_path / "out")["by_start"]:
        assert found["youngs_modulus"][0] == pytest.approx(1e5, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompt=purple",), "expected a prompt with one of"),
        (("--prior=oak",), "expected a prior's file or one of"),
        (("--prior=svd:",), "expected --prior=svd:DIR"),
        (("--learn=colour",), "expected --learn of youngs_modulus"),
        (("--regions=many",), "expected --regions of 1, 2"),
        (("--regions=boxes",), "expected boxes of material"),
        (("--start=-1",), "expected --start above 0"),
        (("--range=5:2",), "expected --range such as"),
        (("--frames=20",), "expected no --frames with a small prior"),
        (("--range=1e4:1e5",), "expected no --range with a small prior"),
        (("--iterations=9",), "expected no --iterations where a curve is made"),
        (("--learn=yield_stress",), "expected to learn what neo_hookean has"),
        (("--learn=poisson_ratio", "--rule=paper"), "expected --rule=log for poisson_ratio"),
        (("--prior=drop",), "expected --scene with --prior=drop"),
        (("--image=face.jpg",), "expected --image with --prior=svd:DIR alone"),
        (("--prior=modelscope:nowhere",), "nowhere"),
        (("--prior=reference:nowhere.mp4",), "nowhere.mp4"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, message):
    small = ("--splats=cube", "--max_particles=60")
    done = commands.run("learn_material", *small, *arguments, f"--out={tmp_path}")
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


# A fifth of what shows, in a clip of one number: |dV/dl| grows with the root of the pixels.
UNSEEN = 3.0 / np.sqrt(8 * 32 * 32 * 3)


def findings(mean, null_mean, slope=30.0, error=0.1, wanted=5.1):
    """Forces along the range, and clips whose derivative has that length."""
    grid = np.linspace(*STALK.log10_range, 13)
    slopes = np.full((13, 1, 1, 1, 1), slope)
    forces = [np.stack([f(grid), f(grid)], 1) for f in (mean, null_mean)]
    scan = Scan(grid, np.zeros_like(slopes), slopes)
    return answer.Findings(scan, *(Curve(grid, f) for f in forces), wanted, error, shift=1.0)


def summary(found):
    return answer.summarize(jax.random.key(0), found, STALK.log10_range)


def test_a_clear_answer_is_given_in_pascals_and_without_a_warning():
    report = summary(findings(lambda x: 5.05 - x, lambda x: 4.3 - x))
    assert report["youngs_modulus_pa"] == pytest.approx(10**4.05, rel=1e-6)
    assert report["from_softer"] == pytest.approx(5.05) == report["from_stiffer"]
    assert report["null_zeros"] == pytest.approx([4.3])
    assert not report["warnings"]


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (findings(lambda x: 5.05 - x, lambda x: x, error=0.3), "does not know this motion"),
        (findings(lambda x: 5.05 - x, lambda x: x, slope=UNSEEN), "about 5.0 times as strong"),
        (findings(lambda x: np.sin(6 * x), lambda x: x), "several plausible values"),
        (findings(lambda x: x - 5.1, lambda x: x), "end apart"),
        (findings(lambda x: 0 * x + 1.0, lambda x: x), "at the bound"),
    ],
    ids=["gate", "unseen", "several", "apart", "bound"],
)
def test_each_doubt_is_said(found, line):
    assert any(line in warning for warning in summary(found)["warnings"])
