"""Writes golden/family_scans.npz: one held-out scene of two families over a grid of stiffnesses.

  python -m tests.golden_scans

Half a minute on two cores. Videos are bytes, 0 and 255 for -1 and 1.
"""

import pathlib

import numpy as np

from render import files_io
from sim.families.family import FAMILIES, family_view
from sim.families.random_scenes import random_scene
from sim.motion_video import motion_video

PATH = pathlib.Path(__file__).parent / "golden" / "family_scans.npz"
SCENE = 15
NAMES = ("stalk", "drop")
GRID = np.linspace(3.9, 6.3, 25)


def main() -> None:
    arrays = {}
    for name in NAMES:
        family = FAMILIES[name]
        scene, view = random_scene(SCENE, family), family_view(family)
        videos = [np.asarray(motion_video(np.float32(e), scene, view).video) for e in GRID]
        arrays[name] = np.round(127.5 * (np.clip(videos, -1.0, 1.0) + 1.0)).astype(np.uint8)
    with files_io.replacing(PATH) as temporary:
        np.savez_compressed(temporary, **arrays)


if __name__ == "__main__":
    main()
