r"""Makes a radiance field (NeRF) of photos taken from known places.

--capture is a folder with photos and their cameras: transforms.json (instant-ngp, nerfstudio),
transforms_train.json (the synthetic scenes of NeRF) or a COLMAP model (sparse/0, dense/). Every
eighth photo is held out, and the field is judged by them. Into --out go

  nerf.safetensors  the field, for scripts.render and scripts.view
  orbit.mp4         a turn around the subject, colour and depth side by side
  held_out.png      held-out photos, each beside what the field shows there: look here first
  metrics.json      PSNR, SSIM and LPIPS of the held-out photos, and how they grew
  metrics.csv       loss and scores, row by row while it learns
  config.json       every setting of this run
  checkpoint.safetensors   what the same command goes on from

Examples (the first is what a laptop does in a few minutes):

  python -m scripts.train_nerf --capture=data/plush --width=252 --out=out/plush_nerf
  python -m scripts.train_nerf --capture=data/plush --preset=paper     # for a GPU
  python -m scripts.train_nerf --capture=data/head --out=out/head_nerf
  python -m scripts.train_nerf --capture=data/head --styled=data/painted_head
  python -m scripts.render --show=out/plush_nerf/nerf.safetensors --cameras=data/plush

The field is as large as the world (--background=contraction). `sphere` gives what lies beyond the
cameras a field of its own, `none` ends at a box around the subject. A mask (mask_path of
nerfstudio, or masks/ beside images/) is white where a photo counts. Where transforms.json says
"masks_cut_out": true, as captures made here do, or with --cut_out, it is white where the subject
is, which is then learnt alone, over random backgrounds; --nocut_out takes it for the first all the
same. Transparent photos are learnt over white.

--styled names a second capture of the same scene, restyled: the field learns both, the first as
style 0, the second as style 1, and `render --style` mixes them. With --appearance each photo has a
code of its own, which takes up its light and exposure; held-out views and films are seen in the
mean of all. It helps where photos disagree, and costs sharpness where they do not.

Ctrl-C or SIGTERM ends the training early, with a checkpoint and the field as it is then. A training
that was ended, by these or otherwise, goes on when the same command is given again; a folder with a
training of other settings is refused. With several devices each takes its share of the rays; a CPU
passes for two. --minutes counts the time of learning in all sittings, without compiling and
scoring.

Exit status: 0 done; 2 bad input; 1 the training diverged, or ended before it began in earnest; 130
or 143 stopped.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import flags

from models.devices import on_each_device
from models.nerf.batches import Pixels, draw_batch, gather_pixels
from models.nerf.field import BACKGROUNDS, NerfConfig
from models.nerf.nerf_io import Nerf, write_nerf
from models.nerf.train import (
    PRESETS,
    NerfReport,
    NerfState,
    NerfTraining,
    RayBatch,
    compiled_step,
    init_state,
    spread,
)
from render import files_io, image_io
from render.capture_io import Capture
from render.image import contact_sheet
from scripts.shell import command, nerf_views, perceptual, stopping, training
from scripts.shell.film_io import write_film
from scripts.shell.photos import Photos, largest, read_photos, sizes_text, split_photos
from scripts.shell.training import LoopConfig, Run

_CAPTURE = flags.DEFINE_string("capture", None, "Folder of photos with cameras.", required=True)
_STYLED = flags.DEFINE_string("styled", None, "Capture of the same scene, restyled.")
_OUT = flags.DEFINE_string("out", "out/nerf", "Folder to write.")
_PRESET = flags.DEFINE_enum("preset", "small", sorted(PRESETS), "Size and length: CPU or GPU.")
_WIDTH = flags.DEFINE_integer("width", None, "Shrink the photos to this width, pixels.", 16)
_STEPS = flags.DEFINE_integer("steps", None, "Steps of the training; the preset's by default.", 1)
_RAYS = flags.DEFINE_integer("rays", None, "Rays of a step; the preset's by default.", 64)
_MINUTES = flags.DEFINE_float(
    "minutes", None, "End after so much learning, if steps take longer; rates follow it.", 0.01
)
_BACKGROUND = flags.DEFINE_enum(
    "background", None, BACKGROUNDS, "What surrounds the subject; none of one that is cut out."
)
_CUT_OUT = flags.DEFINE_bool(
    "cut_out", None, "Masks say what is subject, the rest is empty; as the capture says by default."
)
_APPEARANCE = flags.DEFINE_bool("appearance", False, "Each photo has a code of its own.")
_DEPTH = flags.DEFINE_float("depth_weight", 0.0, "Of the smoothness of depth.", 0.0)
_HOLD_OUT = flags.DEFINE_integer("hold_out", 8, "Judge by each n-th photo; 0 trains on all.", 0)
_EVALUATE_EVERY = flags.DEFINE_integer("evaluate_every", 1000, "Steps between judgements.", 1)
_FRAMES = flags.DEFINE_integer("frames", 48, "Pictures of the turn; 0 for none.", 0, 10_000)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the start, the rays and their samples.", 0)

_SCORES = {"psnr_db": "PSNR {:.2f} dB", "ssim": "SSIM {:.3f}", "lpips": "LPIPS {:.3f}"}
_PATCHES = 8  # of the smoothness of depth, in a batch
_FPS = 24.0
_FEWEST = 3  # photos, below which depth is anybody's guess


def main() -> None:
    out = command.writable_folder(_OUT.value)
    training.split_cpu(max_devices=2)
    captures = _read_captures()
    is_cut_out = captures[0].is_cut_out
    parts = [split_photos(capture, _HOLD_OUT.value) for capture in captures]
    learnt = [photos for photos, _ in parts]
    held_out = {style: photos for style, (_, photos) in enumerate(parts) if photos.cameras}
    if is_cut_out:
        # All of a picture is judged: where nothing is, there has to be nothing.
        held_out = {s: p._replace(masks=[None] * len(p.masks)) for s, p in held_out.items()}
    config, how = _chosen(learnt, is_cut_out)
    key = jax.random.key(_SEED.value)
    run = training.open_run(
        out, _settings(config, how, is_cut_out), lambda: init_state(key, _cameras(learnt), config)
    )
    command.say(
        f"{config.num_photos} photos of {sizes_text(learnt[0])} to learn from, "
        f"{sum(len(photos.cameras) for photos in held_out.values())} held out"
    )
    pixels = _gather(learnt, is_cut_out)
    patches = _PATCHES if how.depth else 0
    step_of = compiled_step(config, how)

    def batch_of(step: int) -> RayBatch:
        return spread(draw_batch(_SEED.value, step, pixels, how.rays, patches))

    def step(state: NerfState, batch: RayBatch, share: float) -> tuple[NerfState, NerfReport]:
        return step_of(key, state, batch, np.float32(share))

    def evaluate(state: NerfState) -> dict[str, float]:
        some = {style: nerf_views.some_photos(photos) for style, photos in held_out.items()}
        return nerf_views.judge(_nerf(state, config, captures[0]), some)[0]

    loop = LoopConfig(how.steps, _MINUTES.value, evaluate_every=_EVALUATE_EVERY.value)
    with stopping.noted() as stop:
        run = run._replace(state=on_each_device(run.state))
        run = training.train(run, step, batch_of, evaluate if held_out else None, out, loop)
        nerf = _nerf(run.state, config, captures[0])
        write_nerf(out / "nerf.safetensors", nerf)
        stop.keep(f"{out / 'nerf.safetensors'}")
        lpips = perceptual.load_lpips()
        scores, pictures = nerf_views.judge(nerf, held_out, lpips)
        if pictures:
            image_io.write_image(out / "held_out.png", contact_sheet(pictures, columns=2))
        report = _report(run, captures, learnt, held_out, scores)
        files_io.write_json(out / "metrics.json", report)
        if _FRAMES.value:
            _film(out, nerf, learnt[0])
    text = ", ".join(_SCORES[name].format(scores[name]) for name in _SCORES if name in scores)
    command.say(f"wrote {out}: {text or f'{how.steps} steps'}")
    training.check_learnt(run, loop, how.rays, len(pixels.sizes))


def _read_captures() -> list[Capture]:
    """The capture, and its restyled one: either of both the subject is cut out, or of none."""
    folders = [folder for folder in (_CAPTURE.value, _STYLED.value) if folder]
    captures = [read_photos(folder, _WIDTH.value, _CUT_OUT.value) for folder in folders]
    are_cut_out = [capture.is_cut_out for capture in captures]
    if any(are_cut_out) and not all(are_cut_out):
        raise ValueError(
            "expected --capture and --styled that are cut out alike, found "
            f"{folders[are_cut_out.index(True)]} alone to be: --cut_out or --nocut_out tells"
        )
    return captures


def _chosen(learnt: list[Photos], is_cut_out: bool) -> tuple[NerfConfig, NerfTraining]:
    """The preset, and what flags say otherwise."""
    config, how = PRESETS[_PRESET.value]
    background = _BACKGROUND.value or ("none" if is_cut_out else config.background)
    for part in learnt:
        if len(part.cameras) < _FEWEST:
            raise ValueError(
                f"expected at least {_FEWEST} photos to learn from, found {len(part.cameras)}"
            )
    count = sum(len(part.cameras) for part in learnt)
    config = dataclasses.replace(config, background=background, num_photos=count)
    is_random = is_cut_out or background != "none"
    how = dataclasses.replace(
        how,
        styles=len(learnt),
        random_background=is_random,
        depth=_DEPTH.value,
        appearance=_APPEARANCE.value,
    )
    if _STEPS.value:
        how = dataclasses.replace(how, steps=_STEPS.value)
    if _RAYS.value:
        how = dataclasses.replace(how, rays=_RAYS.value)
    if how.rays % jax.device_count():
        raise ValueError(
            f"expected --rays that {jax.device_count()} devices can share, found {how.rays}"
        )
    return config, how


def _cameras(learnt: list[Photos]) -> list:
    return [camera for photos in learnt for camera in photos.cameras]


def _gather(learnt: list[Photos], is_cut_out: bool) -> Pixels:
    joined = [list(itertools.chain(*parts)) for parts in zip(*learnt, strict=True)]
    styles = [style for style, photos in enumerate(learnt) for _ in photos.cameras]
    return gather_pixels(*joined, styles, is_cut_out)


def _nerf(state: NerfState, config: NerfConfig, capture: Capture) -> Nerf:
    """The field as it is now, on the first device."""
    params, grid, box = jax.device_get((state.params, state.grid, state.box))
    params, grid, box = jax.device_put((params, grid, box), jax.devices()[0])
    facts = {
        "up": np.asarray(capture.up).tolist(),
        "views": nerf_views.view_facts(capture.cameras),
        "num_styles": 2 if _STYLED.value else 1,
        "steps": int(state.step),
    }
    return Nerf(params, grid, box, config, facts)


def _film(out: pathlib.Path, nerf: Nerf, photos: Photos) -> None:
    """Writes a turn, colour and depth side by side."""
    width, height = largest(photos)
    cameras = nerf_views.turn(photos.cameras, nerf.facts["up"], _FRAMES.value, width, height)

    def pictures() -> Iterator[np.ndarray]:
        for output in nerf_views.pictures(nerf, cameras):
            yield nerf_views.color_and_depth(output)

    write_film(out / "orbit.mp4", pictures(), len(cameras), _FPS, sheet=out / "orbit.png")


def _report(
    run: Run,
    captures: list[Capture],
    learnt: list[Photos],
    held_out: dict[int, Photos],
    scores: dict[str, float],
) -> dict[str, Any]:
    width, height = largest(learnt[0])
    left_out = [photo for capture in captures for photo in capture.left_out]
    return {
        **dict.fromkeys(_SCORES),  # without photos or weights to judge by
        **scores,
        "num_photos": sum(len(photos.cameras) for photos in learnt),
        "num_held_out": sum(len(photos.cameras) for photos in held_out.values()),
        "num_left_out": len(left_out),
        "left_out": [photo._asdict() for photo in left_out],
        "width_px": width,
        "height_px": height,
        "steps": int(run.state.step),
        "rays_per_step": run.settings["training"]["rays"],
        "seconds": run.seconds,
        "history": [row for row in run.history if row.keys() & _SCORES.keys()],
    }


def _settings(config: NerfConfig, how: NerfTraining, is_cut_out: bool) -> dict[str, Any]:
    """All that the state after a number of steps depends on."""
    return {
        "capture": pathlib.Path(_CAPTURE.value).resolve(),
        "styled": _STYLED.value and pathlib.Path(_STYLED.value).resolve(),
        "width": _WIDTH.value,
        "minutes": _MINUTES.value,
        "hold_out": _HOLD_OUT.value,
        "cut_out": is_cut_out,
        "seed": _SEED.value,
        "devices": jax.device_count(),
        "field": config,
        "training": how,
    }


if __name__ == "__main__":
    command.run(main)
