"""Files of trained priors: parameters in safetensors, and what they belong to in its header.

Parameters are stored as float16 and used as float32. Those that come along are known by the name
of their family.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from models.diffusion.motion_dit import DitConfig, MotionDit
from models.diffusion.motion_prior import MotionPrior, PriorConfig
from models.weights import (
    find_weights,
    read_about,
    read_entries,
    shipped_weights,
    take_entries,
    write_entries,
)

_PREFIX = "motion_"
_ENTRY = "prior"


def shipped_priors() -> list[str]:
    """Names the families whose priors come along."""
    return list(shipped_weights(_PREFIX))


def load_prior(name: str | os.PathLike) -> MotionPrior:
    """Loads the prior of a family that comes along, or one from a file.

    Raises:
      ValueError: in one line, when it is neither.
    """
    return read_prior(find_weights(name, _PREFIX, "a prior"))


def read_prior(path: str | os.PathLike) -> MotionPrior:
    """Reads a prior.

    Raises:
      ValueError: in one line, when the file is no prior, or its tensors do not fit its settings.
    """
    entries = read_entries(path)
    config = _read_config(path)
    shapes = _shapes(config)
    taken = take_entries(entries, {name: leaf.shape for name, leaf in shapes.items()}, "a prior")
    params = {tuple(name.split(".")): np.float32(value) for name, value in taken.items()}
    return MotionPrior(jax.device_put(traverse_util.unflatten_dict(params)), config)


def write_prior(path: str | os.PathLike, prior: MotionPrior, facts: Mapping[str, Any]) -> None:
    """Writes a prior as float16.

    Args:
      path: the file.
      prior: what to write.
      facts: JSON that tells whoever opens the file how it came to be.
    """
    flat = traverse_util.flatten_dict(jax.device_get(prior.params), sep=".")
    entry = {"config": dataclasses.asdict(prior.config), "facts": dict(facts)}
    write_entries(path, flat, _ENTRY, entry, np.float16)


def _read_config(path: str | os.PathLike) -> PriorConfig:
    about = read_about(path, _ENTRY)
    if about is None:
        raise ValueError(f"expected a motion prior, found other tensors in {path}")
    try:
        values = dict(about["config"])
        dit = DitConfig(**values.pop("dit"))
        log10_range = tuple(map(float, values.pop("log10_range")))
        return PriorConfig(**values, dit=dit, log10_range=log10_range)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"expected a motion prior, found other settings in {path}") from None


def _shapes(config: PriorConfig) -> dict[str, jax.ShapeDtypeStruct]:
    dit = config.dit
    frame = (1, dit.size, dit.size, 3)
    clip = (1, dit.num_frames, *frame[1:])
    inputs = [jax.ShapeDtypeStruct(shape, np.float32) for shape in (clip, frame, (1,), (1,), (1,))]
    key = jax.eval_shape(lambda: jax.random.key(0))
    return traverse_util.flatten_dict(jax.eval_shape(MotionDit(dit).init, key, *inputs), sep=".")
