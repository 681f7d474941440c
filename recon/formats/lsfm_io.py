"""Reads the MATLAB files of the Large Scale Face Model and the Liverpool-York Head Model.

Sources: Booth et al. 2018 (LSFM, MODELS.md); Dai et al. 2020 (LYHM). Both state variances.
"""

import os

import numpy as np

from recon.formats import landmark_maps
from recon.formats.raw_model import RawModel, columns, deviations, field, listed, points, refuse

_LSFM = "a Large Scale Face Model"
_LYHM = "a Liverpool-York Head Model"
_FULL_FACE = 53215  # vertices of the uncropped LSFM


def lsfm(path: os.PathLike, values: dict) -> RawModel:
    """Reads an LSFM file: variances, triangles counted from 0.

    A cropped model carries the landmarks of the full one over by its `map_cropped_to_full`.

    Args:
      path: the file, for the errors.
      values: its arrays by name.

    Raises:
      ValueError: one line, when an array is missing or does not fit.
    """
    mean = points(path, "mean", field(path, values, "mean", _LSFM))
    basis = columns(path, "components", field(path, values, "components", _LSFM), len(mean))
    variance = field(path, values, "eigenvalues", _LSFM)
    sd = np.sqrt(deviations(path, "eigenvalues", variance, basis.shape[-1]))
    landmarks = landmark_maps.known_landmarks(len(mean))
    if "map_cropped_to_full" in values:
        full = np.ravel(field(path, values, "map_cropped_to_full", _LSFM)).astype(int)
        if full.size != len(mean) or full.min() < 0 or full.max() >= _FULL_FACE:
            found = f"{full.size} from {full.min()} to {full.max()}"
            raise refuse(path, f"{len(mean)} vertices in 'map_cropped_to_full'", found)
        cropped = np.full(_FULL_FACE, -1)
        cropped[full] = np.arange(full.size)
        landmarks = cropped[landmark_maps.known_landmarks(_FULL_FACE)]
    return RawModel(
        mean=mean,
        triangles=field(path, values, "trilist", _LSFM),
        identity_modes=basis * sd,
        landmarks=landmarks,
        name="lsfm",
    )


def lyhm(path: os.PathLike, values: dict) -> RawModel:
    """Reads an LYHM file: structs `shp`, `tex` and `tri`, variances, triangles counted from 1.

    Args:
      path: the file, for the errors.
      values: its structs by name, each a dict of arrays.

    Raises:
      ValueError: one line, when an array is missing or does not fit.
    """
    mean, modes = _principal(path, values, "shp", None)
    colour = {}
    if "tex" in values:
        albedo_mean, albedo_modes = _principal(path, values, "tex", len(mean))
        colour = {"albedo_mean": albedo_mean, "albedo_modes": albedo_modes}
    return RawModel(
        mean=mean,
        triangles=field(path, _struct(path, values, "tri"), "faces", f"{_LYHM}: 'tri'"),
        first_index=1,
        identity_modes=modes,
        landmarks=landmark_maps.known_landmarks(len(mean)),
        name="lyhm",
        **colour,
    )


def _principal(path, values, name, num_vertices):
    group = _struct(path, values, name)
    mean = points(path, f"{name}.mu", field(path, group, "mu", f"{_LYHM}: '{name}'"))
    vectors = field(path, group, "eigVec", f"{_LYHM}: '{name}'")
    basis = columns(path, f"{name}.eigVec", vectors, num_vertices or len(mean))
    variance = field(path, group, "eigVal", f"{_LYHM}: '{name}'")
    return mean, basis * np.sqrt(deviations(path, f"{name}.eigVal", variance, basis.shape[-1]))


def _struct(path, values, name) -> dict:
    group = values.get(name)
    if not isinstance(group, dict):
        raise refuse(path, f"{_LYHM} with struct '{name}'", listed(values))
    return group
