r"""Turns somebody's StyleGAN2 network into files that are read here.

--network is a pickle of stylegan2-ada-pytorch or stylegan3 (its networks of StyleGAN2), a pickle of
TensorFlow's stylegan2 and stylegan2-ada, or a `.pt` of rosinality's stylegan2-pytorch. Such pickles
carry programs: nothing in them is executed, neither torch nor TensorFlow is needed, and a file that
names anything beside networks is refused with that name. Into --out go

  generator.safetensors      the generator, its settings in the header
  generator.json             the same settings, and where it comes from
  discriminator.safetensors  with --discriminator
  samples.png                pictures it makes: look here first

The pictures are those that the official `generate.py --seeds=0-15 --trunc=0.7 --noise-mode=const`
makes of the same file; --samples, --psi and --seed (the first one) change that. A generator of
classes shows them in turn. What is made by other networks (StyleGAN3, generators of the kinds
"orig" and "resnet") is refused.

Examples:

  python -m scripts.import_stylegan --network=ffhq.pkl --out=out/ffhq
  python -m scripts.import_stylegan --network=network-snapshot-025000.pkl --which=G --discriminator
  python -m scripts.import_stylegan --network=stylegan2-ffhq-config-f.pt --samples=0

Exit status: 0 done; 2 bad input; 130 or 143 stopped.
"""

import dataclasses
import pathlib

import jax
import numpy as np
from absl import flags

from models.stylegan import stylegan_io
from models.stylegan.foreign_io import foreign_discriminator, foreign_generator, read_foreign
from models.stylegan.generator import Generator, map_latents, synthesize
from render import files_io, image_io
from render.image import area_downsample, contact_sheet
from scripts.shell import command
from scripts.shell.outputs_io import filling_folder

_NETWORK = flags.DEFINE_string("network", None, "File with the networks.", required=True)
_WHICH = flags.DEFINE_enum(
    "which", "G_ema", ("G_ema", "G"), "The average over the training's end, or its last state."
)
_DISCRIMINATOR = flags.DEFINE_bool("discriminator", False, "Write the discriminator too.")
_OUT = flags.DEFINE_string("out", "out/stylegan", "Folder to write.")
_SAMPLES = flags.DEFINE_integer("samples", 16, "Pictures to show; 0 for none.", 0, 1024)
_PSI = flags.DEFINE_float("psi", 0.7, "How far samples stay from the average, 1 is as they are.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the first sample.", 0, 2**31)

_BATCH = 4
_SIDE = 256  # pixels of a sample on the sheet, at most


def main() -> None:
    out = command.writable_folder(_OUT.value)
    file = read_foreign(_NETWORK.value)
    generator = foreign_generator(file, _WHICH.value)
    source = {"source": pathlib.Path(_NETWORK.value).name, "network": _WHICH.value}
    generator = generator._replace(facts=generator.facts | source)
    discriminator = None
    if _DISCRIMINATOR.value:
        discriminator = foreign_discriminator(file)
        facts = discriminator.facts | source | {"network": "D"}
        discriminator = discriminator._replace(facts=facts)
    sheet = _sheet(generator) if _SAMPLES.value else None
    with filling_folder(out) as folder:
        stylegan_io.write_generator(folder / "generator.safetensors", generator)
        settings = {"config": dataclasses.asdict(generator.config), "facts": generator.facts}
        files_io.write_json(folder / "generator.json", settings)
        if discriminator is not None:
            stylegan_io.write_discriminator(folder / "discriminator.safetensors", discriminator)
        if sheet is not None:
            image_io.write_image(folder / "samples.png", sheet)
    command.say(f"wrote {out}: {_summary(generator)}")


def _sheet(generator: Generator) -> np.ndarray:
    """Samples side by side, [H, W, 3] in [0, 1]."""
    config, count = generator.config, _SAMPLES.value
    params, buffers = jax.device_put((generator.params, generator.buffers))
    side = min(config.resolution, _SIDE)
    pictures = []
    with command.progress("drawing samples", total=-(-count // _BATCH)) as advance:
        for start in range(0, count, _BATCH):
            numbers = range(start, start + _BATCH)  # the last batch is filled up, and cut
            z = np.stack([_official_latent(_SEED.value + n, config.z_dim) for n in numbers])
            c = np.eye(config.c_dim, dtype=np.float32)
            c = c[np.array(numbers) % config.c_dim] if config.c_dim else None
            ws = map_latents(params, buffers, z, c, config, _PSI.value)
            images = np.asarray(synthesize(params, ws, buffers["noise"], config))
            images = np.clip(0.5 * images + 0.5, 0.0, 1.0)
            pictures += [area_downsample(image, side, side) for image in images]
            advance()
    grey = config.image_channels < 3
    shown = [picture[..., 0] if grey else picture[..., :3] for picture in pictures[:count]]
    return contact_sheet(shown, columns=int(np.ceil(np.sqrt(count))))


def _official_latent(seed: int, z_dim: int) -> np.ndarray:
    """What the official `generate.py` draws for a seed."""
    return np.random.RandomState(seed).randn(z_dim).astype(np.float32)


def _summary(generator: Generator) -> str:
    config = generator.config
    weights = sum(leaf.size for leaf in jax.tree.leaves(generator.params))
    classes = f", {config.c_dim} classes" if config.c_dim else ""
    return f"{_WHICH.value} of {config.resolution} px, {weights:,} weights{classes}"


if __name__ == "__main__":
    command.run(main)
