r"""Finds the latents by which a StyleGAN2 generator paints given pictures.

A photo's face is found and cut as the training pictures were; then its latents are searched from
an encoder's guess or from the most alike of some samples, whichever is nearer. With --tune the
generator is bent a little, until it shows the pictures at their latents (pivotal tuning), and is
written too. Into --out go

  inversion.safetensors  latents [N, L, w] (W+), the cut pictures, how they were cut
  generator.safetensors  the tuned generator, with --tune
  sheet.png              rows of: picture, start, found, tuned: look here first
  turn.png               each head turned from the picture's left to its right, where it is known
                         which direction of W turns heads
  edits.png              the first head, changed by each named direction, likewise
  metrics.json           PSNR, and LPIPS where it is at hand, of start, found and end;
                         what speaks against a picture

Examples (the first takes the generator that comes along, and its encoder):

  python -m scripts.invert --generator=heads --image=me.jpg --tune
  python -m scripts.invert --generator=G.safetensors --encoder=out/encoder/encoder.safetensors \
      --image=me.jpg,you.jpg --out=out/us
  python -m scripts.invert --generator=G.safetensors --image=cut.png --aligned

Photos that are not cut as the training pictures were have no latent that is worth anything. Faces
are found by dlib, or taken from --landmarks; the cut is FFHQ's, or, for generators of random
people, where such heads lie for each turn of the head. --aligned takes pictures as they are. Where
a face lies elsewhere than it should, a line says so.

LPIPS is in the loss once `python -m scripts.fetch_features` has brought its weights, for generators
of 32 pixels or more.

Exit status: 0 done; 2 bad input; 1 no face found in a photo; 130 or 143 stopped.
"""

import functools
import pathlib
from typing import Any

import jax
import numpy as np
from absl import flags

from models.perception import features_io
from models.stylegan import inversion, pivotal
from models.stylegan.directions import Directions, edited, read_labels
from models.stylegan.directions_io import KeptInversion, read_directions, write_inversion
from models.stylegan.encoder import encode_latents
from models.stylegan.generator import Generator
from models.stylegan.inversion import InversionConfig, psnr_db
from models.stylegan.latents import sample_latents
from models.stylegan.pivotal import TuningConfig
from models.stylegan.stylegan_io import write_generator
from recon import landmarks_io
from render import files_io, image_io
from render.image import to_bytes
from scripts.generators import cuts, labels, readings, sheets
from scripts.generators.cuts import Cut
from scripts.shell import command
from scripts.shell.files import list_files
from scripts.shell.outputs_io import filling_folder
from scripts.shell.perceptual import features_folder
from scripts.shell.settings import write_settings

_GENERATOR = flags.DEFINE_string(
    "generator", None, "A file, or the name of one that comes along.", required=True
)
_IMAGE = flags.DEFINE_multi_string(
    "image", [], "Picture, several with commas between them, a folder, or a pattern in quotes."
)
_LANDMARKS = flags.DEFINE_multi_string(
    "landmarks", [], "68 points in .pts, one file per picture; else they are detected."
)
_ALIGNED = flags.DEFINE_bool("aligned", False, "The pictures are cut already.")
_ENCODER = flags.DEFINE_string(
    "encoder", None, "File of `train_encoder`, or none; by default what came with the generator."
)
_DIRECTIONS = flags.DEFINE_string("directions", None, "Directions from `find_directions`.")
_SPACE = flags.DEFINE_enum("space", "w+", list(inversion.SPACES), "One latent, or one a layer.")
_STEPS = flags.DEFINE_integer("steps", InversionConfig.steps, "Of the search.", 1)
_TUNE = flags.DEFINE_bool("tune", False, "Tune the generator to the pictures.")
_TUNE_STEPS = flags.DEFINE_integer("tune_steps", TuningConfig.steps, "Of the tuning, at most.", 1)
_TUNE_RATE = flags.DEFINE_float("tune_rate", TuningConfig.rate, "Of the tuning.", 0.0)
_OUT = flags.DEFINE_string("out", "out/inversion", "Folder to write.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the samples of W, and of the tuning.", 0, 2**31)

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".heic")
_TURN = np.linspace(-30.0, 30.0, 7)  # degrees
_EDITS = (-2.0, -1.0, 0.0, 1.0, 2.0)  # deviations of a label
_SAMPLES = 249  # that a start is chosen of
_FEWEST_PIXELS = 32  # that LPIPS says something about


def main() -> None:
    out = command.writable_folder(_OUT.value)
    paths = list_files(_IMAGE.value, _ENDINGS, "image")
    if not paths:
        raise ValueError("expected pictures in --image, found none")
    generator = labels.load_coloured(_GENERATOR.value)
    directions = _directions(generator)
    pictures = _read_pictures(paths, generator)
    images = np.stack([cut.image for cut in pictures]).astype(np.float32)
    key = jax.random.key(_SEED.value)
    statistics = labels.statistics_of(key, generator)
    start = _start(generator, pictures, statistics, directions)
    features = _features(generator)
    config = InversionConfig(space=_SPACE.value, steps=_STEPS.value)
    with command.progress(f"searching {len(images)} latents", config.steps) as advance:
        found = inversion.invert(
            key, generator.params, images, start, statistics, features, generator.config, config,
            advance,
        )  # fmt: skip
    rows = [images, readings.painted(generator, start), found.images]
    tuned, tuning = generator, None
    if _TUNE.value:
        how = TuningConfig(steps=_TUNE_STEPS.value, rate=_TUNE_RATE.value)
        with command.progress("tuning the generator, steps at most", how.steps) as advance:
            tuning = pivotal.tune(
                key, generator.params, found.ws, images, None, statistics, features,
                generator.config, how, advance,
            )  # fmt: skip
        tuned = generator._replace(params=tuning.params)
        rows.append(readings.painted(tuned, found.ws))
    report = _report(paths, pictures, rows, tuning, features)
    with filling_folder(out) as folder:
        _write(folder, paths, pictures, tuned, found.ws, rows, report)
        _write_edits(folder, tuned, directions, found.ws)
        write_settings(folder, inversion=config)
    worst = min(row["psnr_db"] for row in report["pictures"])
    command.say(f"wrote {out}: PSNR {worst:.2f} dB" + (" at least" if len(paths) > 1 else ""))


def _read_pictures(paths: list[str], generator: Generator) -> list[Cut]:
    points = list_files(_LANDMARKS.value, (".pts",), "landmarks")
    if points and (len(points) != len(paths) or _ALIGNED.value):
        raise ValueError(
            f"expected one --landmarks for each of {len(paths)} pictures that are not --aligned, "
            f"found {len(points)}"
        )
    frame, side = cuts.frame_of(generator), generator.config.resolution
    found = []
    for index, path in enumerate(paths):
        photo = image_io.read_photo(path)
        if _ALIGNED.value:
            found.append(cuts.take_cut(photo, frame, side))
        else:
            known = landmarks_io.read_pts(points[index]) if points else None
            found.append(cuts.cut_face(photo, known, frame, side))
        if found[-1].doubt:
            command.warn(f"{path} does not look aligned: {found[-1].doubt}")
    return found


def _start(
    generator: Generator, pictures: list[Cut], statistics: Any, directions: Directions | None
) -> np.ndarray:
    """For each picture the nearest of some samples and of what the encoder says, [N, L, w]."""
    samples = sample_latents(jax.random.key(_SEED.value), generator, _SAMPLES)
    samples = np.concatenate([np.asarray(statistics.mean)[None], samples])
    samples = np.repeat(np.asarray(samples)[:, None], generator.config.num_ws, 1)
    guesses = _encoded(generator, np.stack([cut.image for cut in pictures]))
    nearest = []
    for index, cut in enumerate(pictures):
        candidates = readings.turned(samples, cut.pose, directions)
        if guesses is not None:
            candidates = np.concatenate([guesses[index : index + 1], candidates])
        nearest.append(readings.nearest_latents(generator, cut.image, candidates))
    return np.stack(nearest)


def _encoded(generator: Generator, images: np.ndarray) -> np.ndarray | None:
    """The encoder's latents [N, L, w] of pictures, if there is one."""
    encoder = readings.load_encoder_of(_GENERATOR.value, _ENCODER.value, generator.config)
    if encoder is None:
        return None
    return np.asarray(encode_latents(encoder.params, images, encoder.statistics, encoder.config).ws)


def _features(generator: Generator) -> Any | None:
    """The parameters of LPIPS, where they are there and of use."""
    path = features_io.features_file(features_folder(), InversionConfig.network)
    if generator.config.resolution < _FEWEST_PIXELS or not path.is_file():
        return None
    return features_io.read_features(path, InversionConfig.network)


def _directions(generator: Generator) -> Directions | None:
    if _DIRECTIONS.value:
        found, _ = read_directions(_DIRECTIONS.value)
        size = found.edits.shape[1]
        if size != generator.config.w_dim:
            raise ValueError(
                f"expected directions of {generator.config.w_dim} numbers, found {size} in "
                f"{_DIRECTIONS.value}"
            )
        return found
    return labels.named_directions(generator) if labels.is_of_people(generator) else None


def _report(
    paths: list[str],
    pictures: list[Cut],
    rows: list[np.ndarray],
    tuning: Any | None,
    features: Any | None,
) -> dict[str, Any]:
    images, *made = (np.asarray(row) for row in rows)
    measures = {"psnr_db": psnr_db}
    if features is not None:
        measures["lpips"] = functools.partial(
            inversion.perceptual_distance, features, network=InversionConfig.network
        )
    values = {}
    for name, measure in measures.items():
        start, found, *_ = each = [np.asarray(measure(row, images)) for row in made]
        values |= {f"start_{name}": start, f"found_{name}": found, name: each[-1]}
    each = [
        {"image": path, "doubt": cut.doubt}
        | {name: round(float(numbers[i]), 3) for name, numbers in values.items()}
        for i, (path, cut) in enumerate(zip(paths, pictures, strict=True))
    ]
    report = {"pictures": each, "space": _SPACE.value, "steps": _STEPS.value}
    return report | ({} if tuning is None else {"tuning_steps": int(tuning.steps)})


def _write(
    folder: pathlib.Path,
    paths: list[str],
    pictures: list[Cut],
    tuned: Generator,
    ws: Any,
    rows: list[np.ndarray],
    report: dict[str, Any],
) -> None:
    kept = KeptInversion(
        np.asarray(ws),
        to_bytes(np.clip(0.5 * rows[0] + 0.5, 0.0, 1.0)),
        np.stack([cut.matrix for cut in pictures]),
        {"images": paths, "generator": _GENERATOR.value, "is_tuned": _TUNE.value},
    )
    write_inversion(folder / "inversion.safetensors", kept)
    if _TUNE.value:
        facts = tuned.facts | {"tuned_to": paths}
        write_generator(folder / "generator.safetensors", tuned._replace(facts=facts))
    sheets.write_sheet(folder / "sheet.png", np.stack(rows, 1).reshape(-1, *rows[0].shape[1:]),
                       len(rows))  # fmt: skip
    files_io.write_json(folder / "metrics.json", report)


def _write_edits(
    folder: pathlib.Path, generator: Generator, directions: Directions | None, ws: Any
) -> None:
    """Writes what directions make of the latents [N, L, w]."""
    if directions is None or not directions.names:
        return
    ws = np.asarray(ws)
    if "yaw" in directions.names:
        at = read_labels(ws, directions)[:, directions.names.index("yaw")]
        turned = [
            edited(one[None], directions, "yaw", angle - yaw)
            for one, yaw in zip(ws, at, strict=True)
            for angle in _TURN
        ]
        pictures = readings.painted(generator, np.concatenate(turned))
        sheets.write_sheet(folder / "turn.png", pictures, len(_TURN))
    changed = [
        edited(ws[:1], directions, name, amount * float(deviation))
        for name, deviation in zip(directions.names, directions.deviations, strict=True)
        for amount in _EDITS
    ]
    pictures = readings.painted(generator, np.concatenate(changed))
    sheets.write_sheet(folder / "edits.png", pictures, 3 * len(_EDITS), directions.names)


if __name__ == "__main__":
    command.run(main)
