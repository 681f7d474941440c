"""What `render` and `view` show: splats, meshes, either of them in motion, radiance fields."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, Self

import jax
import numpy as np

from models.nerf.nerf_io import Nerf, is_nerf_file, read_nerf
from render import mesh_io, rasterize, shapes, splat_io
from render.camera import Camera
from render.frames import draw_frames
from render.framing import Subject, join, mesh_subject, splat_subject
from render.gaussians import Gaussians, join_gaussians
from render.image import RenderOutput
from render.mesh import Mesh
from render.splat import splat_frames
from scripts.shell import command, nerf_views, scenes
from scripts.shell.scenes import frames_in_time
from sim.carry import find_neighbours
from sim.trajectory_io import (
    Trajectory,
    cut_scene,
    gaussians_of_frame,
    read_trajectory,
    vertices_of_frame,
)

_STRAY = 0.02  # share of a field's points that may leave the picture
_PLACES = 8  # of what moves, that a picture is framed for
Color = tuple[float, float, float]


class Shown(Protocol):
    """Something to look at; a new kind implements this, and a layer of the page."""

    name: str
    up: str  # an axis, as in `scenes.AXES`

    @property
    def subject(self) -> Subject:
        """The points that a picture is to show."""

    @property
    def text(self) -> str:
        """What it is, in a few words."""

    @property
    def num_pictures(self) -> int | None:
        """How many pictures a film of it has; None where it stands still."""

    def frames(self, cameras: Sequence[Camera], background: Color) -> Iterator[RenderOutput]:
        """Renders one picture after another; what moves is further on in each."""


class Movable(Shown, Protocol):
    """Something that a trajectory can move."""

    def read_trajectory(self, path: str) -> Trajectory:
        """Reads how it moves.

        Raises:
          ValueError: when the file is missing, broken, or not of this.
        """

    def moments(self, trajectory: Trajectory) -> Callable[[int], Self]:
        """Returns the function from a frame of the trajectory to how this is then."""

    @staticmethod
    def film(
        moments: Iterable[Self], cameras: Sequence[Camera], background: Color
    ) -> Iterator[RenderOutput]:
        """Renders one moment for each camera."""


class SplatsShown(NamedTuple):
    """A splat scene."""

    name: str
    gaussians: Gaussians
    up: str
    places: Subject | None = None  # what to frame instead, if that is not where it is now
    num_pictures: int | None = None

    @property
    def subject(self) -> Subject:
        return self.places or splat_subject(self.gaussians)

    @property
    def text(self) -> str:
        return f"{len(self.gaussians.means):,} Gaussians"

    def frames(self, cameras: Sequence[Camera], background: Color) -> Iterator[RenderOutput]:
        return splat_frames(self.gaussians, cameras, background=background, on_growth=_say_growth)

    def read_trajectory(self, path: str) -> Trajectory:
        return read_trajectory(path, len(self.gaussians.means))

    def moments(self, trajectory: Trajectory) -> Callable[[int], Self]:
        scene = cut_scene(self.gaussians, trajectory)
        return lambda frame: self._replace(gaussians=gaussians_of_frame(scene, trajectory, frame))

    @staticmethod
    def film(
        moments: Iterable["SplatsShown"], cameras: Sequence[Camera], background: Color
    ) -> Iterator[RenderOutput]:
        moving = (moment.gaussians for moment in moments)
        return splat_frames(moving, cameras, background=background, on_growth=_say_growth)


class MeshShown(NamedTuple):
    """A mesh."""

    name: str
    mesh: Mesh
    up: str
    num_pictures: int | None = None

    @property
    def subject(self) -> Subject:
        return mesh_subject(self.mesh)

    @property
    def text(self) -> str:
        return f"{len(self.mesh.triangles):,} triangles"

    def frames(self, cameras: Sequence[Camera], background: Color) -> Iterator[RenderOutput]:
        return rasterize.render_frames(self.mesh, cameras, _mesh_config(background))

    def read_trajectory(self, path: str) -> Trajectory:
        return read_trajectory(path, None)

    def moments(self, trajectory: Trajectory) -> Callable[[int], Self]:
        vertices = np.asarray(self.mesh.vertices)
        neighbours = find_neighbours(vertices, trajectory.rest)

        def moment(frame: int) -> MeshShown:
            moved = vertices_of_frame(vertices, trajectory, frame, neighbours)
            return self._replace(mesh=self.mesh.replace(vertices=moved))

        return moment

    @staticmethod
    def film(
        moments: Iterable["MeshShown"], cameras: Sequence[Camera], background: Color
    ) -> Iterator[RenderOutput]:
        config = _mesh_config(background)

        def draw(view: tuple[Mesh, Camera], max_pairs: int | None) -> RenderOutput:
            room = dataclasses.replace(config.rasterize, max_pairs=max_pairs)
            return rasterize.render_mesh(*view, dataclasses.replace(config, rasterize=room))

        views = ((moment.mesh, camera) for moment, camera in zip(moments, cameras, strict=True))
        return draw_frames(draw, views, config.rasterize.max_pairs, 2.0)


class MovingShown:
    """Splats or a mesh in the course of time."""

    def __init__(self, still: Movable, trajectory: Trajectory, fps: float):
        """Moves `still` by a trajectory, in real time at `fps` pictures per second."""
        self.still, self.trajectory = still, trajectory
        self.name, self.up, self.text = still.name, still.up, still.text
        self.at = still.moments(trajectory)  # the function from a frame to how it is then
        self._frames = frames_in_time(trajectory.seconds, fps)
        self.num_pictures = len(self._frames)

    @functools.cached_property
    def subject(self) -> Subject:
        """All the places that it comes to."""
        frames = np.linspace(0, len(self.trajectory.seconds) - 1, _PLACES).astype(int)
        return join([self.at(frame).subject for frame in np.unique(frames)])

    def frames(self, cameras: Sequence[Camera], background: Color) -> Iterator[RenderOutput]:
        """Renders a picture for each camera; the last moment stays where there are more."""
        last = len(self._frames) - 1
        moments = (self.at(self._frames[min(i, last)]) for i in range(len(cameras)))
        return self.still.film(moments, cameras, background)


class NerfShown:
    """A radiance field, in one of its styles or a mixture."""

    num_pictures = None

    def __init__(self, name: str, nerf: Nerf, style: float = 0.0):
        """Shows `nerf` in the style alpha, in [0, 1]."""
        self.name, self.nerf, self.style = name, nerf, style
        self.up = scenes.nearest_axis(np.array(nerf.facts["up"]))

    @property
    def text(self) -> str:
        size = sum(leaf.size for leaf in jax.tree.leaves(self.nerf.params))
        return f"a radiance field of {size / 1e6:.1f} million numbers"

    @functools.cached_property
    def surface(self) -> tuple[np.ndarray, np.ndarray]:
        """Points [P, 3] of what some of the photos see, and their colours."""
        return nerf_views.surface_points(self.nerf, self.style)

    @property
    def subject(self) -> Subject:
        points = nerf_views.inside_box(self.nerf, self.surface[0])
        return Subject(points, np.full(len(points), 1.0 / len(points)), _STRAY)

    def frames(self, cameras: Sequence[Camera], background: Color) -> Iterator[RenderOutput]:
        return nerf_views.pictures(self.nerf, cameras, self.style, background)


def read_shown(path: str) -> SplatsShown | MeshShown | NerfShown:
    """Reads splats, a mesh or a radiance field, told by content, or makes up a shape of that name.

    Splats are y down unless their file says otherwise; meshes are y up.
    """
    if path in shapes.NAMES:
        return SplatsShown(path, shapes.shape(path), "z")
    name = pathlib.Path(path).name
    if is_nerf_file(path):
        return NerfShown(name, read_nerf(path))
    if splat_io.is_splat_file(path):
        gaussians = splat_io.read_splats(path)
        if not len(gaussians.means):
            raise ValueError(f"expected Gaussians, found none in {path}")
        return SplatsShown(name, gaussians, splat_io.read_up(path) or "-y")
    return MeshShown(name, jax.device_get(mesh_io.read_mesh(path)), "y")


def read_splats(path: str) -> SplatsShown:
    """Reads a splat file, or makes up a shape of that name.

    Raises:
      ValueError: when the file holds a mesh.
    """
    shown = read_shown(path)
    if not isinstance(shown, SplatsShown):
        found = "a mesh" if isinstance(shown, MeshShown) else "a radiance field"
        raise ValueError(f"expected splats, found {found} in {path}")
    return shown


def in_style(shown: Shown, style: float) -> NerfShown:
    """Returns a radiance field in another style.

    Raises:
      ValueError: for anything else, and for a field that has one style alone.
    """
    if not isinstance(shown, NerfShown):
        raise ValueError(f"expected a radiance field with --style, found {shown.text}")
    if shown.nerf.facts["num_styles"] < 2 and style > 0:
        raise ValueError(f"expected a field of two styles, found one in {shown.name}")
    return NerfShown(shown.name, shown.nerf, style)


def read_moving(path: str, still: Movable, fps: float) -> MovingShown:
    """Reads how something moves.

    Raises:
      ValueError: of what cannot move, or a trajectory that is not its own.
    """
    if isinstance(still, NerfShown):
        raise ValueError(f"expected splats or a mesh that can move, found {still.text}")
    return MovingShown(still, still.read_trajectory(path), fps)


def first_splats(shown: Sequence[Shown]) -> int:
    """Returns the number of the first splat scene.

    Raises:
      ValueError: when there is none.
    """
    for number, one in enumerate(shown):
        if isinstance(one, SplatsShown):
            return number
    raise ValueError("expected splats that can move, found none")


def in_one_picture(shown: Sequence[Shown]) -> Shown:
    """Returns what one picture of several shows: all the splats among them, or else the first."""
    splats = [one for one in shown if isinstance(one, SplatsShown)]
    if not splats:
        return shown[0]
    return splats[0]._replace(gaussians=join_gaussians([one.gaussians for one in splats]))


def _mesh_config(background: Color) -> rasterize.RenderConfig:
    return rasterize.RenderConfig(supersample=2, background=background)


def _say_growth(max_pairs: int) -> None:
    command.say(f"room for {max_pairs} pairs of Gaussian and tile")
