"""Trees of records and arrays as files, without pickle.

A file holds a tree of records (`flax.struct` dataclasses, NamedTuples), dicts, tuples, plain values
and arrays: the arrays as safetensors, the tree as JSON in its metadata. Records are made of classes
of this project alone, and of those that are imported already: reading runs no code.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from render.files_io import replacing

_ROOMS = ("render", "recon", "sim", "models")  # whose records are read
_ENTRY = "tree"  # of the metadata


def write_tree(path: str | os.PathLike, tree: Any) -> None:
    """Writes a tree of records, dicts, tuples, plain values and arrays."""
    arrays: dict[str, np.ndarray] = {}
    entry = json.dumps(_encode(tree, arrays), sort_keys=True)
    with replacing(path) as temporary:
        safetensors.numpy.save_file(arrays, temporary, {_ENTRY: entry})


def read_tree(path: str | os.PathLike) -> Any:
    """Reads what `write_tree` wrote.

    Raises:
      OSError: there is no file.
      ValueError: it holds other records than this project's.
      safetensors.SafetensorError: it is damaged.
    """
    with safetensors.safe_open(path, "numpy") as file:
        entry = json.loads(file.metadata()[_ENTRY])
        return _decode(entry, file.get_tensor)


def drop_oldest(folder: pathlib.Path, num_files: int) -> None:
    """Removes the trees in a folder but for the `num_files` that were touched last."""
    files = sorted(folder.glob("*.safetensors"), key=lambda file: -file.stat().st_mtime)
    for old in files[num_files:]:
        old.unlink(missing_ok=True)


def digest_of(tree: Any) -> str:
    """Returns a digest of a tree, of its values, types and shapes."""
    digest = hashlib.sha256()
    arrays: dict[str, np.ndarray] = {}
    digest.update(json.dumps(_encode(tree, arrays), sort_keys=True).encode())
    for array in arrays.values():
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


@functools.cache
def digest_of_code(*rooms: str) -> str:
    """Returns a digest of all code in rooms, imported packages or modules, and of JAX's version."""
    digest = hashlib.sha256(jax.__version__.encode())
    for room in rooms:
        path = pathlib.Path(sys.modules[room].__file__)
        for file in sorted(path.parent.rglob("*.py")) if path.stem == "__init__" else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _encode(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if isinstance(node, np.ndarray | jax.Array):
        name = f"{len(arrays):04d}"
        arrays[name] = np.asarray(node, order="C")
        return {"array": name, "on_device": isinstance(node, jax.Array)}
    if isinstance(node, dict):
        return {"dict": {key: _encode(value, arrays) for key, value in node.items()}}
    if dataclasses.is_dataclass(node) or hasattr(node, "_fields"):
        kind = type(node)
        fields = {name: _encode(getattr(node, name), arrays) for name in _fields(kind)}
        return {"record": f"{kind.__module__}:{kind.__qualname__}", "fields": fields}
    if isinstance(node, tuple | list):
        return {type(node).__name__: [_encode(item, arrays) for item in node]}
    raise TypeError(f"expected records, dicts, tuples, values or arrays, found {type(node)}")


def _decode(node: Any, tensor: Callable[[str], np.ndarray]) -> Any:
    if not isinstance(node, dict):
        return node
    if "array" in node:
        array = tensor(node["array"])
        return jax.device_put(array) if node["on_device"] else array
    if "dict" in node:
        return {key: _decode(value, tensor) for key, value in node["dict"].items()}
    if "record" in node:
        fields = {name: _decode(value, tensor) for name, value in node["fields"].items()}
        return _record(node["record"])(**fields)
    ((kind, items),) = node.items()
    return {"tuple": tuple, "list": list}[kind](_decode(item, tensor) for item in items)


def _record(name: str) -> type:
    module, _, qualified = name.partition(":")
    if module.split(".")[0] not in _ROOMS or module not in sys.modules:
        raise ValueError(f"expected a record of this project, found {name}")
    kind = getattr(sys.modules[module], qualified)
    if not (isinstance(kind, type) and _fields(kind)):
        raise ValueError(f"expected a record, found {name}")
    return kind


def _fields(kind: type) -> tuple[str, ...]:
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return getattr(kind, "_fields", ())
