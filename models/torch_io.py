"""Reads what `torch.save` writes, without torch, and executes nothing that is in it.

Such a file is a zip archive with a pickle and blocks of numbers, or the older bare stream of
pickles and blocks. A pickle is a program that its reader runs: here that program may build ordered
dictionaries and tensors, and whatever else it names stops the reading.
`torch.load(weights_only=True)` does as much; it needs torch, hundreds of megabytes that no command
wants for anything else.
"""

import collections
import io
import math
import os
import pathlib
import pickle
import zipfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from render.pickle_io import Record, one_line, run_pickle

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


def is_torch_container(head: bytes) -> bool:
    """Tells by its first 32 bytes whether a file is one of `torch.save`, and no other pickle."""
    return head.startswith((_ZIP_MAGIC, pickle.dumps(_STREAM_MAGIC, 2)))


def read_torch(path: str | os.PathLike, groups: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Reads the named tensors of a file of `torch.save`, in its order.

    Args:
      path: of the file.
      groups: names of dicts inside it whose tensors are read too, as `group/name`; where any are
        given, all else that is no tensor (an optimizer's state, settings) is passed over.

    Raises:
      ValueError: when the file is of another kind, broken, or asks for more than its tensors.
    """
    path = pathlib.Path(path)
    if not is_torch(path):
        raise ValueError(f"expected a file of torch.save, found another at {path}")
    try:
        with open(path, "rb") as file:
            if file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC:
                return _read_zip(path, groups)
        return _read_stream(path.read_bytes(), groups)
    except Exception as error:  # a pickle makes its reader raise whatever it likes
        line = one_line(error)
        raise ValueError(f"expected a file of torch.save, found {path}: {line}") from None


def read_storage(content: bytes) -> np.ndarray:
    """Reads one storage, as `torch.save` writes it by itself and pickles of tensors hold it.

    Returns:
      [N], without copying.

    Raises:
      Exception: of any kind, when it is damaged, or asks for more than that.
    """
    stream = io.BytesIO(content)
    storage, _ = _read_start(stream)
    if not isinstance(storage, _Storage) or _run(stream, {}) != [storage.key]:
        raise ValueError("a pickle of torch without a storage of its own")
    size = int.from_bytes(stream.read(8), "little")
    # Behind the pickles: whatever follows is all the storage's.
    return _block(storage, memoryview(content)[stream.tell() :], size)


def cut_tensor(block: np.ndarray, offset: object, shape: object, strides: object) -> np.ndarray:
    """Cuts a tensor out of its storage.

    Args:
      block: [N] the storage.
      offset: of its first entry, in entries.
      shape: of the tensor.
      strides: in entries.

    Raises:
      ValueError: when it does not lie inside the storage.
    """
    _check_place(block.size, offset, shape, strides)
    if 0 in shape:
        return np.zeros(shape, block.dtype)
    return np.lib.stride_tricks.as_strided(
        block[offset:], shape, [stride * block.itemsize for stride in strides], writeable=False
    )


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


def _look_up(module: str, name: str) -> object:
    """What takes the place of a name that tensors are made of; None for others."""
    if (module, name) == ("collections", "OrderedDict"):
        return collections.OrderedDict
    if (module, name) == ("argparse", "Namespace"):  # settings, beside the tensors
        return type(name, (Record,), {})
    if module == "torch" and name in _DTYPES:
        return name
    # The first is what torch wrote before 2018.
    if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
        # A new function each time: a pickle may set attributes of what it was given.
        return lambda *args: _rebuild_tensor(*args)
    return None


def _run(stream: io.BytesIO, storages: dict[str, _Storage]) -> object:
    """Runs the pickle that comes next; notes in `storages` which it asks for."""

    def outside(pid: object) -> _Storage:
        storage = _storage(pid)
        return storages.setdefault(storage.key, storage)

    return run_pickle(stream, _look_up, outside)


def _storage(pid: object) -> _Storage:
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
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor whose place in its storage is no list of counts")
    _check_place(storage.size, offset, shape, strides)
    return _Tensor(storage, offset, shape, strides)


def _check_place(size: int, offset: object, shape: object, strides: object) -> None:
    """Checks that a tensor lies inside a storage of `size` entries, and is no larger."""
    places = ((offset,), shape, strides)
    are_counts = all(isinstance(value, tuple) and _are_counts(value) for value in places)
    if not are_counts or len(shape) != len(strides):
        raise ValueError("a tensor whose place in its storage is no list of counts")
    last = offset + sum((s - 1) * stride for s, stride in zip(shape, strides, strict=True))
    # Steps of no length would make a few bytes fill all memory.
    if 0 not in shape and (last >= size or math.prod(shape) > size):
        raise ValueError(f"a tensor of shape {shape} in a storage of {size}")


def _are_counts(values: tuple) -> bool:
    return all(type(value) is int and 0 <= value < 2**48 for value in values)


def _named_tensors(data: object, groups: Sequence[str]) -> dict[str, _Tensor]:
    if not isinstance(data, dict):
        raise ValueError(f"a {type(data).__name__} instead of named tensors")
    tensors = {}
    # As a copy: a pickle may have set attributes of `data` in place of its methods.
    for name, value in dict(data).items():
        if isinstance(value, _Tensor) and isinstance(name, str):
            tensors[name] = value
        elif name in groups:
            inner = _named_tensors(value, ())
            tensors |= {f"{name}/{rest}": tensor for rest, tensor in inner.items()}
        elif not groups:
            raise ValueError(f"{name!r}, which is no named tensor")
    return tensors


def _block(storage: _Storage, content: bytes | memoryview, size: int) -> np.ndarray:
    """The numbers of a storage, from a file that says it has `size`."""
    expected, found = storage.size * storage.dtype.itemsize, len(content)
    if found != expected or size != storage.size:
        found = found if found != expected else size * storage.dtype.itemsize
        raise ValueError(f"storage {storage.key} of {found} bytes instead of {expected}")
    return np.frombuffer(content, storage.dtype)


def _cut(tensors: dict[str, _Tensor], read_bytes: Callable[[str], bytes]) -> dict[str, np.ndarray]:
    """Cuts tensors out of their storages; `read_bytes` gives the storage of a key."""
    blocks, arrays = {}, {}
    for name, (storage, *place) in tensors.items():
        if storage not in blocks:
            blocks[storage] = _block(storage, read_bytes(storage.key), storage.size)
        arrays[name] = cut_tensor(blocks[storage], *place)
    return arrays


def _read_zip(path: pathlib.Path, groups: Sequence[str]) -> dict[str, np.ndarray]:
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
        tensors = _named_tensors(_run(io.BytesIO(read("data.pkl")), {}), groups)
        return _cut(tensors, lambda key: read(f"data/{key}"))


def _read_stream(content: bytes, groups: Sequence[str]) -> dict[str, np.ndarray]:
    """Reads what a bare stream starts with, tensors, storage keys, and the storages."""
    stream = io.BytesIO(content)
    data, storages = _read_start(stream)
    tensors = _named_tensors(data, groups)
    keys = _run(stream, {})
    if not isinstance(keys, list):
        raise ValueError("no list of storages")
    blocks = {}
    for key in keys:
        if key not in storages:
            raise ValueError(f"storage {key!r}, which belongs to no tensor")
        size = int.from_bytes(stream.read(8), "little")
        left = len(content) - stream.tell()
        blocks[key] = stream.read(min(size * storages[key].dtype.itemsize, left))
    missing = sorted({tensor.storage.key for tensor in tensors.values()} - set(blocks))
    if missing:
        raise ValueError(f"no storage {missing[0]}")
    return _cut(tensors, blocks.__getitem__)


def _read_start(stream: io.BytesIO) -> tuple[object, dict[str, _Storage]]:
    """Reads magic number, version, byte order and data; returns these, and their storages."""
    if _run(stream, {}) != _STREAM_MAGIC or _run(stream, {}) != _STREAM_VERSION:
        raise ValueError("a pickle that torch.save did not write")
    system = _run(stream, {})
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("numbers that are not little-endian")
    storages = {}
    return _run(stream, storages), storages
