"""Contour paths as a file: JSON that names the model they were drawn on.

  {"model": "...", "num_vertices": V,
   "paths": [{"landmark": 0, "vertices": [[a, b, c], ...], "barycentric": [[u, v, w], ...]}, ...]}

There are 17 paths, one for each landmark of the jaw, all with the same number of control points. A
path runs from the landmark (p = 0) to the front of the face (p = 1); each of its points is the mean
of three vertices by the barycentric weights.

Axes: C control points.
"""

import os

import numpy as np
from numpy.typing import NDArray

from recon.morphable import NUM_CONTOUR, MorphableModel
from render.files_io import read_object, write_json

_LEAST_POINTS = 3
_WEIGHT_TOLERANCE = 1e-3  # files with rounded weights are common
_DIGITS = 9  # of a written weight


def write_paths(
    path: str | os.PathLike, model: MorphableModel, path_vertices: NDArray, path_weights: NDArray
) -> None:
    """Writes the paths of `model`.

    Args:
      path: of the file.
      model: that the vertices belong to.
      path_vertices: [17, C, 3] triangle corners.
      path_weights: [17, C, 3] barycentric weights.
    """
    corners = np.asarray(path_vertices)
    weights = np.round(np.asarray(path_weights, np.float64), _DIGITS)
    data = {
        "model": model.name,
        "num_vertices": len(model.mean),
        "paths": [
            {"landmark": i, "vertices": corners[i], "barycentric": weights[i]}
            for i in range(NUM_CONTOUR)
        ],
    }
    write_json(path, data)


def read_paths(path: str | os.PathLike, model: MorphableModel) -> tuple[NDArray, NDArray]:
    """Reads the paths that were drawn on `model`, or on another model of the same mesh.

    Returns:
      Triangle corners [17, C, 3] int32 and barycentric weights [17, C, 3] float32.

    Raises:
      ValueError: one line, naming the file, what was expected in it and what was found.
    """
    data = read_object(path, "a file of contour paths")
    try:
        return _parse(data, len(model.mean))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _parse(data: dict, num_vertices: int) -> tuple[NDArray, NDArray]:
    if data.get("num_vertices") != num_vertices:
        raise ValueError(
            f"expected paths on a model of {num_vertices} vertices, "
            f"found {data.get('num_vertices')!r} ('{data.get('model')}')"
        )
    if not isinstance(data.get("paths"), list):
        raise ValueError("expected a list named 'paths', found none")
    found = {}
    for entry in data["paths"]:
        landmark = entry.get("landmark") if isinstance(entry, dict) else None
        if type(landmark) is not int or not 0 <= landmark < NUM_CONTOUR:
            raise ValueError(
                f"expected landmarks from 0 to {NUM_CONTOUR - 1}, found {landmark!r:.40}"
            )
        if landmark in found:
            raise ValueError(f"expected one path at landmark {landmark}, found two")
        try:
            found[landmark] = _parse_path(entry, num_vertices)
        except ValueError as error:
            raise ValueError(f"path {landmark}: {error}") from None
    missing = sorted(set(range(NUM_CONTOUR)) - set(found))
    if missing:
        raise ValueError(f"expected a path at each landmark of the jaw, found none at {missing}")
    lengths = sorted({len(corners) for corners, _ in found.values()})
    if len(lengths) > 1:
        raise ValueError(f"expected paths of as many points each, found {lengths}")
    corners, weights = (np.stack([found[i][k] for i in range(NUM_CONTOUR)]) for k in (0, 1))
    return corners.astype(np.int32), weights.astype(np.float32)


def _parse_path(entry: dict, num_vertices: int) -> tuple[NDArray, NDArray]:
    corners, weights = (_rows(entry, field) for field in ("vertices", "barycentric"))
    if len(corners) != len(weights) or len(corners) < _LEAST_POINTS:
        raise ValueError(
            f"expected {_LEAST_POINTS} points or more with as many weights, "
            f"found {len(corners)} and {len(weights)}"
        )
    is_vertex = (corners == np.floor(corners)) & (corners >= 0) & (corners < num_vertices)
    if not is_vertex.all():
        found = corners[~is_vertex][0]
        raise ValueError(f"expected vertices from 0 to {num_vertices - 1}, found {found:.12g}")
    if weights.min() < -_WEIGHT_TOLERANCE:
        raise ValueError(f"expected weights from 0 to 1, found {weights.min():.6g}")
    total = weights.sum(axis=1)
    worst = total[np.argmax(np.abs(total - 1.0))]
    if abs(worst - 1.0) > _WEIGHT_TOLERANCE:
        raise ValueError(f"expected weights that sum to 1, found {worst:.6g}")
    return corners.astype(np.int64), weights / total[:, None]


def _rows(entry: dict, field: str) -> NDArray:
    try:
        rows = np.array(entry.get(field), np.float64)
    except (TypeError, ValueError):
        rows = np.empty(0)
    if rows.ndim != 2 or rows.shape[-1] != 3 or not np.isfinite(rows).all():
        raise ValueError(f"expected rows of three numbers in '{field}', found something else")
    return rows
