r"""Makes a 3D head of the face in a photo.

The 68 landmarks of the face are found (or read), a morphable model is fitted to them, and the
photo paints it. Into --out go

  head.obj, head.mtl, texture.png   for Blender, MeshLab and most others
  head.glb, head.ply                for browsers and game engines; with vertex colours
  splats.ply                        for viewers of 3D Gaussian splats, and for what moves them
  overlay.png                       the points and the head over the photo: look here first
  uncertainty.png                   how far each point of the head may be off, in millimetres
  turntable.mp4                     the head from all sides
  landmarks.pts                     the points; correct them and run again with --landmarks
  fit.json                          identity, expression, pose, how sure they are, errors in pixels
  config.json                       every setting of this run

Examples (the first run compiles for about a minute; after that a photo takes a few seconds):

  python -m scripts.reconstruct --photo=me.jpg --out=out/me
  python -m scripts.reconstruct --photo=family.jpg --face=1 --out=out/aunt
  python -m scripts.reconstruct --photo=a.jpg,b.jpg,c.jpg --out=out/all   # out/all/a, .../b, .../c
  python -m scripts.reconstruct --photo=a.jpg,b.jpg --same_person --out=out/me  # one shape for both
  python -m scripts.reconstruct --photo=me.jpg --landmarks=me.pts --out=out/me
  python -m scripts.reconstruct --landmarks=me.pts --out=out/me           # no photo, no texture
  python -m scripts.reconstruct --photo=me.jpg --model=model2019_face12.h5 --out=out/me

With --same_person one identity is fitted to all photos at once, each with its own pose, expression
and texture. How sure a fit is (uncertainty.png, the _std of fit.json) supposes a detector's usual
noise and a face that the model can make; of a face unlike all of them it knows nothing.

Methods, by what they do with the 17 points of the contour, which slide as the head turns:

  robust   they slide on paths over the face, outliers lose their pull (the default)
  spline   they slide on paths, all points pull alike
  chain    each jumps along a chain of vertices
  inner    they are left out
  fixed    each is tied to one vertex

Exit status: 0 done; 2 bad input; 1 no face found, or another failure of the work itself; 130 or
143 stopped by Ctrl-C or SIGTERM: heads that are finished stay. Each takes one line on stderr, and
leaves nothing half-written in --out.
"""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from recon import fit, landmarks, landmarks_io
from render import image_io
from scripts.shell import command, head, head_io, stopping
from scripts.shell.outputs_io import filling_folder

_DEFAULT = head.HeadConfig()
_PHOTO = flags.DEFINE_list("photo", [], "Photo, or several with commas between them.")
_LANDMARKS = flags.DEFINE_list(
    "landmarks", [], "68 points in .pts, one file per photo; else they are detected."
)
_OUT = flags.DEFINE_string("out", "out/head", "Folder to write; several photos: a folder each.")
_MODEL = flags.DEFINE_string("model", _DEFAULT.model, "'default', or the file of a model.")
_PATHS = flags.DEFINE_string("paths", _DEFAULT.paths, "Contour paths from `annotate_paths`.")
_METHOD = flags.DEFINE_enum("method", _DEFAULT.method, list(fit.METHODS), "See above.")
_FACE = flags.DEFINE_integer("face", 0, "Which face: 0 the clearest, 1 the next.", lower_bound=0)
_SAME_PERSON = flags.DEFINE_bool(
    "same_person", False, "All photos show one person: fit one identity to them together."
)
_NUM_IDENTITY = flags.DEFINE_integer(
    "num_identity", None, "Identity modes to fit; all of the model by default.", lower_bound=1
)
_EXPRESSION = flags.DEFINE_bool("expression", _DEFAULT.expression, "Fit the expression too.")
_START = flags.DEFINE_enum(
    "start",
    _DEFAULT.start,
    ["closed_form", "frontal"],
    "Pose to start from: solved from the inner points, or facing the camera.",
)
_TEXTURE_SIZE = flags.DEFINE_integer(
    "texture_size", _DEFAULT.texture_size, "Side of texture.png, pixels.", 16, 8192
)
_SIZE = flags.DEFINE_integer("size", _DEFAULT.size, "Side of the turntable, pixels.", 16, 4096)
_FRAMES = flags.DEFINE_integer(
    "frames", _DEFAULT.frames, "Frames of the turntable; 0 leaves it out.", 0, 10_000
)
_SEED = flags.DEFINE_integer("seed", 0, "Written to config.json; nothing here is random.")


class Task(NamedTuple):
    """One face to reconstruct."""

    photo: str | None
    landmarks: str | None
    out: pathlib.Path


def main() -> None:
    out = command.writable_folder(_OUT.value)
    config = head.HeadConfig(
        model=_MODEL.value,
        paths=_PATHS.value,
        method=_METHOD.value,
        num_identity=_NUM_IDENTITY.value,
        expression=_EXPRESSION.value,
        start=_START.value,
        texture_size=_TEXTURE_SIZE.value,
        size=_SIZE.value,
        frames=_FRAMES.value,
    )
    tasks = list_tasks(_PHOTO.value, _LANDMARKS.value, out)
    maker = head.HeadMaker(config)  # a bad file shows before any work
    if len(tasks) == 1:
        reconstruct(tasks[0], maker)
        return
    if _SAME_PERSON.value:
        failures = reconstruct_person(tasks, maker)
    else:
        _, failures = attempt(tasks, lambda task: reconstruct(task, maker), "heads")
    if failures:
        raise command.WorkFailed(
            f"expected {len(tasks)} heads, found {len(tasks) - len(failures)}; "
            f"without one: {', '.join(failures)}"
        )


def list_tasks(photos: list[str], points: list[str], out: pathlib.Path) -> list[Task]:
    """Pairs photos with landmark files and gives each a folder.

    Raises:
      ValueError: nothing to do, counts that differ, or two photos of one name.
    """
    if not photos and not points:
        raise ValueError("expected --photo or --landmarks, found neither")
    if photos and points and len(photos) != len(points):
        raise ValueError(
            f"expected as many --landmarks as photos, found {len(points)} for {len(photos)}"
        )
    names = photos or points
    stems = [pathlib.Path(name).stem for name in names]
    if len(set(stems)) < len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise ValueError(f"expected photos of different names, found '{twice}' twice")
    folders = [out] if len(names) == 1 else [out / stem for stem in stems]
    return [
        Task(
            photo=photos[i] if photos else None,
            landmarks=points[i] if points else None,
            out=folder,
        )
        for i, folder in enumerate(folders)
    ]


def attempt(
    tasks: list[Task], work: Callable[[Task], Any], what: str | None = None
) -> tuple[dict[Task, Any], list[str]]:
    """Does `work` for one task after the other; returns the results, and the names that failed.

    Stopped by a signal, it says how many are kept, if `what` says of what.
    """
    results, failures = {}, []

    def kept() -> str:
        return f"{len(results)} of {len(tasks)} {what}" if results and what else ""

    with stopping.keeping(kept):
        for number, task in enumerate(tasks, start=1):
            name = task.photo or task.landmarks
            command.say(f"{number} of {len(tasks)}: {name}")
            try:
                results[task] = work(task)
            except (ValueError, RuntimeError, OSError) as error:
                command.warn(f"{name}: {error}")
                failures.append(name)
    return results, failures


def reconstruct(task: Task, maker: head.HeadMaker) -> None:
    """Reconstructs one face and writes its files."""
    photo, points = find_face(task, maker)
    write(task, maker.make(photo, points), maker)


def reconstruct_person(tasks: list[Task], maker: head.HeadMaker) -> list[str]:
    """Reconstructs one person from several photos; returns the names that failed."""
    faces, failures = attempt(tasks, lambda task: find_face(task, maker))
    if not faces:
        return failures
    fits = maker.fit_person([points for _, points in faces.values()])
    fits = dict(zip(faces, fits, strict=True))

    def finish(task: Task) -> None:
        write(task, maker.paint(*faces[task], fits[task]), maker)

    return failures + attempt(list(faces), finish, "heads")[1]


def find_face(task: Task, maker: head.HeadMaker) -> tuple[np.ndarray | None, np.ndarray]:
    """Returns the photo, if there is one, and the points of its face."""
    photo = image_io.read_photo(task.photo) if task.photo else None
    maker.prepare(paints=photo is not None)
    return photo, find_points(photo, task.landmarks)


def write(task: Task, made: head.Head, maker: head.HeadMaker) -> None:
    """Writes the files of a head."""
    with filling_folder(task.out, [head_io.TURNTABLE]) as folder:
        head_io.write_head(folder, made, maker)
        head_io.write_config(
            folder,
            maker,
            photo=task.photo,
            landmarks=task.landmarks,
            face=_FACE.value,
            same_person=_SAME_PERSON.value,
            seed=_SEED.value,
        )
    head_io.write_turntable(task.out, made, maker)
    command.say(f"wrote {task.out}: {head_io.summary(made)}")


def find_points(photo: np.ndarray | None, pts: str | None) -> np.ndarray:
    """Reads the landmarks, or detects them."""
    if pts is None:
        with command.progress("landmarks"):
            return landmarks.detect_landmarks(photo, _FACE.value)
    points = landmarks_io.read_pts(pts)
    landmarks.landmarks_from_points(points)
    if photo is not None:
        height, width = photo.shape[:2]
        is_inside = ((points >= 0) & (points <= (width, height))).all(1)
        if is_inside.mean() < 0.5:
            raise ValueError(
                f"expected the points of {pts} inside the {width} x {height} photo, "
                f"found {(~is_inside).sum()} of them outside"
            )
    return points


if __name__ == "__main__":
    command.run(main)
