"""Pictures of a prior: the forces that it exerts, and the clips that it believes in."""

import pathlib
from collections.abc import Sequence

import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.diffusion.motion_answers import believed_clip
from models.diffusion.motion_prior import MotionPrior
from render import files_io, image_io, video_io
from render.image import contact_sheet, to_bytes
from scripts.priors.clips_io import Scans
from scripts.priors.judge import Judgement
from sim import identify
from sim.families.family import Family, family_view
from sim.families.random_scenes import random_scene
from sim.motion_video import motion_video

_COLORS = ("#d1495b", "#edae49", "#00798c")
_NULL_COLOR = "#8a8f98"
_COLUMNS = 4
_ENLARGED = 3  # times, clips are shown
_SHOWN_SCENES = 4
_SCENES_OF_FILM = 8
_SECONDS_AT_END = 0.6  # a film stands still before it begins anew
_REPEATS = 4


def null_zeros(judgement: Judgement) -> list[list[float]]:
    """Where a prior that is told nothing comes to rest, in each scene: what words have to beat."""
    return [
        identify.zeros_of(curve.log10_modulus, curve.mean).round(2).tolist()
        for curve in judgement.null_curves
    ]


def draw_forces(path: pathlib.Path, judgement: Judgement, bands: Sequence[float]) -> None:
    """Draws the force curves of all scenes, a panel each, scaled to their largest value."""
    count = len(judgement.curves)
    rows = -(-count // _COLUMNS)
    figure = Figure(figsize=(3.2 * _COLUMNS, 2.3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, _COLUMNS, squeeze=False, sharex=True, sharey=True).ravel()
    for axes in panels[count:]:
        axes.set_visible(False)
    for number, (axes, curves, null) in enumerate(
        zip(panels, judgement.curves, judgement.null_curves, strict=False)
    ):
        size = max(np.abs(curve.mean).max() for curve in curves)
        axes.axhline(0.0, color="black", linewidth=0.6)
        axes.plot(
            null.log10_modulus, null.mean / size, color=_NULL_COLOR, linestyle=":", label="null"
        )
        for curve, band, color in zip(curves, bands, _COLORS, strict=True):
            axes.axvline(band, color=color, linewidth=0.6, alpha=0.6)
            label = f"told {band:g}"
            axes.plot(curve.log10_modulus, curve.mean / size, color=color, label=label)
        axes.set_title(f"scene {number}, error {judgement.scene_errors[number]:.2f}", fontsize=9)
    panels[0].legend(fontsize=7)
    figure.supxlabel("log10 of Young's modulus, Pa")
    figure.supylabel("force towards stiffer (above) or softer")
    with files_io.replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


def draw_clips(
    key: jax.Array, path: pathlib.Path, prior: MotionPrior, scans: Scans, family: Family
) -> None:
    """Draws simulated clips and, below each, one that the prior believes in at that stiffness."""
    blocks = []
    for scene in range(min(_SHOWN_SCENES, len(scans.videos))):
        rows = []
        for band in family.bands:
            nearest = int(np.argmin(np.abs(scans.log10_modulus - band)))
            simulated = np.asarray(scans.videos[scene, nearest], np.float32)
            believed = believed_clip(key, prior, simulated[0], np.float32(band))
            rows += [simulated, np.asarray(believed)]
        sheet = np.concatenate([np.concatenate(list(row), 1) for row in rows], 0)
        blocks.append(_enlarged(0.5 + 0.5 * sheet))
    image_io.write_image(path, contact_sheet(blocks, 2))


def write_believed(
    key: jax.Array,
    out: pathlib.Path,
    word: str,
    band: float,
    prior: MotionPrior,
    family: Family,
) -> None:
    """Writes WORD.mp4: simulated clips in the upper half, what the prior believes below."""
    columns, view = [], family_view(family)
    for number in range(_SCENES_OF_FILM):
        clip = motion_video(band, random_scene(number, family), view)
        simulated = np.asarray(clip.video)
        own = jax.random.fold_in(key, number)
        drawn = believed_clip(own, prior, simulated[0], np.float32(band))
        columns.append(np.concatenate([simulated, np.asarray(drawn)], 1))
    frames = [_enlarged(0.5 + 0.5 * frame) for frame in np.concatenate(columns, 2)]
    still = round(_SECONDS_AT_END / family.frame_seconds)
    film = (frames + [frames[-1]] * still) * _REPEATS
    video_io.write_video(out / f"{word}.mp4", film, 1.0 / family.frame_seconds)
    image_io.write_image(out / f"{word}.png", np.concatenate(frames, 0))


def _enlarged(picture: np.ndarray) -> np.ndarray:
    picture = to_bytes(np.clip(picture, 0.0, 1.0))
    return picture.repeat(_ENLARGED, 0).repeat(_ENLARGED, 1)
