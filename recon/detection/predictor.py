"""The 68 points of the face in a box.

Source: Kazemi and Sullivan 2014 (dlib's predictor).
"""

import functools
import importlib.util
import pathlib

import dlib
import numpy as np
from PIL import Image

from recon.detection.boxes import Box, turned_box, turned_points
from recon.detection.exposure import to_8_bits

_PREDICTION_SIDE = 400  # pixels of the face box: dlib rounds to pixels, here 0.1 % of a face
_BOX_MARGIN = 0.6  # of the box, seen around it
# The predictor follows the box it is given: over boxes moved by 3 % its scatter halves
# (inner points, astronaut photo resampled 40 ways: 0.36 % of the eye distance down to 0.16 %).
_BOX_SHIFTS = ((0.0, 0.0), (0.03, 0.0), (-0.03, 0.0), (0.0, 0.03), (0.0, -0.03))


def predict_in_box(photo: np.ndarray, box: Box, quarter_turns: int) -> np.ndarray:
    """Finds the points [68, 2] of the face in a box of a photo [H, W, 3] in [0, 1].

    `np.rot90(photo, quarter_turns)` shows the face upright.
    """
    height, width = photo.shape[:2]
    turned = np.rot90(photo, quarter_turns)
    points = _predict_upright(turned, turned_box(box, width, height, quarter_turns))
    return turned_points(points, turned.shape[1], turned.shape[0], -quarter_turns)


def _predict_upright(photo: np.ndarray, box: Box) -> np.ndarray:
    height, width = photo.shape[:2]
    corners = np.reshape(box, (2, 2))  # left top, right bottom
    side = box[2] - box[0]
    near = np.maximum(np.floor(corners[0] - _BOX_MARGIN * side), 0).astype(int)
    far = np.minimum(np.ceil(corners[1] + _BOX_MARGIN * side), (width, height)).astype(int)
    if (far <= near).any():
        raise ValueError(f"expected a box inside the {width} x {height} photo, found {box}")
    size = np.maximum(np.rint((far - near) * _PREDICTION_SIDE / side), 1).astype(int)
    scale = size / (far - near)  # pixels of the crop per pixel of the photo
    left, top, right, bottom = np.maximum(np.rint(corners), 0).astype(int).ravel()
    crop = to_8_bits(photo[near[1] : far[1], near[0] : far[0]], photo[top:bottom, left:right])
    pixels = np.asarray(crop.resize(tuple(size.tolist()), Image.Resampling.BILINEAR))

    points = []
    for shift in _BOX_SHIFTS:
        moved = np.rint((corners + side * np.array(shift) - near) * scale).astype(int)
        moved[1] -= 1  # dlib's rectangles contain their last pixel
        found = _predictor()(pixels, dlib.rectangle(*moved.ravel().tolist()))
        points.append([(part.x + 0.5, part.y + 0.5) for part in found.parts()])
    return np.mean(points, axis=0) / scale + near


def model_file(name: str) -> str:
    """Returns where one of dlib's models lies.

    Raises:
      FileNotFoundError: the package that brings them is not installed.
    """
    # Never imported: its __init__ asks for pkg_resources, which new setuptools no longer have.
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package face_recognition_models is not installed")
    return str(pathlib.Path(spec.submodule_search_locations[0]) / "models" / name)


@functools.lru_cache(maxsize=1)
def _predictor() -> dlib.shape_predictor:
    return dlib.shape_predictor(model_file("shape_predictor_68_face_landmarks.dat"))
