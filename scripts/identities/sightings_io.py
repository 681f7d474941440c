"""A pool of people, each seen several times, in parts that a stopped run keeps.

Person n follows from the seed and from n alone, so that it does not matter how often a run was
stopped. The first people are held out from training.

  pool/people-64-seed0-000100.npz   of a hundred numbers

Axes: N people, V pictures of each; H, W sides.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from recon.assets import load_model
from recon.looks import looks_io
from recon.looks.picture import PictureConfig
from recon.looks.sightings import Sightings, draw_sightings
from recon.looks.studio import build_studio
from render import files_io
from render.frames import with_room
from scripts.shell.pools import draw_missing
from scripts.shell.prepared_io import prepared

HELD_OUT = 300  # the first people are never learnt from
VIEWS = 4  # V
_PART, _CHUNK = 100, 10  # people of a file, and of a call
_TEXTURE, _LARGEST_TEXTURE = 256, 512  # the least: below it, brows vanish
_ROOM = 7.0  # pairs of triangle and tile, a pixel of a small picture


class People(NamedTuple):
    """Pictures of people."""

    rgb: np.ndarray  # [N, V, H, W, 3] uint8 sRGB
    angles: np.ndarray  # [N, V, 3] yaw, pitch and roll, radians
    restyled: np.ndarray  # [N, V] bool: the hairdo is not the person's own
    landmarks: np.ndarray  # [N, V, 68, 2] pixels


def make_people(folder: pathlib.Path, count: int, seed: int, size: int) -> People:
    """Returns the first `count` people; draws what the folder lacks.

    Args:
      folder: of the pool, made when missing.
      count: N.
      seed: of the people.
      size: of the pictures, pixels; people and views are the same in any.
    """
    numbers = list(range(0, count, _PART))
    paths = {n: folder / f"people-{size}-seed{seed}-{n:06d}.npz" for n in numbers}
    draw_missing(paths, _PART, _CHUNK, lambda: _drawing(seed, size), _write_part, "people")
    parts = [_read_part(paths[n], size) for n in numbers]
    return People(*(np.concatenate(values)[:count] for values in zip(*parts, strict=True)))


def _drawing(seed: int, size: int) -> Callable[[int], Sightings]:
    """Makes the function that draws the people from a number on."""
    looks = looks_io.load_looks()
    texture = min(max(_TEXTURE, 4 * size), _LARGEST_TEXTURE)
    studio = prepared(build_studio, load_model(), looks, looks_io.load_traits(), texture)
    config = PictureConfig(size, size, samples=2, layers=3, max_pairs=_pairs(size))
    key, room = jax.random.key(seed), config.max_pairs

    def draw(first: int) -> Sightings:
        nonlocal room  # what one call learns serves the next
        keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(np.arange(first, first + _CHUNK))

        def with_pairs(max_pairs: int | None) -> Sightings:
            roomy = dataclasses.replace(config, max_pairs=max_pairs)
            return draw_sightings(keys, studio, VIEWS, roomy)

        sightings, room = with_room(with_pairs, room)
        return jax.device_get(sightings)

    return draw


def _pairs(size: int) -> int:
    """Room for pairs: triangles fall into a tile each however small the picture is."""
    return int(_ROOM * 64 * max(64, size))


def _write_part(path: pathlib.Path, made: list[Sightings]) -> None:
    arrays = {name: np.concatenate([getattr(s, name) for s in made]) for name in People._fields}
    with files_io.replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def _read_part(path: pathlib.Path, size: int) -> People:
    arrays = files_io.read_arrays(path, "pictures of people")
    count = _PART, VIEWS
    shapes = {"rgb": (*count, size, size, 3), "angles": (*count, 3), "restyled": count}
    shapes["landmarks"] = (*count, 68, 2)
    for name, shape in shapes.items():
        if (found := np.shape(arrays.get(name))) != shape:
            raise ValueError(
                f"expected {_PART} people in {VIEWS} pictures of {size} pixels in {path}, found "
                f"{name} {found}"
            )
    return People(**{name: arrays[name] for name in People._fields})
