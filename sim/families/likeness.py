"""A user's scene as a family's prior looks at it, and what its stiffness is called there.

Elastic motion has no scale of its own: a body of size L, density rho and stiffness E, looked at
every T seconds, moves as one of L', rho', E' looked at every T' if

  E T^2 / (rho L^2) = E' T'^2 / (rho' L'^2),

with speeds times T / L likewise. So a scene is filmed by the family's camera, which is moved to the
scene's foot and scaled by its size, and its log10 E differs from the family's label by a constant.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from render.camera import camera_through
from render.frames import round_capacity
from render.gaussians import Gaussians
from render.splat import needed_pairs
from sim.families.family import Family, family_camera
from sim.motion_video import ClipTiming, MotionView, rest_colors, with_colors
from sim.particles import into_box
from sim.scene import SceneFile
from sim.scene_conditions import Pin
from sim.simulation import ReadyScene, Simulation, make_simulation

USUAL_HEIGHT = 0.52  # metres: the mean of what stands in a family's scenes
_WIDEST = 0.45  # metres: what is wider is looked at from further away
_KICK = 1.6  # m/s of the top of what is as tall as usual
_HELD = 0.07  # metres above the foot that are held, of what is as tall as usual
_MARGIN = 1.5  # room for pairs of a Gaussian and a tile, over what the scene needs at rest


class Likeness(NamedTuple):
    """A scene made ready to be looked at by a prior."""

    ready: ReadyScene  # in its own colours
    simulation: Simulation  # in those that say where matter rests; its substep suits the stiffest
    view: MotionView
    shift: float  # the family's label is log10 E of the scene plus this


def make_likeness(
    scene: SceneFile,
    gaussians: Gaussians,
    family: Family,
    frame_seconds: float | None = None,
    **how,
) -> Likeness:
    """Makes a scene ready for the prior of a family.

    Args:
      scene: as read; its Young's modulus, and that of its boxes, is what will be searched.
      gaussians: [A] in their own space.
      family: of the prior.
      frame_seconds: T, between the key frames of the clip; the family's own if None.
      how: further arguments of `make_simulation`.

    Raises:
      ValueError: as `make_simulation`.
    """
    frame_seconds = family.frame_seconds if frame_seconds is None else frame_seconds
    foot, size = _extent(make_simulation(scene, gaussians, **how))
    shift = (
        math.log10(family.density / scene.material.density)
        - 2.0 * math.log10(size)
        + 2.0 * math.log10(frame_seconds / family.frame_seconds)
    )
    material = dataclasses.replace(
        scene.material, youngs_modulus=10.0 ** (family.log10_range[1] - shift)
    )
    stiffest = dataclasses.replace(
        scene, material=material, boxes=(), substep_dt=None, frame_dt=frame_seconds
    )
    ready = make_simulation(stiffest, gaussians, **how)
    simulation = ready.simulation
    moved = simulation.gaussians
    places = into_box(simulation.placement, moved.means)
    seen = with_colors(moved, rest_colors(places, jnp.asarray(foot), size * family.height))
    camera = _camera(foot, size, simulation, family)
    timing = ClipTiming(family.timing.num_frames, ready.time_step.per_frame)
    room = round_capacity(_MARGIN * int(needed_pairs(seen, camera)))
    view = MotionView(camera, timing, room)
    return Likeness(ready, simulation.replace(gaussians=seen), view, shift)


def stand_on_foot(scene: SceneFile, gaussians: Gaussians, **how) -> SceneFile:
    """Returns a scene in which the splats are held at their foot, and were hit as stalks are.

    Args:
      scene: whose conditions and motion at the start are replaced.
      gaussians: [A] in their own space.
      how: further arguments of `make_simulation`.
    """
    foot, size = _extent(make_simulation(scene, gaussians, **how))
    turn = _KICK / USUAL_HEIGHT  # rad/s about the foot, whatever the size
    up = scene.centre[2] - foot[2]
    depth = max(_HELD * size, scene.grid_lim / scene.n_grid)
    pin = Pin(point=tuple(map(float, foot)), size=(scene.grid_lim, scene.grid_lim, float(depth)))
    return dataclasses.replace(
        scene,
        boundaries=(pin,),
        velocity=(float(turn * up), 0.0, 0.0),
        angular_velocity=(0.0, float(turn), 0.0),
    )


def _extent(ready: ReadyScene) -> tuple[np.ndarray, float]:
    """Where a scene's foot is in the box [3], and its size over that of the family's scenes."""
    rest = np.asarray(ready.simulation.state.x)
    low, high = rest.min(0), rest.max(0)
    wide, deep, high_up = high - low
    size = max(high_up / USUAL_HEIGHT, wide / _WIDEST, deep / _WIDEST)
    return np.array([*0.5 * (low + high)[:2], low[2]]), float(size)


def _camera(foot: np.ndarray, size: float, simulation: Simulation, family: Family):
    """The family's camera in the splats' own space, as far away as the scene is large."""
    placement = simulation.placement
    origin = np.array([family.middle, family.middle, family.floor - 0.5 * family.dx])
    # A point of the box, measured from the foot in units of the size, lies in the family's scene.
    rotation = np.asarray(placement.rotation)
    shift = (np.asarray(placement.shift) - foot) / size + origin
    scale = float(placement.scale) / size
    return jax.device_put(camera_through(family_camera(family), rotation, shift, scale))
