"""The command as its users meet it, on a ball of which a few small photos are enough."""

import json
import signal
import time
from unittest import mock

import commands
import numpy as np
import pytest
from PIL import Image
from test_nerf_training import photo
from test_train_splats import leavings

from models.nerf.nerf_io import read_nerf
from render import capture_io, image_io, video_io
from render.camera import orbit
from scripts.shell import metrics_io, training
from scripts.shell.checkpoint_io import read_header

SIZE = 24
ARGUMENTS = ("--steps=60", "--rays=64", "--evaluate_every=25", "--frames=3", "--cut_out")


def write_capture(folder, style, num_photos=9):
    cameras = orbit(np.zeros(3), 1.4, num_photos, SIZE, SIZE, elevation_degrees=20.0)
    names = [f"images/{i:02d}.png" for i in range(num_photos)]
    for camera, name in zip(cameras, names, strict=True):
        rgb, is_hit = photo(camera, style)
        image_io.write_image(folder / name, rgb)
        mask = folder / name.replace("images", "masks")
        mask.parent.mkdir(exist_ok=True)
        Image.fromarray(np.uint8(255 * is_hit)).save(mask)
    capture_io.write_transforms(folder / "transforms.json", cameras, names)


@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captures")
    for style, name in enumerate(("plain", "styled")):
        write_capture(folder / name, style)
    return folder


@pytest.fixture(scope="module")
def trained(captures, tmp_path_factory):
    """A folder that was trained into in one go, and what was printed."""
    out = tmp_path_factory.mktemp("whole")
    return out, commands.run_alone(
        "train_nerf", f"--capture={captures / 'plain'}", *both(captures, out)
    )


def both(captures, out):
    return f"--styled={captures / 'styled'}", f"--out={out}", *ARGUMENTS


@pytest.mark.slow
def test_training_writes_a_field_a_film_and_scores(trained):
    out, done = trained
    assert done.returncode == 0, done.stderr
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["num_photos"] == 14 and metrics["num_held_out"] == 4 and metrics["steps"] == 60
    assert metrics["psnr_db"] > 8 and f"{metrics['psnr_db']:.2f} dB" in done.stdout
    assert {"psnr_db_style_0", "psnr_db_style_1"} <= metrics.keys()
    assert [row["step"] for row in metrics["history"]] == [25, 50]
    assert np.asarray(Image.open(out / "held_out.png")).shape[1] == 2 * SIZE + 4
    film = list(video_io.read_video(out / "orbit.mp4"))
    assert len(film) == 3 and film[0].shape == (SIZE, 2 * SIZE, 3)
    nerf = read_nerf(out / "nerf.safetensors")
    assert nerf.config.background == "none" and nerf.facts["num_styles"] == 2
    rows = metrics_io.read_rows(out / "metrics.csv")
    assert "train_psnr_db" in rows[0]


@pytest.mark.slow
def test_the_paper_s_size_takes_its_steps_too(captures, tmp_path):
    arguments = "--preset=paper", "--steps=2", "--rays=64", "--frames=0", f"--out={tmp_path}"
    done = commands.run_alone("train_nerf", f"--capture={captures / 'plain'}", *arguments)
    assert done.returncode == 0, done.stderr
    config = read_nerf(tmp_path / "nerf.safetensors").config
    assert config.grid.log2_entries == 19 and config.samples == 48


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_bytes(captures, trained, tmp_path):
    arguments = f"--capture={captures / 'plain'}", *both(captures, tmp_path)
    with commands.start("train_nerf", *arguments) as work:
        while work.poll() is None and not metrics_io.read_rows(tmp_path / "metrics.csv"):
            time.sleep(0.05)
        work.send_signal(signal.SIGTERM)
        work.communicate(timeout=600)
    assert work.returncode == 143
    reached = read_header(tmp_path / "checkpoint.safetensors").step
    done = commands.run_alone("train_nerf", *arguments)
    assert done.returncode == 0, done.stderr
    assert f"going on from step {reached}\n" in done.stdout or reached == 60
    assert leavings(tmp_path) == leavings(trained[0])
    names = [path / "nerf.safetensors" for path in (tmp_path, trained[0])]
    assert names[0].read_bytes() == names[1].read_bytes()


@pytest.mark.slow
def test_a_field_is_shown_like_everything_else(trained, tmp_path):
    field = trained[0] / "nerf.safetensors"
    pictures = []
    for style in (0, 1):
        out = tmp_path / str(style)
        options = "--still", "--size=32", f"--style={style}"
        done = commands.run("render", f"--show={field}", f"--out={out}", *options)
        assert done.returncode == 0, done.stderr
        assert "a radiance field of" in done.stdout
        pictures.append(np.asarray(Image.open(out / "still.png"), float))
    assert np.abs(pictures[0] - pictures[1]).mean() > 1.0
    refused = commands.run("render", "--show=ball", f"--out={tmp_path}", "--style=1")
    assert refused.returncode == 2 and "expected a radiance field with --style" in refused.stderr


@pytest.mark.command
def test_bad_input_takes_one_line(captures, tmp_path):
    text = json.loads((captures / "plain" / "transforms.json").read_text())
    text["frames"][3]["transform_matrix"][0][3] = float("nan")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "transforms.json").write_text(json.dumps(text))
    (tmp_path / "empty").mkdir()
    write_capture(tmp_path / "two", 0, num_photos=2)
    cases = [
        ((f"--capture={tmp_path / 'empty'}",), "expected transforms.json"),
        ((f"--capture={tmp_path / 'broken'}",), "expected"),
        ((f"--capture={captures / 'plain'}", "--hold_out=1"), "expected photos to learn from"),
        ((f"--capture={captures / 'plain'}", "--background=hills"), "background"),
        ((f"--capture={tmp_path / 'two'}",), "expected at least 3 photos, found 2"),
        ((f"--capture={captures / 'plain'}", "--styled=nowhere"), "nowhere"),
    ]
    for arguments, line in cases:
        with mock.patch.object(training, "split_cpu"):  # this process has its devices
            done = commands.run("train_nerf", *arguments, f"--out={tmp_path / 'out'}")
        assert done.returncode == 2, (arguments, done)
        assert line in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
