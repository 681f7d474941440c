"""The command as its users meet it, on a capture small enough to learn in seconds."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from render import capture_io, image_io, splat_io
from render.camera import perspective_camera
from render.splat import splat
from render.splat_training import TrainConfig, init_state

ROOT = pathlib.Path(__file__).parents[1]
SIZE = 48


def run(*arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    line = [sys.executable, "-m", "scripts.train_splats", *arguments]
    return subprocess.run(
        line, capture_output=True, text=True, timeout=600, cwd=ROOT, env=environment
    )


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    """A ball of soft colours from eight sides, with its points."""
    folder = tmp_path_factory.mktemp("capture")
    angles = 2 * np.pi * np.arange(8) / 8
    cameras = [
        perspective_camera((3 * np.sin(a), 0.5, 3 * np.cos(a)), (0, 0, 0), SIZE, SIZE)
        for a in angles
    ]
    rng = np.random.default_rng(0)
    places = rng.uniform(-0.5, 0.5, (40, 3))
    config = TrainConfig(count=40, degree=0)
    truth = init_state(jax.random.key(0), cameras, places, rng.random((40, 3)), config).gaussians
    names = [f"images/{i:02d}.png" for i in range(8)]
    for camera, name in zip(cameras, names, strict=True):
        image_io.write_image(folder / name, splat(truth, camera).rgb)
    capture_io.write_transforms(folder / "transforms.json", cameras, names)
    return folder


ARGUMENTS = ("--count=150", "--degree=1", "--evaluate_every=30", "--width=48")


@pytest.mark.slow
def test_training_writes_a_scene_scores_and_goes_on_where_it_stopped(capture, tmp_path):
    first = run(f"--capture={capture}", f"--out={tmp_path}", "--steps=60", *ARGUMENTS)
    assert first.returncode == 0, first.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["lpips"] is None  # no weights were given
    assert metrics["num_held_out"] == 1 and metrics["num_photos"] == 7 and metrics["steps"] == 60
    assert [row["step"] for row in metrics["history"]] == [30, 60]
    assert metrics["psnr_db"] > 15 and f"{metrics['psnr_db']:.2f} dB" in first.stdout
    assert splat_io.read_splats(tmp_path / "splats.ply").harmonics.shape == (150, 4, 3)
    assert splat_io.read_up(tmp_path / "splats.ply") == "y"
    picture = np.asarray(Image.open(tmp_path / "held_out.png"))
    assert picture.shape == (SIZE, 2 * SIZE + 4, 3)
    assert json.loads((tmp_path / "config.json").read_text())["training"]["count"] == 150

    more = run(f"--capture={capture}", f"--out={tmp_path}", "--steps=200", "--resume", *ARGUMENTS)
    assert more.returncode == 0, more.stderr
    assert "going on from step 60" in more.stdout
    again = json.loads((tmp_path / "metrics.json").read_text())
    assert again["steps"] == 200 and again["psnr_db"] > metrics["psnr_db"] + 2


@pytest.mark.parametrize(
    "arguments, line",
    [
        (("--capture={none}",), "in {none}, found none"),
        (("--capture={capture}", "--resume", "--out={none}"), "expected a checkpoint, found"),
        (("--capture={capture}", "--lpips_heads=x"), "expected both --lpips_trunk"),
        (("--capture={capture}", "--hold_out=1"), "expected photos to learn from, found 8"),
    ],
)
def test_bad_input_takes_one_line(capture, tmp_path, arguments, line):
    names = {"capture": capture, "none": tmp_path / "none"}
    done = run(*(argument.format(**names) for argument in arguments))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and line.format(**names) in done.stderr
