"""A folder of photos as a generator learns them: their middle squares, in one size, as bytes."""

import os
import pathlib

import numpy as np

from render import image_io
from render.image import area_downsample, resize, to_bytes
from scripts.shell import command, stopping
from scripts.shell.parallel import on_all_cores

_ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".heic"}
_FEWEST = 2


def read_squares(folder: str | os.PathLike, side: int) -> np.ndarray:
    """Reads all pictures of a folder and of those in it, in the order of their names.

    Args:
      folder: of pictures of any size.
      side: that they get, pixels.

    Returns:
      [N, side, side, 3] uint8.

    Raises:
      ValueError: there is no such folder, or there are too few pictures.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ValueError(f"expected a folder of pictures, found none at {folder}")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS)
    squares, left_out = [], []

    def read(path: pathlib.Path) -> np.ndarray | str:
        try:
            return _square(image_io.read_photo(path), side)
        except ValueError as error:
            return str(error)

    with stopping.noted() as stop, command.progress("pictures", len(paths)) as advance:
        for square in on_all_cores(read, paths, stop):
            (left_out if isinstance(square, str) else squares).append(square)
            advance()
        stop.act()
    if left_out:
        command.warn(f"{len(left_out)} of {len(paths)} pictures are left out: {left_out[0]}")
    if len(squares) < _FEWEST:
        raise ValueError(
            f"expected at least {_FEWEST} pictures in {folder}, found {len(squares)}; "
            f"files that end in {', '.join(sorted(_ENDINGS))} count"
        )
    return np.stack(squares)


def _square(photo: np.ndarray, side: int) -> np.ndarray:
    height, width = photo.shape[:2]
    least = min(height, width)
    top, left = (height - least) // 2, (width - least) // 2
    square = photo[top : top + least, left : left + least]
    if least > side:
        return to_bytes(area_downsample(square, side, side))
    return to_bytes(np.asarray(resize(square, side, side)))
