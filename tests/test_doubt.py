"""What is doubted of a face, and what ends the work."""

import pathlib
import types

import numpy as np
import pytest
from skimage import data

from recon import landmarks
from recon.detection import search
from recon.landmarks_io import read_pts
from scripts.shell import command, doubt

POINTS = read_pts(pathlib.Path(__file__).parent / "data" / "astronaut.pts")


@pytest.fixture(scope="module")
def photo():
    return data.astronaut() / np.float32(255)


def fit_with(share, converged=True, cost=1.0):
    return types.SimpleNamespace(
        inner_error_px=np.float32(50 * share),
        eye_distance_px=np.float32(50),
        converged=converged,
        cost=cost,
    )


def test_a_face_is_not_doubted(photo, capsys):
    doubt.check_fit(fit_with(0.02))
    for score in (1.5, 0.3, None):
        doubt.check_photo(photo, POINTS, score)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "points, score, warning",
    [
        (POINTS, 0.1, "unsure of this face: its score is 0.10"),
        (POINTS + 0.2 * np.diff(POINTS[[36, 45]], axis=0), 1.5, "points 2"),
        (0.4 * (POINTS - POINTS.mean(0)) + POINTS.mean(0), None, "scores -1.00 as a face"),
        (POINTS + 200.0, 1.5, "as a face, 0.4 and more being usual"),
    ],
)
def test_a_doubt_comes_with_its_number(photo, capsys, points, score, warning):
    doubt.check_photo(photo, points, score)
    (line,) = capsys.readouterr().err.splitlines()
    assert "warning: " in line and warning in line


@pytest.mark.parametrize("score", [0.05, 0.4])
def test_what_is_no_face_ends_the_work(score):
    gravel = np.dstack([data.gravel()] * 3) / np.float32(255)
    with pytest.raises(command.WorkFailed, match=rf"no face found: .* scores {score}.* is none"):
        doubt.check_photo(gravel, POINTS, score)


def test_a_false_alarm_of_the_detector_ends_the_work(photo):
    patch = landmarks.find_face(photo, 1)  # on her suit
    assert 0.0 <= patch.score < search.FALSE_ALARM
    with pytest.raises(command.WorkFailed, match=r"no face found: .* its points elsewhere by 2"):
        doubt.check_photo(photo, landmarks.predict_points(photo, patch.box), patch.score)


@pytest.mark.parametrize(
    "fit, warning",
    [
        (fit_with(0.15), "misses the inner points by 15% of the eye distance"),
        (fit_with(0.02, converged=False), "stopped at its iteration limit"),
    ],
)
def test_a_poor_fit_is_warned_of(capsys, fit, warning):
    doubt.check_fit(fit)
    assert warning in capsys.readouterr().err


@pytest.mark.parametrize("fit", [fit_with(0.25), fit_with(0.02, cost=np.nan)])
def test_a_fit_to_no_face_ends_the_work(fit):
    with pytest.raises(command.WorkFailed, match=r"not those of a face|diverged"):
        doubt.check_fit(fit)
