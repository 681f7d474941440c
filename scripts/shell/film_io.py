"""Films as commands leave them: a video, a sheet with some of its pictures, a bar meanwhile."""

import os
from collections.abc import Iterable, Iterator, Sequence

import jax
import numpy as np

from render import image_io, video_io
from render.image import contact_sheet
from scripts.shell import command

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

    Args:
      video: .mp4 to write.
      pictures: [H, W, 3] each; what lies outside [0, 1] is clipped.
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
    with command.progress(label, total) as advance:

        def clipped() -> Iterator[np.ndarray]:
            for number, picture in enumerate(pictures):
                picture = np.clip(np.asarray(picture), 0.0, 1.0)
                if sheet is not None and number % every == 0:
                    on_sheet.append(picture)
                if number in keep:
                    kept.append(picture)
                yield picture
                advance()

        video_io.write_video(video, clipped(), fps)
    if sheet is not None:
        image_io.write_image(sheet, contact_sheet(on_sheet, _COLUMNS))
    return kept
