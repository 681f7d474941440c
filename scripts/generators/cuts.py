"""Photos of faces, cut as a generator's training pictures were, and what speaks against them."""

from typing import NamedTuple

import numpy as np

from models.stylegan import alignment
from models.stylegan.alignment import Alignment, Frame
from models.stylegan.generator import Generator
from recon import landmarks
from recon.assets import load_model
from recon.looks.latent_frame import frame_points, frame_views
from render.image import resize
from scripts.generators.labels import is_of_people

# Of 60 renders of the training set, with the detector's points, all are below 0.054; real faces are
# less like the mean head, or the detector is less sure of them.
MOST_RESIDUAL = 0.1  # eye distances
MOST_DISPLACEMENT = 0.06  # of the side
_SEEN_SIDE = 256  # pixels that a small picture is enlarged to before a face is looked for


class Cut(NamedTuple):
    """A picture that can be inverted."""

    image: np.ndarray  # [r, r, 3] in [-1, 1]
    matrix: np.ndarray  # [3, 3] pixels of the photo to shares of the side
    doubt: str | None  # what speaks against it
    pose: np.ndarray | None = None  # [2] yaw and pitch in degrees, by its points


def frame_of(generator: Generator) -> Frame | None:
    """Returns where points lie in a generator's pictures; None stands for FFHQ's square."""
    if not is_of_people(generator):
        return None
    pose = frame_views()
    return Frame(pose, np.asarray(frame_points(load_model(), np.float32(pose)), np.float64))


def cut_face(photo: np.ndarray, points: np.ndarray | None, frame: Frame | None, side: int) -> Cut:
    """Cuts the face of a photo.

    Args:
      photo: [H, W, 3] in [0, 1].
      points: [68, 2] pixels; None has them detected.
      frame: of the generator.
      side: of the picture, pixels.

    Raises:
      NoFaceError: none is found.
    """
    points = landmarks.detect_landmarks(photo) if points is None else points
    found = _align(points, frame)
    doubt = None
    if found.residual > MOST_RESIDUAL:
        doubt = (
            f"its points are {found.residual:.2f} eye distances from those of any face in the "
            f"training pictures, at most {MOST_RESIDUAL} are usual"
        )
    pose = None if frame is None else np.degrees(frame.pose[found.view])
    image = 2.0 * alignment.cut_picture(photo, found, side) - 1.0
    return Cut(image, found.matrix, doubt, pose)


def take_cut(photo: np.ndarray, frame: Frame | None, side: int) -> Cut:
    """Takes a picture that is said to be cut as the training pictures are, and looks at it.

    Args:
      photo: [H, W, 3] in [0, 1]; its middle square is taken.
      frame: of the generator.
      side: of the picture, pixels.
    """
    height, width = photo.shape[:2]
    least = min(height, width)
    top, left = (height - least) // 2, (width - least) // 2
    square = photo[top : top + least, left : left + least]
    matrix = np.array([[1 / least, 0, -left / least], [0, 1 / least, -top / least], [0, 0, 1.0]])
    image = 2.0 * alignment.cut_picture(photo, Alignment(matrix, None, 0.0), side) - 1.0
    return Cut(image, matrix, doubt_of(square, frame))


def doubt_of(square: np.ndarray, frame: Frame | None) -> str | None:
    """Says what speaks against a cut picture [H, H, 3] in [0, 1], or None."""
    measured = measure(square, frame)
    if measured is None:
        return "no face is found in it"
    _, away = measured
    if away > MOST_DISPLACEMENT:
        return (
            f"its face lies {away:.2f} of the side from where the training pictures have it, at "
            f"most {MOST_DISPLACEMENT} is usual"
        )
    return None


def measure(square: np.ndarray, frame: Frame | None) -> tuple[float, float] | None:
    """Returns residual and displacement of a cut picture; None when no face is found."""
    if len(square) < _SEEN_SIDE:
        square = np.asarray(resize(np.float32(square), _SEEN_SIDE, _SEEN_SIDE))
    faces = landmarks.detect_faces(square)
    if not faces:
        return None
    points = landmarks.predict_points(square, faces[0].box, faces[0].quarter_turns)
    found = _align(points, frame)
    return found.residual, alignment.displacement(found, points, len(square))


def _align(points: np.ndarray, frame: Frame | None) -> Alignment:
    if frame is None:
        return alignment.align_as_ffhq(points)
    return alignment.align_to_frame(points, frame)
