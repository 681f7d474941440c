"""Photos cut for a generator of people: where the cut lies, and what is said against it."""

from unittest import mock

import numpy as np
import pytest

from models.stylegan.alignment import Frame, moved
from recon.looks.latent_people import BLOCKS, LATENT_SIZE
from scripts.generators import cuts, labels

SIDE = 8
PHOTO = np.random.default_rng(0).random((20, 24, 3), np.float32)
FACE = np.random.default_rng(1).uniform(4.0, 16.0, (68, 2))


def test_the_middle_square_of_a_picture_is_taken():
    with mock.patch.object(cuts, "measure", lambda *_: (0.0, 0.0)):
        cut = cuts.take_cut(PHOTO, None, SIDE)
    corners = np.array([[2.0, 0.0], [22.0, 20.0]])
    np.testing.assert_allclose(moved(corners, cut.matrix), [[0, 0], [1, 1]], atol=1e-9)
    assert cut.image.shape == (SIDE, SIDE, 3) and cut.doubt is None
    mean = 2.0 * PHOTO[:, 2:22].mean((0, 1)) - 1.0
    np.testing.assert_allclose(cut.image.mean((0, 1)), mean, atol=0.03)


@pytest.mark.parametrize(
    "measured, words",
    [(None, "no face is found"), ((0.0, 0.2), "lies 0.20 of the side from"), ((0.0, 0.05), None)],
)
def test_what_speaks_against_a_cut_picture_is_said(measured, words):
    with mock.patch.object(cuts, "measure", lambda *_: measured):
        doubt = cuts.doubt_of(PHOTO, None)
    assert doubt is None if words is None else words in doubt


def test_a_face_is_cut_by_its_points_and_one_like_no_other_is_said_to_be():
    other = np.random.default_rng(2).uniform(size=(68, 2))
    frame = Frame(np.radians([[0.0, 0.0], [30.0, -10.0]]), np.stack([other, FACE / 20.0]))
    cut = cuts.cut_face(PHOTO, FACE, frame, SIDE)
    np.testing.assert_allclose(cut.matrix, np.diag([0.05, 0.05, 1.0]), atol=1e-9)
    np.testing.assert_allclose(cut.pose, [30.0, -10.0])
    assert cut.doubt is None
    odd = cuts.cut_face(PHOTO, FACE, Frame(frame.pose[:1], frame.points[:1]), SIDE)
    assert "eye distances from those of any face" in odd.doubt
    assert cuts.cut_face(PHOTO, FACE, None, SIDE).pose is None


def test_labels_are_what_latents_of_any_length_mean():
    z = np.random.default_rng(3).normal(size=(5, LATENT_SIZE)).astype(np.float32)
    named, longer = labels.labels_of(z), labels.labels_of(3.0 * z)
    unit = z / np.sqrt(np.mean(z**2, 1, keepdims=True))
    for name, most in (("yaw", 40.0), ("pitch", 15.0)):
        wanted = most * np.tanh(unit[:, BLOCKS[name]][:, 0] / 1.6)
        np.testing.assert_allclose(named[name], wanted, rtol=1e-4)
    np.testing.assert_allclose(named["african"], unit[:, BLOCKS["origin"]][:, 1], rtol=1e-5)
    np.testing.assert_allclose(named["smile"], unit[:, BLOCKS["smile"]][:, 0], rtol=1e-5)
    for name, values in named.items():
        np.testing.assert_allclose(longer[name], values, rtol=1e-4, atol=1e-5)
