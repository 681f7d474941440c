r"""Trains StyleGAN2: of random people whose latents are known, or of a folder of pictures.

--people draws heads first: a latent z of 64 normal numbers says by a fixed map who is seen, from
where and in which light, so that the generator can be taught by regression, through 16, 32 and 64
pixels. Two CPU cores are enough for that; they are not for the adversarial training that StyleGAN2
is known for. --images=DIR does the latter with any pictures. --start goes on from a generator: with
--people by more regression at its full size, with --adversarial as well by a discriminator that
sharpens it while latents keep what they mean. Into --out go

  generator.safetensors  the generator, with its settings and scores
  samples.png            random samples: look here first
  turns.png, film.mp4    heads that turn, and the way from latent to latent (of people: z is known)
  sheets/                renders above what the generator made of the same latents, as it learns
  metrics.json           scores of held-out latents, and how they grew
  metrics.csv            loss and scores, row by row while it learns
  config.json            every setting of this run
  checkpoint.safetensors   what the same command goes on from
  pool/                  the pictures of people, unless --pool says where

Examples (the second and the fourth made what comes along):

  python -m scripts.train_stylegan --people --preset=ci --num_pictures=1000 --out=out/look
  python -m scripts.train_stylegan --people --preset=cpu --out=out/heads
  python -m scripts.train_stylegan --people --start=out/heads/generator.safetensors --out=out/more
  python -m scripts.train_stylegan --people --adversarial \
      --start=out/heads/generator.safetensors --out=out/sharp
  python -m scripts.train_stylegan --images=photos --preset=gpu --resolution=128 --out=out/photos

Pictures of a folder are cut to their middle square. `frechet` is a distance of features of our own
between made and real pictures: it falls as a training gets on, and compares runs at one resolution;
it is not the FID of papers. The share of people that a detector finds a face in is `faces_found`.

A training that was ended by Ctrl-C, SIGTERM or otherwise goes on when the same command is given
again; a folder with a training of other settings is refused. With several devices each takes its
share of a batch.

Exit status: 0 done; 2 bad input; 1 the training diverged; 130 or 143 stopped.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
from absl import flags

from models.devices import on_each_device, over_devices
from models.stylegan import regression, train
from models.stylegan.config import DiscriminatorConfig, GeneratorConfig, channels_of
from models.stylegan.generator import Generator, init_generator
from models.stylegan.regression import RegressionBatch, RegressionState
from models.stylegan.stylegan_io import write_generator
from models.stylegan.train import PRESETS, StyleganPreset, StyleganState
from recon.looks.latent_people import BLOCKS
from render import files_io
from scripts.generators import judge, labels, photos_io, pool_io, sheets
from scripts.generators.pool_io import Pool
from scripts.shell import command, stopping, training
from scripts.shell.training import LoopConfig, Run

_PEOPLE = flags.DEFINE_bool("people", False, "Learn random people.")
_IMAGES = flags.DEFINE_string("images", None, "Learn the pictures of this folder.")
_START = flags.DEFINE_string("start", None, "Generator to go on from: a file, or heads.")
_ADVERSARIAL = flags.DEFINE_bool(
    "adversarial", False, "With --people: teach --start by a discriminator, and its pictures."
)
_PRESET = flags.DEFINE_enum("preset", "cpu", sorted(PRESETS), "Size and length of the training.")
_OUT = flags.DEFINE_string("out", "out/stylegan", "Folder to write.")
_POOL = flags.DEFINE_string("pool", None, "Folder of people's pictures; OUT/pool by default.")
_NUM_PICTURES = flags.DEFINE_integer("num_pictures", 30_000, "People to learn from.", 2)
_RESOLUTION = flags.DEFINE_integer(
    "resolution",
    None,
    "Of pictures with --images: a power of two; the preset's by default.",
    16,
    1024,
)
_STEPS = flags.DEFINE_integer(
    "steps", None, "With --start or --images; the preset's by default.", 1
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the start, the people and the batches.", 0, 2**31)
_EVALUATE_EVERY = flags.DEFINE_integer("evaluate_every", 500, "Steps between judgements.", 1)

_PAIRED = 10.0  # weight of the pictures' error in an adversarial training that starts from one
_ON_SHEET = 64


def main() -> None:
    out = command.writable_folder(_OUT.value)
    if _PEOPLE.value == bool(_IMAGES.value):
        raise ValueError("expected either --people or --images, found both or neither")
    if _ADVERSARIAL.value and _PEOPLE.value and not _START.value:
        raise ValueError("expected --start with --people --adversarial, found none")
    if _STEPS.value and _PEOPLE.value and not _START.value:
        raise ValueError("expected --steps with --start or --images: people have the preset's")
    if _POOL.value and not _PEOPLE.value:
        raise ValueError("expected --pool with --people only")
    preset = _chosen()
    if _PEOPLE.value and not _ADVERSARIAL.value:
        _learn_by_regression(out, preset)
    else:
        _learn_adversarially(out, preset)


def _chosen() -> StyleganPreset:
    """The preset, and what flags say otherwise."""
    preset = PRESETS[_PRESET.value]
    if _RESOLUTION.value:
        if _PEOPLE.value:
            raise ValueError("expected --resolution with --images only: people have the preset's")
        base = preset.generator.channels[-1] * preset.generator.resolution
        channels = channels_of(_RESOLUTION.value, base, max(preset.generator.channels))
        shape = {"resolution": _RESOLUTION.value, "channels": channels}
        preset = preset._replace(
            generator=dataclasses.replace(preset.generator, **shape),
            discriminator=dataclasses.replace(preset.discriminator, **shape),
        )
    how = preset.adversarial
    if _STEPS.value:
        how = dataclasses.replace(how, steps=_STEPS.value)
    if _PEOPLE.value:
        # What latents mean is kept, so nothing may be drawn beside them.
        kept = {"mixing": 0.0, "is_noisy": False, "holds_mapping": True, "path_weight": 0.0}
        how = dataclasses.replace(how, paired=_PAIRED, generator_rate=1e-3, **kept)
    return preset._replace(adversarial=how)


def _pool(resolution: int) -> tuple[Pool, Pool]:
    folder = pathlib.Path(_POOL.value or pathlib.Path(_OUT.value) / "pool")
    learnt, held_out = pool_io.make_pool(folder, _NUM_PICTURES.value, _SEED.value, resolution)
    command.say(f"{len(learnt.z)} heads to learn from, {len(held_out.z)} held out")
    return learnt, held_out


def draw_heads(pool: Pool, number: int, count: int, resolution: int) -> RegressionBatch:
    """The heads of a step; a function of the seed and the step alone."""
    rng = np.random.default_rng([_SEED.value, number])
    chosen = np.sort(rng.integers(len(pool.z), size=count))
    weights = pool_io.pixel_weights(pool.label[chosen])
    return RegressionBatch(
        pool.z[chosen],
        judge.at_resolution(pool.rgb[chosen], resolution),
        judge.averaged(weights, resolution),
    )


def _learn_by_regression(out: pathlib.Path, preset: StyleganPreset) -> None:
    config, how, start = preset.generator, preset.regression, None
    if _START.value:
        start = _start(preset)
        config, last = start.config, how.stages[-1]
        steps = _STEPS.value or last.steps
        last = dataclasses.replace(last, resolution=config.resolution, steps=steps)
        how = dataclasses.replace(how, stages=(last,))
    learnt, held_out = _pool(config.resolution)
    key = jax.random.key(_SEED.value)
    settings = {
        "seed": _SEED.value,
        "num_pictures": _NUM_PICTURES.value,
        "generator": config,
        "training": how,
    }
    if start is not None:
        settings["start"] = _START.value
    run = training.open_run(out, settings, lambda: regression.init_regression(key, config, start))
    references: dict[int, judge.HeldOut] = {}

    def batch_of(number: int) -> RegressionBatch:
        stage = how.stage_of(number)
        return over_devices(draw_heads(learnt, number, stage.batch, stage.resolution))

    def step(state: RegressionState, batch: RegressionBatch, share: float) -> Any:
        return regression.regression_step(state, batch, np.float32(share), config, how)

    def evaluate(state: RegressionState) -> dict[str, float]:
        number = int(state.step)
        resolution = how.stage_of(number - 1).resolution
        if resolution not in references:
            references[resolution] = judge.make_reference(learnt, held_out, resolution)
        reference = references[resolution]
        generator = regression.regression_generator(_on_one(state), config, {})
        pictures = sheets.draw(generator, reference.z, resolution)
        shown = slice(0, _ON_SHEET // 2)
        path = out / "sheets" / f"{resolution:03d}_{number:06d}.png"
        sheets.write_pairs(path, reference.images[shown], pictures[shown])
        return {"resolution": resolution} | judge.judge_heads(pictures, reference)

    loop = LoopConfig(how.steps, evaluate_every=_EVALUATE_EVERY.value)
    with stopping.noted() as stop:
        run = run._replace(state=on_each_device(run.state))
        run = training.train(run, step, batch_of, evaluate, out, loop)
        generator = regression.regression_generator(_on_one(run.state), config, {})
        reference = judge.make_reference(learnt, held_out, config.resolution)
        _finish(out, generator, run, _scores_of_people(generator, reference), "regression", stop)


def _learn_adversarially(out: pathlib.Path, preset: StyleganPreset) -> None:
    how, discriminator, key = preset.adversarial, preset.discriminator, jax.random.key(_SEED.value)
    start = _start(preset)
    config = start.config
    if discriminator.resolution != config.resolution:
        discriminator = DiscriminatorConfig(config.resolution, config.channels)
    pool = reference = None
    if _PEOPLE.value:
        pool, held_out = _pool(config.resolution)
        reference = judge.make_reference(pool, held_out, config.resolution)
        rgb = pool.rgb
    else:
        rgb = photos_io.read_squares(_IMAGES.value, config.resolution)
        command.say(f"{len(rgb)} pictures of {config.resolution} x {config.resolution}")
    settings = {
        "seed": _SEED.value,
        "pictures": len(rgb),
        "start": _START.value,
        "generator": config,
        "discriminator": discriminator,
        "training": how,
    }
    run = training.open_run(
        out, settings, lambda: train.init_stylegan(key, start, discriminator, how)
    )
    real = judge.features_of(
        judge.at_resolution(rgb[:: max(1, len(rgb) // 2000)], config.resolution)
    )

    def batch_of(number: int) -> RegressionBatch:
        if pool is not None:
            return over_devices(draw_heads(pool, number, how.batch, config.resolution))
        return over_devices(_draw_images(rgb, number, how.batch, config))

    def step(state: StyleganState, batch: RegressionBatch, share: float) -> Any:
        del share
        return train.train_stylegan_step(key, state, batch, config, discriminator, how)

    def evaluate(state: StyleganState) -> dict[str, float]:
        generator = train.averaged_generator(_on_one(state), start, {})
        z = _sample_latents(config, 500) if reference is None else reference.z
        pictures = sheets.draw(generator, z)
        path = out / "sheets" / f"{config.resolution:03d}_{int(state.step):06d}.png"
        sheets.write_sheet(path, pictures[:_ON_SHEET])
        if reference is not None:
            return judge.judge_heads(pictures, reference)
        return {"frechet": judge.distance(pictures, real)}

    loop = LoopConfig(how.steps, evaluate_every=_EVALUATE_EVERY.value)
    with stopping.noted() as stop:
        run = run._replace(state=on_each_device(run.state))
        run = training.train(run, step, batch_of, evaluate, out, loop)
        generator = train.averaged_generator(_on_one(run.state), start, {})
        if reference is not None:
            scores = _scores_of_people(generator, reference)
        else:
            scores = evaluate(run.state)
        _finish(out, generator, run, scores, "adversarial", stop)


def _start(preset: StyleganPreset) -> Generator:
    """The generator that --start names, or a new one."""
    if not _START.value:
        return init_generator(jax.random.key(_SEED.value), preset.generator)
    start = labels.load_coloured(_START.value)
    side = start.config.resolution
    if _RESOLUTION.value not in (None, side):
        raise ValueError(
            f"expected --resolution={side}, or none, with {_START.value}, found {_RESOLUTION.value}"
        )
    if _PEOPLE.value and not labels.is_of_people(start):
        raise ValueError(f"expected a generator of random people, found another in {_START.value}")
    return start


def _draw_images(
    rgb: np.ndarray, number: int, count: int, config: GeneratorConfig
) -> RegressionBatch:
    """Pictures, half of them mirrored, and latents of a step."""
    rng = np.random.default_rng([_SEED.value, number])
    images = judge.at_resolution(rgb[rng.integers(len(rgb), size=count)], config.resolution)
    is_mirrored = rng.random(count) < 0.5
    images[is_mirrored] = images[is_mirrored, :, ::-1]
    z = rng.normal(size=(count, config.z_dim)).astype(np.float32)
    return RegressionBatch(z, images, np.ones(images.shape[:3], np.float32))


def _sample_latents(config: GeneratorConfig, count: int) -> np.ndarray:
    rng = np.random.default_rng([_SEED.value, 2**31])
    return rng.normal(size=(count, config.z_dim)).astype(np.float32)


def _on_one(state: Any) -> Any:
    """The state on the first device."""
    return jax.device_put(jax.device_get(state), jax.devices()[0])


def _scores_of_people(generator: Generator, reference: judge.HeldOut) -> dict[str, float]:
    pictures = sheets.draw(generator, reference.z)
    scores = judge.judge_heads(pictures, reference)
    samples = sheets.draw(generator, _sample_latents(generator.config, 100))
    return scores | {
        "faces_found": judge.share_of_faces(samples),
        "faces_found_of_renders": judge.share_of_faces(reference.images),
    }


def _finish(
    out: pathlib.Path,
    generator: Generator,
    run: Run,
    scores: dict[str, float],
    how: str,
    stop: stopping.Stop,
) -> None:
    """Writes the generator, metrics.json and pictures; says what it is worth."""
    facts = {
        "training": how,
        "steps": int(run.state.step),
        "seconds": round(run.seconds),
        "seed": _SEED.value,
        "scores": scores,
    }
    if _PEOPLE.value:
        blocks = {name: [block.start, block.stop] for name, block in BLOCKS.items()}
        facts |= {"pictures": "random people", "latent_blocks": blocks}
    generator = generator._replace(facts=facts)
    write_generator(out / "generator.safetensors", generator)
    stop.keep(f"{out / 'generator.safetensors'}")
    z = _sample_latents(generator.config, _ON_SHEET)
    sheets.write_sheet(out / "samples.png", sheets.draw(generator, z), 8)
    if _PEOPLE.value:
        sheets.write_turns(out / "turns.png", generator, z)
    report = scores | {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(generator.params)),
        "steps": facts["steps"],
        "seconds": run.seconds,
        "history": [row for row in run.history if "frechet" in row],
    }
    text = f"frechet {scores['frechet']:.1f}"
    if _PEOPLE.value:
        missed = [name for name, least in judge.GATES.items() if scores[name] < least]
        report["gates_missed"] = missed
        text = f"PSNR {scores['psnr_db']:.2f} dB, " + (
            f"not yet good enough: {', '.join(missed)}" if missed else "all gates passed"
        )
    files_io.write_json(out / "metrics.json", report)
    sheets.write_interpolation(out / "film.mp4", generator, z)  # last: a stop leaves it out
    command.say(f"wrote {out / 'generator.safetensors'}: {text}")


if __name__ == "__main__":
    command.run(main)
