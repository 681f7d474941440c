"""How splats are turned into the box of a simulation, so that they stand upright there.

An axis is "x", "-x" and so on. Ours: the splats' up becomes z, then the file's rotations turn
further. PhysGaussian's turn by their rotations alone. What whoever runs it says goes before either.
"""

import math

import numpy as np

from sim.scene import SceneFile

_DEFAULT_UP = "-y"  # of captures
_AXES = {"x": 0, "y": 1, "z": 2}


def rotation_into_box(scene: SceneFile, up: str | None, wanted_up: str | None) -> np.ndarray:
    """Returns the rotation [3, 3] from the splats' axes to the box's.

    Args:
      scene: as read from a file.
      up: axis of the splats that is up, if their file says so; of a scene of ours that does not.
      wanted_up: axis that is to be up in the box, whatever the scene says.
    """
    if scene.is_si:
        return _turns(scene) @ _upright(wanted_up or scene.up or up or _DEFAULT_UP)
    rotation = _turns(scene)
    if wanted_up is None:
        return rotation
    return _shortest_turn(rotation @ _axis(wanted_up), scene.camera.upward_axis) @ rotation


def _turns(scene: SceneFile) -> np.ndarray:
    """The rotation [3, 3] that the file's angles make, one after the other."""
    rotation = np.eye(3)
    for degrees, axis in zip(scene.rotation_degree, scene.rotation_axis, strict=True):
        sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        turn = np.eye(3)
        j, k = (axis + 1) % 3, (axis + 2) % 3
        turn[j, j], turn[j, k], turn[k, j], turn[k, k] = cosine, -sine, sine, cosine
        rotation = turn @ rotation
    return rotation


def _axis(name: str) -> np.ndarray:
    found = np.zeros(3)
    found[_AXES[name[-1]]] = -1.0 if name.startswith("-") else 1.0
    return found


def _upright(up: str) -> np.ndarray:
    """Returns the rotation [3, 3] that brings an axis to z, about x or y."""
    up_row = _axis(up)
    first = np.array([0.0, 1.0, 0.0]) if up.endswith("x") else np.array([1.0, 0.0, 0.0])
    if up.endswith("x"):
        return np.stack([np.cross(first, up_row), first, up_row])
    return np.stack([first, np.cross(up_row, first), up_row])


def _shortest_turn(start: np.ndarray, end: tuple[float, ...]) -> np.ndarray:
    """Returns the rotation [3, 3] that brings one direction to another the shortest way."""
    end = np.asarray(end, np.float64) / np.linalg.norm(end)
    if start @ end < -1.0 + 1e-9:
        about = np.array([0.0, 1.0, 0.0] if abs(end[0]) > 0.9 else [1.0, 0.0, 0.0])
        about = about - (about @ end) * end
        about /= np.linalg.norm(about)
        return 2.0 * np.outer(about, about) - np.eye(3)
    x, y, z = np.cross(start, end)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + cross + cross @ cross / (1.0 + start @ end)
