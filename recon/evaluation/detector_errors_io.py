"""Files of a detector's errors, .npz: measured on some faces, used on others."""

import os
import pathlib

import numpy as np

from recon.evaluation.detector_errors import DetectorErrors
from recon.morphable import NUM_CONTOUR, NUM_LANDMARKS
from render.files_io import read_arrays, replacing

_SHIPPED = pathlib.Path(__file__).parents[1] / "data" / "dlib_errors.npz"
_SHIPPED_MODEL = "default head"
_WHAT = "a detector's errors, written by evaluate_fit"
_INNER = NUM_LANDMARKS - NUM_CONTOUR
_SHAPES = {
    "offsets": (NUM_LANDMARKS, 3),
    "sigma": (NUM_LANDMARKS,),
    "correlation": (_INNER, _INNER),
}


def write_errors(path: str | os.PathLike, errors: DetectorErrors, model_name: str) -> None:
    """Writes errors, and of which model's landmarks they are."""
    arrays = {name: np.float32(getattr(errors, name)) for name in _SHAPES}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays, model=np.array(model_name))


def shipped_errors(model_name: str) -> DetectorErrors | None:
    """dlib's errors on the landmarks of the default head; None for any other model."""
    return read_errors(_SHIPPED, model_name) if model_name == _SHIPPED_MODEL else None


def read_errors(path: str | os.PathLike, model_name: str) -> DetectorErrors:
    """Reads errors of this model's landmarks.

    Raises:
      ValueError: one line, when the file is missing, damaged, something else or of another model.
    """
    arrays = read_arrays(path, _WHAT)
    for name, shape in {"model": (), **_SHAPES}.items():
        if name not in arrays or arrays[name].shape != shape:
            raise ValueError(f"expected {_WHAT}, found no '{name}' {list(shape)} in {path}")
    if str(arrays["model"]) != model_name:
        raise ValueError(f"expected errors of {model_name}, found {arrays['model']} in {path}")
    return DetectorErrors(**{name: np.asarray(arrays[name], np.float64) for name in _SHAPES})
