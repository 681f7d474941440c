"""From a video or photos to a capture: with a stand-in for COLMAP and, slowly, with itself."""

import functools
import importlib.util
import json
import pathlib
import shutil

import commands
import numpy as np
import pytest
import skimage.data
from PIL import Image
from scipy import ndimage
from small_captures import POINTS, colmap_parts, write_colmap_text

from render import capture_io, image_io, rasterize, video_io
from render.camera import orbit
from render.captures.sharpness import sharpest, sharpness
from render.captures.similarity import Similarity
from render.mesh import Mesh
from scripts.capturing import masks_io, poses_io
from scripts.capturing.frames_io import Frame
from scripts.capturing.poses_io import ring_pairs
from scripts.shell import command
from scripts.shell.downloads_io import cache_folder

run = functools.partial(commands.run, "prepare_capture")
needs_colmap = pytest.mark.skipif(
    importlib.util.find_spec("pycolmap") is None, reason="wants the extra sfm"
)
NUM_PHOTOS, SIZE = 9, (24, 18)


def noise(height=48, width=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_blurred_pictures_are_less_sharp():
    picture = noise(600, 1400).astype(float)
    blurred = [ndimage.gaussian_filter(picture, (s, s, 0)) for s in (0, 1, 2, 4)]
    scores = [sharpness(one.astype(np.uint8)) for one in blurred]
    assert scores == sorted(scores, reverse=True) and scores[0] > 5 * scores[2]
    # A checkerboard's Laplacian is eight times its deviation from grey.
    board = (np.indices((8, 8)).sum(0) % 2)[..., None] * np.ones(3)
    assert sharpness(board) == pytest.approx((255 * 4) ** 2)
    assert sharpness((255 * board).astype(np.uint8)) == pytest.approx((255 * 4) ** 2)


def test_the_sharpest_of_each_stretch_is_kept():
    scores = [1, 5, 2, 9, 3, 4, 8, 7, 6]
    assert sharpest(scores, 3) == [1, 3, 6]
    assert sharpest(scores, 9) == sharpest(scores, 100) == list(range(9))


def test_frames_of_a_video_are_matched_with_near_ones_and_around_its_end():
    pairs = ring_pairs(60)
    assert len(pairs) == len(set(pairs)) and all(first < second for first, second in pairs)
    assert {(0, 1), (0, 10), (0, 59), (5, 55), (3, 19)} <= set(pairs) and (0, 12) not in pairs
    assert ring_pairs(3) == [(0, 1), (0, 2), (1, 2)]


@pytest.fixture
def photos(tmp_path):
    """Nine photos, and masks of them."""
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(NUM_PHOTOS):
        Image.fromarray(noise(*SIZE[::-1], seed=i)).save(tmp_path / "photos" / f"{i:02}.jpg")
        mask = np.zeros(SIZE[::-1], np.uint8)
        mask[4:12, 5:20] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i:02}.png")
    return tmp_path


@pytest.fixture
def colmap(monkeypatch, tmp_path_factory):
    """Stands in for the process of pycolmap: tells where nine photos are, or no more than some."""
    calls = []

    def stand_in(work, seconds):
        calls.append(json.loads((work / "task.json").read_text()))
        if stand_in.registered:
            truth = tmp_path_factory.mktemp("model")
            write_colmap_text(truth)
            shutil.copytree(truth / "sparse" / "0", work / "model", dirs_exist_ok=True)
            table = work / "model" / "images.txt"
            table.write_text(table.read_text().replace(".png", ".jpg"))
        count = stand_in.registered if len(calls) == 1 else stand_in.then or stand_in.registered
        names = [f"{i:02}.jpg" for i in range(count)]
        found = {"names": names, "num_points": 3, "num_models": 1}
        table = work / "result.json"
        table.write_text(json.dumps(found | {"reprojection_error_px": 0.5}))

    stand_in.registered, stand_in.then = NUM_PHOTOS, None
    stand_in.calls = calls
    monkeypatch.setattr(poses_io, "_run", stand_in)
    monkeypatch.setattr(poses_io, "check_installed", lambda: None)
    return stand_in


def test_photos_become_a_capture_and_the_way_back_is_told(photos, colmap):
    out = photos / "out"
    arguments = (f"--images={photos / 'photos'}", f"--masks={photos / 'masks'}", f"--out={out}")
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert "9 of 9 pictures with poses, 3 points, off by 0.50 pixels" in done.stdout
    (task,) = colmap.calls
    assert task["camera"] == "SIMPLE_PINHOLE" and task["pairs"] is None and task["is_one_camera"]
    capture = capture_io.read_capture(out)
    assert capture.names == [f"images/{i:02}.jpg" for i in range(NUM_PHOTOS)]
    assert capture.is_cut_out and all(mask.sum() == 8 * 15 for mask in capture.masks)
    places = np.stack([-np.asarray(c.translation) @ c.rotation for c in capture.cameras])
    assert np.linalg.norm(places, axis=-1).max() == pytest.approx(1, abs=1e-5)
    data = json.loads((out / "transforms.json").read_text())
    moved, scale = np.array(data["applied_transform"]), data["applied_scale"]
    way = Similarity(moved[:, :3], scale * moved[:, 3], scale)
    raw = capture_io.read_cameras(out / "sparse" / "0")
    for camera, (*_, x, y, z) in zip(raw.cameras, colmap_parts(), strict=True):
        np.testing.assert_allclose(camera.translation, (x, y, z), atol=1e-6)
    for camera, there in zip(raw.cameras, capture.cameras, strict=True):
        np.testing.assert_allclose(way.camera(camera).rotation, there.rotation, atol=1e-5)
        np.testing.assert_allclose(way.camera(camera).translation, there.translation, atol=1e-5)
    np.testing.assert_allclose(capture.points, way.points(POINTS), atol=1e-5)
    report = json.loads((out / "report.json").read_text())
    assert report["registered_share"] == 1 and report["advice"] == []

    again = run(*arguments)
    assert again.returncode == 0 and len(colmap.calls) == 1  # nothing is done twice
    assert "going on with the 9 pictures of an earlier run" in again.stdout
    assert run(*arguments, "--masks=none").returncode == 0
    bare = capture_io.read_capture(out)
    assert not bare.is_cut_out and set(bare.masks) == {None}
    other = run(*arguments, "--max_side=100")
    assert other.returncode == 2 and "max_side of 1600, found 100" in other.stderr


def test_too_few_poses_are_a_loud_failure(photos, colmap):
    colmap.registered, colmap.then = 2, 1  # the better one counts
    out = photos / "out"
    done = run(f"--images={photos / 'photos'}", f"--out={out}")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "poses of at least 80% of 9 pictures, found 2 (22%): there is little" in done.stderr
    assert [task["camera"] for task in colmap.calls] == ["SIMPLE_PINHOLE", "SIMPLE_RADIAL"]
    assert not (out / "transforms.json").exists()
    report = json.loads((out / "report.json").read_text())
    assert report["registered"] == 2 and report["num_left_out"] == 7
    assert report["left_out"][0] == {"name": "02.jpg", "reason": "no pose found"}
    assert report["camera_model"] == "SIMPLE_PINHOLE"
    colmap.registered = colmap.then = 0
    none = run(f"--images={photos / 'photos'}", f"--out={photos / 'none'}", "--least=0")
    assert none.returncode == 1 and "found 0 (0%)" in none.stderr


def test_blurred_frames_of_a_video_are_left_out(photos, colmap):
    colmap.registered = 0
    frames = [noise(96, 128, seed=i) for i in range(12)]
    frames[4:6] = [np.full((96, 128, 3), 128, np.uint8)] * 2  # both of one stretch
    video_io.write_video(photos / "film.mp4", frames, 10)
    out = photos / "out"
    done = run(f"--video={photos / 'film.mp4'}", "--frames=6", "--max_side=64", f"--out={out}")
    assert "of 5 pictures, found 0" in done.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["num_read"] == 12 and report["total"] == 5 and report["num_left_out"] == 6
    assert report["left_out"][0]["reason"].startswith("blurred: sharpness")
    names = sorted(path.name for path in (out / "images").iterdir())
    assert len(names) == 5 and not {"frame_000004.jpg", "frame_000005.jpg"} & set(names)
    assert np.shape(image_io.read_photo(out / "images" / names[0])) == (48, 64, 3)
    assert colmap.calls[0]["pairs"] == [list(pair) for pair in ring_pairs(5)]


@pytest.mark.parametrize(
    "arguments, line",
    [
        ("", "expected --video or --images, found neither"),
        ("--video=a.mp4 --images=b.jpg", "expected --video or --images, found both"),
        ("--video={here}/none.mp4", "expected a video file, found nothing at {here}/none.mp4"),
        ("--video={here}/photos/00.txt", "expected a video, found {here}/photos/00.txt: ffmpeg"),
        ("--video={here}/cut.mp4", "expected a video, found {here}/cut.mp4: ffmpeg"),
        ("--images={here}/broken", "expected an image, found {here}/broken/01.jpg"),
        ("--images={here}/photos/00.jpg,{here}/photos/01.jpg", "at least 3 photos, found 2"),
        ("--images={here}/photos --masks=me", "expected person, none or a folder in --masks"),
        ("--images={here}/photos --masks={here}/photos/no", "none or a folder in --masks, found"),
        (
            "--images={here}/photos --masks={here}/few",
            "expected a mask called 00.png in {here}/few",
        ),
        ("--images={here}/photos --masks={here}/tall", "of 24 x 18 pixels or larger by a factor"),
    ],
)
def test_bad_input_takes_one_line(photos, colmap, arguments, line):
    (photos / "photos" / "00.txt").write_text("no film")
    shutil.copytree(photos / "photos", photos / "broken")
    (photos / "broken" / "01.jpg").write_text("no photo")
    (photos / "cut.mp4").write_bytes(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41")  # its first box
    (photos / "few").mkdir()
    (photos / "tall").mkdir()
    for i in range(NUM_PHOTOS):
        Image.new("L", (24, 24)).save(photos / "tall" / f"{i:02}.png")
    done = run(*arguments.format(here=photos).split(), f"--out={photos / 'out'}")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert line.format(here=photos) in done.stderr
    assert not colmap.calls


def test_the_users_own_photos_and_masks_are_not_written_over(photos, colmap):
    (photos / "photos").rename(photos / "images")
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    own, out = f"--images={photos / 'images'}", f"--out={photos}"
    refused = run(own, out)
    line = f"expected --out away from the photos that it is made of, found {photos / 'images'}\n"
    assert refused.returncode == 2 and refused.stderr.endswith(line)
    refused = run(own, f"--masks={photos / 'masks'}", out)
    assert refused.returncode == 2 and "--out away from the masks" in refused.stderr
    assert before == {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}


def test_names_with_spaces_become_ones_without(photos, colmap):
    colmap.registered = 0
    for folder in ("photos", "masks"):
        for path in (photos / folder).iterdir():
            path.rename(path.with_name(f"my {path.name}"))
    arguments = f"--images={photos / 'photos'}", f"--masks={photos / 'masks'}"
    out = f"--out={photos / 'out'}"
    run(*arguments, out, "--matching=sequential")
    names = [f"my_{i:02}.jpg" for i in range(NUM_PHOTOS)]
    assert colmap.calls[0]["names"] == names and colmap.calls[0]["is_one_camera"]
    assert sorted(path.stem for path in (photos / "out" / "masks").iterdir()) == [
        name[:-4] for name in names
    ]


def test_masks_get_the_size_of_their_pictures(photos):
    frame = Frame("00.jpg", "00.jpg", 1.0, SIZE[0] // 2, SIZE[1] // 2)
    masks_io.write_own_masks(photos / "out", [frame], photos / "masks", lambda: None)
    mask = np.asarray(Image.open(photos / "out" / "masks" / "00.png")) / 255
    assert mask.shape == (9, 12) and mask.sum() == pytest.approx(8 * 15 / 4, abs=0.1)


def test_pictures_that_are_gone_are_taken_again(photos, colmap):
    colmap.registered = 0
    Image.fromarray(noise(24, 18)).save(photos / "photos" / "08.jpg")  # upright
    arguments = f"--images={photos / 'photos'}", f"--out={photos / 'out'}"
    run(*arguments)
    assert not colmap.calls[0]["is_one_camera"]
    (photos / "out" / "images" / "03.jpg").unlink()
    assert "going on" not in run(*arguments).stdout
    assert len(list((photos / "out" / "images").iterdir())) == NUM_PHOTOS


def test_a_lens_that_bends_is_told(tmp_path):
    write_colmap_text(tmp_path / "found", f"SIMPLE_RADIAL {SIZE[0]} {SIZE[1]} 30 12 9 0.05")
    (tmp_path / "found" / "sparse" / "0").rename(tmp_path / "model")
    attempt = poses_io.Attempt("SIMPLE_RADIAL", "exhaustive")
    names = [f"{i:02}.png" for i in range(NUM_PHOTOS)]
    poses = poses_io.Poses(attempt, tmp_path, names, 3, 1, 0.5)
    poses_io.write_capture(tmp_path / "out", poses, has_masks=False)
    data = json.loads((tmp_path / "out" / "transforms.json").read_text())
    found = [data[name] for name in ("camera_model", "k1", "k2", "p1", "p2", "fl_x")]
    assert found == ["OPENCV", 0.05, 0, 0, 0, 30] and "masks_cut_out" not in data


def test_a_worker_that_fails_or_takes_too_long_says_so(tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    monkeypatch.setattr(poses_io, "_WORKER", worker)
    (tmp_path / "result.json").write_text("{}")  # of a run before it
    worker.write_text("print('first'); raise SystemExit('no room\\n    @   0x7f stack')")
    with pytest.raises(command.WorkFailed, match="pycolmap failed with status 1: no room"):
        poses_io._run(tmp_path, 60.0)
    (tmp_path / "result.json").unlink()
    worker.write_text("")
    with pytest.raises(command.WorkFailed, match="pycolmap failed with status 0: it said nothing"):
        poses_io._run(tmp_path, 60.0)
    worker.write_text("import sys; sys.stdin.read()")  # waits for as long as it is waited for
    with pytest.raises(command.WorkFailed, match="as --minutes were over"):
        poses_io._run(tmp_path, 0.0)


def test_without_pycolmap_a_line_says_how_to_get_it(photos, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = run(f"--images={photos / 'photos'}", f"--out={photos / 'out'}")
    assert done.returncode == 2 and 'pip install -e ".[sfm]"' in done.stderr
    assert not (photos / "out").exists()


def cube(half, middle):
    """The six sides [6, 4, 3] of a cube."""
    sides = []
    for axis in range(3):
        for sign in (-1, 1):
            corners = np.zeros((4, 3))
            corners[:, axis] = sign
            corners[:, axis - 1] = [-1, 1, 1, -1]
            corners[:, axis - 2] = [-1, -1, 1, 1]
            sides.append(half * corners + middle)
    return np.array(sides)


def room():
    """A cube in a room, both covered with patches of many sizes, a piece of one picture each."""
    sides = np.concatenate([cube(0.5, np.zeros(3)), cube(3.5, np.array([0, 1.5, 0]))])
    count, cells = len(sides), 4
    corners = 0.01 + 0.98 * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    places = [np.add(corners, (i % cells, i // cells)) / cells for i in range(count)]
    triangles = [[4 * i + np.array([0, a, a + 1]) for a in (1, 2)] for i in range(count)]
    triangles = np.array(triangles, np.int32).reshape(-1, 3)
    rng, side = np.random.default_rng(0), 1024
    patches = [rng.random((n, n, 3)) for n in (8, 16, 32, 64, 128, 256)]
    picture = sum(np.kron(one, np.ones((side // len(one), side // len(one), 1))) for one in patches)
    return Mesh(
        vertices=sides.reshape(-1, 3).astype(np.float32),
        triangles=triangles,
        uvs=np.concatenate(places).astype(np.float32),
        uv_triangles=triangles,
        texture=((picture - picture.min()) / np.ptp(picture)).astype(np.float32),
    )


@needs_colmap
@pytest.mark.slow
@pytest.mark.compiles
def test_colmap_finds_where_a_rendered_orbit_was_seen_from(tmp_path):
    truth = orbit([0.0, 0, 0], 1.5, 60, 320, 240, elevation_degrees=20.0, fov_degrees=50.0)
    config = rasterize.RenderConfig(supersample=2)
    views = (np.asarray(one.rgb) for one in rasterize.render_frames(room(), truth, config))
    video_io.write_video(tmp_path / "film.mp4", (np.clip(view, 0, 1) for view in views), 10)
    done = run(f"--video={tmp_path / 'film.mp4'}", f"--out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    found = capture_io.read_cameras(tmp_path / "out")
    assert len(found.cameras) >= 54  # 90 %
    numbers = [int(pathlib.Path(name).stem[-6:]) for name in found.names]
    poses = [(np.asarray(c.rotation, float), np.asarray(c.translation, float)) for c in truth]
    eyes = np.stack([-poses[n][1] @ poses[n][0] for n in numbers])
    radius = np.linalg.norm(eyes - eyes.mean(0), axis=1).mean()
    ours = np.stack([-np.asarray(c.translation) @ np.asarray(c.rotation) for c in found.cameras])
    # A turn about the vertical is all that is left open: up, middle and size are as they should be.
    distance = np.linalg.norm(eyes[0])
    plane = np.array([1.0, 0, 1j])
    turn = np.vdot(ours @ plane, eyes @ plane)
    turn = turn / abs(turn)
    placed = (ours @ plane) * turn * distance
    error = np.hypot(abs(placed - eyes @ plane), distance * ours[:, 1] - eyes[:, 1])
    assert error.max() < 0.01 * radius
    focal = np.mean([camera.focal for camera in found.cameras])
    assert abs(focal / float(truth[0].focal[0]) - 1) < 0.01


def test_a_person_is_cut_out_of_her_surroundings(tmp_path, monkeypatch):
    pytest.importorskip("ai_edge_litert")
    monkeypatch.delenv("XDG_CACHE_HOME")
    if not (cache_folder("features") / "selfie_segmentation.tflite").is_file():
        pytest.skip("wants the network, which --masks=person fetches")
    image_io.write_image(tmp_path / "images" / "a.jpg", skimage.data.astronaut())
    frame = Frame("a.jpg", "a.jpg", 1.0, 512, 512)
    network = masks_io.check_person_masks()
    assert masks_io.write_person_masks(tmp_path, [frame], network, lambda: None) == []
    mask = np.asarray(Image.open(tmp_path / "masks" / "a.png")) / 255
    assert mask.shape == (512, 512)
    assert mask[60:180, 190:250].mean() > 0.98 and mask[300:480, 100:200].mean() > 0.9
    assert mask[:250, :60].mean() < 0.05 and mask[:250, 330:].mean() < 0.05  # flag and shuttle
