"""The command as its users meet it, on a capture small enough to learn in seconds."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image

from render import capture_io, image_io, splat_io
from render.camera import perspective_camera
from render.splat import splat
from render.splat_training import TrainConfig, init_state
from scripts.shell import metrics_io
from scripts.shell.checkpoint_io import read_header

pytestmark = pytest.mark.compiles

SIZE = 48
ROOT = pathlib.Path(__file__).parents[1]


ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}


def command_line(*arguments):
    return [sys.executable, "-m", "scripts.train_splats", *arguments]


def run(*arguments, **variables):
    environment = ENVIRONMENT | variables
    return subprocess.run(
        command_line(*arguments),
        capture_output=True,
        text=True,
        timeout=600,
        cwd=ROOT,
        env=environment,
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


ARGUMENTS = ("--count=150", "--degree=1", "--steps=160", "--evaluate_every=50", "--width=48")


@pytest.fixture(scope="module")
def trained(capture, tmp_path_factory):
    """A folder that was trained into in one go, and what was printed."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(f"--capture={capture}", f"--out={folder}", *ARGUMENTS, JAX_LOG_COMPILES="1")


@pytest.mark.slow
def test_training_writes_a_scene_and_its_scores(trained):
    folder, done = trained
    assert done.returncode == 0, done.stderr
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["lpips"] is None  # no weights were given
    assert metrics["num_held_out"] == 1 and metrics["num_photos"] == 7 and metrics["steps"] == 160
    assert [row["step"] for row in metrics["history"]] == [50, 100, 150]
    assert metrics["psnr_db"] > 17 and f"{metrics['psnr_db']:.2f} dB" in done.stdout
    assert splat_io.read_splats(folder / "splats.ply").harmonics.shape == (150, 4, 3)
    assert splat_io.read_up(folder / "splats.ply") == "y"
    picture = np.asarray(Image.open(folder / "held_out.png"))
    assert picture.shape == (SIZE, 2 * SIZE + 4, 3)
    config = json.loads((folder / "config.json").read_text())
    assert (
        config["training"]["count"] == 150 and config["width"] == 48 and "jax" in config["versions"]
    )
    rows = metrics_io.read_rows(folder / "metrics.csv")
    expected = sorted({*range(20, 161, 20), 50, 100, 150})
    assert [row["step"] for row in rows] == expected and rows[-1]["loss"] < rows[0]["loss"]


@pytest.mark.slow
def test_a_step_is_compiled_once(trained):
    _, done = trained
    assert done.stderr.count("Finished XLA compilation of jit(train_step)") == 1


@pytest.mark.slow
def test_killed_and_started_again_the_training_ends_with_the_same_bytes(capture, trained, tmp_path):
    arguments = f"--capture={capture}", f"--out={tmp_path}", *ARGUMENTS
    checkpoint = tmp_path / "checkpoint.safetensors"
    killed_at(20, signal.SIGTERM, tmp_path, *arguments)
    reached = read_header(checkpoint).step
    assert 20 <= reached < 160
    killed_at(reached + 20, signal.SIGKILL, tmp_path, *arguments)
    assert read_header(checkpoint).step == reached
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert f"going on from step {reached}\n" in done.stdout
    assert leavings(tmp_path) == leavings(trained[0])

    before = checkpoint.read_bytes()
    again = run(*arguments)
    assert again.returncode == 0 and "the training is finished: 160 steps" in again.stdout
    refused = run(*arguments, "--steps=200")
    line = f"in {tmp_path}, training.steps of 160, found 200: name another --out to keep both\n"
    assert refused.returncode == 2 and refused.stderr.endswith(line)
    assert checkpoint.read_bytes() == before


def killed_at(step, number, folder, *arguments):
    """Starts a training and sends the signal once metrics.csv has a row of that step."""
    line = command_line(*arguments)
    with subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT, env=ENVIRONMENT
    ) as work:
        while work.poll() is None:
            rows = metrics_io.read_rows(folder / "metrics.csv")
            if rows and rows[-1]["step"] >= step:
                break
            time.sleep(0.02)
        work.send_signal(number)
        _, errors = work.communicate(timeout=600)
    assert work.returncode == (-9 if number == signal.SIGKILL else 143), errors


def leavings(folder):
    """What is left of a training, without its seconds: header, bytes of the tensors, rows."""
    path = folder / "checkpoint.safetensors"
    data = path.read_bytes()
    size = 8 + int.from_bytes(data[:8], "little")
    rows = metrics_io.read_rows(folder / "metrics.csv")
    rows = [{name: v for name, v in row.items() if name != "seconds"} for row in rows]
    return read_header(path)._replace(seconds=0), data[size:], rows


@pytest.mark.slow
def test_a_capture_of_two_sizes_with_a_mask_and_a_photo_missing(capture, tmp_path):
    folder, out = tmp_path / "capture", tmp_path / "out"
    shutil.copytree(capture, folder)
    for name in ("01", "02"):
        path = folder / "images" / f"{name}.png"
        Image.open(path).resize((SIZE // 2, SIZE // 2), Image.Resampling.BOX).save(path)
    (folder / "images" / "05.png").unlink()
    (folder / "masks").mkdir()
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:30] = 255
    for name in ("00", "03"):
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    options = "--count=100", "--degree=0", "--steps=12", "--evaluate_every=6"
    done = run(f"--capture={folder}", f"--out={out}", *options)
    assert done.returncode == 0, done.stderr
    assert "1 of 8 photos are left out" in done.stderr and "images/05.png" in done.stderr
    assert "2 photos: 0.5 of the size" in done.stdout and "2 sizes up to 48 x 48" in done.stdout
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["num_photos"] == 6 and metrics["num_held_out"] == 1
    reason = "found nothing at images/05.png"
    assert metrics["left_out"] == [{"name": "images/05.png", "reason": reason}]
    assert 0 < metrics["ssim"] < 1 and metrics["psnr_db"] > 5


@pytest.mark.command
@pytest.mark.parametrize(
    "arguments, line",
    [
        (("--capture={none}",), "in {none}, found none"),
        (("--capture={capture}", "--out={render}"), "capture of None, found"),
        (("--capture={capture}", "--lpips_heads=x"), "expected both --lpips_trunk"),
        (("--capture={capture}", "--hold_out=1"), "expected photos to learn from, found 8"),
        (("--capture={two}",), "expected at least 3 photos, found 2"),
    ],
)
def test_bad_input_takes_one_line(capture, tmp_path, arguments, line):
    names = {"capture": capture, "none": tmp_path / "none", "render": tmp_path}
    names["two"] = tmp_path / "two"
    shutil.copytree(capture, names["two"])
    data = json.loads((capture / "transforms.json").read_text())
    data["frames"] = data["frames"][:2]
    (names["two"] / "transforms.json").write_text(json.dumps(data))
    (tmp_path / "config.json").write_text('{"scene": "of another command"}')
    done = run(*(argument.format(**names) for argument in arguments))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and line.format(**names) in done.stderr
