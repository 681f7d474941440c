"""Pools of pictures, and a generator, that only a test would take for those of random people."""

import jax
import numpy as np

from models.stylegan.config import GeneratorConfig
from models.stylegan.generator import init_generator
from models.stylegan.regression import affine_start
from recon.looks.latent_people import BLOCKS, LATENT_SIZE
from recon.looks.studio import LABELS
from scripts.generators import pool_io
from scripts.identities.sightings_io import VIEWS

TINY_GENERATOR = GeneratorConfig(
    16, (4, 4, 4), z_dim=LATENT_SIZE, w_dim=LATENT_SIZE, mapping_layers=1
)


def write_heads(folder, side, part, first):
    """A part of a pool of heads whose latents are known: grey, shaded by how they are turned."""
    z = np.stack([pool_io.latent_of(0, first + n) for n in range(part)])
    yaw = np.tanh(z[:, BLOCKS["yaw"]])[..., None]
    shade = np.clip(128 + 90 * yaw * np.linspace(-1, 1, side), 0, 255)
    grey = np.broadcast_to(shade, (part, side, side)).astype(np.uint8)
    label = np.arange(side**2).reshape(side, side) % len(LABELS)
    np.savez_compressed(
        folder / f"heads-{side}-seed0-{first:06d}.npz",
        rgb=np.stack([grey] * 3, -1),
        alpha=np.full_like(grey, 255),
        label=np.broadcast_to(label, grey.shape).astype(np.uint8),
    )


def write_people(folder, side, part, first):
    """A part of a pool of people in several pictures each: noise around a colour of their own."""
    rng = np.random.default_rng(first)
    color = rng.integers(60, 200, (part, 1, 1, 1, 3), np.int16)
    tile = rng.integers(-20, 20, (part, VIEWS, side, 16, 3), np.int8)  # tiles take little space
    noise = np.tile(tile, (1, 1, 1, side // 16, 1))
    face = np.stack(np.meshgrid(np.arange(9.0), np.arange(8.0)), -1).reshape(-1, 2)[:68]
    np.savez_compressed(
        folder / f"people-{side}-seed0-{first:06d}.npz",
        rgb=np.uint8(color + noise),
        angles=rng.uniform(-0.7, 0.7, (part, VIEWS, 3)),
        restyled=rng.random((part, VIEWS)) < 0.5,
        landmarks=np.broadcast_to((0.2 + 0.06 * face) * side, (part, VIEWS, 68, 2)),
    )


def people_generator(config=TINY_GENERATOR):
    """A generator that was taught nothing, but says what its latents mean."""
    generator = init_generator(jax.random.key(0), config)
    params = affine_start(jax.random.key(1), generator.params, config)
    blocks = {name: [block.start, block.stop] for name, block in BLOCKS.items()}
    facts = {"pictures": "random people", "latent_blocks": blocks}
    return generator._replace(params=params, facts=facts)
