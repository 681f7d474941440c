"""Files of encoders: arrays in safetensors, what they belong to in its header.

Encoders that come along have the names of their generators.
"""

import dataclasses
import os

import jax
import numpy as np
from flax import traverse_util

from models.stylegan.encoder import EncoderConfig, LatentEncoder, TrainedEncoder
from models.stylegan.latents import LatentStatistics
from models.weights import (
    find_weights,
    read_about,
    read_entries,
    shipped_weights,
    take_entries,
    write_entries,
)

_PREFIX = "encoder_"
_ENTRY = "stylegan"
_MOST = 1 << 16  # of any size


def shipped_encoders() -> list[str]:
    """Names the generators whose encoders come along."""
    return list(shipped_weights(_PREFIX))


def load_encoder(name: str | os.PathLike) -> TrainedEncoder:
    """Loads the encoder of a generator that comes along, or one from a file.

    Raises:
      ValueError: in one line, when it is neither.
    """
    return read_encoder(find_weights(name, _PREFIX, "an encoder"))


def write_encoder(path: str | os.PathLike, encoder: TrainedEncoder) -> None:
    """Writes an encoder as float32."""
    tree = {"params": encoder.params, "statistics": encoder.statistics._asdict()}
    config = dataclasses.asdict(encoder.config)
    entry = {"kind": "encoder", "config": config, "facts": encoder.facts}
    write_entries(path, traverse_util.flatten_dict(tree, sep="."), _ENTRY, entry)


def read_encoder(path: str | os.PathLike) -> TrainedEncoder:
    """Reads an encoder.

    Raises:
      ValueError: in one line, when the file is none, or its arrays do not fit its settings.
    """
    entries = read_entries(path)
    config, facts = _read_header(path)
    shape = 1, config.resolution, config.resolution, 3
    image = jax.ShapeDtypeStruct(shape, np.float32)  # no memory for what a header says
    params = jax.eval_shape(LatentEncoder(config).init, jax.random.key(0), image)["params"]
    flat = traverse_util.flatten_dict({"params": params}, sep=".")
    shapes = {name: leaf.shape for name, leaf in flat.items()}
    size = config.w_dim
    shapes |= {"statistics.mean": (size,), "statistics.deviations": (size,)}
    shapes["statistics.axes"] = (size, size)
    taken = take_entries(entries, shapes, f"an encoder in {path}")
    arrays = {name: np.asarray(array, np.float32) for name, array in taken.items()}
    tree = jax.device_put(traverse_util.unflatten_dict(arrays, sep="."))
    return TrainedEncoder(tree["params"], LatentStatistics(**tree["statistics"]), config, facts)


def _read_header(path: str | os.PathLike) -> tuple[EncoderConfig, dict]:
    try:
        entry = read_about(path, _ENTRY) or {}
        if entry["kind"] != "encoder":
            raise ValueError
        values = dict(entry["config"])
        values["channels"] = tuple(values["channels"])
        sizes = [v for v in values.values() if not isinstance(v, tuple)] + [*values["channels"]]
        if not all(type(size) is int and 0 < size < _MOST for size in sizes):
            raise ValueError
        return EncoderConfig(**values), dict(entry["facts"])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"expected an encoder, found other arrays in {path}") from None
