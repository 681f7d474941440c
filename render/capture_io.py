"""Photo sets with known cameras: transforms.json, COLMAP models, synthetic scenes of NeRF.

| in the folder | format |
| --- | --- |
| `transforms.json` | instant-ngp and nerfstudio |
| `transforms_train.json`, `transforms_test.json` | the synthetic scenes of NeRF, by Blender |
| `sparse/0/` (or another, or `dense/`) and `images/` | COLMAP, text or binary |
| `camera_path.json`, which is told by name | a flight without photos, from a viewer |

Lengths are in the capture's own unit, mostly no metres, and its axes are its own too: `up` says
where up is, and `normalize` brings all of it to the origin and tells the way back. In memory there
are only cameras of `camera.py`, without distortion.

A photo that is missing or cannot be used is left out, with the reason. Transparency is a
background: photos come over white. A mask says which pixels count at all, or, where the files say
`masks_cut_out`, what is there at all: the rest of the scene is then empty, and white.

Axes: F photos, P points, H and W pixels, which may differ from photo to photo.
"""

import collections
import concurrent.futures
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from render.camera import Camera
from render.captures.camera_path_io import is_camera_path, read_camera_path
from render.captures.colmap_io import find_models, read_colmap
from render.captures.intrinsics import Lens, lens_of
from render.captures.listing import LeftOut, Listing, Photo
from render.captures.photo_io import View, picture_size, read_view
from render.captures.similarity import Similarity, normalizing
from render.captures.transforms_io import read_blender, read_transforms
from render.captures.transforms_io import write_transforms as write_transforms

_MAX_THREADS = 8
_FEWEST = 3  # photos that a scene can be made of, when others had to be left out


class Capture(NamedTuple):
    """Photos of one scene, sorted by name, and where they were taken from."""

    cameras: list[Camera]  # F
    images: list[np.ndarray]  # F of [H, W, 3] float32 in [0, 1], sRGB-encoded, over white
    masks: list[np.ndarray | None]  # F of [H, W] float32 in [0, 1], or None where all counts
    names: list[str]  # F, paths inside the folder, as the files give them
    points: np.ndarray | None  # [P, 3] float32 sparse points of the scene
    point_colors: np.ndarray | None  # [P, 3] float32 in [0, 1]
    up: np.ndarray  # [3] float32 unit length, in world axes: the mean of the photos' up
    is_held_out: np.ndarray | None  # [F] bool, where the files themselves say so
    left_out: list[LeftOut]
    notes: tuple[str, ...]  # what a user should know of how the files were read
    is_cut_out: bool = False  # around what the masks show there is nothing, and photos are white


class CameraPath(NamedTuple):
    """Cameras without photos, in the order of their file."""

    cameras: list[Camera]
    names: list[str]
    left_out: list[LeftOut]


def list_capture(folder: str | os.PathLike) -> Listing:
    """Reads what the files in `folder` say of its photos, and opens none of them.

    Args:
      folder: of one of the formats above, or the transforms.json itself.

    Raises:
      ValueError: when there is no capture, a file is broken, or a pose is no rigid motion.
    """
    folder = pathlib.Path(folder)
    if folder.suffix == ".json" and not folder.is_dir():
        if is_camera_path(folder):
            raise ValueError(f"expected a capture, found a camera path without photos in {folder}")
        return read_transforms(folder)
    if (folder / "transforms.json").is_file():
        return read_transforms(folder / "transforms.json")
    if (folder / "transforms_train.json").is_file():
        return read_blender(folder)
    models = find_models(folder)
    if models:
        return read_colmap(folder, models)
    raise ValueError(
        f"expected transforms.json, transforms_train.json or sparse/0 in {folder}, found none"
    )


def read_photos(
    listing: Listing, width: int | None = None, advance: Callable[[], None] = lambda: None
) -> Capture:
    """Reads the photos of a capture.

    Lens distortion is taken out of the photos, and what a straight lens would not fill is cut off
    by a longer focal length.

    Args:
      listing: from `list_capture`.
      width: pixels; wider photos shrink to it by averaging areas, others stay as they are.
      advance: called once a photo.

    Raises:
      ValueError: when photos had to be left out, and fewer than three remain.
    """
    if width is not None and width < 1:
        raise ValueError(f"expected a width of at least one pixel, found {width}")
    photos = sorted(listing.photos, key=lambda photo: photo.name)
    left_out, kept, views = list(listing.left_out), [], []
    for photo, view in zip(photos, _views(photos, width, listing.is_cut_out), strict=True):
        if isinstance(view, LeftOut):
            left_out.append(view)
        else:
            kept.append(photo)
            views.append(view)
        advance()
    if left_out and len(kept) < _FEWEST:
        raise ValueError(
            f"expected at least {_FEWEST} photos that can be read, found {len(kept)} of "
            f"{len(kept) + len(left_out)}; {left_out[0].name}: {left_out[0].reason}"
        )
    held_out = [photo.is_held_out for photo in kept]
    remarks = collections.Counter(view.remark for view in views if view.remark)
    return Capture(
        cameras=[_camera(p, v.lens) for p, v in zip(kept, views, strict=True)],
        images=[view.image for view in views],
        masks=[view.mask for view in views],
        names=[photo.name for photo in kept],
        points=listing.points,
        point_colors=listing.colors,
        up=_mean_up(kept),
        is_held_out=None if None in held_out else np.array(held_out),
        left_out=left_out,
        notes=(*listing.notes, *(f"{count} photos: {text}" for text, count in remarks.items())),
        is_cut_out=listing.is_cut_out,
    )


def read_capture(folder: str | os.PathLike, width: int | None = None) -> Capture:
    """Reads the photos, cameras and points of `folder`: `list_capture`, then `read_photos`."""
    return read_photos(list_capture(folder), width)


def normalize(capture: Capture) -> tuple[Capture, Similarity]:
    """Moves a capture about the origin: up is +y, and the farthest camera at a distance of one.

    Returns:
      The capture moved, and the way there; its `inverse` leads cameras, points and meshes back to
      the space of the capture's files.

    Raises:
      ValueError: all cameras stand in one place.
    """
    way = normalizing(capture.cameras, capture.up, capture.points)
    points = capture.points
    moved = capture._replace(
        cameras=[way.camera(camera) for camera in capture.cameras],
        points=None if points is None else way.points(points).astype(np.float32),
        up=(way.rotation @ capture.up).astype(np.float32),
    )
    return moved, way


def split(capture: Capture, every: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of the photos to train on and of those held out.

    Held out is each photo that the capture's files name for it; where they name none, it is every
    eighth in the order of names, from the first on.
    """
    is_held_out = capture.is_held_out
    if is_held_out is None:
        is_held_out = np.arange(len(capture.names)) % every == 0
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def read_cameras(path: str | os.PathLike, size: tuple[int, int] | None = None) -> CameraPath:
    """Reads only the cameras of a capture or of a viewer's flight, in the order of the file.

    The photos need not exist, and of a lens the pinhole counts. COLMAP keeps no order of its own,
    so its photos go by name.

    Args:
      path: whatever `list_capture` takes, or a camera_path.json.
      size: width and height of a picture, where neither file nor photo says one.

    Raises:
      ValueError: when a file is broken, or there is no camera or no size of its picture.
    """
    path = pathlib.Path(path)
    if path.suffix == ".json" and not path.is_dir() and is_camera_path(path):
        listing = read_camera_path(path)
    else:
        listing = list_capture(path)
    if not listing.photos:
        first = listing.left_out[0]
        raise ValueError(f"expected cameras in {path}, found none; {first.name}: {first.reason}")
    try:
        cameras = cameras_of(listing, size)
    except ValueError as error:
        raise ValueError(f"{error} in {path}") from None
    return CameraPath(cameras, [photo.name for photo in listing.photos], listing.left_out)


def cameras_of(listing: Listing, size: tuple[int, int] | None = None) -> list[Camera]:
    """Returns the cameras of photos as their files describe them, of a lens the pinhole.

    Args:
      listing: of F photos.
      size: width and height of a picture, where neither file nor photo says one.

    Raises:
      ValueError: there is no size.
    """
    cameras = []
    for photo in listing.photos:
        found = photo.intrinsics.size or (photo.file and picture_size(photo.file)) or size
        if found is None:
            raise ValueError(f"expected w and h of {photo.name}, found none")
        cameras.append(_camera(photo, lens_of(photo.intrinsics, found)))
    return cameras


def _views(photos: list[Photo], width: int | None, is_cut_out: bool) -> Iterator[View | LeftOut]:
    """Yields a `View` of each photo in order, or why there is none."""

    def attempt(photo: Photo) -> View | LeftOut:
        try:
            return read_view(photo, width, is_cut_out)
        except ValueError as error:
            return LeftOut(photo.name, str(error))

    # The first one alone: it prepares what all photos of one lens share.
    yield from map(attempt, photos[:1])
    with concurrent.futures.ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        yield from pool.map(attempt, photos[1:])


def _camera(photo: Photo, lens: Lens) -> Camera:
    rotation = photo.camera_to_world[:3, :3].T
    leaves = (rotation, -rotation @ photo.camera_to_world[:3, 3], lens.focal, lens.center)
    return Camera(*(jnp.asarray(leaf, jnp.float32) for leaf in leaves), *lens.size)


def _mean_up(photos: list[Photo]) -> np.ndarray:
    """Returns the mean of the cameras' up [3], unit length; +y where they cancel out."""
    up = -np.mean([photo.camera_to_world[:3, 1] for photo in photos], 0)
    length = np.linalg.norm(up)
    up = up / length if length > 1e-6 else np.array([0.0, 1.0, 0.0])
    return up.astype(np.float32)
