r"""Makes a splat scene of photos taken from known places.

--capture is a folder with photos and their cameras: transforms.json (instant-ngp, nerfstudio),
transforms_train.json (the synthetic scenes of NeRF) or a COLMAP model (sparse/0, dense/). Gaussians
start at the sparse points, where there are some. Every eighth photo is held out, and the scene is
judged by them. Into --out go

  splats.ply        the scene, for scripts.render, scripts.view and other viewers
  held_out.png      held-out photos, each beside what the scene shows there: look here first
  metrics.json      PSNR, SSIM (and LPIPS, see below) of the held-out photos, and how they grew
  metrics.csv       loss and scores, row by row while it learns
  config.json       every setting of this run
  checkpoint.safetensors   what the same command goes on from

Examples (the first is what a laptop does in about ten minutes):

  python -m scripts.train_splats --capture=data/plush --width=252 --out=out/plush
  python -m scripts.train_splats --capture=data/plush --width=504 --count=60000 --steps=15000
  python -m scripts.train_splats --capture=data/plush --width=252 --minutes=3   # a first look
  python -m scripts.render --show=out/plush/splats.ply --cameras=data/plush

Photos may differ in size, lens and orientation; images_2/ and other smaller copies do as well, and
lens distortion is taken out. A photo that is missing, unreadable or without a pose is left out and
named in metrics.json. A mask (mask_path of nerfstudio, or masks/ beside images/) is white where a
photo counts: black pixels take no part in the loss nor in the scores. Transparency is no mask but a
background: transparent photos are learnt over white, and so are those of a transforms.json that
says "masks_cut_out": true.

On a CPU two photos are worked on at a time, on a core each. Ctrl-C or SIGTERM ends the training
early, with a checkpoint and the scene as it is then. A training that was ended, by these or
otherwise, goes on when the same command is given again; a folder with a training of other settings
is refused. --minutes counts the time of learning in all sittings, without compiling and scoring.
LPIPS, by VGG16, is reported once `python -m scripts.fetch_features` has brought its weights;
--lpips_trunk takes torchvision's VGG16 (.pth or .safetensors) instead, and --lpips_heads the
vgg.pth of the lpips package.

Exit status: 0 done; 2 bad input; 1 the training diverged, or ended before it saw each photo once;
130 or 143 stopped.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np
from absl import flags

from models.perception import lpips, vgg
from render import files_io, image_io, splat_io
from render.capture_io import Capture, LeftOut
from render.frames import round_capacity
from render.image import contact_sheet, psnr, ssim
from render.splat import SplatConfig, needed_pairs, splat_frames
from render.splat_training import (
    StepReport,
    TrainConfig,
    TrainState,
    Views,
    compiled_step,
    init_state,
    photos_of_step,
    relocate,
    replicate,
    stack_views,
)
from scripts.shell import command, perceptual, scenes, stopping, training
from scripts.shell.photos import Photos, largest, read_photos, sizes_text, split_photos
from scripts.shell.training import LoopConfig, Run, Step

_DEFAULT = TrainConfig()
_CAPTURE = flags.DEFINE_string("capture", None, "Folder of photos with cameras.", required=True)
_OUT = flags.DEFINE_string("out", "out/splats", "Folder to write.")
_WIDTH = flags.DEFINE_integer("width", None, "Shrink the photos to this width, pixels.", 16)
_COUNT = flags.DEFINE_integer("count", _DEFAULT.count, "Gaussians.", 100)
_DEGREE = flags.DEFINE_integer("degree", _DEFAULT.degree, "Harmonics of the colours.", 0, 3)
_STEPS = flags.DEFINE_integer("steps", _DEFAULT.steps, "Steps of the training.", 1)
_MINUTES = flags.DEFINE_float(
    "minutes", None, "End after so much learning, if steps take longer; rates follow it.", 0.01
)
_POINTS = flags.DEFINE_bool("points", True, "Start at the sparse points, if there are any.")
_HOLD_OUT = flags.DEFINE_integer("hold_out", 8, "Judge by each n-th photo; 0 trains on all.", 0)
_EVALUATE_EVERY = flags.DEFINE_integer("evaluate_every", 1000, "Steps between judgements.", 1)
_LPIPS_TRUNK = flags.DEFINE_string("lpips_trunk", None, "VGG16 weights, for LPIPS.")
_LPIPS_HEADS = flags.DEFINE_string("lpips_heads", None, "LPIPS v0.1 weights of vgg.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the start, the order of photos and the noise.")

_SCORES = {"psnr_db": "PSNR {:.2f} dB", "ssim": "SSIM {:.3f}", "lpips": "LPIPS {:.3f}"}
_REPORT_EVERY = 20  # steps; each asks the device anyway, whether there was room
_SHOWN = 4  # held-out photos in the picture
_MARGIN = 1.25  # room for pairs on top of what the photos need


def main() -> None:
    out = command.writable_folder(_OUT.value)
    config = dataclasses.replace(
        _DEFAULT, count=_COUNT.value, degree=_DEGREE.value, steps=_STEPS.value
    )
    training.split_cpu(max_devices=2)
    judge = _load_lpips()
    capture = read_photos(_CAPTURE.value, _WIDTH.value)
    if capture.is_cut_out:
        # Around a subject that is cut out the photos are white: that, too, is to be learnt.
        capture = capture._replace(masks=[None] * len(capture.images))
    photos, held_out = split_photos(capture, _HOLD_OUT.value)
    run = training.open_run(
        out, _settings(config, photos), lambda: _first_state(capture, photos, config)
    )
    command.say(
        f"{len(photos.cameras)} photos of {sizes_text(photos)} to learn from, "
        f"{len(held_out.cameras)} held out; {config.count} Gaussians"
    )
    views = stack_views(*photos)

    def batch_of(step: int) -> Views:
        chosen = photos_of_step(step, jax.device_count(), len(photos.cameras), _SEED.value)
        return jax.tree.map(lambda v: v[chosen], views)

    step = learning_step(_enough(run.state, views), config)
    loop = LoopConfig(config.steps, _MINUTES.value, _REPORT_EVERY, _EVALUATE_EVERY.value)
    with stopping.noted() as stop:
        run = training.train(
            run._replace(state=replicate(run.state)),
            step,
            batch_of,
            (lambda state: evaluate(state, held_out, config)[0]) if held_out.cameras else None,
            out,
            loop,
        )
        gaussians = jax.device_get(run.state.gaussians)
        splat_io.write_splats(out / "splats.ply", gaussians, scenes.nearest_axis(capture.up))
        stop.keep(f"{out / 'splats.ply'}")
        scores, pictures = evaluate(run.state, held_out, config, judge)
        if pictures:
            image_io.write_image(out / "held_out.png", contact_sheet(pictures, columns=2))
        report = _report(run, photos, held_out, scores, capture.left_out)
        files_io.write_json(out / "metrics.json", report)
    command.say(f"wrote {out}: {_text(scores) or f'{config.count} Gaussians'}")
    training.check_learnt(run, loop, jax.device_count(), len(photos.cameras))


def _load_lpips() -> perceptual.Judge | None:
    paths = _LPIPS_TRUNK.value, _LPIPS_HEADS.value
    if not any(paths):
        return perceptual.load_lpips()
    if not all(paths):
        raise ValueError("expected both --lpips_trunk and --lpips_heads, found one of them")
    return functools.partial(lpips.lpips, lpips.load_lpips(*paths))


def _first_state(capture: Capture, photos: Photos, config: TrainConfig) -> TrainState:
    points = capture.points if _POINTS.value else None
    key = jax.random.fold_in(jax.random.key(_SEED.value), 0)
    return init_state(key, photos.cameras, points, capture.point_colors, config)


def learning_step(max_pairs: int, config: TrainConfig) -> Step:
    """Makes the step of this training: one by the photos, and now and then the dead are moved.

    Args:
      max_pairs: capacity of a picture to begin with.
      config: of the training.
    """
    seed = jax.random.key(_SEED.value)

    def step_of(max_pairs: int) -> Step:
        step = compiled_step(config, max_pairs)
        return lambda state, batch, share: step(state, batch, np.float32(share))

    step_with_room = training.with_room(step_of, max_pairs)

    def step(state: TrainState, batch: Any, share: float) -> tuple[TrainState, StepReport]:
        state, report = step_with_room(state, batch, share)
        number = int(state.step)
        is_time = number % config.relocate_every == 0 and number > config.relocate_from
        if is_time and share < config.relocate_until:
            state, _ = relocate(jax.random.fold_in(seed, number), state, config)
        return state, report

    return step


def _enough(state: TrainState, views: Views) -> int:
    """Returns room for the pairs of any photo, and some more to grow."""
    num = len(views.images)
    some = [
        jax.tree.map(lambda v, i=i: v[i], views.cameras) for i in range(0, num, max(1, num // 8))
    ]
    most = max(int(needed_pairs(state.gaussians, camera)) for camera in some)
    return round_capacity(_MARGIN * most)


def evaluate(
    state: TrainState, photos: Photos, config: TrainConfig, judge: perceptual.Judge | None = None
) -> tuple[dict[str, float], list[np.ndarray]]:
    """Scores the scene by photos; returns means, and pairs of photo and picture to look at."""
    scores, pictures = {}, []
    gaussians = jax.device_put(jax.device_get(state.gaussians), jax.devices()[0])
    # Pictures of one size are drawn by one program; of a smaller photo's the corner counts.
    width, height = largest(photos)
    cameras = [camera.replace(width=width, height=height) for camera in photos.cameras]
    outputs = splat_frames(gaussians, cameras, SplatConfig(), config.background)
    shown = np.linspace(0, len(photos.cameras) - 1, _SHOWN).round()
    for i, (output, image, mask) in enumerate(
        zip(outputs, photos.images, photos.masks, strict=True)
    ):
        rgb = np.clip(np.asarray(output.rgb)[: image.shape[0], : image.shape[1]], 0, 1)
        values = {"psnr_db": psnr(rgb, image, mask), "ssim": ssim(rgb, image, mask=mask)}
        if judge is not None and min(image.shape[:2]) >= vgg.MIN_SIDE:
            is_seen = True if mask is None else mask[..., None] > 0
            values["lpips"] = judge(rgb * is_seen, image * is_seen)
        for name, value in values.items():
            scores.setdefault(name, []).append(float(value))
        if i in shown:
            pictures += [image, rgb]
    return {name: float(np.mean(values)) for name, values in scores.items()}, pictures


def _text(scores: dict[str, float]) -> str:
    return ", ".join(_SCORES[name].format(value) for name, value in scores.items())


def _report(
    run: Run,
    photos: Photos,
    held_out: Photos,
    scores: dict[str, float],
    left_out: list[LeftOut],
) -> dict[str, Any]:
    width, height = largest(photos)
    return {
        **dict.fromkeys(_SCORES),  # without photos or weights to judge by
        **scores,
        "num_gaussians": len(run.state.gaussians.means),
        "num_photos": len(photos.cameras),
        "num_held_out": len(held_out.cameras),
        "num_left_out": len(left_out),
        "left_out": [photo._asdict() for photo in left_out],
        "width_px": width,
        "height_px": height,
        "steps": int(run.state.step),
        "photos_per_step": jax.device_count(),
        "seconds": run.seconds,
        "history": [row for row in run.history if row.keys() & _SCORES.keys()],
    }


def _settings(config: TrainConfig, photos: Photos) -> dict[str, Any]:
    """All that the state after a number of steps depends on."""
    return {
        "capture": pathlib.Path(_CAPTURE.value).resolve(),
        "width": _WIDTH.value,
        "minutes": _MINUTES.value,
        "points": _POINTS.value,
        "hold_out": _HOLD_OUT.value,
        "seed": _SEED.value,
        "photos": len(photos.cameras),  # others may be left out by and by
        "photos_per_step": jax.device_count(),
        "training": config,
    }


if __name__ == "__main__":
    command.run(main)
