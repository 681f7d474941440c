"""What is worked out from a model alone is kept in the user's cache folder, for the next run.

A file holds a tree of records (`flax.struct` dataclasses, NamedTuples), dicts, tuples and arrays:
the arrays as safetensors, the tree as JSON in its metadata. Records are made of the classes of this
project alone and nothing is unpickled. A file is named by a digest of what the tree was made of and
of the project's code, so that it is never stale; what cannot be read is made anew.
"""

import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
import platformdirs
import safetensors
import safetensors.numpy

import recon
import render
from render.files_io import replacing

_ROOMS = (recon, render)  # whose code makes what is kept, and whose records are read
_ENTRY = "tree"  # of the metadata
_MOST_FILES = 8  # tens of megabytes each
_DIGITS = 32  # of a digest

Tree = TypeVar("Tree")


def prepared(make: Callable[..., Tree], *arguments: Any) -> Tree:
    """Returns `make(*arguments)`, from the cache folder if it was made before.

    Args:
      make: a pure function of this project.
      arguments: trees of records, numbers and arrays.
    """
    folder = platformdirs.user_cache_path("mien", appauthor=False) / "prepared"
    path = folder / f"{make.__module__}.{make.__name__}-{_digest(arguments)}.safetensors"
    with contextlib.suppress(Exception):  # whatever a damaged file does
        tree = read_tree(path)
        os.utime(path)  # the ones not used for longest go first
        return tree
    tree = make(*arguments)
    with contextlib.suppress(OSError):  # a full disk, a folder that is not ours
        folder.mkdir(parents=True, exist_ok=True)
        write_tree(path, tree)
        files = sorted(folder.glob("*.safetensors"), key=lambda file: -file.stat().st_mtime)
        for old in files[_MOST_FILES:]:
            old.unlink()
    return tree


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
    if module.split(".")[0] not in {room.__name__ for room in _ROOMS}:
        raise ValueError(f"expected a record of this project, found {name}")
    kind = getattr(importlib.import_module(module), qualified)
    if not (isinstance(kind, type) and _fields(kind)):
        raise ValueError(f"expected a record, found {name}")
    return kind


def _fields(kind: type) -> tuple[str, ...]:
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return getattr(kind, "_fields", ())


def _digest(arguments: tuple) -> str:
    digest = hashlib.sha256()
    arrays: dict[str, np.ndarray] = {}
    digest.update(json.dumps(_encode(arguments, arrays), sort_keys=True).encode())
    for array in arrays.values():
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    digest.update(jax.__version__.encode())
    for room in _ROOMS:
        for path in sorted(pathlib.Path(room.__path__[0]).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:_DIGITS]
