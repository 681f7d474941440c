"""COLMAP models, text or binary.

Their rotations and translations go from world to camera; the camera's axes are those of
`camera.py`, and so are the pixels: the centre of the top left one is at (0.5, 0.5).

Source: COLMAP's documentation, "Output Format".
"""

import os
import pathlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from render.captures.find_io import Finder
from render.captures.intrinsics import MODELS, Intrinsics, distortion_of
from render.captures.listing import LeftOut, Listing, Photo
from render.captures.poses import read_pose


class _Camera(NamedTuple):
    model: str
    width: int
    height: int
    params: list[float]


class _Image(NamedTuple):
    name: str
    pose: list[float]  # quaternion wxyz and translation, world to camera
    camera: int


def find_models(folder: str | os.PathLike) -> list[pathlib.Path]:
    """Returns where in `folder` COLMAP models lie, the likeliest place first.

    COLMAP numbers the parts of a scene that it could not join, and its dense folder holds a model
    of the photos without distortion.
    """
    folder = pathlib.Path(folder)
    for place in (
        *("sparse/*", "colmap/sparse/*", "sparse", "colmap/sparse", "."),
        *("dense/sparse", "dense/*/sparse", "dense", "dense/*"),
    ):
        found = [folder] if place == "." else sorted(folder.glob(place))
        models = [path for path in found if _ending(path)]
        if models:
            return models
    return []


def read_colmap(folder: str | os.PathLike, models: Sequence[pathlib.Path]) -> Listing:
    """Reads the largest of `models`, of which each holds cameras, images and points3D.

    Args:
      folder: of the capture.
      models: from `find_models`.

    Raises:
      ValueError: when a file is missing or broken.
    """
    folder = pathlib.Path(folder)
    readings = {model: _read_model(model) for model in models}
    place = max(models, key=lambda model: len(readings[model][1]))
    cameras, images, points = readings[place]
    if not images:
        raise ValueError(f"expected photos with poses, found none in {place}")
    finder = Finder(_roots(folder, place))
    photos, left_out = [], []
    for image in images:
        try:
            photos.append(_photo(finder, image, cameras))
        except ValueError as error:
            left_out.append(LeftOut(image.name, str(error)))
    points = np.array(points, np.float64).reshape(-1, 6)
    points = points[np.isfinite(points).all(-1)].astype(np.float32)
    notes = ()
    if len(models) > 1:
        notes = (f"took {place}, {len(images)} photos, the largest of {len(models)} models",)
    elif place != folder / "sparse" / "0":
        notes = (f"took the model in {place}",)
    has_points = len(points) > 0
    return Listing(
        photos=photos,
        left_out=left_out,
        points=points[:, :3] if has_points else None,
        colors=points[:, 3:] / np.float32(255) if has_points else None,
        notes=notes,
    )


def _ending(model: pathlib.Path) -> str | None:
    return next((e for e in ("bin", "txt") if (model / f"cameras.{e}").is_file()), None)


def _roots(folder: pathlib.Path, place: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders whose images/ may be meant, the nearest to the model first."""
    folder, place = folder.absolute(), place.absolute()
    if place == folder:  # sparse/0 itself was named
        return [place, *place.parents[:3]]
    return [path for path in place.parents if path == folder or folder in path.parents]


def _photo(finder: Finder, image: _Image, cameras: dict[int, _Camera]) -> Photo:
    if image.camera not in cameras:
        raise ValueError(f"expected its camera {image.camera}, found none")
    pose = np.eye(4)
    rotation, translation = _rotation(np.array(image.pose[:4])), np.array(image.pose[4:])
    pose[:3, :3], pose[:3, 3] = rotation.T, -translation @ rotation
    return Photo(
        name=image.name,
        file=finder.find(image.name),
        mask=finder.find_mask(image.name),
        camera_to_world=read_pose(pose),
        intrinsics=_intrinsics(cameras[image.camera]),
    )


def _intrinsics(camera: _Camera) -> Intrinsics:
    models = dict(MODELS)
    if camera.model not in models:
        distortion_of(camera.model, {})  # which says so
    names = models[camera.model].split()
    if len(camera.params) != len(names):
        raise ValueError(
            f"expected {len(names)} parameters of a {camera.model} camera, found "
            f"{len(camera.params)}"
        )
    terms = dict(zip(names, camera.params, strict=True))
    both = terms.pop("f", None)
    focal = both or terms.pop("fx", 0.0), both or terms.pop("fy", 0.0)
    center = terms.pop("cx"), terms.pop("cy")
    if not (np.isfinite([*focal, *center]).all() and min(*focal, camera.width, camera.height) > 0):
        raise ValueError(f"expected a focal length and a size above zero, found {camera}")
    return Intrinsics(
        focal=focal,
        center=center,
        size=(camera.width, camera.height),
        distortion=distortion_of(camera.model, terms),
    )


def _rotation(quat: np.ndarray) -> np.ndarray:
    """Turns a quaternion wxyz [4] into a matrix [3, 3]."""
    norm = np.linalg.norm(quat)
    if not norm > 0:
        raise ValueError("expected a rotation, found a quaternion of length zero")
    return Rotation.from_quat(quat, scalar_first=True).as_matrix()


def _read_model(
    folder: pathlib.Path,
) -> tuple[dict[int, _Camera], list[_Image], list[list[float]]]:
    ending = _ending(folder)
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
    return tuple(parts)


def _lines(path: pathlib.Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def _read_cameras_text(path: pathlib.Path) -> dict[int, _Camera]:
    cameras = {}
    for line in filter(str.strip, _lines(path)):
        camera, model, width, height, *params = line.split()
        numbers = [float(param) for param in params]
        cameras[int(camera)] = _Camera(model, int(width), int(height), numbers)
    return cameras


def _read_images_text(path: pathlib.Path) -> list[_Image]:
    photos = []
    # Every other line lists the points that a photo sees, and may be empty.
    for line in _lines(path)[::2]:
        if line.strip():
            _, *pose, camera, name = line.split(maxsplit=9)
            photos.append(_Image(name.rstrip(), [float(p) for p in pose], int(camera)))
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


def _read_cameras_binary(path: pathlib.Path) -> dict[int, _Camera]:
    numbers, cameras = _Numbers(path), {}
    for _ in range(*numbers.take("Q")):
        camera, model, width, height = numbers.take("IiQQ")
        if not 0 <= model < len(MODELS):
            raise ValueError(f"a camera of the unknown model {model}")
        name, params = MODELS[model]
        values = list(numbers.take(f"{len(params.split())}d"))
        cameras[camera] = _Camera(name, width, height, values)
    return cameras


def _read_images_binary(path: pathlib.Path) -> list[_Image]:
    numbers, photos = _Numbers(path), []
    for _ in range(*numbers.take("Q")):
        _, *pose, camera = numbers.take("I7dI")
        photos.append(_Image(numbers.take_name(), pose, camera))
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
