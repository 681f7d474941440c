"""Checkpoints of a training: the leaves of a pytree in a safetensors file, to go on with later.

A tensor is named by the path of its leaf, `params.dense.kernel`, and keeps its type, bfloat16
included; a typed PRNG key is stored as its data. The file's metadata holds one entry, JSON of
what `Header` says and of the implementation of each key, so that the bytes of a file follow from
its content alone. Nothing is unpickled.
"""

import json
import os
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
import safetensors.numpy

from render.files_io import replacing

_ENTRY = "training"  # of the metadata; safetensors writes several in a random order
_DTYPES = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64"),
}


class Header(NamedTuple):
    """What a checkpoint says of itself."""

    step: int  # steps that were taken
    seconds: float  # of training until then, all sittings together
    settings: dict[str, Any]  # JSON: what has to agree when the training goes on


def write_checkpoint(path: str | os.PathLike, tree, header: Header) -> None:
    """Writes the leaves of a pytree under a temporary name, and renames the file.

    Raises:
      ValueError: for a leaf of a type that the format cannot give back.
    """
    leaves = _named_leaves(tree)
    keys = {n: str(jax.random.key_impl(leaf)) for n, leaf in leaves.items() if _is_key(leaf)}
    data = {name: jax.random.key_data(v) if name in keys else v for name, v in leaves.items()}
    # The library writes memory as it lies, so it has to lie in the order of the indices.
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in jax.device_get(data).items()}
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES:
            raise ValueError(f"expected numbers of a common type for {name}, found {array.dtype}")
    entry = {**header._asdict(), "keys": keys}
    metadata = {_ENTRY: json.dumps(entry, sort_keys=True, allow_nan=False)}
    with replacing(path) as temporary:
        safetensors.numpy.save_file(arrays, temporary, metadata)


def read_header(path: str | os.PathLike) -> Header:
    """Reads what a checkpoint says of itself, and none of its leaves.

    Raises:
      ValueError: when the file is missing, broken, or no checkpoint of a training.
    """
    with _opened(path) as file:
        return Header(**{name: _entry(file, path)[name] for name in Header._fields})


def read_checkpoint(path: str | os.PathLike, like):
    """Reads a pytree of the structure, shapes and types of `like`, as NumPy arrays and keys.

    Args:
      path: the file.
      like: a tree of arrays, or of their shapes and types (`jax.ShapeDtypeStruct`).

    Raises:
      ValueError: when the file is missing, broken, or holds another tree; it names the leaf.
    """
    with _opened(path) as file:
        keys = _entry(file, path)["keys"]
        found = {name: file.get_tensor(name) for name in file.keys()}
    expected = _named_leaves(like)
    for name, implementation in keys.items():
        found[name] = jax.random.wrap_key_data(found[name], impl=implementation)
    for name in sorted(expected.keys() | found.keys()):
        texts = [_text(leaves.get(name)) for leaves in (expected, found)]
        if texts[0] != texts[1]:
            raise ValueError(f"expected {texts[0]} for {name}, found {texts[1]} in {path}")
    return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in expected])


def _opened(path: str | os.PathLike) -> safetensors.safe_open:
    if not pathlib.Path(path).is_file():
        raise ValueError(f"expected a checkpoint, found nothing at {path}")
    try:
        return safetensors.safe_open(path, framework="np")
    except safetensors.SafetensorError:
        raise ValueError(f"expected a checkpoint, found a broken file at {path}") from None


def _entry(file: safetensors.safe_open, path: str | os.PathLike) -> dict:
    text = (file.metadata() or {}).get(_ENTRY)
    if text is None:
        raise ValueError(f"expected the checkpoint of a training, found other tensors in {path}")
    return json.loads(text)


def _named_leaves(tree) -> dict[str, Any]:
    """Maps the path of each leaf to the leaf, in the order of the tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    if twins := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"expected leaves of different names, found several of {min(twins)}")
    arrays = (leaf if hasattr(leaf, "dtype") else np.asarray(leaf) for _, leaf in leaves)
    return dict(zip(names, arrays, strict=True))


def _is_key(leaf) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _text(leaf) -> str:
    return "nothing" if leaf is None else f"{leaf.dtype} {list(leaf.shape)}"
