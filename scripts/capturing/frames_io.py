"""The pictures of a capture, out of a video or of photos: sharp ones, of a bounded size.

They lie in images/, and frames.json beside them tells where each is from. That file is written
last: where it stands, all pictures are there, and nothing is done again.
"""

import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from render import image_io, video_io
from render.captures.sharpness import sharpest, sharpness
from render.files_io import read_object, write_json
from render.image import area_downsample
from scripts.shell.settings import as_json, check_settings

_TABLE = "frames.json"
_BLURRED = 0.2  # of the median sharpness
Advance = Callable[[], None]


class Frame(NamedTuple):
    """A picture of the capture."""

    name: str  # in images/
    source: str  # the photo's file, or the number of the video's frame
    sharpness: float
    width: int  # pixels
    height: int


class Frames(NamedTuple):
    """The pictures of a capture, in the order they were taken."""

    kept: list[Frame]
    num_read: int
    left_out: list[dict[str, str]]  # name and reason


def known_frames(folder: pathlib.Path, settings: dict[str, Any]) -> Frames | None:
    """Returns the pictures that an earlier run has left, if it got that far.

    Raises:
      ValueError: they were made of something else, or otherwise.
    """
    if not (folder / _TABLE).is_file():
        return None
    table = read_object(folder / _TABLE, "the pictures of an earlier run")
    check_settings(folder, table["settings"], as_json(settings))
    kept = [Frame(**frame) for frame in table["frames"]]
    if not all((folder / "images" / frame.name).is_file() for frame in kept):
        return None
    return Frames(kept, table["num_read"], table["left_out"])


def take_video(
    folder: pathlib.Path,
    video: str | os.PathLike,
    settings: dict[str, Any],
    advance: Advance,
) -> Frames:
    """Takes the sharpest frame of each of as many equal stretches of a video as are wanted.

    Args:
      folder: of the capture.
      video: to read, twice.
      settings: with `frames`, how many are wanted, and `max_side`, pixels.
      advance: called once a frame that is read.

    Raises:
      ValueError: the video cannot be read.
    """
    scores = []
    for frame in video_io.read_video(video):
        scores.append(sharpness(frame))
        advance()
    wanted = dict.fromkeys(sharpest(scores, settings["frames"]))

    def pictures() -> Iterator[tuple[str, str, float, NDArray]]:
        for number, frame in enumerate(video_io.read_video(video)):
            if number in wanted:
                picture = frame.astype(np.float32) / 255
                yield f"frame_{number:06d}.jpg", str(number), scores[number], picture

    return _write(folder, pictures(), len(scores), settings)


def take_photos(
    folder: pathlib.Path, photos: Sequence[str], settings: dict[str, Any], advance: Advance
) -> Frames:
    """Takes photos, or the sharpest of as many equal stretches of them as are wanted.

    Args:
      folder: of the capture.
      photos: files.
      settings: as in `take_video`.
      advance: called once a photo that is read.

    Raises:
      ValueError: one of them is no picture, or two have one name.
    """
    # COLMAP's list of pairs is parted by spaces.
    names = ["_".join(pathlib.Path(photo).stem.split()) + ".jpg" for photo in photos]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"expected photos of different names, found {name[:-4]!r} twice")
    scores = []
    for photo in photos:
        scores.append(sharpness(image_io.read_photo(photo)))
        advance()

    def pictures() -> Iterator[tuple[str, str, float, NDArray]]:
        for number in sharpest(scores, settings["frames"]):
            picture = image_io.read_photo(photos[number])
            yield names[number], photos[number], scores[number], picture

    return _write(folder, pictures(), len(photos), settings)


def fit_side(picture: NDArray, max_side: int) -> NDArray:
    """Shrinks a picture [H, W, ...] until its longer side is at most `max_side` pixels."""
    height, width = picture.shape[:2]
    share = max_side / max(height, width)
    if share >= 1:
        return picture
    return area_downsample(picture, max(1, round(height * share)), max(1, round(width * share)))


def _write(
    folder: pathlib.Path,
    pictures: Iterator[tuple[str, str, float, NDArray]],
    num_read: int,
    settings: dict[str, Any],
) -> Frames:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    frames = []
    for name, source, score, picture in pictures:
        picture = fit_side(picture, settings["max_side"])
        image_io.write_image(folder / "images" / name, np.clip(picture, 0, 1))
        frames.append(Frame(name, source, score, picture.shape[1], picture.shape[0]))
    least = _BLURRED * float(np.median([frame.sharpness for frame in frames] or [0.0]))
    kept = [frame for frame in frames if frame.sharpness >= least]
    left_out = []
    for frame in frames:
        if frame.sharpness < least:
            reason = f"blurred: sharpness {frame.sharpness:.3g}, of most above {least:.3g}"
            left_out.append({"name": frame.name, "reason": reason})
            (folder / "images" / frame.name).unlink()
    table = {"frames": [frame._asdict() for frame in kept], "num_read": num_read}
    table |= {"left_out": left_out, "settings": as_json(settings)}
    write_json(folder / _TABLE, table)
    return Frames(kept, num_read, left_out)
