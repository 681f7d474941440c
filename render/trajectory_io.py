"""Moving splat scenes on disk: where each Gaussian is in each frame, as .npz.

| entry | what |
| --- | --- |
| `seconds` [F] | time of each frame, growing |
| `means` [F, N, 3] | metres |
| `quats` [F, N, 4], `log_scales` [F, N, 3] | optional: without them, turns and sizes stay |
| `index` [N] | optional: which Gaussians of the scene these are; the others stay |

Axes: F frames, N moving Gaussians. float16 and float32 are read alike.
"""

import os
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from render.files_io import read_arrays, replacing
from render.gaussians import Gaussians

_SHAPES = {"means": (3,), "quats": (4,), "log_scales": (3,)}


class Trajectory(NamedTuple):
    """How Gaussians move; see the module's table."""

    seconds: np.ndarray  # [F]
    means: np.ndarray  # [F, N, 3]
    quats: np.ndarray | None = None  # [F, N, 4]
    log_scales: np.ndarray | None = None  # [F, N, 3]
    index: np.ndarray | None = None  # [N] int32


def gaussians_at(scene: Gaussians, trajectory: Trajectory, frame: int) -> Gaussians:
    """Returns the scene as it is at a frame."""
    moved = {
        name: jnp.asarray(values[frame], jnp.float32)
        for name in _SHAPES
        if (values := getattr(trajectory, name)) is not None
    }
    if trajectory.index is not None:
        moved = {
            name: getattr(scene, name).at[trajectory.index].set(values)
            for name, values in moved.items()
        }
    return scene.replace(**moved)


def write_trajectory(path: str | os.PathLike, trajectory: Trajectory) -> None:
    """Writes a trajectory; entries that are None are left out."""
    entries = {
        name: np.asarray(values)
        for name, values in trajectory._asdict().items()
        if values is not None
    }
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **entries)


def read_trajectory(path: str | os.PathLike, num_gaussians: int) -> Trajectory:
    """Reads the trajectory of a scene of `num_gaussians`.

    Raises:
      ValueError: when the file is missing, broken, or not of this scene.
    """
    found = read_arrays(path, "a trajectory")
    found = {name: found[name] for name in Trajectory._fields if name in found}
    missing = [name for name in ("seconds", "means") if name not in found]
    if missing:
        raise ValueError(f"expected an entry {missing[0]}, found none in {path}")
    seconds, index = found["seconds"], found.get("index")
    for name in ("seconds", *_SHAPES):
        if name in found and not np.issubdtype(found[name].dtype, np.floating):
            raise ValueError(f"expected floats as {name}, found {found[name].dtype} in {path}")
    num_moving = num_gaussians if index is None else index.size
    for name, shape in _SHAPES.items():
        expected = (seconds.size, num_moving, *shape)
        if name in found and found[name].shape != expected:
            raise ValueError(
                f"expected {name} of shape {list(expected)}, "
                f"found {list(found[name].shape)} in {path}"
            )
    if not seconds.size or seconds.ndim != 1 or not np.all(np.diff(seconds) > 0):
        raise ValueError(f"expected growing seconds of at least one frame, found others in {path}")
    if index is not None and not _is_index(index, num_gaussians):
        raise ValueError(f"expected an index of {num_gaussians} Gaussians, found others in {path}")
    return Trajectory(**found)


def _is_index(index: np.ndarray, size: int) -> bool:
    is_integer = np.issubdtype(index.dtype, np.integer) and index.ndim == 1
    is_inside = is_integer and np.all((index >= 0) & (index < size))
    return bool(is_inside and len(np.unique(index)) == len(index))
