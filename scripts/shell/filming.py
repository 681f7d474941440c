"""Pictures of a simulated scene: where the camera stands, and what stands around."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from render import framing
from render.camera import Camera, camera_through, orbit
from render.gaussians import Gaussians, join_gaussians
from render.splat import splat_frames
from scripts.shell import scenes
from scripts.shell.surroundings import Ball, ball_place, balls, floor_splats
from sim.motion import Motion
from sim.particles import into_box
from sim.simulation import ReadyScene, carry_gaussians

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
    return scenes.frames_in_time(motion.seconds, fps), fps


def film(ready: ReadyScene, motion: Motion, shot: Shot, frames: np.ndarray) -> Iterator[jax.Array]:
    """Yields the pictures [H, W, 3] of frames."""
    some = np.unique(np.linspace(0, len(motion.x) - 1, _FRAMED).astype(int))
    subjects = [_subject(ready, _moved(ready, motion, frame)) for frame in some]
    cameras = _cameras(ready, framing.join(subjects), shot, frames)
    scene, placement = ready.scene, ready.simulation.placement
    floor = floor_splats(scene, placement) if shot.has_scenery and scene.gravity[2] < 0 else []
    around = balls(scene, placement) if shot.has_scenery else []

    def moments() -> Iterator[Gaussians]:
        for frame in frames:
            seconds = float(motion.seconds[frame])
            parts = [_ball_at(ball, ready, seconds) for ball in around]
            yield join_gaussians([_moved(ready, motion, frame), *floor, *parts])

    for output in splat_frames(moments(), cameras, background=shot.background):
        yield output.rgb


def _moved(ready: ReadyScene, motion: Motion, frame: int) -> Gaussians:
    """The scene at a frame, in the splats' own space."""
    return carry_gaussians(ready.simulation, motion.x[frame], motion.deformation[frame])


def still_camera(ready: ReadyScene, shot: Shot) -> Camera:
    """Returns the camera of a scene; where its file leaves it open, one that sees it at rest."""
    rest = ready.simulation.gaussians
    subject = _subject(ready, rest)
    return _cameras(ready, subject, shot, np.zeros(1))[0]


def _cameras(
    ready: ReadyScene, subject: framing.Subject, shot: Shot, frames: np.ndarray
) -> list[Camera]:
    """The cameras of frames, chosen in the box, where up and the floor are, for the splats."""
    wanted, placement = ready.scene.camera, ready.simulation.placement
    azimuth = _first(shot.azimuth, wanted.azimuth, _AZIMUTH)
    elevation = _first(shot.elevation, wanted.elevation, _ELEVATION)
    size = shot.width, shot.height
    lens = {"elevation_degrees": elevation, "up": wanted.upward_axis}
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


def _subject(ready: ReadyScene, moved: Gaussians) -> framing.Subject:
    """What moves of a scene at some moment, in the box."""
    index = ready.simulation.binding.moving
    subject = framing.splat_subject(jax.tree.map(lambda leaf: leaf[index], moved))
    points = into_box(ready.simulation.placement, subject.points)
    return subject._replace(points=np.asarray(points))


def _ball_at(ball: Ball, ready: ReadyScene, seconds: float) -> Gaussians:
    placement = ready.simulation.placement
    # Far away rather than left out: pictures of one size share a compilation.
    far = 0.0 if ball.is_there(seconds) else 1e3 * ready.scene.grid_lim / placement.scale
    shift = ball_place(ball, placement, seconds) - far
    return ball.splats.replace(means=ball.splats.means + shift)
