"""Pictures of a simulated scene, in its box: where the camera stands, and what stands around."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from render import framing, scenery
from render.camera import Camera, orbit
from render.gaussians import Gaussians
from render.splat import splat_frames
from scripts.shell import scenes
from sim import simulation as simulation_lib
from sim.simulation import Motion, Simulation

_MAX_FPS = 50.0  # scenes of many frames skip some of them in the video
_FRAMED = 6  # moments that the camera's distance is found for
_AZIMUTH, _ELEVATION = 0.0, 15.0  # degrees, where neither user nor scene says


class Shot(NamedTuple):
    """How a scene is filmed; None leaves it to the scene."""

    width: int  # pixels
    height: int
    fps: float | None = None
    azimuth: float | None = None  # degrees
    elevation: float | None = None
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    has_scenery: bool = True


def frames_of(simulation: Simulation, motion: Motion, shot: Shot) -> tuple[np.ndarray, float]:
    """Returns the frame that each picture of a video shows, in real time, and its rate."""
    fps = shot.fps or min(1.0 / simulation.scene.frame_dt, _MAX_FPS)
    times = np.arange(int(motion.seconds[-1] * fps + 1e-3) + 1) / fps
    return np.searchsorted(motion.seconds, times + 1e-3 / fps, side="right") - 1, fps


def film(
    simulation: Simulation, motion: Motion, shot: Shot, frames: np.ndarray
) -> Iterator[np.ndarray]:
    """Yields the pictures [H, W, 3] of frames."""
    cameras = _cameras(simulation, motion, shot, frames)
    moments = (_moment(simulation, motion, shot, frame) for frame in frames)
    for output in splat_frames(moments, cameras, background=shot.background):
        yield np.clip(np.asarray(output.rgb), 0.0, 1.0)


def _cameras(
    simulation: Simulation, motion: Motion, shot: Shot, frames: np.ndarray
) -> list[Camera]:
    wanted = simulation.scene.camera
    azimuth = _first(shot.azimuth, wanted.azimuth, _AZIMUTH)
    elevation = _first(shot.elevation, wanted.elevation, _ELEVATION)
    size = shot.width, shot.height
    lens = {"elevation_degrees": elevation, "up": wanted.upward_axis}
    some = np.unique(np.linspace(0, len(motion.x) - 1, _FRAMED).astype(int))
    subject = framing.join([_subject(simulation, motion, frame) for frame in some])
    found = framing.frame(subject, *size, [azimuth], **lens, target=wanted.center)
    extent = (wanted.extent or found.extent) / wanted.zoom
    turn = wanted.delta_azimuth if wanted.is_moving else 0.0
    angles = azimuth + turn * frames
    return [
        orbit(found.target, extent, 1, *size, azimuth_degrees=(angle, angle), **lens)[0]
        for angle in angles
    ]


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def _subject(simulation: Simulation, motion: Motion, frame: int) -> framing.Subject:
    """What moves, at a frame."""
    roles = simulation.roles
    moved = simulation_lib.gaussians_in_box(simulation, motion.x[frame], motion.deformation[frame])
    index = np.concatenate([roles.gaussians, roles.followers])
    return framing.splat_subject(jax.tree.map(lambda leaf: leaf[index], moved))


def _moment(simulation: Simulation, motion: Motion, shot: Shot, frame: int) -> Gaussians:
    """The scene at a frame, and what stands around it."""
    moved = simulation_lib.gaussians_in_box(simulation, motion.x[frame], motion.deformation[frame])
    if not shot.has_scenery:
        return moved
    around = _around(simulation, float(motion.seconds[frame]))
    return scenes.join_splats([moved, *around])


def _around(simulation: Simulation, seconds: float) -> list[Gaussians]:
    scene, parts = simulation.scene, []
    height = simulation_lib.floor_height(scene)
    if height is not None and scene.gravity[2] < 0:
        parts.append(scenery.floor(scene.grid_lim, height))
    for entry in scene.boundaries:
        if entry["type"] == "sphere":
            is_there = entry["start_time"] <= seconds < entry["end_time"]
            center = np.asarray(simulation_lib.ball_center(entry, seconds))
            # Far away rather than left out: pictures of one size share a compilation.
            far = 0.0 if is_there else 1e3 * scene.grid_lim
            parts.append(scenery.ball(center - far, entry["radius"]))
    return parts
