"""Splat scenes as files: .ply of 3D Gaussian splatting, compressed .ply, .spz, .splat.

Every .ply has the axes of the scene; most programs take y for down and z for forward there.
"""

import os
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np

from render import harmonics
from render.antimatter import is_antimatter, unpack_antimatter
from render.compressed_ply import pack_compressed, unpack_compressed
from render.files_io import replacing
from render.gaussians import Gaussians
from render.ply_elements import is_ply, unpack_ply
from render.refused_files import RefusedFileError, refuse_foreign, refuse_points
from render.spz_io import is_spz, pack_spz, unpack_spz
from render.standard_ply import pack_standard, unpack_standard

_BEGINNING = 65_536  # bytes that tell what a file is; a header of .ply may go on for longer


def read_splats(path: str | os.PathLike) -> Gaussians:
    """Reads a splat file of any of the formats, told apart by their content.

    Rows that hold NaN are kept. Extra properties and what follows the splats are ignored.

    Raises:
      ValueError: when `path` is no splat file, or not a whole one.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"expected a splat file, found nothing at {path}")
    content = path.read_bytes()
    try:
        with np.errstate(all="ignore"):  # files may hold infinities and NaN
            found = _unpack(content)
            found = jax.tree.map(lambda values: np.asarray(values, np.float32), found)
    except RefusedFileError as error:
        raise error.at(path) from None
    except ValueError as error:
        raise ValueError(f"{error} in {path}") from None
    return jax.tree.map(jnp.asarray, found)


def write_splats(path: str | os.PathLike, gaussians: Gaussians, up: str | None = None) -> None:
    """Writes a .ply, a .compressed.ply or an .spz file, as the name of `path` ends.

    A .ply notes the axis `up`, such as "y" or "-z", for `read_up`; the others have no place for it.

    A .ply is exact. The others round, and know no NaN: a row that cannot be drawn becomes a
    transparent one. A compressed .ply changes the order, as its chunks are to hold neighbours. An
    .spz file reaches 2048 m from the origin in steps of 0.24 mm, or 128 m in steps of 0.015 mm.

    Raises:
      ValueError: when the name has none of the endings, or there are not 1, 4, 9 or 16 harmonics.
    """
    path = pathlib.Path(path)
    packs = {".compressed.ply": pack_compressed, ".ply": pack_standard, ".spz": pack_spz}
    name = path.name.lower()
    pack = next((packs[ending] for ending in packs if name.endswith(ending)), None)
    if pack is None:
        raise ValueError(f"expected splats in .ply, .compressed.ply or .spz, found {path}")
    harmonics.degree_of(gaussians.harmonics.shape[1])
    with np.errstate(all="ignore"):
        gaussians = jax.tree.map(lambda values: np.asarray(values, np.float32), gaussians)
        content = pack(gaussians)
    if up is not None and pack is pack_standard:
        content = content.replace(b"\n", f"\ncomment Vertical Axis: {up}\n".encode(), 1)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def is_splat_file(path: str | os.PathLike) -> bool:
    """Tells by the beginning of a file whether it may hold splats: a .ply may hold a mesh as well.

    Raises:
      ValueError: when there is no file, or one of a kind that is neither splats nor a mesh.
    """
    beginning = _beginning(path)
    if is_spz(beginning):
        return True
    if is_ply(beginning):
        header = beginning.partition(b"end_header")[0]
        marks = (b" f_dc_0", b" packed_position", b" rot_0", b" opacity")
        has_faces = re.search(rb"^element\s+face\s+[1-9]", header, re.MULTILINE)
        return not has_faces or any(mark in header for mark in marks)
    if pathlib.Path(path).suffix.lower() == ".glb" and beginning.startswith(b"glTF"):
        return False
    try:
        refuse_foreign(beginning, "splats or a mesh")
    except RefusedFileError as error:
        raise error.at(path) from None
    return is_antimatter(beginning)


def read_up(path: str | os.PathLike) -> str | None:
    """Returns the axis that points up, such as "y" or "-z", where a .ply says so, else None.

    It says so in a comment, as nerfstudio writes it: "Vertical Axis: z".
    """
    header = _beginning(path)
    if not is_ply(header):
        return None
    header = header.partition(b"end_header")[0].lower()
    found = re.search(rb"^comment\s+vertical axis:\s*([+-]?)([xyz])\b", header, re.MULTILINE)
    return found and (found[1] + found[2]).decode().lstrip("+")


def _beginning(path: str | os.PathLike) -> bytes:
    """Returns the first bytes of a file, of a .ply with its whole header."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"expected a file, found nothing at {path}")
    with path.open("rb") as file:
        content = file.read(_BEGINNING)
        while is_ply(content) and b"end_header" not in content:
            more = file.read(len(content))
            if not more:
                break
            content += more
    return content


def _unpack(content: bytes) -> Gaussians:
    if is_spz(content):
        return unpack_spz(content)
    if is_ply(content):
        return _unpack_any_ply(content)
    refuse_foreign(content)
    if is_antimatter(content):
        return unpack_antimatter(content)
    raise ValueError(f"expected splats as .ply, .spz or .splat, found {content[:8]!r}")


def _unpack_any_ply(content: bytes) -> Gaussians:
    elements = unpack_ply(content)
    vertices = elements.get("vertex", np.empty(0))
    names = vertices.dtype.names or ()
    if "chunk" in elements and "packed_position" in names:
        return unpack_compressed(elements)
    refuse_points(names, tuple(elements))
    return unpack_standard(vertices)
