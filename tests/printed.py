"""What README.md, CONTRIBUTING.md and docs/ print to be copied: commands and Python, and stand-ins.

A line may read what the reader is to bring (`OWN`, of which stand-ins are made here) and what an
earlier line has written.
"""

import pathlib
import re
import shlex
from typing import NamedTuple

import commands
import jax
import numpy as np
import pillow_heif
import pipeline_folders
import skimage.data
from PIL import Image, ImageDraw

from recon import assets
from recon.contour_paths import drawn, rule
from render import capture_io, image_io, mesh_io, shapes, splat_io
from render.camera import perspective_camera
from render.mesh import Mesh
from render.splat import SplatConfig, needed_pairs, splat
from render.splat_training import TrainConfig, init_state
from scripts.annotation.face_view import SIZE
from sim.trajectory_io import Trajectory, write_trajectory

ROOT = commands.ROOT
DOCUMENTS = ["README.md", "CONTRIBUTING.md"]
DOCUMENTS += sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
# Flags that name what is read.
INPUTS = {
    *("photo", "image", "landmarks", "model", "paths", "truth", "picture", "capture"),
    *("splats", "scene", "show", "trajectory", "cameras"),
}


class Line(NamedTuple):
    """A command that is printed in a block; inline, in the text."""

    document: str
    words: tuple[str, ...]

    @property
    def command(self) -> str | None:
        """The name of one of ours."""
        is_ours = self.words[:2] == ("python", "-m") and self.words[2].startswith("scripts.")
        return self.words[2].removeprefix("scripts.") if is_ours else None

    @property
    def arguments(self) -> tuple[str, ...]:
        return self.words[3:]

    @property
    def inputs(self) -> list[str]:
        """What it reads."""
        inputs = INPUTS - {"capture"} if self.command == "render" else INPUTS
        values = [value for flag, value in self._flags() if flag in inputs]
        return [name for value in values for name in value.split(",")]

    @property
    def outputs(self) -> list[str]:
        """Where it writes."""
        return [value for flag, value in self._flags() if flag in self._output_flags]

    @property
    def _output_flags(self) -> tuple[str, ...]:
        return ("out", "capture") if self.command == "render" else ("out", "view")

    def _flags(self) -> list[tuple[str, str]]:
        pairs = [word.removeprefix("--").partition("=") for word in self.arguments]
        return [(flag, value) for flag, _, value in pairs if value]

    def __str__(self) -> str:
        return " ".join(self.words)


def blocks(document: str) -> list[tuple[str, str]]:
    """Language and text of the fenced blocks of a document."""
    text = (ROOT / document).read_text()
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def printed(document: str) -> list[Line]:
    """The lines of a document's shell blocks."""
    texts = [text for language, text in blocks(document) if language == "sh"]
    joined = "\n".join(texts).replace("\\\n", " ")
    words = (tuple(shlex.split(line, comments=True)) for line in joined.splitlines())
    return [Line(document, some) for some in words if some]


def inline(document: str) -> list[Line]:
    """Our commands that stand in the text, in backquotes."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / document).read_text(), flags=re.M | re.S)
    found = re.findall(r"`(python -m scripts\.[a-z_]+[^`]*)`", text)
    return [Line(document, tuple(shlex.split(line))) for line in found]


def snippets(document: str) -> list[str]:
    """The Python blocks of a document."""
    return [text for language, text in blocks(document) if language == "python"]


def _photo(path: pathlib.Path) -> None:
    Image.fromarray(skimage.data.astronaut()).save(path)


def _heic(path: pathlib.Path) -> None:
    pillow_heif.from_pillow(Image.fromarray(skimage.data.astronaut())).save(path)


def _two_faces(path: pathlib.Path) -> None:
    photo = skimage.data.astronaut()
    Image.fromarray(np.concatenate([photo, photo[:, ::-1]], 1)).save(path)


def _points(path: pathlib.Path) -> None:
    path.write_bytes((ROOT / "tests" / "data" / "astronaut.pts").read_bytes())


def _splats(path: pathlib.Path) -> None:
    cube = shapes.shape("cube")
    splat_io.write_splats(path, jax.tree.map(lambda leaf: leaf[:: len(leaf) // 500], cube))


def _their_scene(path: pathlib.Path) -> None:
    path.write_bytes((ROOT / "tests" / "data" / "scenes" / "ficus.json").read_bytes())


def _trajectory(path: pathlib.Path) -> None:
    means = np.asarray(splat_io.read_splats(path.with_name("flowers.ply")).means)
    write_trajectory(path, Trajectory(np.array([0.0, 0.1]), np.stack([means, means + 0.1])))


def _capture(path: pathlib.Path) -> None:
    angles = 2 * np.pi * np.arange(4) / 4
    places = [(3 * np.sin(a), 0.5, 3 * np.cos(a)) for a in angles]
    cameras = [perspective_camera(place, (0, 0, 0), 48, 48) for place in places]
    rng = np.random.default_rng(0)
    points, colors = rng.uniform(-0.5, 0.5, (40, 3)), rng.random((40, 3))
    config = TrainConfig(count=40, degree=0)
    truth = init_state(jax.random.key(0), cameras, points, colors, config).gaussians
    room = SplatConfig(max_pairs=2 * int(needed_pairs(truth, cameras[0])))
    names = [f"images/{i}.png" for i in range(len(cameras))]
    for camera, name in zip(cameras, names, strict=True):
        image_io.write_image(path / name, splat(truth, camera, room).rgb)
    capture_io.write_transforms(path / "transforms.json", cameras, names)


def _scan(path: pathlib.Path) -> None:
    model = assets.load_model("default")
    mesh_io.write_ply(path.with_name("one.ply"), Mesh(model.mean, model.triangles))


def _painted(path: pathlib.Path) -> None:
    """A stroke on side.png, along the path of a landmark that is seen from there."""
    model = assets.load_model("default")
    paths = rule.path_points(np.asarray(model.mean, float), model.path_vertices, model.path_weights)
    camera = drawn.view_camera(model, 40.0, 0.0, SIZE)
    stroke, _ = drawn.project_orthographic(camera, drawn.spline_through(np.asarray(paths[12])))
    with Image.open(path.with_name("side.png")) as file:
        picture = file.convert("RGB")
    ImageDraw.Draw(picture).line([tuple(xy) for xy in stroke], fill=(0, 160, 60), width=5)
    picture.save(path)


# What a reader brings: name -> what makes a stand-in at a path.
OWN = {
    **dict.fromkeys(["me.jpg", "a.jpg", "b.jpg"], _photo),
    "b.heic": _heic,
    "holiday/*.jpg": lambda path: _photo(path.with_name("one.jpg")),
    "family.jpg": _two_faces,
    "me.pts": _points,
    **dict.fromkeys(["flowers.ply", "ficus.ply", "playbot.ply"], _splats),
    "ficus_config.json": _their_scene,
    "trajectory.npz": _trajectory,
    "plush": _capture,
    "scans/*.ply": _scan,
    "drawn.png": _painted,
    "modelscope": pipeline_folders.write_modelscope,
    "model2019_face12.h5": None,  # its makers give it to those who register
}
