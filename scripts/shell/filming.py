"""Pictures of a simulated scene: where the camera stands, and what stands around."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from render import framing, scenery
from render.camera import Camera, camera_through, orbit
from render.gaussians import Gaussians
from render.splat import splat_frames
from scripts.shell import scenes
from sim.motion import Motion, floor_height, sphere_center, spheres, trajectory_at
from sim.particles import gaussians_out_of_box, into_box
from sim.scene import SceneFile
from sim.simulation import ReadyScene
from sim.trajectory_io import Trajectory, gaussians_of_frame

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


def frames_of(ready: ReadyScene, motion: Motion, shot: Shot) -> tuple[np.ndarray, float]:
    """Returns the frame that each picture of a video shows, in real time, and its rate."""
    fps = shot.fps or min(1.0 / ready.scene.frame_dt, _MAX_FPS)
    times = np.arange(int(motion.seconds[-1] * fps + 1e-3) + 1) / fps
    return np.searchsorted(motion.seconds, times + 1e-3 / fps, side="right") - 1, fps


def film(ready: ReadyScene, motion: Motion, shot: Shot, frames: np.ndarray) -> Iterator[jax.Array]:
    """Yields the pictures [H, W, 3] of frames."""
    trajectory = trajectory_at(ready, motion)
    cameras = _cameras(ready, motion, trajectory, shot, frames)
    moments = (_moment(ready, motion, trajectory, shot, frame) for frame in frames)
    for output in splat_frames(moments, cameras, background=shot.background):
        yield output.rgb


def _cameras(
    ready: ReadyScene, motion: Motion, trajectory: Trajectory, shot: Shot, frames: np.ndarray
) -> list[Camera]:
    """The cameras of frames, chosen in the box, where up and the floor are, for the splats."""
    wanted, placement = ready.scene.camera, ready.simulation.placement
    azimuth = _first(shot.azimuth, wanted.azimuth, _AZIMUTH)
    elevation = _first(shot.elevation, wanted.elevation, _ELEVATION)
    size = shot.width, shot.height
    lens = {"elevation_degrees": elevation, "up": wanted.upward_axis}
    some = np.unique(np.linspace(0, len(motion.x) - 1, _FRAMED).astype(int))
    subject = framing.join([_subject(ready, trajectory, frame) for frame in some])
    found = framing.frame(subject, *size, [azimuth], **lens, target=wanted.center)
    extent = (wanted.extent or found.extent) / wanted.zoom
    turn = wanted.delta_azimuth if wanted.is_moving else 0.0
    angles = azimuth + turn * frames
    cameras = [
        orbit(found.target, extent, 1, *size, azimuth_degrees=(angle, angle), **lens)[0]
        for angle in angles
    ]
    return [
        camera_through(camera, placement.rotation, placement.shift, placement.scale)
        for camera in cameras
    ]


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def _subject(ready: ReadyScene, trajectory: Trajectory, frame: int) -> framing.Subject:
    """What moves, at a frame, in the box."""
    simulation = ready.simulation
    moved = gaussians_of_frame(simulation.gaussians, trajectory, frame)
    index = simulation.binding.moving
    subject = framing.splat_subject(jax.tree.map(lambda leaf: leaf[index], moved))
    return subject._replace(points=np.asarray(into_box(simulation.placement, subject.points)))


def _moment(
    ready: ReadyScene, motion: Motion, trajectory: Trajectory, shot: Shot, frame: int
) -> Gaussians:
    """The scene at a frame, and what stands around it."""
    moved = gaussians_of_frame(ready.simulation.gaussians, trajectory, frame)
    if not shot.has_scenery:
        return moved
    placement = ready.simulation.placement
    around = _around(ready.scene, float(motion.seconds[frame]))
    return scenes.join_splats([moved, *(gaussians_out_of_box(placement, one) for one in around)])


def _around(scene: SceneFile, seconds: float) -> list[Gaussians]:
    """The floor and the balls, in the box."""
    parts = []
    height = floor_height(scene)
    if height is not None and scene.gravity[2] < 0:
        parts.append(scenery.floor(scene.grid_lim, height))
    for sphere in spheres(scene):
        is_there = sphere.start_time <= seconds < sphere.end_time
        center = np.asarray(sphere_center(sphere, seconds))
        # Far away rather than left out: pictures of one size share a compilation.
        far = 0.0 if is_there else 1e3 * scene.grid_lim
        parts.append(scenery.ball(center - far, sphere.radius))
    return parts
