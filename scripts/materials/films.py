"""The films and pictures that `learn_material` leaves: before, after, and from either side."""

import pathlib
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from render import image_io
from render.image import to_bytes
from scripts.shell import command, filming, stopping
from scripts.shell.film_io import write_film
from sim import identify
from sim import motion as motion_lib
from sim.identify import Scan
from sim.motion import Motion
from sim.properties import Theta, Unknowns, with_properties
from sim.simulation import ReadyScene, with_material

_SHOWN = 4  # times, clips are enlarged
_GAP = 4  # pixels between films side by side


class Mover:
    """Simulates a scene at values of its unknown properties."""

    def __init__(self, ready: ReadyScene, unknowns: Unknowns, num_frames: int):
        self.ready, self.unknowns, self.num_frames = ready, unknowns, num_frames

    def run(self, theta: Theta | None, label: str) -> tuple[ReadyScene, Motion]:
        """Simulates, None as the scene is; what fails ends early, with a warning."""
        ready = self.ready
        if theta is not None:
            changed = with_properties(theta, self.unknowns, ready.simulation)
            ready = ready._replace(simulation=changed)
            ready = with_material(ready, jax.device_get(changed.material))
        with stopping.noted() as stop:
            with command.progress(f"motion {label}", self.num_frames) as advance:
                motion = motion_lib.run(ready, self.num_frames, advance, lambda: bool(stop))
        if motion.failure:
            command.warn(f"the motion {label} ends early: {motion.failure}")
        return ready, motion


def write_motion(
    path: pathlib.Path, mover: Mover, theta: Theta | None, size: tuple[int, int]
) -> tuple[ReadyScene, Motion]:
    """Films the motion at some values, or as the scene is."""
    ready, motion = mover.run(theta, path.stem)
    shot = filming.Shot(*size)
    frames, fps = filming.frames_of(ready, motion, shot)
    write_film(path, filming.film(ready, motion, shot, frames), len(frames), fps, path.stem)
    return ready, motion


def write_starts(
    path: pathlib.Path, pairs: Sequence[tuple[Theta, Theta]], mover: Mover, size: tuple[int, int]
) -> None:
    """Films starts (above) and where they ended (below), side by side, as the paper's figures are.

    Args:
      path: of the video; a sheet of its pictures is written beside.
      pairs: start and end of each search.
      mover: of the scene.
      size: width and height of each film, pixels.
    """
    shot = filming.Shot(*size)
    runs = [
        [mover.run(theta, f"{'at the start' if row == 0 else 'at the end'} {column + 1}")
         for column, theta in enumerate(row_of)]
        for row, row_of in enumerate(zip(*pairs, strict=True))
    ]  # fmt: skip
    shortest = min(len(motion.x) for row in runs for _, motion in row)
    ready, motion = runs[0][0]
    frames, fps = filming.frames_of(ready, motion, shot)
    frames = frames[frames < shortest]
    films = [[filming.film(*run, shot, frames) for run in row] for row in runs]
    label = path.stem
    write_film(path, _tiled(films), len(frames), fps, label, path.with_suffix(".jpg"))


def _tiled(films: list[list[Iterator[jax.Array]]]) -> Iterator[np.ndarray]:
    for pictures in zip(*(film for row in films for film in row), strict=True):
        rows = np.array_split(np.stack([np.asarray(p) for p in pictures]), len(films))
        yield _stack([_stack(list(row), 1) for row in rows], 0)


def _stack(pictures: list[np.ndarray], axis: int) -> np.ndarray:
    """Puts pictures beside or below each other, with a white gap."""
    shape = list(pictures[0].shape)
    shape[axis] = _GAP
    gap = np.ones(shape, pictures[0].dtype)
    return np.concatenate([part for p in pictures for part in (gap, p)][1:], axis)


def write_clips(path: pathlib.Path, rows: Sequence[np.ndarray]) -> None:
    """Draws clips [T, H, W, 3] in [-1, 1], one below the other."""
    sheet = np.concatenate([np.concatenate(list(row), 1) for row in rows], 0)
    picture = to_bytes(np.clip(0.5 + 0.5 * sheet, 0.0, 1.0))
    many = max(1, _SHOWN * 32 // len(rows[0][0]))
    image_io.write_image(path, picture.repeat(many, 0).repeat(many, 1))


def clips_of(scan: Scan, label: float) -> list[np.ndarray]:
    """The clips at the softest, the found and the stiffest of a scan."""
    return [scan.videos[0], identify.clip_between(scan, label)[0], scan.videos[-1]]
