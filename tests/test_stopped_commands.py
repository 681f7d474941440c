"""Each long command, stopped at random moments: what was finished is there, nothing hidden stays.

Ctrl-C goes to the whole group of processes, as a terminal sends it; SIGTERM to the command alone.
"""

import csv
import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import commands
import numpy as np
import printed
import pytest
from PIL import Image
from small_people import people_generator, write_heads, write_people

from models.diffusion.motion_prior_io import load_prior
from models.nerf.nerf_io import read_nerf
from models.perception.face_id_io import read_face_id
from models.stylegan.directions_io import read_directions, read_inversion
from models.stylegan.encoder_io import read_encoder
from models.stylegan.stylegan_io import read_generator, write_generator
from recon.landmarks_io import read_pts
from render import image_io, mesh_io, splat_io, video_io
from scripts.shell.checkpoint_io import read_header

pytestmark = [pytest.mark.slow, pytest.mark.command]

MOMENTS = int(os.environ.get("MOMENTS", 10))  # of each signal and command
KILLS = 3
SCENE = {
    "units": "SI",
    "scale": 0.2,
    "grid_lim": 0.6,
    "n_grid": 20,
    "max_particles": 300,
    "E": 2e4,
    "frame_dt": 0.02,
    "seconds": 3.0,
    "boundary_conditions": [{"type": "bounding_box"}],
}
HEAD = {
    *("head.obj", "head.ply", "head.glb", "splats.ply", "overlay.png", "uncertainty.png"),
    *("landmarks.pts", "fit.json", "config.json"),
}
COMMANDS = {
    "simulate": "--splats={inputs}/small.ply --scene={inputs}/scene.json --size=64",
    "render": "--show={inputs}/small.ply --size=128 --frames=500",
    "train_splats": "--capture={inputs}/plush --count=150 --steps=1500 --hold_out=2",
    "train_prior": "--preset=ci --num_clips=100 --scenes=1 --steps=40 --clips={inputs}/clips",
    "learn_material": "--splats={inputs}/small.ply --scene={inputs}/scene.json --prior=stalk "
    "--values=5 --noises=1 --size=64",
    "evaluate_fit": "--faces=12 --yaw=-20:20:20 --components=5 --methods=mean,fixed,inner",
    "evaluate_fit --tune": "--tune --faces=1 --yaw=0 --tune_method=inner",
    "reconstruct": "--landmarks={inputs}/a.pts,{inputs}/b.pts,{inputs}/c.pts --method=inner "
    "--frames=24 --size=256",
    "demo": "",
    "benchmark": "--suite=fit --num_faces=1 --peer_faces=1",
    "train_nerf": "--capture={inputs}/plush --steps=60 --rays=256 --hold_out=4 --frames=6 "
    "--evaluate_every=30",
    "train_stylegan --people": "--people --preset=ci --num_pictures=500 --pool={inputs}/pool "
    "--evaluate_every=50",
    "train_stylegan --images": "--images={inputs}/photos --preset=ci --evaluate_every=20",
    "train_face_id": "--preset=ci --steps=20 --num_people=20 --judged=5 --evaluate_every=10 "
    "--pool={inputs}/pool",
    "train_encoder": "--generator={inputs}/heads.safetensors --preset=ci --num_pictures=500 "
    "--pool={inputs}/pool",
    "invert": "--generator={inputs}/heads.safetensors --image={inputs}/me.png "
    "--landmarks={inputs}/a.pts --steps=100 --tune --tune_steps=100",
    "find_directions": "--generator={inputs}/heads.safetensors",
}
# What trainings leave when they end, by themselves or early: first what was learnt. A film is only
# begun when there is time.
LEARNT = {
    "train_nerf": ("nerf.safetensors", "held_out.png"),
    "train_stylegan": ("generator.safetensors", "samples.png"),
    "train_face_id": ("face_id.safetensors", "neighbours.png"),
    "train_encoder": ("encoder.safetensors", "sheet.png"),
}
FILMS = {"train_nerf": {"orbit.mp4"}, "train_stylegan": {"film.mp4"}}
READERS = {
    "checkpoint": read_header,
    "prior": load_prior,
    "nerf": read_nerf,
    "generator": read_generator,
    "face_id": read_face_id,
    "encoder": read_encoder,
    "inversion": read_inversion,
    "directions": read_directions,
}
ENDLESS = {"evaluate_fit --tune": 60.0, "benchmark": 60.0}  # seconds that moments are chosen from


class Ended(NamedTuple):
    """A command that was sent a signal, or none."""

    status: int
    stdout: str
    stderr: str
    seconds: float  # of the run
    delay: float  # from the signal to the end, seconds


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    printed.OWN["flowers.ply"](folder / "small.ply")
    printed.OWN["plush"](folder / "plush")
    for name in "abc":
        printed.OWN["me.pts"](folder / f"{name}.pts")
    (folder / "scene.json").write_text(json.dumps(SCENE))
    printed.OWN["me.jpg"](folder / "me.png")
    write_generator(folder / "heads.safetensors", people_generator())
    (folder / "pool").mkdir()
    for side in (16, 64):
        for first in (0, 500):
            write_heads(folder / "pool", side, 500, first)
    for first in range(0, 400, 100):
        write_people(folder / "pool", 64, 100, first)
    write_people(folder / "pool", 256, 100, 0)
    rng = np.random.default_rng(0)
    for number in range(12):
        picture = np.float32(rng.random((20, 24, 3)))
        image_io.write_image(folder / "photos" / f"{number}.png", picture)
    return folder


def run(case, inputs, out, moment=None, number=None):
    """Runs a command, and sends it a signal at a moment, in seconds from its start."""
    words = COMMANDS[case].format(inputs=inputs).split()
    line = [sys.executable, "-m", f"scripts.{case.split()[0]}", *words, f"--out={out}"]
    environment = os.environ | {"PYTHONPATH": str(commands.ROOT), "JAX_PLATFORMS": "cpu"}
    pipe = subprocess.PIPE
    begin = time.perf_counter()
    with subprocess.Popen(
        line, stdout=pipe, stderr=pipe, text=True, cwd=out.parent, env=environment, process_group=0
    ) as work:
        try:
            stdout, stderr = work.communicate(timeout=moment or commands.SECONDS)
        except subprocess.TimeoutExpired:
            if number == signal.SIGINT:
                os.killpg(work.pid, number)
            else:
                work.send_signal(number)
            sent = time.perf_counter()
            stdout, stderr = work.communicate(timeout=commands.SECONDS)
            return Ended(work.returncode, stdout, stderr, moment, time.perf_counter() - sent)
    return Ended(work.returncode, stdout, stderr, time.perf_counter() - begin, 0.0)


@pytest.fixture(scope="module")
def lasts(inputs, tmp_path_factory):
    """How long a command takes to load, and to run: measured once."""
    known = {}

    def measure(case):
        if case not in known:
            begin = time.perf_counter()
            commands.run_alone(case.split()[0], "--help")
            loads = time.perf_counter() - begin
            out = tmp_path_factory.mktemp("whole")
            seconds = ENDLESS.get(case)
            for name in () if seconds else ("compiles", "runs"):
                done = run(case, inputs, out / name)
                assert done.status == 0, done.stderr
                seconds = done.seconds
            known[case] = loads, seconds
        return known[case]

    return measure


def read(path):
    """Reads a file by its format, whole; raises where it is broken."""
    match path.suffix:
        case ".json":
            json.loads(path.read_text())
        case ".npz":
            with np.load(path, allow_pickle=False) as file:
                assert all(file[name].size >= 0 for name in file.files)
        case ".png" | ".jpg":
            with Image.open(path) as file:
                file.load()
        case ".mp4":
            assert len(list(video_io.read_video(path))) > 0
        case ".ply" if splat_io.is_splat_file(path):
            assert len(splat_io.read_splats(path).means) > 0
        case ".ply" | ".obj" | ".glb":
            assert len(mesh_io.read_mesh(path).triangles) > 0
        case ".safetensors":
            READERS[path.stem](path)
        case ".csv":
            with path.open(newline="") as file:
                names, *rows = csv.reader(file)
            assert all(len(row) == len(names) for row in rows)
        case ".pts":
            assert len(read_pts(path)) == 68
        case ".mtl" | ".md" | ".html":
            assert path.read_text().strip()
        case _:
            pytest.fail(f"nobody reads {path}")


def check(case, out, ended):
    """Sees that what a command says it has kept, and what it had finished, is there."""
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    line = ended.stderr.strip()
    if kept := re.search(r"(\d+) of \d+ pictures in (\S+)", line):
        assert len(list(video_io.read_video(out.parent / kept[2]))) == int(kept[1])
    match case.split()[0]:
        case "simulate":
            if "\nsimulation" in ended.stdout or "frames of the motion" in line:
                assert names >= {"trajectory.npz", "last.ply", "report.json", "config.json"}
                with np.load(out / "trajectory.npz") as file:
                    count = len(file["seconds"]) - 1
                assert count > 0 and (not line or f"{count} of 150 frames" in line)
            else:
                assert not names, line
        case "render":
            assert not names or names == {"video.mp4", "frames.png", "config.json"}
        case "train_splats":
            table = out / "metrics.csv"
            if table.exists() and (rows := table.read_text().splitlines()[1:]):
                step = read_header(out / "checkpoint.safetensors").step
                assert step >= int(rows[-1].split(",")[0]) and "splats.ply" in names
                assert not line or f"step {step} in" in line  # no line: done before the signal
        case "train_prior":
            checkpoint = out / "checkpoint.safetensors"
            assert not checkpoint.exists() or "prior.safetensors" in names or "stopped" in line
            assert not checkpoint.exists() or not line or "step" in line
        case "learn_material":
            assert not names or names >= {"material.json", "force.png", "clips.png"}
        case "reconstruct":
            made = re.findall(r"^wrote \S*/(\w): ", ended.stdout, re.M)
            for name in "abc":
                files = {path.name for path in (out / name).glob("*")}
                assert not files or files >= HEAD, files
                assert name not in made or files >= HEAD | {"turntable.mp4"}
            if made and line:
                assert f"{len(made)} of 3 heads" in line
        case "demo":
            assert not names or names >= HEAD | {"photo.jpg"}
        case "train_nerf" | "train_stylegan" | "train_face_id" | "train_encoder" as name:
            result, *rest = LEARNT[name]
            if step := re.search(r"step (\d+) in", line):
                assert read_header(out / "checkpoint.safetensors").step == int(step[1])
                assert result in line
            if step or not line:
                assert names >= {result, *rest, "metrics.json", "metrics.csv", "config.json"}
            else:
                assert names <= {"config.json"}
            assert line or names >= FILMS.get(name, set())
        case "invert":
            assert not names or names >= {"inversion.safetensors", "turn.png", "metrics.json"}
        case "find_directions":
            assert not names or names >= {"directions.safetensors", "named.png", "metrics.json"}
        case "benchmark":
            rows = re.search(r"kept (\d+) rows", line)
            assert bool(rows) == bool(names)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("case", COMMANDS)
def test_a_signal_at_any_moment_keeps_what_is_finished(case, number, inputs, lasts, tmp_path):
    loads, whole = lasts(case)
    rng = random.Random(f"{case} {number}")
    span = (whole - loads) / (MOMENTS - 1)
    moments = [rng.uniform(0.0, loads)]
    moments += [rng.uniform(loads + i * span, loads + (i + 1) * span) for i in range(MOMENTS - 1)]
    for i, moment in enumerate(moments):
        out = tmp_path / str(i) / "out"
        out.parent.mkdir()
        ended = run(case, inputs, out, moment, number)
        told = f"{case}, {moment:.1f} s, status {ended.status}: {ended.stderr}"
        print(f"{told.strip()} (after {ended.delay:.1f} s)")
        hidden = [path for path in out.parent.rglob("*") if path.name.startswith(".")]
        assert not hidden, told
        for path in out.rglob("*"):
            if path.is_file():
                read(path)
        if ended.status == -number:  # still loading, or done and on its way out
            is_done = "\nwrote " in ended.stdout
            assert is_done or not (ended.stdout or out.exists()), told
            continue
        if ended.status != 0:
            assert ended.status == 128 + number, told
            (line,) = ended.stderr.splitlines()
            assert line.startswith(f"{case.split()[0]}: stopped; "), told
        check(case, out, ended)


@pytest.mark.parametrize("case", [case for case in COMMANDS if case not in ENDLESS])
def test_the_next_run_removes_what_killed_ones_left(case, inputs, lasts, tmp_path):
    loads, whole = lasts(case)
    rng = random.Random(case)
    out = tmp_path / "out"
    left = set()
    for _ in range(KILLS):
        run(case, inputs, out, rng.uniform(loads, whole), signal.SIGKILL)
        left |= {path.name for path in out.rglob(".*")}
    done = run(case, inputs, out)
    assert done.status == 0, done.stderr
    print(f"{case}: {len(left)} left")
    assert not list(out.rglob(".*"))
    for path in out.rglob("*"):
        if path.is_file():
            read(path)


@pytest.mark.skipif(importlib.util.find_spec("pycolmap") is None, reason="wants the extra sfm")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_capture_is_gone_on_with_where_it_was_stopped(number, tmp_path):
    """Stopped among its frames and then within COLMAP, which finds nothing in noise."""
    rng = np.random.default_rng(0)
    frames = (rng.integers(0, 256, (480, 640, 3), np.uint8) for _ in range(48))
    video_io.write_video(tmp_path / "film.mp4", frames, 24)
    out, arguments = tmp_path / "out", (f"--video={tmp_path / 'film.mp4'}", "--frames=24")
    arguments += ("--max_side=160",)
    table, images = out / "frames.json", out / "images"
    moments = [lambda: any(images.glob("*.jpg")), lambda: any(out.glob("colmap/*/database.db"))]
    for is_time in moments:
        with commands.start("prepare_capture", *arguments, f"--out={out}") as work:
            while work.poll() is None and not is_time():
                time.sleep(0.01)
            work.send_signal(number)
            _, line = work.communicate(timeout=commands.SECONDS)
        assert work.returncode == (-9 if number == signal.SIGKILL else 128 + number), line
        assert table.exists() == (is_time is moments[1])
        if number != signal.SIGKILL:
            assert len(line.splitlines()) == 1 and line.startswith("prepare_capture: stopped; ")
            assert not list(out.rglob(".*"))
    taken = {path.name: path.stat().st_mtime_ns for path in images.iterdir()}
    done = commands.run_alone("prepare_capture", *arguments, f"--out={out}")
    assert done.returncode == 1 and "found 0 (0%)" in done.stderr, done.stderr
    assert "going on with the 24 pictures of an earlier run" in done.stdout
    assert {path.name: path.stat().st_mtime_ns for path in images.iterdir()} == taken
    assert not list(out.rglob(".*")) and not (out / "transforms.json").exists()
    read(out / "report.json")
