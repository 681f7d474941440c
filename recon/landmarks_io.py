"""Landmark files: iBUG's `.pts`.

A `.pts` file counts pixels from one, so that the centre of the top left pixel is (1, 1); here it
is (0.5, 0.5). Reading subtracts half a pixel, writing adds it.
"""

import os
import pathlib

import numpy as np

from render.files_io import replacing


def read_pts(path: str | os.PathLike) -> np.ndarray:
    """Reads the points [N, 2] of a `.pts` file, in pixels.

    Raises:
      ValueError: not a `.pts` file; names the line, what was expected and what was found.
    """
    path = pathlib.Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"expected landmarks (.pts, text), found binary data in {path}") from None

    points: list[tuple[float, float]] = []
    promised = None
    is_open = is_closed = False
    for number, line in enumerate(lines, start=1):
        words = line.split("#")[0].split("//")[0].split()
        if not words or is_closed:
            continue
        if not is_open:
            key, value = words[0].rstrip(":").lower(), words[-1]
            if key == "n_points":
                promised = _count(value, path, number)
            elif key == "{":
                is_open = True
            elif key != "version":
                raise ValueError(f"expected 'n_points:' or '{{', found {line!r} at {path}:{number}")
        elif words == ["}"]:
            is_closed = True
        else:
            points.append(_point(words, path, number))
    if not is_closed:
        missing = "}" if is_open else "{"
        raise ValueError(f"expected '{missing}', found the end of the file at {path}:{len(lines)}")
    if promised not in (None, len(points)):
        raise ValueError(f"expected {promised} points by its header, found {len(points)} in {path}")
    return np.array(points, np.float64).reshape(-1, 2) - 0.5


def write_pts(path: str | os.PathLike, xy: np.ndarray) -> None:
    """Writes points [N, 2] in pixels."""
    rows = "".join(f"{x + 0.5:.6f} {y + 0.5:.6f}\n" for x, y in np.asarray(xy, np.float64))
    with replacing(path) as temporary:
        temporary.write_text(f"version: 1\nn_points: {len(xy)}\n{{\n{rows}}}\n", encoding="utf-8")


def _count(word: str, path: pathlib.Path, number: int) -> int:
    if not word.isdecimal():
        raise ValueError(f"expected a count, found {word!r} at {path}:{number}")
    return int(word)


def _point(words: list[str], path: pathlib.Path, number: int) -> tuple[float, float]:
    try:
        x, y = map(float, words)
    except ValueError:
        found = " ".join(words)
        raise ValueError(f"expected 'x y', found {found[:40]!r} at {path}:{number}") from None
    return x, y
