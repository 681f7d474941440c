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
  python -m scripts.reconstruct --photo=family.jpg --face=list --out=out/who  # faces.png, numbered
  python -m scripts.reconstruct --photo=a.jpg,b.heic,c.png --out=out/all  # out/all/a, .../b, .../c
  python -m scripts.reconstruct --photo=holiday --out=out/all             # the photos of a folder
  python -m scripts.reconstruct --photo='holiday/*.jpg' --out=out/all
  python -m scripts.reconstruct --photo=a.jpg,b.jpg --same_person --out=out/me  # one shape for both
  python -m scripts.reconstruct --photo=me.jpg --landmarks=me.pts --out=out/me
  python -m scripts.reconstruct --landmarks=me.pts --out=out/me           # no photo, no texture
  python -m scripts.reconstruct --photo=me.jpg --model=model2019_face12.h5 --out=out/me
  python -m scripts.reconstruct --photo=me.jpg --hair=bob02 --hair_colour=#5a3d2b --out=out/me

Photos may be of any format that Pillow reads, and HEIC. A face may lie on its side or stand on its
head; dim and hazy photos are stretched before it is looked for. Points that a .pts file marks as
hidden, by (-1, -1) or (0, 0), are left out of the fit.

A face is looked at twice: once where the detector finds it, and once where the fit has put it. When
the detector is unsure, or the two disagree, a warning says by how much; what is surely no face ends
with status 1.

Hair is painted on the skull; the default head also wears it as a mesh, where that is nearer to what
the photo shows. --hair chooses: 'auto', 'none', or one of afro01, bob01, bob02, braid01, long01,
ponytail01, short01, short02, short03, short04, whose length is still the photo's.

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
from recon.detection import search
from render import image_io
from scripts.shell import command, head, head_io, pictures, stopping
from scripts.shell.files import list_files
from scripts.shell.outputs_io import filling_folder

_DEFAULT = head.HeadConfig()
_PHOTO = flags.DEFINE_multi_string(
    "photo", [], "Photo, several with commas between them, a folder, or a pattern in quotes."
)
_LANDMARKS = flags.DEFINE_multi_string(
    "landmarks", [], "68 points in .pts, one file per photo, likewise; else they are detected."
)
_OUT = flags.DEFINE_string("out", "out/head", "Folder to write; several photos: a folder each.")
_MODEL = flags.DEFINE_string("model", _DEFAULT.model, "'default', or the file of a model.")
_PATHS = flags.DEFINE_string("paths", _DEFAULT.paths, "Contour paths from `annotate_paths`.")
_METHOD = flags.DEFINE_enum("method", _DEFAULT.method, list(fit.METHODS), "See above.")
_OFFSETS = flags.DEFINE_bool(
    "offsets",
    _DEFAULT.offsets,
    "Know by how much dlib is always off the default head's landmarks.",
)
_PRIOR = flags.DEFINE_enum(
    "prior",
    _DEFAULT.prior,
    ["model", "people"],
    "Faces held to be likely: those the model was made from, or real people's.",
)
_FACE = flags.DEFINE_string(
    "face", "0", "Which face: 0 the clearest, 1 the next; 'list' draws all, numbered, and ends."
)
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
_HAIR = flags.DEFINE_string(
    "hair", _DEFAULT.hair, "'auto', 'none' (paint on the skull), or a style; see above."
)
_HAIR_COLOUR = flags.DEFINE_string(
    "hair_colour", _DEFAULT.hair_colour, "Of the hair: a name or '#rrggbb'; none takes the photo's."
)
_SIZE = flags.DEFINE_integer("size", _DEFAULT.size, "Side of the turntable, pixels.", 16, 4096)
_FRAMES = flags.DEFINE_integer(
    "frames", _DEFAULT.frames, "Frames of the turntable; 0 leaves it out.", 0, 10_000
)
_SEED = flags.DEFINE_integer("seed", 0, "Written to config.json; nothing here is random.")


_LIST = "list"  # of --face
_MANY = 1000  # faces
_BAD_INPUT = (ValueError, FileNotFoundError, IsADirectoryError, PermissionError)


class Task(NamedTuple):
    """One face to reconstruct."""

    photo: str | None
    landmarks: str | None
    out: pathlib.Path


class Face(NamedTuple):
    """What is known of a face before the fit."""

    photo: np.ndarray | None  # [H, W, 3]
    points: np.ndarray  # [68, 2] pixels, NaN where hidden
    score: float | None  # the detector's; None where the points were given


def main() -> None:
    out = command.writable_folder(_OUT.value)
    config = head.HeadConfig(
        model=_MODEL.value,
        paths=_PATHS.value,
        method=_METHOD.value,
        offsets=_OFFSETS.value,
        prior=_PRIOR.value,
        num_identity=_NUM_IDENTITY.value,
        expression=_EXPRESSION.value,
        start=_START.value,
        texture_size=_TEXTURE_SIZE.value,
        size=_SIZE.value,
        frames=_FRAMES.value,
        hair=_HAIR.value,
        hair_colour=_HAIR_COLOUR.value,
    )
    tasks = list_tasks(
        list_files(_PHOTO.value, image_io.PHOTO_ENDINGS, "photo"),
        list_files(_LANDMARKS.value, [".pts"], "landmarks"),
        out,
    )
    check_face_flag()
    refuse_missing(tasks)
    if _FACE.value == _LIST:
        finish(tasks, attempt(tasks, list_faces)[1] if len(tasks) > 1 else list_faces(tasks[0]))
        return
    maker = head.HeadMaker(config)  # a bad file shows before any work
    if len(tasks) == 1:
        reconstruct(tasks[0], maker)
        return
    if _SAME_PERSON.value:
        failures = reconstruct_person(tasks, maker)
    else:
        _, failures = attempt(tasks, lambda task: reconstruct(task, maker), "heads")
    finish(tasks, failures)


def finish(tasks: list[Task], failures: dict[str, Exception] | None) -> None:
    """Ends with status 2 if no task could even be begun, and with 1 if some failed."""
    if not failures:
        return
    message = (
        f"expected {len(tasks)} {'pictures' if _FACE.value == _LIST else 'heads'}, "
        f"found {len(tasks) - len(failures)}; without one: {', '.join(failures)}"
    )
    is_input = all(isinstance(error, _BAD_INPUT) for error in failures.values())
    if is_input and len(failures) == len(tasks):
        raise ValueError(message)
    raise command.WorkFailed(message)


def check_face_flag() -> None:
    """Refuses a --face that is neither a number nor the word."""
    if _FACE.value != _LIST and not _FACE.value.isdecimal():
        raise ValueError(f"expected --face={_LIST} or a number from 0, found {_FACE.value!r}")


def refuse_missing(tasks: list[Task]) -> None:
    """Refuses several tasks none of which has its files; of a single one its reader tells."""

    def missing(task: Task) -> list[str]:
        return [name for name in task[:2] if name and not pathlib.Path(name).exists()]

    if len(tasks) > 1 and all(missing(task) for task in tasks):
        names = ", ".join(name for task in tasks for name in missing(task))
        raise ValueError(f"expected {len(tasks)} photos, found nothing at {names}")


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
) -> tuple[dict[Task, Any], dict[str, Exception]]:
    """Does `work` for one task after the other; returns results by task, and errors by name.

    Stopped by a signal, it says how many are kept, if `what` says of what.
    """
    results, failures = {}, {}

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
                failures[name] = error
    return results, failures


def reconstruct(task: Task, maker: head.HeadMaker) -> None:
    """Reconstructs one face and writes its files."""
    write(task, maker.make(*find_face(task, maker)), maker)


def reconstruct_person(tasks: list[Task], maker: head.HeadMaker) -> dict[str, Exception]:
    """Reconstructs one person from several photos; returns errors by name."""
    faces, failures = attempt(tasks, lambda task: find_face(task, maker))
    if not faces:
        return failures
    fits = maker.fit_person([face.points for face in faces.values()])
    fits = dict(zip(faces, fits, strict=True))

    def paint(task: Task) -> None:
        face = faces[task]
        write(task, maker.paint(face.photo, face.points, fits[task], face.score), maker)

    return failures | attempt(list(faces), paint, "heads")[1]


def find_face(task: Task, maker: head.HeadMaker) -> Face:
    """Reads the photo, if there is one, and reads or detects the points of its face."""
    photo = image_io.read_photo(task.photo) if task.photo else None
    maker.prepare(paints=photo is not None)
    if task.landmarks:
        return Face(photo, read_points(task.landmarks, photo), None)
    with command.progress("landmarks"):
        found = landmarks.find_face(photo, int(_FACE.value))
        points = landmarks.predict_points(photo, found.box, found.quarter_turns)
    if found.quarter_turns:
        turn = 90 * found.quarter_turns
        command.say(f"the face does not stand upright: found with the photo turned by {turn} deg")
    return Face(photo, points, found.score)


def list_faces(task: Task) -> None:
    """Draws the faces of a photo with their numbers, and says how clear each is.

    Raises:
      ValueError: there is no photo.
      WorkFailed: no face.
    """
    if not task.photo:
        raise ValueError(f"expected --photo with --face={_LIST}, found none")
    photo = image_io.read_photo(task.photo)
    with command.progress("faces"):
        faces = landmarks.detect_faces(photo, _MANY)
    if not faces:
        raise command.WorkFailed(f"no face found in {task.photo}")
    for number, face in enumerate(faces):
        left, top, right, bottom = face.box
        notes = [f"score {face.score:.2f}", f"{right - left:.0f} px wide"]
        notes += [f"around ({(left + right) / 2:.0f}, {(top + bottom) / 2:.0f})"]
        notes += ["not upright"] * bool(face.quarter_turns)
        notes += ["perhaps no face"] * (face.score < search.FALSE_ALARM)
        command.say(f"--face={number}: {', '.join(notes)}")
    with filling_folder(task.out) as folder:
        picture = pictures.draw_faces(photo, [face.box for face in faces])
        image_io.write_image(folder / "faces.png", picture)
    command.say(f"wrote {task.out / 'faces.png'}: {len(faces)} faces")


def write(task: Task, made: head.Head, maker: head.HeadMaker) -> None:
    """Writes the files of a head."""
    with head_io.drawn_turntable(made, maker) as frames:
        with filling_folder(task.out, [head_io.TURNTABLE]) as folder:
            head_io.write_head(folder, made, maker)
            head_io.write_config(
                folder,
                maker,
                photo=task.photo,
                landmarks=task.landmarks,
                face=int(_FACE.value),
                same_person=_SAME_PERSON.value,
                seed=_SEED.value,
            )
        head_io.write_turntable(task.out, frames, maker)
    command.say(f"wrote {task.out}: {head_io.summary(made)}")


def read_points(pts: str, photo: np.ndarray | None) -> np.ndarray:
    """Reads the landmarks [68, 2] and says which of them are left out."""
    points = landmarks_io.read_pts(pts)
    landmarks.landmarks_from_points(points)
    is_hidden = landmarks.hidden_points(points)
    if is_hidden.any():
        hidden = ", ".join(map(str, np.flatnonzero(is_hidden)))
        command.say(f"{is_hidden.sum()} of 68 points are hidden and left out: {hidden}")
    if photo is not None:
        height, width = photo.shape[:2]
        seen = points[~is_hidden]
        is_inside = ((seen >= 0) & (seen <= (width, height))).all(1)
        if is_inside.mean() < 0.5:
            raise ValueError(
                f"expected the points of {pts} inside the {width} x {height} photo, "
                f"found {(~is_inside).sum()} of them outside"
            )
    return points


if __name__ == "__main__":
    command.run(main)
