"""Reads the Basel Face Models: 2009 (`.mat`) and 2017/2019 (`.h5`, the statismo layout).

Axes: V vertices, T triangles, K modes.

Sources: Paysan et al. 2009; Gerig et al. 2018; the statismo file format, version 0.8 of which
stores the basis multiplied by the standard deviations and later ones orthonormal.
"""

import json
import os
import pathlib

import h5py
import numpy as np
import scipy.spatial
from numpy.typing import NDArray

from recon.formats import landmark_maps
from recon.formats.raw_model import (
    RawModel,
    columns,
    deviations,
    field,
    guarded,
    listed,
    points,
    refuse,
)

_BASEL_2009 = "a Basel 2009 model"
_STATISMO = "a statismo model (Basel 2017 or 2019)"


def basel_2009(path: os.PathLike, values: dict) -> RawModel:
    """Reads what `01_MorphableModel.mat` of Basel 2009 holds.

    `shapeEV` and `texEV` are standard deviations, in spite of their name; triangles count from 1.

    Args:
      path: the file, for the errors.
      values: its arrays by name.

    Raises:
      ValueError: one line, when an array is missing or does not fit.
    """
    mean = points(path, "shapeMU", field(path, values, "shapeMU", _BASEL_2009))
    modes = _scaled(path, values, "shapePC", "shapeEV", len(mean), _BASEL_2009)
    colour = {}
    if "texMU" in values:
        colour["albedo_mean"] = points(path, "texMU", field(path, values, "texMU", _BASEL_2009))
        colour["albedo_modes"] = _scaled(path, values, "texPC", "texEV", len(mean), _BASEL_2009)
    return RawModel(
        mean=mean,
        triangles=field(path, values, "tl", _BASEL_2009),
        first_index=1,
        identity_modes=modes,
        landmarks=landmark_maps.known_landmarks(len(mean)),
        name="basel-2009",
        **colour,
    )


def read_statismo(path: os.PathLike) -> RawModel:
    """Reads an `.h5` file of the statismo layout: Basel 2017, 2019 or any other mesh model.

    Raises:
      ValueError: one line, when the file is damaged or misses a data set.
    """
    path = pathlib.Path(path)
    return guarded(path, _STATISMO, lambda: _read_groups(path))


def _read_groups(path: pathlib.Path) -> RawModel:
    with h5py.File(path, "r") as file:
        shape = _parts(path, file, "shape/") or _parts(path, file, "")
        if shape is None:
            raise refuse(path, f"{_STATISMO} with 'shape/model/mean'", listed(file))
        expression, colour = _parts(path, file, "expression/"), _parts(path, file, "color/")
        triangles = _cells(path, file)
        named = _named_points(file)
    mean, modes = shape
    expression_modes, names = None, ()
    if expression is not None:
        if expression[0].shape != mean.shape:
            found = f"{len(expression[0])} in 'expression/model/mean'"
            raise refuse(path, f"{len(mean)} vertices", found)
        mean = mean + expression[0]  # the mean expression is a displacement, not a face
        expression_modes = expression[1]
        names = tuple(f"pca_{i}" for i in range(expression_modes.shape[-1]))
    landmarks = landmark_maps.known_landmarks(len(mean))
    if named:
        _, nearest = scipy.spatial.cKDTree(mean).query(np.array(list(named.values())))
        nearest = dict(zip(named, nearest.tolist(), strict=True))
        landmarks = landmark_maps.add_named(landmarks, nearest)
    return RawModel(
        mean=mean,
        triangles=triangles,
        identity_modes=modes,
        expression_modes=expression_modes,
        expression_names=names,
        albedo_mean=None if colour is None else colour[0],
        albedo_modes=None if colour is None else colour[1],
        landmarks=landmarks,
        name=path.stem,
    )


def _scaled(path, values, basis_key, sd_key, num_vertices, expected) -> NDArray:
    """Unit columns times their standard deviations: [V, 3, K] displacements."""
    basis = columns(path, basis_key, field(path, values, basis_key, expected), num_vertices)
    sd = field(path, values, sd_key, expected)
    return basis * deviations(path, sd_key, sd, basis.shape[-1])


def _parts(path, file: h5py.File, group: str) -> tuple[NDArray, NDArray] | None:
    """Returns mean [V, 3] and displacements per standard deviation [V, 3, K] of a group."""
    if f"{group}model/mean" not in file:
        return None
    keys = [f"{group}model/{key}" for key in ("mean", "pcaBasis", "pcaVariance")]
    for key in keys:
        if key not in file:
            raise refuse(path, f"{_STATISMO} with '{key}'", listed(file[f"{group}model"]))
    mean = points(path, keys[0], file[keys[0]][()])
    basis = columns(path, keys[1], file[keys[1]][()], len(mean))
    sd = np.sqrt(deviations(path, keys[2], file[keys[2]][()], basis.shape[-1]))
    return mean, basis if _is_premultiplied(file, group, basis, sd) else basis * sd


def _is_premultiplied(file: h5py.File, group: str, basis: NDArray, sd: NDArray) -> bool:
    """Whether the columns are already as long as their standard deviations.

    The version tells; a file without one is told by which length its columns are nearer to.
    """
    for place in (f"{group}version", "version"):
        parts = [f"{place}/majorVersion", f"{place}/minorVersion"]
        if all(part in file for part in parts):
            return tuple(int(np.ravel(file[part][()])[0]) for part in parts) <= (0, 8)
    length = np.linalg.norm(basis.reshape(-1, basis.shape[-1]), axis=0)
    length, sd = (x[(length > 0.0) & (sd > 0.0)] for x in (length, sd))
    return bool(np.abs(np.log(length / sd)).sum() < np.abs(np.log(length)).sum())


def _cells(path, file: h5py.File) -> NDArray:
    """Triangles [T, 3], 0-based; the file keeps one row per corner."""
    for key in ("shape/representer/cells", "representer/cells"):
        if key in file:
            cells = file[key][()]
            return cells.T if cells.shape[0] == 3 else cells
    raise refuse(path, f"{_STATISMO} with 'shape/representer/cells'", listed(file))


def _named_points(file: h5py.File) -> dict[str, list[float]]:
    """Coordinates in the mesh's unit by landmark name; empty where the file has no landmarks."""
    key = "metadata/landmarks/json"
    if key not in file:
        return {}
    text = np.ravel(file[key][()])[0]
    entries = json.loads(text)
    return {str(entry["id"]): [float(x) for x in entry["coordinates"]] for entry in entries}
