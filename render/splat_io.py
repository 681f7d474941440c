"""Splat scenes as files: .ply of 3D Gaussian splatting, compressed .ply of PlayCanvas, .spz.

Axes: N Gaussians, M harmonics, K = M - 1 of them beyond the constant, C = 256 Gaussians a chunk.

Every .ply has the axes of the scene; most programs take y for down and z for forward there.

Sources: Kerbl et al. 2023, the layout of their .ply; PlayCanvas, the compressed layout of
splat-transform.
"""

import os
import pathlib
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from render import harmonics
from render.files_io import replacing
from render.gaussians import Gaussians
from render.quantized import (
    alphas_of,
    drawable,
    drop_largest,
    join_codes,
    logits_of,
    restore_largest,
    split_codes,
    to_codes,
)
from render.spz_io import MAGIC, pack_spz, unpack_spz

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}

_HEADER_BYTES = 16_384  # of a .ply; a few hundred of them are in use

_CHUNK = 256
_BOUNDS = [f"{end}_{name}" for end in ("min", "max") for name in "xyz"]
_BOUNDS += [f"{end}_scale_{name}" for end in ("min", "max") for name in "xyz"]
_COLOR_BOUNDS = [f"{end}_{name}" for end in ("min", "max") for name in "rgb"]
_PACKED = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]
_STEPS = np.array([2047, 1023, 2047, 2047, 1023, 2047, 255, 255, 255])  # of x y z, scales, colours


def read_splats(path: str | os.PathLike) -> Gaussians:
    """Reads a splat file of any of the three formats, told apart by their content.

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
    packs = {".compressed.ply": _pack_compressed, ".ply": _pack_standard, ".spz": pack_spz}
    name = path.name.lower()
    pack = next((packs[ending] for ending in packs if name.endswith(ending)), None)
    if pack is None:
        raise ValueError(f"expected splats in .ply, .compressed.ply or .spz, found {path}")
    harmonics.degree_of(gaussians.harmonics.shape[1])
    with np.errstate(all="ignore"):
        gaussians = jax.tree.map(lambda values: np.asarray(values, np.float32), gaussians)
        content = pack(gaussians)
    if up is not None and pack is _pack_standard:
        content = content.replace(b"\n", f"\ncomment Vertical Axis: {up}\n".encode(), 1)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def is_splat_file(path: str | os.PathLike) -> bool:
    """Tells by the beginning of a file whether it may hold splats: a .ply may hold a mesh as well.

    Raises:
      ValueError: when there is no file.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"expected a file, found nothing at {path}")
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    is_packed = header.startswith((b"\x1f\x8b", MAGIC))
    marks = (b" f_dc_0", b" packed_position", b" rot_0", b" opacity")
    return is_packed or any(mark in header.partition(b"end_header")[0] for mark in marks)


def read_up(path: str | os.PathLike) -> str | None:
    """Returns the axis that points up, such as "y" or "-z", where a .ply says so, else None.

    It says so in a comment, as nerfstudio writes it: "Vertical Axis: z".
    """
    with pathlib.Path(path).open("rb") as file:
        header = file.read(_HEADER_BYTES).partition(b"end_header")[0].lower()
    found = re.search(rb"^comment\s+vertical axis:\s*([+-]?)([xyz])\b", header, re.MULTILINE)
    return found and (found[1] + found[2]).decode().lstrip("+")


def _unpack(content: bytes) -> Gaussians:
    if content.startswith((b"\x1f\x8b", MAGIC)):
        return unpack_spz(content)
    if not content.startswith((b"ply\n", b"ply\r\n")):
        raise ValueError(f"expected splats as .ply or .spz, found {content[:8]!r}")
    elements = _unpack_ply(content)
    vertices = elements.get("vertex", np.empty(0))
    names = vertices.dtype.names or ()
    if "chunk" in elements and "packed_position" in names:
        return _unpack_compressed(elements)
    if "face" in elements and "f_dc_0" not in names:
        raise ValueError("expected splats, found a mesh")
    return _unpack_standard(vertices)


# .ply


def _unpack_ply(content: bytes) -> dict[str, np.ndarray]:
    """Returns the rows of each element by name; of lists and what follows them, only the names."""
    end = content.find(b"\nend_header")
    start = content.find(b"\n", end + 1) + 1
    if end < 0 or not start:
        raise ValueError("expected a header of .ply, found no end of it")
    order, headings = None, []
    for line in content[:end].decode("ascii", "replace").splitlines():
        match line.split():
            case ["format", name, _] if name in _ORDERS:
                order = _ORDERS[name]
            case ["format", *names]:
                raise ValueError(f"expected a binary .ply, found format {' '.join(names)[:80]}")
            case ["element", name, count] if count.isdecimal() and len(count) < 19:
                headings.append((name, int(count), {}))
            case ["property", "list", _, _, name] if headings:
                headings[-1][2][name] = None
            case ["property", kind, name] if headings and kind in _TYPES:
                if name in headings[-1][2]:
                    raise ValueError(f"expected each property once, found {name} again")
                headings[-1][2][name] = _TYPES[kind]
            case ["ply"] | ["comment", *_] | ["obj_info", *_] | []:
                pass
            case _:
                raise ValueError(f"expected a header of .ply, found the line {line[:80]!r}")
    if order is None:
        raise ValueError("expected a binary .ply, found no format")
    elements = {name: np.empty(0) for name, _, _ in headings}
    for name, count, properties in headings:
        if None in properties.values():
            break  # rows of unequal length: what follows has no known place
        row = np.dtype([(label, order + kind) for label, kind in properties.items()])
        num_bytes = count * row.itemsize
        if num_bytes > len(content) - start:  # before anything of that size is made
            raise ValueError(
                f"expected {num_bytes} bytes of element {name}, found {len(content) - start}"
            )
        elements[name] = np.frombuffer(content, row, count, start)
        start += num_bytes
    return elements


def _columns(rows: np.ndarray, names: Sequence[str], kind: str = "iuf") -> np.ndarray:
    """Picks properties of `kind` by name, as the columns of one table."""
    found = rows.dtype.names or ()
    missing = [name for name in names if name not in found or rows.dtype[name].kind not in kind]
    if missing:
        integers = "" if "f" in kind else " of type uint or uchar"
        raise ValueError(f"expected properties {', '.join(missing)}{integers}, found none such")
    return np.stack([rows[name] for name in names], -1)


def _ply(*elements: tuple[str, Sequence[str], np.ndarray]) -> bytes:
    """Makes a file of elements: name, names of the properties, table [rows, properties]."""
    types = {"<f4": "float", "<u4": "uint", "|u1": "uchar"}
    lines = ["ply", "format binary_little_endian 1.0"]
    for name, properties, table in elements:
        lines += [f"element {name} {len(table)}"]
        lines += [f"property {types[table.dtype.str]} {label}" for label in properties]
    tables = [table.tobytes() for _, _, table in elements]
    return b"".join(["\n".join([*lines, "end_header\n"]).encode(), *tables])


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{i}" for i in range(count)]


def _standard_names(num_rest: int) -> list[str]:
    names = [*"xyz", *_numbered("f_dc", 3), *_numbered("f_rest", num_rest), "opacity"]
    return names + _numbered("scale", 3) + _numbered("rot", 4)


def _num_rest(names: Sequence[str]) -> int:
    count = sum(name.startswith("f_rest_") for name in names)
    if count not in (0, 9, 24, 45):
        raise ValueError(f"expected 0, 9, 24 or 45 properties f_rest, found {count}")
    return count


def _join_harmonics(constant: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Joins [N, 3] and [N, 3 K], channel after channel, to [N, M, 3]."""
    rest = rest.reshape(len(rest), 3, rest.shape[1] // 3)
    return np.concatenate([constant[:, None], rest.swapaxes(1, 2)], 1)


def _rest(coefficients: np.ndarray) -> np.ndarray:
    """Lays [N, M, 3] out as [N, 3 K], channel after channel, without the constant."""
    num_rest = 3 * (coefficients.shape[1] - 1)
    return coefficients[:, 1:].swapaxes(1, 2).reshape(len(coefficients), num_rest)


def _unpack_standard(vertices: np.ndarray) -> Gaussians:
    num_rest = _num_rest(vertices.dtype.names or ())
    table = _columns(vertices, _standard_names(num_rest))
    means, constant, rest, logit_opacities, log_scales, quats = np.split(
        table, np.cumsum([3, 3, num_rest, 1, 3]), -1
    )
    coefficients = _join_harmonics(constant, rest)
    return Gaussians(means, quats, log_scales, logit_opacities[:, 0], coefficients)


def _pack_standard(gaussians: Gaussians) -> bytes:
    constant, rest = gaussians.harmonics[:, 0], _rest(gaussians.harmonics)
    columns = [gaussians.means, constant, rest, gaussians.logit_opacities[:, None]]
    columns += [gaussians.log_scales, gaussians.quats]
    table = np.concatenate(columns, -1).astype("<f4")
    return _ply(("vertex", _standard_names(rest.shape[1]), table))


def _unpack_compressed(elements: dict[str, np.ndarray]) -> Gaussians:
    vertices, chunks = elements["vertex"], elements["chunk"]
    packed = _columns(vertices, _PACKED, "u")
    if len(chunks) != -(-len(packed) // _CHUNK):
        raise ValueError(f"expected a chunk for {_CHUNK} splats, found {len(chunks)} chunks")
    rest = np.empty([len(packed), 0])
    if "sh" in elements:
        num_rest = _num_rest(elements["sh"].dtype.names or ())
        rest = _columns(elements["sh"], _numbered("f_rest", num_rest), "u") if num_rest else rest
    if len(rest) != len(packed):
        raise ValueError(f"expected {len(packed)} rows of element sh, found {len(rest)}")
    bounds = _columns(chunks, _BOUNDS, "f").reshape(-1, 2, 2, 3)  # chunk, group, end, axis
    if "min_r" in (chunks.dtype.names or ()):
        colors = _columns(chunks, _COLOR_BOUNDS, "f").reshape(-1, 1, 2, 3)
    else:  # files of the first years
        colors = np.broadcast_to(np.array([[0.0], [1.0]]), [len(chunks), 1, 2, 3])
    bounds = np.concatenate([bounds, colors], 1, dtype=np.float64)
    low, high = bounds[:, :, 0].reshape(-1, 9), bounds[:, :, 1].reshape(-1, 9)
    position, rotation, scale, color = packed.T
    fields = [position >> 21, position >> 11, position, scale >> 21, scale >> 11, scale]
    fields += [color >> 24, color >> 16, color >> 8]
    unit = (np.stack(fields, -1) & _STEPS) / _STEPS
    chunk = np.arange(len(packed)) // _CHUNK
    values = low[chunk] + unit * (high - low)[chunk]
    largest, codes = split_codes(rotation)
    return Gaussians(
        means=values[:, :3],
        quats=restore_largest(largest, codes / 1023.0 * 2.0 - 1.0),
        log_scales=values[:, 3:6],
        logit_opacities=logits_of(color & 255),
        harmonics=_join_harmonics(
            (values[:, 6:] - 0.5) / harmonics.CONSTANT, (rest + 0.5) / 32.0 - 4.0
        ),
    )


def _pack_compressed(gaussians: Gaussians) -> bytes:
    gaussians = drawable(gaussians)
    order = _morton_order(gaussians.means)
    gaussians = jax.tree.map(lambda values: values[order], gaussians)
    colors = 0.5 + harmonics.CONSTANT * gaussians.harmonics[:, 0]
    scales = np.clip(gaussians.log_scales, -20.0, 20.0)  # an infinite one would take all steps
    values = np.concatenate([gaussians.means, scales, colors], -1)
    starts = np.arange(0, len(values), _CHUNK)
    low = np.minimum.reduceat(values, starts).astype("<f4")
    high = np.maximum.reduceat(values, starts).astype("<f4")
    bounds = np.stack([low.reshape(-1, 3, 3), high.reshape(-1, 3, 3)], 2).reshape(-1, 18)
    chunk = np.arange(len(values)) // _CHUNK
    span = high.astype(np.float64) - low
    unit = (values - low[chunk]) / np.where(span > 0.0, span, 1.0)[chunk]
    codes = np.round(np.clip(unit, 0.0, 1.0) * _STEPS).astype(np.uint32)
    x, y, z, scale_x, scale_y, scale_z, red, green, blue = codes.T
    largest, three = drop_largest(gaussians.quats)
    packed = [
        x << 21 | y << 11 | z,
        join_codes(largest, np.round((three + 1.0) / 2.0 * 1023.0)),
        scale_x << 21 | scale_y << 11 | scale_z,
        red << 24 | green << 16 | blue << 8 | alphas_of(gaussians.logit_opacities),
    ]
    rest = np.floor(_rest(gaussians.harmonics) * 32.0 + 128.0)
    elements = [
        ("chunk", _BOUNDS + _COLOR_BOUNDS, bounds),
        ("vertex", _PACKED, np.stack(packed, -1).astype("<u4")),
        ("sh", _numbered("f_rest", rest.shape[1]), to_codes(rest)),
    ]
    return _ply(*elements if rest.shape[1] else elements[:2])


def _morton_order(means: np.ndarray) -> np.ndarray:
    """Orders points [N, 3] along a curve on which neighbours in space are near each other."""
    low = means.min(0, initial=np.inf)
    span = (means - low).max(initial=1e-30)
    cells = ((means - low) / span * (2**21 - 1)).astype(np.uint64)
    code = np.zeros(len(means), np.uint64)
    for bit in range(21):
        for axis in range(3):
            code |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return np.argsort(code, kind="stable")
