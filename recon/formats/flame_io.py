"""Reads FLAME (2017 to 2023): its `.pkl` or `.npz`, with the landmarks' embedding beside it.

Vertices of FLAME carry no landmarks: these lie in triangles, at barycentric weights that come in a
file of their own. The joints (jaw, neck, eyeballs) and their correctives are not used: the head is
fitted with its jaw shut, but for what the expressions do.

Axes: V = 5023 vertices, T = 9976 triangles. Units in the files: metres; y up, z out of the face.

Sources: Li et al. 2017; the embeddings of RingNet (51 points and the contour by yaw), DECA (68) and
VHAP (70: the pupils at the end).
"""

import os
import pathlib

import numpy as np
import scipy.sparse.csgraph
from numpy.typing import NDArray

from recon.formats.pickle_io import read_pickle
from recon.formats.raw_model import RawModel, field, foreign_kind, points, refuse
from recon.morphable import NUM_CONTOUR, NUM_LANDMARKS
from render import files_io
from render.pickle_io import is_pickle

_FLAME = "a FLAME model"
_NUM_IDENTITY = 300  # columns of `shapedirs`; those after are expressions
_NUM_PUPILS = 2
_MODELS = ("generic_model.*", "flame20*", "FLAME20*", "female_model.*", "male_model.*")
_EMBEDDINGS = ("landmark_embedding*", "*static_embedding*")
_BY_YAW = "*dynamic_embedding*"
_KINDS = (".pkl", ".npy", ".npz")
_HINT = "landmark_embedding.npy (of DECA or VHAP) or flame_static_embedding.pkl (of RingNet)"
# Names of triangles and weights in the embeddings: all points, inner points, the contour by yaw.
_ALL = ("full_lmk_faces_idx", "full_lmk_bary_coords")
_STATIC = ("static_lmk_faces_idx", "static_lmk_bary_coords")
_CONTOUR = ("dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords")
_RINGNET = ("lmk_face_idx", "lmk_b_coords")


def is_flame(values: dict) -> bool:
    """Whether named arrays are those of FLAME."""
    return "v_template" in values and "shapedirs" in values


def find_model(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the FLAME file in a folder, the one for all sexes first, or None."""
    found = (path for pattern in _MODELS for path in sorted(folder.glob(pattern)))
    return next((path for path in found if path.suffix in (".pkl", ".npz")), None)


def read_file(path: os.PathLike) -> dict[str, NDArray]:
    """Reads the named arrays of a `.pkl`, `.npy` or `.npz` of FLAME; nothing is executed.

    Raises:
      ValueError: one line, when the file is damaged or asks for anything but arrays.
    """
    path = pathlib.Path(path)
    with open(path, "rb") as file:
        head = file.read(128)
    if found := foreign_kind(head):
        raise refuse(path, f"{_FLAME} or its landmarks", found)
    if is_pickle(head) or path.suffix == ".npy":
        return read_pickle(path)
    return files_io.read_arrays(path, "an .npz of arrays")


def flame(path: os.PathLike, values: dict) -> RawModel:
    """Reads what a FLAME file holds, and the landmarks from the embedding beside it.

    Args:
      path: the file, for the errors; its folder is searched for the embedding.
      values: its arrays by name.

    Raises:
      ValueError: one line, when an array is missing or does not fit, or there is no embedding.
    """
    path = pathlib.Path(path)
    mean = points(path, "v_template", field(path, values, "v_template", _FLAME))
    modes = field(path, values, "shapedirs", _FLAME).astype(np.float32)
    if modes.ndim != 3 or modes.shape[:2] != mean.shape or not modes.shape[2]:
        raise refuse(path, f"'shapedirs' [{len(mean)}, 3, K]", f"shape {modes.shape}")
    triangles = field(path, values, "f", _FLAME)
    if triangles.ndim != 2 or triangles.shape[1] != 3 or not len(triangles):
        raise refuse(path, "triangles [T, 3] in 'f'", f"shape {triangles.shape}")
    triangles = triangles.astype(np.int64)
    if triangles.min() < 0 or triangles.max() >= len(mean):
        found = f"{triangles.min()} to {triangles.max()}"
        raise refuse(path, f"vertices 0 to {len(mean) - 1} in 'f'", found)
    corners, weights = _landmarks(path, triangles)
    expression = modes[..., _NUM_IDENTITY:]
    return RawModel(
        mean=mean,
        triangles=triangles,
        identity_modes=modes[..., :_NUM_IDENTITY],
        expression_modes=expression,
        expression_names=tuple(f"pca_{i}" for i in range(expression.shape[-1])),
        landmark_corners=corners,
        landmark_weights=weights,
        regions={"eyeballs": _eyeballs(triangles, len(mean))},
        name="flame",
    )


def _landmarks(path: pathlib.Path, triangles: NDArray) -> tuple[NDArray, NDArray]:
    """Returns corners [68, 3] and barycentric weights [68, 3] from the embedding beside `path`."""
    file = _beside(path, _EMBEDDINGS)
    if file is None:
        found = "no embedding of landmarks in its folder"
        raise refuse(path, f"{_FLAME} with {_HINT} beside it", found)
    values = read_file(file)
    if _ALL[0] in values:
        face, weights = _embedding(file, values, _ALL, 1)
    else:
        face, weights = _embedding(file, values, _STATIC if _STATIC[0] in values else _RINGNET, 1)
    face, weights = face[0], weights[0]
    if len(face) == NUM_LANDMARKS - NUM_CONTOUR:
        contour = _contour(path, file, values)
        face, weights = (
            np.concatenate(both) for both in zip(contour, (face, weights), strict=True)
        )
    if len(face) not in (NUM_LANDMARKS, NUM_LANDMARKS + _NUM_PUPILS):
        raise refuse(file, f"{NUM_LANDMARKS} landmarks, or the inner 51", str(len(face)))
    face, weights = face[:NUM_LANDMARKS], weights[:NUM_LANDMARKS]
    if face.max() >= len(triangles) or face.min() < -1:
        found = f"{face.min()} to {face.max()}"
        raise refuse(file, f"landmarks in triangles below {len(triangles)}", found)
    return np.where(face[:, None] < 0, -1, triangles[face]), weights


def _contour(path: pathlib.Path, file: pathlib.Path, values: dict) -> tuple[NDArray, NDArray]:
    """Returns triangles [17] and weights [17, 3] of the contour seen from the front; -1 unknown."""
    names = _CONTOUR
    if names[0] not in values:
        file, names = _beside(path, (_BY_YAW,)), _RINGNET
        if file is None:
            weights = np.tile(np.float32([1.0, 0.0, 0.0]), (NUM_CONTOUR, 1))
            return np.full(NUM_CONTOUR, -1), weights
        values = read_file(file)
    face, weights = _embedding(file, values, names, 2)
    if face.shape[1] != NUM_CONTOUR:
        raise refuse(file, f"{NUM_CONTOUR} points of the contour", str(face.shape[1]))
    return face[0], weights[0]  # rows are yaw angles, from 0 on


def _embedding(
    path: pathlib.Path, values: dict, names: tuple[str, str], num_axes: int
) -> tuple[NDArray, NDArray]:
    """Returns triangles [R, N] and weights [R, N, 3] of points; one row where R is no axis."""
    face = field(path, values, names[0], "an embedding of landmarks")
    weights = field(path, values, names[1], "an embedding of landmarks")
    if num_axes == 1:
        face = face.reshape(1, -1)
        weights = weights.reshape(1, -1, 3) if weights.size % 3 == 0 else weights
    if face.ndim != 2 or not face.size or weights.shape != (*face.shape, 3):
        found = f"{face.shape} and {weights.shape}"
        raise refuse(path, f"'{names[0]}' [N] and '{names[1]}' [N, 3]", found)
    return face.astype(np.int64), weights.astype(np.float32)


def _beside(path: pathlib.Path, patterns: tuple[str, ...]) -> pathlib.Path | None:
    """Returns the first file in the folder of `path` by one of the patterns, or None."""
    found = (near for pattern in patterns for near in sorted(path.parent.glob(pattern)))
    return next((near for near in found if near.suffix in _KINDS), None)


def _eyeballs(triangles: NDArray, num_vertices: int) -> NDArray:
    """Membership [V]: of the mesh's pieces, the eyeballs are all but the largest."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
    graph = scipy.sparse.coo_matrix((np.ones(len(edges)), edges.T), (num_vertices,) * 2)
    _, piece = scipy.sparse.csgraph.connected_components(graph, directed=False)
    return (piece != np.bincount(piece).argmax()).astype(np.float32)
