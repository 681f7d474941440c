"""Films as commands leave them: a video, a sheet with some of its pictures, a bar meanwhile."""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence

import jax
import numpy as np

from render import image_io, video_io
from render.image import contact_sheet
from scripts.shell import command, stopping

_ON_SHEET = 8  # pictures of a contact sheet, evenly spaced
_COLUMNS = 4


def write_film(
    video: str | os.PathLike,
    pictures: Iterable[jax.Array | np.ndarray],
    total: int,
    fps: float,
    label: str = "pictures",
    sheet: str | os.PathLike | None = None,
    keep: Sequence[int] = (),
) -> list[np.ndarray]:
    """Writes a video, and a contact sheet of it; each file appears complete or not at all.

    Stopped by a signal, it writes the pictures that are finished.

    Args:
      video: .mp4 to write.
      pictures: [H, W, 3] each, uint8 or float; what lies outside [0, 1] is clipped.
      total: how many pictures there are.
      fps: pictures per second.
      label: of the progress bar.
      sheet: image to write, of at most eight pictures; None leaves it out.
      keep: numbers of the pictures to return.

    Returns:
      The pictures `keep` names, in the film's order.
    """
    every = -(-total // _ON_SHEET)
    on_sheet: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    count = 0
    with stopping.noted() as stop, command.progress(label, total) as advance:

        def clipped() -> Iterator[np.ndarray]:
            nonlocal count
            pending = iter(pictures)
            while not stop and (picture := next(pending, None)) is not None:
                picture = np.asarray(picture)
                if picture.dtype != np.uint8:
                    picture = np.clip(picture, 0.0, 1.0)
                if sheet is not None and count % every == 0:
                    on_sheet.append(picture)
                if count in keep:
                    kept.append(picture)
                yield picture
                count += 1
                advance()

        frames = clipped()
        first = next(frames, None)
        if first is None:
            stop.act()  # with nothing to write, whatever stands there stays
        video_io.write_video(video, itertools.chain([] if first is None else [first], frames), fps)
        if sheet is not None:
            image_io.write_image(sheet, contact_sheet(on_sheet, _COLUMNS))
        stop.keep(f"{count} of {total} pictures in {video}")
    return kept
