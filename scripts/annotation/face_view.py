"""The mean face as `annotate_paths` shows it, and the landmarks that paths start at.

Pixels as in `render.camera`.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from recon.contour_paths import drawn, strokes
from recon.morphable import MorphableModel
from render import rasterize
from render.camera import Camera
from render.image import to_bytes
from render.mesh import Mesh

SIZE = 900  # pixels of a side
MOST_YAW, MOST_PITCH = 90.0, 60.0  # degrees; from behind there is nothing to draw on
_CLAY = rasterize.RenderConfig(supersample=2, headlight=True)
_INK, _RIM = (20, 40, 80), (255, 255, 255)
_RADIUS = 4  # pixels of a dot


class View(NamedTuple):
    """The mean face from one side."""

    camera: Camera
    rgb: np.ndarray  # [H, W, 3]
    depth: np.ndarray  # [H, W] metres; infinite beside the face


def draw_view(model: MorphableModel, yaw: float, pitch: float) -> View:
    """Draws the mean face; angles in degrees, as in `drawn_paths.view_camera`."""
    return draw_face(model, drawn.view_camera(model, yaw, pitch, SIZE))


def draw_face(model: MorphableModel, camera: Camera) -> View:
    """Draws the mean face as `camera` sees it."""
    shown = next(rasterize.render_frames(Mesh(model.mean, model.triangles), [camera], _CLAY))
    depth = np.where(np.asarray(shown.alpha) > 0, np.asarray(shown.depth), np.inf)
    return View(camera, np.asarray(shown.rgb), depth)


def seen_landmarks(model: MorphableModel, camera: Camera) -> np.ndarray:
    """Returns the pixels [17, 2] of the landmarks that a stroke may start at; NaN elsewhere."""
    skin = drawn.model_skin(model)
    return strokes.seen_landmarks(camera, skin, np.asarray(model.landmark_vertices))


def with_landmarks(model: MorphableModel, view: View) -> np.ndarray:
    """Returns the picture [H, W, 3] with a dot and a number at each landmark in sight."""
    image = Image.fromarray(to_bytes(view.rgb))
    brush = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=13)
    for number, xy in enumerate(seen_landmarks(model, view.camera)):
        if np.isfinite(xy).all():
            x, y = xy - 0.5  # Pillow counts from pixel centres
            box = x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS
            brush.ellipse(box, fill=_INK, outline=_RIM)
            # Below the dot: strokes leave it upwards or sideways.
            style = {"font": font, "anchor": "mt", "stroke_width": 2, "stroke_fill": _RIM}
            brush.text((x, y + 2 * _RADIUS), str(number), fill=_INK, **style)
    return np.asarray(image, np.float32) / 255.0
