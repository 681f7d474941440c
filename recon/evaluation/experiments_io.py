"""Experiment files: one .npz per face, open to any program that reads NumPy's arrays."""

import os

import jax
import numpy as np

from recon.evaluation.experiments import Experiment
from recon.morphable import NUM_LANDMARKS
from render.files_io import read_arrays, replacing

_WHAT = "an experiment of evaluate_fit, .npz"
_SHAPES = {  # A views, V vertices, K modes
    "vertices": ("V", 3),
    "identity": ("K",),
    "rotation": ("A", 3, 3),
    "translation": ("A", 2),
    "scale": ("A",),
    "angles_deg": ("A", 3),
    "xy": ("A", NUM_LANDMARKS, 2),
    "sigma_px": ("A", NUM_LANDMARKS),
}


def write_experiment(path: str | os.PathLike, experiment: Experiment) -> None:
    """Writes one face with its views; arrays as in `Experiment`."""
    arrays = {name: np.asarray(getattr(experiment, name), np.float32) for name in _SHAPES}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def read_experiment(path: str | os.PathLike) -> Experiment:
    """Reads what `write_experiment` wrote.

    Raises:
      ValueError: one line, when the file is missing, damaged or holds something else.
    """
    arrays = read_arrays(path, _WHAT)
    sizes: dict[str, int] = {}
    for name, shape in _SHAPES.items():
        if name not in arrays:
            raise ValueError(f"expected {_WHAT}, found no '{name}' in {path}")
        found = arrays[name].shape
        fits = len(found) == len(shape) and all(
            size == (sizes.setdefault(axis, size) if isinstance(axis, str) else axis)
            for axis, size in zip(shape, found, strict=True)
        )
        if not fits:
            raise ValueError(f"expected '{name}' of shape {shape} in {path}, found {found}")
    return Experiment(**{name: arrays[name] for name in _SHAPES})


def write_results(path: str | os.PathLike, results: dict[str, np.ndarray]) -> None:
    """Writes arrays by name: what one method made of one face, and its scores."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **jax.device_get(results))


def read_results(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads what `write_results` wrote.

    Raises:
      ValueError: as of `read_experiment`.
    """
    return read_arrays(path, "results of evaluate_fit, .npz")
