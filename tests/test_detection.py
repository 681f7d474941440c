"""Finding faces: turned and dim photos, boxes, the second look."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from recon import landmarks
from recon.detection import boxes, search
from recon.detection.exposure import to_8_bits
from recon.detection.second_look import look_again
from recon.landmarks import eye_distance


@pytest.fixture(scope="module")
def photo():
    return data.astronaut()[:300, 80:380] / np.float32(255)


@pytest.fixture(scope="module")
def points(photo):
    return landmarks.detect_landmarks(photo)


def gap(found, points):
    return np.linalg.norm(found - points, axis=1).mean() / eye_distance(points)


def test_points_turn_with_their_picture():
    picture = np.zeros((5, 7))
    picture[1, 4] = 1.0
    for turns in range(-3, 8):
        turned = np.rot90(picture, turns)
        ((x, y),) = boxes.turned_points(np.array([[4.5, 1.5]]), 7, 5, turns)
        assert turned[int(y), int(x)] == 1.0
        back = boxes.turned_box((x, y, x + 1, y + 2), *turned.shape[::-1], -turns)
        assert back[2] - back[0] == (2 if turns % 2 else 1)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_face_that_does_not_stand_upright_is_found(photo, points, turns):
    turned = np.rot90(photo, turns)
    found = landmarks.find_face(turned)
    assert found.score > 1.0 and found.quarter_turns == (4 - turns) % 4
    expected = boxes.turned_points(points, 300, 300, turns)
    assert gap(landmarks.detect_landmarks(turned), expected) < 0.01


def test_upright_faces_come_before_turned_ones(photo):
    both = np.concatenate([np.rot90(photo), photo], axis=1)
    first, second = landmarks.detect_faces(both, 2)[:2]
    assert first.quarter_turns == 0 and first.box[0] > 300
    assert second.quarter_turns == 3 and second.box[2] < 300
    assert landmarks.find_face(both) == first


@pytest.mark.parametrize("dimmed", [lambda x: 0.12 * x, lambda x: 0.04 * x, lambda x: 0.7 + x / 5])
def test_a_dim_or_hazy_photo_has_the_same_points(photo, points, dimmed):
    dim = np.rint(255 * dimmed(photo)).astype(np.uint8)  # as a file holds it
    found = landmarks.detect_landmarks(dim)
    assert gap(found, points) < 0.02
    np.testing.assert_allclose(eye_distance(found), eye_distance(points), rtol=0.02)

    def mouth_opening(xy):
        return np.linalg.norm(xy[66] - xy[62]) / eye_distance(xy)

    np.testing.assert_allclose(mouth_opening(found), mouth_opening(points), atol=0.02)


def test_a_lamp_beside_a_dim_face_does_not_hide_it(photo, points):
    dim = 0.12 * photo
    dim[:60, :60] = 1.0
    assert gap(landmarks.detect_landmarks(dim), points) < 0.02


def test_well_lit_photos_are_not_stretched(photo):
    expected = Image.fromarray((photo * 255 + 0.5).astype(np.uint8))
    np.testing.assert_array_equal(to_8_bits(photo), expected)
    black = np.zeros((4, 4, 3), np.float32)
    np.testing.assert_array_equal(to_8_bits(black), np.zeros((4, 4, 3)))


def test_a_second_look_confirms_a_face(photo, points):
    look = look_again(photo, points)
    assert look.score > 1.0 and look.gap < 0.03
    small = np.asarray(Image.fromarray((255 * photo).astype(np.uint8)).resize((90, 90)))
    assert look_again(small / np.float32(255), 0.3 * points).score > 0.4


def test_a_second_look_sees_points_in_the_wrong_place(photo, points):
    right, down = eye_distance(points) * np.eye(2)
    assert look_again(photo, points + 0.3 * right).gap > 0.2
    assert look_again(photo, points + 3.0 * down).score < 0.0
    middle = points.mean(0)
    assert look_again(photo, middle + 0.3 * (points - middle)).score < 0.0  # squeezed


@pytest.mark.parametrize("name", ["coffee", "gravel", "chelsea"])
def test_a_second_look_sees_that_there_is_no_face(name, points):
    picture = getattr(data, name)()
    picture = np.dstack([picture] * 3) if picture.ndim == 2 else picture
    look = look_again(picture / np.float32(255), points)
    assert look.score < search.FALSE_ALARM


def test_points_off_the_photo_are_no_face(photo, points):
    look = look_again(photo, points + 1000.0)
    assert look.score == -1.0 and np.isinf(look.gap)
