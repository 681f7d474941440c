"""What `render` and `view` show: splats or meshes from files, which way is up, colours by name."""

import pathlib
import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from render import mesh_io, shapes, splat_io
from render.framing import Subject, join, mesh_subject, splat_subject
from render.gaussians import Gaussians
from render.mesh import Mesh
from sim.carry import find_neighbours
from sim.trajectory_io import Trajectory, gaussians_of_frame, read_trajectory, vertices_of_frame

_PLACES = 8  # of a moving scene that are looked at
AXES = ("x", "y", "z", "-x", "-y", "-z")
_COLORS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0), "grey": (0.5, 0.5, 0.5)}


class Scene(NamedTuple):
    """One file's content: splats or a mesh."""

    name: str
    gaussians: Gaussians | None
    mesh: Mesh | None
    up: str  # an axis
    places: Subject | None = None  # where it is in the course of time, if it moves

    @property
    def subject(self) -> Subject:
        """The points that a picture is to show."""
        if self.places is not None:
            return self.places
        return splat_subject(self.gaussians) if self.mesh is None else mesh_subject(self.mesh)

    @property
    def text(self) -> str:
        """Says what it is in a few words."""
        if self.mesh is None:
            return f"{len(self.gaussians.means):,} Gaussians"
        return f"{len(self.mesh.triangles):,} triangles"


def read_scene(path: str) -> Scene:
    """Reads a splat file or a mesh, told apart by the content, or makes up a shape of that name.

    Splats are y down unless their file says otherwise; meshes are y up.
    """
    if path in shapes.NAMES:
        return Scene(path, shapes.shape(path), None, "z")
    name = pathlib.Path(path).name
    if splat_io.is_splat_file(path):
        gaussians = splat_io.read_splats(path)
        if not len(gaussians.means):
            raise ValueError(f"expected Gaussians, found none in {path}")
        return Scene(name, gaussians, None, splat_io.read_up(path) or "-y")
    return Scene(name, None, jax.device_get(mesh_io.read_mesh(path)), "y")


def read_motion(path: str, scene: Scene) -> tuple[Scene, Trajectory]:
    """Reads how a scene moves, and tells the scene where it will be."""
    num_gaussians = len(scene.gaussians.means) if scene.mesh is None else None
    trajectory = read_trajectory(path, num_gaussians)
    moment = motion_of(scene, trajectory)
    frames = np.linspace(0, len(trajectory.seconds) - 1, _PLACES).astype(int)
    places = join([moment(frame).subject for frame in np.unique(frames)])
    return scene._replace(places=places), trajectory


def motion_of(scene: Scene, trajectory: Trajectory) -> Callable[[int], Scene]:
    """Returns what tells how the scene is at a frame."""
    if scene.mesh is None:
        return lambda frame: scene._replace(
            gaussians=gaussians_of_frame(scene.gaussians, trajectory, frame)
        )
    vertices = np.asarray(scene.mesh.vertices)
    neighbours = find_neighbours(vertices, trajectory.rest)
    return lambda frame: scene._replace(
        mesh=scene.mesh.replace(vertices=vertices_of_frame(vertices, trajectory, frame, neighbours))
    )


def join_splats(parts: list[Gaussians]) -> Gaussians:
    """Makes one scene of several, of the largest degree among them."""
    most = max(part.harmonics.shape[1] for part in parts)
    parts = [
        part.replace(
            harmonics=jnp.pad(part.harmonics, ((0, 0), (0, most - part.harmonics.shape[1]), (0, 0)))
        )
        for part in parts
    ]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def axis(name: str) -> np.ndarray:
    """Returns the unit vector [3] of an axis by its name."""
    return np.eye(3)["xyz".index(name[-1])] * (-1.0 if name.startswith("-") else 1.0)


def color(text: str) -> tuple[float, float, float]:
    """Reads white, black, grey, #rrggbb, or three numbers in [0, 1] with commas between them."""
    if text in _COLORS:
        return _COLORS[text]
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        return tuple(int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))
    values = numbers(text, "a colour: white, black, #rrggbb or r,g,b in [0, 1]")
    if len(values) != 3 or min(values) < 0 or max(values) > 1:
        raise ValueError(f"expected a colour: white, black, #rrggbb or r,g,b, found {text}")
    return tuple(values)


def numbers(text: str, what: str, separator: str = ",") -> list[float]:
    """Reads finite numbers with separators between them."""
    try:
        values = [float(part) for part in text.split(separator)]
    except ValueError:
        values = [np.nan]
    if not np.isfinite(values).all():
        raise ValueError(f"expected {what}, found {text}")
    return values


def nearest_axis(direction: np.ndarray) -> str:
    """Names the axis that lies nearest to a direction: "x" or "-x", and so on."""
    axis = int(np.argmax(np.abs(direction)))
    return ("-" if direction[axis] < 0 else "") + "xyz"[axis]


def picture_size(text: str) -> tuple[int, int]:
    """Reads 512 or 640x480."""
    sides = numbers(text.lower(), "--size such as 512 or 640x480", "x")
    sides = sides * 2 if len(sides) == 1 else sides
    if len(sides) != 2 or any(side != int(side) or not 8 <= side <= 8192 for side in sides):
        raise ValueError(f"expected --size such as 512 or 640x480, from 8 to 8192, found {text}")
    return int(sides[0]), int(sides[1])


def azimuths(text: str | None, num_frames: int, is_still: bool) -> np.ndarray:
    """Reads the azimuths of the pictures, degrees."""
    text = text or ("0" if is_still else "0:360")
    if is_still:
        return np.array(numbers(text, "--azimuth such as 0 or -40,0,40"))
    ends = numbers(text, "--azimuth such as 0:360 or 30", ":")
    if len(ends) > 2:
        raise ValueError(f"expected --azimuth such as 0:360 or 30, found {text}")
    return np.linspace(ends[0], ends[-1], num_frames, endpoint=False)


def frames_of(trajectory: Trajectory, fps: float) -> np.ndarray:
    """Returns the frame of the trajectory that each picture of a video shows, in real time."""
    seconds = trajectory.seconds - trajectory.seconds[0]
    times = np.arange(int(seconds[-1] * fps + 1e-6) + 1) / fps
    return np.searchsorted(seconds, times + 1e-6, side="right") - 1
