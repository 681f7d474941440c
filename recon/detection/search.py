"""Where the faces of a photo are, upright or lying on their sides.

Source: King 2009 and 2015 (dlib's detector: a sliding window over gradient histograms).
"""

import functools
from typing import NamedTuple

import dlib
import numpy as np
from PIL import Image

from recon.detection.boxes import Box, overlap, turned_box
from recon.detection.exposure import to_8_bits

# What counts as nothing. Nine photos of five people score 1.3 to 2.3, tilted by 35 degrees 0.5 and
# more. In 50 pictures without a face (textures, rooms, landscapes, a toy), each turned four ways,
# dlib found two, which scored 0.00 and 0.06.
FALSE_ALARM = 0.2
CLEAR_SCORE = 0.5  # a face this clear ends the search
_SEARCH_SIDES = (1024, 2048, 4096)  # longest side searched, one after the other
_TURNS = (1, 3, 2)  # quarters, counter-clockwise; people lie more often than they hang
_MAX_ENLARGEMENT = 2.0  # beyond it the detector sees faces in blur
_SAME_FACE = 0.3  # overlap of two boxes on one face


class FoundFace(NamedTuple):
    """A face that the detector found."""

    score: float  # the detector's; below FALSE_ALARM it may be anything
    box: Box  # in the photo as it is
    quarter_turns: int = 0  # `np.rot90(photo, quarter_turns)` shows it upright


def search_faces(photo: np.ndarray, num_faces: int) -> list[FoundFace]:
    """Finds the faces of a photo [H, W, 3] in [0, 1], the clearest of each pass first.

    The passes: all of the photo made small, the same turned by quarters, then larger. They end as
    soon as `num_faces` clear faces are known. What is not clear follows, so that asking for more
    faces does not reorder those already known.
    """
    picture = to_8_bits(photo)
    clear: list[FoundFace] = []
    doubtful: list[FoundFace] = []
    for size, quarter_turns in _passes(*picture.size):
        for found in _detect(picture, size, quarter_turns):
            if not _is_new(found, clear):
                continue
            if found.score >= CLEAR_SCORE:
                clear.append(found)
            elif found.score >= FALSE_ALARM or not quarter_turns:  # four ways, four false alarms
                doubtful.append(found)
        if len(clear) >= num_faces:
            break
    faces = list(clear)
    for found in sorted(doubtful, key=lambda face: -face.score):
        if _is_new(found, faces):
            faces.append(found)
    return faces


def run_detector(pixels: np.ndarray, lowest: float) -> list[tuple[float, Box]]:
    """Returns score and box of all that dlib finds in pixels [H, W, 3] uint8, the clearest first.

    `lowest` is the smallest score that is returned.
    """
    rectangles, scores, _ = _detector().run(np.ascontiguousarray(pixels), 0, lowest)
    found = [
        (float(score), (float(r.left()), float(r.top()), r.right() + 1.0, r.bottom() + 1.0))
        for r, score in zip(rectangles, scores, strict=True)
    ]
    return sorted(found, key=lambda face: -face[0])


def _passes(width: int, height: int) -> list[tuple[tuple[int, int], int]]:
    longest = max(width, height)
    factors = [min(1.0, _SEARCH_SIDES[0] / longest)]
    factors += [min(_MAX_ENLARGEMENT, side / longest) for side in _SEARCH_SIDES[1:]]
    sizes = [(max(1, round(f * width)), max(1, round(f * height))) for f in dict.fromkeys(factors)]
    return [(sizes[0], 0), *((sizes[0], turn) for turn in _TURNS), *((s, 0) for s in sizes[1:])]


def _detect(picture: Image.Image, size: tuple[int, int], quarter_turns: int) -> list[FoundFace]:
    """Finds faces in a picture at another size and turned; their boxes in it as it is."""
    pixels = np.rot90(np.asarray(picture.resize(size, Image.Resampling.BILINEAR)), quarter_turns)
    height, width = pixels.shape[:2]
    factor = size[0] / picture.width
    faces = []
    for score, box in run_detector(pixels, 0.0):
        back = turned_box(box, width, height, -quarter_turns)
        faces.append(FoundFace(score, tuple(end / factor for end in back), quarter_turns))
    return faces


def _is_new(face: FoundFace, faces: list[FoundFace]) -> bool:
    return all(overlap(face.box, known.box) < _SAME_FACE for known in faces)


@functools.lru_cache(maxsize=1)
def _detector() -> dlib.fhog_object_detector:
    return dlib.get_frontal_face_detector()
