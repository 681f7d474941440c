r"""Trains an encoder of a StyleGAN2 generator: pictures to latents, in one pass.

The generator's own pictures, whose latents are known, teach it; of a generator of random people
their renders do too, so that it reads pictures that no generator has made. Then a refinement on top
of it is taught by the pictures that its latents give. Into --out go

  encoder.safetensors     the encoder, with the statistics of W
  sheet.png               held-out pictures above what the generator makes of their latents
  metrics.json            scores of held-out pictures
  metrics.csv             loss and scores, row by row while it learns
  config.json             every setting of this run
  checkpoint.safetensors  what the same command goes on from

Examples:

  python -m scripts.train_encoder --generator=out/heads/generator.safetensors \
      --pool=out/heads/pool --out=out/encoder
  python -m scripts.train_encoder --generator=G.safetensors --preset=gpu --out=out/encoder

--pool is the folder of people's pictures that the generator was taught on; what it lacks is drawn.
A training that was ended goes on when the same command is given again.

Exit status: 0 done; 2 bad input; 1 the training diverged; 130 or 143 stopped.
"""

import pathlib
from typing import Any

import jax
import numpy as np
from absl import flags

from models.stylegan import encoder as encoder_lib
from models.stylegan.encoder import EncoderBatch, EncoderState, TrainedEncoder, encode_latents
from models.stylegan.encoder_io import write_encoder
from models.stylegan.generator import Generator, map_latents
from models.stylegan.inversion import psnr_db
from render import files_io
from scripts.generators import judge, labels, pool_io, readings, sheets
from scripts.generators.pool_io import Pool
from scripts.shell import command, stopping, training
from scripts.shell.training import LoopConfig

_GENERATOR = flags.DEFINE_string(
    "generator", None, "A file, or the name of one that comes along.", required=True
)
_POOL = flags.DEFINE_string("pool", None, "Folder of people's pictures; OUT/pool by default.")
_NUM_PICTURES = flags.DEFINE_integer("num_pictures", 30_000, "People to learn from.", 1)
_PRESET = flags.DEFINE_enum("preset", "cpu", sorted(encoder_lib.PRESETS), "Length of the training.")
_OUT = flags.DEFINE_string("out", "out/encoder", "Folder to write.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the start and the batches.", 0, 2**31)

_HELD_OUT, _ON_SHEET = 100, 32


def main() -> None:
    out = command.writable_folder(_OUT.value)
    generator = labels.load_coloured(_GENERATOR.value)
    config, how = generator.config, encoder_lib.PRESETS[_PRESET.value]
    shape, key = encoder_lib.encoder_config(config), jax.random.key(_SEED.value)
    pool, truth = _pictures(generator)
    statistics = labels.statistics_of(key, generator)
    settings = {
        "seed": _SEED.value,
        "generator_file": _GENERATOR.value,
        "pictures": 0 if pool is None else len(pool.z),
        "encoder": shape,
        "training": how,
    }
    run = training.open_run(out, settings, lambda: encoder_lib.init_encoder(key, shape))

    def batch_of(number: int) -> tuple[bool, EncoderBatch]:
        return number >= how.steps, encoder_batch(pool, number, how.batch, generator)

    def step(state: EncoderState, batch: tuple[bool, EncoderBatch], share: float) -> Any:
        del share
        refines, pictures = batch
        return encoder_lib.encoder_step(
            state, pictures, generator.params, statistics, config, shape, how, refines
        )

    def trained(state: EncoderState) -> TrainedEncoder:
        facts = {"seed": _SEED.value, "steps": int(state.step)}
        return TrainedEncoder(state.averaged, statistics, shape, facts)

    def evaluate(state: EncoderState) -> dict[str, float]:
        return _scores(trained(state), generator, *truth)[0]

    loop = LoopConfig(how.all_steps, evaluate_every=1000)
    with stopping.noted() as stop:
        run = training.train(run, step, batch_of, evaluate, out, loop)
        encoder = trained(run.state)
        scores, pictures = _scores(encoder, generator, *truth)
        encoder.facts["scores"] = scores
        write_encoder(out / "encoder.safetensors", encoder)
        sheets.write_pairs(out / "sheet.png", truth[0][:_ON_SHEET], pictures[:_ON_SHEET])
        files_io.write_json(out / "metrics.json", scores | {"seconds": run.seconds})
        stop.keep(f"{out / 'encoder.safetensors'}")
    command.say(f"wrote {out / 'encoder.safetensors'}: PSNR {scores['psnr_db']:.2f} dB")


def encoder_batch(pool: Pool | None, number: int, count: int, generator: Generator) -> EncoderBatch:
    """The latents and pictures of a step; a function of the seed and the step alone."""
    rng = np.random.default_rng([_SEED.value, number])
    own = count if pool is None else count // 2
    z = rng.normal(size=(own, generator.config.z_dim)).astype(np.float32)
    if pool is None:
        return EncoderBatch(z, None, None)
    chosen = np.sort(rng.integers(len(pool.z), size=count - own))
    images = judge.at_resolution(pool.rgb[chosen], generator.config.resolution)
    return EncoderBatch(z, images, pool.z[chosen])


def _pictures(generator: Generator) -> tuple[Pool | None, tuple[np.ndarray, np.ndarray]]:
    """Pictures to learn from; held-out ones [N, r, r, 3] and their latents [N, w]."""
    side = generator.config.resolution
    if labels.is_of_people(generator):
        folder = pathlib.Path(_POOL.value or pathlib.Path(_OUT.value) / "pool")
        pool, held_out = pool_io.make_pool(folder, _NUM_PICTURES.value, 0, max(side, 64))
        z = held_out.z[:_HELD_OUT]
        images = judge.at_resolution(held_out.rgb[:_HELD_OUT], side)
    else:
        rng = np.random.default_rng([_SEED.value, 2**31])
        pool, z = None, rng.normal(size=(_HELD_OUT, generator.config.z_dim)).astype(np.float32)
        images = np.clip(sheets.draw(generator, z), -1.0, 1.0)
    ws = map_latents(generator.params, generator.buffers, z, None, generator.config)
    return pool, (images, np.asarray(ws[:, 0]))


def _scores(
    encoder: TrainedEncoder, generator: Generator, images: np.ndarray, ws: np.ndarray
) -> tuple[dict[str, float], np.ndarray]:
    """Scores of held-out pictures, and what the generator makes of their latents."""
    params, statistics, config, _ = encoder
    found = encode_latents(params, images, statistics, config)
    pictures = readings.painted(generator, np.asarray(found.ws))
    coarse = readings.painted(generator, np.asarray(found.coarse))
    rest = np.sum((np.asarray(found.shared) - ws) ** 2)
    return {
        "psnr_db": float(np.mean(psnr_db(pictures, images))),
        "coarse_psnr_db": float(np.mean(psnr_db(coarse, images))),
        "latent_r2": float(1.0 - rest / np.sum((ws - ws.mean(0)) ** 2)),
    }, pictures


if __name__ == "__main__":
    command.run(main)
