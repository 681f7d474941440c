"""Moving splat scenes on disk: where everything is in each frame, as .npz.

| entry | what |
| --- | --- |
| `seconds` [F] | time of each frame, growing |
| `means` [F, N, 3] | metres |
| `quats` [F, N, 4], `log_scales` [F, N, 3] | optional: without them, turns and sizes stay |
| `index` [N] | optional: which Gaussians of the scene these are; the others stay |
| `deformation` [F, N, 3, 3] | instead of quats and log_scales: turns and stretches of matter |
| `rest` [N, 3] | with deformation: where the particles are undeformed, metres |
| `followers` [M] | with rest: Gaussians that follow particles; those of `index` do not |
| `neighbours` [M, K], `weights` [M, K] | whom each follower follows, and how much |
| `max_std` [], `parents` [Q] | with rest: long Gaussians that move were cut into pieces of that |
| | standard deviation, metres; those after the scene's own are pieces of these (`needles.py`) |

With `deformation` the moving points are particles, and those that are no Gaussian have -1 as their
index. A scene of many Gaussians that follow a few particles takes a few megabytes this way.

Axes: F frames, N moving Gaussians or particles, M followers, K neighbours, Q pieces, V vertices.
float16 and float32 are read alike.
"""

import os
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from render.files_io import read_arrays, replacing
from render.gaussians import Gaussians
from sim.carry import Binding, Neighbours, carry, find_neighbours, follow
from sim.needles import Pieces, cut_to

_SHAPES = {"means": (3,), "quats": (4,), "log_scales": (3,), "deformation": (3, 3)}
_PARTNERS = {
    "deformation": ("rest",),
    "rest": ("deformation",),
    "followers": ("rest", "neighbours", "weights"),
    "neighbours": ("followers",),
    "weights": ("followers",),
    "max_std": ("parents", "rest"),
    "parents": ("max_std", "followers"),
}
_MAX_HALF = 6e4  # what float16 can say
_WEIGHT_ERROR = 0.01  # of a sum of weights, once rounded


class Trajectory(NamedTuple):
    """How Gaussians move; see the module's table."""

    seconds: np.ndarray  # [F]
    means: np.ndarray  # [F, N, 3]
    quats: np.ndarray | None = None  # [F, N, 4]
    log_scales: np.ndarray | None = None  # [F, N, 3]
    index: np.ndarray | None = None  # [N] int32
    deformation: np.ndarray | None = None  # [F, N, 3, 3]
    rest: np.ndarray | None = None  # [N, 3]
    followers: np.ndarray | None = None  # [M] int32
    neighbours: np.ndarray | None = None  # [M, K] int32
    weights: np.ndarray | None = None  # [M, K]
    max_std: np.ndarray | None = None  # []
    parents: np.ndarray | None = None  # [Q] int32


def cut_scene(scene: Gaussians, trajectory: Trajectory) -> Gaussians:
    """Returns the scene with its long Gaussians cut as they were when it was simulated.

    Raises:
      ValueError: when that does not give the pieces that the trajectory moves.
    """
    if trajectory.parents is None:
        return scene
    owners = trajectory.index[trajectory.index >= 0]
    moving = np.concatenate([owners, trajectory.followers])
    moving = moving[moving < len(scene.means)]
    found, pieces = cut_to(scene, moving, float(trajectory.max_std))
    if not np.array_equal(pieces.parents, trajectory.parents):
        raise ValueError(
            f"expected the splats that were simulated, whose long Gaussians make "
            f"{len(trajectory.parents)} pieces, found others, which make {len(pieces.parents)}"
        )
    return found


def gaussians_of_frame(scene: Gaussians, trajectory: Trajectory, frame: int) -> Gaussians:
    """Returns the scene as it is at a frame, its harmonics too where matter turns them.

    Of many frames, let `cut_scene` cut the scene before.
    """
    if trajectory.parents is not None and not _is_cut(scene, trajectory):
        scene = cut_scene(scene, trajectory)
    if trajectory.deformation is not None:
        return carry(scene, binding_of(trajectory), *_particles_at(trajectory, frame))
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


def _is_cut(scene: Gaussians, trajectory: Trajectory) -> bool:
    return len(trajectory.followers) and len(scene.means) > np.max(trajectory.followers)


def vertices_of_frame(
    vertices: np.ndarray, trajectory: Trajectory, frame: int, neighbours: Neighbours | None = None
) -> np.ndarray:
    """Returns where the vertices [V, 3] of a mesh in the scene's space are at a frame.

    All of them follow the particles next to them, however far: also those beside what moves.

    Args:
      vertices: at rest, metres.
      trajectory: one with `deformation`.
      frame: from zero.
      neighbours: `find_neighbours(vertices, trajectory.rest)`; found at each call without it.
    """
    if neighbours is None:
        neighbours = find_neighbours(vertices, trajectory.rest)
    x, F = _particles_at(trajectory, frame)
    vertices, rest = (jnp.asarray(v, jnp.float32) for v in (vertices, trajectory.rest))
    return np.asarray(follow(neighbours, vertices, rest, x, F)[0])


def binding_of(trajectory: Trajectory) -> Binding:
    """Says which Gaussians the particles of a trajectory move."""
    index = trajectory.index
    if index is None:
        index = np.arange(len(trajectory.rest), dtype=np.int32)
    particles = np.flatnonzero(index >= 0).astype(np.int32)
    followers, neighbours = (
        np.zeros(0, np.int32),
        Neighbours(np.zeros((0, 1), int), np.zeros((0, 1))),
    )
    if trajectory.followers is not None:
        followers = trajectory.followers
        neighbours = Neighbours(trajectory.neighbours, trajectory.weights)
    return Binding(particles, index[particles], followers, neighbours, np.float32(trajectory.rest))


def trajectory_of(
    seconds: np.ndarray,
    x: np.ndarray,
    F: np.ndarray,
    binding: Binding,
    pieces: Pieces | None = None,
) -> Trajectory:
    """Makes the trajectory of bound particles.

    Args:
      seconds: [F].
      x: [F, N, 3] metres, in the space of the binding.
      F: [F, N, 3, 3] deformation gradients, likewise.
      binding: of a scene's Gaussians to the particles.
      pieces: that the scene's long Gaussians were cut into.
    """
    is_cut = pieces is not None and len(pieces.parents) > 0
    has_followers = len(binding.followers) > 0
    return Trajectory(
        seconds=np.float32(seconds),
        means=np.asarray(x, np.float32),
        index=binding.particle_gaussians,
        deformation=np.asarray(F, np.float32),
        rest=np.asarray(binding.rest, np.float32),
        followers=np.asarray(binding.followers) if has_followers else None,
        neighbours=np.asarray(binding.neighbours.index) if has_followers else None,
        weights=np.asarray(binding.neighbours.weights) if has_followers else None,
        max_std=np.float64(pieces.max_std) if is_cut else None,
        parents=pieces.parents if is_cut else None,
    )


def _particles_at(trajectory: Trajectory, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns x [N, 3] and F [N, 3, 3] of a frame."""
    return np.float32(trajectory.means[frame]), np.float32(trajectory.deformation[frame])


def write_trajectory(path: str | os.PathLike, trajectory: Trajectory) -> None:
    """Writes a trajectory, small; entries that are None are left out.

    Deformations and weights go as float16: an error of a two-thousandth of the way from a particle
    to its followers, and of the stretch.
    """
    entries = {
        name: np.asarray(values)
        for name, values in trajectory._asdict().items()
        if values is not None
    }
    for name in ("deformation", "weights"):
        if name in entries and np.issubdtype(entries[name].dtype, np.floating):
            entries[name] = np.clip(entries[name], -_MAX_HALF, _MAX_HALF).astype(np.float16)
    neighbours = entries.get("neighbours")
    if neighbours is not None and neighbours.size and 0 <= neighbours.min():
        entries["neighbours"] = neighbours.astype(np.min_scalar_type(neighbours.max()))
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **entries)


def read_trajectory(path: str | os.PathLike, num_gaussians: int | None) -> Trajectory:
    """Reads the trajectory of a scene of `num_gaussians`.

    Args:
      path: of the file.
      num_gaussians: None for a mesh that is to follow the particles, whatever Gaussians they are.

    Raises:
      ValueError: when the file is missing, broken, or not of this scene.
    """
    found = read_arrays(path, "a trajectory")
    found = {name: found[name] for name in Trajectory._fields if name in found}
    if num_gaussians is None and "rest" not in found:
        raise ValueError(f"expected a trajectory of matter to move a mesh, found no rest in {path}")
    missing = [name for name in ("seconds", "means") if name not in found]
    missing += [name for one in found for name in _PARTNERS.get(one, ()) if name not in found]
    if missing:
        raise ValueError(f"expected an entry {missing[0]}, found none in {path}")
    if "deformation" in found and ("quats" in found or "log_scales" in found):
        raise ValueError(f"expected deformation or quats and log_scales, found both in {path}")
    seconds, index = found["seconds"], found.get("index")
    for name in ("seconds", *_SHAPES, "rest", "weights"):
        if name in found and not np.issubdtype(found[name].dtype, np.floating):
            raise ValueError(f"expected floats as {name}, found {found[name].dtype} in {path}")
    num_moving = _num_moving(found, num_gaussians)
    shapes = {name: (seconds.size, num_moving, *shape) for name, shape in _SHAPES.items()}
    shapes["rest"] = (num_moving, 3)
    for name, expected in shapes.items():
        if name in found and found[name].shape != expected:
            raise ValueError(
                f"expected {name} of shape {list(expected)}, "
                f"found {list(found[name].shape)} in {path}"
            )
    if not seconds.size or seconds.ndim != 1 or not np.all(np.diff(seconds) > 0):
        raise ValueError(f"expected growing seconds of at least one frame, found others in {path}")
    if "parents" in found:
        num_gaussians = _with_pieces(found, num_gaussians, path)
    if index is not None and num_gaussians is not None:
        owners = index[index >= 0] if "deformation" in found else index
        if not _is_index(owners, num_gaussians) or np.any(index < -1):
            raise ValueError(
                f"expected an index of {num_gaussians} Gaussians, found others in {path}"
            )
    if "rest" in found and not (num_moving and np.isfinite(found["rest"]).all()):
        raise ValueError(f"expected particles at finite places as rest, found others in {path}")
    if "followers" in found and num_gaussians is not None:
        found |= _followers(found, num_gaussians, path)
    return Trajectory(**found)


def _with_pieces(found: dict[str, np.ndarray], num_gaussians: int | None, path) -> int | None:
    """Checks whose pieces there are, and returns how many Gaussians they make the scene have."""
    parents, max_std = found["parents"], found["max_std"]
    is_integer = np.issubdtype(parents.dtype, np.integer) and parents.ndim == 1
    most = np.inf if num_gaussians is None else num_gaussians
    if not is_integer or np.any((parents < 0) | (parents >= most)):
        raise ValueError(f"expected parents among the Gaussians, found others in {path}")
    if max_std.shape or not np.issubdtype(max_std.dtype, np.floating) or not max_std > 0:
        raise ValueError(f"expected a number above 0 as max_std, found another in {path}")
    return None if num_gaussians is None else num_gaussians + len(parents)


def _num_moving(found: dict[str, np.ndarray], num_gaussians: int | None) -> int:
    """Returns how many points the entries are to tell of: an index says so, or else the scene."""
    if "index" in found:
        return found["index"].size
    if num_gaussians is None:
        return len(found["rest"])
    return num_gaussians


def _followers(found: dict[str, np.ndarray], num_gaussians: int, path) -> dict[str, np.ndarray]:
    """Checks who follows whom, and returns it in the types that the scene is moved by."""
    followers, neighbours, weights = (found[k] for k in ("followers", "neighbours", "weights"))
    owners = found.get("index", np.arange(num_gaussians))
    if not _is_index(followers, num_gaussians) or np.isin(followers, owners).any():
        raise ValueError(
            f"expected followers among the {num_gaussians} Gaussians that are no particles, "
            f"found others in {path}"
        )
    expected = len(followers), *neighbours.shape[1:2]
    if neighbours.ndim != 2 or neighbours.shape != expected or not neighbours.shape[1]:
        raise ValueError(
            f"expected neighbours of {len(followers)} followers, "
            f"found shape {list(neighbours.shape)} in {path}"
        )
    num_particles = len(found["rest"])
    is_integer = np.issubdtype(neighbours.dtype, np.integer)
    if not is_integer or np.any((neighbours < 0) | (neighbours >= num_particles)):
        raise ValueError(
            f"expected neighbours among {num_particles} particles, found others in {path}"
        )
    weights = weights.astype(np.float32)
    if weights.shape != expected:
        raise ValueError(
            f"expected weights of shape {list(expected)}, found {list(weights.shape)} in {path}"
        )
    sums = weights.sum(-1, keepdims=True)
    if not (np.all(weights >= 0) and np.all(np.abs(sums - 1.0) < _WEIGHT_ERROR)):
        raise ValueError(f"expected weights that sum to one, found others in {path}")
    return {
        "followers": followers.astype(np.int32),
        "neighbours": neighbours.astype(np.int32),
        "weights": weights / sums,
    }


def _is_index(index: np.ndarray, size: int) -> bool:
    is_integer = np.issubdtype(index.dtype, np.integer) and index.ndim == 1
    is_inside = is_integer and np.all((index >= 0) & (index < size))
    return bool(is_inside and len(np.unique(index)) == len(index))
