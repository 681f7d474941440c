"""COLMAP models, text or binary, as cameras and points.

Axes: F photos, P points. Rotations and translations go from world to camera; the camera's axes are
those of `camera.py`, and so are the pixels: the centre of the top left one is at (0.5, 0.5).

Source: COLMAP's documentation, "Output Format".
"""

import os
import pathlib
import struct
from typing import NamedTuple

import numpy as np


class ColmapModel(NamedTuple):
    """What COLMAP solved for."""

    names: list[str]  # F, of the photos
    rotations: np.ndarray  # [F, 3, 3] world to camera
    translations: np.ndarray  # [F, 3] world to camera
    focals: np.ndarray  # [F, 2] pixels
    centers: np.ndarray  # [F, 2] pixels
    distortions: np.ndarray  # [F, 5] k1, k2, p1, p2, k3 of OpenCV
    sizes: np.ndarray  # [F, 2] width and height, pixels
    points: np.ndarray  # [P, 3]
    colors: np.ndarray  # [P, 3] in [0, 1]


class _Lens(NamedTuple):
    width: int
    height: int
    focal: tuple[float, float]
    center: tuple[float, float]
    distortion: tuple[float, ...]


class _Photo(NamedTuple):
    name: str
    pose: list[float]  # quaternion wxyz and translation, world to camera
    camera: int


# By number: name, and how many parameters each has. Only the first five can be made a pinhole's.
_MODELS = [
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
]
_NUM_SUPPORTED = 5


def find_colmap(folder: str | os.PathLike) -> pathlib.Path | None:
    """Returns where in `folder` a COLMAP model lies, if there is one."""
    folder = pathlib.Path(folder)
    for place in ("sparse/0", "colmap/sparse/0", "sparse", "."):
        if any((folder / place / f"cameras.{ending}").is_file() for ending in ("bin", "txt")):
            return folder / place
    return None


def read_colmap(folder: str | os.PathLike) -> ColmapModel:
    """Reads the model of which `folder` holds cameras, images and points3D, .bin or .txt.

    Raises:
      ValueError: when a file is missing or broken, or a camera's model has no pinhole equivalent.
    """
    folder = pathlib.Path(folder)
    ending = "bin" if (folder / "cameras.bin").is_file() else "txt"
    readers = _BINARY if ending == "bin" else _TEXT
    parts = []
    for name, read in zip(("cameras", "images", "points3D"), readers, strict=True):
        path = folder / f"{name}.{ending}"
        if name == "points3D" and not path.is_file():
            parts.append([])
            continue
        if not path.is_file():
            raise ValueError(f"expected COLMAP's {name}, found nothing at {path}")
        try:
            parts.append(read(path))
        except (struct.error, ValueError, TypeError) as error:
            raise ValueError(f"expected COLMAP's {name}, found {path}: {error}") from None
    lenses, photos, points = parts
    if not photos:
        raise ValueError(f"expected photos with poses, found none in {folder}")
    for photo in photos:
        if photo.camera not in lenses:
            raise ValueError(f"expected the camera of {photo.name}, found none in {folder}")
    used = [lenses[photo.camera] for photo in photos]
    poses = np.array([photo.pose for photo in photos])
    points = np.array(points, np.float64).reshape(-1, 6)
    return ColmapModel(
        names=[photo.name for photo in photos],
        rotations=_rotations(poses[:, :4]),
        translations=poses[:, 4:],
        focals=np.array([lens.focal for lens in used]),
        centers=np.array([lens.center for lens in used]),
        distortions=np.array([lens.distortion for lens in used]),
        sizes=np.array([(lens.width, lens.height) for lens in used]),
        points=points[:, :3],
        colors=points[:, 3:] / 255.0,
    )


def _lens(model: str, width: int, height: int, params: list[float]) -> _Lens:
    supported = dict(_MODELS[:_NUM_SUPPORTED])
    if model not in supported:
        raise ValueError(
            f"a {model} camera, which is none of {', '.join(supported)}; "
            "undistort the photos with `colmap image_undistorter`"
        )
    if len(params) != supported[model]:
        raise ValueError(f"{len(params)} parameters of a {model} camera")
    num_focals = 1 if model.startswith(("SIMPLE", "RADIAL")) else 2
    fx, fy = params[0], params[num_focals - 1]
    cx, cy, *distortion = params[num_focals:]
    return _Lens(width, height, (fx, fy), (cx, cy), (*distortion, *[0.0] * (5 - len(distortion))))


def _rotations(quats: np.ndarray) -> np.ndarray:
    """Turns quaternions wxyz [F, 4] into matrices [F, 3, 3]."""
    norm = np.linalg.norm(quats, axis=-1, keepdims=True)
    if not (norm > 0).all():
        raise ValueError("expected a rotation of each photo, found a quaternion of length zero")
    w, x, y, z = (quats / norm).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def _lines(path: pathlib.Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def _read_cameras_text(path: pathlib.Path) -> dict[int, _Lens]:
    lenses = {}
    for line in filter(str.strip, _lines(path)):
        camera, model, width, height, *params = line.split()
        lenses[int(camera)] = _lens(model, int(width), int(height), [float(p) for p in params])
    return lenses


def _read_images_text(path: pathlib.Path) -> list[_Photo]:
    photos = []
    # Every other line lists the points that a photo sees, and may be empty.
    for line in _lines(path)[::2]:
        if line.strip():
            _, *pose, camera, name = line.split(maxsplit=9)
            photos.append(_Photo(name.rstrip(), [float(p) for p in pose], int(camera)))
    return photos


def _read_points_text(path: pathlib.Path) -> list[list[float]]:
    lines = filter(str.strip, _lines(path))
    return [[float(value) for value in line.split()[1:7]] for line in lines]


class _Numbers:
    """Takes numbers from a little-endian file, one after the other."""

    def __init__(self, path: pathlib.Path):
        self.content = path.read_bytes()
        self.place = 0

    def take(self, form: str) -> tuple:
        values = struct.unpack_from("<" + form, self.content, self.place)
        self.skip(struct.calcsize("<" + form))
        return values

    def take_name(self) -> str:
        end = self.content.index(b"\0", self.place)
        name = self.content[self.place : end].decode()
        self.place = end + 1
        return name

    def skip(self, num_bytes: int) -> None:
        self.place += num_bytes
        if self.place > len(self.content):
            raise ValueError("fewer bytes than it says")


def _read_cameras_binary(path: pathlib.Path) -> dict[int, _Lens]:
    numbers, lenses = _Numbers(path), {}
    for _ in range(*numbers.take("Q")):
        camera, model, width, height = numbers.take("IiQQ")
        if not 0 <= model < len(_MODELS):
            raise ValueError(f"a camera of the unknown model {model}")
        name, num_params = _MODELS[model]
        lenses[camera] = _lens(name, width, height, list(numbers.take(f"{num_params}d")))
    return lenses


def _read_images_binary(path: pathlib.Path) -> list[_Photo]:
    numbers, photos = _Numbers(path), []
    for _ in range(*numbers.take("Q")):
        _, *pose, camera = numbers.take("I7dI")
        photos.append(_Photo(numbers.take_name(), pose, camera))
        numbers.skip(24 * numbers.take("Q")[0])  # what it sees: x, y and the number of the point
    return photos


def _read_points_binary(path: pathlib.Path) -> list[list[float]]:
    numbers, points = _Numbers(path), []
    for _ in range(*numbers.take("Q")):
        _, *point, _, length = numbers.take("Q3d3BdQ")
        points.append(point)
        numbers.skip(8 * length)  # who sees it: photo and feature
    return points


_TEXT = (_read_cameras_text, _read_images_text, _read_points_text)
_BINARY = (_read_cameras_binary, _read_images_binary, _read_points_binary)
