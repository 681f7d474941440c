r"""Shows splats, meshes, fields and random people: videos, pictures, captures to learn from.

--show is a splat file (.ply, .compressed.ply, .spz, .splat), a mesh (.obj, .glb, .ply), the
radiance field of scripts.train_nerf (.safetensors), told apart by their content, or a made-up
shape: ball, cube, plant, cord. The camera finds the subject by itself and turns around it. A field
that has learnt two appearances is shown in a mixture of them by --style, from 0 to 1. Into --out go

  video.mp4     the scene from all sides, or along --cameras, or as --trajectory moves it
  frames.png    some of its frames, for a look without a player
  still.png     instead of both, with --still
  config.json   every setting of this run, and the target and distance that were found

With --capture=DIR it is photographed from known places instead, --frames of them spread over the
sphere between --elevations (or around it, where that is one number). Into that folder go

  transforms.json   cameras as instant-ngp and nerfstudio have them; scripts.train_splats reads it
  images/           what they see, over --background
  masks/            white where the subject is
  depth/            16-bit multiples of `integer_depth_scale` of transforms.json; 0 where none is
  config.json       as above

--show=people draws --count random people, each in a pose, light and place of its own, and writes

  pictures/     of --size, a thousand to a folder: 0000/0000000.png and so on
  masks/        likewise: 0 background, 1 skin, 2 neck, 3 lips, 4 mouth, 5 eyes, 6 brows, 7 hair,
                8 clothes
  people.jsonl  a line for each: attributes in words, identity and expression of the default head,
                pose, camera, light as nine harmonics in the head's axes, 68 landmarks in pixels
  sheet.jpg     the first 32 in one picture, with --sheet
  config.json   every setting of this run

Person n depends on --seed and n alone. A run that was stopped goes on where it was when it is
started again, and one with a larger --count adds to it. Every core draws.

Examples:

  python -m scripts.render --show=flowers.ply --out=out/flowers
  python -m scripts.render --show=out/me/splats.ply --size=768 --frames=120 --elevation=0
  python -m scripts.render --show=out/me/head.glb --still --azimuth=-40,0,40
  python -m scripts.render --show=out/plush/splats.ply --cameras=data/plush
  python -m scripts.render --show=flowers.ply --trajectory=trajectory.npz --azimuth=30
  python -m scripts.render --show=out/me/head.glb --trajectory=out/jelly/trajectory.npz
  python -m scripts.render --show=out/me/head.glb --capture=out/me/capture --frames=100 --size=384
  python -m scripts.render --show=people --count=10000 --size=128 --seed=1 --out=out/people

Splats are y down, as most captures are, unless their file says otherwise; meshes are y up. --up
overrides. An azimuth of zero looks at the front; it grows towards the right hand of who stands
there. --cameras takes what scripts.train_splats takes (a folder with transforms.json,
transforms_train.json or a COLMAP model, or such a file; photos need not be there), and the
camera_path.json of nerfstudio's and viser's viewers. A trajectory is that of a splat scene; a
simulated one moves a mesh in the same space too.
Exit status: 0 done; 2 bad input; 1 another failure; 130 or 143 stopped by Ctrl-C or SIGTERM: the
pictures that are finished become the film.
"""

import collections
import pathlib
from collections.abc import Iterator

import numpy as np
from absl import flags

from render import (
    capture_io,
    framing,
    image_io,
)
from render.camera import DEFAULT_FOV_DEGREES, Camera, fit_camera, orbit
from render.image import RenderOutput, contact_sheet
from scripts.shell import command, people_io, posed_io, scenes, stopping
from scripts.shell.film_io import write_film
from scripts.shell.settings import write_settings
from scripts.shell.shown import Shown, in_style, read_moving, read_shown

_SHOW = flags.DEFINE_string("show", None, "Splats, a mesh, a field, or people.", required=True)
_OUT = flags.DEFINE_string("out", "out/render", "Folder to write.")
_STILL = flags.DEFINE_bool("still", False, "Write one picture rather than a video.")
_SIZE = flags.DEFINE_string("size", "512", "Side of the picture, or WIDTHxHEIGHT, pixels.")
_FRAMES = flags.DEFINE_integer("frames", 90, "Frames of the turn.", 1, 100_000)
_CAPTURE = flags.DEFINE_string("capture", None, "Folder of a capture to write, instead of --out.")
_ELEVATIONS = flags.DEFINE_string("elevations", "-20:60", "Degrees: LOW:HIGH of --capture, or one.")
_FPS = flags.DEFINE_float("fps", 30.0, "Frames per second.", 0.1, 240.0)
_AZIMUTH = flags.DEFINE_string(
    "azimuth", None, "Degrees: FROM:TO of the turn (0:360), or one or several of --still (0)."
)
_ELEVATION = flags.DEFINE_float("elevation", 15.0, "Of the camera, degrees.", -90.0, 90.0)
_FOV = flags.DEFINE_float("fov", DEFAULT_FOV_DEGREES, "Field of view, degrees.", 1.0, 150.0)
_TARGET = flags.DEFINE_string("target", None, "x,y,z that the camera looks at; found by itself.")
_DISTANCE = flags.DEFINE_float("distance", None, "Of the camera; found by itself.", 1e-6)
_UP = flags.DEFINE_enum("up", None, scenes.AXES, "Which way is up.")
_BACKGROUND = flags.DEFINE_string("background", "white", "white, black, grey, #rrggbb or r,g,b.")
_CAMERAS = flags.DEFINE_string("cameras", None, "Capture or camera_path.json to go along.")
_STYLE = flags.DEFINE_float("style", None, "Of a field: 0 as photographed, 1 restyled.", 0.0, 1.0)
_TRAJECTORY = flags.DEFINE_string("trajectory", None, "How the scene moves, .npz.")
_COUNT = flags.DEFINE_integer("count", 32, "People of --show=people.", 1, 10_000_000)
_SHEET = flags.DEFINE_bool("sheet", False, "Write the first 32 people in one picture, too.")
_SEED = flags.DEFINE_integer("seed", 0, "Of --show=people; nothing else here is random.", 0)

_FRAMED = 24  # views that the distance is found for
_PEOPLE = "people"
_FOR_PEOPLE = ("count", "sheet")
_NOT_FOR_PEOPLE = (
    *("still", "frames", "fps", "azimuth", "elevation", "fov", "target", "distance", "up"),
    *("background", "cameras", "trajectory", "capture", "elevations", "style"),
)


def main() -> None:
    if _STILL.value and (_CAMERAS.value or _TRAJECTORY.value):
        raise ValueError("expected --still or one of --cameras and --trajectory, found both")
    if _CAPTURE.value is None:
        out = command.writable_folder(_OUT.value)
    else:
        _check_flags_of_capture()
        out = command.writable_folder(_CAPTURE.value, "--capture")
    width, height = scenes.picture_size(_SIZE.value)
    _check_flags_of_people()
    if _SHOW.value == _PEOPLE:
        total = people_io.write_people(out, _COUNT.value, _SEED.value, width, height, _SHEET.value)
        command.say(f"wrote {out}: {total} people of {width} x {height} pixels")
        return
    background = scenes.color(_BACKGROUND.value)
    shown: Shown = read_shown(_SHOW.value)
    if _STYLE.value is not None:
        shown = in_style(shown, _STYLE.value)
    if _TRAJECTORY.value:
        shown = read_moving(_TRAJECTORY.value, shown, _FPS.value)
    command.say(f"{shown.name}: {shown.text}")
    if _CAMERAS.value:
        cameras, found = _camera_path(width, height), {}
    elif _CAPTURE.value is not None:
        cameras, found = _around(shown, width, height)
    else:
        cameras, found = _turn(shown, width, height)
    outputs = shown.frames(cameras, background)

    with stopping.noted():
        if _CAPTURE.value is not None:
            reach = framing.farthest(shown.subject, cameras)
            count = posed_io.write_posed(out, cameras, outputs, reach)
            write_settings(out, up=_UP.value or shown.up, **found)
            command.say(f"wrote {out}: {count} pictures of {width} x {height} pixels")
            return
        if _STILL.value:
            _write_still(out / "still.png", outputs, len(cameras))
        else:
            views = (output.rgb for output in outputs)
            write_film(out / "video.mp4", views, len(cameras), _FPS.value, sheet=out / "frames.png")
        write_settings(out, up=_UP.value or shown.up, **found)
    name = "still.png" if _STILL.value else "video.mp4"
    pixels = f"{cameras[0].width} x {cameras[0].height}"
    command.say(f"wrote {out / name}: {len(cameras)} pictures of {pixels}")


def _check_flags_of_people() -> None:
    """Refuses flags that people have no use for, and those of people for anything else."""
    is_people = _SHOW.value == _PEOPLE
    for name in _NOT_FOR_PEOPLE if is_people else _FOR_PEOPLE:
        if flags.FLAGS[name].present:
            wanted = "--show=people with --count, --size, --seed and --sheet"
            wanted = f"{wanted} alone" if is_people else wanted
            raise ValueError(f"expected {wanted}, found --{name}")


def _check_flags_of_capture() -> None:
    """Refuses flags that a capture has no use for."""
    for name in ("still", "cameras", "trajectory", "elevation", "out", "fps"):
        if flags.FLAGS[name].present:
            raise ValueError(f"expected --capture without --{name}, found both")


def _camera_path(width: int, height: int) -> list[Camera]:
    """Reads the cameras to go along, all of one size: the commonest, or of the width asked for."""
    is_sized = flags.FLAGS["size"].present
    path = capture_io.read_cameras(_CAMERAS.value, (width, height) if is_sized else None)
    if path.left_out:
        first, total = path.left_out[0], len(path.left_out) + len(path.cameras)
        command.warn(
            f"{len(path.left_out)} of {total} cameras are left out; the first is {first.name}: "
            f"{first.reason}"
        )
    cameras = path.cameras
    if is_sized:
        cameras = [framing.with_width(camera, width) for camera in cameras]
    sizes = collections.Counter((camera.width, camera.height) for camera in cameras)
    if len(sizes) == 1:
        return cameras
    (size, _), *_ = sizes.most_common(1)
    command.say(f"cameras of {len(sizes)} sizes, shown as {size[0]} x {size[1]}")
    return [fit_camera(camera, *size) for camera in cameras]


def _turn(shown: Shown, width: int, height: int) -> tuple[list[Camera], dict]:
    """Returns the cameras around what is shown, and what was found about it."""
    num_frames = shown.num_pictures or _FRAMES.value
    angles = scenes.azimuths(_AZIMUTH.value, num_frames, _STILL.value)
    return _views(shown, [(angle, _ELEVATION.value) for angle in angles], width, height)


def _around(shown: Shown, width: int, height: int) -> tuple[list[Camera], dict]:
    """Returns the cameras of a capture of what is shown, and what was found about it."""
    low, high = scenes.span(_ELEVATIONS.value, "--elevations such as -20:60 or 15")
    if not -90 <= low <= high <= 90:
        raise ValueError(f"expected --elevations from -90 to 90, found {_ELEVATIONS.value}")
    azimuths = scenes.span(_AZIMUTH.value or "0:360", "--azimuth such as -90:90")
    views = framing.spread_views(_FRAMES.value, azimuths, (low, high))
    return _views(shown, views, width, height)


def _views(
    shown: Shown, views: list[tuple[float, float]], width: int, height: int
) -> tuple[list[Camera], dict]:
    """Returns the cameras at azimuths and elevations, all at one distance, and what was found."""
    lens = {"fov_degrees": _FOV.value, "up": scenes.axis(_UP.value or shown.up)}
    target = None
    if _TARGET.value:
        target = scenes.numbers(_TARGET.value, "--target=x,y,z")
        if len(target) != 3:
            raise ValueError(f"expected --target=x,y,z, found {_TARGET.value}")
    some = views[:: -(-len(views) // _FRAMED)]
    found = framing.frame_views(shown.subject, width, height, some, target=target, **lens)
    extent = found.extent
    if _DISTANCE.value:
        extent = framing.extent_at(_DISTANCE.value, _FOV.value)
    cameras = []
    for azimuth, elevation in views:
        at = {"azimuth_degrees": (azimuth, azimuth), "elevation_degrees": elevation}
        cameras += orbit(found.target, extent, 1, width, height, **at, **lens)
    distance = framing.distance_of(extent, _FOV.value)
    return cameras, {"found_target": found.target, "found_distance": distance}


def _write_still(path: pathlib.Path, outputs: Iterator[RenderOutput], total: int) -> None:
    """Writes one picture: the views side by side; stopped by a signal, those that there are."""
    views = []
    with stopping.noted() as stop:
        with command.progress("pictures", total) as advance:
            while not stop and (output := next(outputs, None)) is not None:
                views.append(np.clip(np.asarray(output.rgb), 0.0, 1.0))
                advance()
        if not views:
            stop.act()
        image_io.write_image(path, contact_sheet(views, columns=total))
        stop.keep(f"{len(views)} of {total} views in {path}")


if __name__ == "__main__":
    command.run(main)
