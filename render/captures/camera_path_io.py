"""camera_path.json, as the viewers of nerfstudio and of viser's splat projects save a flight.

A camera's matrix goes from camera to world, row by row, with OpenGL's axes; its field of view is
that over the height, in degrees.

Source: nerfstudio's `cameras/camera_paths.py` and `viewer/render_panel.py`.
"""

import os
from typing import Any

import numpy as np

from render.captures.intrinsics import Intrinsics
from render.captures.listing import LeftOut, Listing, Photo
from render.captures.poses import make_rigid, read_pose
from render.captures.transforms_io import OPENGL
from render.files_io import read_object


def is_camera_path(path: str | os.PathLike) -> bool:
    """Tells a viewer's file from a transforms.json.

    Raises:
      ValueError: the file is missing, or no JSON object.
    """
    return "camera_path" in read_object(path, "cameras")


def read_camera_path(path: str | os.PathLike) -> Listing:
    """Reads the cameras of a flight, in its order; there are no photos.

    Raises:
      ValueError: the file is broken, or its cameras are not those of a perspective picture.
    """
    data = read_object(path, "a camera_path.json")
    entries = data["camera_path"]
    kind = data.get("camera_type", "perspective")
    if str(kind).lower() != "perspective":
        raise ValueError(f"expected perspective cameras, found {kind} in {path}")
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"expected at least one camera in camera_path, found none in {path}")
    size = _size(data, path)
    photos, left_out = [], []
    for i, entry in enumerate(entries):
        try:
            photos.append(_camera(f"camera {i}", entry, size))
        except (ValueError, TypeError) as error:
            left_out.append(LeftOut(f"camera {i}", str(error)))
    names = [f"{photo.name} of {path}" for photo in photos]
    poses, _ = make_rigid([photo.camera_to_world for photo in photos], names)
    flip = np.array([*OPENGL, 1.0])
    photos = [p._replace(camera_to_world=m * flip) for p, m in zip(photos, poses, strict=True)]
    return Listing(photos, left_out)


def _size(data: dict[str, Any], path: str | os.PathLike) -> tuple[int, int] | None:
    sides = data.get("render_width"), data.get("render_height")
    if None in sides:
        return None
    if any(type(side) not in (int, float) or not 1 <= side < 1e6 for side in sides):
        raise ValueError(f"expected render_width and render_height, found {sides} in {path}")
    return round(sides[0]), round(sides[1])


def _camera(name: str, entry: Any, size: tuple[int, int] | None) -> Photo:
    if not isinstance(entry, dict):
        raise ValueError("expected a camera_to_world, found none")
    degrees = entry.get("fov")
    if type(degrees) not in (int, float) or not 0 < degrees < 180:
        raise ValueError(f"expected a fov between 0 and 180 degrees, found {degrees}")
    return Photo(
        name=name,
        file=None,
        mask=None,
        camera_to_world=read_pose(entry.get("camera_to_world")),
        intrinsics=Intrinsics((None, None), (None, float(np.radians(degrees))), size=size),
    )
