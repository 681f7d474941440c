"""What a user should know of a scene made ready, one line each.

Axes: N particles.
"""

import numpy as np

from sim.conditions import is_in_region
from sim.filling import Filled, cells_inside, count_in_cells
from sim.scene import Filling, SceneFile
from sim.scene_conditions import (
    EnforcedRotation,
    MovingCuboid,
    RegionCondition,
    WindRegion,
    name_of,
)


def place_note(scene: SceneFile, rotation: np.ndarray, x: np.ndarray) -> str:
    """Says where particles [N, 3] lie in the box, and which axis of the splats is up there."""
    up = np.asarray(scene.camera.upward_axis) @ rotation / np.linalg.norm(scene.camera.upward_axis)
    axis = int(np.argmax(np.abs(up)))
    name = ("-" if up[axis] < 0 else "") + "xyz"[axis]
    tilt = np.degrees(np.arccos(np.clip(abs(up[axis]), 0.0, 1.0)))
    words = f"their {name} is up" + (f", tilted by {tilt:.0f} degrees" if tilt > 0.5 else "")
    return (
        f"the splats lie from {vector_text(x.min(0))} to {vector_text(x.max(0))} m in the box of "
        f"{scene.grid_lim:g} m; {words} (--up turns them)"
    )


def region_notes(scene: SceneFile, x: np.ndarray) -> list[str]:
    """Says how many of the particles [N, 3] each region of the scene holds at the start."""
    notes = []
    for i, condition in enumerate(scene.boundaries):
        if not isinstance(condition, RegionCondition | EnforcedRotation):
            continue
        count = int(np.sum(is_in_region(condition, x)))
        name = f"boundary_conditions[{i}] ({name_of(condition)})"
        later = (
            ", matter may come there" if isinstance(condition, MovingCuboid | WindRegion) else ""
        )
        notes.append(f"{name} holds {_share(count, len(x))}{later if not count else ''}")
    for i, box in enumerate(scene.boxes):
        inside = np.all(np.abs(x - np.asarray(box.point)) < np.asarray(box.size), -1)
        count = int(np.sum(inside))
        notes.append(f"additional_material_params[{i}] holds {_share(count, len(x))}")
    return notes


def filling_note(filling: Filling, filled: Filled, num_points: int, num_gaussians: int) -> str:
    """Says what was filled in, and by which of the thresholds."""
    return (
        f"filled in {num_points} particles beside {num_gaussians} Gaussians: {filled.num_dense} "
        f"cells are denser than {filling.density_threshold:g} Gaussians (those that hold one have "
        f"{filled.typical_density:.2g}), {filled.num_enclosed} are enclosed"
    )


def fullness_note(scene: SceneFile, x: np.ndarray) -> str:
    """Says how many of the particles [N, 3] there are in a cell inside, and where none are."""
    dx = scene.grid_lim / scene.n_grid
    low, high = np.floor(x.min(0) / dx), np.floor(x.max(0) / dx)
    count = count_in_cells(x, low * dx, dx, int(np.max(high - low)) + 1)
    inside = cells_inside(count > 0)
    empty = float(np.mean(count[inside] == 0))
    note = f"inside, a cell holds {np.mean(count[inside]):.2g} particles"
    if empty > 0.005:
        note += f"; {100 * empty:.0f} % of the cells there hold none"
    return note


def vector_text(values: np.ndarray) -> str:
    """Writes a place with three digits."""
    return "[" + ", ".join(f"{v:.3g}" for v in values) + "]"


def _share(count: int, total: int) -> str:
    if not count:
        return "no particle"
    return f"{count} of {total} particles ({100 * count / total:.3g} %)"
