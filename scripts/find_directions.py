r"""Finds directions of a StyleGAN2's latent space: its principal ones, and what has a name.

Samples of W give its principal axes, along which pictures change most (GANSpace). For generators of
random people it is known what the latents mean, so that directions for the turn of the head, a
smile, age, skin, hair and more are learnt from exact labels (InterFaceGAN), each so that no other
label changes. Into --out go

  directions.safetensors  readings and edits by name, mean and axes of W
  components.png          a row a principal axis: samples moved by -2, -1, 0, 1, 2 deviations
  named.png               the same for what has a name
  metrics.json            how much of a label is linear in W, and how pictures changed

Examples:

  python -m scripts.find_directions --generator=heads --out=out/directions
  python -m scripts.find_directions --generator=G.safetensors --encoder=E.safetensors

An encoder judges pictures: what it reads in one that was edited by a deviation is held against what
was asked for (`changed`, 1 is all of it), against how much of that label it reads where nothing was
edited (`readable`), and against what changed beside it (`beside`, the largest of the other labels,
in deviations). `identity` is how alike who is seen before and after is: the
mean cosine of the face embedding that comes along (of two people it is about 0, `strangers`).

Exit status: 0 done; 2 bad input; 130 or 143 stopped.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import flags

from models.stylegan.directions import Directions, edited, fit_directions
from models.stylegan.directions_io import write_directions
from models.stylegan.generator import Generator, map_latents
from models.stylegan.latents import LatentStatistics
from models.stylegan.stylegan_io import load_generator
from render import files_io
from scripts.generators import labels, readings, sheets
from scripts.shell import command
from scripts.shell.identity import load_face_id
from scripts.shell.outputs_io import filling_folder

_GENERATOR = flags.DEFINE_string(
    "generator", None, "A file, or the name of one that comes along.", required=True
)
_ENCODER = flags.DEFINE_string(
    "encoder", None, "File of `train_encoder`, or none; by default what came with the generator."
)
_OUT = flags.DEFINE_string("out", "out/directions", "Folder to write.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the samples.", 0, 2**31)

_STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)  # deviations
_COMPONENTS, _SHOWN, _JUDGED = 12, 3, 50  # axes and samples on the sheets; samples that are judged


def main() -> None:
    out = command.writable_folder(_OUT.value)
    generator = load_generator(_GENERATOR.value)
    encoder = readings.load_encoder_of(_GENERATOR.value, _ENCODER.value, generator.config)
    if generator.config.c_dim:
        raise ValueError(
            f"expected a generator without labels, found one of {generator.config.c_dim}"
        )
    key = jax.random.key(_SEED.value)
    with command.progress("samples of W"):
        statistics = labels.statistics_of(key, generator)
        if labels.is_of_people(generator):
            directions = labels.named_directions(generator, _SEED.value)
        else:
            directions = fit_directions(np.zeros((2, generator.config.w_dim)), {})
    z = np.random.default_rng([_SEED.value, 1]).normal(size=(_JUDGED, generator.config.z_dim))
    ws = map_latents(generator.params, generator.buffers, np.float32(z), None, generator.config)
    ws = np.asarray(ws)
    explained = dict(zip(directions.names, map(float, directions.explained), strict=True))
    spread = np.asarray(statistics.deviations, np.float64) ** 2
    report: dict[str, Any] = {
        "linear_share": explained,
        "components_share": (np.cumsum(spread)[:_COMPONENTS] / spread.sum()).tolist(),
    }
    with command.progress("judging"):
        if encoder is not None and directions.names:
            report["judged"] = readings.judge_edits(generator, encoder, directions, ws)
        if directions.names and (embed := load_face_id()) is not None:
            identity, strangers = readings.judge_identity(generator, embed, directions, ws)
            report |= {"identity": identity, "strangers": strangers}
    with filling_folder(out) as folder:
        write_directions(folder / "directions.safetensors", directions, statistics)
        _write_components(folder / "components.png", generator, statistics, ws[:_SHOWN])
        if directions.names:
            _write_named(folder / "named.png", generator, directions, ws[:_SHOWN])
        files_io.write_json(folder / "metrics.json", report)
    command.say(f"wrote {out}: {len(directions.names)} directions with a name")


def _write_components(
    path: pathlib.Path, generator: Generator, statistics: LatentStatistics, ws: np.ndarray
) -> None:
    steps = np.asarray(statistics.axes) * np.asarray(statistics.deviations)[:, None]
    moved = [w + amount * step for step in steps[:_COMPONENTS] for w in ws for amount in _STEPS]
    names = [f"axis {number + 1}" for number in range(len(steps[:_COMPONENTS]))]
    _write_rows(path, generator, np.stack(moved), names)


def _write_named(
    path: pathlib.Path, generator: Generator, directions: Directions, ws: np.ndarray
) -> None:
    moved = [
        edited(w[None], directions, name, amount * float(deviation))[0]
        for name, deviation in zip(directions.names, directions.deviations, strict=True)
        for w in ws
        for amount in _STEPS
    ]
    _write_rows(path, generator, np.stack(moved), directions.names)


def _write_rows(
    path: pathlib.Path, generator: Generator, ws: np.ndarray, names: Sequence[str]
) -> None:
    pictures = readings.painted(generator, np.float32(ws))
    sheets.write_sheet(path, pictures, _SHOWN * len(_STEPS), names)


if __name__ == "__main__":
    command.run(main)
