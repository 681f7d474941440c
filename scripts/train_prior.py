r"""Teaches a small video prior how things of one family move, from simulations made on the way.

--family says which: `stalk` (stands on the floor, is hit, sways), `block` (likewise, but broad) or
`drop` (falls, squashes, bounces). Random scenes are simulated at random stiffness, filmed in
colours that only say where matter rests, and a network learns what such clips look like at a
stiffness that it is told.
DreamPhysics' idea then needs no download: `soft`, `rubber` and `stiff` are bands of that number.
What it knows is the world of these simulations, and nothing of the real one. Into --out go

  prior.safetensors   the prior, float16, with its settings
  forces.png          held-out scenes: how the prior pushes each stiffness, towards three bands
  clips.png           what it believes, beside what was simulated: look here first
  metrics.json        relative errors and forces of held-out scenes, and how they grew
  metrics.csv         loss and scores, row by row while it learns
  config.json         every setting of this run
  checkpoint.safetensors   what the same command goes on from
  clips/              the simulated clips, unless --clips says where

Examples (the second to fourth make what comes along, in an hour on two cores each):

  python -m scripts.train_prior --preset=ci --num_clips=300 --out=out/first_look
  python -m scripts.train_prior --family=stalk --preset=cpu --out=out/stalk
  python -m scripts.train_prior --family=block --num_clips=2500 --steps=5000 --out=out/block
  python -m scripts.train_prior --family=drop --num_clips=2500 --steps=4500 --out=out/drop
  python -m scripts.train_prior --sample --prior=stalk --out=out/believed

--sample trains nothing: it draws clips from --prior (the name of a family whose prior comes along,
or a file) and writes one video per band, `soft.mp4`, `rubber.mp4`, `stiff.mp4`, each of eight
scenes that it was not taught.

A training that was ended by Ctrl-C, SIGTERM or otherwise goes on when the same command is given
again. A prior is fit to learn from when its relative error of held-out clips at noise of sigma 4 is
below 0.15; the last line says whether it is.

Exit status: 0 done; 2 bad input; 1 the training diverged; 130 or 143 stopped.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
from absl import flags

from models.diffusion.motion_dit import DitConfig
from models.diffusion.motion_prior import MotionPrior, PriorConfig
from models.diffusion.motion_prior_io import load_prior, write_prior
from models.diffusion.motion_training import (
    PRESETS,
    Batch,
    PriorReport,
    PriorState,
    PriorTraining,
    init_prior,
    train_prior_step,
)
from models.diffusion.words import BANDS
from render import files_io
from scripts.priors import clips_io, judge, show
from scripts.priors.clips_io import Clips
from scripts.shell import command, stopping, training
from scripts.shell.training import LoopConfig, Run
from sim.families.family import FAMILIES, Family
from sim.motion_video import mirror_video

_FAMILY = flags.DEFINE_enum("family", "stalk", sorted(FAMILIES), "Kind of motion.")
_PRESET = flags.DEFINE_enum("preset", "cpu", sorted(PRESETS), "Length of the training.")
_OUT = flags.DEFINE_string("out", "out/prior", "Folder to write.")
_CLIPS = flags.DEFINE_string("clips", None, "Folder of the clips; OUT/clips by default.")
_NUM_CLIPS = flags.DEFINE_integer("num_clips", 3000, "Clips to learn from.", 1)
_SCENES = flags.DEFINE_integer("scenes", 12, "Held-out scenes whose forces are drawn.", 1, 100)
_STEPS = flags.DEFINE_integer("steps", None, "Steps of the training; the preset's by default.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the start, the batches and the noise.")
_SAMPLE = flags.DEFINE_bool("sample", False, "Only draw clips from --prior.")
_PRIOR = flags.DEFINE_string("prior", None, "For --sample: a family's name, or a file.")
_EVALUATE_EVERY = flags.DEFINE_integer("evaluate_every", 500, "Steps between judgements.", 1)

_FORCES_EVERY = 4  # judgements between looks at the forces, which take a minute


def main() -> None:
    out = command.writable_folder(_OUT.value)
    if _SAMPLE.value:
        _write_samples(out)
        return
    family = FAMILIES[_FAMILY.value]
    how = PRESETS[_PRESET.value]
    if _STEPS.value:
        how = dataclasses.replace(how, steps=_STEPS.value)
    folder = pathlib.Path(_CLIPS.value or out / "clips")
    clips, held_out = clips_io.make_clips(folder, family, _NUM_CLIPS.value)
    scans = clips_io.make_scans(folder, family, range(_SCENES.value))
    config = prior_config(family, clips)
    key = jax.random.key(_SEED.value)
    settings = {
        "seed": _SEED.value,
        "num_clips": _NUM_CLIPS.value,
        "prior": config,
        "training": how,
    }
    run = training.open_run(out, settings, lambda: init_prior(key, config, how))
    command.say(f"{len(clips.videos)} clips to learn from, {len(held_out.videos)} held out")

    def step(state: PriorState, batch: Batch, share: float) -> tuple[PriorState, PriorReport]:
        return train_prior_step(key, state, batch, np.float32(share), config, how)

    def evaluate(state: PriorState) -> dict[str, float]:
        scores = judge.errors(key, state.averaged, held_out, config)
        if int(state.step) % (_FORCES_EVERY * _EVALUATE_EVERY.value) == 0:
            prior = MotionPrior(state.averaged, config)
            scores |= judge.judge_forces(key, prior, scans, family.bands).scores
        return scores

    loop = LoopConfig(how.steps, evaluate_every=_EVALUATE_EVERY.value)
    with stopping.noted() as stop:
        run = training.train(
            run, step, lambda number: draw_batch(clips, number, how), evaluate, out, loop
        )
        prior = MotionPrior(run.state.averaged, config)
        report = _report(run, prior, held_out, scans, family, out)
        write_prior(out / "prior.safetensors", prior, _facts(report, how))
        stop.keep(f"{out / 'prior.safetensors'}")
    error = report["error_4"]
    verdict = "fit to learn from" if report["gate_passed"] else f"not below {judge.GATE}: train on"
    command.say(f"wrote {out / 'prior.safetensors'}: relative error {error:.3f}, {verdict}")


def draw_batch(clips: Clips, number: int, how: PriorTraining) -> Batch:
    """The clips of a step, half of them mirrored; a function of the seed and the step alone."""
    rng = np.random.default_rng([_SEED.value, number])
    chosen = rng.integers(len(clips.videos), size=how.batch)
    videos = clips.videos[chosen]
    is_mirrored = rng.random(how.batch) < 0.5
    videos[is_mirrored] = mirror_video(videos[is_mirrored])
    return Batch(clips_io.to_floats(videos), clips.log10_modulus[chosen])


def prior_config(family: Family, clips: Clips) -> PriorConfig:
    """The shape of a family's prior; how far its clips move is measured on some of them."""
    some = clips_io.to_floats(clips.videos[:300])
    deviation = float(f"{np.sqrt(np.mean((some[:, 1:] - some[:, :1]) ** 2)):.3g}")
    num_frames = family.timing.num_frames
    dit = DitConfig(num_frames, family.size, span=num_frames)
    return PriorConfig(family.name, deviation, family.log10_range, dit=dit)


def _report(
    run: Run, prior: MotionPrior, held_out: Clips, scans: Any, family: Family, out: pathlib.Path
) -> dict[str, Any]:
    """Judges the prior, draws the pictures, writes metrics.json."""
    key = jax.random.key(_SEED.value)
    scores = judge.errors(key, prior.params, held_out, prior.config)
    found = judge.judge_forces(key, prior, scans, family.bands)
    show.draw_forces(out / "forces.png", found, family.bands)
    show.draw_clips(key, out / "clips.png", prior, scans, family)
    report = {
        "family": family.name,
        "gate_passed": scores["error_4"] <= judge.GATE,
        **scores,
        **found.scores,
        "scene_errors": found.scene_errors.round(4).tolist(),
        "null_zeros": show.null_zeros(found),
        "num_clips": _NUM_CLIPS.value,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(prior.params)),
        "steps": int(run.state.step),
        "seconds": run.seconds,
        "history": [row for row in run.history if "error_4" in row],
    }
    files_io.write_json(out / "metrics.json", report)
    return report


def _facts(report: dict[str, Any], how: PriorTraining) -> dict[str, Any]:
    kept = ("error_2", "error_4", "error_8", "right_signs", "num_clips", "steps", "seconds")
    return {name: report[name] for name in kept} | {"seed": _SEED.value, "batch": how.batch}


def _write_samples(out: pathlib.Path) -> None:
    if _PRIOR.value is None:
        raise ValueError("expected --prior with --sample: a family's name or a file, found none")
    prior = load_prior(_PRIOR.value)
    family, key = FAMILIES[prior.config.family], jax.random.key(_SEED.value)
    with command.progress("clips", len(BANDS)) as advance:
        for word, band in BANDS.items():
            show.write_believed(key, out, word, band, prior, family)
            advance()
    command.say(
        f"wrote {', '.join(f'{word}.mp4' for word in BANDS)} in {out}, a picture beside each"
    )


if __name__ == "__main__":
    command.run(main)
