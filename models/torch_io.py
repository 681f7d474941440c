"""Reads what `torch.save` writes, without torch, and executes nothing that is in it.

Such a file is a zip archive with a pickle and blocks of numbers, or the older bare stream of
pickles and blocks. A pickle is a program that its reader runs: here that program may build ordered
dictionaries and tensors, and whatever else it names stops the reading.
`torch.load(weights_only=True)` does as much; it needs torch, hundreds of megabytes that no command
wants for anything else.
"""

import collections
import io
import os
import pathlib
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

_DTYPES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
_ZIP_MAGIC = b"PK\x03\x04"
_PICKLE_MAGIC = b"\x80"
_STREAM_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a bare stream
_STREAM_VERSION = 1001


def is_torch(path: str | os.PathLike) -> bool:
    """Tells by its first bytes whether a file can be one of `torch.save`."""
    with open(path, "rb") as file:
        start = file.read(9)
    # A file of safetensors begins with a length, which may look like a pickle; then comes JSON.
    is_json = start[8:] == b"{"
    return start.startswith(_ZIP_MAGIC) or (start.startswith(_PICKLE_MAGIC) and not is_json)


def read_torch(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the named tensors of a file of `torch.save`, in its order.

    Raises:
      ValueError: when the file is of another kind, broken, or asks for more than its tensors.
    """
    path = pathlib.Path(path)
    if not is_torch(path):
        raise ValueError(f"expected a file of torch.save, found another at {path}")
    try:
        with open(path, "rb") as file:
            if file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC:
                return _read_zip(path)
        return _read_stream(path.read_bytes())
    except Exception as error:  # a pickle makes its reader raise whatever it likes
        message = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"expected a file of torch.save, found {path}: {message}") from None


class _Storage(NamedTuple):
    """A block of numbers that tensors are cut from, before it is read."""

    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    """A tensor that a pickle asks for: where it lies in its storage, in entries."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Runs a pickle that can name nothing but what tensors are made of."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch" and name in _DTYPES:
            return name
        # The first is what torch wrote before 2018.
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            # A new function each time: a pickle may set attributes of what it was given.
            return lambda *args: _rebuild_tensor(*args)
        raise ValueError(f"a pickle that asks for {module}.{name}, which is not allowed")

    def persistent_load(self, pid: object) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise ValueError("a storage of an unknown kind")
        _, kind, key, _, size, *view = pid
        if not isinstance(kind, str) or kind not in _DTYPES:
            raise ValueError("a storage without a type")
        if not isinstance(key, str) or not _are_counts((size,)):
            raise ValueError("a storage without a name or a size")
        if any(view):
            raise ValueError(f"storage {key} as a view of another")
        return _Storage(key, _DTYPES[kind], size)


def _rebuild_tensor(
    storage: object, offset: object, shape: object, strides: object, *_: object
) -> _Tensor:
    """Checks that a tensor lies inside its storage."""
    is_tensor = isinstance(storage, _Storage) and all(
        isinstance(value, tuple) and _are_counts(value) for value in ((offset,), shape, strides)
    )
    if not is_tensor or len(shape) != len(strides):
        raise ValueError("a tensor whose place in its storage is no list of counts")
    last = offset + sum((s - 1) * stride for s, stride in zip(shape, strides, strict=True))
    if 0 not in shape and last >= storage.size:
        raise ValueError(f"a tensor of shape {shape} in a storage of {storage.size}")
    return _Tensor(storage, offset, shape, strides)


def _are_counts(values: tuple) -> bool:
    return all(type(value) is int and 0 <= value < 2**48 for value in values)


def _unpickle(stream: io.BytesIO) -> object:
    """Runs the pickle that comes next in `stream`, after a look at its instructions."""
    start = stream.tell()
    end = len(stream.getbuffer())
    for opcode, argument, _ in pickletools.genops(stream):
        # Such numbers make a reader set memory aside for all that lie below them.
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > end:
            raise ValueError("a pickle with more entries than bytes")
    stream.seek(start)
    return _Unpickler(stream, encoding="utf-8").load()


def _named_tensors(data: object) -> dict[str, _Tensor]:
    if not isinstance(data, dict):
        raise ValueError(f"a {type(data).__name__} instead of named tensors")
    tensors = dict(data)  # a pickle may have set attributes of `data` in place of its methods
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise ValueError(f"{name!r}, which is no named tensor")
    return tensors


def _cut(tensors: dict[str, _Tensor], read_bytes: Callable[[str], bytes]) -> dict[str, np.ndarray]:
    """Cuts tensors out of their storages; `read_bytes` gives the storage of a key."""
    blocks, arrays = {}, {}
    for name, (storage, offset, shape, strides) in tensors.items():
        if storage not in blocks:
            content = read_bytes(storage.key)
            expected = storage.size * storage.dtype.itemsize
            if len(content) != expected:
                found = f"{len(content)} bytes instead of {expected}"
                raise ValueError(f"storage {storage.key} of {found}")
            blocks[storage] = np.frombuffer(content, storage.dtype)
        if 0 in shape:
            arrays[name] = np.zeros(shape, storage.dtype)
        else:
            arrays[name] = np.lib.stride_tricks.as_strided(
                blocks[storage][offset:],
                shape,
                [stride * storage.dtype.itemsize for stride in strides],
                writeable=False,
            )
    return arrays


def _read_zip(path: pathlib.Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError(f"a zip archive with {len(roots)} entries called data.pkl")
        (root,) = roots

        def read(name: str) -> bytes:
            if root + name not in entries:
                raise ValueError(f"an archive without {root + name}")
            if entries[root + name].compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"a compressed {root + name}, which torch does not write")
            return archive.read(root + name)

        if root + "byteorder" in entries and read("byteorder") != b"little":
            raise ValueError("numbers that are not little-endian")
        tensors = _named_tensors(_unpickle(io.BytesIO(read("data.pkl"))))
        return _cut(tensors, lambda key: read(f"data/{key}"))


def _read_stream(content: bytes) -> dict[str, np.ndarray]:
    """Reads magic number, version, byte order, tensors, storage keys, and the storages."""
    stream = io.BytesIO(content)
    if _unpickle(stream) != _STREAM_MAGIC or _unpickle(stream) != _STREAM_VERSION:
        raise ValueError("a pickle that torch.save did not write")
    system = _unpickle(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("numbers that are not little-endian")
    tensors = _named_tensors(_unpickle(stream))
    keys = _unpickle(stream)
    if not isinstance(keys, list):
        raise ValueError("no list of storages")
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
    blocks = {}
    for key in keys:
        if key not in dtypes:
            raise ValueError(f"storage {key!r}, which belongs to no tensor")
        size = int.from_bytes(stream.read(8), "little")
        blocks[key] = stream.read(size * dtypes[key].itemsize)
    if missing := sorted(set(dtypes) - set(blocks)):
        raise ValueError(f"no storage {missing[0]}")
    return _cut(tensors, blocks.__getitem__)
