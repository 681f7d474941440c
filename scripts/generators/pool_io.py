"""A pool of pictures whose latents are known, in parts that a stopped run keeps.

Latent n follows from the seed and from n alone, so that it does not matter how often a run was
stopped. The first part is held out from training.

  pool/heads-64-seed0-000500.npz   of 500 numbers: rgb, alpha, label

Axes: N pictures; H, W sides.
"""

import dataclasses
import pathlib
from typing import NamedTuple

import numpy as np

from recon.assets import load_model
from recon.looks import looks_io
from recon.looks.latent_cast import build_latent_cast
from recon.looks.latent_people import LATENT_SIZE
from recon.looks.latent_pictures import LatentPicture, draw_latents
from recon.looks.picture import PictureConfig
from recon.looks.studio import BACKGROUND, BROWS, CLOTHES, EYES, LABELS, LIPS, MOUTH, build_studio
from render import files_io
from render.frames import with_room
from scripts.shell.pools import draw_missing
from scripts.shell.prepared_io import prepared

HELD_OUT = 500  # the first latents are never learnt from
_PART, _CHUNK = 500, 50  # pictures of a file, and of a call
_TEXTURE = 256  # of pictures of 64 pixels; below it, brows vanish
_ROOM = 7.0  # pairs of triangle and tile, a pixel
# What a pixel counts: few of them are a face, and fewer its eyes and mouth.
_WEIGHTS = np.full(len(LABELS), 3.0, np.float32)
_WEIGHTS[[BACKGROUND, CLOTHES]] = 1.0
_WEIGHTS[[EYES, BROWS, LIPS, MOUTH]] = 5.0


class Pool(NamedTuple):
    """Pictures and the latents that they show."""

    z: np.ndarray  # [N, 64]
    rgb: np.ndarray  # [N, H, W, 3] uint8 sRGB
    alpha: np.ndarray  # [N, H, W] uint8
    label: np.ndarray  # [N, H, W] uint8 of LABELS


def latent_of(seed: int, number: int) -> np.ndarray:
    """Returns latent [64] of a number."""
    return np.random.default_rng([seed, number]).normal(size=LATENT_SIZE).astype(np.float32)


def make_pool(folder: pathlib.Path, count: int, seed: int, size: int) -> tuple[Pool, Pool]:
    """Returns `count` pictures to learn from and those held out; draws what the folder lacks.

    Args:
      folder: of the pool, made when missing.
      count: pictures to learn from.
      seed: of the latents.
      size: of the pictures, pixels.
    """
    numbers = list(range(0, HELD_OUT + count, _PART))
    paths = {n: folder / f"heads-{size}-seed{seed}-{n:06d}.npz" for n in numbers}
    draw_missing(paths, _PART, _CHUNK, lambda: _drawing(seed, size), _write_part, "heads")
    parts = [_read_part(paths[n], seed, n, size) for n in numbers]
    held_out, *rest = parts
    learnt = Pool(*(np.concatenate(values)[:count] for values in zip(*rest, strict=True)))
    return learnt, held_out


def pixel_weights(label: np.ndarray) -> np.ndarray:
    """Returns what each pixel [N, H, W] counts, by its label."""
    return _WEIGHTS[label]


def _drawing(seed: int, size: int):
    """Makes the function that draws the latents from a number on."""
    looks = looks_io.load_looks()
    texture = max(_TEXTURE, 4 * size)
    studio = prepared(build_studio, load_model(), looks, looks_io.load_traits(), texture)
    cast = build_latent_cast(studio.casting, studio.albedo_model, looks)
    config = PictureConfig(size, size, samples=2, layers=3, max_pairs=int(_ROOM * size * size))

    def draw(first: int) -> LatentPicture:
        z = np.stack([latent_of(seed, first + i) for i in range(_CHUNK)])

        def with_pairs(max_pairs: int | None) -> LatentPicture:
            roomy = dataclasses.replace(config, max_pairs=max_pairs)
            return draw_latents(studio, cast, z, roomy)

        return with_room(with_pairs, config.max_pairs)[0]

    return draw


def _write_part(path: pathlib.Path, made: list[LatentPicture]) -> None:
    fields = ("rgb", "alpha", "label")
    arrays = {name: np.concatenate([np.asarray(getattr(p, name)) for p in made]) for name in fields}
    with files_io.replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def _read_part(path: pathlib.Path, seed: int, first: int, size: int) -> Pool:
    z = np.stack([latent_of(seed, first + i) for i in range(_PART)])
    arrays = files_io.read_arrays(path, "pictures of heads")
    shapes = {"rgb": (_PART, size, size, 3), "alpha": (_PART, size, size)}
    shapes["label"] = shapes["alpha"]
    for name, shape in shapes.items():
        found = arrays.get(name, np.zeros(0))
        if found.shape != shape or found.dtype != np.uint8:
            raise ValueError(
                f"expected {_PART} pictures of {size} pixels in {path}, found {name} "
                f"{found.shape} of {found.dtype}"
            )
    if arrays["label"].max() >= len(LABELS):
        raise ValueError(f"expected labels below {len(LABELS)} in {path}, found larger ones")
    return Pool(z, arrays["rgb"], arrays["alpha"], arrays["label"])
