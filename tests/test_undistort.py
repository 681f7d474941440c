"""A lens that is known bends a known picture; taken out, the picture must come back."""

import json

import numpy as np
import pytest
from small_captures import name_of, write_photos

from render.capture_io import read_capture
from render.captures.intrinsics import Distortion, Lens, distortion_of
from render.captures.undistort import distort, undistort


def perspective(*terms):
    return Distortion((*terms, *[0.0] * (8 - len(terms))))


def test_distortion_is_what_opencv_says():
    xy = np.array([0.3, -0.4])  # squared radius 0.25
    for terms, shift in [
        ([0.2], 0.2 * 0.25 * xy),
        ([0, 0.2], 0.2 * 0.25**2 * xy),
        ([0, 0, 0, 0, 0.2], 0.2 * 0.25**3 * xy),
        ([0, 0, 0.1], 0.1 * np.array([2 * 0.3 * -0.4, 0.25 + 2 * 0.16])),
        ([0, 0, 0, 0.1], 0.1 * np.array([0.25 + 2 * 0.09, 2 * 0.3 * -0.4])),
    ]:
        np.testing.assert_allclose(distort(xy, perspective(*terms)), xy + shift)
    rational = perspective(0.1, 0, 0, 0, 0, 0.2, 0.3, 0.4)
    ratio = (1 + 0.1 * 0.25) / (1 + 0.2 * 0.25 + 0.3 * 0.25**2 + 0.4 * 0.25**3)
    np.testing.assert_allclose(distort(xy, rational), xy * ratio)


def test_a_fisheye_shows_angles_as_radii():
    angle = 0.8
    xy = np.tan(angle) * np.array([0.6, 0.8])
    even = distortion_of("OPENCV_FISHEYE", {})
    assert not even.is_none  # no terms, and yet no pinhole
    np.testing.assert_allclose(distort(xy, even), angle * np.array([0.6, 0.8]))
    np.testing.assert_allclose(distort(np.zeros(2), even), 0.0)
    bent = distortion_of("OPENCV_FISHEYE", {"k1": 0.1, "k2": 0.2, "k3": 0.3, "k4": 0.4})
    powers = angle ** np.array([2, 4, 6, 8])
    radius = angle * (1 + powers @ [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(distort(xy, bent), radius * np.array([0.6, 0.8]))


def shade(xy):
    return 0.5 + 0.3 * np.sin(9 * xy[..., 0]) + 0.2 * np.sin(7 * xy[..., 1])


def bent_photo(straight_of, fine=1):
    """A photo [72, 96] of `shade` through a lens; takes where a pinhole shows what it shows."""
    x, y = np.arange(96) + 0.5, np.arange(72) + 0.5
    return shade(fine * straight_of((np.stack(np.meshgrid(x, y), -1) - [50, 34]) / 80))


def radial(k1):
    def straight_of(bent):
        straight = bent
        for _ in range(50):  # bent = straight * (1 + k1 * r^2)
            straight = bent / (1 + k1 * (straight**2).sum(-1, keepdims=True))
        return straight

    return straight_of


def equidistant(bent):
    radius = np.linalg.norm(bent, axis=-1, keepdims=True)
    return bent * np.tan(radius) / radius


def write_bent(folder, form, straight_of, model, fine=1, **terms):
    photo = np.round(bent_photo(straight_of, fine) * 255).astype(np.uint8)
    write_photos(folder, [np.repeat(photo[..., None], 3, -1)])
    if form == "json":
        lens = dict(fl_x=80, cx=50, cy=34, w=96, h=72, camera_model=model, **terms)
        frame = {"file_path": name_of(0), "transform_matrix": np.eye(4).tolist()}
        (folder / "transforms.json").write_text(json.dumps(lens | {"frames": [frame]}))
    else:
        sparse = folder / "sparse" / "0"
        sparse.mkdir(parents=True)
        values = " ".join(map(str, terms.values()))
        (sparse / "cameras.txt").write_text(f"1 {model} 96 72 80 50 34 {values}\n")
        (sparse / "images.txt").write_text("1 1 0 0 0 0 0 0 1 00.png\n\n")


def expected_photo(camera):
    x, y = np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5
    return shade((np.stack(np.meshgrid(x, y), -1) - camera.center) / camera.focal)


@pytest.mark.parametrize("k1", [-0.15, 0.15])
@pytest.mark.parametrize("form", ["json", "colmap"])
def test_bent_photos_are_straightened(tmp_path, k1, form):
    write_bent(tmp_path, form, radial(k1), "SIMPLE_RADIAL", k1=k1)
    capture = read_capture(tmp_path)
    focal = np.asarray(capture.cameras[0].focal)
    # Barrels need no crop; cushions are enlarged by what the corner moves, and no more.
    assert focal[0] == focal[1] and (focal[0] == 80 if k1 < 0 else 80 < focal[0] < 100)
    expected = expected_photo(capture.cameras[0])
    np.testing.assert_allclose(capture.images[0][..., 1], expected, atol=0.012)
    np.testing.assert_allclose(capture.cameras[0].center, [50, 34])


@pytest.mark.parametrize(
    "form, model", [("json", "OPENCV_FISHEYE"), ("colmap", "SIMPLE_RADIAL_FISHEYE")]
)
def test_a_fisheye_without_terms_is_straightened_all_the_same(tmp_path, form, model):
    write_bent(tmp_path, form, equidistant, model, k1=0)
    capture = read_capture(tmp_path)
    expected = expected_photo(capture.cameras[0])
    np.testing.assert_allclose(capture.images[0][..., 1], expected, atol=0.012)


def test_at_a_smaller_size_the_photo_stays_as_sharp_as_it_can_be(tmp_path):
    write_bent(tmp_path, "json", radial(0.15), "OPENCV", fine=4, k1=0.15)
    full, small = read_capture(tmp_path), read_capture(tmp_path, 24)
    np.testing.assert_allclose(small.cameras[0].focal, full.cameras[0].focal / 4, rtol=1e-3)
    means = full.images[0].reshape(18, 4, 24, 4, 3).mean((1, 3))
    assert small.images[0].std() > 0.9 * means.std()
    np.testing.assert_allclose(small.images[0], means, atol=0.08)


def test_a_lens_that_cannot_be_straightened_is_refused():
    for terms in ([50.0], [-50.0]):
        lens = Lens(np.full(2, 10.0), np.full(2, 10.0), (20, 20), perspective(*terms))
        with pytest.raises(ValueError, match="one that bends photos away"):
            undistort(np.zeros((20, 20, 3), np.float32), lens)


def test_beyond_where_a_polynomial_turns_back_nothing_is_shown():
    lens = Lens(np.full(2, 10.0), np.full(2, 10.0), (20, 20), perspective(-0.9))
    _, pinhole = undistort(np.zeros((20, 20, 3), np.float32), lens)
    # r (1 - 0.9 r^2) is largest at this radius, which the corner must not pass.
    np.testing.assert_allclose(np.sqrt(2) * 10 / pinhole.focal, 1 / np.sqrt(2.7), rtol=2e-3)


@pytest.mark.parametrize("width, height", [(1, 5), (5, 1), (1, 1)])
def test_the_thinnest_photos_are_straightened(width, height):
    lens = Lens(np.full(2, 9.0), np.array([width, height]) / 2, (width, height), perspective(-0.1))
    image = np.random.default_rng(0).random((height, width, 2), np.float32)
    straight, pinhole = undistort(image, lens)
    assert straight.shape == image.shape and pinhole.distortion.is_none
    np.testing.assert_allclose(straight, image, atol=0.05)
