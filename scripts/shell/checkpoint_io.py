"""Trees of arrays on disk, to go on with later: .npz files, one entry a leaf, named by its path."""

import os

import jax
import numpy as np

from render.files_io import read_arrays, replacing


def write_checkpoint(path: str | os.PathLike, tree) -> None:
    """Writes the leaves of a pytree."""
    leaves = {jax.tree_util.keystr(key): leaf for key, leaf in _leaves(jax.device_get(tree))}
    with replacing(path) as temporary:
        np.savez(temporary, **leaves)


def read_checkpoint(path: str | os.PathLike, like):
    """Reads a pytree of the structure, shapes and types of `like`.

    Raises:
      ValueError: when the file is missing, broken, or holds another tree.
    """
    found = read_arrays(path, "a checkpoint")
    expected = {jax.tree_util.keystr(key): np.asarray(leaf) for key, leaf in _leaves(like)}
    for name in sorted(expected.keys() | found.keys()):
        texts = [_text(leaves.get(name)) for leaves in (expected, found)]
        if texts[0] != texts[1]:
            raise ValueError(f"expected {texts[0]} for {name}, found {texts[1]} in {path}")
    return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in expected])


def _leaves(tree) -> list:
    return jax.tree_util.tree_leaves_with_path(tree)


def _text(leaf: np.ndarray | None) -> str:
    return "nothing" if leaf is None else f"{leaf.dtype} {list(leaf.shape)}"
