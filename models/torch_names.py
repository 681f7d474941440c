"""What torch calls the parameters of a Flax network, and how it lays them out.

Submodules of ours have torch's names, with an index into a list glued on by `_`, so that one rule
serves every network:

| ours | torch's |
| --- | --- |
| `blocks_0/resnets_1/conv1/kernel` [3, 3, I, O] | `blocks.0.resnets.1.conv1.weight` [O, I, 3, 3] |
| `norm1/scale`, `token_embedding/embedding` | `norm1.weight`, `token_embedding.weight` |
| `linear_1/bias`, `time_mixer/mix_factor` | the same: `linear_1` is no list in torch either |
"""

import re
from typing import NamedTuple

import jax
import numpy as np

_INDEX = re.compile(r"(?<!\blinear)_(\d+)(?=\.|$)")
_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}


class Place(NamedTuple):
    """Where an entry of a torch checkpoint belongs in a tree of parameters."""

    path: tuple[str, ...]
    shape: tuple[int, ...]  # in torch's order

    def arrange(self, entry: np.ndarray) -> np.ndarray:
        """Returns the entry with its axes in our order."""
        return np.moveaxis(entry, (0, 1), (-1, -2)) if self.path[-1] == "kernel" else entry


def torch_places(shapes: dict) -> dict[str, Place]:
    """Returns the place of each entry of the checkpoint that fills a tree of parameters.

    Args:
      shapes: nested dicts of whatever has a shape, as `jax.eval_shape` of a Flax `init` gives.
    """
    places = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        path = tuple(key.key for key in keys)
        shape = leaf.shape
        if path[-1] == "kernel":
            shape = (shape[-1], shape[-2], *shape[:-2])
        name = _INDEX.sub(r".\1", ".".join([*path[:-1], _LEAVES.get(path[-1], path[-1])]))
        places[name] = Place(path, shape)
    return places
