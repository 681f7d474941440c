"""Doubts about a face: whether it is one, and whether the fit is its likeness.

A warning says the number that raises the doubt. What is surely no face ends the work.
"""

import math

import numpy as np

from recon import landmarks
from recon.detection import search
from recon.fit import FaceFit
from scripts.shell import command

# Shares of the eye distance, means over the inner points.
_LARGE_ERROR = 0.1  # of the fit to its points: the face is another one; usual are 0.01 to 0.03
_WRONG_ERROR = 0.2  # the same: points at random have 0.25
_LARGE_GAP = 0.09  # of the fit to what a second look finds
_OTHER_POINTS = 0.2  # the same: a patch on a suit that scores 0.05, then 0.2, has 0.26
# Scores of a second look; `recon.detection.second_look` says what faces and others get.
_DOUBTFUL_LOOK = 0.4
_NO_FACE = 0.0


def check_fit(face: FaceFit) -> None:
    """Warns of a fit that is far from its points.

    Raises:
      WorkFailed: the fit diverged, or misses the points as if they were no face.
    """
    if not np.isfinite(face.cost):
        raise command.WorkFailed("the fit diverged: it helps to look at the landmarks")
    if not face.converged:
        command.warn("the fit stopped at its iteration limit")
    share = float(face.inner_error_px / face.eye_distance_px)
    text = f"the head misses the inner points by {share:.0%} of the eye distance"
    if share > _WRONG_ERROR:
        raise command.WorkFailed(f"{text}: they are not those of a face")
    if share > _LARGE_ERROR:
        command.warn(f"{text}: it helps to look at overlay.png")


def check_photo(photo: np.ndarray, fitted: np.ndarray, score: float | None) -> None:
    """Looks again at the photo, where the fit has its points, and warns of what disagrees.

    Args:
      photo: [H, W, 3] in [0, 1].
      fitted: [68, 2] pixels, of `fit.fitted_points`.
      score: the detector's of the face; None where somebody gave the points.

    Raises:
      WorkFailed: what the detector took for a face is surely none.
    """
    look = landmarks.check_face(photo, fitted)
    is_clear = score is None or score >= search.CLEAR_SCORE
    if not is_clear and (look.score < _NO_FACE or look.gap > _OTHER_POINTS):
        again = f"{look.score:.2f}, its points elsewhere by {look.gap:.0%} of the eye distance"
        raise command.WorkFailed(
            f"no face found: what is most like one scores {score:.2f}, where faces score 1, and "
            f"looked at again {again if math.isfinite(look.gap) else 'is none'}"
        )
    if score is not None and score < search.FALSE_ALARM:
        command.warn(
            f"the detector is unsure of this face: its score is {score:.2f}, and what is no face "
            f"may reach {search.FALSE_ALARM}"
        )
    elif look.score < _DOUBTFUL_LOOK:
        command.warn(
            f"looked at again where the head was fitted, the photo scores {look.score:.2f} as a "
            f"face, {_DOUBTFUL_LOOK} and more being usual: it helps to look at overlay.png"
        )
    elif look.gap > _LARGE_GAP:
        command.warn(
            f"looked at again, the photo has the face's points {look.gap:.0%} of the eye distance "
            "from where the head was fitted: it helps to look at overlay.png"
        )
