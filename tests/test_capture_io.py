"""A small scene, written in every format by hand, must come back as what it was seen by."""

import json
import pathlib
import re
import struct

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation
from small_captures import (
    CENTER,
    FOCAL,
    HEIGHT,
    NUM_PHOTOS,
    PIXELS,
    POINT_COLORS,
    POINTS,
    WIDTH,
    name_of,
    transforms,
    truth,
    write_colmap_binary,
    write_colmap_text,
    write_json_capture,
    write_photos,
)

from render.camera import camera_position, orbit, project
from render.capture_io import read_cameras, read_capture, split, write_transforms

PLUSH = pathlib.Path(__file__).parents[2] / "shared" / "data" / "plush"
project = jax.jit(project)

WRITERS = [write_json_capture, write_colmap_text, write_colmap_binary]


def test_a_camera_without_rotation_looks_along_minus_z_with_y_up(tmp_path):
    pose = np.eye(4)
    pose[2, 3] = 3.0
    frame = {"file_path": "a", "transform_matrix": pose.tolist()}
    lens = {"fl_x": 30.0, "w": 20, "h": 10}
    (tmp_path / "path.json").write_text(json.dumps(lens | {"frames": [frame]}))
    (camera,), names, _ = read_cameras(tmp_path / "path.json")
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
    assert capture.images[0].dtype == np.float32 and set(capture.masks) == {None}
    assert not capture.left_out and not capture.notes
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
    found, found_names, _ = read_cameras(tmp_path / "path.json")
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
    assert {image.shape for image in small.images} == {(height, width, 3)}
    means = [np.mean(capture.images, (1, 2)) for capture in (full, small)]
    np.testing.assert_allclose(means[1], means[0], atol=1e-5)
    for camera, smaller in zip(full.cameras, small.cameras, strict=True):
        assert (smaller.width, smaller.height) == (width, height)
        share = np.array([width / WIDTH, height / HEIGHT])
        np.testing.assert_allclose(smaller.focal, FOCAL * share, rtol=1e-6)
        np.testing.assert_allclose(smaller.center, CENTER * share, rtol=1e-6)
        np.testing.assert_array_equal(smaller.rotation, camera.rotation)


def test_photos_never_grow(tmp_path):
    write_json_capture(tmp_path)
    assert read_capture(tmp_path, 1000).images[0].shape == (HEIGHT, WIDTH, 3)
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
    assert np.shape(capture.images) == (6, 8, 10, 3) and capture.points is None
    np.testing.assert_allclose(capture.images[0][0, 0], [1, 1, 1])
    np.testing.assert_allclose(capture.images[0][3, 3], [1, 0, 0])
    np.testing.assert_allclose(capture.images[0][6, 6], [0.8, 0.8, 0.8], atol=1e-6)
    assert set(capture.masks) == {None}  # a background is there to be learnt
    np.testing.assert_allclose(capture.cameras[0].focal, [10, 10], rtol=1e-6)  # 10 wide, tan 1/2
    np.testing.assert_allclose(capture.cameras[0].center, [5, 4])
    train, held_out = split(capture)
    assert [capture.names[i] for i in held_out] == ["./test/r_0", "./test/r_1"]
    assert len(train) == 4 and not set(train) & set(held_out)
    small = read_capture(tmp_path, 5)  # what lies under transparency must not bleed in
    np.testing.assert_allclose(small.images[0][1:3, 1:3], np.ones((2, 2, 1)) * [1, 0, 0], atol=1e-6)


def test_the_layout_of_the_fox(tmp_path):
    """67 frames of OPENCV's terms are named and 50 of them are there."""
    poses = Rotation.random(67, rng=np.random.default_rng(3)).as_matrix()
    frames = [
        {
            "file_path": f"./images/{i + 1:04}.jpg",
            "sharpness": 20.0,
            "transform_matrix": [*np.c_[pose, pose[:, 2]].tolist(), [0.0, 0.0, 0.0, 1.0]],
        }
        for i, pose in enumerate(poses)
    ]
    lens = {"camera_angle_x": 0.78, "fl_x": 30.0, "fl_y": 30.1, "cx": 11.5, "cy": 21.0}
    lens |= {"k1": 0.05, "k2": -0.05, "p1": -0.002, "p2": 0.007, "w": 24.0, "h": 42.0}
    data = lens | {"aabb_scale": 4, "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(data))
    there = np.random.default_rng(4).permutation(67)[:50]
    picture = np.zeros((42, 24, 3), np.uint8)
    write_photos(tmp_path, [picture] * 50, lambda i: f"images/{there[i] + 1:04}.jpg")
    capture = read_capture(tmp_path, 16)
    assert len(capture.names) == 50 and {image.shape for image in capture.images} == {(28, 16, 3)}
    assert {photo.reason[:16] for photo in capture.left_out} == {"found nothing at"}
    assert len(capture.left_out) == 17 and len(read_cameras(tmp_path).cameras) == 67
    assert 20 <= capture.cameras[0].focal[0] < 22  # 20 of the smaller photo, and a little zoom


def test_the_layout_of_the_lego_bricks(tmp_path):
    write_blender(tmp_path)
    write_photos(tmp_path, [np.zeros((8, 10), np.uint8)], lambda i: "test/r_0_depth_0001.png")
    names = [f"./{part}/r_{i}" for part, i in [*(("train", i) for i in range(4)), ("test", 0)]]
    path = read_cameras(tmp_path)
    assert path.names == [*names, "./test/r_1"] and path.cameras[0].width == 10
    np.testing.assert_allclose(path.cameras[0].focal, [10, 10], rtol=1e-6)
    for photo in tmp_path.glob("*/*.png"):
        photo.unlink()
    with pytest.raises(ValueError, match=r"expected w and h of \./train/r_0, found none"):
        read_cameras(tmp_path)
    camera = read_cameras(tmp_path / "transforms_train.json", (40, 30)).cameras[0]
    np.testing.assert_allclose([*camera.focal, *camera.center], [40, 40, 20, 15], rtol=1e-6)


def write_two_cameras(folder):
    """A model of two cameras, one upright, and of a third that no photo uses."""
    write_colmap_text(folder)
    lines = f"1 PINHOLE {WIDTH} {HEIGHT} 30 31 12.5 8.75\n2 SIMPLE_RADIAL 18 24 40 9 12 0.01\n"
    unused = "3 THIN_PRISM_FISHEYE 24 18 30 30 12 9 0.1 0 0 0 0 0 0.2 0\n"
    images = folder / "sparse" / "0" / "images.txt"
    rows = [row.replace(" 7 0", f" {1 + i % 2} 0") for i, row in enumerate(open_rows(images))]
    (images.parent / "cameras.txt").write_text(lines + unused)
    images.write_text("\n".join(f"{row}\n" for row in rows))
    upright = np.swapaxes(PIXELS[1::2], 1, 2)
    write_photos(folder, upright, lambda i: name_of(2 * i + 1))


def open_rows(images):
    return [line for line in images.read_text().splitlines() if line.endswith(".png")]


def test_a_model_of_two_cameras(tmp_path):
    write_two_cameras(tmp_path)
    capture = read_capture(tmp_path)
    sizes = [(camera.width, camera.height) for camera in capture.cameras]
    assert sizes == [(24, 18), (18, 24)] * 4 + [(24, 18)]
    assert [image.shape[1::-1] for image in capture.images] == sizes
    np.testing.assert_allclose(capture.cameras[0].focal, FOCAL)
    np.testing.assert_allclose(capture.cameras[1].focal, [40, 40], rtol=0.02)
    np.testing.assert_allclose(capture.images[0], PIXELS[0] / np.float32(255))
    path = read_cameras(tmp_path)
    assert [(camera.width, camera.height) for camera in path.cameras] == sizes
    assert path.names == capture.names and path.cameras[1].focal[0] == 40  # the pinhole part


@pytest.mark.parametrize("width, height", [(12, 9), (13, 9), (8, 6), (48, 36), (36, 27)])
def test_smaller_and_larger_copies_of_the_photos_are_found_and_scaled(tmp_path, width, height):
    write_colmap_text(tmp_path, "PINHOLE 25 19 30 31 12.5 8.75" if width == 13 else None)
    (tmp_path / "images").rename(tmp_path / "images_2")
    for i in range(NUM_PHOTOS):
        Image.new("RGB", (width, height)).save(tmp_path / f"images_2/{i:02}.png")
    capture = read_capture(tmp_path)
    said = (25, 19) if width == 13 else (WIDTH, HEIGHT)
    share = np.array([width, height]) / said
    np.testing.assert_allclose(capture.cameras[0].focal, FOCAL * share, rtol=1e-6)
    np.testing.assert_allclose(capture.cameras[0].center, CENTER * share, rtol=1e-6)
    assert f"9 photos: {width / said[0]:.4g} of the size" in capture.notes[0]


def test_a_photo_is_turned_when_only_that_makes_it_its_lens(tmp_path):
    write_json_capture(tmp_path)
    smooth = np.asarray(Image.fromarray(PIXELS[0]).resize((4, 3)).resize((WIDTH, HEIGHT)))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    stored = Image.fromarray(np.rot90(smooth))
    stored.save(tmp_path / "images" / "00.webp", exif=exif, lossless=True)
    Image.fromarray(PIXELS[1]).save(tmp_path / "images" / "01.webp", exif=exif, lossless=True)
    for i in (0, 1):
        (tmp_path / name_of(i)).unlink()
    capture = read_capture(tmp_path)
    np.testing.assert_allclose(capture.images[0], smooth / np.float32(255), atol=1e-6)
    np.testing.assert_allclose(capture.images[1], PIXELS[1] / np.float32(255), atol=1e-6)
    assert capture.notes == ("1 photos: turned as EXIF says",)


def test_grey_photos_of_16_bits_are_read(tmp_path):
    write_json_capture(tmp_path)
    grey = np.linspace(0, 65535, WIDTH * HEIGHT).astype(np.uint16).reshape(HEIGHT, WIDTH)
    write_photos(tmp_path, [grey])
    image = read_capture(tmp_path).images[0]
    np.testing.assert_allclose(image, np.repeat(grey[..., None] / 65535, 3, -1), atol=1e-6)


@pytest.mark.parametrize("place", ["sparse/1", "sparse", ".", "colmap/sparse/0", "dense/sparse"])
def test_a_model_is_found_wherever_colmap_put_it(tmp_path, place):
    write_colmap_text(tmp_path / "made")
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for file in (tmp_path / "made" / "sparse" / "0").iterdir():
        file.rename(tmp_path / place / file.name)
    photos = "dense/images" if place.startswith("dense") else "input"
    (tmp_path / "made" / "images").rename(tmp_path / photos)
    capture = read_capture(tmp_path)
    assert len(capture.names) == NUM_PHOTOS and str(tmp_path / place) in capture.notes[0]
    assert len(read_capture(tmp_path / place).names) == NUM_PHOTOS  # the model itself is named


def test_of_several_models_the_largest_is_taken(tmp_path):
    write_colmap_text(tmp_path)
    small = tmp_path / "sparse" / "0"
    small.rename(tmp_path / "sparse" / "2")
    small.mkdir()
    (small / "cameras.txt").write_text("7 PINHOLE 24 18 30 31 12.5 8.75\n")
    (small / "images.txt").write_text("1 1 0 0 0 0 0 0 7 00.png\n\n")
    capture = read_capture(tmp_path)
    assert len(capture.names) == 9 and "sparse/2, 9 photos, the largest of 2" in capture.notes[0]


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
    assert [mask is None for mask in capture.masks] == [i != 3 for i in range(NUM_PHOTOS)]
    np.testing.assert_allclose(capture.masks[3][:, 0], [1, 1, 1, 1, 0.5, 0, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize("bend", [0.0, 0.1])
def test_what_a_mask_covers_does_not_bleed_into_its_neighbours(tmp_path, bend):
    write_json_capture(tmp_path, k1=bend)
    mask = np.random.default_rng(5).integers(0, 2, (HEIGHT, WIDTH)).astype(bool)
    write_photos(tmp_path, [255 * mask.astype(np.uint8)], lambda i: "masks/00.png")
    clean = read_capture(tmp_path, 10)
    write_photos(tmp_path, [np.where(mask[..., None], PIXELS[0], 77)])
    spoilt = read_capture(tmp_path, 10)
    np.testing.assert_array_equal(spoilt.images[0], clean.images[0])
    np.testing.assert_array_equal(spoilt.masks[0], clean.masks[0])


@pytest.mark.parametrize("is_white", [True, False])
def test_what_is_cut_out_lies_over_white_at_its_soft_edge_too(tmp_path, is_white):
    """Grey before white, or before whatever the photo shows beside it: a pixel is a mixture."""
    share = np.random.default_rng(6).integers(0, 256, (HEIGHT, WIDTH)) / 255
    share[:, :4], share[:, 4:8] = 0, 1
    subject = share[..., None] * [100.0, 150, 200] + 255 * (1 - share[..., None])
    around = subject if is_white else np.where(share[..., None] > 0, [100.0, 150, 200], PIXELS[0])
    write_json_capture(tmp_path, masks_cut_out=True)
    write_photos(tmp_path, [around.round().astype(np.uint8)])
    write_photos(tmp_path, [(255 * share).round().astype(np.uint8)], lambda i: "masks/00.png")
    capture = read_capture(tmp_path, WIDTH // 2)

    def halved(values):
        return values.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, -1).mean((1, 3))

    np.testing.assert_allclose(capture.masks[0], halved(share)[..., 0], atol=1e-6)
    np.testing.assert_allclose(capture.images[0], halved(subject) / 255, atol=2e-3)


@pytest.mark.parametrize("white, width, height", [(255, 12, 9), (1, 24, 18), (65535, 24, 18)])
def test_masks_of_ones_of_16_bits_and_of_a_smaller_copy_are_taken(tmp_path, white, width, height):
    write_json_capture(tmp_path)
    is_right = np.arange(width) >= width // 2
    mask = (white * np.ones((height, 1)) * is_right).astype(np.uint16 if white > 255 else np.uint8)
    write_photos(tmp_path, [mask], lambda i: "masks/02.png")
    expected = np.ones((HEIGHT, 1)) * (np.arange(WIDTH) >= WIDTH // 2)
    np.testing.assert_allclose(read_capture(tmp_path).masks[2], expected, atol=1e-6)


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
        (
            {"frames": [{"file_path": name_of(i)} for i in range(9)]},
            "found 0 of 9; images/00.png: expected a transform_matrix, found none",
        ),
        (
            {"frames": [{"transform_matrix": scaled(1)}]},
            "frame 0: expected a file_path, found none",
        ),
        ({"fl_x": None, "fl_y": None}, "camera_angle_x or camera_angle_y, found none"),
        ({"fl_x": "30"}, "a number as fl_x, found 30"),
        ({"fl_x": -30.0}, "fl_x above zero, found -30"),
        ({"camera_angle_x": 3.2}, "camera_angle_x above zero and below 3.142, found 3.2"),
        ({"cx": float("nan")}, "a number as cx, found nan"),
        ({"w": 25}, r"0 of 9; .*expected \(25, 18\) pixels .*, found \(24, 18\) in .*\.png"),
        ({"ply_file_path": "transforms.json"}, r"expected points, found .*transforms\.json"),
        ({"camera_model": "EQUIRECTANGULAR"}, "a lens among .*, found EQUIRECTANGULAR; undistort"),
        ({"k4": 0.1}, "no k4 of a OPENCV lens, found 0.1; undistort the photos"),
        (change_frame(transform_matrix=scaled(1.1)), r"08\.png of .*a rotation .*, found a shear"),
        (
            change_frame(transform_matrix=scaled(-1)),
            "a rotation in transform_matrix, found a mirror",
        ),
    ],
)
def test_a_broken_file_is_refused_in_one_line(tmp_path, changes, message):
    write_json_capture(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as error:
        read_capture(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"file_path": "images/none.png"}, "found nothing at images/none.png"),
        ({"file_path": "points3D.ply"}, "expected an image, found .*points3D.ply"),
        ({"file_path": None}, "expected a file_path, found none"),
        ({"mask_path": "none.png"}, "expected an image file, found nothing at .*none.png"),
        ({"w": 25}, r"expected \(25, 18\) pixels or an exact factor of them, found \(24, 18\)"),
        ({"fl_x": 0, "fl_y": 30}, "fl_x above zero, found 0"),
        ({"transform_matrix": None}, "a transform_matrix, found none"),
        ({"transform_matrix": [[1, 2], [3, 4]]}, "found another shape"),
        ({"transform_matrix": [["a"] * 4] * 4}, "found another shape"),
        ({"transform_matrix": scaled(np.inf)}, "expected finite numbers"),
        ({"transform_matrix": scaled(np.nan)}, "expected finite numbers"),
        ({"camera_model": "THIN_PRISM_FISHEYE", "p1": 0.1}, "no p1 of a THIN_PRISM_FISHEYE lens"),
        ({"k1": -50.0}, "one that bends photos away"),
        ({"mask_path": "wide.png"}, r"expected \(24, 18\) pixels, found \(24, 19\) in .*wide"),
    ],
)
def test_one_bad_photo_is_left_out_with_its_reason(tmp_path, changes, reason):
    write_json_capture(tmp_path, **change_frame(**changes))  # the last photo
    Image.new("L", (24, 19), 255).save(tmp_path / "wide.png")
    capture = read_capture(tmp_path)
    assert capture.names == [name_of(i) for i in range(NUM_PHOTOS - 1)]
    ((name, found),) = capture.left_out
    assert re.search(reason, found) and "\n" not in found
    assert name == changes.get("file_path", name_of(NUM_PHOTOS - 1)) or name == "frame 0"


def test_a_capture_is_refused_when_too_few_photos_remain(tmp_path):
    write_json_capture(tmp_path)
    for i in range(NUM_PHOTOS - 3):
        (tmp_path / name_of(i)).write_bytes(b"")
    assert len(read_capture(tmp_path).names) == 3
    (tmp_path / name_of(8)).unlink()
    with pytest.raises(
        ValueError, match="at least 3 photos that can be read, found 2 of 9; images"
    ):
        read_capture(tmp_path)


def test_an_empty_mask_leaves_its_photo_out(tmp_path):
    write_json_capture(tmp_path)
    write_photos(tmp_path, [np.zeros((HEIGHT, WIDTH), np.uint8)], lambda i: "masks/00.png")
    capture = read_capture(tmp_path)
    assert "found an empty one" in capture.left_out[0].reason and len(capture.names) == 8


def test_points_that_are_named_and_missing_are_told(tmp_path):
    write_json_capture(tmp_path, ply_file_path="none.ply")
    capture = read_capture(tmp_path)
    assert capture.points is None and "none.ply, found nothing" in capture.notes[0]


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


def test_photos_may_differ_in_size(tmp_path):
    write_json_capture(tmp_path, w=None, h=None)
    Image.new("RGB", (20, 22)).save(tmp_path / name_of(4))
    capture = read_capture(tmp_path, 12)
    assert [image.shape[:2] for image in capture.images[3:5]] == [(9, 12), (13, 12)]
    assert (capture.cameras[4].width, capture.cameras[4].height) == (12, 13)
    np.testing.assert_allclose(capture.cameras[4].focal, FOCAL * np.array([12 / 20, 13 / 22]))


@pytest.mark.parametrize(
    "camera, reason",
    [
        (
            f"PINHOLE {WIDTH} {HEIGHT} 30 31 12",
            "expected 4 parameters of a PINHOLE camera, found 3",
        ),
        (f"SPECIAL {WIDTH} {HEIGHT} 30 31 12", "expected a lens among .*, found SPECIAL"),
        (f"FOV {WIDTH} {HEIGHT} 30 31 12 9 0.9", "no omega of a FOV lens, found 0.9; undistort"),
        (f"PINHOLE {WIDTH} {HEIGHT} 30 0 12 9", "a focal length and a size above zero"),
        (f"PINHOLE {WIDTH} wide 30 31 12 9", r"expected COLMAP's cameras, found .*cameras\.txt"),
    ],
)
def test_a_colmap_camera_that_is_no_pinhole_is_refused(tmp_path, camera, reason):
    write_colmap_text(tmp_path, camera)
    with pytest.raises(ValueError, match=reason) as error:
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
    with pytest.raises(ValueError, match=r"0 of 9; 00\.png: expected its camera 7, found none"):
        read_capture(tmp_path)
    (sparse / "images.bin").unlink()
    with pytest.raises(ValueError, match="expected COLMAP's images, found nothing at"):
        read_capture(tmp_path)


@pytest.mark.skipif(not PLUSH.is_dir(), reason="needs the plush photos")
def test_points_of_a_real_capture_lie_on_what_its_photos_show():
    capture = read_capture(PLUSH, 252)
    assert np.shape(capture.images) == (97, 189, 252, 3) and len(capture.points) == 25784
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
