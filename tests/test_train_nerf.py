"""The command as its users meet it, on a ball of which a few small photos are enough."""

import json
import shutil
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
ARGUMENTS = ("--steps=60", "--rays=64", "--evaluate_every=25", "--frames=3")


def write_capture(folder, style, num_photos=9, **top):
    cameras = orbit(np.zeros(3), 1.4, num_photos, SIZE, SIZE, elevation_degrees=20.0)
    names = [f"images/{i:02d}.png" for i in range(num_photos)]
    for camera, name in zip(cameras, names, strict=True):
        rgb, is_hit = photo(camera, style)
        image_io.write_image(folder / name, rgb)
        mask = folder / name.replace("images", "masks")
        mask.parent.mkdir(exist_ok=True)
        Image.fromarray(np.uint8(255 * is_hit)).save(mask)
    top = {"masks_cut_out": True} | top
    capture_io.write_transforms(folder / "transforms.json", cameras, names, top=top)


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


def broken(captures, folder, change):
    """A capture whose frames are changed."""
    shutil.copytree(captures / "plain", folder)
    table = folder / "transforms.json"
    content = json.loads(table.read_text())
    for frame in content["frames"]:
        change(frame)
    table.write_text(json.dumps(content))


BAD_INPUT = {  # name: arguments, what the line says
    "an empty folder": ("--capture={here}/empty", "expected transforms.json, transforms_train"),
    "two photos": ("--capture={here}/two", "expected at least 3 photos, found 2"),
    "no poses": ("--capture={here}/blind", "found 0 of 9; images/00.png: expected a transform_mat"),
    "poses of NaN": ("--capture={here}/nan", "found 0 of 9; images/00.png: expected finite"),
    "larger masks": (
        "--capture={here}/masks",
        "expected (24, 24) pixels, found (24, 25) in {here}",
    ),
    "all held out": ("{plain} --hold_out=1", "expected photos to learn from, found 9, all held"),
    "unknown background": ("{plain} --background=hills", "<none|contraction|sphere>"),
    "no masks": ("--capture={here}/bare --cut_out", "expected masks that cut the subject out"),
    "--styled of nothing": ("{plain} --styled={here}/no", "or sparse/0 in {here}/no, found none"),
    "--styled of a photo": ("{plain} --styled={here}/two/images/00.png", "00.png, found none"),
    "--styled of a flight": ("{plain} --styled={here}/path.json", "a camera path without photos"),
    "--styled of two photos": ("{plain} --styled={here}/two", "expected at least 3 photos, found"),
    "--styled cut out otherwise": ("{plain} --styled={here}/bare", "found {plain_folder} alone"),
}


@pytest.fixture(scope="module")
def inputs(captures, tmp_path_factory):
    here = tmp_path_factory.mktemp("inputs")
    (here / "empty").mkdir()
    write_capture(here / "two", 0, num_photos=2)
    broken(captures, here / "blind", lambda frame: frame.pop("transform_matrix"))
    nan = [[float("nan")] * 4] * 4
    broken(captures, here / "nan", lambda frame: frame.update(transform_matrix=nan))
    broken(captures, here / "masks", lambda frame: frame.update(mask_path="../tall.png"))
    Image.new("L", (SIZE, SIZE + 1), 255).save(here / "tall.png")
    write_capture(here / "bare", 0, masks_cut_out=False)
    shutil.rmtree(here / "bare" / "masks")
    (here / "path.json").write_text(json.dumps({"camera_path": [], "render_width": 8}))
    return here


@pytest.mark.command
@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_takes_one_line(captures, inputs, tmp_path, case):
    arguments, line = BAD_INPUT[case]
    plain = captures / "plain"
    arguments = arguments.format(here=inputs, plain=f"--capture={plain}").split()
    with mock.patch.object(training, "split_cpu"):  # this process has its devices
        done = commands.run("train_nerf", *arguments, f"--out={tmp_path / 'out'}")
    assert done.returncode == 2, done
    assert line.format(here=inputs, plain_folder=plain) in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()
