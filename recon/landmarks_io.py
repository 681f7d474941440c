"""Landmark files: iBUG's `.pts`.

A `.pts` file counts pixels from one, so that the centre of the top left pixel is (1, 1); here it
is (0.5, 0.5). Reading subtracts half a pixel, writing adds it. Points that nobody sees stand in
such files as (-1, -1) or (0, 0); here they are NaN.
"""

import codecs
import os
import pathlib

import numpy as np

from render.files_io import replacing

_HIDDEN = (-1.0, 0.0)  # both coordinates, in the file


def read_pts(path: str | os.PathLike) -> np.ndarray:
    """Reads the points [N, 2] of a `.pts` file, in pixels; NaN where a point is marked as hidden.

    Raises:
      ValueError: not a `.pts` file; names the line, what was expected and what was found.
    """
    path = pathlib.Path(path)
    lines = _read_text(path).splitlines()
    points: list[tuple[float, float]] = []
    promised = None
    is_open = is_closed = False
    for number, line in enumerate(lines, start=1):
        for words in _pieces(line):
            if is_closed:
                continue
            if words == ["{"] and not is_open:
                is_open = True
            elif words == ["}"] and is_open:
                is_closed = True
            elif is_open:
                points.append(_point(words, path, number))
            elif words[0].lower() == "n_points":
                promised = _count(words[-1], path, number)
            elif words[0].lower() != "version":
                raise ValueError(f"expected 'n_points:' or '{{', found {line!r} at {path}:{number}")
    if not is_closed:
        missing = "}" if is_open else "{"
        raise ValueError(f"expected '{missing}', found the end of the file at {path}:{len(lines)}")
    if promised not in (None, len(points)):
        raise ValueError(f"expected {promised} points by its header, found {len(points)} in {path}")
    xy = np.array(points, np.float64).reshape(-1, 2)
    is_hidden = (xy[:, 0] == xy[:, 1]) & np.isin(xy[:, 0], _HIDDEN)
    return np.where(is_hidden[:, None], np.nan, xy - 0.5)


def _read_text(path: pathlib.Path) -> str:
    """Reads UTF-8, or UTF-16 that says so by its first bytes, as editors on Windows write them."""
    content = path.read_bytes()
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ValueError(f"expected landmarks (.pts, text), found binary data in {path}")
    return text


def _pieces(line: str) -> list[list[str]]:
    """Splits a line into the words between braces, and the braces, without comments."""
    text = line.split("#")[0].split("//")[0]
    text = text.replace(":", " ").replace("{", "\n{\n").replace("}", "\n}\n")
    return [words for part in text.split("\n") if (words := part.split())]


def write_pts(path: str | os.PathLike, xy: np.ndarray) -> None:
    """Writes points [N, 2] in pixels; those that are NaN as hidden."""
    xy = np.asarray(xy, np.float64)
    in_file = np.where(np.isnan(xy).all(1, keepdims=True), _HIDDEN[0], xy + 0.5)
    rows = "".join(f"{x:.6f} {y:.6f}\n" for x, y in in_file)
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
