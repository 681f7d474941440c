"""The materials of .obj files: .mtl, and pictures of alpha.

Source: Wavefront MTL (map_Kd, map_d).
"""

import os
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image

from render.files_io import replacing
from render.image import to_bytes

_FIELDS = {"map_Kd": "color", "map_d": "alpha"}


class Material(NamedTuple):
    """The pictures of a material."""

    color: pathlib.Path | None = None
    alpha: pathlib.Path | None = None


def write_mtl(path: str | os.PathLike, materials: dict[str, Material]) -> None:
    """Writes materials without a shine of their own; their pictures lie in the same folder."""
    lines = []
    for name, material in materials.items():
        lines += [f"newmtl {name}", "Ka 1 1 1", "Kd 1 1 1", "Ks 0 0 0", "illum 1"]
        pictures = {key: getattr(material, field) for key, field in _FIELDS.items()}
        lines += [f"{key} {picture.name}" for key, picture in pictures.items() if picture]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def read_mtl(paths: Iterable[pathlib.Path]) -> dict[str, Material]:
    """Reads the materials of these files by name, as far as the files exist."""
    materials, name = {}, ""
    lines = [(path, path.read_text(errors="replace")) for path in paths if path.is_file()]
    for path, line in ((path, line) for path, text in lines for line in text.splitlines()):
        key, *words = line.split() or [""]
        if key == "newmtl":
            name = " ".join(words)
        found = materials.get(name, Material())
        if key in _FIELDS and words and getattr(found, _FIELDS[key]) is None:
            picture = path.parent / line.split(maxsplit=1)[1].strip()
            # Options come before the name, if any; a name may hold spaces.
            picture = picture if picture.is_file() else path.parent / words[-1]
            materials[name] = found._replace(**{_FIELDS[key]: picture})
    return materials


def write_alpha(path: str | os.PathLike, alpha: np.ndarray) -> None:
    """Writes alpha [H, W] as grey and as transparency: programs look for it at either place."""
    values = to_bytes(alpha)
    with replacing(path) as temporary:
        Image.fromarray(np.stack([values, values], -1)).save(temporary)


def read_alpha(path: str | os.PathLike, height: int, width: int) -> np.ndarray:
    """Reads what a picture says by its transparency, else by its brightness, as [H, W]."""
    with Image.open(path) as file:
        alpha = file.getchannel("A") if "A" in file.getbands() else file.convert("L")
        alpha = alpha if alpha.size == (width, height) else alpha.resize((width, height))
        return np.asarray(alpha, np.float32) / 255.0
