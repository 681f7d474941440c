"""A capture's photos as learners take them: read, with what became of them said, and parted."""

from typing import NamedTuple

import numpy as np

from render import capture_io
from render.camera import Camera
from render.capture_io import Capture
from scripts.shell import command

_FEWEST = 3  # photos that tell a scene


class Photos(NamedTuple):
    """Cameras, pictures and masks of one part of a capture."""

    cameras: list[Camera]
    images: list[np.ndarray]  # F of [H, W, 3]
    masks: list[np.ndarray | None]  # F of [H, W], or None where all counts


def read_photos(folder: str, width: int | None, is_cut_out: bool | None = None) -> Capture:
    """Reads the photos of a capture, and says what became of them.

    Args:
      folder: of the capture.
      width: pixels; wider photos shrink to it.
      is_cut_out: masks say what is there at all; None where the capture's files tell.

    Raises:
      ValueError: as `capture_io.read_photos`, or nothing is cut out as there are no masks.
    """
    listing = capture_io.list_capture(folder)
    if is_cut_out is not None:
        listing = listing._replace(is_cut_out=is_cut_out)
    with command.progress("photos", len(listing.photos)) as advance:
        capture = capture_io.read_photos(listing, width, advance)
    if capture.is_cut_out and all(mask is None for mask in capture.masks):
        raise ValueError(f"expected masks that cut the subject out, found none in {folder}")
    for note in capture.notes:
        command.say(note)
    if capture.left_out:
        first, total = capture.left_out[0], len(capture.left_out) + len(capture.names)
        command.warn(
            f"{len(capture.left_out)} of {total} photos are left out, as metrics.json will list; "
            f"the first is {first.name}: {first.reason}"
        )
    return capture


def split_photos(capture: Capture, hold_out: int) -> tuple[Photos, Photos]:
    """Parts the photos to learn from and those to judge by, each `hold_out`-th; none with zero.

    Raises:
      ValueError: there are too few, or nothing is left to learn from.
    """
    if len(capture.images) < _FEWEST:
        raise ValueError(f"expected at least {_FEWEST} photos, found {len(capture.images)}")
    everything = np.arange(len(capture.images))
    train, held_out = everything, everything[:0]
    if hold_out:
        train, held_out = capture_io.split(capture, hold_out)
    if not len(train):
        raise ValueError(f"expected photos to learn from, found {len(held_out)}, all held out")
    everything = capture.cameras, capture.images, capture.masks
    return tuple(
        Photos(*([values[i] for i in part] for values in everything)) for part in (train, held_out)
    )


def largest(photos: Photos) -> tuple[int, int]:
    """Returns the largest width and the largest height; zero without photos."""
    return tuple(max((image.shape[axis] for image in photos.images), default=0) for axis in (1, 0))


def sizes_text(photos: Photos) -> str:
    """Says of what size the photos are."""
    width, height = largest(photos)
    count = len({image.shape for image in photos.images})
    return f"{width} x {height}" if count == 1 else f"{count} sizes up to {width} x {height}"
