"""What a file leaves open of a lens follows from what it says."""

import numpy as np
import pytest

from render.captures.intrinsics import Intrinsics, distortion_of, is_same_view, lens_of

ANGLE = 2 * np.arctan(0.5)  # a side of one focal length


@pytest.mark.parametrize(
    "focal, angle, expected",
    [
        ((30.0, 31.0), (None, None), (30, 31)),
        ((30.0, None), (None, None), (30, 30)),
        ((None, 31.0), (None, None), (31, 31)),
        ((None, None), (ANGLE, None), (24, 24)),
        ((None, None), (None, ANGLE), (18, 18)),
        ((None, None), (ANGLE, ANGLE), (24, 18)),
        ((30.0, None), (ANGLE, ANGLE), (30, 18)),
    ],
)
@pytest.mark.parametrize("is_said", [True, False])
def test_focal_lengths_follow_from_either_axis(focal, angle, expected, is_said):
    intrinsics = Intrinsics(focal, angle, size=(24, 18) if is_said else None)
    lens = lens_of(intrinsics, (24, 18))
    np.testing.assert_allclose(lens.focal, expected)
    np.testing.assert_allclose(lens.center, [12, 9])


def test_a_lens_is_scaled_to_the_photo():
    intrinsics = Intrinsics((30.0, 31.0), center=(12.5, None), size=(24, 18))
    lens = lens_of(intrinsics, (12, 6))
    np.testing.assert_allclose([*lens.focal, *lens.center], [15, 31 / 3, 6.25, 3])


@pytest.mark.parametrize(
    "size, other, is_same",
    [
        ((4000, 3000), (4000, 3000), True),
        ((1237, 822), (4946, 3286), True),  # a fourth, rounded
        ((1236, 821), (4946, 3286), True),  # or cut
        ((1600, 1063), (4946, 3286), True),
        ((1920, 1080), (1280, 720), True),
        ((63, 47), (126, 94), True),
        ((24, 18), (25, 18), False),
        ((18, 24), (24, 18), False),
        ((1920, 1080), (1920, 1200), False),
    ],
)
def test_a_copy_has_the_sides_of_its_original(size, other, is_same):
    assert is_same_view(size, other) == is_same_view(other, size) == is_same


def test_terms_stand_in_the_order_of_opencv():
    terms = {name: i + 1.0 for i, name in enumerate("k1 k2 p1 p2 k3 k4 k5 k6".split())}
    assert distortion_of("FULL_OPENCV", terms).terms == (1, 2, 3, 4, 5, 6, 7, 8)
    assert distortion_of("RADIAL", {"k1": 1.0, "k2": 2.0}).terms == (1, 2, 0, 0, 0, 0, 0, 0)
    fisheye = distortion_of("THIN_PRISM_FISHEYE", {"k1": 1.0, "p1": 0.0, "k4": 4.0, "sx1": 0.0})
    assert fisheye.is_fisheye and fisheye.terms[:4] == (1, 0, 0, 4)
    for model in ("FULL_OPENCV", "FOV", "PINHOLE"):
        assert distortion_of(model, {"k4": 0.0, "omega": 0.0}).is_none


@pytest.mark.parametrize(
    "model, name", [("OPENCV", "k4"), ("FOV", "omega"), ("OPENCV_FISHEYE", "p1"), ("PINHOLE", "k6")]
)
def test_a_term_of_unknown_meaning_is_refused(model, name):
    with pytest.raises(ValueError, match=f"no {name} of a {model} lens, found 0.1; undistort"):
        distortion_of(model, {name: 0.1})
