"""Reads the ICT-FaceKit light face model: its folder of `.obj` files, or a packed `.npz` of it.

Only the face, head and neck are kept: the first 11,248 vertices, which no triangle joins to the
rest (teeth, eyeballs, sockets, lashes). Units in the files: centimetres.

Source: Li et al. 2020; the README of ICT-FaceKit (vertex ranges, landmarks, names).
"""

import json
import os
import pathlib
import re

import numpy as np
from numpy.typing import NDArray

from recon.formats import landmark_maps
from recon.formats.raw_model import RawModel, field, refuse

NUM_HEAD = 11248
LANDMARKS = np.array(landmark_maps.ICT)
_NUM_FACE = 9409  # the head's own first part
_NEUTRAL = "generic_neutral_mesh.obj"
_CONFIG = "vertex_indices.json"


def find_folder(path: pathlib.Path) -> pathlib.Path | None:
    """Returns the folder that holds the neutral mesh: `path` or its `FaceXModel`, or None."""
    for folder in (path, path / "FaceXModel"):
        if (folder / _NEUTRAL).is_file():
            return folder
    return None


def read_ict(folder: os.PathLike) -> RawModel:
    """Reads the folder `FaceXModel`: the neutral mesh, `identity*.obj` and the expressions.

    Raises:
      ValueError: one line, naming the file that is missing, cut short or of another mesh.
    """
    folder = pathlib.Path(folder)
    neutral = folder / _NEUTRAL
    text = neutral.read_text(errors="replace")
    mean = _positions(neutral, text)
    corners = _triangles(neutral, text)
    identities = sorted(folder.glob("identity[0-9][0-9][0-9].obj"))
    if not identities:
        raise refuse(folder, "identity000.obj", f"{len(list(folder.iterdir()))} other files")
    expressions = _expressions(folder)
    return RawModel(
        mean=mean,
        triangles=corners[..., 0],
        identity_modes=_displacements(identities, mean),
        expression_modes=_displacements(expressions, mean) if expressions else None,
        expression_names=tuple(path.stem for path in expressions),
        is_blendshapes=True,
        landmarks=LANDMARKS,
        **_texture(neutral, text, corners[..., 1]),
        regions=_regions(),
        name="ict-facekit-light",
    )


def ict_npz(path: os.PathLike, values: dict) -> RawModel:
    """Reads a packed head: `mean` [V, 3], `tri` [T, 3] and `modes` [K, V, 3], in centimetres.

    Args:
      path: the file, for the errors.
      values: its arrays by name. A list `lm68` is not used: its jaw points are not on the outline.

    Raises:
      ValueError: one line, when an array is missing or of another mesh.
    """
    expected = "a packed ICT head"
    mean = field(path, values, "mean", expected).astype(np.float32)
    if mean.shape != (NUM_HEAD, 3):
        raise refuse(path, f"'mean' of {NUM_HEAD} vertices", f"shape {mean.shape}")
    modes = field(path, values, "modes", expected).astype(np.float32)
    if modes.ndim != 3 or modes.shape[1:] != mean.shape:
        raise refuse(path, f"'modes' [K, {NUM_HEAD}, 3]", f"shape {modes.shape}")
    return RawModel(
        mean=mean,
        triangles=field(path, values, "tri", expected),
        identity_modes=np.moveaxis(modes, 0, -1),
        landmarks=LANDMARKS,
        regions=_regions(),
        name="ict-facekit-light",
    )


def _positions(path: pathlib.Path, text: str) -> NDArray:
    """Returns the first `NUM_HEAD` vertices [V, 3] of an `.obj` file that starts with them."""
    first = re.search("^v ", text, re.MULTILINE)
    lines = text[first.start() :].split("\n", NUM_HEAD)[:NUM_HEAD] if first else []
    rows = [line.split() for line in lines]
    if len(rows) < NUM_HEAD or any(len(row) != 4 or row[0] != "v" for row in rows):
        good = sum(len(row) == 4 and row[0] == "v" for row in rows)
        raise refuse(path, f"{NUM_HEAD} vertices", f"{good} (file cut short?)")
    try:
        return np.array([row[1:] for row in rows], np.float32)
    except ValueError as error:
        raise refuse(path, "numbers in lines 'v x y z'", str(error)) from error


def _triangles(path: pathlib.Path, text: str) -> NDArray:
    """Returns the head's faces as triangles [T, 3, 2] of vertex and texture coordinate, 0-based.

    Most faces have four corners, some three; a face of more becomes a fan from its first corner.
    """
    faces = [line.split()[1:] for line in text.splitlines() if line.startswith("f ")]
    fans = []
    for size in sorted({len(face) for face in faces}):
        same = [[c.split("/")[:2] for c in face] for face in faces if len(face) == size]
        try:
            corners = np.array(same, int) - 1
        except ValueError as error:
            raise refuse(path, "faces of corners v/vt", "other faces") from error
        if size < 3 or corners.ndim != 3 or corners.shape[2] != 2 or corners.min() < 0:
            raise refuse(path, "faces of 3 or more corners v/vt", f"shape {corners.shape}")
        corners = corners[(corners[..., 0] < NUM_HEAD).all(axis=1)]
        fans += [corners[:, [0, i, i + 1]] for i in range(1, size - 1)]
    if not sum(map(len, fans)):
        raise refuse(path, "faces of the head", f"{len(faces)} faces")
    return np.concatenate(fans)


def _displacements(paths: list[pathlib.Path], mean: NDArray) -> NDArray:
    """Returns [V, 3, N]: each shape less the neutral one."""
    modes = np.empty((*mean.shape, len(paths)), np.float32)
    for index, path in enumerate(paths):
        modes[..., index] = _positions(path, path.read_text(errors="replace")) - mean
    return modes


def _expressions(folder: pathlib.Path) -> list[pathlib.Path]:
    """Lists the expression files in the order of the model's own configuration."""
    config = folder / _CONFIG
    if not config.is_file():
        others = sorted(folder.glob("*.obj"))
        return [p for p in others if p.name != _NEUTRAL and not p.name.startswith("identity")]
    try:
        names = json.loads(config.read_text())["expressions"]
        paths = [folder / f"{name}.obj" for name in names]
    except (ValueError, KeyError, TypeError) as error:
        raise refuse(config, "a list 'expressions'", type(error).__name__) from error
    for path in paths:
        if not path.is_file():
            raise refuse(path, "an expression named in vertex_indices.json", "no such file")
    return paths


def _texture(path: pathlib.Path, text: str, uv_triangles: NDArray) -> dict[str, NDArray]:
    """Keeps the texture coordinates that the head uses."""
    lines = [line.split()[1:3] for line in text.splitlines() if line.startswith("vt ")]
    try:
        uvs = np.array(lines, np.float32)
    except ValueError as error:
        raise refuse(path, "numbers in lines 'vt u v'", str(error)) from error
    used, index = np.unique(uv_triangles, return_inverse=True)
    if not len(uvs) or used[0] < 0 or used[-1] >= len(uvs):
        raise refuse(path, f"{used[-1] + 1} texture coordinates", str(len(uvs)))
    return {"uvs": uvs[used], "uv_triangles": index.reshape(uv_triangles.shape)}


def _regions() -> dict[str, NDArray]:
    return {"face": (np.arange(NUM_HEAD) < _NUM_FACE).astype(np.float32)}
