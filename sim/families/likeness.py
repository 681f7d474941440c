"""A user's scene as a family's prior looks at it, and what its stiffness is called there.

Elastic motion has no scale of its own: a body of size L, density rho and stiffness E, looked at
every T seconds, moves as one of L', rho', E' looked at every T' if

  E T^2 / (rho L^2) = E' T'^2 / (rho' L'^2),

with speeds times T / L likewise; it falls alike where g T^2 / L agrees, too. So a scene is filmed
by the family's camera, which is moved to the scene's foot and scaled by its size, and its log10 E
differs from the family's label by a constant. What hangs is seen upside down: held at its top, it
sways as a stalk does on its foot, where it is stiffer than heavy.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from render.camera import Camera, camera_through
from render.frames import round_capacity
from render.gaussians import Gaussians
from render.splat import needed_pairs
from sim.carry import bind
from sim.families.family import Family, family_camera
from sim.material import Material, with_modulus
from sim.motion_video import ClipTiming, MotionView, draw_particles, rest_colors, with_colors
from sim.particles import out_of_box
from sim.scene import SceneFile
from sim.scene_conditions import Pin
from sim.simulation import ReadyScene, Simulation, with_material

Corner = Callable[[Material], Material]

_HELD = 0.07  # metres above the foot that are held, of what is as tall as a family's things
_MARGIN = 1.5  # room for pairs of a Gaussian and a tile, over what the scene needs at rest


class Likeness(NamedTuple):
    """A scene made ready to be looked at by a prior."""

    ready: ReadyScene  # in its own colours
    simulation: Simulation  # in those that say where matter rests; its substep suits the stiffest
    view: MotionView
    shift: float  # the family's label is log10 E of the scene plus this


class Clips(NamedTuple):
    """Which clips of a scene are looked at."""

    frame_seconds: float | None = None  # T, between key frames; what suits the size if None
    groups: int = 1  # M of `ClipTiming`
    truncate: str = "all"  # of `TRUNCATIONS`: where derivatives are cut off

    @property
    def tracked(self) -> int | None:
        """As `ClipTiming` has it; more than a frame has substeps stands for the whole frame."""
        return {"all": None, "frame": 1_000_000, "step": 1}[self.truncate]


TRUNCATIONS = ("all", "frame", "step")
_CLIPS = Clips()


def make_likeness(
    ready: ReadyScene, family: Family, clips: Clips = _CLIPS, corner: Corner | None = None
) -> Likeness:
    """Shows a scene to the prior of a family.

    Args:
      ready: the scene; its Young's modulus is what will be searched.
      family: of the prior.
      clips: spacing and groups.
      corner: the material for which the substep is to do, of the stiffest that the family knows.
    """
    place = _place_of(ready, family)
    size = place.size
    # What falls takes the longer the larger it is.
    usual = family.frame_seconds * (math.sqrt(size) if family.gravity else 1.0)
    seconds = clips.frame_seconds or usual
    material = ready.simulation.material
    density = float(np.mean(material.density))
    shift = (
        math.log10(family.density / density)
        - 2.0 * math.log10(size)
        + 2.0 * math.log10(seconds / family.frame_seconds)
    )
    stiffest = with_modulus(material, 10.0 ** (family.log10_range[1] - shift))
    # Between key frames lie M of those that are simulated.
    ready = with_material(ready, corner(stiffest) if corner else stiffest, seconds / clips.groups)
    simulation = ready.simulation.replace(material=stiffest)
    simulation = _as_particles(simulation, size * family.spacing)
    from_foot = (simulation.state.x - place.foot) @ place.turn.T
    colors = rest_colors(from_foot, jnp.zeros(3), size * family.height)
    seen = with_colors(simulation.gaussians, colors)
    camera = _camera(place, simulation, family)
    timing = ClipTiming(
        family.timing.num_frames, ready.time_step.per_frame, clips.groups, clips.tracked
    )
    view = MotionView(camera, timing, room_for(seen, camera))
    return Likeness(ready, simulation.replace(gaussians=seen), view, shift)


def room_for(gaussians: Gaussians, camera: Camera) -> int:
    """Returns a capacity of pairs that does for a scene in motion too, unless it flies apart."""
    return round_capacity(_MARGIN * int(needed_pairs(gaussians, camera)))


def stand_on_foot(ready: ReadyScene, family: Family) -> SceneFile:
    """Returns a scene in which the splats are held at their foot, and were hit as a family's are.

    Args:
      ready: a scene with other conditions and another motion at the start.
      family: of what stands and sways.
    """
    scene, place = ready.scene, _place_of(ready, family)
    foot, size = place.foot, place.size
    up = scene.centre[2] - foot[2]
    depth = max(_HELD * size, scene.grid_lim / scene.n_grid)
    pin = Pin(point=tuple(map(float, foot)), size=(scene.grid_lim, scene.grid_lim, float(depth)))
    return dataclasses.replace(
        scene,
        boundaries=(pin,),
        velocity=(float(family.kick * up), 0.0, 0.0),
        angular_velocity=(0.0, family.kick, 0.0),
    )


class _Place(NamedTuple):
    """How a scene lies to the family's."""

    foot: np.ndarray  # [3] where it is held or stands, in the box
    size: float  # over that of the family's scenes
    turn: np.ndarray  # [3, 3] of the box, into the family's


def _place_of(ready: ReadyScene, family: Family) -> _Place:
    rest = np.asarray(ready.simulation.state.x)
    low, high = rest.min(0), rest.max(0)
    wide, deep, high_up = high - low
    size = max(high_up / family.usual_height, wide / family.widest, deep / family.widest)
    pins = [condition for condition in ready.scene.boundaries if isinstance(condition, Pin)]
    hangs = bool(pins) and min(pin.point[2] for pin in pins) > 0.5 * (low + high)[2]
    foot = np.array([*0.5 * (low + high)[:2], high[2] if hangs else low[2]])
    turn = np.diag([-1.0, 1.0, -1.0]) if hangs else np.eye(3)
    return _Place(foot, float(size), turn)


def _as_particles(simulation: Simulation, finest: float) -> Simulation:
    """Draws the particles themselves, as a family's are: not finer than the prior's pixels.

    Small Gaussians with sharp edges would flicker from clip to clip, which no prior expects.
    """
    rest = np.asarray(out_of_box(simulation.placement, simulation.state.x), np.float32)
    spacing = max(float(np.median(simulation.state.volume)) ** (1 / 3), finest)
    gaussians = draw_particles(rest, spacing / float(simulation.placement.scale))
    binding = bind(rest, np.arange(len(rest)), np.zeros(0, int), rest)
    return simulation.replace(gaussians=jax.device_put(gaussians), binding=jax.device_put(binding))


def _camera(place: _Place, simulation: Simulation, family: Family) -> Camera:
    """The family's camera in the splats' own space, as far away as the scene is large."""
    placement = simulation.placement
    origin = np.array([family.middle, family.middle, family.floor - 0.5 * family.dx])
    # A point of the box, from the foot, turned, in units of the size, lies in the family's scene.
    rotation = place.turn @ np.asarray(placement.rotation)
    shift = place.turn @ (np.asarray(placement.shift) - place.foot) / place.size + origin
    scale = float(placement.scale) / place.size
    return jax.device_put(camera_through(family_camera(family), rotation, shift, scale))
