r"""Makes a capture of a video, or of photos: sharp pictures, and where each was taken from.

--video is a film around something that keeps still; --images are photos of it: files with commas,
a folder or a pattern. Blurred ones are left out, and where more are there than --frames the
sharpest of each stretch are kept. COLMAP (pycolmap) finds where they were taken from. Into --out go

  images/           the pictures, at most --max_side pixels long
  transforms.json   their cameras, for scripts.train_splats, nerfstudio and instant-ngp: what they
                    look at is about the origin, the farthest of them at a distance of one, up is
                    +y; applied_transform and applied_scale lead there from COLMAP's space
  points3D.ply      points that they see
  masks/            with --masks: white where the subject is
  sparse/0/         COLMAP's own model, as it found it
  report.json       how many were registered, how well, and what was left out

Examples:

  python -m scripts.prepare_capture --video=me.mp4 --masks=person --out=out/capture
  python -m scripts.prepare_capture --images=photos --frames=150 --max_side=2000
  python -m scripts.train_splats --capture=out/capture --width=400 --out=out/scene

It wants `pip install -e ".[sfm]"`. Where poses of less than --least of the pictures are found it
says what to do, and writes no transforms.json: half a capture makes a bad scene. A lens without
distortion is tried first, and one with distortion after it, all pictures with all others. A run
that was stopped goes on when the same command is given again. --masks=person cuts out whoever is
seen (a network of 250 kB, fetched once); a folder of masks has a picture of each photo's name, or
frame_000012.png for the twelfth frame of a video.

Exit status: 0 done; 2 bad input; 1 poses of too few were found, or --minutes were over; 130 or 143
stopped.
"""

import os
import pathlib
import time
from typing import Any

from absl import flags

from render import files_io
from render.image_io import PHOTO_ENDINGS
from scripts.capturing import frames_io, masks_io, poses_io
from scripts.capturing.frames_io import Frames
from scripts.capturing.poses_io import Attempt, Poses
from scripts.shell import command
from scripts.shell.files import list_files
from scripts.shell.settings import write_settings

_VIDEO = flags.DEFINE_string("video", None, "Film to take pictures out of.")
_IMAGES = flags.DEFINE_multi_string("images", [], "Photos: files, a folder or a pattern.")
_OUT = flags.DEFINE_string("out", "out/capture", "Folder to write.")
_FRAMES = flags.DEFINE_integer("frames", 100, "Pictures to keep, at most.", 3, 10_000)
_MAX_SIDE = flags.DEFINE_integer("max_side", 1600, "Of the pictures, pixels.", 64, 16_384)
_MATCHING = flags.DEFINE_enum(
    "matching",
    "auto",
    ["auto", "sequential", "exhaustive"],
    "Which pictures are compared: neighbours in time (auto, of a video), or all with all.",
)
_MASKS = flags.DEFINE_string("masks", "none", "none, person, or a folder of masks.")
_LEAST = flags.DEFINE_float("least", 0.8, "Share of the pictures that must get poses.", 0.0, 1.0)
_MINUTES = flags.DEFINE_float("minutes", 120.0, "After which COLMAP is given up.", 0.01)

_FEWEST = 3  # pictures
_FEW_POINTS = 50  # per picture
_NO_MASKS, _PERSON = "none", "person"


def main() -> None:
    if bool(_VIDEO.value) == bool(_IMAGES.value):
        found = "both" if _VIDEO.value else "neither"
        raise ValueError(f"expected --video or --images, found {found}")
    out = command.writable_folder(_OUT.value)
    poses_io.check_installed()
    network = None
    if _MASKS.value == _PERSON:
        network = masks_io.check_person_masks()
    elif _MASKS.value != _NO_MASKS and not pathlib.Path(_MASKS.value).is_dir():
        raise ValueError(f"expected person, none or a folder in --masks, found {_MASKS.value}")
    if _MASKS.value != _NO_MASKS:
        _check_apart(out / "masks", _MASKS.value, "masks")
    start = time.perf_counter()
    frames = _take_frames(out)
    if len(frames.kept) < _FEWEST:
        raise ValueError(
            f"expected at least {_FEWEST} pictures that are sharp, found "
            f"{len(frames.kept)} of {frames.num_read}"
        )
    _write_masks(out, frames, network)
    seconds = {"seconds_of_frames": time.perf_counter() - start}
    start = time.perf_counter()
    with command.progress("poses"):
        poses = _find_poses(out, frames)
    seconds["seconds_of_poses"] = time.perf_counter() - start
    advice = _advice(poses, frames)
    files_io.write_json(out / "report.json", _report(poses, frames, advice) | seconds)
    write_settings(out)
    total = len(frames.kept)
    share = poses.registered / total
    if share < _LEAST.value or poses.registered < _FEWEST:
        raise command.WorkFailed(
            f"expected poses of at least {_LEAST.value:.0%} of {total} pictures, found "
            f"{poses.registered} ({share:.0%}): {'; '.join(advice)} ({out / 'report.json'})"
        )
    poses_io.write_capture(out, poses, _MASKS.value != _NO_MASKS)
    command.say(
        f"wrote {out}: {poses.registered} of {total} pictures with poses, "
        f"{poses.num_points} points, off by {poses.reprojection_error_px:.2f} pixels"
    )


def _take_frames(out: pathlib.Path) -> Frames:
    """Takes the pictures, or those that an earlier run has left."""
    if _VIDEO.value:
        sources = [_VIDEO.value]
    else:
        sources = list_files(_IMAGES.value, PHOTO_ENDINGS, "images")
        if len(sources) < _FEWEST:
            raise ValueError(f"expected at least {_FEWEST} photos, found {len(sources)}")
        for source in sources:
            _check_apart(out / "images", pathlib.Path(source).parent, "photos")
    settings = {"frames": _FRAMES.value, "max_side": _MAX_SIDE.value, "sources": sources}
    known = frames_io.known_frames(out, settings)
    if known is not None:
        command.say(f"going on with the {len(known.kept)} pictures of an earlier run")
        return known
    if _VIDEO.value:
        with command.progress("frames") as advance:
            return frames_io.take_video(out, _VIDEO.value, settings, advance)
    with command.progress("photos", len(sources)) as advance:
        return frames_io.take_photos(out, sources, settings, advance)


def _check_apart(folder: pathlib.Path, theirs: str | os.PathLike, what: str) -> None:
    """Sees that what a user brought is not written over by smaller copies of it."""
    if folder.resolve() == pathlib.Path(theirs).resolve():
        raise ValueError(f"expected --out away from the {what} that it is made of, found {folder}")


def _write_masks(out: pathlib.Path, frames: Frames, network: pathlib.Path | None) -> None:
    if _MASKS.value == _NO_MASKS:
        masks_io.remove_masks(out, frames.kept)
        return
    with command.progress("masks", len(frames.kept)) as advance:
        if network is None:
            masks_io.write_own_masks(out, frames.kept, _MASKS.value, advance)
            return
        empty = masks_io.write_person_masks(out, frames.kept, network, advance)
    if empty:
        command.warn(f"nobody is found in {len(empty)} of {len(frames.kept)} pictures: {empty[0]}")


def _find_poses(out: pathlib.Path, frames: Frames) -> Poses:
    """Tries a pinhole first; where that is not enough, a lens with distortion and all pairs.

    Both have one focal length: around an upright axis, pictures do not tell a second one from a
    scene that is stretched along it.
    """
    matching = _MATCHING.value
    if matching == "auto":
        matching = "sequential" if _VIDEO.value else "exhaustive"
    end = time.monotonic() + 60 * _MINUTES.value
    best = None
    for attempt in (Attempt("SIMPLE_PINHOLE", matching), Attempt("SIMPLE_RADIAL", "exhaustive")):
        poses = poses_io.find_poses(
            out, frames.kept, attempt, _MAX_SIDE.value, end - time.monotonic()
        )
        command.say(
            f"{attempt.camera}, {attempt.matching}: {poses.registered} of {len(frames.kept)} "
            f"pictures, {poses.num_points} points"
        )
        if best is None or poses.registered > best.registered:
            best = poses
        if best.registered >= max(_FEWEST, _LEAST.value * len(frames.kept)):
            break
    return best


def _advice(poses: Poses, frames: Frames) -> list[str]:
    """Says what would help, the likeliest first; nothing where all is well."""
    total = len(frames.kept)
    if poses.registered >= max(0.95, _LEAST.value) * total:
        return []
    advice = []
    if poses.num_models > 1:
        advice.append(
            f"the pictures fall into {poses.num_models} groups that do not join: take more between "
            "them, at most ten degrees apart"
        )
    if poses.num_points < _FEW_POINTS * max(1, poses.registered):
        advice.append("there is little to hold on to: keep still things with texture in view")
    if len(frames.left_out) > 0.1 * total:
        advice.append("many are blurred: more light, slower")
    return [*advice, "walk around it, rather than turn on the spot; lock zoom and exposure"]


def _report(poses: Poses, frames: Frames, advice: list[str]) -> dict[str, Any]:
    total = len(frames.kept)
    without = [frame.name for frame in frames.kept if frame.name not in set(poses.names)]
    left_out = frames.left_out + [{"name": name, "reason": "no pose found"} for name in without]
    return {
        "registered": poses.registered,
        "total": total,
        "registered_share": poses.registered / total,
        "num_points": poses.num_points,
        "num_models": poses.num_models,
        "reprojection_error_px": poses.reprojection_error_px,
        "camera_model": poses.attempt.camera,
        "matching": poses.attempt.matching,
        "num_read": frames.num_read,
        "num_left_out": len(left_out),
        "left_out": left_out,
        "advice": advice,
    }


if __name__ == "__main__":
    command.run(main)
