"""Strokes that a person painted on a picture become lines, and lines become contour paths.

What was painted is what differs from the clean picture. Each connected piece is a stroke; it is
thinned to a line one pixel wide, of which the longest run counts. Its end nearer to a jaw landmark
is its start, and that landmark tells which path it is.

Axes: H, W pixels, N points of a line, C control points. Pixels as in `render.camera`.

Source: thesis 3 (the marked pixels are projected back to the model).
"""

import numpy as np
import scipy.ndimage
import scipy.sparse
import scipy.spatial
from numpy.typing import NDArray
from skimage import filters, morphology

from recon.contour_paths.drawn import (
    Skin,
    SkinPoints,
    at_vertex,
    even_path,
    inverse_project,
    join,
    project_orthographic,
)
from recon.morphable import NUM_CONTOUR
from render.camera import Camera

_CERTAIN, _POSSIBLE = 0.3, 0.15  # difference of a channel; JPEG's own noise stays below
_LEAST_AREA = 16  # pixels; what is smaller is a speck
_HEAL = 2  # pixels; thinner gaps in a stroke are closed
_MOST_BRANCHES = 0.15  # of a line's pixels may lie off its longest run, or a few widths:
_MOST_SPURS = 3.0  # thinning leaves spurs as long as a thick stroke is wide
_NEIGHBOURS = np.ones((3, 3))
_SMOOTHING = 2.0  # pixels; takes the stairs out of a line
_SPACING = 10.0  # pixels between the points that are carried back
_REACH = 0.06  # of the picture's side: how far from its landmark a stroke may start
_STEEPEST = 4.0  # steps on the skin over those in the picture, before a leap is thought of
_SLICES = 8  # of such a step, which a slope shares out
_LEAP = 0.7  # of a step on the skin that falls into one slice
_SEEN = 3e-3  # metres; landmarks lie at the outline, where depth changes fast


def find_strokes(clean: NDArray, painted: NDArray) -> list[NDArray]:
    """Finds the strokes painted on a picture.

    Args:
      clean: [H, W, 3] in [0, 1].
      painted: [H, W, 3]; the same picture, painted on.

    Returns:
      One mask [H, W] per stroke.

    Raises:
      ValueError: pictures of two sizes, nothing painted, or more than there are paths.
    """
    if clean.shape != painted.shape:
        (height, width), (found_height, found_width) = clean.shape[:2], painted.shape[:2]
        raise ValueError(
            f"expected a picture of {width} x {height} pixels, like the view, "
            f"found {found_width} x {found_height}"
        )
    difference = np.abs(painted - clean).max(axis=-1)
    is_painted = filters.apply_hysteresis_threshold(difference, _POSSIBLE, _CERTAIN)
    # Where the paint has the colour of what it covers, the stroke shows a gap.
    padded = np.pad(is_painted, _HEAL)
    is_painted = scipy.ndimage.binary_closing(padded, morphology.disk(_HEAL))
    is_painted = is_painted[_HEAL:-_HEAL, _HEAL:-_HEAL]
    labels, _ = scipy.ndimage.label(is_painted, _NEIGHBOURS)
    large = 1 + np.flatnonzero(np.bincount(labels.ravel())[1:] >= _LEAST_AREA)
    if not large.size:
        raise ValueError("expected strokes painted on the view, found no change")
    if len(large) > NUM_CONTOUR:
        raise ValueError(f"expected up to {NUM_CONTOUR} strokes, found {len(large)}")
    return [_sharpened(labels == label, difference) for label in large]


def _sharpened(mask: NDArray, difference: NDArray) -> NDArray:
    """Takes the blur off a stroke: its edge is where its paint is half as strong as inside."""
    half = 0.5 * np.percentile(difference[mask], 90)
    sharp = mask & (scipy.ndimage.grey_closing(difference, size=2 * _HEAL + 1) > half)
    return sharp if scipy.ndimage.label(sharp, _NEIGHBOURS)[1] == 1 else mask


def stroke_line(mask: NDArray) -> NDArray:
    """Thins a stroke [H, W] to a line [N, 2] of pixel positions, a pixel or so apart.

    Raises:
      ValueError: it branches, crosses itself or is closed.
    """
    cells = np.argwhere(morphology.skeletonize(mask))
    run = _longest_run(cells)
    half_width = scipy.ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    spurs = 2.0 * _MOST_SPURS * half_width.max()
    if len(cells) - len(run) > max(_MOST_BRANCHES * len(cells), spurs):
        y, x = np.argwhere(mask).mean(axis=0)
        raise ValueError(
            f"expected strokes that do not branch or touch, found one around ({x:.0f}, {y:.0f})"
        )
    line = cells[run][:, ::-1] + 0.5
    smooth = scipy.ndimage.gaussian_filter1d(line, _SMOOTHING, axis=0, mode="nearest")
    smooth[[0, -1]] = line[[0, -1]]
    # Thinning takes half the width off the ends.
    ends = []
    for end, inner in ((0, min(6, len(line) - 1)), (-1, -min(7, len(line)))):
        along = smooth[end] - smooth[inner]
        along /= max(np.linalg.norm(along), 1e-9)
        column, row = cells[run[end]][::-1]
        ends.append(smooth[end] + max(half_width[row, column] - 1.0, 0.0) * along)
    return np.concatenate([ends[:1], smooth, ends[1:]])


def _longest_run(cells: NDArray) -> NDArray:
    """Orders the longest shortest way [n] through neighbouring cells [m, 2], as their numbers."""
    pairs = scipy.spatial.cKDTree(cells).query_pairs(1.5, output_type="ndarray")
    length = np.linalg.norm(cells[pairs[:, 0]] - cells[pairs[:, 1]], axis=1)
    graph = scipy.sparse.csr_matrix((length, pairs.T), (len(cells), len(cells)))

    def farthest(start):
        away, before = scipy.sparse.csgraph.dijkstra(
            graph, directed=False, indices=start, return_predecessors=True
        )
        return int(np.argmax(np.where(np.isfinite(away), away, -1.0))), before

    start, _ = farthest(0)
    cell, before = farthest(start)
    run = [cell]
    while run[-1] != start:
        run.append(int(before[run[-1]]))
    return np.array(run)


def seen_landmarks(camera: Camera, skin: Skin, landmark_vertices: NDArray) -> NDArray:
    """Returns the pixels [17, 2] of the jaw landmarks; NaN where missing, hidden or out of sight.

    Args:
      camera: orthographic.
      skin: the mean face.
      landmark_vertices: [68], -1 where the model has none.
    """
    index = np.asarray(landmark_vertices)[:NUM_CONTOUR]
    xy, depth = project_orthographic(camera, skin.vertices[np.maximum(index, 0)])
    front = inverse_project(camera, skin, xy)
    is_hit = front.corners[:, 0] >= 0
    _, front_depth = project_orthographic(camera, skin.positions(front))
    is_inside = ((xy >= 0.0) & (xy <= (camera.width, camera.height))).all(axis=1)
    is_seen = (index >= 0) & is_inside & (~is_hit | (depth <= front_depth + _SEEN))
    return np.where(is_seen[:, None], xy, np.nan)


def paths_from_strokes(
    masks: list[NDArray], camera: Camera, skin: Skin, landmark_vertices: NDArray, num_control: int
) -> dict[int, SkinPoints]:
    """Turns strokes into contour paths.

    Args:
      masks: [H, W] each, from `find_strokes`.
      camera: that saw the clean picture.
      skin: the mean face.
      landmark_vertices: [68], -1 where the model has none.
      num_control: C.

    Returns:
      Control points [C, 3] by the landmark they start at.

    Raises:
      ValueError: a stroke that starts at no landmark, starts where another one does, leaves the
        face, leaps over the face or has no length.
    """
    landmarks = seen_landmarks(camera, skin, landmark_vertices)
    paths = {}
    for mask in masks:
        landmark, line = _started(stroke_line(mask), landmarks, _REACH * camera.width)
        if landmark in paths:
            raise ValueError(f"expected one stroke at landmark {landmark}, found two")
        start = at_vertex(landmark_vertices[landmark])
        placed = _carried_back(line, landmark, landmarks[landmark], camera, skin)
        try:
            paths[landmark] = even_path(skin, join([start, placed]), num_control)
        except ValueError as error:
            raise ValueError(f"stroke at landmark {landmark}: {error}") from None
    return paths


def _started(line: NDArray, landmarks: NDArray, reach: float) -> tuple[int, NDArray]:
    """Returns which landmark a line starts at, and the line in that direction."""
    away = np.linalg.norm(landmarks[:, None] - line[[0, -1]], axis=-1)  # [17, 2]
    if np.isnan(away).all() or np.nanmin(away) > reach:
        (x0, y0), (x1, y1) = line[[0, -1]]
        raise ValueError(
            "expected strokes that start at a jaw landmark in sight, found one "
            f"from ({x0:.0f}, {y0:.0f}) to ({x1:.0f}, {y1:.0f})"
        )
    landmark, end = np.unravel_index(np.nanargmin(away), away.shape)
    return int(landmark), line[::-1] if end else line


def _carried_back(
    line: NDArray, landmark: int, start: NDArray, camera: Camera, skin: Skin
) -> SkinPoints:
    """Carries a line [N, 2] back to the skin, without what lies about its `start` [2]."""
    walked = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))]
    even = np.linspace(0.0, walked[-1], max(3, round(walked[-1] / _SPACING) + 1))
    line = np.stack([np.interp(even, walked, axis) for axis in line.T], axis=1)
    is_start = np.linalg.norm(line - start, axis=1) < _SPACING
    line = line[np.argmin(is_start) if not is_start.all() else len(line) :]
    placed = inverse_project(camera, skin, line)
    is_beside = placed.corners[:, 0] < 0
    # The landmark may lie at the outline, and a stroke begin a little outside.
    first = int(np.argmin(is_beside)) if not is_beside.all() else len(line)
    if first and np.linalg.norm(line[:first] - start, axis=1).max() > _REACH * camera.width:
        first = 0
    line, is_beside = line[first:], is_beside[first:]
    placed = SkinPoints(placed.corners[first:], placed.weights[first:])
    if is_beside.any():
        x, y = line[np.argmax(is_beside)]
        raise ValueError(
            f"expected strokes on the face, found that at landmark {landmark} "
            f"leaving it at ({x:.0f}, {y:.0f})"
        )
    leap = _first_leap(line, placed, camera, skin)
    if leap is not None:
        raise ValueError(
            f"expected strokes on one part of the face, found that at landmark {landmark} "
            f"leaping to another at ({leap[0]:.0f}, {leap[1]:.0f})"
        )
    return placed


def _first_leap(line: NDArray, placed: SkinPoints, camera: Camera, skin: Skin) -> NDArray | None:
    """Returns the pixel [2] where a line [N, 2] crosses to skin farther behind, if it does.

    On a slope, however steep, the points between two lie between them; at a leap none does.
    """
    steps = np.linalg.norm(np.diff(skin.positions(placed), axis=0), axis=1)
    flat = np.linalg.norm(np.diff(line, axis=0), axis=1) / float(camera.focal[0])
    for i in np.flatnonzero(steps > _STEEPEST * flat):
        between = np.linspace(line[i], line[i + 1], _SLICES + 1)
        found = inverse_project(camera, skin, between)
        if (found.corners[:, 0] < 0).any():
            return line[i]
        slices = np.linalg.norm(np.diff(skin.positions(found), axis=0), axis=1)
        if slices.max() > _LEAP * steps[i]:
            return line[i]
    return None
