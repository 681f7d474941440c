"""Files of fields: parameters and occupancy in safetensors, what they belong to in its header."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from models.nerf.field import NerfConfig, Params, init_field
from models.nerf.hashgrid import HashGridConfig
from models.nerf.rendering import SceneBox
from models.weights import read_about, read_entries, take_entries, write_entries
from render.volume import OccupancyGrid

_ENTRY = "nerf"
_DENSITY, _CENTER, _RADIUS = "occupancy", "box.center", "box.radius"


class Nerf(NamedTuple):
    """A field that can be shown."""

    params: Params
    grid: OccupancyGrid
    box: SceneBox
    config: NerfConfig
    facts: dict[str, Any]  # JSON: `up` [3] of the capture, `num_styles`, and how it came to be


def is_nerf_file(path: str | os.PathLike) -> bool:
    """Whether a file is one of a field, by its content."""
    return read_about(path, _ENTRY) is not None


def read_nerf(path: str | os.PathLike) -> Nerf:
    """Reads a field.

    Raises:
      ValueError: in one line, when the file is no field, or its tensors do not fit its settings.
    """
    entries = read_entries(path)
    config, facts = _read_header(path)
    key = jax.eval_shape(lambda: jax.random.key(0))
    like = traverse_util.flatten_dict(jax.eval_shape(lambda k: init_field(k, config), key), sep=".")
    shapes = {name: leaf.shape for name, leaf in like.items()}
    side = config.occupancy
    shapes |= {_DENSITY: (side, side, side), _CENTER: (3,), _RADIUS: ()}
    taken = {name: np.float32(v) for name, v in take_entries(entries, shapes, "a field").items()}
    grid = OccupancyGrid(taken.pop(_DENSITY))
    box = SceneBox(taken.pop(_CENTER), taken.pop(_RADIUS))
    params = traverse_util.unflatten_dict(taken, sep=".")
    return Nerf(*jax.device_put((params, grid, box)), config, facts)


def write_nerf(path: str | os.PathLike, nerf: Nerf) -> None:
    """Writes a field as float32."""
    params, grid, box = jax.device_get((nerf.params, nerf.grid, nerf.box))
    flat = traverse_util.flatten_dict(params, sep=".")
    flat |= {_DENSITY: grid.density, _CENTER: box.center, _RADIUS: box.radius}
    entry = {"config": dataclasses.asdict(nerf.config), "facts": nerf.facts}
    write_entries(path, flat, _ENTRY, entry)


def _read_header(path: str | os.PathLike) -> tuple[NerfConfig, dict[str, Any]]:
    entry = read_about(path, _ENTRY)
    if entry is None:
        raise ValueError(f"expected a field, found other tensors in {path}")
    try:
        values: Mapping[str, Any] = entry["config"]
        grids = {name: HashGridConfig(**values[name]) for name in ("grid", "far_grid")}
        return NerfConfig(**values | grids), dict(entry["facts"])
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"expected a field, found other settings in {path}") from None
