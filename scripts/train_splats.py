r"""Makes a splat scene of photos taken from known places.

--capture is a folder with photos and their cameras: transforms.json (instant-ngp, nerfstudio),
transforms_train.json (the synthetic scenes of NeRF) or a COLMAP model in sparse/0. Gaussians start
at the sparse points, where there are some. Every eighth photo is held out, and the scene is judged
by them. Into --out go

  splats.ply        the scene, for scripts.render, scripts.view and other viewers
  held_out.png      held-out photos, each beside what the scene shows there: look here first
  metrics.json      PSNR, SSIM (and LPIPS, see below) of the held-out photos, and how they grew
  checkpoint.npz    goes on with --resume
  config.json       every setting of this run

Examples (the first is what a laptop does in about ten minutes):

  python -m scripts.train_splats --capture=data/plush --width=252 --out=out/plush
  python -m scripts.train_splats --capture=data/plush --width=504 --count=60000 --steps=15000
  python -m scripts.train_splats --capture=data/plush --width=252 --minutes=3   # a first look
  python -m scripts.train_splats --capture=data/plush --width=252 --out=out/plush --resume
  python -m scripts.render --scene=out/plush/splats.ply --cameras=data/plush/transforms.json

On a CPU two photos are worked on at a time, on a core each. Ctrl-C ends the training early and
keeps what was learnt. LPIPS wants weights that do not come along: --lpips_trunk takes torchvision's
VGG16 (.pth or .safetensors), --lpips_heads the vgg.pth of the lpips package.

Exit status: 0 done; 2 bad input; 1 the training diverged.
"""

import dataclasses
import itertools
import os
import pathlib
import time
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from models.perception import vgg
from render import capture_io, files_io, image_io, splat_io
from render.camera import Camera
from render.capture_io import Capture
from render.frames import round_capacity
from render.image import contact_sheet, psnr, ssim
from render.splat import SplatConfig, needed_pairs, splat_frames
from render.splat_training import (
    TrainConfig,
    TrainState,
    compiled_step,
    init_state,
    photos_of_step,
    relocate,
)
from scripts.shell import checkpoint_io, command, scenes

_DEFAULT = TrainConfig()
_CAPTURE = flags.DEFINE_string("capture", None, "Folder of photos with cameras.", required=True)
_OUT = flags.DEFINE_string("out", "out/splats", "Folder to write.")
_WIDTH = flags.DEFINE_integer("width", None, "Shrink the photos to this width, pixels.", 16)
_COUNT = flags.DEFINE_integer("count", _DEFAULT.count, "Gaussians.", 100)
_DEGREE = flags.DEFINE_integer("degree", _DEFAULT.degree, "Harmonics of the colours.", 0, 3)
_STEPS = flags.DEFINE_integer("steps", _DEFAULT.steps, "Steps of the training.", 1)
_MINUTES = flags.DEFINE_float(
    "minutes", None, "End after this time, if the steps take longer; rates follow the time.", 0.01
)
_POINTS = flags.DEFINE_bool("points", True, "Start at the sparse points, if there are any.")
_HOLD_OUT = flags.DEFINE_integer("hold_out", 8, "Judge by each n-th photo; 0 trains on all.", 0)
_EVALUATE_EVERY = flags.DEFINE_integer("evaluate_every", 1000, "Steps between judgements.", 1)
_RESUME = flags.DEFINE_bool("resume", False, "Go on from the checkpoint in --out.")
_LPIPS_TRUNK = flags.DEFINE_string("lpips_trunk", None, "VGG16 weights, for LPIPS.")
_LPIPS_HEADS = flags.DEFINE_string("lpips_heads", None, "LPIPS v0.1 weights of vgg.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the start, the order of photos and the noise.")

_CHECKPOINT_EVERY = 1000  # steps
_SCORES = {"psnr_db": "PSNR {:.2f} dB", "ssim": "SSIM {:.3f}", "lpips": "LPIPS {:.3f}"}
_SHOWN = 4  # held-out photos in the picture
_MARGIN = 1.25  # room for pairs on top of what the photos need


class Photos(NamedTuple):
    """Cameras and pictures of one part of a capture."""

    cameras: list[Camera]
    images: np.ndarray  # [F, H, W, 3]


def main() -> None:
    out = command.writable_folder(_OUT.value)
    config = dataclasses.replace(
        _DEFAULT, count=_COUNT.value, degree=_DEGREE.value, steps=_STEPS.value
    )
    judge = _load_lpips()
    if jax.config.jax_platforms in (None, "cpu") and "XLA_FLAGS" not in os.environ:
        jax.config.update("jax_num_cpu_devices", min(2, os.cpu_count() or 1))
    with command.progress("photos"):
        capture = capture_io.read_capture(_CAPTURE.value, _WIDTH.value)
    train, held_out = split_photos(capture)
    state = _first_state(capture, train, config)
    history = []
    if _RESUME.value:
        state = checkpoint_io.read_checkpoint(out / "checkpoint.npz", jax.device_get(state))
    if int(state.step):
        command.say(f"going on from step {int(state.step)}")
    height, width = train.images.shape[1:3]
    command.say(
        f"{len(train.cameras)} photos of {width} x {height} to learn from, "
        f"{len(held_out.cameras)} held out; {config.count} Gaussians"
    )
    started = time.perf_counter()
    trained = training(state, train, config, out)
    try:
        for state in trained:
            step = int(state.step)
            if held_out.cameras and step % _EVALUATE_EVERY.value == 0:
                seconds = time.perf_counter() - started
                scores, _ = evaluate(state, held_out, config, judge=None)
                history.append({"step": step, "seconds": seconds, **scores})
                command.say(f"step {step}, {seconds:.0f} s: {_text(scores)}")
    except KeyboardInterrupt:
        command.warn(f"stopped at step {int(state.step)}; what was learnt is kept")
    checkpoint_io.write_checkpoint(out / "checkpoint.npz", state)
    seconds = time.perf_counter() - started
    scores, pictures = evaluate(state, held_out, config, judge)
    gaussians = jax.device_get(state.gaussians)
    splat_io.write_splats(out / "splats.ply", gaussians, scenes.nearest_axis(capture.up))
    if pictures:
        image_io.write_image(out / "held_out.png", contact_sheet(pictures, columns=2))
    report = {
        **dict.fromkeys(_SCORES),  # without photos or weights to judge by
        **scores,
        "num_gaussians": config.count,
        "num_photos": len(train.cameras),
        "num_held_out": len(held_out.cameras),
        "width_px": width,
        "height_px": height,
        "steps": int(state.step),
        "photos_per_step": jax.device_count(),
        "seconds": seconds,
        "history": history,
    }
    files_io.write_json(out / "metrics.json", report)
    files_io.write_json(out / "config.json", _settings(config))
    command.say(f"wrote {out}: {_text(scores) or f'{config.count} Gaussians'}")


def _load_lpips():
    paths = _LPIPS_TRUNK.value, _LPIPS_HEADS.value
    if not any(paths):
        return None
    if not all(paths):
        raise ValueError("expected both --lpips_trunk and --lpips_heads, found one of them")
    return vgg.load_lpips(*paths)


def split_photos(capture: Capture) -> tuple[Photos, Photos]:
    """Parts the photos to learn from and those to judge by; what masks leave out becomes white."""
    images = capture.images
    if capture.masks is not None:
        images = np.where(capture.masks[..., None] > 0, images, 1.0).astype(np.float32)
    everything = np.arange(len(images))
    train, held_out = everything, everything[:0]
    if _HOLD_OUT.value:
        train, held_out = capture_io.split(capture, _HOLD_OUT.value)
    if not len(train):
        raise ValueError(f"expected photos to learn from, found {len(held_out)}, all held out")
    return tuple(
        Photos([capture.cameras[i] for i in part], images[part]) for part in (train, held_out)
    )


def _first_state(capture: Capture, train: Photos, config: TrainConfig) -> TrainState:
    points = capture.points if _POINTS.value else None
    key = jax.random.fold_in(jax.random.key(_SEED.value), 0)
    return init_state(key, train.cameras, points, capture.point_colors, config)


def training(
    state: TrainState, photos: Photos, config: TrainConfig, out: pathlib.Path
) -> Iterator[TrainState]:
    """Yields the state after each step, until all are taken or the time is over."""
    started = time.perf_counter()
    seed = jax.random.key(_SEED.value)
    max_pairs = _enough(state, photos)
    num_views = jax.device_count()
    cameras = jax.tree.map(lambda *v: np.stack(v), *jax.device_get(photos.cameras))
    first = int(state.step)
    if first >= config.steps:
        raise ValueError(f"expected --steps beyond the checkpoint's {first}, found {config.steps}")
    with command.progress("training", config.steps - first) as advance:
        for step in itertools.count(first):
            spent = (time.perf_counter() - started) / 60
            progress = step / config.steps
            if _MINUTES.value:
                progress = max(progress, spent / _MINUTES.value)
            if progress >= 1:
                break
            chosen = photos_of_step(step, num_views, len(photos.cameras), _SEED.value)
            batch = jax.tree.map(lambda v: v[chosen], (cameras, photos.images))  # noqa: B023
            while True:
                new, report = compiled_step(config, max_pairs)(state, *batch, jnp.float32(progress))
                if not report.overflow:
                    break
                max_pairs = round_capacity(_MARGIN * int(report.needed))
                command.say(f"step {step}: room for {max_pairs} pairs of Gaussian and tile")
            if not np.isfinite(report.loss):
                raise command.WorkFailed(f"the training diverged at step {step}")
            state = new
            is_time = (step + 1) % config.relocate_every == 0 and step >= config.relocate_from
            if is_time and progress < config.relocate_until:
                state, _ = relocate(jax.random.fold_in(seed, step + 1), state, config)
            if (step + 1) % _CHECKPOINT_EVERY == 0:
                checkpoint_io.write_checkpoint(out / "checkpoint.npz", state)
            advance()
            yield state


def _enough(state: TrainState, photos: Photos) -> int:
    """Returns room for the pairs of any photo, and some more to grow."""
    some = photos.cameras[:: max(1, len(photos.cameras) // 8)]
    most = max(int(needed_pairs(state.gaussians, camera)) for camera in some)
    return round_capacity(_MARGIN * most)


def evaluate(
    state: TrainState, photos: Photos, config: TrainConfig, judge
) -> tuple[dict[str, float], list[np.ndarray]]:
    """Scores the scene by photos; returns means, and pairs of photo and picture to look at."""
    scores, pictures = {}, []
    gaussians = jax.device_put(jax.device_get(state.gaussians), jax.devices()[0])
    outputs = splat_frames(gaussians, photos.cameras, SplatConfig(), config.background)
    shown = np.linspace(0, len(photos.cameras) - 1, _SHOWN).round()
    for i, (output, image) in enumerate(zip(outputs, photos.images, strict=True)):
        rgb = jnp.clip(output.rgb, 0, 1)
        values = {"psnr_db": _psnr(rgb, image), "ssim": _ssim(rgb, image)}
        if judge is not None:
            values["lpips"] = vgg.lpips(judge, rgb, image)
        for name, value in values.items():
            scores.setdefault(name, []).append(float(value))
        if i in shown:
            pictures += [image, np.asarray(rgb)]
    return {name: float(np.mean(values)) for name, values in scores.items()}, pictures


_psnr, _ssim = jax.jit(psnr), jax.jit(ssim)


def _text(scores: dict[str, float]) -> str:
    return ", ".join(_SCORES[name].format(value) for name, value in scores.items())


def _settings(config: TrainConfig) -> dict:
    values = flags.FLAGS.flag_values_dict()
    names = ("capture", "width", "minutes", "points", "hold_out", "resume", "seed")
    return {**{name: values[name] for name in names}, "training": dataclasses.asdict(config)}


if __name__ == "__main__":
    command.run(main)
