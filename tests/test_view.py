"""The viewer, in a headless browser where there is one."""

import importlib.util
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from render import harmonics, mesh_io, splat_io, trajectory_io
from render.camera import perspective_camera, project
from render.gaussians import Gaussians
from render.mesh import Mesh
from scripts.scenes import Scene
from scripts.viewer import Viewer, camera_of, free_port, splat_fields

ROOT = pathlib.Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SIZE = 700

needs_viser = pytest.mark.skipif(
    importlib.util.find_spec("viser") is None, reason="viser is not installed"
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


def ball(center=(0.0, 0.0, 0.0), rgb=(0.9, 0.1, 0.1), count=400):
    rng = np.random.default_rng(0)
    return Gaussians(
        means=jnp.asarray(rng.normal(0, 0.15, (count, 3)) + center, jnp.float32),
        quats=jnp.asarray(rng.normal(size=(count, 4)), jnp.float32),
        log_scales=jnp.full((count, 3), np.log(0.05), jnp.float32),
        logit_opacities=jnp.full(count, 4.0),
        harmonics=jnp.tile((jnp.array(rgb) - 0.5) / harmonics.CONSTANT, (count, 1, 1)),
    )


def start(*arguments, seconds=60):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    line = [sys.executable, "-m", "scripts.view", "--open=false", f"--seconds={seconds}"]
    return subprocess.Popen(
        [*line, *arguments], cwd=ROOT, env=environment, text=True, stdout=-1, stderr=-1
    )


def screenshot(path, *arguments):
    """Starts the viewer, looks at its page, and returns the picture in [0, 1]."""
    port = free_port(8600)
    server = start(f"--port={port}", *arguments)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if not probe.connect_ex(("localhost", port)):
                    break
            assert server.poll() is None, server.stderr.read()
            time.sleep(0.1)
        time.sleep(1.0)
        options = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"]
        options += ["--enable-unsafe-swiftshader", f"--window-size={SIZE},{SIZE}"]
        options += ["--virtual-time-budget=30000", f"--user-data-dir={path}.profile"]
        subprocess.run(
            [CHROMIUM, "--headless", *options, f"--screenshot={path}", f"http://localhost:{port}"],
            check=True,
            capture_output=True,
            timeout=120,
        )
    finally:
        server.kill()
        server.communicate()
    return np.asarray(Image.open(path).convert("RGB"), np.float32) / 255


@needs_viser
@needs_browser
def test_the_page_shows_splats_and_moves_them_with_time(tmp_path):
    splat_io.write_splats(tmp_path / "ball.ply", ball(), up="y")
    still, away = np.zeros((400, 3)), np.array([-1.5, 0.0, 0.0])
    means = np.asarray(ball().means) + np.stack([still, still + away])
    trajectory = trajectory_io.Trajectory(np.array([0.0, 1.0]), means.astype(np.float32))
    trajectory_io.write_trajectory(tmp_path / "moves.npz", trajectory)
    scene = f"--scene={tmp_path / 'ball.ply'}", f"--trajectory={tmp_path / 'moves.npz'}"
    first = screenshot(tmp_path / "first.png", *scene)
    last = screenshot(tmp_path / "last.png", *scene, "--frame=1")
    middles = []
    for picture in (first, last):
        is_red = np.abs(picture - (0.9, 0.1, 0.1)).max(-1) < 0.35  # nothing in the panel is
        assert is_red.mean() > 0.005
        middles.append(np.flatnonzero(is_red.any(0)).mean())
    assert middles[1] < middles[0] - 0.2 * SIZE


@needs_viser
@needs_browser
@pytest.mark.slow
def test_the_page_shows_a_mesh_in_its_colours(tmp_path):
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    colors = np.tile(np.float32([0.1, 0.7, 0.1]), (4, 1))
    mesh_io.write_glb(tmp_path / "a.glb", Mesh(corners, triangles, colors))
    picture = screenshot(tmp_path / "mesh.png", f"--scene={tmp_path / 'a.glb'}")
    green = picture[..., 1] - np.maximum(picture[..., 0], picture[..., 2])
    assert np.mean(green > 0.2) > 0.1


@needs_viser
def test_it_ends_by_itself_and_takes_the_next_free_port(tmp_path):
    splat_io.write_splats(tmp_path / "ball.ply", ball())
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = start(f"--scene={tmp_path / 'ball.ply'}", f"--port={port}", seconds=0.1)
        output, errors = server.communicate(timeout=120)
    assert server.returncode == 0, errors
    assert "400 Gaussians" in output and f"localhost:{port}" not in output


@needs_viser
def test_a_trajectory_of_another_scene_is_refused_in_one_line(tmp_path):
    splat_io.write_splats(tmp_path / "ball.ply", ball())
    moves = trajectory_io.Trajectory(np.zeros(1), np.zeros((1, 7, 3)))
    trajectory_io.write_trajectory(tmp_path / "moves.npz", moves)
    files = f"--scene={tmp_path / 'ball.ply'}", f"--trajectory={tmp_path / 'moves.npz'}"
    server = start(*files)
    _, errors = server.communicate(timeout=120)
    assert server.returncode == 2 and len(errors.splitlines()) == 1
    assert "expected means of shape [1, 400, 3], found [1, 7, 3]" in errors


def test_what_cannot_be_drawn_stays_off_the_page():
    scene = ball(count=5)
    broken = scene.replace(means=scene.means.at[2].set(np.nan))
    fields = splat_fields(broken)
    assert {len(values) for values in fields.values()} == {4}
    np.testing.assert_allclose(fields["rgbs"], np.tile([0.9, 0.1, 0.1], (4, 1)), atol=1e-6)


def test_a_still_is_taken_from_where_the_page_looks():
    class PageCamera:
        position, look_at = np.array([1.0, 2.0, 3.0]), np.array([0.2, 0.1, 0.0])
        up_direction, fov, aspect = np.array([0.0, 1.0, 0.0]), np.radians(40.0), 1.5

    ours = camera_of(PageCamera)
    assert (ours.width, ours.height) == (1080, 720)
    expected = perspective_camera((1, 2, 3), (0.2, 0.1, 0), 1080, 720, fov_degrees=40.0)
    points = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(project(ours, points)[0], project(expected, points)[0], rtol=1e-4)


@needs_viser
def test_a_still_holds_the_splats_in_sight_and_takes_the_next_name(tmp_path):
    class Client:
        class camera:
            position, look_at = np.array([0.0, 0.0, 30.0]), np.zeros(3)
            up_direction, fov, aspect = np.array([0.0, 1.0, 0.0]), np.radians(30.0), 1.0

        @staticmethod
        def add_notification(*args, **kwargs):
            pass

    shown = [Scene("ball.ply", ball(), None, "y"), Scene("other.ply", ball((9, 9, 9)), None, "y")]
    viewer = Viewer(shown, "y", (1.0, 1.0, 1.0), tmp_path, 8700)
    try:
        viewer.layers[1].visible = False
        Client.camera.position = np.array([0.0, 0.0, 3.0]) * viewer.unit
        viewer._save(Client)
        viewer._save(Client)
    finally:
        viewer.server.stop()
    picture = np.asarray(Image.open(tmp_path / "still001.png"), np.float32) / 255
    assert (tmp_path / "still000.png").exists() and picture.shape == (720, 720, 3)
    is_red = np.abs(picture - (0.9, 0.1, 0.1)).max(-1) < 0.1
    assert is_red[300:420, 300:420].all() and not is_red[:100].any()
