"""Reads the arrays and structs of MATLAB files, version 5 (to -v7) and 7.3 (HDF5), and no more.

Face models hold real, full arrays of numbers, bare or in a struct. All else that such a file may
hold (text, cells, sparse arrays, objects) is passed over. SciPy's reader knows it all, but trusts
what a file says of itself: a damaged one can end the process. Here every length is held against
what there is before anything is made of it.

Sources: MathWorks, MAT-File Format (2020); the HDF5 layout as MATLAB R2023a writes it.
"""

import math
import os
import pathlib
import struct
import zlib
from collections.abc import Iterator

import h5py
import numpy as np
from numpy.typing import NDArray

from recon.formats.raw_model import guarded, refuse

MATLAB_5 = b"MATLAB 5.0"
_MATLAB = "a MATLAB file"
_HEADER = 128  # bytes; the last two tell the byte order
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_TYPES |= {12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4"}
_CLASSES |= {14: "i8", 15: "u8"}
_STRUCT = 2
_COMPLEX = 0x0800
_MOST_RATIO = 1032  # of deflate
_MOST_BYTES = 8 << 30  # of all arrays together; the largest public model holds 1 GB
_MOST_DEPTH = 2  # of structs in structs


def read_matlab(path: os.PathLike) -> dict:
    """Reads the arrays of a `.mat` file of version 5, by name; a struct is a dict of arrays.

    Raises:
      ValueError: one line, when the file is damaged, cut short, or of another kind.
    """
    path = pathlib.Path(path)
    return guarded(path, _MATLAB, lambda: _read_elements(path))


def read_hdf5_arrays(path: os.PathLike) -> dict:
    """Reads the arrays of a `.mat` file of version 7.3, by name; a struct is a dict of arrays.

    Raises:
      ValueError: one line, when the file is damaged, cut short, or of another kind.
    """
    path = pathlib.Path(path)

    def read():
        with h5py.File(path, "r") as file:
            return _group(path, file, _MOST_DEPTH)

    return guarded(path, f"{_MATLAB} of version 7.3", read)


def read_dataset(path: os.PathLike, dataset: h5py.Dataset) -> NDArray:
    """Reads a data set, unless it claims to be far larger than what the file stores of it."""
    if dataset.shape is None or dataset.is_virtual or dataset.external:
        raise refuse(path, f"numbers in '{dataset.name}'", "none in this file")
    claimed = dataset.size * dataset.dtype.itemsize
    if claimed > _MOST_RATIO * dataset.id.get_storage_size() or claimed > _MOST_BYTES:
        raise refuse(path, f"the numbers of '{dataset.name}'", f"{claimed} bytes claimed")
    return dataset[()]


def _group(path: pathlib.Path, group: h5py.Group, depth: int) -> dict:
    values = {}
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue  # a link may lead out of the file
        entry = group[name]
        if isinstance(entry, h5py.Dataset) and entry.shape and entry.dtype.kind in "fiu":
            # MATLAB stores column by column, HDF5 row by row.
            values[name] = read_dataset(path, entry).T
        elif isinstance(entry, h5py.Group) and not name.startswith("#") and depth:
            values[name] = _group(path, entry, depth - 1)
    return values


def _read_elements(path: pathlib.Path) -> dict:
    content = memoryview(path.read_bytes())
    if len(content) < _HEADER or content[126:128] not in (b"IM", b"MI"):
        found = f"{len(content)} bytes that start with {bytes(content[:8])!r}"
        raise refuse(path, f"{_MATLAB} of version 5 to 7.3", found)
    order = "<" if content[126:128] == b"IM" else ">"
    values, left = {}, _MOST_BYTES
    for kind, data in _elements(content[_HEADER:], order):
        if kind == _COMPRESSED:
            data = _inflated(data, order, left)
            left -= len(data)
            ((kind, data),) = _elements(data, order)
        if kind == _MATRIX:
            name, value = _matrix(data, order, _MOST_DEPTH)
            if name and value is not None:
                values[name] = value
    return values


def _elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yields type and data of each element; a small one has both in eight bytes."""
    place = 0
    while place < len(content):
        if len(content) - place < 8:
            raise ValueError("cut short in a tag")
        kind, size = struct.unpack_from(f"{order}II", content, place)
        if kind >> 16:
            kind, size, start, end = kind & 0xFFFF, kind >> 16, place + 4, place + 8
            if size > 4:
                raise ValueError(f"a small element of {size} bytes")
        else:
            start = place + 8
            # What is compressed is not padded to eight bytes.
            end = start + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if start + size > len(content):
            raise ValueError(f"cut short: {size} bytes promised, {len(content) - start} left")
        yield kind, content[start : start + size]
        place = end


def _inflated(data: memoryview, order: str, most: int) -> memoryview:
    """Decompresses one element, no further than its own tag says."""
    inflater = zlib.decompressobj()
    tag = inflater.decompress(data, 8)
    if len(tag) < 8:
        raise ValueError("nothing in a compressed element")
    size = struct.unpack(f"{order}II", tag)[1]
    if size > min(_MOST_RATIO * len(data), most):
        raise ValueError(f"{size} bytes promised in {len(data)} compressed ones")
    rest = inflater.decompress(inflater.unconsumed_tail, size) if size else b""
    return memoryview(tag + rest)


def _matrix(content: memoryview, order: str, depth: int) -> tuple[str, NDArray | dict | None]:
    """Returns the name and the numbers of an array, or a struct's; None for other kinds."""
    if not len(content):
        return "", None
    parts = _elements(content, order)
    flags = _first(_numbers(parts, order))
    kind = flags & 0xFF
    if kind not in _CLASSES and kind != _STRUCT:
        return "", None
    shape = tuple(int(n) for n in _numbers(parts, order))
    name = bytes(_following(parts)[1]).decode("latin-1")
    if len(shape) < 2 or min(shape) < 0:
        raise ValueError(f"an array of shape {shape}")
    if kind == _STRUCT:
        is_one = math.prod(shape) == 1 and depth > 0
        return name, _struct(parts, order, depth - 1) if is_one else None
    if flags & _COMPLEX:
        return name, None
    numbers = _numbers(parts, order)
    if numbers.size != math.prod(shape):
        raise ValueError(f"'{name}' of shape {shape} with {numbers.size} numbers")
    # MATLAB stores whole doubles in as few bytes as hold them.
    return name, numbers.astype(_CLASSES[kind], copy=False).reshape(shape, order="F")


def _struct(parts: Iterator[tuple[int, memoryview]], order: str, depth: int) -> dict:
    width = _first(_numbers(parts, order))
    names = bytes(_following(parts)[1])
    if width <= 0 or len(names) % width:
        raise ValueError(f"a struct with names of {width} letters")
    names = [names[i : i + width].split(b"\0")[0] for i in range(0, len(names), width)]
    values = {}
    for name in names:
        kind, data = _following(parts)
        if kind != _MATRIX:
            raise ValueError(f"a field of type {kind}")
        value = _matrix(data, order, depth)[1]
        if value is not None:
            values[name.decode("latin-1")] = value
    return values


def _following(parts: Iterator[tuple[int, memoryview]]) -> tuple[int, memoryview]:
    part = next(parts, None)
    if part is None:
        raise ValueError("an array that ends early")
    return part


def _first(numbers: NDArray) -> int:
    if not numbers.size:
        raise ValueError("no number where one is needed")
    return int(numbers[0])


def _numbers(parts: Iterator[tuple[int, memoryview]], order: str) -> NDArray:
    kind, data = _following(parts)
    if kind not in _TYPES:
        raise ValueError(f"numbers of type {kind}")
    dtype = np.dtype(order + _TYPES[kind])
    if len(data) % dtype.itemsize:
        raise ValueError(f"{len(data)} bytes of {dtype.name}")
    return np.frombuffer(data, dtype).astype(dtype.newbyteorder("="), copy=False)
