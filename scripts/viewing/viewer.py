"""The page of `view`: its scenes, its panel, and what the panel does."""

import itertools
import logging
import pathlib
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from render import framing, image_io
from render.camera import DEFAULT_FOV_DEGREES, Camera, orbit
from scripts.shell import command, scenes
from scripts.shell.shown import Shown, in_one_picture
from scripts.viewing.layers import add_layer, splat_fields
from sim.trajectory_io import Trajectory

HOST = "localhost"
_ELEVATION = 15.0  # degrees
_AZIMUTHS = np.linspace(0.0, 360.0, 24, endpoint=False)  # that the first distance suits
_SHOWN_RADIUS = 10.0  # the page's lengths are parts of the subject
_PORTS_TRIED = 50
_AMBIENT = 2.7
_STILL_HEIGHT = 720  # pixels
_SETTLES = 4.0  # seconds within which a new page finds out how much room its panel leaves
_LOOKS = 16  # at that, meanwhile
_LAST_STANDS = 0.5  # seconds, before the first frame follows


class Viewer:
    """The page: its scenes, its panel, and what the panel does."""

    def __init__(self, shown: list[Shown], up: str, background, out: pathlib.Path, port: int):
        import viser  # an extra; a second to import

        self.out, self.shown, self.background = out, shown, background
        self.port = free_port(port)
        for name in ("websockets", "websockets.server"):  # tracebacks of who connects and leaves
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.server = viser.ViserServer(host=HOST, port=self.port, verbose=False)
        self.gui = self.server.gui
        # Sharing would send the scene to a server elsewhere.
        self.gui.configure_theme(show_logo=False, show_share_button=False)
        self.gui.main_panel.dock_right()  # beside the picture: over it, it hides what is shown
        self.layers = []
        self.now: dict[int, Callable[[], Shown]] = {}  # how those that move are at this time
        self.subject = framing.join([scene.subject for scene in shown])
        self.unit = _SHOWN_RADIUS / max(float(np.std(self.subject.points, 0).max()), 1e-9)
        self.time, self.clock = None, time.monotonic()
        self._add_scenes()
        self._add_panel(up)
        self._set_up(up)
        self._set_background(background)
        self.server.on_client_connect(self._fit)

    def _add_scenes(self) -> None:
        for number, scene in enumerate(self.shown):
            name = f"/{number}/{scene.name}"
            self.layers.append(add_layer(scene, self.server.scene, name, self.unit))
        # Colours hold their light already; under this much they look as splats of them do.
        self.server.scene.configure_default_lights(False)
        self.server.scene.configure_environment_map(None)
        self.server.scene.add_light_ambient("/light", intensity=_AMBIENT)

    def _add_panel(self, up: str) -> None:
        with self.gui.add_folder("Scenes"):
            for scene, layer in zip(self.shown, self.layers, strict=True):
                box = self.gui.add_checkbox(f"{scene.name} ({scene.text})", True)
                box.on_update(lambda event, layer=layer: _set_visible(layer, event.target.value))
        with self.gui.add_folder("View"):
            axis = self.gui.add_dropdown("Up", scenes.AXES, initial_value=up)
            axis.on_update(lambda event: self._set_up(event.target.value))
            color = self.gui.add_rgb("Background", tuple(round(255 * v) for v in self.background))
            color.on_update(
                lambda event: self._set_background([v / 255 for v in event.target.value])
            )
            self.gui.add_button("Reset the camera").on_click(
                lambda event: self._reset(event.client)
            )
            self.gui.add_button("Save a still").on_click(lambda event: self._save(event.client))

    def _set_background(self, rgb) -> None:
        self.background = tuple(float(v) for v in rgb)
        pixel = np.round(255 * np.asarray(self.background)).astype(np.uint8)
        self.server.scene.set_background_image(np.tile(pixel, (2, 2, 1)), format="png")

    def _set_up(self, up: str) -> None:
        """Turns the world, and puts the camera where the orbit of `render` begins."""
        direction = scenes.axis(up)
        self.server.scene.set_up_direction(direction)
        lens = {"elevation_degrees": _ELEVATION, "up": direction}
        found = framing.frame(self.subject, 256, 256, _AZIMUTHS, **lens)
        view = orbit(found.target, found.extent, 1, 256, 256, azimuth_degrees=(0.0, 0.0), **lens)[0]
        eye = self.unit * (-np.asarray(view.translation) @ np.asarray(view.rotation))
        target = self.unit * found.target
        distance = self.unit * framing.distance_of(found.extent)
        self.start = Start(eye, target, direction, self.unit * found.extent)
        start = self.server.initial_camera
        start.position, start.look_at, start.up = eye, target, direction
        start.fov, start.near = np.radians(DEFAULT_FOV_DEGREES), 0.01 * distance
        start.far = 1000 * distance
        for client in self.server.get_clients().values():
            self._reset(client)

    def _fit(self, client) -> None:
        """Moves the camera of a new page to suit a picture that is higher than wide."""
        fitted = 1.0
        for _ in range(_LOOKS):
            time.sleep(_SETTLES / _LOOKS)
            aspect = min(client.camera.aspect, 1.0)
            if abs(aspect - fitted) > 0.01:
                self._reset(client)
                fitted = aspect

    def _reset(self, client) -> None:
        start = start_for(self.start, client.camera.aspect)
        with client.atomic():
            client.camera.up_direction = start.up
            client.camera.position = start.position
            client.camera.look_at = start.look_at

    def _save(self, client) -> None:
        """Has our renderer draw what the page shows: its splats, or else its first mesh."""
        camera = camera_of(client.camera, self.unit)
        in_sight = [self._as_it_is(i) for i, layer in enumerate(self.layers) if layer.visible]
        if not in_sight:
            return
        output = next(in_one_picture(in_sight).frames([camera], self.background))
        path = next(
            path
            for number in itertools.count()
            if not (path := self.out / f"still{number:03d}.png").exists()
        )
        image_io.write_image(path, np.clip(output.rgb, 0, 1))
        client.add_notification("Saved", str(path), auto_close_seconds=4.0)
        command.say(f"wrote {path}")

    def _as_it_is(self, number: int) -> Shown:
        """Returns what is shown as it is now, splats with all their harmonics."""
        return self.now[number]() if number in self.now else self.shown[number]

    def add_time(self, number: int, frame: int) -> None:
        """Adds a slider that moves splats, which are a `MovingShown`, and a button that plays."""
        moving = self.shown[number]
        trajectory, splats = moving.trajectory, moving.still.gaussians
        last = len(trajectory.seconds) - 1
        with self.gui.add_folder("Time"):
            slider = self.gui.add_slider("Frame", 0, max(last, 1), 1, min(frame, last))
            playing = self.gui.add_checkbox("Play", False)
            speed = self.gui.add_slider("Speed", 0.1, 4.0, 0.1, 1.0)

        # The page shows one colour of each; to turn the other harmonics would take longest.
        plain = splats.replace(harmonics=splats.harmonics[:, :1])
        moment = moving.still._replace(gaussians=plain).moments(trajectory)
        self.time = _Time(trajectory, slider, playing, speed)
        self.now[number] = lambda: moving.at(self.time.frame)

        def show(_) -> None:
            moved = moment(self.time.frame).gaussians
            self.layers[number].set_gaussians(**splat_fields(moved, self.unit))

        slider.on_update(show)
        show(None)

    def tick(self) -> None:
        """Moves time on while it plays: to the frame that is due, past those that are late."""
        if self.time is None:
            return
        now = time.monotonic()
        elapsed = (now - self.clock) * self.time.speed.value if self.time.playing.value else 0.0
        frame = self.time.frame
        following, left = following_frame(self.time.trajectory.seconds, frame, elapsed)
        if following != frame or not self.time.playing.value:
            self.clock = now - left / self.time.speed.value
        if following != frame:
            self.time.slider.value = following


class Start(NamedTuple):
    """Where the page's camera stands at first; lengths of the page."""

    position: np.ndarray  # [3]
    look_at: np.ndarray  # [3]
    up: np.ndarray  # [3]
    extent: float  # of the subject's plane that the picture's shorter side shows


def start_for(start: Start, aspect: float) -> Start:
    """Returns where to stand for a picture of that width over height, its lens over the height.

    In a narrow one the subject is as wide as the picture and stands at its top: the panel of a
    narrow page lies over the bottom.
    """
    if aspect >= 1.0:
        return start
    away = (start.position - start.look_at) / aspect
    side = np.cross(start.up, away)
    top = np.cross(away, side)
    drop = 0.5 * (1.0 / aspect - 1.0) * start.extent * top / np.linalg.norm(top)
    look_at = start.look_at - drop
    return start._replace(position=look_at + away, look_at=look_at)


class _Time(NamedTuple):
    """What moves, and the panel's controls of it."""

    trajectory: Trajectory
    slider: Any
    playing: Any
    speed: Any

    @property
    def frame(self) -> int:
        return min(int(self.slider.value), len(self.trajectory.seconds) - 1)


def following_frame(seconds: np.ndarray, frame: int, elapsed: float) -> tuple[int, float]:
    """Returns the frame to be shown, and for how many of its seconds it was due already.

    Args:
      seconds: [F] of the trajectory.
      frame: shown now.
      elapsed: seconds of the trajectory since then; the last frame stands for a moment, and the
        first one follows.
    """
    last = len(seconds) - 1
    if frame >= last:
        return (0, 0.0) if elapsed >= _LAST_STANDS and last else (frame, elapsed)
    due = seconds[frame] + elapsed
    following = int(np.searchsorted(seconds, due + 1e-9, side="right")) - 1
    return following, max(float(due - seconds[following]), 0.0)


def _set_visible(layer, is_visible: bool) -> None:
    layer.visible = is_visible


def free_port(first: int) -> int:
    """Returns the first port from `first` on that nobody on this machine listens at."""
    for port in range(first, min(first + _PORTS_TRIED, 65536)):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if probe.connect_ex((HOST, port)):
                return port
    raise ValueError(f"expected a free port from {first} on, found {_PORTS_TRIED} taken")


def camera_of(camera, unit: float = 1.0) -> Camera:
    """Turns the page's camera, in lengths of 1 / `unit` metres, into ours."""
    height = _STILL_HEIGHT
    width = max(16, round(height * camera.aspect))
    forward = np.asarray(camera.look_at) - np.asarray(camera.position)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, camera.up_direction)
    right = right / np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward]).astype(np.float32)
    focal = 0.5 * height / np.tan(0.5 * camera.fov)
    return Camera(
        rotation=rotation,
        translation=(-rotation @ np.asarray(camera.position) / unit).astype(np.float32),
        focal=np.full(2, focal, np.float32),
        center=np.array([width / 2, height / 2], np.float32),
        width=width,
        height=height,
    )
