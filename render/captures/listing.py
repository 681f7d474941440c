"""What the files of a capture say of its photos, before any photo is opened.

Every reader of a format gives a `Listing`; from there on one path leads to pixels.

Axes: P points.
"""

import pathlib
from typing import NamedTuple

import numpy as np

from render.captures.intrinsics import Intrinsics


class Photo(NamedTuple):
    """One photo as a file describes it."""

    name: str  # as the file gives it
    file: pathlib.Path | None  # where it was found
    mask: pathlib.Path | None  # where its mask is said to be
    camera_to_world: np.ndarray  # [4, 4] rotation and translation, axes of `camera.py`
    intrinsics: Intrinsics
    is_held_out: bool | None = None  # where the files say so


class LeftOut(NamedTuple):
    """A photo that a capture names and that cannot be used."""

    name: str
    reason: str  # one line


class Listing(NamedTuple):
    """The photos of a capture, in the order of its files."""

    photos: list[Photo]
    left_out: list[LeftOut]
    points: np.ndarray | None = None  # [P, 3] float32
    colors: np.ndarray | None = None  # [P, 3] float32 in [0, 1]
    notes: tuple[str, ...] = ()  # what a user should know of how the files were read
    is_cut_out: bool = False  # masks tell the subject from nothing, not what counts from the rest
