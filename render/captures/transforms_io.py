"""transforms.json of instant-ngp and nerfstudio, and the synthetic scenes of NeRF, by Blender.

Poses in these files go from camera to world, with OpenGL's axes: x right, y up, z backwards.

Sources: nerfstudio's documentation, "Data conventions"; instant-ngp's, "NeRF dataset tips".
"""

import os
import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from render.camera import Camera
from render.captures.find_io import Finder
from render.captures.intrinsics import Intrinsics, distortion_of
from render.captures.listing import LeftOut, Listing, Photo
from render.captures.poses import make_rigid, read_pose
from render.files_io import read_object, replacing, write_json
from render.image import to_bytes

OPENGL = np.array([1.0, -1.0, -1.0])  # OpenGL's camera axes and ours
_FOCAL_KEYS = {"fl_x", "fl_y", "camera_angle_x", "camera_angle_y", "x_fov", "y_fov"}
_TERMS = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")


def read_transforms(path: str | os.PathLike) -> Listing:
    """Reads a transforms.json, and the points that belong to it.

    Raises:
      ValueError: the file or its points are broken, or its poses hold a shear or a mirror.
    """
    path = pathlib.Path(path)
    data = _read_frames(path)
    listing = _list_photos(path, data)
    held_out = {*(data.get("test_filenames") or []), *(data.get("val_filenames") or [])}
    if held_out & {photo.name for photo in listing.photos}:
        listing = listing._replace(
            photos=[p._replace(is_held_out=p.name in held_out) for p in listing.photos]
        )
    listing = listing._replace(is_cut_out=data.get("masks_cut_out") is True)
    named = data.get("ply_file_path")
    cloud = path.parent / str(named or "points3D.ply").replace("\\", "/")
    if cloud.is_file():
        points, colors = _read_points(cloud)
        return listing._replace(points=points, colors=colors)
    if named:
        note = f"expected the points of {path} at {cloud}, found nothing: going on without"
        return listing._replace(notes=(*listing.notes, note))
    return listing


def read_blender(folder: str | os.PathLike) -> Listing:
    """Reads transforms_train.json, and transforms_test.json, whose photos are held out.

    Raises:
      ValueError: a file is broken, or its poses hold a shear or a mirror.
    """
    train, test = (pathlib.Path(folder) / f"transforms_{part}.json" for part in ("train", "test"))
    shown = _list_photos(train, _read_frames(train))
    if not test.is_file():
        return shown
    hidden = _list_photos(test, _read_frames(test))
    return Listing(
        photos=[photo._replace(is_held_out=False) for photo in shown.photos]
        + [photo._replace(is_held_out=True) for photo in hidden.photos],
        left_out=shown.left_out + hidden.left_out,
        notes=tuple(dict.fromkeys(shown.notes + hidden.notes)),
    )


def write_transforms(
    path: str | os.PathLike,
    cameras: Sequence[Camera],
    names: Sequence[str],
    entries: Sequence[Mapping[str, Any]] | None = None,
    top: Mapping[str, Any] = types.MappingProxyType({}),
) -> None:
    """Writes `cameras` as transforms.json, in the convention of nerfstudio and instant-ngp.

    Args:
      path: of the file.
      cameras: perspective ones.
      names: of their pictures, relative to the file's folder.
      entries: what else is to be said of each picture, such as its `mask_path`.
      top: what else is to be said of all of them.
    """
    if len(cameras) != len(names):
        raise ValueError(f"expected a name for each of {len(cameras)} cameras, found {len(names)}")
    if any(camera.orthographic for camera in cameras):
        raise ValueError("expected perspective cameras, found an orthographic one")
    lenses, frames = [], []
    for camera, name in zip(cameras, names, strict=True):
        rotation = np.asarray(camera.rotation, np.float64)
        pose = np.eye(4)
        pose[:3, :3] = rotation.T * OPENGL
        pose[:3, 3] = -np.asarray(camera.translation, np.float64) @ rotation
        focal, center = np.asarray(camera.focal).tolist(), np.asarray(camera.center).tolist()
        lenses.append(
            dict(zip(("fl_x", "fl_y", "cx", "cy"), focal + center, strict=True))
            | {"w": camera.width, "h": camera.height}
        )
        frames.append({"file_path": name, "transform_matrix": pose})
    if entries is not None:
        frames = [frame | dict(entry) for frame, entry in zip(frames, entries, strict=True)]
    # Readers know the lens at the top better than one at each photo.
    if all(lens == lenses[0] for lens in lenses):
        shared = lenses[0] if lenses else {}
    else:
        shared = {}
        frames = [lens | frame for lens, frame in zip(lenses, frames, strict=True)]
    write_json(path, {"camera_model": "PINHOLE"} | shared | dict(top) | {"frames": frames})


def write_points(path: str | os.PathLike, points: NDArray, colors: NDArray | None) -> None:
    """Writes points [P, 3] as .ply, with their colours [P, 3] in [0, 1] if they have any."""
    bytes_ = None if colors is None else to_bytes(colors)
    with replacing(path) as temporary:
        trimesh.PointCloud(points, bytes_).export(temporary, file_type="ply")


def _read_frames(path: pathlib.Path) -> dict[str, Any]:
    data = read_object(path, "a transforms.json")
    if not isinstance(data.get("frames"), list):
        raise ValueError(f"expected a list of frames, found none in {path}")
    if not data["frames"]:
        raise ValueError(f"expected at least one frame, found none in {path}")
    return data


def _list_photos(path: pathlib.Path, data: dict[str, Any]) -> Listing:
    finder = Finder([path.parent])
    photos, left_out = [], []
    for i, entry in enumerate(data["frames"]):
        name = entry.get("file_path") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name:
            left_out.append(LeftOut(f"frame {i}", "expected a file_path, found none"))
            continue
        try:
            photos.append(_photo(finder, name, _merge(data, entry)))
        except (ValueError, TypeError) as error:
            left_out.append(LeftOut(name, str(error)))
    poses, scale = make_rigid(
        [photo.camera_to_world for photo in photos], [f"{p.name} of {path}" for p in photos]
    )
    flip = np.array([*OPENGL, 1.0])
    photos = [p._replace(camera_to_world=m * flip) for p, m in zip(photos, poses, strict=True)]
    is_scaled = abs(scale - 1) > 0.01
    notes = (f"the poses of {path} have a scale of {scale:.4g}: taken out",) if is_scaled else ()
    return Listing(photos, left_out, notes=notes)


def _merge(data: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """Returns what is said of a frame: its own lens stands before that of the file.

    A frame that gives any focal length of its own says all that there is to know of them.
    """
    own = entry.keys() & _FOCAL_KEYS
    return {key: v for key, v in data.items() if not (own and key in _FOCAL_KEYS)} | entry


def _photo(finder: Finder, name: str, entry: dict[str, Any]) -> Photo:
    named_mask = entry.get("mask_path")
    if named_mask:
        # A mask that is named and missing is told when it is to be read.
        mask = finder.find(str(named_mask)) or finder.roots[0] / str(named_mask)
    else:
        mask = finder.find_mask(name)
    return Photo(
        name=name,
        file=finder.find(name),
        mask=mask,
        camera_to_world=read_pose(entry.get("transform_matrix")),
        intrinsics=_intrinsics(entry),
    )


def _intrinsics(entry: dict[str, Any]) -> Intrinsics:
    """Reads the lens of a frame; focal lengths are given in pixels, degrees or radians.

    Raises:
      ValueError: there is no focal length, or something is no number.
    """

    def number(key: str) -> float | None:
        value = entry.get(key)
        if value is not None and (type(value) not in (int, float) or not np.isfinite(value)):
            raise ValueError(f"expected a number as {key}, found {value}")
        return value

    def positive(key: str, limit: float = np.inf) -> float | None:
        value = number(key)
        if value is not None and not 0 < value < limit:
            below = f" and below {limit:.4g}" if np.isfinite(limit) else ""
            raise ValueError(f"expected {key} above zero{below}, found {value}")
        return value

    focal = positive("fl_x"), positive("fl_y")
    degrees = positive("x_fov", 180), positive("y_fov", 180)
    radians = positive("camera_angle_x", np.pi), positive("camera_angle_y", np.pi)
    angle = tuple(r if d is None else np.radians(d) for d, r in zip(degrees, radians, strict=True))
    if not any((*focal, *angle)):
        raise ValueError("expected fl_x, fl_y, camera_angle_x or camera_angle_y, found none")
    model = str(entry.get("camera_model") or "OPENCV").upper()
    if entry.get("is_fisheye") and "FISHEYE" not in model:
        model = "OPENCV_FISHEYE"
    size = positive("w"), positive("h")
    return Intrinsics(
        focal=focal,
        angle=angle,
        center=(number("cx"), number("cy")),
        size=None if None in size else (round(size[0]), round(size[1])),
        distortion=distortion_of(model, {key: number(key) or 0.0 for key in _TERMS}),
    )


def _read_points(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads the points of a .ply, and their colours if it has any."""
    try:
        cloud = trimesh.load(path, file_type="ply", process=False)
        points = np.asarray(cloud.vertices, np.float32)
        # A mesh without colours makes some up on demand, a cloud an empty list.
        colors = cloud.visual.vertex_colors if cloud.visual.kind == "vertex" else ()
    except Exception as error:  # trimesh's readers raise whatever a broken file makes them
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"expected points, found {path}: {text}") from None
    if not len(points) or not np.isfinite(points).all():
        raise ValueError(f"expected points with finite coordinates, found none or others in {path}")
    return points, np.asarray(colors[:, :3], np.float32) / 255.0 if len(colors) else None
