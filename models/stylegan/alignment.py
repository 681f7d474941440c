"""Alignment: photos cut as the training pictures were, the face's points where theirs lay.

A generator knows faces in one place and size. A photo that is cut otherwise has no latent that is
worth anything, which is the first cause of an inversion that looks like somebody else. Two rules
are here: the square of FFHQ, from eyes and mouth, and frames: where the points lay in the training
pictures, for each turn of the head. The points are a detector's, or those of a head that is known,
seen by a known camera.

Photos [H, W, 3]; pixels x right, y down, the centre of the top left pixel at (0.5, 0.5). Places in
a cut picture are shares of its side. Axes: P points of a face, 68 by the iBUG markup; V views.

Sources: Karras et al. 2019 (FFHQ's square); Umeyama 1991 (similarity of points).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage import transform

from render.image import as_picture, box_downsample

NUM_CONTOUR = 17  # points of the outline, which are elsewhere on the head once it is turned
_RIGHT_EYE, _LEFT_EYE = slice(36, 42), slice(42, 48)
_EYE_CORNERS = (36, 45)
_MOUTH_CORNERS = (48, 54)
_MOST_SAMPLES = 16  # of a pixel, along a side


class Frame(NamedTuple):
    """Where the points of a face lie in a generator's training pictures."""

    pose: NDArray  # [V, 2] yaw and pitch, radians
    points: NDArray  # [V, P, 2] shares of the side


class Alignment(NamedTuple):
    """How a photo is to be cut."""

    matrix: NDArray  # [3, 3] pixels of the photo to shares of the side
    view: int | None  # of the frame, that fits best
    residual: float  # root mean square distance of the points from the frame's, in eye distances


def similarity_matrix(points: NDArray, target: NDArray) -> NDArray:
    """Returns the [3, 3] that turns, scales and moves points [P, 2] nearest to others."""
    found = transform.SimilarityTransform.from_estimate(points, target)
    if not found:
        raise ValueError(f"expected points that lie apart, found {len(points)} at one place")
    return found.params


def align_to_frame(points: NDArray, frame: Frame) -> Alignment:
    """Finds the view in which a frame's points are most like those of a photo.

    Args:
      points: [68, 2] pixels; NaN leaves a point out.
      frame: of the generator.

    Raises:
      ValueError: fewer than three of the inner points are there.
    """
    points = _checked(points)
    inner = slice(NUM_CONTOUR, None)
    is_seen = np.isfinite(points[inner]).all(1)
    if is_seen.sum() < 3:
        raise ValueError(f"expected three inner points at least, found {int(is_seen.sum())}")
    seen, best = points[inner][is_seen], None
    for view, wanted in enumerate(frame.points):
        target = wanted[inner][is_seen]
        matrix = similarity_matrix(seen, target)
        away = np.sqrt(np.mean(np.sum((moved(seen, matrix) - target) ** 2, -1)))
        right, left = wanted[list(_EYE_CORNERS)]
        # A turned head's eyes are nearer to each other; the nose and the mouth are still the ruler.
        ruler = max(np.linalg.norm(left - right), np.linalg.norm(np.ptp(wanted[inner], 0)) / 2)
        if best is None or away / ruler < best.residual:
            best = Alignment(matrix, view, float(away / ruler))
    return best


def align_as_ffhq(points: NDArray) -> Alignment:
    """Returns the square around a face that FFHQ's pictures were cut by, of points [68, 2]."""
    points = _checked(points)
    eyes = np.stack([points[_RIGHT_EYE].mean(0), points[_LEFT_EYE].mean(0)])
    between, mouth = eyes.mean(0), points[list(_MOUTH_CORNERS)].mean(0)
    across, down = eyes[1] - eyes[0], mouth - between
    half = across - np.array([-down[1], down[0]])  # the mouth below turned to the right
    length = np.linalg.norm(half)
    if not length > 0:  # NaN compares false
        raise ValueError("expected eyes and a mouth that lie apart, found no such points")
    half *= max(2.0 * np.linalg.norm(across), 1.8 * np.linalg.norm(down)) / length
    center = between + 0.1 * down
    below = np.array([-half[1], half[0]])
    corners = np.stack([center - half - below, center - half + below, center + half + below])
    return Alignment(similarity_matrix(corners, np.array([[0, 0], [0, 1], [1, 1]])), None, 0.0)


def moved(points: NDArray, matrix: NDArray) -> NDArray:
    """Applies a similarity [3, 3] to points [..., 2]."""
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def displacement(alignment: Alignment, points: NDArray, side: int) -> float:
    """Returns how far a picture that is cut already is from being cut well.

    Args:
      alignment: of its points.
      points: [68, 2] pixels in it.
      side: of it, pixels.

    Returns:
      Root mean square distance that the alignment would move the inner points by, in shares of the
      side: zero for a picture of the training set's own cut.
    """
    points = np.asarray(points, np.float64)[NUM_CONTOUR:]
    away = moved(points, alignment.matrix) - points / side
    return float(np.sqrt(np.nanmean(np.sum(away**2, -1))))


def cut_picture(photo: NDArray, alignment: Alignment, side: int) -> NDArray:
    """Cuts a photo; beyond its ends it goes on mirrored.

    Args:
      photo: [H, W, 3] in [0, 1].
      alignment: of its face.
      side: of the picture, pixels.

    Returns:
      [side, side, 3] float32 in [0, 1].
    """
    photo = as_picture(photo)
    to_photo = np.linalg.inv(alignment.matrix)
    step = np.sqrt(abs(np.linalg.det(to_photo[:2, :2]))) / side  # of a pixel, in the photo's
    samples = int(np.clip(np.ceil(step), 1, _MOST_SAMPLES))
    fine = side * samples
    # From indices of samples to shares, to pixels, to indices, which are half a pixel less.
    to_share = np.array([[1 / fine, 0, 0.5 / fine], [0, 1 / fine, 0.5 / fine], [0, 0, 1]])
    to_index = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1.0]])
    way = transform.AffineTransform(matrix=to_index @ to_photo @ to_share)
    sampled = transform.warp(photo, way, output_shape=(fine, fine), order=1, mode="reflect")
    return np.asarray(box_downsample(np.asarray(sampled, np.float32), samples))


def _checked(points: NDArray) -> NDArray:
    points = np.asarray(points, np.float64)
    if points.shape != (68, 2):
        raise ValueError(f"expected points of shape (68, 2), found {points.shape}")
    return points
