"""What a person does to contour paths, step by step: place, move, undo, mirror.

Axes: N points placed on a path, C control points of every path. Pixels as in `render.camera`.
"""

from typing import NamedTuple

import numpy as np

from recon.contour_paths import drawn
from recon.contour_paths.drawn import SkinPoints
from recon.contour_paths.rule import path_points
from recon.morphable import NUM_CONTOUR, MorphableModel
from recon.splines import natural_spline
from render.camera import Camera

_SNAP = 0.014  # of the picture's side: a click so near to the landmark is the landmark
_PER_SPAN = 6  # samples of a line that is shown
_MOST_STEPS = 200  # that can be undone


class Drawing(NamedTuple):
    """One path."""

    placed: SkinPoints  # [N, 3] what can be taken hold of
    control: SkinPoints | None  # [C, 3] what is saved; None as long as there are too few points
    is_drawn: bool  # else it is as it was


class Line(NamedTuple):
    """One path as it is shown."""

    curve: np.ndarray  # [n, 3] samples
    points: np.ndarray  # [N, 3] what can be taken hold of


class Editor:
    """The 17 paths of a model, as a person changes them."""

    def __init__(self, model: MorphableModel, begin: list[SkinPoints] | None = None):
        """Begins with paths of `model`, from `begin` [17] or its own."""
        self.model, self.skin = model, drawn.model_skin(model)
        self.landmarks = np.asarray(model.landmark_vertices)[:NUM_CONTOUR]
        self.mirror = None if model.mirror is None else np.asarray(model.mirror)
        own = drawn.model_paths(model)
        self.begin = tuple(Drawing(p, p, False) for p in begin or own)
        self.num_control = len(self.begin[0].placed.corners)
        self.own = self.begin
        if begin:
            is_long = len(own[0].corners) == self.num_control
            self.own = tuple(Drawing(p, p, False) if is_long else self._drawing(p) for p in own)
        self.paths, self.history = self.begin, []

    def place(self, path: int, xy, camera: Camera, mirror: bool) -> None:
        """Places the next point of a path where a pixel [2] sees the face.

        A path that is as it was is drawn anew, from its landmark on.

        Raises:
          ValueError: the pixel lies beside the face.
        """
        point = self._at(xy, camera)
        placed = self.paths[path].placed if self.paths[path].is_drawn else self._start(path)
        is_begun = len(placed.corners) > 0
        if len(placed.corners) == 1 and self.landmarks[path] >= 0:
            start, _ = drawn.project_orthographic(camera, self.skin.positions(placed)[0])
            if np.linalg.norm(start - xy) < _SNAP * camera.width:
                point = None
        if is_begun and point is not None:
            point = drawn.join([placed, point])
        self._change(path, placed if point is None else point, mirror)

    def move(
        self, path: int, index: int, xy, camera: Camera, mirror: bool, goes_on: bool = False
    ) -> None:
        """Moves a point of a path to where a pixel [2] sees the face.

        `goes_on` says that the step before was part of the same move: both are undone as one.

        Raises:
          ValueError: the pixel lies beside the face, or the point is the landmark.
        """
        placed = self.paths[path].placed
        if not 0 <= index < len(placed.corners):
            raise ValueError(f"expected a point of path {path}, found number {index}")
        if index == 0 and self.landmarks[path] >= 0:
            raise ValueError(f"Path {path} starts at its landmark; that point stays.")
        point = self._at(xy, camera)
        corners, weights = placed.corners.copy(), placed.weights.copy()
        corners[index], weights[index] = point.corners[0], point.weights[0]
        self._change(path, SkinPoints(corners, weights), mirror, goes_on)

    def clear(self, path: int, mirror: bool) -> None:
        """Takes all points of a path away but for the landmark."""
        self._change(path, self._start(path), mirror)

    def reset(self, path: int, mirror: bool) -> None:
        """Gives a path back the model's own course."""
        changed = {path: self.own[path]}
        if mirror and self.mirror is not None:
            changed[NUM_CONTOUR - 1 - path] = self.own[NUM_CONTOUR - 1 - path]
        self._set(changed)

    def undo(self) -> None:
        """Takes the last step back, if there is one."""
        if self.history:
            self.paths = self.history.pop()

    def changed(self) -> list[int]:
        """Returns the paths that are not as they were at the beginning."""
        pairs = zip(self.paths, self.begin, strict=True)
        return [number for number, (now, then) in enumerate(pairs) if now is not then]

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns corners and weights [17, C, 3] of all paths.

        Raises:
          ValueError: a path has too few points.
        """
        for number, drawing in enumerate(self.paths):
            if drawing.control is None:
                raise ValueError(
                    f"Path {number} has {len(drawing.placed.corners)} of at least "
                    f"{drawn.MIN_PLACED} points: draw on, or reset it."
                )
        return tuple(np.stack(f) for f in zip(*(d.control for d in self.paths), strict=True))

    def lines(self) -> list[Line]:
        """Returns the paths as they are shown: as the fit will follow them."""
        coefficients = natural_spline(self.num_control)
        s = np.linspace(0.0, 1.0, _PER_SPAN, endpoint=False)
        powers = np.stack([np.ones_like(s), s, s**2, s**3], axis=1)
        blend = np.einsum("sk,nkc->nsc", powers, coefficients).reshape(-1, self.num_control)
        lines = []
        for drawing in self.paths:
            points = self.skin.positions(drawing.placed)
            curve = points
            if drawing.control is not None:
                control = self.skin.positions(drawing.control)
                curve = np.concatenate([blend @ control, control[-1:]])
            lines.append(Line(curve, points))
        return lines

    def _at(self, xy, camera: Camera) -> SkinPoints:
        point = drawn.inverse_project(camera, self.skin, xy)
        if point.corners[0, 0] < 0:
            raise ValueError("That is beside the face.")
        return point

    def _start(self, path: int) -> SkinPoints:
        if self.landmarks[path] < 0:
            return SkinPoints(np.empty((0, 3), np.int64), np.empty((0, 3)))
        return drawn.at_vertex(self.landmarks[path])

    def _change(self, path: int, placed: SkinPoints, mirror: bool, goes_on: bool = False) -> None:
        changed = {path: placed}
        other = NUM_CONTOUR - 1 - path
        if mirror and self.mirror is not None and other != path:
            there = drawn.mirrored(self.skin, placed, self.mirror)
            if self.landmarks[other] >= 0 and self.landmarks[path] >= 0:
                start = drawn.at_vertex(self.landmarks[other])
                rest = SkinPoints(there.corners[1:], there.weights[1:])
                there = drawn.join([start, rest])
            changed[other] = there
        self._set({number: self._drawing(p) for number, p in changed.items()}, goes_on)

    def _drawing(self, placed: SkinPoints) -> Drawing:
        try:
            control = drawn.even_path(self.skin, placed, self.num_control)
        except ValueError:  # too few points yet
            control = None
        return Drawing(placed, control, True)

    def _set(self, changed: dict[int, Drawing], goes_on: bool = False) -> None:
        if not (goes_on and self.history):
            self.history = [*self.history[1 - _MOST_STEPS :], self.paths]
        paths = enumerate(self.paths)
        self.paths = tuple(changed.get(number, drawing) for number, drawing in paths)


def farthest_move(model: MorphableModel, corners: np.ndarray, weights: np.ndarray) -> float:
    """How far a control point is at most from where the model has it, metres.

    Paths with another number of control points are compared at even shares of it.
    """
    mean = np.asarray(model.mean, np.float64)
    own = path_points(mean, model.path_vertices, model.path_weights)
    new = path_points(mean, corners, weights)
    share = np.linspace(0.0, 1.0, own.shape[1])
    at = share * (new.shape[1] - 1)
    low = np.minimum(at.astype(int), new.shape[1] - 2)
    part = (at - low)[:, None]
    new = (1.0 - part) * new[:, low] + part * new[:, low + 1]
    return float(np.linalg.norm(new - own, axis=-1).max())
