"""Generators that commands load, and what the numbers of their latents are called.

Labels are known of generators that were taught random people.
"""

import jax
import numpy as np

from models.stylegan.directions import Directions, fit_directions
from models.stylegan.generator import Generator, map_latents
from models.stylegan.latents import LatentStatistics, latent_statistics, sample_latents
from models.stylegan.stylegan_io import load_generator
from recon.looks.latent_people import BLOCKS, LATENT_SIZE, pose_of_latent

# Of blocks of several numbers, those that have a name of their own.
_PARTS = {
    "origin": ("asian", "african"),
    "cloth": ("cloth_light", "cloth_red", "cloth_blue"),
    "background": ("background_light", "background_red", "background_blue"),
}
_SAMPLES = 10_000
POSE = ("yaw", "pitch")  # in degrees; all other labels are deviations


def load_coloured(name: str) -> Generator:
    """Loads a generator, by its file or name, that paints coloured pictures of latents alone.

    Raises:
      ValueError: in one line, when it is none.
    """
    generator = load_generator(name)
    channels, c_dim = generator.config.image_channels, generator.config.c_dim
    if channels != 3 or c_dim:
        raise ValueError(
            f"expected a generator of coloured pictures without labels, found {channels} channels "
            f"and labels of {c_dim} in {name}"
        )
    return generator


def is_of_people(generator: Generator) -> bool:
    """Whether it is known what each number of a generator's z means.

    Raises:
      ValueError: it was taught people whose latents are read in another way than they are now.
    """
    if generator.facts.get("pictures") != "random people":
        return False
    blocks = {name: [block.start, block.stop] for name, block in BLOCKS.items()}
    if generator.facts.get("latent_blocks") != blocks or generator.config.z_dim != LATENT_SIZE:
        raise ValueError(
            f"expected a generator of people whose {LATENT_SIZE} numbers mean what they do now, "
            f"found one of {generator.config.z_dim} with other latent_blocks"
        )
    return True


def labels_of(z: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what latents [N, z_dim] mean: numbers [N] by name."""
    unit = z / np.sqrt(np.mean(z**2, 1, keepdims=True))
    labels = dict(zip(POSE, np.degrees(np.asarray(pose_of_latent(z))).T, strict=True))
    for name, block in BLOCKS.items():
        names = _PARTS.get(name, (name,) if block.stop - block.start == 1 else ())
        labels |= {n: unit[:, block.start + i] for i, n in enumerate(names) if n not in POSE}
    return labels


def named_directions(generator: Generator, seed: int = 0) -> Directions:
    """Learns the directions of all labels; the generator is one of people."""
    rng = np.random.default_rng([seed, _SAMPLES])
    z = rng.normal(size=(_SAMPLES, generator.config.z_dim)).astype(np.float32)
    ws = map_latents(generator.params, generator.buffers, z, None, generator.config)
    return fit_directions(np.asarray(ws[:, 0]), labels_of(z))


def statistics_of(key: jax.Array, generator: Generator) -> LatentStatistics:
    """Returns how samples fill W."""
    return latent_statistics(sample_latents(key, generator, _SAMPLES))
