"""Files of face embeddings: parameters in safetensors, and what they belong to in its header.

Parameters are stored as float16 and used as float32.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from models.perception.face_id import FaceId, FaceIdConfig, FaceIdNet
from models.weights import read_about, read_entries, take_entries, write_entries

SHIPPED = pathlib.Path(__file__).parents[1] / "data" / "face_id.safetensors"
_ENTRY = "face_id"
_MOST, _MOST_UNITS = 4096, 256  # of any size, of units


def read_face_id(path: str | os.PathLike = SHIPPED) -> FaceId:
    """Reads an embedding; by default the one that comes along.

    Raises:
      ValueError: in one line, when the file is none, or its arrays do not fit its settings.
    """
    entries = read_entries(path)
    config = _read_config(path)
    taken = take_entries(entries, face_id_shapes(config), f"a face embedding in {path}")
    params = {name: np.asarray(value, np.float32) for name, value in taken.items()}
    return FaceId(jax.device_put(traverse_util.unflatten_dict(params, sep=".")), config)


def write_face_id(path: str | os.PathLike, face_id: FaceId, facts: Mapping[str, Any]) -> None:
    """Writes an embedding as float16.

    Args:
      path: the file.
      face_id: what to write.
      facts: JSON that tells whoever opens the file how it came to be.
    """
    flat = traverse_util.flatten_dict(jax.device_get(face_id.params), sep=".")
    entry = {"config": dataclasses.asdict(face_id.config), "facts": dict(facts)}
    write_entries(path, flat, _ENTRY, entry, np.float16)


def face_id_shapes(config: FaceIdConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every array of an embedding, by its name in a file."""
    images = jax.ShapeDtypeStruct((1, config.side, config.side, 3), np.float32)
    params = jax.eval_shape(FaceIdNet(config).init, jax.random.key(0), images)["params"]
    return {name: leaf.shape for name, leaf in traverse_util.flatten_dict(params, sep=".").items()}


def _read_config(path: str | os.PathLike) -> FaceIdConfig:
    about = read_about(path, _ENTRY)
    if about is None:
        raise ValueError(f"expected a face embedding, found other arrays in {path}")
    try:
        values = dict(about["config"])
        for name in ("widths", "units"):
            values[name] = tuple(values[name])
        config = FaceIdConfig(**values)
        counts = (config.side, config.stem, config.size, *config.widths, *config.units)
        halvings = 1 + len(config.widths)
        if not all(type(count) is int and 0 < count <= _MOST for count in counts):
            raise ValueError("sizes that no network has")
        if sum(config.units) > _MOST_UNITS:
            raise ValueError("more units than a network has")
        if len(config.units) + 1 != halvings or config.side % 2**halvings:
            raise ValueError("sizes that do not fit together")
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"expected a face embedding, found other settings in {path}") from None
    return config
