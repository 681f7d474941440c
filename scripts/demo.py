r"""Shows what mien does, from one photo to a page to look at.

The head is fitted to the photo and painted with it; then it is made of jelly, held at the neck,
and poked: sim/data/scenes/head.json says how. A small video prior is asked how stiff "soft" and
"firm" are, and the head is poked again.

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
from render import files_io, image_io
from scripts.materials.worded import stiffness_by_word
from scripts.shell import command, filming, head, head_io, stopping
from scripts.shell.demo_page import demo_page
from scripts.shell.film_io import write_film
from scripts.shell.outputs_io import filling_folder, write_document
from scripts.shell.shown import read_splats
from sim import motion as motion_lib
from sim.material import with_modulus
from sim.scene_io import read_scene_file
from sim.simulation import ReadyScene, make_simulation, with_material

_PHOTO = flags.DEFINE_string("photo", None, "Photo of a face; by default an astronaut's.")
_OUT = flags.DEFINE_string("out", "out/demo", "Folder to write.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise that the prior looks through.")

_JELLY = "head"  # of the scenes that come along
_JELLY_PARTICLES = 6000  # half of the preset's: nobody is to wait for a demo
_AZIMUTHS = (-70, -35, 0, 35, 70)  # degrees, of the stills
_STILL_SIZE = 512
_WORDS = ("soft", "firm")
_FEW_PARTICLES = 700  # whose motion is shown to the prior
_FILMS = ("jelly", *_WORDS)
_FILM_FILES = tuple(f"{name}{suffix}" for name in _FILMS for suffix in (".mp4", ".jpg"))
_MATERIAL = "material.json"
_CAPTIONS = {"soft": "“soft”", "jelly": "The jelly above, before", "firm": "“firm”"}
_PAGE = "index.html"
_LATER = (head_io.TURNTABLE, *_FILM_FILES, _MATERIAL, _PAGE)


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
        moduli = write_jellies(out)
        write_page(out, made, moduli, [*names, head_io.TURNTABLE, *_FILM_FILES, _MATERIAL])
    command.say(f"wrote {out / _PAGE}: {head_io.summary(made)}")


def write_jellies(folder: pathlib.Path) -> dict[str, float]:
    """Pokes the head that lies in the folder, as its scene has it and as words say, and films it.

    Returns:
      Young's modulus of each film, pascals.
    """
    scene = read_scene_file(_JELLY)
    splats = read_splats(str(folder / "splats.ply"))
    how = {"seed": _SEED.value, "up": "y"}
    ready = make_simulation(scene, splats.gaussians, max_particles=_JELLY_PARTICLES, **how)
    write_jelly(folder, "jelly", ready)
    few = how | {"max_particles": _FEW_PARTICLES}
    found = stiffness_by_word(scene, splats, _WORDS, few)
    files_io.write_json(folder / _MATERIAL, found)
    moduli = {"jelly": scene.material.youngs_modulus}
    for word, report in found.items():
        for warning in report["warnings"]:
            command.warn(f"{word}: {warning}")
        moduli[word] = report["youngs_modulus_pa"]
        changed = with_modulus(ready.simulation.material, moduli[word])
        write_jelly(folder, word, with_material(ready, changed))
    return moduli


def write_jelly(folder: pathlib.Path, name: str, ready: ReadyScene) -> None:
    """Simulates and films a scene; a picture of it lies beside the film."""
    num_frames = ready.scene.frame_num
    with command.progress(name, num_frames) as advance:
        motion = motion_lib.run(ready, num_frames, advance)
    if motion.failure:
        raise command.WorkFailed(motion.failure)
    shot = filming.Shot(_STILL_SIZE, _STILL_SIZE)
    frames, fps = filming.frames_of(ready, motion, shot)
    pictures = filming.film(ready, motion, shot, frames)
    (poster,) = write_film(
        folder / f"{name}.mp4",
        pictures,
        len(frames),
        fps,
        label=f"{name}'s pictures",
        keep=[len(frames) // 3],
    )
    image_io.write_image(folder / f"{name}.jpg", poster)


def write_page(
    folder: pathlib.Path, made: head.Head, moduli: dict[str, float], names: list[str]
) -> None:
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
            "it was made of jelly, and poked; and once more as soft, and as firm, as a video prior "
            "takes the words.",
            stills=stills,
            films={
                f"{name}.mp4": f"{_CAPTIONS[name]}: {moduli[name] / 1e3:.3g} kPa"
                for name in ("soft", "jelly", "firm")
            },
            numbers=numbers,
            files=[(name, (folder / name).stat().st_size) for name in sorted(names)],
        ),
    )


def _error_text(error_px: np.ndarray, eye_distance_px: float) -> str:
    return f"{float(error_px):.2f} px, {float(error_px) / eye_distance_px:.1%} of the eye distance"


if __name__ == "__main__":
    command.run(main)
