"""The settings of a run as its command leaves them beside the results: config.json."""

import dataclasses
import math
import os
import pathlib
import sys
from importlib import metadata
from typing import Any

import jax
import numpy as np
from absl import flags

from render import files_io

_VERSIONS = ("mien", "jax", "jaxopt", "numpy")


def write_settings(folder: str | os.PathLike, **resolved: Any) -> None:
    """Writes config.json: all that a run depends on, to repeat it or to compare it with others.

    It holds the command, each of its flags with its value, `resolved`, the versions of the
    packages whose numbers matter, and the device.

    Args:
      folder: where the command writes.
      resolved: values that the flags alone do not tell, by name; a flag of that name gives way.
        Dataclasses become objects, paths texts, and numbers that JSON lacks words, "inf".
    """
    device = jax.devices()[0]
    settings = {
        "command": pathlib.Path(sys.argv[0]).stem,
        **_flag_values(),
        **resolved,
        "versions": {name: _version(name) for name in _VERSIONS},
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
        },
    }
    files_io.write_json(pathlib.Path(folder) / "config.json", as_json(settings))


def check_settings(
    folder: str | os.PathLike, found: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Sees that what a folder holds was made with the settings expected.

    Args:
      folder: for the message.
      found: the folder's settings, as JSON gave them back; there may be more of them.
      expected: those of this run, as `as_json` returns them.

    Raises:
      ValueError: naming the first setting that differs.
    """
    found, expected = _flat(found), _flat(expected)
    for name, value in expected.items():
        if found.get(name) != value:
            raise ValueError(
                f"expected the settings of the run in {folder}, {name} of {found.get(name)}, "
                f"found {value}: name another --out to keep both"
            )


def as_json(value: Any) -> Any:
    """Returns settings as JSON can say them: what `write_settings` writes."""
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {name: as_json(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return value.tolist()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Names the settings inside of others by their path, `training.count`."""
    flat = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _flag_values() -> dict[str, Any]:
    """The flags of the command and of the wings that it uses; not those of libraries."""
    modules = flags.FLAGS.flags_by_module_dict()
    ours = (m for m in modules if m == sys.argv[0] or m.startswith("scripts."))
    return {flag.name: flag.value for module in ours for flag in modules[module]}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return None
