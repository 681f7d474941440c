"""The pictures that commands show: the head over its photo."""

import math

import numpy as np
from PIL import Image, ImageDraw

from render import rasterize
from render.camera import Camera
from render.image import contact_sheet, to_bytes
from render.mesh import Mesh

_SIDE = 768  # pixels of a panel
_AROUND_FACE = 2.4  # panel over the extent of the points
_GAP = 12
_INK = (0, 220, 130)
_OPACITY = 0.85  # of the bare head over the photo
_CLAY = rasterize.RenderConfig(supersample=2, headlight=True)
_PAPER = 245
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
      points: [68, 2] pixels.
      mesh: the head.
      camera: of the photo.

    Returns:
      Two square panels side by side.
    """
    low, high = points.min(0), points.max(0)
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
    for group, is_closed in _LINES:
        line = [corners[i] for i in group]
        brush.line(line + line[:1] if is_closed else line, fill=_INK, width=1)
    for x, y in corners:
        brush.ellipse((x - 2, y - 2, x + 2, y + 2), fill=_INK)
    return np.asarray(image, np.float32) / 255.0
