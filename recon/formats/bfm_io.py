"""Reads the Basel Face Models: 2009 (`.mat`), what others made of it, and 2017/2019 (`.h5`).

2009 comes as its makers' `01_MorphableModel.mat`, as face3d's `BFM.mat` and as the
`BFM_model_front.mat` of Deep3DFaceReconstruction; 2017 and 2019 in the statismo layout.

Axes: V vertices, T triangles, K modes.

Sources: Paysan et al. 2009; face3d, `morphable_model/load.py`; Deng et al. 2019, `load_mats.py`;
Gerig et al. 2018; the statismo file format, version 0.8 of which stores the basis multiplied by the
standard deviations and later ones orthonormal.
"""

import json
import os
import pathlib

import h5py
import numpy as np
import scipy.spatial
from numpy.typing import NDArray

from recon.formats import landmark_maps
from recon.formats.matlab_io import read_dataset
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
from recon.morphable import NUM_LANDMARKS

_BASEL_2009 = "a Basel 2009 model"
_FACE3D = "a BFM.mat of face3d"
_DEEP3D = "a BFM_model_front.mat of Deep3DFaceReconstruction"
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
    return RawModel(
        mean=mean,
        triangles=field(path, values, "tl", _BASEL_2009),
        first_index=1,
        identity_modes=_scaled(path, values, "shapePC", "shapeEV", len(mean), _BASEL_2009),
        landmarks=landmark_maps.known_landmarks(len(mean)),
        name="basel-2009",
        **_scaled_colours(path, values, len(mean), _BASEL_2009),
    )


def face3d(path: os.PathLike, values: dict) -> RawModel:
    """Reads face3d's `BFM.mat`: Basel 2009 without the inner mouth, with expressions.

    Arrays are named as in Basel 2009; triangles run along columns, they and landmarks count from 1.

    Args:
      path: the file, for the errors.
      values: the arrays of its struct `model` by name.

    Raises:
      ValueError: one line, when an array is missing or does not fit.
    """
    mean = points(path, "shapeMU", field(path, values, "shapeMU", _FACE3D))
    modes = _scaled(path, values, "shapePC", "shapeEV", len(mean), _FACE3D)
    expression = {}
    if "expPC" in values:
        expression["expression_modes"] = _scaled(path, values, "expPC", "expEV", len(mean), _FACE3D)
        expression["expression_names"] = _numbered(expression["expression_modes"])
    if "expMU" in values:
        offset = points(path, "expMU", field(path, values, "expMU", _FACE3D))
        if offset.shape != mean.shape:
            raise refuse(path, f"{len(mean)} vertices", f"{len(offset)} in 'expMU'")
        mean = mean + offset
    triangles = field(path, values, "tri", _FACE3D)
    return RawModel(
        mean=mean,
        triangles=triangles.T if len(triangles) == 3 else triangles,
        first_index=1,
        identity_modes=modes,
        landmarks=_landmarks(path, values, "kpt_ind", len(mean), _FACE3D),
        name="basel-2009-face3d",
        **expression,
        **_scaled_colours(path, values, len(mean), _FACE3D),
    )


def deep3d(path: os.PathLike, values: dict) -> RawModel:
    """Reads `BFM_model_front.mat`: Basel 2009 cropped to the face, with expressions.

    Columns are displacements of one standard deviation; triangles and landmarks count from 1.

    Args:
      path: the file, for the errors.
      values: its arrays by name.

    Raises:
      ValueError: one line, when an array is missing or does not fit.
    """

    def modes(key):
        return columns(path, key, field(path, values, key, _DEEP3D), len(mean))

    mean = points(path, "meanshape", field(path, values, "meanshape", _DEEP3D))
    colour = {}
    if "meantex" in values:
        colour["albedo_mean"] = points(path, "meantex", field(path, values, "meantex", _DEEP3D))
        colour["albedo_modes"] = modes("texBase")
    expression = modes("exBase")
    return RawModel(
        mean=mean,
        triangles=field(path, values, "tri", _DEEP3D),
        first_index=1,
        identity_modes=modes("idBase"),
        expression_modes=expression,
        expression_names=_numbered(expression),
        landmarks=_landmarks(path, values, "keypoints", len(mean), _DEEP3D),
        name="basel-2009-front",
        **colour,
    )


def is_statismo(path: os.PathLike) -> bool:
    """Whether an HDF5 file is laid out as statismo's; MATLAB writes HDF5 as well."""

    def look():
        with h5py.File(path, "r") as file:
            return any(key in file for key in ("shape", "representer", "model/mean"))

    return guarded(path, "an HDF5 file", look)


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
        names = _numbered(expression_modes)
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


def _scaled_colours(path, values, num_vertices, expected) -> dict[str, NDArray]:
    if "texMU" not in values:
        return {}
    return {
        "albedo_mean": points(path, "texMU", field(path, values, "texMU", expected)),
        "albedo_modes": _scaled(path, values, "texPC", "texEV", num_vertices, expected),
    }


def _numbered(modes: NDArray) -> tuple[str, ...]:
    return tuple(f"pca_{i}" for i in range(modes.shape[-1]))


def _landmarks(path, values, name, num_vertices, expected) -> NDArray:
    """The published landmarks [68] of the mesh; where there are none, the file's, from 1."""
    known = landmark_maps.known_landmarks(num_vertices)
    if name not in values or (known >= 0).any():
        return known
    own = field(path, values, name, expected).ravel().astype(np.int64) - 1
    if own.size != NUM_LANDMARKS:
        raise refuse(path, f"{NUM_LANDMARKS} landmarks in '{name}'", str(own.size))
    return own


def _parts(path, file: h5py.File, group: str) -> tuple[NDArray, NDArray] | None:
    """Returns mean [V, 3] and displacements per standard deviation [V, 3, K] of a group."""
    if f"{group}model/mean" not in file:
        return None
    keys = [f"{group}model/{key}" for key in ("mean", "pcaBasis", "pcaVariance")]
    for key in keys:
        if key not in file:
            raise refuse(path, f"{_STATISMO} with '{key}'", listed(file[f"{group}model"]))
    mean = points(path, keys[0], read_dataset(path, file[keys[0]]))
    basis = columns(path, keys[1], read_dataset(path, file[keys[1]]), len(mean))
    sd = np.sqrt(deviations(path, keys[2], read_dataset(path, file[keys[2]]), basis.shape[-1]))
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
            cells = read_dataset(path, file[key])
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
