"""The viewer, in a headless browser where there is one."""

import importlib.util
import pathlib
import socket
import time
import types

import browser
import commands
import jax.numpy as jnp
import numpy as np
import pytest
from browser import needs_browser
from PIL import Image

from render import harmonics, mesh_io, shapes, splat_io
from render.camera import perspective_camera, project
from render.gaussians import Gaussians, move_gaussians
from render.mesh import Mesh
from scripts.shell.shown import MovingShown, SplatsShown
from scripts.viewing.layers import splat_fields
from scripts.viewing.play_panel import PlayPanel, playing_scene
from scripts.viewing.viewer import Start, Viewer, camera_of, following_frame, start_for
from sim import trajectory_io
from sim.coarse import make_coarse
from sim.motion import floor_height
from sim.play import Play
from sim.scene_io import read_scene_file

pytestmark = pytest.mark.compiles

ROOT = pathlib.Path(__file__).parents[1]
SIZE = 700
_SETTLED = 10  # pictures

needs_viser = pytest.mark.skipif(
    importlib.util.find_spec("viser") is None, reason="viser is not installed"
)


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
    return commands.start("view", "--open=false", f"--seconds={seconds}", *arguments)


@pytest.fixture(scope="module")
def chromium():
    with browser.running() as started:
        yield started


def look_at_viewer(chromium, condition, *arguments):
    """Starts the viewer and looks at its page until `condition` of the picture holds."""
    port = browser.unused_port()
    server = start(f"--port={port}", *arguments, seconds=3 * browser.SECONDS)
    try:
        browser.wait_for_port(server, port)
        with browser.page(chromium, f"http://localhost:{port}", SIZE, SIZE) as page:
            return browser.look_until(page, condition)
    finally:
        server.kill()
        server.communicate()


def red_middle(picture):
    """Where the red is from left to right, pixels; None where there is too little."""
    is_red = np.abs(picture - (0.9, 0.1, 0.1)).max(-1) < 0.35  # nothing in the panel is
    return np.flatnonzero(is_red.any(0)).mean() if is_red.mean() > 0.005 else None


def settled():
    """Whether the red has stayed where it is for a while: a new page finds its place first."""
    places = []

    def is_settled(picture):
        places.append(red_middle(picture))
        return (
            None not in places[-_SETTLED:]
            and len(places) > _SETTLED
            and (np.ptp(places[-_SETTLED:]) < 1)
        )

    return is_settled


@needs_viser
@needs_browser
@pytest.mark.command
def test_the_page_shows_splats_and_moves_them_with_time(chromium, tmp_path):
    splat_io.write_splats(tmp_path / "ball.ply", ball(), up="y")
    still, away = np.zeros((400, 3)), np.array([-1.5, 0.0, 0.0])
    means = np.asarray(ball().means) + np.stack([still, still + away])
    trajectory = trajectory_io.Trajectory(np.array([0.0, 1.0]), means.astype(np.float32))
    trajectory_io.write_trajectory(tmp_path / "moves.npz", trajectory)
    scene = f"--show={tmp_path / 'ball.ply'}", f"--trajectory={tmp_path / 'moves.npz'}"

    first = red_middle(look_at_viewer(chromium, settled(), *scene))
    assert first is not None
    then = red_middle(look_at_viewer(chromium, settled(), *scene, "--frame=1"))
    assert then is not None and then < first - 0.2 * SIZE


@needs_viser
@needs_browser
@pytest.mark.slow
def test_the_page_shows_a_mesh_in_its_colours(chromium, tmp_path):
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    colors = np.tile(np.float32([0.1, 0.7, 0.1]), (4, 1))
    mesh_io.write_glb(tmp_path / "a.glb", Mesh(corners, triangles, colors))

    def is_green(picture):
        green = picture[..., 1] - np.maximum(picture[..., 0], picture[..., 2])
        return np.mean(green > 0.2) > 0.1

    assert is_green(look_at_viewer(chromium, is_green, f"--show={tmp_path / 'a.glb'}"))


@needs_viser
def test_it_ends_by_itself_and_takes_the_next_free_port(tmp_path):
    splat_io.write_splats(tmp_path / "ball.ply", ball())
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = start(f"--show={tmp_path / 'ball.ply'}", f"--port={port}", seconds=0.1)
        output, errors = server.communicate(timeout=commands.SECONDS)
    assert server.returncode == 0, errors
    assert "400 Gaussians" in output and f"localhost:{port}" not in output


@needs_viser
def test_a_trajectory_of_another_scene_is_refused_in_one_line(tmp_path):
    splat_io.write_splats(tmp_path / "ball.ply", ball())
    moves = trajectory_io.Trajectory(np.zeros(1), np.zeros((1, 7, 3)))
    trajectory_io.write_trajectory(tmp_path / "moves.npz", moves)
    files = f"--show={tmp_path / 'ball.ply'}", f"--trajectory={tmp_path / 'moves.npz'}"
    done = commands.run("view", "--open=false", *files)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "expected means of shape [1, 400, 3], found [1, 7, 3]" in done.stderr


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


@pytest.mark.parametrize("aspect", [0.45, 0.8, 1.0, 1.7])
def test_in_a_narrow_picture_the_subject_stands_at_the_top_and_whole(aspect):
    fov, extent = np.radians(30), 2.0
    distance = 0.5 * extent / np.tan(0.5 * fov)
    up, away = np.array([0.0, 0.0, 1.0]), np.array([0.6, -0.8, 0.0])
    start = start_for(Start(distance * away, np.zeros(3), up, extent), aspect)
    camera = types.SimpleNamespace(aspect=aspect, fov=fov, **start._asdict(), up_direction=up)
    ours = camera_of(camera)
    right = np.cross(up, away)
    corners = [u * right + v * up for u in (-1, 1) for v in (-1, 1)]
    local = np.array(corners) @ ours.rotation.T + ours.translation
    x, y = (local[:, :2] / local[:, 2:] * ours.focal + ours.center).T
    assert x.min() > -3 and x.max() < ours.width + 3
    assert abs(y.min()) < 3 or aspect > 1.0
    assert y.max() <= ours.height * min(aspect, 1.0) + 3


@pytest.mark.slow
@needs_viser
def test_a_still_holds_the_splats_in_sight_and_takes_the_next_name(tmp_path):
    class Client:
        class camera:
            position, look_at = np.array([0.0, 0.0, 30.0]), np.zeros(3)
            up_direction, fov, aspect = np.array([0.0, 1.0, 0.0]), np.radians(30.0), 1.0

        @staticmethod
        def add_notification(*args, **kwargs):
            pass

    shown = [
        SplatsShown("ball.ply", ball(), "y"),
        SplatsShown("other.ply", ball((9, 9, 9)), "y"),
    ]
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


def test_time_runs_as_fast_as_it_should_past_frames_that_are_late():
    seconds = np.array([0.0, 0.1, 0.2, 0.5])
    assert following_frame(seconds, 0, 0.05) == (0, 0.05)
    following, left = following_frame(seconds, 0, 0.27)
    assert following == 2 and abs(left - 0.07) < 1e-9
    assert following_frame(seconds, 1, 7.0)[0] == 3
    assert following_frame(seconds, 3, 0.4)[0] == 3 and following_frame(seconds, 3, 0.6)[0] == 0
    assert following_frame(seconds[:1], 0, 9.0)[0] == 0


@pytest.mark.slow
@needs_viser
def test_matter_plays_in_time_and_a_still_has_its_colours_turned(tmp_path):
    scene = ball(count=30)
    scene = scene.replace(harmonics=jnp.pad(scene.harmonics, ((0, 0), (0, 3), (0, 0))) + 0.1)
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    rest = np.asarray(scene.means)
    trajectory = trajectory_io.Trajectory(
        seconds=np.array([0.0, 1.0]),
        means=np.stack([rest, rest @ turn.T + np.float32([1, 0, 0])]),
        deformation=np.tile(np.stack([np.eye(3), turn])[:, None], (1, 30, 1, 1)),
        rest=rest,
    )
    moving = MovingShown(SplatsShown("ball.ply", scene, "y"), trajectory, 30.0)
    viewer = Viewer([moving], "y", (1.0, 1.0, 1.0), tmp_path, 8720)
    try:
        viewer.add_time(0, 0)
        viewer.tick()
        assert viewer.time.frame == 0  # it does not play yet
        viewer.time.playing.value = True
        viewer.clock -= 1.2
        viewer.tick()
        assert viewer.time.frame == 1
        shown = viewer.layers[0].centers / viewer.unit
        np.testing.assert_allclose(shown, trajectory.means[1], atol=1e-5)
        still = viewer._as_it_is(0).gaussians
        viewer.clock -= 0.6
        viewer.tick()
        assert viewer.time.frame == 0  # from the start again
    finally:
        viewer.server.stop()
    expected = move_gaussians(scene, turn.astype(np.float32), np.float32([1, 0, 0]))
    np.testing.assert_allclose(still.harmonics, expected.harmonics, atol=1e-6)
    np.testing.assert_allclose(still.means, expected.means, atol=1e-6)


@pytest.fixture(scope="module")
def ready():
    return make_coarse(read_scene_file("ball_drop"), shapes.shape("ball"), 0, "z", 300)


@pytest.fixture
def panel(ready, tmp_path):
    play = Play(ready)
    scene = playing_scene(SplatsShown("ball", shapes.shape("ball"), "-y"), play)
    viewer = Viewer([scene], scene.up, (1.0, 1.0, 1.0), tmp_path, 8740)
    yield PlayPanel(viewer, 0, play), viewer
    viewer.server.stop()


def middle(viewer):
    return np.asarray(viewer.layers[0].centers).mean(0) / viewer.unit


@pytest.mark.slow
@needs_viser
def test_a_simulation_waits_for_a_page_and_is_framed_with_its_floor(panel):
    panel, viewer = panel
    start = middle(viewer)
    panel.tick()
    time.sleep(0.05)
    panel.tick()
    assert float(panel.play.state.time) == 0.0
    assert viewer.shown[0].up == "z"
    points = panel.play.into_box(viewer.subject.points)
    floor = floor_height(panel.play.scene)
    assert points[:, 2].min() == pytest.approx(floor, abs=1e-3)
    panel.advance(0.1)
    fallen = (start - middle(viewer)) * float(panel.play.placement.scale)
    np.testing.assert_allclose(fallen, [0, 0, 0.049], atol=2e-3)


@pytest.mark.slow
@needs_viser
def test_what_is_clicked_on_follows_the_handle_on_the_page(panel):
    panel, viewer = panel
    start = middle(viewer)
    panel._set_gravity(False)
    panel.pick(viewer.unit * np.array([0.0, -5.0, 0.0]), np.array([0.0, 1.0, 0.0]))
    assert panel.handle.visible and panel.play.num_held and not panel.release_button.disabled
    way = np.array([0.0, -0.6, 0.0])  # away from the middle: it need not turn
    panel.handle.position = tuple(panel.handle.position + viewer.unit * way)
    for _ in range(8):
        panel.advance(1 / 30)
    moved = middle(viewer) - start
    assert moved @ way > 0.6 * way @ way
    still = viewer._as_it_is(0).gaussians  # with the floor
    assert len(still.means) > len(panel.play.gaussians.means)
    np.testing.assert_allclose(still.means[:20_000].mean(0) - start, moved, atol=0.05)
    panel.let_go()
    assert not panel.handle.visible and not panel.play.num_held
    panel.restart()
    np.testing.assert_allclose(middle(viewer), start, atol=1e-4)


@pytest.mark.slow
@needs_viser
@needs_browser
def test_the_page_shows_where_the_simulation_has_come(chromium, panel):
    panel, viewer = panel
    panel.advance(0.22)  # when it hits the floor

    def has_fallen(picture):
        is_red = (picture[..., 0] > 0.6) & (picture[..., 1:] < 0.35).all(-1)
        # The page frames where the ball starts, above its middle, and where it falls, below.
        return is_red.sum() > 50 and np.flatnonzero(is_red.any(1)).mean() > 0.55 * SIZE

    with browser.page(chromium, f"http://localhost:{viewer.port}", SIZE, SIZE) as page:
        assert has_fallen(browser.look_until(page, has_fallen))


@pytest.mark.slow
@needs_viser
@pytest.mark.command
def test_the_command_makes_a_scene_ready_and_ends_by_itself():
    arguments = "--show=ball", "--scene=ball_drop", "--max_particles=300"
    server = start(*arguments, seconds=0.1)
    output, errors = server.communicate(timeout=commands.SECONDS)
    assert server.returncode == 0, errors
    assert "particles" in output and "compiling the simulation" in output


@needs_viser
@pytest.mark.slow
def test_a_simulation_that_fails_says_so_and_can_be_restarted(panel, capsys):
    panel, _ = panel
    state = panel.play.state
    panel.play.state = state.replace(x=state.x + np.float32([0, 0, 0.2]))
    panel.advance(0.1)
    panel._tell()
    assert "restart it" in capsys.readouterr().err and "Stopped" in panel.text.content
    panel.restart()
    panel._tell()
    assert "Stopped" not in panel.text.content and panel.advance(0.01) > 0


def test_the_flag_of_old_names_the_new_one():
    done = commands.run("view", "--show=ball", "--simulate=ball_drop")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "expected --scene for a scene file, found --simulate" in done.stderr


@needs_viser
def test_a_simulation_and_a_trajectory_are_refused_in_one_line():
    files = "--show=ball", "--scene=ball_drop", "--trajectory=none.npz"
    done = commands.run("view", "--open=false", *files)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "expected --trajectory or --scene, found both" in done.stderr
