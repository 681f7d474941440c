r"""Teaches a small network who is who: an embedding of faces, from random people.

Each of them is drawn in several pictures: other poses, lights, faces made, clothes, often another
hairdo, at times dyed hair or a tan. The network learns to give the pictures of one person a common
direction. What it makes of a picture can be differentiated, so that an inversion or an edit can be
held to keep who is shown. It knows the people of these drawings: their skins vary less than real
ones, and so its cosines say little of photos. Into --out go

  face_id.safetensors   the embedding, float16, with its settings
  neighbours.png        people that it was not taught: each one's other pictures, the strangers that
                        it takes for most and for least alike. Look here first
  metrics.json          how well it tells strangers apart, beside dlib's descriptor; how it grew
  metrics.csv           loss and scores, row by row while it learns
  config.json           every setting of this run
  checkpoint.safetensors   what the same command goes on from
  pool/                 the drawn pictures, unless --pool says where

Examples (the second makes what comes along, in half an hour on a core):

  python -m scripts.train_face_id --preset=ci --num_people=100 --out=out/first_look
  python -m scripts.train_face_id --out=out/face_id

Scores are of held-out people: `auc` is the chance that two pictures of one person are more alike
than two of two people, `d_prime` how far the means of both lie apart, in deviations; `_turned` asks
the same of views whose yaws differ by more than 30 degrees, `_restyled` of different hairdos.
--judged people are drawn again in larger pictures for dlib's descriptor, which was taught real
people; its scores of the same pairs end in `_of_dlib`, and how the two agree is `_with_dlib`.

A training that was ended by Ctrl-C, SIGTERM or otherwise goes on when the same command is given
again; a folder with a training of other settings is refused.

Exit status: 0 done; 2 bad input; 1 the training diverged; 130 or 143 stopped.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
from absl import flags

from models.perception.face_id import FaceId, FaceIdConfig
from models.perception.face_id_io import read_face_id, write_face_id
from models.perception.face_id_training import (
    PRESETS,
    FaceIdReport,
    FaceIdState,
    FaceIdTraining,
    face_id_step,
    init_face_id,
)
from render import files_io
from scripts.identities import judge, sheets, sightings_io
from scripts.identities.sightings_io import HELD_OUT, People
from scripts.shell import command, stopping, training
from scripts.shell.training import LoopConfig

_PRESET = flags.DEFINE_enum("preset", "cpu", sorted(PRESETS), "Length of the training.")
_OUT = flags.DEFINE_string("out", "out/face_id", "Folder to write.")
_POOL = flags.DEFINE_string("pool", None, "Folder of people's pictures; OUT/pool by default.")
_NUM_PEOPLE = flags.DEFINE_integer("num_people", 2000, "People to learn from.", 2)
_JUDGED = flags.DEFINE_integer("judged", 80, "Held-out people whom dlib judges, too.", 5, HELD_OUT)
_STEPS = flags.DEFINE_integer("steps", None, "Steps of the training; the preset's by default.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the start, the people and the batches.", 0, 2**31)
_EVALUATE_EVERY = flags.DEFINE_integer("evaluate_every", 200, "Steps between judgements.", 1)

_JUDGED_SIDE = 256  # pixels of the pictures that dlib sees
_SHIFT = 2  # pixels that pictures are moved by at most


def main() -> None:
    out = command.writable_folder(_OUT.value)
    how, config = PRESETS[_PRESET.value], FaceIdConfig()
    if _STEPS.value:
        how = dataclasses.replace(how, steps=_STEPS.value)
    folder = pathlib.Path(_POOL.value or out / "pool")
    total = HELD_OUT + _NUM_PEOPLE.value
    everybody = sightings_io.make_people(folder, total, _SEED.value, config.side)
    held_out, learnt = (People(*(v[part] for v in everybody)) for part in _parts())
    # Before the training: a stop in it leaves no time to draw anybody.
    large = sightings_io.make_people(folder, _JUDGED.value, _SEED.value, _JUDGED_SIDE)
    key = jax.random.key(_SEED.value)
    settings = {
        "seed": _SEED.value,
        "num_people": _NUM_PEOPLE.value,
        "network": config,
        "training": how,
    }
    run = training.open_run(out, settings, lambda: init_face_id(key, config, how))
    command.say(f"{len(learnt.rgb)} people to learn from, {len(held_out.rgb)} held out")

    def step(state: FaceIdState, batch: np.ndarray, share: float) -> tuple[Any, FaceIdReport]:
        return face_id_step(key, state, batch, np.float32(share), config, how)

    def evaluate(state: FaceIdState) -> dict[str, float]:
        found = judge.embed(state.averaged, config, held_out.rgb)
        return judge.verification(judge.cosines(found), held_out)

    loop = LoopConfig(how.steps, evaluate_every=_EVALUATE_EVERY.value)
    with stopping.noted() as stop:
        run = training.train(
            run, step, lambda number: draw_pairs(learnt.rgb, number, how), evaluate, out, loop
        )
        path = out / "face_id.safetensors"
        facts = {
            "steps": int(run.state.step),
            "seconds": round(run.seconds),
            "people": _NUM_PEOPLE.value,
            "seed": _SEED.value,
        }
        write_face_id(path, FaceId(run.state.averaged, config), facts)
        face_id = read_face_id(path)  # as it is used: rounded
        found = judge.embed(face_id.params, config, held_out.rgb)
        likeness = judge.cosines(found)
        sheets.write_neighbours(out / "neighbours.png", held_out.rgb, likeness)
        scores = judge.verification(likeness, held_out) | _beside_dlib(large, face_id)
        report = facts | scores
        report["gates_missed"] = [
            name for name, least in judge.GATES.items() if scores[name] < least
        ]
        report["parameters"] = sum(leaf.size for leaf in jax.tree.leaves(face_id.params))
        report["history"] = [row for row in run.history if "auc" in row]
        files_io.write_json(out / "metrics.json", report)
        stop.keep(f"{path}")
    missed = ", ".join(report["gates_missed"])
    verdict = f"not yet good enough: {missed}" if missed else "all gates passed"
    command.say(f"wrote {path}: AUC {scores['auc']:.4f} of strangers, {verdict}")


def _parts() -> tuple[slice, slice]:
    return slice(0, HELD_OUT), slice(HELD_OUT, None)


def draw_pairs(rgb: np.ndarray, number: int, how: FaceIdTraining) -> np.ndarray:
    """Pictures [P, 2, S, S, 3] of a step: two of each of its people, moved, half of them mirrored.

    A function of the seed and the step alone.

    Args:
      rgb: [N, V, S, S, 3] uint8.
      number: of the step.
      how: settings.
    """
    rng = np.random.default_rng([_SEED.value, number])
    count, views, side = rgb.shape[:3]
    people = rng.choice(count, min(how.people, count), replace=False)
    batch = []
    for person in people:
        for view in rng.choice(views, 2, replace=False):
            picture = np.pad(rgb[person, view], [(_SHIFT, _SHIFT)] * 2 + [(0, 0)], "edge")
            top, left = rng.integers(2 * _SHIFT + 1, size=2)
            picture = picture[top : top + side, left : left + side]
            batch.append(picture[:, ::-1] if rng.random() < 0.5 else picture)
    return judge.as_floats(np.stack(batch)).reshape(len(people), 2, side, side, 3)


def _beside_dlib(people: People, face_id: FaceId) -> dict[str, float]:
    """Scores of people in large pictures, by the embedding and by dlib, and how they agree."""
    ours = judge.cosines(judge.embed(face_id.params, face_id.config, people.rgb))
    theirs = judge.closeness(judge.describe(people))
    return (
        {f"{name}_of_large": value for name, value in judge.verification(ours, people).items()}
        | {f"{name}_of_dlib": value for name, value in judge.verification(theirs, people).items()}
        | {
            f"{name}_with_dlib": value
            for name, value in judge.agreement(ours, theirs, people).items()
        }
    )


if __name__ == "__main__":
    command.run(main)
