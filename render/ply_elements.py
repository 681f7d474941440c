"""The elements of a .ply, as tables: binary of either byte order and ascii, lists skipped.

Axes: N rows of an element, P properties of it.

Source: Turk 1994, the PLY format.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from render.refused_files import CUT_SHORT, RefusedFileError

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "<"}
_END = b"end_header"


class _List(NamedTuple):
    """A property that is a list: the types of its length and of its entries."""

    length: str
    entry: str


class _Heading(NamedTuple):
    """An element as the header has it."""

    name: str
    count: int
    properties: dict[str, str | _List]  # types by name, in the order of the file


def is_ply(content: bytes) -> bool:
    """Tells by its beginning whether a file calls itself .ply."""
    return content.startswith((b"ply\n", b"ply\r\n"))


def unpack_ply(content: bytes) -> dict[str, np.ndarray]:
    """Returns the rows [N] of each element by its name, as structured arrays.

    An element with lists that differ in length has no columns: it is skipped.

    Raises:
      ValueError: when the header is none, or the file ends before its last element does.
    """
    is_ascii, order, headings, start = _read_header(content)
    read = _AsciiBody(content[start:]) if is_ascii else _BinaryBody(content, start, order)
    return {heading.name: read.element(heading) for heading in headings}


def columns(rows: np.ndarray, names: Sequence[str], kind: str = "iuf") -> np.ndarray:
    """Picks properties of `kind` by name, as the columns of one table [N, P]."""
    found = rows.dtype.names or ()
    missing = [name for name in names if name not in found or rows.dtype[name].kind not in kind]
    if missing:
        integers = "" if "f" in kind else " of type uint or uchar"
        raise ValueError(f"expected properties {', '.join(missing)}{integers}, found none such")
    return np.stack([rows[name] for name in names], -1)


def pack_ply(*elements: tuple[str, Sequence[str], np.ndarray]) -> bytes:
    """Makes a binary file of elements: name, names of the properties, table [N, P]."""
    types = {"<f4": "float", "<u4": "uint", "|u1": "uchar"}
    lines = ["ply", "format binary_little_endian 1.0"]
    for name, properties, table in elements:
        lines += [f"element {name} {len(table)}"]
        lines += [f"property {types[table.dtype.str]} {label}" for label in properties]
    tables = [table.tobytes() for _, _, table in elements]
    return b"".join(["\n".join([*lines, "end_header\n"]).encode(), *tables])


def _read_header(content: bytes) -> tuple[bool, str, list[_Heading], int]:
    """Returns whether the body is text, its byte order, its elements and where it starts."""
    end = content.find(b"\n" + _END)
    start = content.find(b"\n", end + 1) + 1
    if end < 0 or not start:
        raise RefusedFileError("expected a header of .ply, found no end of it", CUT_SHORT)
    form, headings = None, []
    for line in content[:end].decode("ascii", "replace").splitlines():
        match line.split():
            case ["format", name, _] if name in _ORDERS:
                form = name
            case ["format", *names]:
                raise ValueError(
                    f"expected .ply in binary or ascii, found format {' '.join(names)[:80]}"
                )
            case ["element", name, count] if count.isdecimal() and len(count) < 19:
                headings.append(_Heading(name, int(count), {}))
            case ["property", "list", length, entry, name] if (
                headings and _TYPES.get(length, "f")[0] in "iu" and entry in _TYPES
            ):
                _add(headings[-1], name, _List(_TYPES[length], _TYPES[entry]))
            case ["property", kind, name] if headings and kind in _TYPES:
                _add(headings[-1], name, _TYPES[kind])
            case ["ply"] | ["comment", *_] | ["obj_info", *_] | []:
                pass
            case _:
                raise ValueError(f"expected a header of .ply, found the line {line[:80]!r}")
    if form is None:
        raise ValueError("expected .ply in binary or ascii, found no format")
    return form == "ascii", _ORDERS[form], headings, start


def _add(heading: _Heading, name: str, kind: str | _List) -> None:
    if name in heading.properties:
        raise ValueError(f"expected each property once, found {name} again")
    heading.properties[name] = kind


def _row_type(heading: _Heading, order: str, lengths: Sequence[int] = ()) -> np.dtype:
    """The type of a row whose lists have these lengths, "name length" and "name" for each."""
    remaining, fields = iter(lengths), []
    for name, kind in heading.properties.items():
        if isinstance(kind, _List):
            fields += [(f"{name} length", order + kind.length)]
            fields += [(name, order + kind.entry, (next(remaining),))]
        else:
            fields += [(name, order + kind)]
    return np.dtype(fields)


def _lists(heading: _Heading) -> dict[str, _List]:
    return {name: kind for name, kind in heading.properties.items() if isinstance(kind, _List)}


def _cut_short(heading: _Heading, wanted: int, found: int, what: str) -> ValueError:
    return RefusedFileError(
        f"expected {wanted} {what} of element {heading.name}, found {found}", CUT_SHORT
    )


class _BinaryBody:
    """Reads one element after another from where the header ends."""

    def __init__(self, content: bytes, start: int, order: str):
        self._content, self._at, self._order = content, start, order

    def element(self, heading: _Heading) -> np.ndarray:
        """Returns the rows of the next element; no columns where its lists differ in length."""
        if not _lists(heading):
            return self._rows(heading, _row_type(heading, self._order))
        start = self._at
        ends, lengths = self._scan(heading, 1)
        row = _row_type(heading, self._order, lengths)
        if ends - start == row.itemsize and heading.count * row.itemsize <= self._left:
            rows = np.frombuffer(self._content, row, heading.count, start)
            are_alike = [
                np.all(rows[f"{name} length"] == length)
                for name, length in zip(_lists(heading), lengths, strict=True)
            ]
            if all(are_alike):
                return self._rows(heading, row)
        self._at, _ = self._scan(heading, heading.count)
        return np.empty(0)

    @property
    def _left(self) -> int:
        return len(self._content) - self._at

    def _rows(self, heading: _Heading, row: np.dtype) -> np.ndarray:
        num_bytes = heading.count * row.itemsize
        if not num_bytes:
            return np.empty(0, row)
        if num_bytes > self._left:  # before anything of that size is made
            raise _cut_short(heading, num_bytes, self._left, "bytes")
        rows = np.frombuffer(self._content, row, heading.count, self._at)
        self._at += num_bytes
        return rows

    def _scan(self, heading: _Heading, count: int) -> tuple[int, list[int]]:
        """Walks rows one by one; returns where they end, and the lengths of the last one's lists.

        Every row takes a byte at least, so that a count without rows ends with the file.
        """
        byte_order = {"<": "little", ">": "big"}[self._order]
        steps = [
            (np.dtype(kind.length), np.dtype(kind.entry).itemsize)
            if isinstance(kind, _List)
            else (None, np.dtype(kind).itemsize)
            for kind in heading.properties.values()
        ]
        content, at, lengths = self._content, self._at, []
        for row in range(min(count, heading.count)):
            lengths = []
            for length_type, size in steps:
                if length_type is None:
                    at += size
                    continue
                end = at + length_type.itemsize
                length = int.from_bytes(content[at:end], byte_order, signed=length_type.kind == "i")
                if length < 0:
                    raise ValueError(
                        f"expected lists in element {heading.name}, found one of length {length}"
                    )
                lengths.append(length)
                at = end + length * size
            if at > len(content):
                raise _cut_short(heading, heading.count, row, "rows")
        return at, lengths or [0] * len(_lists(heading))


class _AsciiBody:
    """Reads one element after another from the numbers of a text."""

    def __init__(self, text: bytes):
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # else it stops at what is no number
            try:
                self._numbers = np.fromstring(text, np.float64, sep=" ")
            except (DeprecationWarning, ValueError):
                raise ValueError(
                    "expected numbers in an ascii .ply, found something else"
                ) from None
        self._at = 0

    def element(self, heading: _Heading) -> np.ndarray:
        """Returns the rows of the next element; no columns where it has lists."""
        if _lists(heading):
            self._skip(heading)
            return np.empty(0)
        width = len(heading.properties)
        wanted, left = heading.count * width, len(self._numbers) - self._at
        if wanted > left:
            raise _cut_short(heading, wanted, left, "numbers")
        table = self._numbers[self._at : self._at + wanted].reshape(-1, max(width, 1))
        self._at += wanted
        rows = np.empty(len(table), _row_type(heading, "<"))
        for i, name in enumerate(heading.properties):
            rows[name] = table[:, i]
        return rows

    def _skip(self, heading: _Heading) -> None:
        kinds = [isinstance(kind, _List) for kind in heading.properties.values()]
        for row in range(heading.count):
            for is_list in kinds:
                if self._at >= len(self._numbers):
                    raise _cut_short(heading, heading.count, row, "rows")
                length = self._numbers[self._at] if is_list else 0.0
                if not 0 <= length < len(self._numbers):
                    raise ValueError(
                        f"expected lists in element {heading.name}, found one of length {length:g}"
                    )
                self._at += 1 + int(length)
