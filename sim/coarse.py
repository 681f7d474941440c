"""A scene made ready on a coarse grid: few particles, and cells no finer than these.

So it answers at once when it is played with, and is cheap enough to be simulated many times over.

Axes: N particles.
"""

import dataclasses
import math

import numpy as np

from render.gaussians import Gaussians
from sim.particles import MARGIN_CELLS
from sim.scene import SceneFile
from sim.simulation import ReadyScene, make_simulation

_MAX_NODES = 24  # along the box; more where the object is a small part of it
_MIN_NODES = 16
_OBJECT_CELLS = 8  # along its longest side at least, if the scene's own grid has them
_PER_CELL = 4.0  # particles on average, so that matter does not tear


def make_coarse(
    scene: SceneFile,
    gaussians: Gaussians,
    seed: int = 0,
    up: str | None = None,
    max_particles: int = 2500,
    wanted_up: str | None = None,
) -> ReadyScene:
    """Makes a scene ready on a coarse grid, its substep chosen for that.

    Raises:
      ValueError: in one line, when the scene and the splats do not go together.
    """
    fewest = _fewest_nodes(scene)
    num_nodes = max(fewest, _MAX_NODES, math.ceil(_OBJECT_CELLS * scene.grid_lim / scene.scale))
    num_nodes = min(num_nodes, scene.n_grid)
    while True:
        scene = dataclasses.replace(scene, n_grid=num_nodes, substep_dt=None)
        ready = make_simulation(scene, gaussians, seed, up, max_particles, wanted_up)
        share = _per_cell(ready) / _PER_CELL
        coarser = max(round(num_nodes * share ** (1 / 3)), fewest)
        # A grid that is a little too fine is no reason to fill the object anew.
        if coarser > 0.9 * num_nodes:
            return ready
        num_nodes = coarser


def _fewest_nodes(scene: SceneFile) -> int:
    """How coarse a grid may be: the object, a cube at worst, is to stand clear of its walls."""
    centre = np.asarray(scene.centre)
    room = float(np.min(np.minimum(centre, scene.grid_lim - centre))) - 0.5 * scene.scale
    if room <= 0:
        return scene.n_grid
    fewest = math.ceil(MARGIN_CELLS * scene.grid_lim / room + 1e-6)
    return min(max(fewest, _MIN_NODES), scene.n_grid)


def _per_cell(ready: ReadyScene) -> float:
    simulation = ready.simulation
    cell = np.floor(np.asarray(simulation.state.x) / simulation.config.grid.dx).astype(int)
    return len(cell) / len(np.unique(cell, axis=0))
