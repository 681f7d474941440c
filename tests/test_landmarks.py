import types

import numpy as np
import pytest
from PIL import Image
from skimage import data

from recon import fit, landmarks
from recon.detection import predictor
from recon.landmarks_io import read_pts, write_pts


@pytest.fixture(scope="module")
def photo():
    return data.astronaut() / 255.0


@pytest.fixture(scope="module")
def points(photo):
    return landmarks.detect_landmarks(photo)


def resized(photo, width, height):
    picture = Image.fromarray((255 * photo).astype(np.uint8))
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC)) / 255.0


def test_points_lie_on_the_face_in_ibug_order(points):
    assert points.shape == (68, 2)
    assert ((points > (170, 75)) & (points < (280, 190))).all()
    contour, brows, eyes, mouth = points[:17], points[17:27], points[36:48], points[48:]
    assert np.argmin(points[:, 0]) < 3 and np.argmax(points[:, 0]) in (15, 16)
    assert contour[0, 0] < points[36, 0] < points[39, 0] < points[42, 0] < points[45, 0]
    assert brows[:, 1].mean() < eyes[:, 1].mean() < points[30, 1] < mouth[:, 1].mean()
    assert np.argmax(points[:, 1]) in (7, 8, 9)


def test_points_move_with_the_picture(photo, points):
    moved = landmarks.detect_landmarks(photo[16:400, 40:420])  # steps of 8: the detector's grid
    np.testing.assert_allclose(moved, points - (40, 16), atol=0.6)
    np.testing.assert_allclose((moved - points).mean(0), (-40, -16), atol=0.1)


@pytest.mark.parametrize("factor", [0.6, 4.0])
def test_points_scale_with_the_picture(photo, points, factor):
    size = round(512 * factor)
    scaled = landmarks.detect_landmarks(resized(photo, size, size)) * 512 / size
    errors = np.linalg.norm(scaled - points, axis=1) / landmarks.eye_distance(points)
    assert errors.mean() < 0.015


@pytest.mark.parametrize(
    "form",
    [
        lambda photo: (255 * photo).astype(np.uint8),
        lambda photo: 255.0 * photo,
        lambda photo: np.dstack([photo, np.ones(photo.shape[:2])]),
        lambda photo: Image.fromarray((255 * photo).astype(np.uint8)),
    ],
)
def test_photos_of_any_kind_have_the_same_points(photo, points, form):
    np.testing.assert_allclose(landmarks.detect_landmarks(form(photo)), points, atol=0.5)


@pytest.mark.parametrize("form", [lambda photo: None, lambda photo: "me.jpg", lambda photo: []])
def test_what_is_no_photo_is_refused(photo, form):
    with pytest.raises(ValueError, match="expected a picture"):
        landmarks.detect_landmarks(form(photo))


def test_pixel_centres_are_at_one_half(monkeypatch):
    dot = np.array([600, 440])  # an integer pixel index
    photo = np.zeros((1000, 1000, 3))
    photo[dot[1], dot[0]] = 1.0

    def find_dot(pixels, box):
        y, x = np.unravel_index(pixels[..., 0].argmax(), pixels.shape[:2])
        part = types.SimpleNamespace(x=int(x), y=int(y))
        return types.SimpleNamespace(parts=lambda: [part] * 68)

    monkeypatch.setattr(predictor, "_predictor", lambda: find_dot)
    monkeypatch.setattr(predictor, "_PREDICTION_SIDE", 500)  # the face box: pixels stay pixels
    found = landmarks.predict_points(photo, (200.0, 200.0, 700.0, 700.0))
    np.testing.assert_allclose(found[0], dot + 0.5, atol=1e-9)


def test_small_faces_are_found_when_asked_for(photo):
    group = np.full((512, 1200, 3), 0.5)
    group[:512, :512] = photo
    group[:200, 900:1100] = resized(photo, 200, 200)
    assert landmarks.detect_landmarks(group)[:, 0].max() < 300
    assert landmarks.detect_landmarks(group, face=1)[:, 0].min() > 900


def test_a_photo_without_a_face_says_so():
    with pytest.raises(landmarks.NoFaceError, match="600 x 400"):
        landmarks.detect_landmarks(data.coffee() / 255.0)


def test_a_face_that_is_not_there_is_refused(photo):
    with pytest.raises(ValueError, match=r"found 7"):
        landmarks.detect_landmarks(photo, face=7)


def test_noise_is_in_shares_of_the_eye_distance(points):
    noise = landmarks.DetectorNoise(0.05, 0.04, 0.03, 0.02, 0.01)
    found = landmarks.landmarks_from_points(points, noise)
    share = np.asarray(found.sigma_px) / np.linalg.norm(points[45] - points[36])
    expected = np.repeat([0.05, 0.04, 0.03, 0.02, 0.01], [17, 10, 9, 12, 20])
    np.testing.assert_allclose(share, expected, rtol=1e-5)
    np.testing.assert_allclose(found.xy, points, rtol=1e-6)


def changed(points, index, value):
    points = points.copy()
    points[index] = value
    return points


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda p: p[:67], "expected 68 points, found 67"),
        (lambda p: p.T, r"expected points of shape \(68, 2\), found \(2, 68\)"),
        (lambda p: changed(p, (12, 1), np.nan), r"found \(.*, nan\) at 12"),
        (lambda p: changed(p, 3, np.inf), r"found \(inf, inf\) at 3"),
        (lambda p: changed(p, 3, 1e30), r"found \(1e\+30, 1e\+30\) at 3"),
        (lambda p: np.full((68, 2), 5.0), r"found all of them at \(5, 5\)"),
        (lambda p: changed(p, 45, p[36]), "points 36 and 45, at least a pixel apart"),
        (lambda p: p * (1, 0) + (0, 9), "on one line"),
        (lambda p: p * (-1, 1), "mirrored"),
    ],
)
def test_points_that_are_no_face_are_refused(points, change, message):
    with pytest.raises(ValueError, match=message) as error:
        landmarks.landmarks_from_points(change(points))
    assert "\n" not in str(error.value)


def test_turned_faces_are_accepted(points):
    quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])
    for turn in (quarter, quarter @ quarter, quarter.T):
        landmarks.landmarks_from_points(points @ turn)


def test_hidden_points_take_no_part(points):
    hidden = [3, 4, 17, 36, 60]  # an outer eye corner among them
    marked = points.copy()
    marked[hidden] = np.nan
    found = landmarks.landmarks_from_points(marked)
    assert np.isinf(found.sigma_px[np.array(hidden)]).all()
    assert np.isfinite(found.xy).all()
    whole = landmarks.landmarks_from_points(points)
    others = np.delete(np.arange(68), hidden)
    np.testing.assert_allclose(found.sigma_px[others], whole.sigma_px[others], rtol=0.1)
    np.testing.assert_allclose(
        landmarks.eye_distance(found.xy), landmarks.eye_distance(whole.xy), rtol=0.1
    )


def test_the_ruler_of_hidden_eyes_turns_and_grows_with_the_face(points):
    marked = points.copy()
    marked[36:48] = np.nan
    ruler = landmarks.eye_distance(landmarks.landmarks_from_points(marked).xy)
    turn = 3.0 * np.array([[0.6, 0.8], [-0.8, 0.6]])
    turned = landmarks.eye_distance(landmarks.landmarks_from_points(marked @ turn).xy)
    np.testing.assert_allclose(turned, 3.0 * ruler, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.compiles
def test_where_hidden_points_would_be_does_not_move_the_fit(default_model, points):
    config, model = fit.METHODS["robust"], fit.prepare(default_model)
    marked = points.copy()
    marked[[2, 9, 31, 54]] = np.nan
    seen = fit.observe(landmarks.landmarks_from_points(marked), config)
    moved = seen.replace(xy=seen.xy.at[np.array([31, 54])].add(500.0))
    here, there = fit.fit_face(model, seen, config), fit.fit_face(model, moved, config)
    np.testing.assert_allclose(here.params.identity, there.params.identity, atol=1e-3)
    np.testing.assert_allclose(here.inner_error_px, there.inner_error_px, rtol=1e-3)
    placed = fit.fitted_points(model, here)
    off = np.linalg.norm(placed - points, axis=1) / float(here.eye_distance_px)
    assert off[17:].mean() < 0.03 and off[[31, 54]].max() < 0.15


def test_too_few_points_are_refused(points):
    marked = points.copy()
    marked[20:] = np.nan
    with pytest.raises(ValueError, match="at least 10 of the 51 inner points, found 3"):
        landmarks.landmarks_from_points(marked)


def test_pts_files_keep_the_points(tmp_path, points):
    write_pts(tmp_path / "face.pts", points)
    np.testing.assert_allclose(read_pts(tmp_path / "face.pts"), points, atol=1e-6)


def test_pts_files_count_pixels_from_one(tmp_path):
    path = tmp_path / "two.pts"
    path.write_text("version: 1\nn_points:  2\n{\n1.000 1.000\n 446.5\t91 \n}\n")
    np.testing.assert_array_equal(read_pts(path), [[0.5, 0.5], [446.0, 90.5]])


@pytest.mark.parametrize("mark", ["-1 -1", "0 0", "-1.000\t-1.0", "0.0 -0.0", "nan nan"])
def test_points_marked_as_hidden_are_nan(tmp_path, mark):
    path = tmp_path / "three.pts"
    path.write_text(f"version: 1\nn_points: 3\n{{\n5 6\n{mark}\n0 7\n}}\n")
    np.testing.assert_array_equal(read_pts(path), [[4.5, 5.5], [np.nan] * 2, [-0.5, 6.5]])
    write_pts(path, read_pts(path))
    np.testing.assert_array_equal(read_pts(path), [[4.5, 5.5], [np.nan] * 2, [-0.5, 6.5]])


@pytest.mark.parametrize(
    "content",
    [
        "version:1\nn_points:2\n{\n1 2\n3 4\n}\n".encode("utf-8-sig"),
        "version: 1\r\nn_points: 2\r\n{\r\n1 2\r\n3 4\r\n}\r\n".encode("utf-16"),
        b"VERSION : 1\nn_points : 2\n{\n1 2\n3 4\n}",
        b"# by hand\n\nversion:1\nn_points:2 {\n1 2\n3 4 }\n",
        b"{ 1 2\n3 4\n}",
    ],
)
def test_headers_are_read_as_people_write_them(tmp_path, content):
    (tmp_path / "two.pts").write_bytes(content)
    np.testing.assert_array_equal(read_pts(tmp_path / "two.pts"), [[0.5, 1.5], [2.5, 3.5]])


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "expected '{', found the end of the file at .*:0"),
        (
            "version: 1\nn_points: 2\n{\n1 2\n3 4\n",
            "expected '}', found the end .*:5",
        ),
        ("version: 1\n{\n1 2\n3 x\n}\n", "expected 'x y', found '3 x' at .*:4"),
        ("version: 1\n{\n1 2 3\n}\n", "expected 'x y', found '1 2 3' at .*:3"),
        ("n_points: many\n{\n}\n", "expected a count, found 'many' at .*:1"),
        ("n_points: 3\n{\n1 2\n}\n", "expected 3 points by its header, found 1 in"),
        ("1 2\n3 4\n", "expected 'n_points:' or '{', found '1 2' at .*:1"),
    ],
)
def test_broken_pts_files_are_refused(tmp_path, content, message):
    path = tmp_path / "broken.pts"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_pts(path)


def test_a_picture_is_no_pts_file(tmp_path):
    (tmp_path / "photo.pts").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    with pytest.raises(ValueError, match="found binary data"):
        read_pts(tmp_path / "photo.pts")
