"""Reads the arrays of a Python pickle, and executes nothing that is in it.

A pickle is a program that its reader runs: it names classes and functions and has them called. Here
it may name what arrays are made of (numpy, scipy.sparse, and chumpy, in which FLAME's were kept),
and each such name stands for an empty record of what it was given; any other stops the reading.
Arrays are then made of the records, their sizes held against the bytes that are there. Readers of
other pickles give `run_pickle` names of their own.

Sources: the pickles that numpy 1 and 2 write, of protocols 0 to 5; chumpy 0.70, `ch.py` and
`reordering.py`.
"""

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMPY = {
    ("multiarray", "_reconstruct"),
    ("multiarray", "scalar"),
    ("numeric", "_frombuffer"),
}
_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("collections", "OrderedDict"),
    ("copy_reg", "_reconstructor"),
    ("copyreg", "_reconstructor"),
    ("__builtin__", "object"),
    ("builtins", "object"),
    ("__builtin__", "set"),
    ("builtins", "set"),
    ("builtins", "bytearray"),
    ("chumpy.ch", "Ch"),
    ("chumpy.reordering", "Select"),
    ("chumpy.reordering", "Reshape"),
    ("chumpy.reordering", "transpose"),
}
_ALLOWED |= {(f"numpy.{core}.{file}", name) for core in ("core", "_core") for file, name in _NUMPY}
# Sparse matrices (the joint regressor) are passed over.
_ALLOWED |= {
    (f"scipy.sparse.{file}", f"{kind}_matrix")
    for kind in ("csc", "csr", "coo")
    for file in (kind, f"_{kind}")
}
_MOST_DEPTH = 8  # of chumpy's expressions, and of dicts in dicts
_MOST_NAME = 80  # letters of a name, in a message
_MOST_LINE = 300  # letters of a message
_DTYPES = "fiub"


class Record:
    """What a pickle named, and what it gave it; nothing of that is run."""

    name = ""
    args: tuple  # that it was called with
    state: Any  # that was set afterwards; None if none was

    def __new__(cls, *args: Any) -> "Record":
        record = super().__new__(cls)
        record.args, record.state = args, None
        return record

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Dictionary(dict):
    """A dict of a pickle, which cannot set its attributes.

    Without a `__setstate__` a pickle could set those of the class, too: `__iter__` and `__next__`,
    and reading the dict would never end.
    """

    def __setstate__(self, state: Any) -> None:
        del state


def is_pickle(head: bytes) -> bool:
    """Whether a file's first bytes are those of a pickle of a dict, or of any of protocol 2 on."""
    return (len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5) or head.startswith(b"(dp")


def pickled_arrays(content: bytes) -> dict[str, NDArray]:
    """Returns the arrays that a pickled dict holds, by name; what is no array is left out.

    Those of a dict in it are named after both, as `outer/inner`.

    Raises:
      Exception: of any kind, when the pickle is damaged, or asks for anything but arrays; a
        pickle makes its reader raise whatever it likes.
    """
    values = run_pickle(io.BytesIO(content), stand_in)
    if isinstance(values, Record):  # numpy packs the dict in an array of one object
        values = _object_in(values)
    if not isinstance(values, dict):
        raise ValueError(f"a {type(values).__name__} instead of a dict")
    return dict(_named_arrays(values, _MOST_DEPTH, set()))


def _named_arrays(values: dict, depth: int, seen: set[int]) -> Iterator[tuple[str, NDArray]]:
    """Goes through dicts in dicts, each once: a few that hold each other are read without end."""
    seen.add(id(values))
    for name, value in values.items():
        if isinstance(value, dict):
            if depth and id(value) not in seen:
                inner = _named_arrays(value, depth - 1, seen)
                yield from ((f"{name}/{rest}", array) for rest, array in inner)
        elif (array := array_of(value)) is not None:
            yield str(name), array


def run_pickle(
    stream: io.BytesIO,
    look_up: Callable[[str, str], Any],
    look_outside: Callable[[Any], Any] | None = None,
) -> Any:
    """Runs the pickle that comes next in a stream, every name in it replaced.

    Args:
      stream: at the pickle; afterwards behind it.
      look_up: gives what takes the place of a name in a module, None for one that is not allowed.
        Something new each time: a pickle may set attributes of what it was given.
      look_outside: gives what lies outside the pickle, by its persistent id; without it there is
        nothing.

    Raises:
      Exception: of any kind; a pickle makes its reader raise whatever it likes.
    """
    start = stream.tell()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        # Such a number makes a reader set memory aside for all that lie below it.
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > count:
            raise ValueError("a pickle that counts more entries than it has")
    stream.seek(start)
    return _Unpickler(stream, look_up, look_outside).load()


class _Unpickler(pickle.Unpickler):
    """Runs a pickle that gets nothing but what it is handed."""

    def __init__(
        self,
        stream: io.BytesIO,
        look_up: Callable[[str, str], Any],
        look_outside: Callable[[Any], Any] | None,
    ):
        # Text of Python 2 holds raw bytes as well: each letter of latin-1 is one.
        super().__init__(stream, encoding="latin-1")
        self._look_up, self._look_outside = look_up, look_outside

    def find_class(self, module: str, name: str) -> Any:
        found = self._look_up(module, name)
        if found is None:
            asked = f"{module[:_MOST_NAME]}.{name[:_MOST_NAME]}"
            raise ValueError(f"a pickle that asks for {asked}, which is not allowed")
        return found

    def persistent_load(self, pid: Any) -> Any:
        if self._look_outside is None:
            raise ValueError("a pickle that leans on another file")
        return self._look_outside(pid)


def one_line(error: Exception) -> str:
    """Returns what an error says, as one line that a terminal can be shown.

    Parts of it come from the pickle: they may be as long as it is, and hold what moves a cursor.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) <= _MOST_LINE else f"{text[:_MOST_LINE]}..."
    return "".join(c if c.isprintable() else "?" for c in text)


def stand_in(module: str, name: str) -> Any:
    """What takes the place of a name that arrays are made of: an empty record; None for others."""
    if (module, name) == ("_codecs", "encode"):
        # Bytes, as Python 3 writes them for Python 2.
        return lambda text, encoding: _latin_bytes(text)
    if (module, name) not in _ALLOWED:
        return None
    return type(name, (Dictionary if name == "OrderedDict" else Record,), {"name": name})


def array_of(value: Any) -> NDArray | None:
    """Makes the array that a record, a number or a list of numbers stands for; None for others.

    Raises:
      ValueError: when its sizes are not those of its bytes.
    """
    return _array(value, _MOST_DEPTH)


def _latin_bytes(text: Any) -> bytes:
    if isinstance(text, bytes | bytearray):
        return bytes(text)
    if not isinstance(text, str):
        raise ValueError(f"bytes as {type(text).__name__}")
    return text.encode("latin-1")


def _object_in(record: Record) -> Any:
    state = record.state
    is_one = isinstance(state, tuple) and isinstance(state[-1], list) and len(state[-1]) == 1
    return state[-1][0] if is_one else record


def _array(value: Any, depth: int) -> NDArray | None:
    """Makes the array that a record stands for; None for other things."""
    if isinstance(value, bool | int | float):
        return np.asarray(value)
    if isinstance(value, list | tuple) and value and all(_is_number(entry) for entry in value):
        return np.asarray(value)
    if not isinstance(value, Record) or not depth:
        return None
    if value.name == "_reconstruct" and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, dtype, is_fortran, content = value.state
        return _shaped(content, dtype, shape, "F" if is_fortran else "C")
    if value.name == "scalar" and len(value.args) == 2:
        dtype, content = value.args
        return _shaped(content, dtype, (), "C")
    if value.name == "_frombuffer" and len(value.args) == 4:
        content, dtype, shape, order = value.args
        return _shaped(content, dtype, shape, "F" if order == "F" else "C")
    if isinstance(value.state, dict):
        name = value.name
        if name == "_reconstructor" and value.args:  # of protocols 0 and 1
            name = getattr(value.args[0], "name", "")
        return _of_chumpy(name, value.state, depth - 1)
    return None


def _is_number(entry: Any) -> bool:
    return isinstance(entry, int | float) and not isinstance(entry, bool)


def _shaped(content: Any, dtype: Any, shape: Any, order: str) -> NDArray | None:
    kind = _dtype(dtype)
    if kind is None or isinstance(content, list):
        return None  # objects, or text
    if isinstance(content, Record) and content.name == "bytearray":
        content = content.args[0]
    content = _latin_bytes(content)
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("an array without a shape")
    if math.prod(shape) * kind.itemsize != len(content):
        raise ValueError(f"{len(content)} bytes in an array {shape} of {kind}")
    numbers = np.frombuffer(content, kind).reshape(shape, order=order)
    return numbers.astype(kind.newbyteorder("="), copy=False)


def _dtype(record: Any) -> np.dtype | None:
    if not isinstance(record, Record) or record.name != "dtype" or not record.args:
        return None
    code = record.args[0]
    code = code.decode("latin-1") if isinstance(code, bytes) else code
    if not isinstance(code, str) or code[:1] not in _DTYPES or not code[1:].isdecimal():
        return None
    if int(code[1:]) not in (1, 2, 4, 8):
        raise ValueError(f"numbers of type {code[:20]}")
    order = record.state[1] if isinstance(record.state, tuple) and len(record.state) > 1 else "|"
    order = order.decode("latin-1") if isinstance(order, bytes) else order
    if order not in ("<", ">", "|", "="):
        raise ValueError("numbers of an unknown byte order")
    return np.dtype(order + code)


def _of_chumpy(name: str, state: dict, depth: int) -> NDArray | None:
    """Evaluates what chumpy keeps: numbers `x`, or an operation on numbers `a`."""
    if name == "Ch":
        return _array(state.get("x"), depth)
    source = _array(state.get("a"), depth)
    if source is None or name not in ("Select", "Reshape", "transpose"):
        return None
    if name == "Select":
        chosen = _array(state.get("idxs"), depth)
        if chosen is None or chosen.dtype.kind not in "iu" or chosen.size > source.size:
            raise ValueError("a selection of chumpy without places")
        picked = source.ravel()[chosen]
        return picked.reshape(_counts(state.get("preferred_shape", picked.shape), depth))
    if name == "Reshape":
        return source.reshape(_counts(state.get("newshape"), depth))
    axes = state.get("axes")
    return source.transpose(None if axes is None else _counts(axes, depth))


def _counts(value: Any, depth: int) -> tuple[int, ...]:
    counts = _array(value, depth)
    if counts is None or counts.dtype.kind not in "iu":
        raise ValueError("a shape of chumpy that is none")
    return tuple(int(n) for n in counts.ravel())
