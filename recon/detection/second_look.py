"""A second look at a face whose points are known: is it one, and are the points right?

The face is cut out of the photo so that its points stand upright and at one size, and searched
again at several sizes. A face that was tilted, small or dim in the photo is now seen at its best;
what looked like a face by chance does not do so again. Measured, with points of fits:

                                                                    score          gap
  nine photos of five people, 79 times: turned by 0 to 270 degrees,
  tilted by 20 and 35, at 12 % and 4 % of the brightness, small     1.2 to 2.7     up to 0.05
  one of them tilted by 35 degrees, with points that are wrong      1.2            0.21
  24 faces of 25 pixels, enlarged                                   0.1 to 2.2     up to 0.02
  boxes anywhere in 50 pictures without a face, turned and not      -1.0 to -0.5   0.1 to inf
  nine places there that the detector scores highest, -0.3 to -0.1  -1.0 to 0.0    0.03 to inf
  a patch on a suit, which the detector scores 0.05                 0.2            0.26
  points moved by 0.6 of the eye distance, or shrunk by 0.4         -1.0 to -0.4   0.4 to inf
  moved by 0.3, grown by 1.6, flattened by half                     1.1 to 2.8     0.17 to 0.33
  narrowed by 0.6                                                   1.3 to 2.2     0.09 to 0.11
"""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from recon.detection.exposure import to_8_bits
from recon.detection.predictor import predict_in_box
from recon.detection.search import run_detector

_SIDE = 320  # pixels of the cut-out
_SPREAD = 60.0  # pixels, root mean square distance of the inner points to their middle
_ZOOMS = (0.5, 0.65, 0.8, 1.0, 1.25)  # dlib's window is 80 pixels, its pyramid's step 1.2
_LOWEST = -1.0  # score
_MAX_SHIFT = 0.12  # of the cut-out: a box further from its middle is another face
_BOX_SIDES = 0.25, 0.9  # of the cut-out
_INNER = slice(17, 68)
_RIGHT_EYE, _LEFT_EYE, _MOUTH = slice(36, 42), slice(42, 48), slice(48, 68)


class SecondLook(NamedTuple):
    """What a second look says of points."""

    score: float  # the detector's, of the face at its best; -1 where there is none
    gap: float  # inner points found anew to those given, mean, of the eye distance; inf: no face


def look_again(photo: np.ndarray, points: np.ndarray) -> SecondLook:
    """Looks again at the face with points [68, 2] in a photo [H, W, 3] in [0, 1]."""
    points = np.asarray(points, np.float64)
    axes, origin = _frame(points)
    pixels = _cut_out(photo, axes, origin)
    score, box = max(
        ((score, box) for zoom in _ZOOMS for score, box in _central_faces(pixels, zoom)),
        key=lambda face: face[0],
        default=(_LOWEST, None),
    )
    if box is None:
        return SecondLook(_LOWEST, math.inf)
    anew = predict_in_box(pixels / np.float32(255), box, 0) @ axes.T + origin
    offset = np.linalg.norm((anew - points)[_INNER], axis=1)
    return SecondLook(score, float(offset.mean() / np.linalg.norm(anew[45] - anew[36])))


def _frame(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Axes [2, 2] (columns: a pixel right, a pixel down) and origin [2] of the cut-out."""
    inner = points[_INNER]
    middle = inner.mean(0)
    right, left, mouth = (points[part].mean(0) for part in (_RIGHT_EYE, _LEFT_EYE, _MOUTH))
    down = mouth - 0.5 * (right + left)
    # Of a head turned aside the eyes say little, of one that nods the mouth: both vote.
    across = (left - right) + (down[1], -down[0])
    across = across / max(float(np.linalg.norm(across)), 1e-9)
    size = math.sqrt(((inner - middle) ** 2).sum(1).mean()) / _SPREAD
    axes = size * np.array([[across[0], -across[1]], [across[1], across[0]]])
    return axes, middle - axes @ np.array([0.5 * _SIDE, 0.5 * _SIDE])


def _cut_out(photo: np.ndarray, axes: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Returns the pixels [S, S, 3] uint8 of the cut-out; black off the photo."""
    corners = np.array([[0, 0], [_SIDE, 0], [0, _SIDE], [_SIDE, _SIDE]]) @ axes.T + origin
    size = np.array(photo.shape[1::-1])
    near = np.clip(np.floor(corners.min(0)), 0, size - 1).astype(int)
    far = np.clip(np.ceil(corners.max(0)), near + 1, size).astype(int)
    part = photo[near[1] : far[1], near[0] : far[0]]
    middle = slice(len(part) // 4, max(1, len(part) - len(part) // 4))
    picture = to_8_bits(part, part[middle])
    shrinking = max(1, int(np.linalg.norm(axes[:, 0])))  # one pixel in so many would be noise
    picture = picture.reduce(shrinking)
    moved = (axes, (origin - near)[:, None])
    matrix = np.concatenate(moved, axis=1) / shrinking
    return np.asarray(
        picture.transform(
            (_SIDE, _SIDE), Image.Transform.AFFINE, matrix.ravel(), Image.Resampling.BILINEAR
        )
    )


def _central_faces(pixels: np.ndarray, zoom: float):
    """Yields score and box of the faces in the middle of the cut-out, seen at another size."""
    side = round(_SIDE * zoom)
    seen = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR))
    for score, box in run_detector(seen, _LOWEST):
        left, top, right, bottom = (end * _SIDE / side for end in box)
        shift = max(abs(left + right - _SIDE), abs(top + bottom - _SIDE)) / (2 * _SIDE)
        if shift < _MAX_SHIFT and _BOX_SIDES[0] < (right - left) / _SIDE < _BOX_SIDES[1]:
            yield score, (left, top, right, bottom)
