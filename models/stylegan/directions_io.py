"""Files that lie beside a generator: its directions, with W's statistics, and what was inverted.

Both are safetensors; their header's entry "stylegan" is JSON that says what they are.
"""

import os
from typing import Any, NamedTuple

import numpy as np

from models.stylegan.directions import Directions
from models.stylegan.latents import LatentStatistics
from models.weights import read_about, read_entries, take_entries, write_entries

_ENTRY = "stylegan"
_FIELDS = ("readings", "biases", "edits", "means", "deviations", "explained")


class KeptInversion(NamedTuple):
    """What is kept of inverted pictures."""

    ws: np.ndarray  # [N, L, w]
    images: np.ndarray  # [N, H, W, 3] uint8: what was asked for
    matrices: np.ndarray  # [N, 3, 3] pixels of the photo to shares of the picture's side
    facts: dict[str, Any]  # JSON


def write_directions(
    path: str | os.PathLike, directions: Directions, statistics: LatentStatistics
) -> None:
    """Writes the named directions of a generator, and the principal ones."""
    arrays = {name: getattr(directions, name) for name in _FIELDS}
    arrays |= {f"statistics.{name}": value for name, value in statistics._asdict().items()}
    write_entries(path, arrays, _ENTRY, {"kind": "directions", "names": list(directions.names)})


def read_directions(path: str | os.PathLike) -> tuple[Directions, LatentStatistics]:
    """Reads them; raises ValueError, in one line, when the file holds something else."""
    names = _read_header(path, "directions").get("names")
    arrays = read_entries(path)
    size, count = _size_of(arrays), len(names) if isinstance(names, list) else -1
    shapes = {"readings": (count, size), "edits": (count, size)}
    shapes |= {name: (count,) for name in _FIELDS if name not in shapes}
    shapes |= {
        "statistics.mean": (size,),
        "statistics.axes": (size, size),
        "statistics.deviations": (size,),
    }
    arrays = take_entries(arrays, shapes, f"directions in {path}")
    directions = Directions(tuple(map(str, names)), *(arrays[name] for name in _FIELDS))
    return directions, LatentStatistics(
        *(arrays[f"statistics.{name}"] for name in LatentStatistics._fields)
    )


def write_inversion(path: str | os.PathLike, inversion: KeptInversion) -> None:
    """Writes latents, and what they are of."""
    arrays = {name: getattr(inversion, name) for name in ("ws", "images", "matrices")}
    write_entries(path, arrays, _ENTRY, {"kind": "inversion", "facts": inversion.facts})


def read_inversion(path: str | os.PathLike) -> KeptInversion:
    """Reads them; raises ValueError, in one line, when the file holds something else."""
    facts = _read_header(path, "inversion").get("facts")
    arrays = read_entries(path)
    if "ws" not in arrays or np.ndim(arrays["ws"]) != 3:
        raise ValueError(f"expected latents [N, L, w] in {path}, found none")
    count = len(arrays["ws"])
    images = np.shape(arrays.get("images", ()))
    shapes = {"ws": arrays["ws"].shape, "matrices": (count, 3, 3)}
    shapes["images"] = (count, *images[1:3], 3) if len(images) == 4 else (count, 1, 1, 3)
    arrays = take_entries(arrays, shapes, f"an inversion in {path}")
    return KeptInversion(arrays["ws"], arrays["images"], arrays["matrices"], dict(facts or {}))


def _size_of(arrays: dict[str, np.ndarray]) -> int:
    mean = arrays.get("statistics.mean")
    return -1 if mean is None or mean.ndim != 1 else mean.shape[0]


def _read_header(path: str | os.PathLike, kind: str) -> dict[str, Any]:
    read_entries(path)  # says in one line what is no such file
    entry = read_about(path, _ENTRY) or {}
    if entry.get("kind") != kind:
        found = str(entry.get("kind") or "other arrays")[:40]
        raise ValueError(f"expected {kind} in {path}, found {found}")
    return entry
