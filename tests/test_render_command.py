"""The command as its users meet it."""

import functools
import json

import commands
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from render import capture_io, harmonics, mesh_io, splat_io, video_io
from render.camera import perspective_camera
from render.gaussians import Gaussians
from render.mesh import Mesh
from scripts.shell.scenes import azimuths, color, frames_in_time, nearest_axis, picture_size
from scripts.shell.shown import MeshShown, MovingShown, SplatsShown, read_shown
from sim import trajectory_io
from sim.carry import find_neighbours

run = functools.partial(commands.run, "render")


def pole():
    """A red ball above a green one, y up."""
    rng = np.random.default_rng(0)
    means = rng.normal(0, 0.1, (200, 3))
    means[:100, 1] += 0.5
    rgb = np.where(np.arange(200)[:, None] < 100, (0.9, 0.1, 0.1), (0.1, 0.7, 0.1))
    return Gaussians(
        means=jnp.asarray(means, jnp.float32),
        quats=jnp.tile(jnp.array([1.0, 0, 0, 0]), (200, 1)),
        log_scales=jnp.full((200, 3), np.log(0.05), jnp.float32),
        logit_opacities=jnp.full(200, 4.0),
        harmonics=jnp.asarray((rgb[:, None] - 0.5) / harmonics.CONSTANT, jnp.float32),
    )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    splat_io.write_splats(folder / "up.ply", pole(), up="y")
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0]], np.float32)
    mesh_io.write_ply(folder / "mesh.ply", Mesh(corners, np.array([[0, 1, 2]], np.int32)))
    (folder / "text.ply").write_text("no such thing")
    shift = np.array([[[0, 0, 0]], [[3, 0, 0]]]) + np.asarray(pole().means)
    moves = trajectory_io.Trajectory(np.array([0.0, 1.0]), shift)
    trajectory_io.write_trajectory(folder / "moves.npz", moves)
    rest = np.random.default_rng(1).uniform(-1, 1, (50, 3))
    binding = find_neighbours(pole().means, rest)
    matter = trajectory_io.Trajectory(
        seconds=np.array([0.0, 1.0]),
        means=np.stack([rest, rest + np.float32([3, 0, 0])]),
        index=np.full(50, -1),
        deformation=np.tile(np.eye(3), (2, 50, 1, 1)),
        rest=rest,
        followers=np.arange(200),
        neighbours=binding.index,
        weights=binding.weights,
    )
    trajectory_io.write_trajectory(folder / "matter.npz", matter)
    camera = perspective_camera((0, 0.25, 3), (0, 0.25, 0), 64, 48)
    capture_io.write_transforms(folder / "path.json", [camera, camera], ["a.png", "b.png"])
    return folder


@pytest.mark.compiles
def test_a_still_shows_the_scene_the_right_way_up_from_each_azimuth(inputs, tmp_path):
    done = run(
        f"--show={inputs / 'up.ply'}",
        f"--out={tmp_path}",
        "--still",
        "--azimuth=0,180",
        "--size=64",
        "--elevation=0",
    )
    assert done.returncode == 0, done.stderr
    picture = np.asarray(Image.open(tmp_path / "still.png"), float) / 255
    assert picture.shape == (64, 2 * 64 + 4, 3)
    for left in (0, 68):
        view = picture[:, left : left + 64]
        red, green = ((view[..., i] - view[..., 1 - i]) > 0.4 for i in (0, 1))
        rows = np.arange(64)[:, None] * np.ones(64)
        assert red.sum() > 100 and green.sum() > 100
        assert rows[red].mean() < 32 < rows[green].mean()
        assert 40 < rows[green].max() - rows[red].min() < 62  # whole, and large
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["up"] == "y" and config["found_distance"] > 0
    np.testing.assert_allclose(config["found_target"], [0, 0.25, 0], atol=0.1)


@pytest.mark.slow
def test_a_trajectory_moves_the_scene_and_cameras_are_followed(inputs, tmp_path):
    moving = run(
        f"--show={inputs / 'up.ply'}",
        f"--trajectory={inputs / 'moves.npz'}",
        "--azimuth=0",
        "--size=64",
        "--fps=1",
        f"--out={tmp_path / 'moving'}",
    )
    assert moving.returncode == 0, moving.stderr
    first, last = video_io.read_video(tmp_path / "moving" / "video.mp4")
    left, right = np.asarray(first) < 200, np.asarray(last) < 200
    assert left[:, :32].sum() > 200 > 50 > left[:, 32:].sum()  # the camera sees the whole way
    assert right[:, 32:].sum() > 200 > 50 > right[:, :32].sum()
    path = run(
        f"--show={inputs / 'up.ply'}",
        f"--cameras={inputs / 'path.json'}",
        f"--out={tmp_path / 'path'}",
    )
    assert path.returncode == 0, path.stderr
    frames = list(video_io.read_video(tmp_path / "path" / "video.mp4"))
    assert len(frames) == 2 and np.asarray(frames[0]).shape == (48, 64, 3)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["colmap", "camera_path.json"])
def test_cameras_of_other_programs_are_followed(inputs, tmp_path, form):
    """Both stand before the pole; COLMAP's second camera is of another size and lens."""
    path = tmp_path / form
    if form == "colmap":
        path.mkdir()
        lenses = "1 OPENCV 64 48 80 80 32 24 0.1 0 0 0\n2 PINHOLE 30 60 50 50 15 30\n"
        (path / "cameras.txt").write_text(lenses)
        poses = [f"{i} 0 1 0 0 0 0.25 3 {i} {i}.png\n\n" for i in (1, 2)]  # half a turn about x
        (path / "images.txt").write_text("".join(poses) + "3 1 0 0 0 0 0 0 1 3.png\n\n")
        expected = "cameras of 2 sizes, shown as 64 x 48"
    else:
        pose = np.eye(4)
        pose[:3, 3] = 0, 0.25, 3
        flight = [{"camera_to_world": pose.ravel().tolist(), "fov": 40.0, "aspect": 1.3}] * 3
        content = {"render_width": 64, "render_height": 48, "camera_path": flight}
        path.write_text(json.dumps(content))
        expected = "3 pictures of 64 x 48"
    done = run(f"--show={inputs / 'up.ply'}", f"--cameras={path}", f"--out={tmp_path / 'out'}")
    assert done.returncode == 0 and expected in done.stdout, done.stderr
    views = [np.asarray(view) for view in video_io.read_video(tmp_path / "out" / "video.mp4")]
    assert len(views) == 3 and views[0].shape == (48, 64, 3)
    for view in views[:2]:
        red, green = ((view[..., i] - view[..., 1 - i].astype(float)) > 60 for i in (0, 1))
        rows = np.arange(48)[:, None] * np.ones(64)
        assert rows[red].mean() < 24 < rows[green].mean()


@pytest.mark.slow
@pytest.mark.parametrize("scene", ["up.ply", "mesh.ply"])
def test_matter_moves_splats_and_meshes(inputs, tmp_path, scene):
    done = run(
        f"--show={inputs / scene}",
        f"--trajectory={inputs / 'matter.npz'}",
        "--azimuth=0",
        "--size=64",
        "--fps=1",
        f"--out={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    first, last = (np.asarray(frame) < 250 for frame in video_io.read_video(tmp_path / "video.mp4"))
    assert first[:, :32].sum() > 100 > 30 > first[:, 40:].sum()
    assert last[:, 32:].sum() > 100 > 30 > last[:, :24].sum()


@pytest.mark.parametrize(
    "arguments, line",
    [
        (("--show={inputs}/none.ply",), "expected a file, found nothing at"),
        (("--show={inputs}/text.ply",), "text.ply"),
        (("--scene={inputs}/up.ply",), "expected --show for what is shown, found --scene"),
        (("--show={inputs}/up.ply", "--size=3"), "expected --size such as 512 or 640x480"),
        (("--show={inputs}/up.ply", "--background=pink"), "expected a colour"),
        (("--show={inputs}/up.ply", "--azimuth=a:b"), "expected --azimuth such as"),
        (
            ("--show={inputs}/mesh.ply", "--trajectory={inputs}/moves.npz"),
            "expected a trajectory of matter to move a mesh, found no rest in",
        ),
    ],
)
def test_bad_input_takes_one_line(inputs, tmp_path, arguments, line):
    done = run(f"--out={tmp_path}", *(a.format(inputs=inputs) for a in arguments))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and line in done.stderr


def test_scenes_are_told_by_their_content(inputs):
    splats, mesh = (read_shown(str(inputs / name)) for name in ("up.ply", "mesh.ply"))
    assert isinstance(splats, SplatsShown) and splats.up == "y" and splats.text == "200 Gaussians"
    assert isinstance(mesh, MeshShown) and mesh.up == "y" and mesh.text == "1 triangles"


@pytest.mark.compiles
@pytest.mark.parametrize("name", [pytest.param("up.ply", marks=pytest.mark.slow), "mesh.ply"])
def test_what_moves_is_framed_and_drawn_where_it_comes_to(inputs, name):
    still = read_shown(str(inputs / name))
    moving = MovingShown(still, still.read_trajectory(str(inputs / "matter.npz")), 1.0)
    assert moving.num_pictures == 2 and still.num_pictures is None
    reach = np.ptp(moving.subject.points[:, 0]) - np.ptp(still.subject.points[:, 0])
    np.testing.assert_allclose(reach, 3.0, atol=0.05)
    camera = perspective_camera((1.5, 0, 9), (1.5, 0, 0), 64, 64)
    views = [np.asarray(view.alpha) for view in moving.frames([camera] * 3, (1.0, 1.0, 1.0))]
    at = [np.average(np.arange(64), weights=view.sum(0)) for view in views]
    assert at[0] < 31 < 33 < at[1] and at[2] == at[1]  # the last moment stays


def test_a_trajectory_runs_in_real_time():
    trajectory = trajectory_io.Trajectory(np.array([2.0, 2.1, 2.5]), np.zeros((3, 1, 3)))
    np.testing.assert_array_equal(frames_in_time(trajectory.seconds, 10.0), [0, 1, 1, 1, 1, 2])


def test_sizes_angles_and_colours_are_read():
    assert picture_size("640x480") == (640, 480) and picture_size("96") == (96, 96)
    np.testing.assert_array_equal(azimuths(None, 4, False), [0, 90, 180, 270])
    np.testing.assert_array_equal(azimuths("30", 3, False), [30, 30, 30])
    np.testing.assert_array_equal(azimuths("-40,0", 9, True), [-40, 0])
    assert color("#ff0080") == (1.0, 0.0, 128 / 255) and color("0,0.5,1") == (0.0, 0.5, 1.0)


def test_up_is_named_by_its_nearest_axis():
    assert nearest_axis(np.array([-0.2, -0.96, -0.15])) == "-y"
    assert nearest_axis(np.array([0.1, 0.2, 0.9])) == "z"


@pytest.mark.compiles
def test_a_capture_tells_where_what_is_shown_lies(inputs, tmp_path):
    flags = ("--azimuth=-60:60", "--elevations=-30:60", "--frames=8", "--size=48x40")
    done = run(f"--show={inputs / 'mesh.ply'}", f"--capture={tmp_path / 'posed'}", *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("posed: 8 pictures of 48 x 40 pixels\n")
    capture = capture_io.read_capture(tmp_path / "posed")
    assert capture.names == [f"images/{i:04d}.png" for i in range(8)] and not capture.left_out
    assert capture.is_cut_out
    unit = json.loads((tmp_path / "posed" / "transforms.json").read_text())["integer_depth_scale"]
    assert unit <= 1e-3  # of a mesh of two metres
    inside = 0
    for name, camera, mask in zip(capture.names, capture.cameras, capture.masks, strict=True):
        levels = np.asarray(Image.open(tmp_path / "posed" / name.replace("images", "depth")))
        assert levels.dtype == np.uint16 and not levels[mask == 0].any()
        rows, columns = np.nonzero(mask == 1)
        pixels = np.stack([columns, rows], -1) + 0.5
        depth = levels[rows, columns] * unit
        local = np.c_[(pixels - camera.center) / camera.focal, np.ones(len(depth))] * depth[:, None]
        points = (local - camera.translation) @ np.asarray(camera.rotation)
        np.testing.assert_allclose(points[:, 2], 0, atol=5e-3)  # the plane that the triangle is in
        assert np.all(points[:, 0] > points[:, 1] - 0.1) and np.abs(points).max() < 1.1
        inside += len(depth)
    assert inside > 1000
    assert json.loads((tmp_path / "posed" / "config.json").read_text())["found_distance"] > 0


@pytest.mark.parametrize(
    "flag, line",
    [
        ("--still", "expected --capture without --still, found both"),
        ("--out=there", "expected --capture without --out, found both"),
        ("--elevations=60:-20", "expected --elevations from -90 to 90, found 60:-20"),
        ("--elevations=a", "expected --elevations such as -20:60 or 15, found a"),
    ],
)
def test_flags_that_make_no_capture_are_refused(inputs, tmp_path, flag, line):
    done = run(f"--show={inputs / 'mesh.ply'}", f"--capture={tmp_path / 'posed'}", flag)
    assert done.returncode == 2 and done.stderr == f"render: {line}\n"
    assert not (tmp_path / "posed").exists()
