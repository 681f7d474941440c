"""Makes the clips that the small prior learns from, in parts that a stopped run keeps.

Clip n of a family is the random scene n at its random stiffness, so that it does not matter how
often a run was stopped or how many cores simulated. The first scenes are held out from training.

  clips/stalk-001000.npz   of a hundred numbers: videos, stiffnesses, numbers; less what failed
  clips/stalk-scan-12.npz  held-out scenes over a grid of stiffnesses: videos and their derivatives

Axes: N clips, S scenes, E stiffnesses, T frames, H and W pixels.
"""

import pathlib
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from render import files_io
from scripts.shell import command, stopping
from scripts.shell.parallel import on_all_cores
from sim.families.family import Family, family_view
from sim.families.random_scenes import random_log10_modulus, random_scene
from sim.motion_video import motion_video, video_and_slope

HELD_OUT = 100  # the first scenes are never learnt from
_PART = 100
_GRID = 25  # stiffnesses of a scan


class Clips(NamedTuple):
    """Videos and their labels."""

    videos: np.ndarray  # [N, T, H, W, 3] uint8; 0 and 255 stand for -1 and 1
    log10_modulus: np.ndarray  # [N]


class Scans(NamedTuple):
    """Scenes over a grid of stiffnesses, where the force on the stiffness can be read off."""

    videos: np.ndarray  # [S, E, T, H, W, 3] float16 in [-1, 1]
    slopes: np.ndarray  # [S, E, T, H, W, 3] float16, d video / d log10 E
    log10_modulus: np.ndarray  # [E]


def make_clips(folder: pathlib.Path, family: Family, count: int) -> tuple[Clips, Clips]:
    """Returns `count` clips to learn from and those held out; simulates what the folder lacks."""
    numbers = list(range(0, HELD_OUT + count, _PART))
    missing = [n for n in numbers if not _part(folder, family, n).is_file()]
    if missing:
        view = family_view(family)

        def clip(number: int) -> np.ndarray | None:
            scene, modulus = random_scene(number, family), random_log10_modulus(number, family)
            made = motion_video(modulus, scene, view)
            return None if bool(made.failed) else _to_bytes(np.asarray(made.video))

        with stopping.noted() as stop:
            total = len(numbers) * _PART
            done = total - len(missing) * _PART
            with command.progress(f"clips of {family.name}", total, done) as advance:
                for first in missing:
                    made = []
                    for video in on_all_cores(clip, range(first, first + _PART), stop):
                        made.append(video)
                        advance()
                    if stop:
                        break
                    _write_part(_part(folder, family, first), family, first, made)
            stop.keep(f"clips in {folder} (the same command goes on from there)")
    parts = [_read_part(_part(folder, family, n)) for n in numbers]
    held_out, *rest = parts
    learnt = Clips(*(np.concatenate(values)[:count] for values in zip(*rest, strict=True)))
    return learnt, held_out


def make_scans(folder: pathlib.Path, family: Family, scenes: Sequence[int]) -> Scans:
    """Returns held-out scenes over a grid of stiffnesses; simulates what the folder lacks."""
    path = folder / f"{family.name}-scan-{len(scenes)}.npz"
    grid = np.linspace(*family.log10_range, _GRID)
    if not path.is_file():
        view = family_view(family)

        def look(job: tuple[int, float]) -> tuple[np.ndarray, np.ndarray]:
            number, value = job
            clip, slope = video_and_slope(value, random_scene(number, family), view)
            return np.asarray(clip.video, np.float16), np.asarray(slope, np.float16)

        jobs = [(number, value) for number in scenes for value in grid]
        with stopping.noted() as stop:
            with command.progress(f"held-out scenes of {family.name}", len(jobs)) as advance:
                made = []
                for one in on_all_cores(look, jobs, stop):
                    made.append(one)
                    advance()
            stop.act()
        videos, slopes = (np.stack(values) for values in zip(*made, strict=True))
        shape = (len(scenes), _GRID, *videos.shape[1:])
        arrays = {"videos": videos.reshape(shape), "slopes": slopes.reshape(shape)}
        with files_io.replacing(path) as temporary:
            np.savez_compressed(temporary, **arrays, log10_modulus=grid, scenes=np.asarray(scenes))
    with np.load(path, allow_pickle=False) as file:
        return Scans(file["videos"], file["slopes"], file["log10_modulus"])


def to_floats(videos: np.ndarray) -> np.ndarray:
    """Returns videos of bytes as numbers in [-1, 1]."""
    return videos.astype(np.float32) / 127.5 - 1.0


def _to_bytes(video: np.ndarray) -> np.ndarray:
    return np.clip(np.round((video + 1.0) * 127.5), 0, 255).astype(np.uint8)


def _part(folder: pathlib.Path, family: Family, first: int) -> pathlib.Path:
    return folder / f"{family.name}-{first:06d}.npz"


def _write_part(path: pathlib.Path, family: Family, first: int, made: list) -> None:
    kept = [(number, video) for number, video in enumerate(made, first) if video is not None]
    if not kept:
        raise command.WorkFailed(
            f"expected clips of {family.name}, found that all of {len(made)} scenes left their box"
        )
    if len(kept) < len(made):
        command.say(f"{len(made) - len(kept)} of {len(made)} scenes left their box: not used")
    moduli = [random_log10_modulus(number, family) for number, _ in kept]
    with files_io.replacing(path) as temporary:
        np.savez_compressed(
            temporary,
            videos=np.stack([video for _, video in kept]),
            log10_modulus=np.asarray(moduli, np.float32),
            numbers=np.asarray([number for number, _ in kept]),
        )


def _read_part(path: pathlib.Path) -> Clips:
    try:
        with np.load(path, allow_pickle=False) as file:
            return Clips(file["videos"], file["log10_modulus"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        raise ValueError(f"expected clips, found something else in {path}") from None
