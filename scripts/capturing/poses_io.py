"""Where the pictures of a capture were taken from, by pycolmap in a process of its own."""

import importlib.util
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from render import capture_io
from render.captures.colmap_io import read_colmap
from render.captures.listing import Photo
from render.captures.similarity import normalizing
from render.captures.transforms_io import write_points
from render.files_io import read_object, write_json
from scripts.capturing.frames_io import Frame
from scripts.shell.command import WorkFailed

_WORKER = pathlib.Path(__file__).parent / "colmap_worker_io.py"
_NEIGHBOURS = (*range(1, 11), 16, 32)  # frames ahead that a frame of a video is matched with
_MAX_FEATURES = 8192  # of a picture
_STACK, _NOTHING = ("@", "***"), "it said nothing"
_TERMS = ("k1", "k2", "p1", "p2")


class Attempt(NamedTuple):
    """One way to find poses."""

    camera: str  # a lens model of COLMAP's
    matching: str  # "sequential" or "exhaustive"


class Poses(NamedTuple):
    """What an attempt has found."""

    attempt: Attempt
    folder: pathlib.Path  # its model lies in model/
    names: list[str]  # of the pictures that have one
    num_points: int
    num_models: int
    reprojection_error_px: float | None

    @property
    def registered(self) -> int:
        """How many pictures have one."""
        return len(self.names)


def check_installed() -> None:
    """Sees that pycolmap is there, without loading it.

    Raises:
      ValueError: it is not.
    """
    if importlib.util.find_spec("pycolmap") is None:
        raise ValueError(
            "expected pycolmap, which finds where photos were taken from, found none: "
            '`pip install -e ".[sfm]"`'
        )


def find_poses(
    folder: pathlib.Path, frames: Sequence[Frame], attempt: Attempt, max_side: int, seconds: float
) -> Poses:
    """Finds poses, or takes those of an earlier run; a run that was stopped goes on.

    Args:
      folder: of the capture.
      frames: its pictures.
      attempt: the way to do it.
      max_side: pixels of the largest picture.
      seconds: after which the process is killed.

    Raises:
      WorkFailed: pycolmap took longer, or broke down.
    """
    work = folder / "colmap" / f"{attempt.camera.lower()}_{attempt.matching}"
    work.mkdir(parents=True, exist_ok=True)
    table = work / "result.json"
    if not table.is_file():
        sizes = {(frame.width, frame.height) for frame in frames}
        task = {
            "folder": str(work.absolute()),
            "images": str((folder / "images").absolute()),
            "names": [frame.name for frame in frames],
            "is_one_camera": len(sizes) == 1,
            "camera": attempt.camera,
            "pairs": ring_pairs(len(frames)) if attempt.matching == "sequential" else None,
            "max_side": max_side,
            "max_features": _MAX_FEATURES,
            "use_gpu": False,
        }
        write_json(work / "task.json", task)
        _run(work, seconds)
    result = read_object(table, "what pycolmap has found")
    return Poses(attempt, work, **result)


def ring_pairs(count: int) -> list[tuple[int, int]]:
    """Returns which frames of a video are matched: near ones, and its end with its beginning."""
    pairs = {
        tuple(sorted((first, (first + ahead) % count)))
        for first in range(count)
        for ahead in _NEIGHBOURS
        if ahead < count
    }
    return sorted(pairs)


def _run(work: pathlib.Path, seconds: float) -> None:
    # pycolmap may hang in its own handler of a crash, deaf to anything but SIGKILL.
    # In a group of its own, a terminal's Ctrl-C reaches this process alone.
    command = [sys.executable, str(_WORKER), str(work / "task.json")]
    with open(work / "log.txt", "ab") as log:
        start = log.tell()
        # It reads nothing; its input ends when this process does.
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, process_group=0
        ) as worker:
            try:
                status = worker.wait(max(1.0, seconds))
            except subprocess.TimeoutExpired:
                raise WorkFailed(
                    "pycolmap was stopped, as --minutes were over: the same command goes on from "
                    "there; fewer --frames or a smaller --max_side take less"
                ) from None
            finally:
                worker.kill()
    if status != 0 or not (work / "result.json").is_file():
        text = (work / "log.txt").read_bytes()[start:].decode(errors="replace")
        lines = [line.strip() for line in text.splitlines()]
        said = [line for line in lines if line and not line.startswith(_STACK)]
        raise WorkFailed(f"pycolmap failed with status {status}: {(said or [_NOTHING])[-1]}")


def write_capture(folder: pathlib.Path, poses: Poses, has_masks: bool) -> None:
    """Writes transforms.json, points3D.ply, and the model of COLMAP in sparse/0.

    In transforms.json what the cameras look at is about the origin, the farthest camera at a
    distance of one, and up is +y; it says how it was brought there from COLMAP's space.
    """
    place = folder / "sparse" / "0"
    shutil.copytree(poses.folder / "model", place, dirs_exist_ok=True)
    listing = read_colmap(folder, [place])
    photos = sorted(listing.photos, key=lambda photo: photo.name)
    cameras = capture_io.cameras_of(listing._replace(photos=photos))
    way = normalizing(cameras, points=listing.points)
    # nerfstudio's words for what was done to COLMAP's poses: the rotation and the shift come first,
    # then the scale.
    moved = np.concatenate([way.rotation, way.translation[:, None] / way.scale], 1)
    top = {"applied_transform": moved, "applied_scale": way.scale}
    if listing.points is not None:
        write_points(folder / "points3D.ply", way.points(listing.points), listing.colors)
        top["ply_file_path"] = "points3D.ply"
    if has_masks:
        top["masks_cut_out"] = True
    terms = [_distortion(photo) for photo in photos]
    is_one = all(one == terms[0] for one in terms)
    capture_io.write_transforms(
        folder / "transforms.json",
        [way.camera(camera) for camera in cameras],
        [f"images/{photo.name}" for photo in photos],
        None if is_one else terms,
        top | terms[0] if is_one else top,
    )


def _distortion(photo: Photo) -> dict[str, str | float]:
    """Returns how a lens bends, in the words of transforms.json; nothing of a pinhole."""
    terms = photo.intrinsics.distortion.terms[: len(_TERMS)]
    bends = dict(zip(_TERMS, terms, strict=True))
    return {"camera_model": "OPENCV"} | bends if any(terms) else {}
