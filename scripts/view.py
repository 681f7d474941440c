r"""Shows splats, meshes, radiance fields and moving scenes in the browser, on this machine only.

--show takes one or several files: splats (.ply, .compressed.ply, .spz, .splat), meshes (.obj, .glb,
.ply), radiance fields of train_nerf (.safetensors), which the page shows as points in the --style
asked for, and the made-up shapes ball, cube, plant and cord. The page turns with the left button,
shifts with the right one and zooms with the wheel. With --trajectory a slider moves the first splat
scene through time, and "Play" does in real time, leaving out frames where the machine is too slow
for them all. The button "Save a still" has our own renderer draw what the page shows, into --out,
with the colours as they depend on the view.

With --scene, a scene file as in `simulate`, the first splats are matter that moves as one
watches. "Pick a point", click on the splats, and drag the arrows that appear there: the matter
around them comes along, until "Let go". Stiffness, gravity and speed can be changed meanwhile; it
starts when a page is open. It is coarse, so that it answers at once: 2500 particles by default, on
a grid of about 24 cells a side whatever the scene's own, with a substep that suits it. What the
machine cannot do in time is shown in slow motion; the panel tells by how much. `simulate` is for
the real thing.

Examples:

  pip install -e ".[view]"
  python -m scripts.view --show=out/me/head.glb
  python -m scripts.view --show=out/me/splats.ply,out/me/head.glb
  python -m scripts.view --show=flowers.ply --trajectory=trajectory.npz
  python -m scripts.view --show=flowers.ply --open=false --port=9000
  python -m scripts.view --show=playbot.ply --scene=playbot_dropped
  python -m scripts.view --show=ball --scene=ball_drop

The page shows the colour of splats that does not depend on the view. Ctrl-C or SIGTERM ends it.
Exit status: 0 done; 2 bad input, or viser is not installed.
"""

import importlib.util
import time
import webbrowser

from absl import flags

from scripts.shell import command, scenes, stopping
from scripts.shell.shown import (
    Shown,
    SplatsShown,
    first_splats,
    in_style,
    read_moving,
    read_shown,
)
from scripts.viewing import play_panel
from scripts.viewing.viewer import HOST, Viewer
from sim.coarse import make_coarse
from sim.play import MAX_PARTICLES, Play
from sim.scene_io import read_scene_file

_SHOW = flags.DEFINE_list("show", None, "Splats, meshes and made-up shapes.", required=True)
_TRAJECTORY = flags.DEFINE_string("trajectory", None, "How the first splats move, .npz.")
_STYLE = flags.DEFINE_float("style", None, "Of a field: 0 as photographed, 1 restyled.", 0.0, 1.0)
_SCENE = flags.DEFINE_string("scene", None, "Scene file: the first splats are matter.")
_MAX_PARTICLES = flags.DEFINE_integer("max_particles", MAX_PARTICLES, "Of --scene.", 1)
_UP = flags.DEFINE_enum("up", None, scenes.AXES, "Which way is up; the first scene's by default.")
_BACKGROUND = flags.DEFINE_string("background", "white", "white, black, grey, #rrggbb or r,g,b.")
_PORT = flags.DEFINE_integer("port", 8080, "Of localhost; the next free one if taken.", 1, 65535)
_FRAME = flags.DEFINE_integer("frame", 0, "Frame of the trajectory to begin at.", 0)
_OPEN = flags.DEFINE_bool("open", True, "Open the page in the browser.")
_SECONDS = flags.DEFINE_float("seconds", None, "End by itself after this time.", 0.0)
_OUT = flags.DEFINE_string("out", "out/view", "Folder for stills.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the places of what --scene fills in.")

_TICK = 0.02  # seconds
_FPS = 30.0  # of pictures of what moves, none of which the page asks for


def main() -> None:
    if importlib.util.find_spec("viser") is None:
        raise ValueError('expected viser, found none: pip install -e ".[view]"')
    out = command.writable_folder(_OUT.value)
    background = scenes.color(_BACKGROUND.value)
    if _TRAJECTORY.value and _SCENE.value:
        raise ValueError("expected --trajectory or --scene, found both")
    shown: list[Shown] = [read_shown(path) for path in _SHOW.value]
    if _STYLE.value is not None:
        shown = [in_style(one, _STYLE.value) for one in shown]
    play = None
    if _TRAJECTORY.value:
        number = first_splats(shown)
        shown[number] = read_moving(_TRAJECTORY.value, shown[number], _FPS)
    if _SCENE.value:
        number = first_splats(shown)
        play = _ready(shown[number])
        shown[number] = play_panel.playing_scene(shown[number], play)
    for one in shown:
        command.say(f"{one.name}: {one.text}")
    viewer = Viewer(shown, _UP.value or shown[0].up, background, out, _PORT.value)
    ticks = [viewer.tick]
    if _TRAJECTORY.value:
        viewer.add_time(number, _FRAME.value)
    if play is not None:
        ticks.append(play_panel.PlayPanel(viewer, number, play).tick)
    address = f"http://{HOST}:{viewer.port}"
    command.say(f"open {address} in a browser; Ctrl-C ends")
    if _OPEN.value:
        webbrowser.open_new_tab(address)
    started = time.monotonic()
    with stopping.noted() as stop:
        while not stop and (_SECONDS.value is None or time.monotonic() - started < _SECONDS.value):
            for tick in ticks:
                tick()
            time.sleep(_TICK)
        stop.forget()
    viewer.server.stop()


def _ready(shown: SplatsShown) -> Play:
    """Makes a simulation of splats, and compiles it."""
    scene_file = read_scene_file(_SCENE.value)
    for warning in scene_file.warnings:
        command.warn(warning)
    with command.progress("making the scene ready"):
        ready = make_coarse(
            scene_file, shown.gaussians, _SEED.value, shown.up, _MAX_PARTICLES.value, _UP.value
        )
    for note in ready.notes:
        command.say(note)
    play = Play(ready)
    command.say(
        f"coarse, to answer at once: {len(play.state.x)} particles, "
        f"{ready.simulation.config.grid.num_nodes}^3 nodes, steps of {play.dt:.2g} s"
    )
    with command.progress("compiling the simulation"):
        play.compile()
    return play


if __name__ == "__main__":
    command.run(main)
