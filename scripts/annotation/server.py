"""Serves the page of `annotate_paths` on this machine, and does what it asks.

The page is one picture and a dozen requests: `http.server` is enough, where viser would make the
viewer's extra a dependency of this command.

Pixels as in `render.camera`.
"""

import functools
import http.server
import json
import math
import pathlib
import threading
import urllib.parse
from typing import Any

import numpy as np
import scipy.ndimage

from recon.contour_paths import drawn, paths_io
from recon.contour_paths.editor import Editor, farthest_move
from recon.morphable import NUM_CONTOUR, MorphableModel
from render import image_io
from render.camera import Camera
from scripts.annotation.face_view import MOST_PITCH, MOST_YAW, SIZE, View, draw_view
from scripts.annotation.page import MEDIA_TYPES, PageSettings, annotation_page, page_file
from scripts.shell import command

_SEEN = 1.5e-3  # metres behind the skin that still count as on it
_MOST_BYTES = 10_000  # of a question
_VIEWS_KEPT = 64


class Annotation:
    """What the page shows and what it may ask for."""

    def __init__(self, editor: Editor, out: pathlib.Path, yaw: float, pitch: float):
        self.editor, self.out, self.start = editor, out, (yaw, pitch)
        self.lock = threading.Lock()
        self.saved = ""  # what the last "Save" did
        self.view = functools.lru_cache(maxsize=_VIEWS_KEPT)(
            functools.partial(draw_view, editor.model)
        )

    def page(self) -> str:
        """Returns the HTML."""
        yaw, pitch = self.start
        return annotation_page(
            PageSettings(
                model=self.editor.model.name,
                out=str(self.out),
                size=SIZE,
                yaw=yaw,
                pitch=pitch,
                path=NUM_CONTOUR - 4 if yaw >= 0 else 3,
                count=NUM_CONTOUR,
                least=drawn.MIN_PLACED,
                has_mirror=self.editor.mirror is not None,
            )
        )

    def picture(self, yaw: float, pitch: float) -> bytes:
        """Returns the face as PNG."""
        with self.lock:
            return image_io.png_bytes(self.view(*_angles(yaw, pitch)).rgb)

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Does what the page asks, and says what it is to show.

        Args:
          question: "act", with "yaw", "pitch" and "mirror" always; "path", "xy", "index" and
            "goes_on" where the act wants them.

        Returns:
          The paths, and a message; `is_bad` where the act was refused.
        """
        with self.lock:
            try:
                view = self.view(*_angles(question.get("yaw"), question.get("pitch")))
            except ValueError as error:
                return _refusal(error)
            try:
                done = self._act(question, view.camera)
            except ValueError as error:
                done = _refusal(error)
            return {"paths": self._shown(view), **done}

    def _act(self, question: dict[str, Any], camera: Camera) -> dict[str, Any]:
        act, mirror = question.get("act"), question.get("mirror") is True
        if act == "look":
            return {}
        if act == "save":
            return self._save()
        if act == "undo":
            self.editor.undo()
            return {}
        path = _whole(question.get("path"), NUM_CONTOUR)
        if act == "place":
            self.editor.place(path, _xy(question), camera, mirror)
        elif act == "move":
            index = _whole(question.get("index"), 10_000)
            goes_on = question.get("goes_on") is True
            self.editor.move(path, index, _xy(question), camera, mirror, goes_on)
        elif act == "clear":
            self.editor.clear(path, mirror)
        elif act == "reset":
            self.editor.reset(path, mirror)
        else:
            raise ValueError(f"expected an act, found {act!r:.40}")
        return {}

    def _save(self) -> dict[str, Any]:
        corners, weights = self.editor.result()
        try:
            paths_io.write_paths(self.out, self.editor.model, corners, weights)
        except OSError as error:
            raise ValueError(f"{self.out} cannot be written: {error.strerror}") from None
        changed = self.editor.changed()
        self.saved = summary(self.editor.model, corners, weights, changed)
        command.say(f"wrote {self.out}: {self.saved}")
        text = f"Saved {self.out}: {self.saved}."
        return {"message": "Saved.", "saved": text}

    def _shown(self, view: View) -> list[dict[str, Any]]:
        """Returns the paths as the page draws them: pixels, and whether they are in sight."""
        # At the outline depth changes from one pixel to the next: the farthest of nine counts.
        behind = scipy.ndimage.maximum_filter(view.depth, 3)
        lines = self.editor.lines()
        return [
            {
                "line": _pixels(view.camera, behind, line.curve),
                "points": _pixels(view.camera, behind, line.points),
                "is_drawn": drawing.is_drawn,
                "is_tied": bool(landmark >= 0),
            }
            for line, drawing, landmark in zip(
                lines, self.editor.paths, self.editor.landmarks, strict=True
            )
        ]


def _refusal(error: ValueError) -> dict[str, Any]:
    return {"message": str(error), "is_bad": True}


def summary(model: MorphableModel, corners, weights, changed: list[int]) -> str:
    """Says in a few words what was drawn."""
    farthest = 1e3 * farthest_move(model, corners, weights)
    return (
        f"{len(changed)} of {NUM_CONTOUR} paths changed, "
        f"at most {farthest:.1f} mm from the model's own"
    )


def _pixels(camera: Camera, behind: np.ndarray, points: np.ndarray) -> list[list]:
    xy, depth = drawn.project_orthographic(camera, points)
    column, row = np.clip(np.floor(xy).astype(int), 0, np.array(behind.shape[::-1]) - 1).T
    is_seen = depth <= behind[row, column] + _SEEN
    return [
        [round(float(x), 2), round(float(y), 2), int(seen)]
        for (x, y), seen in zip(xy, is_seen, strict=True)
    ]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"expected a number, found {value!r:.40}")
    return float(value)


def _whole(value: Any, limit: int) -> int:
    if type(value) is not int or not 0 <= value < limit:
        raise ValueError(f"expected a number below {limit}, found {value!r:.40}")
    return value


def _angles(yaw: Any, pitch: Any) -> tuple[float, float]:
    yaw, pitch = _number(yaw), _number(pitch)
    if abs(yaw) > MOST_YAW or abs(pitch) > MOST_PITCH:
        raise ValueError(f"expected a view from the front, found {yaw:g}, {pitch:g} degrees")
    return yaw, pitch


def _xy(question: dict[str, Any]) -> np.ndarray:
    xy = question.get("xy")
    if not isinstance(xy, list) or len(xy) != 2:
        raise ValueError(f"expected a pixel, found {xy!r:.40}")
    return np.array([_number(value) for value in xy])


def make_server(annotation: Annotation, host: str, port: int) -> http.server.ThreadingHTTPServer:
    """Returns a server that listens at `port`; `serve_forever` runs it."""
    allowed = {f"{name}:{port}" for name in (host, "localhost", "127.0.0.1")}

    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers for the page, its files, the picture, and what the page asks."""

        def do_GET(self):
            address = urllib.parse.urlsplit(self.path)
            if self.headers.get("Host") not in allowed:
                self.send_error(403)
            elif address.path == "/":
                self._reply(annotation.page().encode(), "text/html; charset=utf-8")
            elif (name := address.path.removeprefix("/")) in MEDIA_TYPES:
                self._reply(page_file(name).encode(), f"{MEDIA_TYPES[name]}; charset=utf-8")
            elif address.path == "/face.png":
                query = urllib.parse.parse_qs(address.query)
                try:
                    angles = [float(query[name][0]) for name in ("yaw", "pitch")]
                    picture = annotation.picture(*angles)
                except (KeyError, ValueError):
                    self.send_error(400)
                    return
                self._reply(picture, "image/png")
            else:
                self.send_error(404)

        def do_POST(self):
            # Pages from elsewhere cannot send JSON here without being asked for leave first.
            is_json = self.headers.get_content_type() == "application/json"
            length = self.headers.get("Content-Length", "")
            if self.headers.get("Host") not in allowed or not is_json or self.path != "/act":
                self.send_error(403)
                return
            if not length.isdigit() or int(length) > _MOST_BYTES:
                self.send_error(413)
                return
            try:
                question = json.loads(self.rfile.read(int(length)))
            except ValueError:
                question = None
            if not isinstance(question, dict):
                self.send_error(400)
                return
            answer = json.dumps(annotation.answer(question)).encode()
            self._reply(answer, "application/json")

        def _reply(self, body: bytes, kind: str):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass  # every click would be a line

    return http.server.ThreadingHTTPServer((host, port), Handler)
