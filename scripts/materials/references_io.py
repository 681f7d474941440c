"""Motions to match: the frames of a film, or where the particles of a simulation went."""

import pathlib
from typing import NamedTuple

import numpy as np

from render import video_io
from render.image import resize
from sim.trajectory_io import read_trajectory


class Reference(NamedTuple):
    """What was seen, at the key frames."""

    values: np.ndarray  # [T, S, S, 3] in [-1, 1], or [T, N, 3] in the splats' own space
    frame_seconds: float  # between key frames
    is_video: bool


def read_reference(
    path: str, num_frames: int, size: int, frame_seconds: float | None, num_gaussians: int
) -> Reference:
    """Reads a film (.mp4 and its like) or a trajectory (.npz), thinned to at most `num_frames`.

    Args:
      path: of the file.
      num_frames: T at most; every second or third frame is taken where there are more.
      size: S, pixels per side of the clip; films that are not square are refused.
      frame_seconds: between the frames of a film, if it does not say so itself.
      num_gaussians: of the splats that move.

    Raises:
      ValueError: when there are fewer than two frames, or the file is broken.
    """
    if pathlib.Path(path).suffix == ".npz":
        found = read_trajectory(path, num_gaussians)
        values, frame_seconds = found.means, float(np.diff(found.seconds).mean())
        is_video = False
    else:
        values, is_video = _read_film(path, size), True
        frame_seconds = frame_seconds or video_io.frame_seconds(path)
    every = -(-(len(values) - 1) // (num_frames - 1)) if len(values) > 1 else 1
    values = values[::every]
    if len(values) < 2:
        raise ValueError(f"expected at least two frames to match, found {len(values)} in {path}")
    return Reference(np.asarray(values, np.float32), every * frame_seconds, is_video)


def _read_film(path: str, size: int) -> np.ndarray:
    frames = []
    for frame in video_io.read_video(path):
        height, width, _ = frame.shape
        if height != width or height < size:
            raise ValueError(
                f"expected a square film of at least {size} pixels, found {width} x {height} in "
                f"{path}"
            )
        small = resize(np.float32(frame) / 255.0, size, size)
        frames.append(2.0 * np.asarray(small) - 1.0)
    return np.array(frames)
