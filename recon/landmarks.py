"""Landmarks of a face: the 68 iBUG points, where they come from and how far to trust them.

Pixels: x right, y down, the centre of the top left pixel at (0.5, 0.5), so that an integer pixel
index of dlib gains half a pixel. Points 0-16 run along the contour from the picture's left to its
right, 17-26 are the brows, 36-41 and 42-47 the eyes, 48-67 the mouth.

Source: Sagonas et al. 2013 (the markup). What is found in pictures, `recon.detection` finds.
"""

import dataclasses

import jax
import numpy as np
from flax import struct
from numpy.typing import ArrayLike

from recon.detection.boxes import Box
from recon.detection.predictor import predict_in_box
from recon.detection.search import FoundFace, search_faces
from recon.detection.second_look import SecondLook, look_again
from recon.morphable import NUM_CONTOUR, NUM_LANDMARKS
from render.image import as_picture

CHIN, RIGHT_EYE_CORNER, LEFT_EYE_CORNER = 8, 36, 45

# Where the inner points of the default head's mean are, seen from the front: millimetres right of
# and below the middle between the outer eye corners. A stand-in for hidden ones, as a ruler.
_INNER_MM = np.array(
    [
        *((-55, -11), (-47, -21), (-32, -21), (-24, -22), (-10, -16)),
        *((10, -16), (24, -22), (32, -21), (47, -21), (55, -11)),
        *((0, -3), (0, 7), (0, 15), (0, 26)),
        *((-12, 37), (-6, 38), (0, 40), (6, 38), (12, 37)),
        *((-41, 0), (-33, -6), (-25, -5), (-17, 0), (-26, 2), (-33, 3)),
        *((17, 0), (25, -5), (33, -6), (41, 0), (33, 3), (26, 2)),
        *((-23, 62), (-14, 55), (-5, 51), (0, 52), (5, 51), (14, 55), (23, 62)),
        *((13, 70), (7, 71), (0, 71), (-7, 71), (-13, 70)),
        *((-20, 62), (-5, 59), (0, 60), (5, 59), (20, 62), (6, 61), (0, 61), (-6, 61)),
    ],
    np.float64,
)
_FEWEST_INNER = 10  # a pose has six unknowns, and a face its shape

GROUPS = ("contour", "brow", "nose", "eye", "mouth")
GROUP_SIZES = (NUM_CONTOUR, 10, 9, 12, 20)


class NoFaceError(RuntimeError):
    """The detector found no face."""


@struct.dataclass
class Landmarks:
    """Where the 68 points are in the photo, and how well that is known."""

    xy: jax.Array  # [68, 2] pixels
    sigma_px: jax.Array  # [68] standard deviation of each coordinate; inf leaves a point out


@dataclasses.dataclass(frozen=True)
class DetectorNoise:
    """Standard deviations of dlib's points, as fractions of the outer eye distance.

    Its errors, root mean squares of each coordinate, against the landmarks of random people of the
    default head, turned up to 30 degrees (`evaluate_fit --detector=dlib`): what it is always off by
    is in them. The contour's are distances to the visible outline.
    """

    contour: float = 0.045
    brow: float = 0.03
    nose: float = 0.013
    eye: float = 0.016
    mouth: float = 0.017


def eye_distance(xy: jax.Array) -> jax.Array:
    """Returns the distance [] of the outer eye corners of points [68, 2], the ruler of a face."""
    return ((xy[LEFT_EYE_CORNER] - xy[RIGHT_EYE_CORNER]) ** 2).sum() ** 0.5


def landmarks_from_points(xy: np.ndarray, noise: DetectorNoise | None = None) -> Landmarks:
    """Checks points [68, 2] and gives each its standard deviation.

    A point that is NaN is hidden: it gets an infinite deviation, which leaves it out of the fit.

    Raises:
      ValueError: a count other than 68, a number that is not finite, too few points that are seen,
        or points that are no face.
    """
    noise = noise or DetectorNoise()
    xy = np.asarray(xy, np.float64)
    _check_numbers(xy)
    is_hidden = hidden_points(xy)
    xy = _filled(xy, is_hidden)
    _check_points(xy, is_hidden)
    fraction = np.repeat([getattr(noise, group) for group in GROUPS], GROUP_SIZES)
    sigma_px = np.where(is_hidden, np.inf, fraction * eye_distance(xy))
    return jax.device_put(Landmarks(xy=xy, sigma_px=sigma_px))


def hidden_points(xy: np.ndarray) -> np.ndarray:
    """Returns [N] bool: which of the points [N, 2] are marked as hidden, by NaN."""
    return np.isnan(xy).all(1)


def _check_numbers(xy: np.ndarray) -> None:
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise ValueError(f"expected points of shape (68, 2), found {xy.shape}")
    if len(xy) != NUM_LANDMARKS:
        raise ValueError(f"expected 68 points, found {len(xy)}")
    is_fine = (np.abs(xy) < 1e6).all(1)  # NaN compares false
    wrong = np.flatnonzero(~is_fine & ~hidden_points(xy))
    if wrong.size:
        raise ValueError(f"expected pixel coordinates, found {_text(xy[wrong[0]])} at {wrong[0]}")
    num_seen = int((~hidden_points(xy))[NUM_CONTOUR:].sum())
    if num_seen < _FEWEST_INNER:
        raise ValueError(
            f"expected at least {_FEWEST_INNER} of the 51 inner points, found {num_seen} that are "
            "not hidden"
        )


def _filled(xy: np.ndarray, is_hidden: np.ndarray) -> np.ndarray:
    """Puts hidden points where a mean face seen from the front, laid over the others, has them.

    They take no part in the fit; the eye corners among them are its ruler.
    """
    if not is_hidden.any():
        return xy
    seen = ~is_hidden[NUM_CONTOUR:]
    # As complex numbers: turning and scaling is one factor.
    face, found = (points[:, 0] + 1j * points[:, 1] for points in (_INNER_MM, xy[NUM_CONTOUR:]))
    middle, found_middle = face[seen].mean(), found[seen].mean()
    local = face[seen] - middle
    factor = np.vdot(local, found[seen] - found_middle) / np.vdot(local, local)
    laid = (face - middle) * factor + found_middle
    laid = np.concatenate([np.full(NUM_CONTOUR, laid.mean()), laid])
    return np.where(is_hidden[:, None], np.stack([laid.real, laid.imag], -1), xy)


def _check_points(xy: np.ndarray, is_hidden: np.ndarray) -> None:
    seen = xy[~is_hidden]
    if np.ptp(seen, axis=0).max() == 0:
        raise ValueError(f"expected 68 different points, found all of them at {_text(seen[0])}")
    if eye_distance(xy) < 1.0:
        raise ValueError(
            f"expected the outer eye corners, points {RIGHT_EYE_CORNER} and {LEFT_EYE_CORNER}, "
            f"at least a pixel apart, found {eye_distance(xy):.3g} pixels"
        )
    long_axis, short_axis = np.linalg.svd(seen - seen.mean(0), compute_uv=False)
    if short_axis < 0.01 * long_axis:
        raise ValueError("expected the points of a face, found all of them on one line")
    (right, down), (x, y) = xy[LEFT_EYE_CORNER] - xy[RIGHT_EYE_CORNER], xy[CHIN] - xy[36]
    if not is_hidden[CHIN] and right * y - down * x < 0:
        raise ValueError(
            "expected point 36 at the picture's left eye and 45 at its right, found them mirrored"
        )


def _text(point: np.ndarray) -> str:
    return f"({point[0]:g}, {point[1]:g})"


def detect_faces(photo: ArrayLike, num_faces: int = 1) -> list[FoundFace]:
    """Finds the faces of a photo, those that are clear first, in an order that does not change.

    A large photo is searched small first, upright and on its three other sides. Only when fewer
    than `num_faces` clear faces show up is it searched again at twice and four times that size,
    which finds upright faces down to 40 pixels.

    Args:
      photo: [H, W, 3] in [0, 1], or whatever `render.image.as_picture` takes.
      num_faces: so many are wanted; more may come.
    """
    return search_faces(as_picture(photo), num_faces)


def find_face(photo: ArrayLike, face: int = 0) -> FoundFace:
    """Finds one face of a photo.

    Args:
      photo: [H, W, 3] in [0, 1], or whatever `render.image.as_picture` takes.
      face: which face, in the order of `detect_faces`; 0 is the clearest.

    Raises:
      NoFaceError: no face at all.
      ValueError: fewer faces than asked for, or no photo.
    """
    photo = as_picture(photo)
    faces = search_faces(photo, face + 1)
    height, width = photo.shape[:2]
    if not faces:
        raise NoFaceError(
            f"no face found in the {width} x {height} photo: it helps to crop it closer to a face "
            "seen from the front, or to give the 68 points yourself"
        )
    if not 0 <= face < len(faces):
        raise ValueError(f"expected a face from 0 to {len(faces) - 1}, found {face}")
    return faces[face]


def detect_landmarks(photo: ArrayLike, face: int = 0) -> np.ndarray:
    """Finds the points [68, 2] of one face of a photo; arguments and errors as of `find_face`."""
    photo = as_picture(photo)
    found = find_face(photo, face)
    return predict_points(photo, found.box, found.quarter_turns)


def predict_points(photo: ArrayLike, box: Box, quarter_turns: int = 0) -> np.ndarray:
    """Finds the points [68, 2] of the face inside `box` of a photo.

    Args:
      photo: [H, W, 3] in [0, 1], or whatever `render.image.as_picture` takes.
      box: left, top, right and bottom end of the face, pixels.
      quarter_turns: `np.rot90(photo, quarter_turns)` shows the face upright.
    """
    return predict_in_box(as_picture(photo), box, quarter_turns)


def check_face(photo: ArrayLike, points: np.ndarray) -> SecondLook:
    """Looks again at a photo where points [68, 2], none of them hidden, have a face.

    Args:
      photo: [H, W, 3] in [0, 1], or whatever `render.image.as_picture` takes.
      points: [68, 2] pixels; those of a fit tell what the fit is worth.
    """
    return look_again(as_picture(photo), points)
