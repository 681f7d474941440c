"""The command that finds a stiffness: its files, its doubts, bad input."""

import json

import commands
import jax
import numpy as np
import pytest

from models.diffusion.motion_prior import MotionPrior, PriorConfig
from models.diffusion.motion_prior_io import write_prior
from models.diffusion.motion_training import PriorTraining, init_prior
from render import shapes, splat_io
from scripts.materials import answer
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


@pytest.mark.slow
def test_it_writes_what_it_found_and_says_that_an_untaught_prior_knows_nothing(untaught, tmp_path):
    scene, out = tmp_path / "scene.json", tmp_path / "out"
    scene.write_text(json.dumps(SCENE))
    cube = jax.tree.map(lambda leaf: leaf[::60], shapes.shape("cube"))
    splat_io.write_splats(tmp_path / "cube.ply", cube)
    done = commands.run(
        "learn_material",
        *(
            f"--splats={tmp_path / 'cube.ply'}",
            f"--scene={scene}",
            f"--prior={untaught}",
            "--prompt=soft",
        ),
        *("--values=5", "--noises=1", "--max_particles=400", "--frames=2", "--size=32"),
        f"--out={out}",
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == FILES
    found = json.loads((out / "material.json").read_text())
    low, high = found["interval_pa"]
    assert low <= found["youngs_modulus_pa"] <= high
    assert found["prior_error_on_scene"] > 0.5
    assert "does not know this motion" in done.stderr
    assert f"{found['youngs_modulus_pa']:.3g} Pa" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompt=purple",), "expected a prompt with one of"),
        (("--prior=oak",), "expected a prior's file or one of"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, message):
    done = commands.run("learn_material", "--splats=cube", *arguments, f"--out={tmp_path}")
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def findings(mean, null_mean, slope=30.0, error=0.1, wanted=5.1):
    """Forces along the range, and clips whose derivative has that length."""
    grid = np.linspace(*STALK.log10_range, 13)
    slopes = np.full((13, 1, 1, 1, 1), slope)
    forces = [np.stack([f(grid), f(grid)], 1) for f in (mean, null_mean)]
    scan = Scan(grid, np.zeros_like(slopes), slopes)
    return answer.Findings(scan, *(Curve(grid, f) for f in forces), wanted, error, shift=1.0)


def summary(found):
    return answer.summarize(jax.random.key(0), found, STALK)


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
        (findings(lambda x: 5.05 - x, lambda x: x, slope=3.0), "about 5.0 times as strong"),
        (findings(lambda x: np.sin(6 * x), lambda x: x), "several plausible values"),
        (findings(lambda x: x - 5.1, lambda x: x), "end apart"),
        (findings(lambda x: 0 * x + 1.0, lambda x: x), "at the bound"),
    ],
    ids=["gate", "unseen", "several", "apart", "bound"],
)
def test_each_doubt_is_said(found, line):
    assert any(line in warning for warning in summary(found)["warnings"])
