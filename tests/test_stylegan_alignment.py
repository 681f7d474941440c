"""Alignment: a known similarity is found again; FFHQ's square against its definition."""

import numpy as np
import pytest

from models.stylegan.alignment import (
    Alignment,
    Frame,
    align_as_ffhq,
    align_to_frame,
    cut_picture,
    displacement,
    moved,
    similarity_matrix,
)

ANGLE, SCALE, SHIFT = np.radians(25.0), 0.004, np.array([0.2, -0.3])
WAY = np.array(
    [
        [SCALE * np.cos(ANGLE), -SCALE * np.sin(ANGLE), SHIFT[0]],
        [SCALE * np.sin(ANGLE), SCALE * np.cos(ANGLE), SHIFT[1]],
        [0, 0, 1.0],
    ]
)


@pytest.fixture(scope="module")
def face():
    """Points that stand for a face, in pixels."""
    return np.random.default_rng(0).uniform(100, 200, (68, 2))


def test_a_known_similarity_is_found_again(face):
    np.testing.assert_allclose(similarity_matrix(face, moved(face, WAY)), WAY, atol=1e-9)


def test_the_view_and_the_cut_of_a_face_are_found_without_hidden_points(face):
    others = np.random.default_rng(1).uniform(0, 1, (3, 68, 2))
    frame = Frame(
        np.zeros((4, 2)), np.concatenate([others[:2], moved(face, WAY)[None], others[2:]])
    )
    seen = face.copy()
    seen[[3, 40]] = np.nan
    found = align_to_frame(seen, frame)
    assert found.view == 2 and found.residual < 1e-9
    np.testing.assert_allclose(found.matrix, WAY, atol=1e-9)
    cut_before = 64 * moved(seen, WAY)
    assert displacement(align_to_frame(cut_before, frame), cut_before, 64) < 1e-9
    aside = displacement(align_to_frame(cut_before + 6.4, frame), cut_before + 6.4, 64)
    assert aside == pytest.approx(0.1 * np.sqrt(2))
    with pytest.raises(ValueError, match="expected three inner points"):
        align_to_frame(np.full((68, 2), np.nan), frame)
    with pytest.raises(ValueError, match=r"shape \(68, 2\)"):
        align_to_frame(face[:5], frame)


def test_how_far_a_face_is_from_its_view_is_told_in_eye_distances():
    rng = np.random.default_rng(3)
    wanted = rng.uniform(0.3, 0.5, (68, 2))
    wanted[36], wanted[45] = [0.1, 0.4], [0.9, 0.4]  # 0.8 apart
    seen = 100.0 * wanted + rng.normal(size=(68, 2))
    found = align_to_frame(seen, Frame(np.zeros((1, 2)), wanted[None]))
    assert found.residual == pytest.approx(0.01 * np.sqrt(2) / 0.8, rel=0.15)


def test_ffhqs_square_of_an_upright_face_and_of_one_that_leans():
    points = np.zeros((68, 2))
    points[36:42], points[42:48] = [80.0, 100.0], [120.0, 100.0]
    points[48], points[54] = [85.0, 150.0], [115.0, 150.0]
    # Half the side: twice the eyes' distance 40 or 1.8 times that to the mouth 50, here 90;
    # the middle is a tenth of the way from the eyes to the mouth.
    matrix = align_as_ffhq(points).matrix
    center = np.array([100.0, 105.0])
    np.testing.assert_allclose(moved(center - 90, matrix), [0, 0], atol=1e-9)
    np.testing.assert_allclose(moved(center + 90, matrix), [1, 1], atol=1e-9)
    near = points.copy()
    near[[48, 54], 1] = 120.0  # to the mouth 20: the eyes' distance says
    wide = align_as_ffhq(near).matrix
    np.testing.assert_allclose(moved(np.array([20.0, 22.0]), wide), [0, 0], atol=1e-9)
    leaning = align_as_ffhq(moved(points, WAY)).matrix
    np.testing.assert_allclose(leaning @ WAY, matrix, atol=1e-9)
    with pytest.raises(ValueError, match="eyes and a mouth that lie apart"):
        align_as_ffhq(np.ones((68, 2)))


def test_a_cut_shows_the_photo_where_it_lies_and_averages_it():
    y, x = np.mgrid[:60, :80] + 0.5
    photo = np.stack([x / 80, y / 60, np.full_like(x, 0.5)], -1).astype(np.float32)
    matrix = np.array([[1 / 40, 0, -0.5], [0, 1 / 40, -0.25], [0, 0, 1]])  # x 20..60, y 10..50
    picture = cut_picture(photo, Alignment(matrix, None, 0.0), 8)
    assert picture.shape == (8, 8, 3) and picture.dtype == np.float32
    middles = np.arange(8) * 5 + 2.5
    np.testing.assert_allclose(picture[0, :, 0], (20 + middles) / 80, atol=1e-5)
    np.testing.assert_allclose(picture[:, 0, 1], (10 + middles) / 60, atol=1e-5)
    noise = np.random.default_rng(0).random((64, 64, 3), np.float32)
    shrunk = cut_picture(noise, Alignment(np.diag([1 / 64, 1 / 64, 1]), None, 0.0), 4)
    assert shrunk.std() < 0.05, "averaged, not picked"
