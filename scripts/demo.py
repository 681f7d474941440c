r"""Shows what mien does, from one photo to a page to look at.

The head is fitted to the photo and painted with it; then it is made of jelly, held at the neck,
and poked: sim/data/scenes/head.json says how.

Examples (the first run compiles for about a minute):

  python -m scripts.demo
  python -m scripts.demo --photo=me.jpg --out=out/me

Open index.html in --out afterwards. The photo is by default the portrait of the astronaut Eileen
Collins, taken by NASA, in the public domain, that comes with scikit-image.
"""

import pathlib

import numpy as np
from absl import flags
from skimage import data

from recon import landmarks
from render import image_io, splat_io
from scripts.shell import command, filming, head, head_io, stopping
from scripts.shell.demo_page import demo_page
from scripts.shell.film_io import write_film
from scripts.shell.outputs_io import filling_folder, write_document
from sim import motion as motion_lib
from sim.scene_io import read_scene_file
from sim.simulation import make_simulation

_PHOTO = flags.DEFINE_string("photo", None, "Photo of a face; by default an astronaut's.")
_OUT = flags.DEFINE_string("out", "out/demo", "Folder to write.")
_SEED = flags.DEFINE_integer("seed", 0, "Written to config.json; nothing here is random.")

_JELLY = "head"  # of the scenes that come along
_JELLY_PARTICLES = 6000  # half of the preset's: nobody is to wait for a demo
_AZIMUTHS = (-70, -35, 0, 35, 70)  # degrees, of the stills
_STILL_SIZE = 512
_JELLY_FILES = "jelly.mp4", "jelly.jpg"
_PAGE = "index.html"
_LATER = (head_io.TURNTABLE, *_JELLY_FILES, _PAGE)


def main() -> None:
    out = command.writable_folder(_OUT.value)
    photo = image_io.read_photo(_PHOTO.value) if _PHOTO.value else data.astronaut() / 255.0
    maker = head.HeadMaker()
    maker.prepare()
    with command.progress("landmarks"):
        points = landmarks.detect_landmarks(photo)
    made = maker.make(photo, points)
    with head_io.drawn_turntable(made, maker) as frames:
        with filling_folder(out, _LATER, "the head") as folder:
            image_io.write_image(folder / "photo.jpg", photo)
            head_io.write_head(folder, made, maker)
            head_io.write_config(folder, maker, photo=_PHOTO.value, seed=_SEED.value)
            names = [path.name for path in folder.iterdir()]
        head_io.write_turntable(out, frames, maker)
    with stopping.keeping(lambda: f"the head in {out}"):
        write_jelly(out)
        write_page(out, made, [*names, head_io.TURNTABLE, *_JELLY_FILES])
    command.say(f"wrote {out / _PAGE}: {head_io.summary(made)}")


def write_jelly(folder: pathlib.Path) -> None:
    """Pokes the head that lies in the folder, and films it."""
    scene = read_scene_file(_JELLY)
    gaussians = splat_io.read_splats(folder / "splats.ply")
    ready = make_simulation(scene, gaussians, 0, "y", _JELLY_PARTICLES)
    with command.progress("jelly", scene.frame_num) as advance:
        motion = motion_lib.run(ready, scene.frame_num, advance)
    if motion.failure:
        raise command.WorkFailed(motion.failure)
    shot = filming.Shot(_STILL_SIZE, _STILL_SIZE)
    frames, fps = filming.frames_of(ready, motion, shot)
    pictures = filming.film(ready, motion, shot, frames)
    (poster,) = write_film(
        folder / _JELLY_FILES[0],
        pictures,
        len(frames),
        fps,
        label="jelly's pictures",
        keep=[len(frames) // 3],
    )
    image_io.write_image(folder / _JELLY_FILES[1], poster)


def write_page(folder: pathlib.Path, made: head.Head, names: list[str]) -> None:
    """Writes the stills and index.html beside the files of these names."""
    stills = {}
    with command.progress("stills", len(_AZIMUTHS)) as advance:
        for azimuth in _AZIMUTHS:
            view = next(head_io.turntable(made.mesh, 1, _STILL_SIZE, (azimuth, azimuth)))
            name = f"view{azimuth}.jpg"
            image_io.write_image(folder / name, np.asarray(view.rgb))
            stills[name] = f"The head turned by {abs(azimuth)} degrees"
            advance()
    face = made.face
    eyes = float(face.eye_distance_px)
    numbers = {
        "Mean error of the 51 inner points": _error_text(face.inner_error_px, eyes),
        "Mean distance of the 17 contour points to the contour": _error_text(
            face.contour_error_px, eyes
        ),
        "Distance of the outer eye corners": f"{eyes:.0f} px",
        "Iterations of the solver": f"{int(face.iterations)}",
        "Time of the fit, compiled": f"{1e3 * made.seconds:.0f} ms",
        "Vertices, triangles": f"{len(made.mesh.vertices):,}, {len(made.mesh.triangles):,}",
    }
    write_document(
        folder / _PAGE,
        demo_page(
            title="One photo, one head",
            lead="A morphable model was fitted to 68 points of the photo and painted with it. Then "
            "it was made of jelly, and poked.",
            stills=stills,
            numbers=numbers,
            files=[(name, (folder / name).stat().st_size) for name in sorted(names)],
        ),
    )


def _error_text(error_px: np.ndarray, eye_distance_px: float) -> str:
    return f"{float(error_px):.2f} px, {float(error_px) / eye_distance_px:.1%} of the eye distance"


if __name__ == "__main__":
    command.run(main)
