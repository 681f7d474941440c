"""The part of the page that plays a simulation: its panel, its handle, what it stands on.

The page calls back from threads of its own; what it asks for waits until `tick`.
"""

import math
import queue
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from render.framing import Subject, join, splat_subject
from render.gaussians import Gaussians, join_gaussians
from scripts.shell import command, scenes
from scripts.shell.shown import Shown, SplatsShown
from scripts.shell.surroundings import Ball, ball_place, balls, floor_splats
from scripts.viewing.layers import MAX_COVARIANCE, splat_fields
from scripts.viewing.viewer import Viewer
from sim.motion import floor_height
from sim.play import FRAME, Play

_LATEST = 0.1  # seconds: what is missed beyond is not made up for
_SOFTEST, _STIFFEST = -2.0, 1.0  # log10 of the scene's own stiffness
_GRIP = 12  # percent of the object's size
_HANDLE_SIZE = 0.75  # of the object's, so that it sticks out wherever it stands
_TEXT_EVERY = 0.5  # seconds
_MEMORY = 0.9  # of the averages of speed, from frame to frame


def playing_scene(shown: SplatsShown, play: Play) -> SplatsShown:
    """Returns the splats of a simulation; the page frames where they are and where they fall."""
    down = play.placement.rotation.T @ np.array([0.0, 0.0, -1.0])
    index = play.simulation.binding.moving
    subject = splat_subject(jax.tree.map(lambda leaf: leaf[index], play.gaussians))
    height = floor_height(play.scene)
    fall = 0.0 if height is None else play.into_box(subject.points)[:, 2].min() - height
    fallen = subject.points + max(fall, 0.0) / play.placement.scale * down
    places = join([subject, Subject(fallen, subject.weights, subject.stray)])
    return shown._replace(gaussians=play.gaussians, places=places, up=scenes.nearest_axis(-down))


class _BallLayer(NamedTuple):
    """A ball, and viser's handle of its layer."""

    ball: Ball
    layer: Any


def show_shapes(layer, means: np.ndarray, covariances: np.ndarray, unit: float) -> None:
    """Moves the splats of a layer of the page; `set_gaussians` would pack their colours anew.

    Args:
      layer: viser's: of each Gaussian three floats of its mean, one that is not ours, six half
        floats of its covariance, and its colour.
      means: [A, 3] in the splats' own space.
      covariances: [A, 6].
      unit: the page's lengths per length there.
    """
    layer.buffer = np.array(_packed(layer.buffer, means, covariances, unit))


@jax.jit
def _packed(words, means, covariances, unit):
    spread = jnp.clip(unit**2 * covariances, -MAX_COVARIANCE, MAX_COVARIANCE)
    halves = spread.astype(jnp.float16).reshape(-1, 3, 2)
    means = lax.bitcast_convert_type(unit * means, jnp.uint32)
    halves = lax.bitcast_convert_type(halves, jnp.uint32)
    return jnp.concatenate([means, words[:, 3:4], halves, words[:, 7:8]], -1)


class PlayPanel:
    """Plays a simulation on a page, as fast as the machine can, and lets a point be dragged."""

    def __init__(self, viewer: Viewer, number: int, play: Play):
        """Adds the panel for the scene of that number, which is `playing_scene`."""
        self.server, self.unit, self.play = viewer.server, viewer.unit, play
        self._layer = viewer.layers[number]
        self._own = viewer.shown[number]
        viewer.now[number] = self._still
        self._wishes: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._clock, self._text_clock = time.monotonic(), 0.0
        self._share, self._rate = 0.0, 0.0  # simulated seconds and frames per second
        self._told_failure: str | None = None
        self.is_playing, self._is_picking = True, False
        self._add_handle()
        self._add_panel()
        self._add_surroundings()
        self._show()

    def _add_panel(self) -> None:
        gui, play = self.server.gui, self.play
        own = round(play.log10_modulus, 2)
        with gui.add_folder("Simulation"):
            self.play_button = gui.add_button("Pause")
            step, restart = gui.add_button("Step"), gui.add_button("Restart")
            self.speed = gui.add_slider("Speed", 0.05, 1.0, 0.05, 1.0)
            gravity = gui.add_checkbox("Gravity", True)
            stiffness = gui.add_slider("Stiffness", own + _SOFTEST, own + _STIFFEST, 0.05, own)
            stiffness.hint = "log10 of E in pascals"
            self.pick_button = gui.add_button("Pick a point")
            self.release_button = gui.add_button("Let go", disabled=True)
            self.grip = gui.add_slider("Grip", 2, 50, 1, _GRIP, hint="% of the object's size")
            self.text = gui.add_markdown("")

        self._on(self.play_button.on_click, lambda _: self._set_playing(not self.is_playing))
        self._on(step.on_click, lambda _: self._step())
        self._on(restart.on_click, lambda _: self.restart())
        self._on(gravity.on_update, lambda event: self._set_gravity(event.target.value))
        self._on(stiffness.on_update, lambda event: self.play.set_stiffness(event.target.value))
        self._on(self.pick_button.on_click, lambda _: self._set_picking(not self._is_picking))
        self._on(self.release_button.on_click, lambda _: self.let_go())
        self._on(self.grip.on_update, lambda _: self._grab_again())

    def _on(self, register: Callable, wish: Callable[[Any], Any]) -> None:
        register(lambda event: self._wishes.put(lambda: wish(event)))

    def _add_handle(self) -> None:
        size = self.unit * self.play.scene.scale / self.play.placement.scale
        self.handle = self.server.scene.add_transform_controls(
            "/handle",
            scale=_HANDLE_SIZE * size,
            disable_rotations=True,
            depth_test=False,
            visible=False,
        )

    def _add_surroundings(self) -> None:
        """Shows the floor, and the balls that the scene runs into."""
        scene, placement = self.play.scene, self.play.simulation.placement
        self._floor = floor_splats(scene, placement)
        for floor in self._floor:
            self._add_splats("/floor", floor)
        self._balls = [
            _BallLayer(ball, self._add_splats(f"/ball{number}", ball.splats))
            for number, ball in enumerate(balls(scene, placement))
        ]

    def _add_splats(self, name: str, gaussians: Gaussians):
        return self.server.scene.add_gaussian_splats(name, **splat_fields(gaussians, self.unit))

    def _still(self) -> Shown:
        """Returns all that is on the page, its higher harmonics too."""
        shown = []
        for (_, splats), layer in self._balls:
            if layer.visible:
                means = splats.means + np.asarray(layer.position) / self.unit
                shown.append(splats.replace(means=means))
        everything = join_gaussians([self.play.splats(), *self._floor, *shown])
        return self._own._replace(gaussians=everything)

    # What the page asks for.

    def _set_playing(self, is_playing: bool) -> None:
        self.is_playing, self._clock = is_playing, time.monotonic()
        self.play_button.label = "Pause" if is_playing else "Play"
        self._text_clock = 0.0

    def _step(self) -> None:
        self._set_playing(False)
        self.advance(FRAME)

    def restart(self) -> None:
        self.play.restart()
        self._told_failure = None
        self._release()
        self._set_playing(True)
        self._show()

    def _set_gravity(self, is_on: bool) -> None:
        self.play.has_gravity = is_on

    def _set_picking(self, is_picking: bool) -> None:
        if is_picking == self._is_picking:
            return
        self._is_picking = is_picking
        self.pick_button.label = "Click on the splats" if is_picking else "Pick a point"
        if is_picking:
            click = self.server.scene.on_click()
            self._on(click, lambda event: self.pick(event.ray_origin, event.ray_direction))
        else:
            self.server.scene.remove_click_callback()

    def pick(self, origin, direction) -> None:
        """Puts the handle at what is seen along a ray of the page, and holds it."""
        place = self.play.pick(np.asarray(origin) / self.unit, direction)
        if place is None:
            self._notify("Nothing there", "Click on what moves.")
            return
        self._set_picking(False)
        self.play.grab(place, self._grip_radius)
        self.handle.position = tuple(float(v) for v in self.unit * place)
        self.handle.visible = True
        self.release_button.disabled = False

    @property
    def _grip_radius(self) -> float:
        return 0.01 * self.grip.value * self.play.scene.scale

    def _grab_again(self) -> None:
        if self.play.num_held:
            self.play.grab(self._handle_place, self._grip_radius)

    @property
    def _handle_place(self) -> np.ndarray:
        return np.asarray(self.handle.position) / self.unit

    def let_go(self) -> None:
        self.play.let_go()
        self._release()

    def _release(self) -> None:
        self._set_picking(False)
        self.handle.visible = False
        self.release_button.disabled = True
        self._text_clock = 0.0

    # Time.

    def tick(self) -> None:
        """Does what was asked for, and moves on by the time that has passed; waits for a page."""
        while not self._wishes.empty():
            self._wishes.get()()
        now = time.monotonic()
        elapsed = now - self._clock
        if not self.server.get_clients():
            self._clock = now
        elif self.is_playing and not self.play.failure:
            if elapsed < FRAME:
                return
            self._clock = now
            self._note_rate(self.advance(min(elapsed, _LATEST) * self.speed.value, FRAME), elapsed)
        if now - self._text_clock > _TEXT_EVERY:
            self._text_clock = now
            self._tell()

    def advance(self, seconds: float, budget: float = math.inf) -> float:
        """Simulates so long, or what is done within the budget, shows it, and says how long."""
        if self.play.num_held:
            self.play.drag(self._handle_place)
        done = self.play.run(seconds, budget)
        self._show()
        if self.play.failure and self.play.failure != self._told_failure:
            self._told_failure = self.play.failure
            command.warn(self.play.failure)
            self._notify("The simulation stopped", self.play.failure)
            self.let_go()
        return done

    def _show(self) -> None:
        show_shapes(self._layer, *self.play.shapes(), self.unit)
        seconds = float(self.play.state.time)
        for ball, layer in self._balls:
            place = ball_place(ball, self.play.simulation.placement, seconds)
            layer.position = tuple(float(v) for v in self.unit * place)
            layer.visible = ball.is_there(seconds)

    def _note_rate(self, done: float, elapsed: float) -> None:
        memory = _MEMORY if self._rate else 0.0
        self._share = memory * self._share + (1 - memory) * done / elapsed
        self._rate = memory * self._rate + (1 - memory) / elapsed

    def _tell(self) -> None:
        play = self.play
        words = [f"{len(play.state.x):,} particles, {float(play.state.time):.2f} s"]
        if play.failure:
            words.append(f"**Stopped**: {play.failure}")
        elif self.is_playing and self._rate:
            words.append(f"{self._share:.2f} simulated seconds per second")
            words.append(f"{self._rate:.0f} frames per second")
        if play.num_held:
            words.append(f"holds {play.num_held} particles")
        self.text.content = "  \n".join(words)

    def _notify(self, title: str, text: str) -> None:
        for client in self.server.get_clients().values():
            client.add_notification(title, text, auto_close_seconds=6.0)
