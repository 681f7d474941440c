"""The pictures that commands show: the head over its photo, and how sure its shape is.

Source: van der Walt and Smith 2015 (the colours of viridis).
"""

import itertools
import math
from collections.abc import Sequence

import jax
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from recon.detection.boxes import Box
from render import rasterize
from render.camera import Camera, orbit
from render.image import contact_sheet, to_bytes
from render.mesh import Mesh, subdivide_mesh, vertex_normals

_SIDE = 768  # pixels of a panel
_AROUND_FACE = 2.4  # panel over the extent of the points
_GAP = 12
_LARGEST_SIDE = 1600  # pixels of a photo with its faces
_INK = (0, 220, 130)
_OPACITY = 0.85  # of the bare head over the photo
_CLAY = rasterize.RenderConfig(supersample=2, headlight=True)
_PAPER = 245
_VIRIDIS = (
    *("#440154", "#482878", "#3e4a89", "#31688e", "#26828e"),
    *("#1f9e89", "#35b779", "#6dcd59", "#b4de2c", "#fde725"),
)
_MARKS = np.array([f * 10.0**n for n in range(-3, 4) for f in (1, 2, 5)])  # millimetres
_COARSE = 20_000  # vertices; a head of fewer is drawn smoother
_HEAT_SIDE = 512  # pixels of a panel
_HEAT_AZIMUTHS = (0.0, 90.0)  # degrees
_SHADE = 0.25  # of a colour is lost where the head is seen at a slant: no more, it is to be read
_BAR = (24, 360)  # pixels, width and height
_PLAIN = rasterize.RenderConfig(
    supersample=2, rasterize=rasterize.RasterizeConfig(cull_back_faces=True)
)
# Groups of points that are drawn as lines, closed where True.
_LINES = (
    (range(17), False),
    (range(17, 22), False),
    (range(22, 27), False),
    (range(27, 31), False),
    (range(31, 36), False),
    (range(36, 42), True),
    (range(42, 48), True),
    (range(48, 60), True),
    (range(60, 68), True),
)


def draw_overlay(
    photo: np.ndarray | None, points: np.ndarray, mesh: Mesh, camera: Camera
) -> np.ndarray:
    """Draws, around the face, the points over the photo and the bare head over the photo.

    Args:
      photo: [H, W, 3] in [0, 1]; without one the background is paper.
      points: [68, 2] pixels; what is NaN is not drawn.
      mesh: the head.
      camera: of the photo.

    Returns:
      Two square panels side by side.
    """
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    side = _AROUND_FACE * float((high - low).max())
    middle = 0.5 * (low + high) - (0.0, 0.1 * side)  # the points end at the brows, the head later
    corner = np.rint(middle - 0.5 * side).astype(int)
    paper = _crop(photo, corner, math.ceil(side))
    zoom = _SIDE / math.ceil(side)
    closer = camera.replace(
        focal=camera.focal * zoom,
        center=(camera.center - corner) * zoom,
        width=_SIDE,
        height=_SIDE,
    )
    bare = mesh.replace(colors=None, texture=None)
    shown = next(rasterize.render_frames(bare, [closer], _CLAY))
    share = _OPACITY * np.asarray(shown.alpha)[..., None]
    over = (1 - share) * paper + share * np.asarray(shown.rgb)
    panels = [_draw_points(panel, (points - corner) * zoom) for panel in (paper, over)]
    return contact_sheet(panels, columns=2, gap=_GAP)


def _crop(photo: np.ndarray | None, corner: np.ndarray, side: int) -> np.ndarray:
    """Cuts a square out of the photo, which may reach past its borders, and resizes it."""
    canvas = Image.new("RGB", (side, side), (_PAPER, _PAPER, _PAPER))
    if photo is not None:
        left, top = np.maximum(corner, 0)
        part = photo[top : corner[1] + side, left : corner[0] + side]
        if part.size:
            canvas.paste(Image.fromarray(to_bytes(part)), (left - corner[0], top - corner[1]))
    return np.asarray(canvas.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), np.float32) / 255.0


def _draw_points(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Draws points [68, 2] as thin lines with a dot each."""
    image = Image.fromarray(to_bytes(picture))
    brush = ImageDraw.Draw(image)
    corners = [tuple(point) for point in points - 0.5]  # Pillow counts from pixel centres
    is_seen = ~np.isnan(points).any(1)
    for group, is_closed in _LINES:
        line = [*group, group[0]] if is_closed else group
        for start, end in itertools.pairwise(line):
            if is_seen[start] and is_seen[end]:
                brush.line([corners[start], corners[end]], fill=_INK, width=1)
    for x, y in itertools.compress(corners, is_seen):
        brush.ellipse((x - 2, y - 2, x + 2, y + 2), fill=_INK)
    return np.asarray(image, np.float32) / 255.0


def draw_faces(photo: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """Draws numbered boxes over a photo [H, W, 3], which is made smaller if it is large."""
    image = Image.fromarray(to_bytes(photo))
    zoom = min(1.0, _LARGEST_SIDE / max(image.size))
    if zoom < 1.0:
        image = image.resize([max(1, round(zoom * side)) for side in image.size])
    brush = ImageDraw.Draw(image)
    for number, box in enumerate(boxes):
        left, top, right, bottom = (zoom * end - 0.5 for end in box)
        brush.rectangle((left, top, right, bottom), outline=_INK, width=2)
        font = ImageFont.load_default(min(48, max(14, 0.25 * (right - left))))
        # A face may reach past the photo; its number may not.
        corner = max(left, 0.0) + 4, max(top, 0.0) + 2
        low_x, low_y, high_x, high_y = brush.textbbox(corner, str(number), font=font)
        brush.rectangle((low_x - 4, low_y - 4, high_x + 4, high_y + 4), fill=_INK)
        brush.text(corner, str(number), fill="black", font=font)
    return np.asarray(image, np.float32) / 255.0


def draw_uncertainty(mesh: Mesh, std_mm: np.ndarray) -> np.ndarray:
    """Draws the head from the front and from the side, coloured by how far each point may be off.

    Equal factors look equally large: the face is known several times as well as the back of the
    head, and has its own differences.

    Args:
      mesh: the head.
      std_mm: [V] standard deviations of its vertices, millimetres.

    Returns:
      Two square panels and a scale.
    """
    largest = max(float(std_mm.max()), _MARKS[1])
    smallest = max(float(std_mm.min()), 0.01 * largest, _MARKS[0])
    marks = _MARKS[np.searchsorted(_MARKS, smallest, "right") - 1 :]
    marks = marks[: np.searchsorted(marks, largest) + 1]
    heat = _viridis(_share(std_mm, marks))
    mesh = subdivide_mesh(mesh.replace(colors=heat), levels=int(len(heat) < _COARSE))
    mesh = jax.device_get(mesh)
    normals = np.asarray(vertex_normals(mesh.vertices, mesh.triangles))
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    panels = []
    for azimuth in _HEAT_AZIMUTHS:
        view = 0.5 * (low + high), 1.1 * float((high - low).max()), 1, _HEAT_SIDE, _HEAT_SIDE
        (camera,) = orbit(*view, azimuth_degrees=(azimuth, azimuth))
        slant = 1.0 - np.abs(normals @ np.asarray(camera.rotation)[2])
        shaded = mesh.replace(colors=mesh.colors * (1.0 - _SHADE * slant)[:, None])
        panels.append(next(rasterize.render_frames(shaded, [camera], _PLAIN)).rgb)
    return np.concatenate([*panels, _draw_scale(marks)], axis=1)


def _share(std_mm: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Where on the scale from the first to the last mark values lie, from 0 to 1."""
    return np.interp(np.log(np.maximum(std_mm, marks[0])), np.log(marks[[0, -1]]), (0.0, 1.0))


def _viridis(share: np.ndarray) -> np.ndarray:
    """Colours [..., 3] of shares from 0 to 1; equal steps look equally large."""
    anchors = np.array([ImageColor.getrgb(name) for name in _VIRIDIS]) / 255.0
    place = np.linspace(0.0, 1.0, len(anchors))
    return np.stack([np.interp(share, place, c) for c in anchors.T], -1).astype(np.float32)


def _draw_scale(marks: np.ndarray) -> np.ndarray:
    """Draws the scale of the colours with a label at every mark, millimetres."""
    width, height = _BAR
    image = Image.new("RGB", (144, _HEAT_SIDE), "white")
    left, high = 16, (_HEAT_SIDE - height) // 2
    colors = to_bytes(_viridis(np.linspace(1.0, 0.0, height)))
    image.paste(Image.fromarray(np.repeat(colors[:, None], width, axis=1)), (left, high))
    brush, font = ImageDraw.Draw(image), ImageFont.load_default(16)
    for mark, share in zip(marks, _share(marks, marks), strict=True):
        y, right = high + (height - 1) * (1.0 - share), left + width
        brush.line((right, y, right + 5, y), fill="black")
        brush.text((right + 10, y), f"{mark:g}", fill="black", font=font, anchor="lm")
    for line, text in enumerate(("one standard", "deviation, mm")):
        brush.text((left, high - 40 + 20 * line), text, fill="black", font=font, anchor="ls")
    return np.asarray(image, np.float32) / 255.0
