r"""Draws or mends the contour paths of a face model, in the browser or with any paint program.

A contour path says where on the face the outline may lie as a head turns: it runs from a landmark
of the jaw over the cheek to the front of the face. The fit's methods `robust` and `spline` slide
the 17 points of the contour along such paths. Models come with paths that a rule has drawn; here
they are drawn by hand, and kept as barycentric points of the mesh.

In the browser: the page shows the mean face. Choose a path by its number; click on the face to draw
it, from the jaw to the front; drag a point to move it. It begins at its landmark by itself. The
sliders turn the face. "Save" writes --out.

  python -m scripts.annotate_paths --out=paths.json
  python -m scripts.annotate_paths --model=model2019_face12.h5 --out=bfm_paths.json
  python -m scripts.annotate_paths --paths=paths.json --out=paths.json    # go on where one ended

Without a browser: write a view, paint strokes on it, and have them read.

  python -m scripts.annotate_paths --view=side.png --yaw=40               # and side.json
  # paint on side.png, save as drawn.png or drawn.jpg (or over it); do not crop or resize
  python -m scripts.annotate_paths --view=side.png --picture=drawn.png --out=paths.json

A stroke may be a few pixels thick and of any colour that stands out. It is one line without
branches, stays on the face, touches no other stroke and starts at one of the numbered dots, the
landmarks of the jaw. Paths without a stroke stay as they were; other views go on with --paths.

The result is for

  python -m scripts.reconstruct --photo=me.jpg --paths=paths.json --out=out/me

Every path is divided evenly into as many points as the model's own has. The page is served on this
machine only; Ctrl-C ends it. Exit status: 0 done; 2 bad input; 1 the work itself failed.
"""

import pathlib
import threading
import time
import webbrowser

import numpy as np
from absl import flags

from recon import assets
from recon.contour_paths import drawn as drawn_lib
from recon.contour_paths import paths_io, strokes
from recon.contour_paths.drawn import SkinPoints
from recon.contour_paths.editor import Editor
from recon.morphable import NUM_CONTOUR, MorphableModel
from render import image_io
from scripts.annotation import face_view, face_view_io
from scripts.annotation import server as server_lib
from scripts.shell import command, stopping
from scripts.viewing.viewer import HOST, free_port

_MODEL = flags.DEFINE_string("model", "default", "'default', or the file of a model.")
_OUT = flags.DEFINE_string("out", "out/contour_paths.json", "File of paths to write.")
_PATHS = flags.DEFINE_string("paths", None, "File of paths to begin with; else the model's own.")
_YAW = flags.DEFINE_float(
    "yaw",
    40.0,
    "Degrees the camera is turned to the face's left.",
    -face_view.MOST_YAW,
    face_view.MOST_YAW,
)
_PITCH = flags.DEFINE_float(
    "pitch",
    0.0,
    "Degrees the camera is raised above the face.",
    -face_view.MOST_PITCH,
    face_view.MOST_PITCH,
)
_VIEW = flags.DEFINE_string(
    "view", None, "Picture to paint on; with --picture, the one that was painted on."
)
_PICTURE = flags.DEFINE_string("picture", None, "The view with strokes painted on it.")
_PORT = flags.DEFINE_integer("port", 8090, "Of localhost; the next free one if taken.", 1, 65535)
_OPEN = flags.DEFINE_bool("open", True, "Open the page in the browser.")
_SECONDS = flags.DEFINE_float("seconds", None, "End by itself after this time.", 0.0)
_SEED = flags.DEFINE_integer("seed", 0, "Of no effect: nothing here is random.")

_TICK = 0.05  # seconds


def main() -> None:
    out = pathlib.Path(_OUT.value)
    if _PICTURE.value or not _VIEW.value:
        if out.is_dir():
            raise ValueError(f"expected a file in --out, found a folder at {out}")
        command.writable_folder(out.parent)
    with command.progress("model"):
        model = assets.load_model(_MODEL.value)
        begin = drawn_lib.model_paths(model)
        if _PATHS.value:
            corners, weights = paths_io.read_paths(_PATHS.value, model)
            begin = [SkinPoints(*pair) for pair in zip(corners, weights, strict=True)]
    if _PICTURE.value:
        read_strokes(model, begin, out)
    elif _VIEW.value:
        write_face_view(model)
    else:
        serve(Editor(model, begin), out)


def write_face_view(model: MorphableModel) -> None:
    """Writes the picture to paint on, and what the way back needs."""
    picture = pathlib.Path(_VIEW.value)
    with command.progress("view"):
        view = face_view.draw_view(model, _YAW.value, _PITCH.value)
        image_io.write_image(picture, face_view.with_landmarks(model, view))
        face_view_io.write_view(picture.with_suffix(".json"), model, view.camera)
    is_seen = np.isfinite(face_view.seen_landmarks(model, view.camera)).all(axis=1)
    command.say(
        f"wrote {picture} and {picture.with_suffix('.json').name}: "
        f"{is_seen.sum()} of {NUM_CONTOUR} landmarks to start at"
    )


def read_strokes(model: MorphableModel, begin: list[SkinPoints], out: pathlib.Path) -> None:
    """Turns the strokes of a picture into paths, and writes all."""
    painted = image_io.read_photo(_PICTURE.value)
    view = pathlib.Path(_VIEW.value or _PICTURE.value)
    camera = face_view_io.read_view(view.with_suffix(".json"), model)
    with command.progress("strokes"):
        # Drawn anew: the user may have painted on the view itself.
        clean = face_view.with_landmarks(model, face_view.draw_face(model, camera))
        masks = strokes.find_strokes(clean, painted)
        drawn = strokes.paths_from_strokes(
            masks,
            camera,
            drawn_lib.model_skin(model),
            np.asarray(model.landmark_vertices),
            len(begin[0].corners),
        )
    paths = [drawn.get(number, path) for number, path in enumerate(begin)]
    corners, weights = (np.stack(field) for field in zip(*paths, strict=True))
    paths_io.write_paths(out, model, corners, weights)
    command.say(
        f"wrote {out}: {server_lib.summary(model, corners, weights, sorted(drawn))} "
        f"({', '.join(map(str, sorted(drawn)))})"
    )


def serve(editor: Editor, out: pathlib.Path) -> None:
    """Serves the page until Ctrl-C, or as long as --seconds says."""
    annotation = server_lib.Annotation(editor, out, _YAW.value, _PITCH.value)
    with command.progress("compiling the picture"):
        annotation.view(_YAW.value, _PITCH.value)
    port = free_port(_PORT.value)
    address = f"http://{HOST}:{port}"
    with server_lib.make_server(annotation, HOST, port) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command.say(f"open {address} in a browser; Ctrl-C ends")
        if _OPEN.value:
            webbrowser.open_new_tab(address)
        started = time.monotonic()
        with stopping.noted() as stop:
            while not stop and (
                _SECONDS.value is None or time.monotonic() - started < _SECONDS.value
            ):
                time.sleep(_TICK)
            stop.forget()
        server.shutdown()
    command.say(f"wrote {out}: {annotation.saved}" if annotation.saved else "nothing was saved")


if __name__ == "__main__":
    command.run(main)
