"""Writes the two maps that eos has from files alone: landmarks to vertices, and what is contour.

Landmarks have their iBUG numbers, 1 to 68.
"""

import json
import pathlib
import tempfile
from types import ModuleType

from numpy.typing import NDArray

CHIN = 8  # of 0 to 67
RIGHT, LEFT = range(CHIN), range(16, CHIN, -1)  # contour landmarks, from the ear down


def write_maps(
    folder: pathlib.Path, landmark_vertices: NDArray, contour: tuple[NDArray, NDArray]
) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes both maps to a folder, in eos' formats.

    Args:
      folder: where to.
      landmark_vertices: [68], of which those of `RIGHT` and `LEFT` are left out.
      contour: vertices of the right and of the left contour.

    Returns:
      The paths of landmarks.toml and contour.json.
    """
    right, left = ([str(i + 1) for i in side] for side in (RIGHT, LEFT))
    lines = ["[landmark_mappings]"]
    lines += [
        f"{i + 1} = {vertex}"
        for i, vertex in enumerate(landmark_vertices)
        if i not in {*RIGHT, *LEFT}
    ]
    lines += ["[contour_landmarks]", f"right = {json.dumps(right)}", f"left = {json.dumps(left)}"]
    maps = folder / "landmarks.toml", folder / "contour.json"
    maps[0].write_text("\n".join(lines) + "\n", encoding="utf-8")
    sides = {"right_contour": contour[0].tolist(), "left_contour": contour[1].tolist()}
    maps[1].write_text(json.dumps({"model_contour": sides}), encoding="utf-8")
    return maps


def load_maps(
    eos: ModuleType, landmark_vertices: NDArray, contour: tuple[NDArray, NDArray]
) -> tuple:
    """Returns eos' `LandmarkMapper`, `ContourLandmarks` and `ModelContour`."""
    with tempfile.TemporaryDirectory() as folder:
        landmarks, sides = map(str, write_maps(pathlib.Path(folder), landmark_vertices, contour))
        return (
            eos.core.LandmarkMapper(landmarks),
            eos.fitting.ContourLandmarks.load(landmarks),
            eos.fitting.ModelContour.load(sides),
        )
