"""Photo sets with known cameras: transforms.json, COLMAP models, synthetic scenes of NeRF.

| in the folder | format |
| --- | --- |
| `transforms.json` | instant-ngp and nerfstudio |
| `transforms_train.json`, `transforms_test.json` | the synthetic scenes of NeRF, by Blender |
| `sparse/0/` and `images/` | COLMAP, text or binary |

Lengths are in the capture's own unit, mostly no metres, and its axes are its own too: `up` says
where up is. JSON files hold camera-to-world matrices of OpenGL's axes (x right, y up, z backwards);
in memory there are only cameras of `camera.py`. Photos are taken as they are stored: who solves for
poses does not turn them as their EXIF tag says.

Axes: F photos, P points, H and W pixels.
"""

import concurrent.futures
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import trimesh
from PIL import Image

from render.camera import Camera
from render.colmap_io import find_colmap, read_colmap
from render.files_io import read_object, write_json
from render.image import area_downsample
from render.undistort import undistort

_FLIP = np.array([1.0, -1.0, -1.0])  # OpenGL's camera axes and ours
_ENDINGS = ("", ".png", ".jpg", ".jpeg", ".JPG", ".PNG")  # JSON files may leave them out
_RIGID_TOLERANCE = 1e-3
_PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
_MAX_THREADS = 8


class Capture(NamedTuple):
    """Photos of one scene, sorted by name, and where they were taken from."""

    cameras: list[Camera]  # F
    images: np.ndarray  # [F, H, W, 3] float32 in [0, 1], sRGB-encoded, transparency over white
    masks: np.ndarray | None  # [F, H, W] float32 in [0, 1]: alpha, or the mask files; None for all
    names: list[str]  # F, paths inside the folder, as the files give them
    points: np.ndarray | None  # [P, 3] float32 sparse points of the scene
    point_colors: np.ndarray | None  # [P, 3] float32 in [0, 1]
    up: np.ndarray  # [3] float32 unit length, in world axes: the mean of the photos' up
    is_held_out: np.ndarray | None = None  # [F] bool, where the files themselves say so


class _Frame(NamedTuple):
    """One photo as a file describes it."""

    name: str
    photo: pathlib.Path | None
    mask: pathlib.Path | None
    camera_to_world: np.ndarray  # [4, 4] axes of `camera.py`
    focal: np.ndarray | None  # [2] pixels; None: as `angle` says
    center: np.ndarray | None  # [2] pixels; None: the middle
    angle: float | None  # radians over the width
    size: tuple[int, int] | None  # width and height; None: as the photo
    distortion: np.ndarray  # [5] k1, k2, p1, p2, k3 of OpenCV
    is_held_out: bool | None = None


def read_capture(folder: str | os.PathLike, width: int | None = None) -> Capture:
    """Reads the photos, cameras and points of `folder`.

    Lens distortion is taken out of the photos, and what a straight lens would not fill is cut off
    by a longer focal length.

    Args:
      folder: of one of the formats above, or the transforms.json itself.
      width: pixels; larger photos shrink to it by averaging areas. Photos that are as large or
        smaller stay as they are.

    Raises:
      ValueError: when a file is missing or broken, a pose is no rigid motion, a lens cannot be made
        a pinhole, or the photos differ in size.
    """
    folder = pathlib.Path(folder)
    if width is not None and width < 1:
        raise ValueError(f"expected a width of at least one pixel, found {width}")
    frames, points, colors = _read_frames(folder)
    frames = sorted(frames, key=lambda frame: frame.name)
    with concurrent.futures.ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        views = list(pool.map(lambda frame: _read_view(frame, width), frames))
    cameras, images, masks = zip(*views, strict=True)
    for frame, image in zip(frames, images, strict=True):
        if image.shape != images[0].shape:
            raise ValueError(
                f"expected photos of one size, found {_size_of(images[0])} in {frames[0].name} "
                f"and {_size_of(image)} in {frame.name}"
            )
    if any(mask is not None for mask in masks):
        full = np.ones(images[0].shape[:2], np.float32)
        masks = np.stack([full if mask is None else mask for mask in masks])
    else:
        masks = None
    held_out = [frame.is_held_out for frame in frames]
    return Capture(
        cameras=list(cameras),
        images=np.stack(images),
        masks=masks,
        names=[frame.name for frame in frames],
        points=points,
        point_colors=colors,
        up=_mean_up(frames),
        is_held_out=None if None in held_out else np.array(held_out),
    )


def split(capture: Capture, every: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of the photos to train on and of those held out.

    Held out is each photo that the capture's files name for it; where they name none, it is every
    eighth in the order of names, from the first on.
    """
    is_held_out = capture.is_held_out
    if is_held_out is None:
        is_held_out = np.arange(len(capture.names)) % every == 0
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def read_cameras(path: str | os.PathLike) -> tuple[list[Camera], list[str]]:
    """Reads only the cameras and names of a transforms.json, in its order: a camera path.

    The photos it names need not exist.

    Raises:
      ValueError: when the file is broken, or lacks the size of a picture.
    """
    path = pathlib.Path(path)
    frames = _json_frames(path, _read_json(path))
    for frame in frames:
        if frame.size is None:
            raise ValueError(f"expected w and h of {frame.name}, found none in {path}")
        if frame.distortion.any():
            raise ValueError(f"expected cameras without distortion, found {frame.name} in {path}")
    return [_camera(frame, frame.size) for frame in frames], [frame.name for frame in frames]


def write_transforms(
    path: str | os.PathLike, cameras: Sequence[Camera], names: Sequence[str]
) -> None:
    """Writes `cameras` as transforms.json, in the convention of nerfstudio and instant-ngp.

    Args:
      path: of the file.
      cameras: perspective ones.
      names: of their pictures, relative to the file's folder.
    """
    if len(cameras) != len(names):
        raise ValueError(f"expected a name for each of {len(cameras)} cameras, found {len(names)}")
    if any(camera.orthographic for camera in cameras):
        raise ValueError("expected perspective cameras, found an orthographic one")
    lenses, frames = [], []
    for camera, name in zip(cameras, names, strict=True):
        rotation = np.asarray(camera.rotation, np.float64)
        pose = np.eye(4)
        pose[:3, :3] = rotation.T * _FLIP
        pose[:3, 3] = -np.asarray(camera.translation, np.float64) @ rotation
        focal, center = np.asarray(camera.focal).tolist(), np.asarray(camera.center).tolist()
        lenses.append(
            dict(zip(("fl_x", "fl_y", "cx", "cy"), focal + center, strict=True))
            | {"w": camera.width, "h": camera.height}
        )
        frames.append({"file_path": name, "transform_matrix": pose})
    # Readers know the lens at the top better than one at each photo.
    if all(lens == lenses[0] for lens in lenses):
        top = lenses[0] if lenses else {}
    else:
        top = {}
        frames = [lens | frame for lens, frame in zip(lenses, frames, strict=True)]
    write_json(path, {"camera_model": "PINHOLE"} | top | {"frames": frames})


def _read_frames(
    folder: pathlib.Path,
) -> tuple[list[_Frame], np.ndarray | None, np.ndarray | None]:
    """Reads the photos' descriptions, the points and their colours in whichever format."""
    if folder.suffix == ".json":
        return _read_transforms(folder)
    if (folder / "transforms.json").is_file():
        return _read_transforms(folder / "transforms.json")
    if (folder / "transforms_train.json").is_file():
        train, test = folder / "transforms_train.json", folder / "transforms_test.json"
        frames = _json_frames(train, _read_json(train))
        if test.is_file():
            frames = [frame._replace(is_held_out=False) for frame in frames]
            held_out = _json_frames(test, _read_json(test))
            frames += [frame._replace(is_held_out=True) for frame in held_out]
        return frames, None, None
    model = find_colmap(folder)
    if model is not None:
        return _read_colmap_frames(folder, model)
    raise ValueError(
        f"expected transforms.json, transforms_train.json or sparse/0 in {folder}, found none"
    )


def _read_transforms(
    path: pathlib.Path,
) -> tuple[list[_Frame], np.ndarray | None, np.ndarray | None]:
    data = _read_json(path)
    frames = _json_frames(path, data)
    held_out = {*(data.get("test_filenames") or []), *(data.get("val_filenames") or [])}
    if held_out & {frame.name for frame in frames}:
        frames = [frame._replace(is_held_out=frame.name in held_out) for frame in frames]
    named = data.get("ply_file_path")
    cloud = path.parent / str(named or "points3D.ply")
    if not cloud.is_file():
        if named:
            raise ValueError(f"expected the points of {path}, found nothing at {cloud}")
        return frames, None, None
    return frames, *_read_points(cloud)


def _read_json(path: pathlib.Path) -> dict:
    data = read_object(path, "a transforms.json")
    if not isinstance(data.get("frames"), list):
        raise ValueError(f"expected a list of frames, found none in {path}")
    if not data["frames"]:
        raise ValueError(f"expected at least one frame, found none in {path}")
    return data


def _json_frames(path: pathlib.Path, data: dict) -> list[_Frame]:
    frames = []
    for i, entry in enumerate(data["frames"]):
        if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
            raise ValueError(f"expected a file_path of frame {i}, found none in {path}")
        try:
            frames.append(_json_frame(path.parent, data | entry))
        except (ValueError, TypeError) as error:
            raise ValueError(f"frame {entry['file_path']} of {path}: {error}") from None
    return frames


def _json_frame(folder: pathlib.Path, entry: dict) -> _Frame:
    """Reads a frame whose own intrinsics stand before those of the file."""

    def number(key: str, default: float | None = None) -> float | None:
        value = entry.get(key, default)
        if value is not None and (type(value) not in (int, float) or not np.isfinite(value)):
            raise ValueError(f"expected a number as {key}, found {value}")
        return value

    def positive(key: str, default: float | None = None) -> float | None:
        value = number(key, default)
        if value is not None and value <= 0:
            raise ValueError(f"expected {key} above zero, found {value}")
        return value

    model = entry.get("camera_model", "OPENCV")
    if model not in _PINHOLES or entry.get("is_fisheye"):
        raise ValueError(
            f"expected one of {', '.join(_PINHOLES)}, found a lens {model}; "
            "undistort the photos with `colmap image_undistorter`"
        )
    if number("k4", 0.0):
        raise ValueError(
            "expected distortion by k1, k2, k3, p1 and p2, found k4; "
            "undistort the photos with `colmap image_undistorter`"
        )
    focal = positive("fl_x"), positive("fl_y", entry.get("fl_x"))
    angle = positive("camera_angle_x")
    if None in focal and angle is None:
        raise ValueError("expected fl_x or camera_angle_x, found neither")
    center, size = (number("cx"), number("cy")), (positive("w"), positive("h"))
    photo = folder / entry["file_path"]
    photo = next(
        (p for p in (photo.with_name(photo.name + ending) for ending in _ENDINGS) if p.is_file()),
        photo,
    )
    if entry.get("mask_path"):
        mask = folder / entry["mask_path"]
    else:
        mask = _find_mask(folder, pathlib.PurePath(entry["file_path"]))
    return _Frame(
        name=entry["file_path"],
        photo=photo,
        mask=mask,
        camera_to_world=_rigid(entry.get("transform_matrix")) * [*_FLIP, 1.0],
        focal=None if None in focal else np.array(focal, np.float64),
        center=None if None in center else np.array(center, np.float64),
        angle=angle,
        size=None if None in size else (round(size[0]), round(size[1])),
        distortion=np.array([number(key, 0.0) for key in ("k1", "k2", "p1", "p2", "k3")]),
    )


def _rigid(values: object) -> np.ndarray:
    """Checks that `values` [3 or 4, 4] are a rotation and a translation, and returns [4, 4]."""
    if values is None:
        raise ValueError("expected a transform_matrix, found none")
    try:
        matrix = np.array(values, np.float64)
    except (ValueError, TypeError):
        matrix = np.zeros(0)
    if matrix.shape not in ((4, 4), (3, 4)):
        raise ValueError("expected a transform_matrix of 4 x 4 numbers, found another shape")
    if not np.isfinite(matrix).all():
        raise ValueError("expected finite numbers in transform_matrix, found others")
    matrix = np.concatenate([matrix[:3], [[0.0, 0.0, 0.0, 1.0]]])
    rotation = matrix[:3, :3]
    misfit = np.abs(rotation.T @ rotation - np.eye(3)).max()
    if misfit > _RIGID_TOLERANCE or np.linalg.det(rotation) < 0:
        raise ValueError("expected a rotation in transform_matrix, found a scale, shear or mirror")
    return matrix


def _read_colmap_frames(
    folder: pathlib.Path, place: pathlib.Path
) -> tuple[list[_Frame], np.ndarray | None, np.ndarray | None]:
    model = read_colmap(place)
    frames = []
    for i, name in enumerate(model.names):
        pose = np.eye(4)
        pose[:3, :3] = model.rotations[i].T
        pose[:3, 3] = -model.translations[i] @ model.rotations[i]
        frames.append(
            _Frame(
                name=name,
                photo=folder / "images" / name,
                mask=_find_mask(folder, pathlib.PurePath("images", name)),
                camera_to_world=pose,
                focal=model.focals[i],
                center=model.centers[i],
                angle=None,
                size=(int(model.sizes[i, 0]), int(model.sizes[i, 1])),
                distortion=model.distortions[i],
            )
        )
    if not len(model.points):
        return frames, None, None
    return frames, model.points.astype(np.float32), model.colors.astype(np.float32)


def _find_mask(folder: pathlib.Path, name: pathlib.PurePath) -> pathlib.Path | None:
    """Looks for a photo's mask in a folder called masks beside that of the photos."""
    names = (name.name, f"{name.name}.png", f"{name.stem}.png")
    places = [(folder / "masks").joinpath(*name.parts[1:-1], file) for file in names]
    return next((place for place in places if place.is_file()), None)


def _read_points(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads the points of a .ply, and their colours if it has any."""
    try:
        cloud = trimesh.load(path, file_type="ply", process=False)
        points = np.asarray(cloud.vertices, np.float32)
        # A mesh without colours makes some up on demand, a cloud an empty list.
        colors = cloud.visual.vertex_colors if cloud.visual.kind == "vertex" else ()
    except Exception as error:  # trimesh's readers raise whatever a broken file makes them
        raise ValueError(f"expected points, found {path}: {_one_line(error)}") from None
    if not len(points) or not np.isfinite(points).all():
        raise ValueError(f"expected points with finite coordinates, found none or others in {path}")
    return points, np.asarray(colors[:, :3], np.float32) / 255.0 if len(colors) else None


def _read_view(frame: _Frame, width: int | None) -> tuple[Camera, np.ndarray, np.ndarray | None]:
    """Reads a photo [H, W, 3] and its mask [H, W], straightened and at most `width` wide."""
    values = _decode(frame.photo)
    size = values.shape[1], values.shape[0]
    if frame.size not in (None, size):
        raise ValueError(f"expected {frame.size} pixels, found {size} in {frame.photo}")
    if frame.mask is not None:
        mask = _decode(frame.mask)[..., :1]
        if mask.shape[:2] != values.shape[:2]:
            raise ValueError(f"expected {size} pixels, found {_size_of(mask)} in {frame.mask}")
        alpha = values[..., 3:] * mask
        values = np.concatenate([values[..., :3], alpha], -1)
    is_masked = bool((values[..., 3] < 1.0).any())
    camera = _camera(frame, size)
    if frame.distortion.any():
        lens = (np.asarray(camera.focal), np.asarray(camera.center), frame.distortion)
        values, focal = undistort(values, *lens)
        camera = camera.replace(focal=jnp.asarray(focal, jnp.float32))
    if width is not None and width < size[0]:
        height = max(1, round(size[1] * width / size[0]))
        values = area_downsample(values, height, width)
        scale = jnp.asarray([width / size[0], height / size[1]], jnp.float32)
        camera = camera.replace(
            focal=camera.focal * scale, center=camera.center * scale, width=width, height=height
        )
    values = np.clip(values, 0.0, 1.0)
    return camera, values[..., :3], values[..., 3] if is_masked else None


def _decode(path: pathlib.Path) -> np.ndarray:
    """Reads a picture as it is stored: [H, W, 4], colours over white and alpha."""
    if not path.is_file():
        raise ValueError(f"expected an image file, found nothing at {path}")
    try:
        with Image.open(path) as file:
            if file.mode.startswith(("I", "F")):
                raise ValueError("not eight bits a channel")
            values = np.asarray(file.convert("RGBA"), np.float32) / 255.0
    # Pillow's decoders report broken files by all of these.
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError(f"expected an image, found {path}: {_one_line(error)}") from None
    alpha = values[..., 3:]
    values[..., :3] = values[..., :3] * alpha + (1.0 - alpha)
    return values


def _camera(frame: _Frame, size: tuple[int, int]) -> Camera:
    width, height = size
    focal, center = frame.focal, frame.center
    if focal is None:
        focal = np.full(2, 0.5 * width / np.tan(0.5 * frame.angle))
    if center is None:
        center = np.array([0.5 * width, 0.5 * height])
    rotation = frame.camera_to_world[:3, :3].T
    leaves = (rotation, -rotation @ frame.camera_to_world[:3, 3], focal, center)
    return Camera(*(jnp.asarray(leaf, jnp.float32) for leaf in leaves), width, height)


def _mean_up(frames: list[_Frame]) -> np.ndarray:
    """Returns the mean of the cameras' up [3], unit length; +y where they cancel out."""
    up = -np.mean([frame.camera_to_world[:3, 1] for frame in frames], 0)
    length = np.linalg.norm(up)
    up = up / length if length > 1e-6 else np.array([0.0, 1.0, 0.0])
    return up.astype(np.float32)


def _size_of(image: np.ndarray) -> tuple[int, int]:
    return image.shape[1], image.shape[0]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
