"""A small scene, written in every format by hand, must come back as what it was seen by."""

import json
import pathlib
import struct

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from render.camera import camera_position, orbit, project
from render.capture_io import read_cameras, read_capture, split, write_transforms
from render.undistort import distort, undistort

PLUSH = pathlib.Path(__file__).parents[2] / "shared" / "data" / "plush"
WIDTH, HEIGHT = 24, 18
FOCAL, CENTER = (30.0, 31.0), (12.5, 8.75)
NUM_PHOTOS = 9
POINTS = np.array([[0.0, 0.1, 0.2], [0.3, -0.1, 0.0], [-0.2, 0.2, -0.3]], np.float32)
POINT_COLORS = np.array([[255, 0, 0], [0, 51, 0], [0, 0, 102]], np.uint8)
PIXELS = np.random.default_rng(0).integers(0, 256, (NUM_PHOTOS, HEIGHT, WIDTH, 3), np.uint8)

project = jax.jit(project)


def truth():
    """World-to-camera rotation and translation of each photo; anything rigid will do."""
    rotations = Rotation.random(NUM_PHOTOS, rng=np.random.default_rng(1)).as_matrix()
    return rotations, np.random.default_rng(2).normal(size=(NUM_PHOTOS, 3))


def to_opengl(rotation, translation):
    """Inverts a pose; y then points up and z backwards."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, translation
    return np.linalg.inv(pose) @ np.diag([1.0, -1.0, -1.0, 1.0])


def name_of(i):
    return f"images/{i:02}.png"


def write_photos(folder, pixels=PIXELS, name_of=name_of):
    for i, picture in enumerate(pixels):
        path = folder / name_of(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


def write_points(path):
    lines = [f"element vertex {len(POINTS)}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    lines += [f"property uchar {color}" for color in ("red", "green", "blue")]
    rows = [" ".join(map(str, (*p, *c))) for p, c in zip(POINTS, POINT_COLORS, strict=True)]
    path.write_text("\n".join(["ply", "format ascii 1.0", *lines, "end_header", *rows, ""]))


def transforms():
    """The content of transforms.json, photos in reverse order."""
    poses = [to_opengl(*pose).tolist() for pose in zip(*truth(), strict=True)]
    frames = [{"file_path": name_of(i), "transform_matrix": p} for i, p in enumerate(poses)]
    lens = dict(fl_x=FOCAL[0], fl_y=FOCAL[1], cx=CENTER[0], cy=CENTER[1], w=WIDTH, h=HEIGHT)
    return lens | {"frames": frames[::-1]}


def write_json_capture(folder, **changes):
    write_photos(folder)
    write_points(folder / "points3D.ply")
    (folder / "transforms.json").write_text(json.dumps(transforms() | changes))


def colmap_parts():
    rotations, translations = truth()
    quats = Rotation.from_matrix(rotations).as_quat(scalar_first=True)
    return [(*q, *t) for q, t in zip(quats.tolist(), translations.tolist(), strict=True)]


def write_colmap_text(folder, camera=f"PINHOLE {WIDTH} {HEIGHT} 30 31 12.5 8.75"):
    write_photos(folder)
    sparse = folder / "sparse" / "0"
    sparse.mkdir(parents=True)
    (sparse / "cameras.txt").write_text(f"# cameras\n7 {camera}\n")
    lines = ["# two lines a photo"]
    for i, pose in enumerate(colmap_parts()):
        lines += [" ".join(map(str, (i + 1, *pose, 7, f"{i:02}.png")))]
        lines += ["" if i == 0 else "1.5 2.5 3 4.5 5.5 -1"]  # a photo may see nothing
    (sparse / "images.txt").write_text("\n".join(lines) + "\n")
    points = zip(POINTS.tolist(), POINT_COLORS.tolist(), strict=True)
    rows = [" ".join(map(str, (i, *p, *c, 0.5, 1, 2))) for i, (p, c) in enumerate(points)]
    (sparse / "points3D.txt").write_text("# points\n" + "\n".join(rows) + "\n")


def write_colmap_binary(folder, model=1, params=(*FOCAL, *CENTER)):
    write_photos(folder)
    sparse = folder / "sparse" / "0"
    sparse.mkdir(parents=True)
    lens = struct.pack(f"<QIiQQ{len(params)}d", 1, 7, model, WIDTH, HEIGHT, *params)
    (sparse / "cameras.bin").write_bytes(lens)
    content = struct.pack("<Q", NUM_PHOTOS)
    for i, pose in enumerate(colmap_parts()):
        content += struct.pack("<I7dI", i + 1, *pose, 7) + f"{i:02}.png".encode() + b"\0"
        content += struct.pack("<Q", i) + struct.pack("<ddq", 1.5, 2.5, -1) * i
    (sparse / "images.bin").write_bytes(content)
    content = struct.pack("<Q", len(POINTS))
    for i, (p, c) in enumerate(zip(POINTS.tolist(), POINT_COLORS.tolist(), strict=True)):
        content += struct.pack("<Q3d3BdQ", i, *p, *c, 0.5, i) + struct.pack("<II", 1, 2) * i
    (sparse / "points3D.bin").write_bytes(content)


WRITERS = [write_json_capture, write_colmap_text, write_colmap_binary]


def test_a_camera_without_rotation_looks_along_minus_z_with_y_up(tmp_path):
    pose = np.eye(4)
    pose[2, 3] = 3.0
    frame = {"file_path": "a", "transform_matrix": pose.tolist()}
    lens = {"fl_x": 30.0, "w": 20, "h": 10}
    (tmp_path / "path.json").write_text(json.dumps(lens | {"frames": [frame]}))
    (camera,), names = read_cameras(tmp_path / "path.json")
    assert names == ["a"] and (camera.width, camera.height) == (20, 10)
    np.testing.assert_allclose(camera_position(camera), [0, 0, 3])
    pixels, depth = project(camera, np.array([[0.0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 1]]))
    np.testing.assert_allclose(pixels, [[10, 5], [11, 5], [10, 4], [10, 5]], atol=1e-5)
    np.testing.assert_allclose(depth, [3, 3, 3, 2], atol=1e-6)


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_gives_the_same_capture(tmp_path, write):
    write(tmp_path)
    capture = read_capture(tmp_path)
    for camera, rotation, translation in zip(capture.cameras, *truth(), strict=True):
        np.testing.assert_allclose(camera.rotation, rotation, atol=1e-6)
        np.testing.assert_allclose(camera.translation, translation, atol=1e-6)
        np.testing.assert_allclose(camera.focal, FOCAL)
        np.testing.assert_allclose(camera.center, CENTER)
        assert (camera.width, camera.height, camera.orthographic) == (WIDTH, HEIGHT, False)
    assert [pathlib.Path(name).name for name in capture.names] == [
        f"{i:02}.png" for i in range(NUM_PHOTOS)
    ]
    np.testing.assert_allclose(capture.images, PIXELS / np.float32(255))
    assert capture.images.dtype == np.float32 and capture.masks is None
    np.testing.assert_array_equal(capture.points, POINTS)
    np.testing.assert_allclose(capture.point_colors, POINT_COLORS / 255.0, atol=1e-6)
    up = np.mean([rotation.T @ [0, -1, 0] for rotation in truth()[0]], 0)
    np.testing.assert_allclose(capture.up, up / np.linalg.norm(up), atol=1e-6)


def test_up_is_where_the_cameras_have_it(tmp_path):
    cameras = orbit([0.0, 0.0, 0.0], 1.0, 8, 8, 8, elevation_degrees=30.0)
    write_transforms(tmp_path / "transforms.json", cameras, [f"{i}.png" for i in range(8)])
    write_photos(tmp_path, np.zeros((8, 8, 8, 3), np.uint8), lambda i: f"{i}.png")
    np.testing.assert_allclose(read_capture(tmp_path).up, [0, 1, 0], atol=1e-6)


@pytest.mark.parametrize("has_one_lens", [True, False])
def test_cameras_that_are_written_are_read(tmp_path, has_one_lens):
    cameras = orbit([0.1, 0.2, 0.3], 0.5, 5, 40, 30, elevation_degrees=20.0)
    if not has_one_lens:
        cameras[2] = cameras[2].replace(focal=cameras[2].focal * np.array([1.0, 1.5]), width=50)
    names = [f"view_{i}.png" for i in (3, 1, 4, 0, 2)]  # a path keeps its order
    write_transforms(tmp_path / "path.json", cameras, names)
    found, found_names = read_cameras(tmp_path / "path.json")
    assert found_names == names
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), found, cameras)
    assert ("fl_x" in json.loads((tmp_path / "path.json").read_text())) == has_one_lens


def test_cameras_that_cannot_be_written_are_refused(tmp_path):
    flat = orbit([0.0, 0.0, 0.0], 1.0, 2, 8, 8, orthographic=True)
    with pytest.raises(ValueError, match="expected perspective cameras"):
        write_transforms(tmp_path / "path.json", flat, ["a", "b"])
    with pytest.raises(ValueError, match="a name for each of 2 cameras, found 1"):
        write_transforms(tmp_path / "path.json", flat, ["a"])
    assert not list(tmp_path.iterdir())


def test_a_photos_own_lens_stands_before_that_of_the_file(tmp_path):
    data = transforms()
    data["frames"][0] |= {"fl_x": 60.0, "fl_y": 61.0}  # the last photo, as the order is reversed
    write_json_capture(tmp_path, frames=data["frames"])
    capture = read_capture(tmp_path)
    np.testing.assert_allclose(capture.cameras[-1].focal, [60, 61])
    np.testing.assert_allclose(capture.cameras[-1].center, CENTER)
    np.testing.assert_allclose(capture.cameras[0].focal, FOCAL)


@pytest.mark.parametrize("width, height", [(12, 9), (10, 8), (23, 17), (1, 1)])
def test_smaller_photos_show_the_same(tmp_path, width, height):
    write_json_capture(tmp_path)
    full, small = read_capture(tmp_path), read_capture(tmp_path, width)
    assert small.images.shape == (NUM_PHOTOS, height, width, 3)
    means = full.images.mean((1, 2)), small.images.mean((1, 2))
    np.testing.assert_allclose(means[1], means[0], atol=1e-5)
    for camera, smaller in zip(full.cameras, small.cameras, strict=True):
        assert (smaller.width, smaller.height) == (width, height)
        share = np.array([width / WIDTH, height / HEIGHT])
        np.testing.assert_allclose(smaller.focal, FOCAL * share, rtol=1e-6)
        np.testing.assert_allclose(smaller.center, CENTER * share, rtol=1e-6)
        np.testing.assert_array_equal(smaller.rotation, camera.rotation)


def test_photos_never_grow(tmp_path):
    write_json_capture(tmp_path)
    assert read_capture(tmp_path, 1000).images.shape == (NUM_PHOTOS, HEIGHT, WIDTH, 3)
    with pytest.raises(ValueError, match="a width of at least one pixel, found 0"):
        read_capture(tmp_path, 0)


def write_blender(folder, parts=("train", "test")):
    """Four training photos of red squares, two test photos; transparent around."""
    rgba = np.zeros((8, 10, 4), np.uint8)
    rgba[2:6, 2:6] = [255, 0, 0, 255]
    rgba[6, 6] = [0, 0, 0, 51]
    for part, count in (("train", 4), ("test", 2)):
        if part not in parts:
            continue
        write_photos(folder, [rgba] * count, lambda i, part=part: f"{part}/r_{i}.png")
        frames = [
            {
                "file_path": f"./{part}/r_{i}",
                "rotation": 0.1,
                "transform_matrix": np.eye(4).tolist(),
            }
            for i in range(count)
        ]
        data = {"camera_angle_x": 2 * np.arctan(0.5), "frames": frames}
        (folder / f"transforms_{part}.json").write_text(json.dumps(data))


def test_blender_scenes_have_white_behind_and_their_own_held_out_photos(tmp_path):
    write_blender(tmp_path)
    capture = read_capture(tmp_path)
    assert capture.images.shape == (6, 8, 10, 3) and capture.points is None
    np.testing.assert_allclose(capture.images[0, 0, 0], [1, 1, 1])
    np.testing.assert_allclose(capture.images[0, 3, 3], [1, 0, 0])
    np.testing.assert_allclose(capture.images[0, 6, 6], [0.8, 0.8, 0.8], atol=1e-6)
    np.testing.assert_allclose(capture.masks[0].sum(), 16.2, atol=1e-5)
    np.testing.assert_allclose(capture.cameras[0].focal, [10, 10], rtol=1e-6)  # 10 wide, tan 1/2
    np.testing.assert_allclose(capture.cameras[0].center, [5, 4])
    train, held_out = split(capture)
    assert [capture.names[i] for i in held_out] == ["./test/r_0", "./test/r_1"]
    assert len(train) == 4 and not set(train) & set(held_out)
    small = read_capture(tmp_path, 5)  # what lies under transparency must not bleed in
    np.testing.assert_allclose(small.images[0, 1:3, 1:3], np.ones((2, 2, 1)) * [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(small.masks[0].sum(), 16.2 / 4, atol=1e-5)


def test_points_without_colors_are_taken_and_broken_ones_are_not(tmp_path):
    write_json_capture(tmp_path)
    ply = (tmp_path / "points3D.ply").read_text().splitlines()
    lines = [line for line in ply if "uchar" not in line]
    lines[-3:] = [" ".join(line.split()[:3]) for line in lines[-3:]]
    (tmp_path / "points3D.ply").write_text("\n".join(lines) + "\n")
    capture = read_capture(tmp_path)
    np.testing.assert_array_equal(capture.points, POINTS)
    assert capture.point_colors is None
    lines[-1] = "nan 0 0"
    (tmp_path / "points3D.ply").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="expected points with finite coordinates"):
        read_capture(tmp_path)
    (tmp_path / "points3D.ply").unlink()
    assert read_capture(tmp_path).points is None


def test_every_eighth_photo_is_held_out_where_files_say_nothing(tmp_path):
    write_json_capture(tmp_path)
    train, held_out = split(read_capture(tmp_path))
    np.testing.assert_array_equal(held_out, [0, 8])
    np.testing.assert_array_equal(train, range(1, 8))
    np.testing.assert_array_equal(split(read_capture(tmp_path), 4)[1], [0, 4, 8])
    write_json_capture(tmp_path, test_filenames=[name_of(3)], train_filenames=[])
    np.testing.assert_array_equal(split(read_capture(tmp_path))[1], [3])
    write_blender(tmp_path / "blender", ["train"])
    np.testing.assert_array_equal(split(read_capture(tmp_path / "blender"), 2)[1], [0, 2])


@pytest.mark.parametrize("place", ["masks/03.png", "masks/03.png.png", "elsewhere.png"])
def test_masks_lie_beside_the_photos(tmp_path, place):
    data = transforms()
    if place == "elsewhere.png":
        data["frames"][NUM_PHOTOS - 1 - 3]["mask_path"] = place
    write_json_capture(tmp_path, frames=data["frames"])
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:9] = 255
    write_photos(tmp_path, [mask], lambda i: place)
    capture = read_capture(tmp_path, 12)
    assert capture.masks.shape == (NUM_PHOTOS, 9, 12)
    np.testing.assert_allclose(capture.masks[3][:, 0], [1, 1, 1, 1, 0.5, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(np.delete(capture.masks, 3, 0), 1.0)
    assert capture.images[3, 5:].std() > 0.01  # a mask file leaves the photo as it is


def test_distortion_is_what_opencv_says():
    xy = np.array([0.3, -0.4])  # squared radius 0.25
    for distortion, shift in [
        ([0.2, 0, 0, 0, 0], 0.2 * 0.25 * xy),
        ([0, 0.2, 0, 0, 0], 0.2 * 0.25**2 * xy),
        ([0, 0, 0, 0, 0.2], 0.2 * 0.25**3 * xy),
        ([0, 0, 0.1, 0, 0], 0.1 * np.array([2 * 0.3 * -0.4, 0.25 + 2 * 0.16])),
        ([0, 0, 0, 0.1, 0], 0.1 * np.array([0.25 + 2 * 0.09, 2 * 0.3 * -0.4])),
    ]:
        np.testing.assert_allclose(distort(xy, distortion), xy + shift)


def bent_photo(k1, shade):
    """A photo [H, W] of `shade` of the straight picture, through a lens that bends radii."""
    x, y = np.arange(96) + 0.5, np.arange(72) + 0.5
    bent = (np.stack(np.meshgrid(x, y), -1) - [50, 34]) / 80
    straight = bent
    for _ in range(50):  # bent = straight * (1 + k1 * r^2)
        straight = bent / (1 + k1 * (straight**2).sum(-1, keepdims=True))
    return shade(straight)


@pytest.mark.parametrize("k1", [-0.15, 0.15])
@pytest.mark.parametrize("form", ["json", "colmap"])
def test_bent_photos_are_straightened(tmp_path, k1, form):
    def shade(xy):
        return 0.5 + 0.3 * np.sin(9 * xy[..., 0]) + 0.2 * np.sin(7 * xy[..., 1])

    photo = np.round(bent_photo(k1, shade) * 255).astype(np.uint8)
    write_photos(tmp_path, [np.repeat(photo[..., None], 3, -1)])
    if form == "json":
        lens = dict(fl_x=80, cx=50, cy=34, w=96, h=72, k1=k1, camera_model="OPENCV")
        frame = {"file_path": name_of(0), "transform_matrix": np.eye(4).tolist()}
        (tmp_path / "transforms.json").write_text(json.dumps(lens | {"frames": [frame]}))
    else:
        sparse = tmp_path / "sparse" / "0"
        sparse.mkdir(parents=True)
        (sparse / "cameras.txt").write_text(f"1 SIMPLE_RADIAL 96 72 80 50 34 {k1}\n")
        (sparse / "images.txt").write_text("1 1 0 0 0 0 0 0 1 00.png\n\n")
    capture = read_capture(tmp_path)
    focal = np.asarray(capture.cameras[0].focal)
    # Barrels need no crop; cushions are enlarged by what the corner moves, and no more.
    assert focal[0] == focal[1] and (focal[0] == 80 if k1 < 0 else 80 < focal[0] < 100)
    x, y = np.arange(96) + 0.5, np.arange(72) + 0.5
    expected = shade((np.stack(np.meshgrid(x, y), -1) - [50, 34]) / focal)
    np.testing.assert_allclose(capture.images[0, ..., 1], expected, atol=0.012)
    np.testing.assert_allclose(capture.cameras[0].center, [50, 34])


def test_a_lens_that_cannot_be_straightened_is_refused(tmp_path):
    with pytest.raises(ValueError, match="one that bends photos away"):
        undistort(np.zeros((20, 20, 3)), [10, 10], [10, 10], [50.0, 0, 0, 0, 0])
    for changes, message in [
        ({"camera_model": "OPENCV_FISHEYE"}, r"found a lens OPENCV_FISHEYE; .*image_undistorter"),
        ({"k4": 0.1}, "found k4; undistort the photos"),
        ({"is_fisheye": True}, "found a lens"),
    ]:
        write_json_capture(tmp_path, **changes)
        with pytest.raises(ValueError, match=message) as error:
            read_capture(tmp_path)
        assert "\n" not in str(error.value)
    write_json_capture(tmp_path, k1=0.1)
    with pytest.raises(ValueError, match="expected cameras without distortion"):
        read_cameras(tmp_path / "transforms.json")


def change_frame(**changes):
    data = transforms()
    data["frames"][0] |= changes
    return {"frames": data["frames"]}


def scaled(factor):
    pose = np.eye(4)
    pose[0, 0] *= factor
    return pose.tolist()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"frames": []}, "at least one frame, found none"),
        ({"frames": 3}, "a list of frames, found none"),
        ({"frames": [{"transform_matrix": scaled(1)}]}, "a file_path of frame 0, found none"),
        ({"fl_x": None, "fl_y": None}, "fl_x or camera_angle_x, found neither"),
        ({"fl_x": "30"}, "a number as fl_x, found 30"),
        ({"fl_x": -30.0}, "fl_x above zero, found -30"),
        ({"cx": float("nan")}, "a number as cx, found nan"),
        ({"w": 25}, r"expected \(25, 18\) pixels, found \(24, 18\) in .*00\.png"),
        ({"ply_file_path": "none.ply"}, r"found nothing at .*none\.ply"),
        ({"ply_file_path": "transforms.json"}, r"expected points, found .*transforms\.json"),
        (change_frame(file_path="images/none.png"), r"found nothing at .*images/none\.png"),
        (change_frame(file_path="points3D.ply"), r"expected an image, found .*points3D\.ply"),
        (change_frame(mask_path="none.png"), r"found nothing at .*none\.png"),
        (change_frame(transform_matrix=None), r"08\.png.*a transform_matrix, found none"),
        (change_frame(transform_matrix=[[1, 2], [3, 4]]), "found another shape"),
        (change_frame(transform_matrix=[["a"] * 4] * 4), "found another shape"),
        (change_frame(transform_matrix=scaled(np.inf)), "expected finite numbers"),
        (change_frame(transform_matrix=scaled(1.1)), "found a scale, shear or mirror"),
        (change_frame(transform_matrix=scaled(-1)), "found a scale, shear or mirror"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(tmp_path, changes, message):
    write_json_capture(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as error:
        read_capture(tmp_path)
    assert "\n" not in str(error.value)


def test_what_is_no_capture_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"transforms_train\.json or sparse/0 in .*, found none"):
        read_capture(tmp_path)
    with pytest.raises(ValueError, match=r"found nothing at .*path\.json"):
        read_cameras(tmp_path / "path.json")
    (tmp_path / "path.json").write_text('{"frames": [')
    with pytest.raises(ValueError, match=r"expected JSON, found .* of .*path\.json"):
        read_cameras(tmp_path / "path.json")
    frame = {"file_path": "a", "transform_matrix": np.eye(4).tolist()}
    (tmp_path / "path.json").write_text(json.dumps({"fl_x": 30, "frames": [frame]}))
    with pytest.raises(ValueError, match="expected w and h of a, found none"):
        read_cameras(tmp_path / "path.json")


def test_photos_of_several_sizes_are_refused(tmp_path):
    write_json_capture(tmp_path, w=None, h=None)
    Image.new("RGB", (20, 18)).save(tmp_path / name_of(4))
    message = r"found \(24, 18\) in images/00\.png and \(20, 18\) in images/04\.png"
    with pytest.raises(ValueError, match=message):
        read_capture(tmp_path)
    write_json_capture(tmp_path)
    write_photos(tmp_path, [np.zeros((4, 4), np.uint8)], lambda i: "masks/00.png")
    with pytest.raises(ValueError, match=r"expected \(24, 18\) pixels, found \(4, 4\) in .*masks"):
        read_capture(tmp_path)


@pytest.mark.parametrize(
    "camera, message",
    [
        (f"OPENCV_FISHEYE {WIDTH} {HEIGHT} 30 31 12 9 0 0 0 0", "a OPENCV_FISHEYE camera, which"),
        (f"PINHOLE {WIDTH} {HEIGHT} 30 31 12", "3 parameters of a PINHOLE camera"),
        (f"PINHOLE {WIDTH} wide 30 31 12 9", r"expected COLMAP's cameras, found .*cameras\.txt"),
    ],
)
def test_a_colmap_camera_that_is_no_pinhole_is_refused(tmp_path, camera, message):
    write_colmap_text(tmp_path, camera)
    with pytest.raises(ValueError, match=message) as error:
        read_capture(tmp_path)
    assert "\n" not in str(error.value)


def test_broken_colmap_models_are_refused(tmp_path):
    write_colmap_binary(tmp_path)
    sparse = tmp_path / "sparse" / "0"
    for name in ("cameras", "images", "points3D"):
        path = sparse / f"{name}.bin"
        content = path.read_bytes()
        for broken in (b"", content[:-3], b"\xff" * 8 + content[8:]):
            path.write_bytes(broken)
            with pytest.raises(ValueError, match=f"expected COLMAP's {name}, found .*{name}"):
                read_capture(tmp_path)
        path.write_bytes(content)
    (sparse / "cameras.bin").write_bytes(struct.pack("<QIiQQ", 1, 7, 99, WIDTH, HEIGHT))
    with pytest.raises(ValueError, match="unknown model 99"):
        read_capture(tmp_path)
    lens = struct.pack("<QIiQQ4d", 1, 8, 1, WIDTH, HEIGHT, *FOCAL, *CENTER)
    (sparse / "cameras.bin").write_bytes(lens)
    with pytest.raises(ValueError, match=r"expected the camera of 00\.png, found none"):
        read_capture(tmp_path)
    (sparse / "images.bin").unlink()
    with pytest.raises(ValueError, match="expected COLMAP's images, found nothing at"):
        read_capture(tmp_path)


@pytest.mark.skipif(not PLUSH.is_dir(), reason="needs the plush photos")
def test_points_of_a_real_capture_lie_on_what_its_photos_show():
    capture = read_capture(PLUSH, 252)
    assert capture.images.shape == (97, 189, 252, 3) and len(capture.points) == 25784
    rng = np.random.default_rng(0)
    shares, errors, chances = [], [], []
    for camera, image in zip(capture.cameras, capture.images, strict=True):
        pixels, depth = map(np.asarray, project(camera, capture.points))
        is_seen = (depth > 0) & (pixels >= 0).all(-1) & (pixels < [252, 189]).all(-1)
        assert 0.3 < depth[is_seen].min() and depth[is_seen].max() < 20
        column, row = pixels[is_seen].astype(int).T
        seen, colors = image[row, column], capture.point_colors[is_seen]
        shares.append(is_seen.mean())
        errors.append(np.abs(seen - colors).mean())
        chances.append(np.abs(rng.permutation(seen) - colors).mean())
    assert min(shares) > 0.25 and np.mean(shares) > 0.6
    assert np.less(errors, chances).all() and np.mean(errors) < 0.85 * np.mean(chances)
    np.testing.assert_allclose(capture.up, [-0.214, -0.965, -0.155], atol=0.01)
