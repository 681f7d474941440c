"""The command `simulate`, and the scene files of others from end to end."""

import json
import pathlib

import commands
import jax.numpy as jnp
import numpy as np
import pytest

from render import shapes, splat_io, video_io
from scripts.shell import filming
from sim import motion as motion_lib
from sim.scene_io import read_scene_file
from sim.simulation import make_simulation
from sim.trajectory_io import gaussians_of_frame, read_trajectory

pytestmark = pytest.mark.compiles

ROOT = pathlib.Path(__file__).parents[1]
THEIRS = sorted((ROOT / "tests" / "data" / "scenes").glob("*.json"))

DROP = {
    "units": "SI",
    "scale": 0.2,
    "grid_lim": 0.6,
    "n_grid": 20,
    "max_particles": 300,
    "material": "jelly",
    "E": 2e4,
    "nu": 0.3,
    "density": 500,
    "g": [0, 0, -9.8],
    "frame_dt": 0.02,
    "seconds": 0.08,
    "velocity": [0, 0, -1.0],
    "boundary_conditions": [{"type": "bounding_box"}],
}


def run(folder, scene):
    path = folder / "scene.json"
    path.write_text(json.dumps(scene))
    arguments = "--splats=cube", f"--scene={path}", f"--out={folder / 'out'}", "--size=64"
    return commands.run("simulate", *arguments)


def test_a_scene_becomes_a_film_a_trajectory_and_a_report(tmp_path):
    done = run(tmp_path, DROP)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    assert done.stdout.strip().splitlines()[-1].startswith(f"wrote {out / 'video.mp4'}: 0.08 s")
    assert "million particle steps per second" in done.stdout
    names = "config.json frames.png last.ply report.json trajectory.npz video.mp4".split()
    assert sorted(path.name for path in out.iterdir()) == names
    assert len(list(video_io.read_video(out / "video.mp4"))) == 5

    report = json.loads((out / "report.json").read_text())
    assert report["frames"] == 4 and report["failure"] is None and report["particles"] <= 300
    # It falls: what gravity gives, motion has.
    fallen = 1.0 * 0.08 + 0.5 * 9.8 * 0.08**2
    assert abs(report["way_peak_metres"] - fallen) < 0.01
    assert -0.1 < report["energy_drift_ratio"] < 0.01

    cube = shapes.shape("cube")
    trajectory = read_trajectory(out / "trajectory.npz", len(cube.means))
    moved = gaussians_of_frame(cube, trajectory, 4)
    last = splat_io.read_splats(out / "last.ply")
    np.testing.assert_allclose(moved.means, last.means, atol=2e-3)
    np.testing.assert_allclose(
        np.mean(moved.means - cube.means, 0), [0, 0, -10 * fallen], atol=0.06
    )


@pytest.mark.slow
def test_who_leaves_the_box_stops_it_and_keeps_the_frames(tmp_path):
    done = run(tmp_path, DROP | {"velocity": [9.0, 0, 0], "boundary_conditions": []})
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "particles that stay in the box" in done.stderr and "along x" in done.stderr
    assert f"what came before is in {tmp_path / 'out'}" in done.stderr
    assert (tmp_path / "out" / "video.mp4").is_file()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["failure"]


def test_a_step_that_is_too_long_is_refused_in_one_line(tmp_path):
    done = run(tmp_path, DROP | {"substep_dt": 0.02})
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert "expected a substep_dt of at most" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def small(path, max_particles=500):
    """A simulation of a stand-in by somebody's scene file, of a few particles."""
    return make_simulation(read_scene_file(path), shapes.shape("cube"), 0, "z", max_particles)


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=pytest.mark.slow) for p in THEIRS],
    ids=lambda path: path.stem,
)
def test_scenes_of_physgaussian_run_on_a_stand_in(path, monkeypatch):
    from sim import particles, upright

    scene = read_scene_file(path)
    cube = shapes.shape("cube")
    if scene.sim_area is not None:  # theirs are of other objects: the middle of it, and around
        low, high = np.reshape(scene.sim_area, (3, 2)).T
        places = cube.means * 0.55 * np.min(high - low) + (low + high) / 2
        cube = cube.replace(means=np.float32(places @ upright.rotation_into_box(scene, None, None)))
    monkeypatch.setattr(
        particles, "_draw_filled", lambda gaussians, placement, x, owner: (gaussians, owner)
    )
    ready = make_simulation(scene, cube, 0, "z", 500)
    dt = ready.time_step.dt
    assert dt <= (scene.substep_dt or 1e-4) * (1 + 1e-6)
    short = ready._replace(simulation=ready.simulation.replace(substeps=jnp.int32(3)))
    motion = motion_lib.run(short, 1)
    assert motion.failure is None
    assert np.isclose(motion.seconds[-1], 3 * dt)


def test_a_film_is_in_real_time(tmp_path):
    path = tmp_path / "scene.json"
    path.write_text(json.dumps(DROP))
    ready = small(path)
    motion = motion_lib.Motion(np.arange(11) * 0.01, *[np.zeros((11, 1, 3))] * 4, 0.0, None)
    frames, fps = filming.frames_of(ready, motion, filming.Shot(8, 8, fps=50.0))
    assert list(frames) == [0, 2, 4, 6, 8, 10] and fps == 50.0
    frames, fps = filming.frames_of(ready, motion, filming.Shot(8, 8))
    assert np.isclose(fps, 50.0) and len(frames) == 6
