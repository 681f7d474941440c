"""Shows whom an embedding takes for alike: neighbours of some pictures, near and far."""

import pathlib

import numpy as np

from render import image_io
from render.image import contact_sheet

_ENLARGED = 2  # times, pictures are shown
_SHOWN, _NEAREST, _FARTHEST = 12, 5, 3
_GAP = np.ones((1, 1, 3), np.uint8) * 255


def write_neighbours(path: pathlib.Path, rgb: np.ndarray, likeness: np.ndarray) -> None:
    """Writes a row a person: a picture; the person's others; other people, nearest and farthest.

    Args:
      path: of the file.
      rgb: [N, V, S, S, 3] uint8.
      likeness: [M, M] of them in their order, M = N V; larger is more alike.
    """
    count, views = rgb.shape[:2]
    flat = rgb.reshape(-1, *rgb.shape[2:])
    person = np.repeat(np.arange(count), views)
    cells = []
    for shown in np.linspace(0, count - 1, min(_SHOWN, count)).astype(int):
        query = shown * views
        order = np.argsort(-likeness[query], kind="stable")
        own = [n for n in order if person[n] == shown and n != query]
        seen, near = set(), []  # one picture of each
        for n in order:
            if person[n] != shown and person[n] not in seen:
                seen.add(person[n])
                near.append(n)
        for group in ([query], own, near[:_NEAREST], near[-_FARTHEST:]):
            cells += [flat[n].repeat(_ENLARGED, 0).repeat(_ENLARGED, 1) for n in group] + [_GAP]
        cells.pop()
    columns = 1 + 1 + (views - 1) + 1 + _NEAREST + 1 + _FARTHEST
    image_io.write_image(path, contact_sheet(cells, columns, gap=2))
