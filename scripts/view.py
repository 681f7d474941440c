r"""Shows splats, meshes and moving scenes in the browser, on this machine only.

--scene takes one or several files: splats (.ply, .compressed.ply, .spz) and meshes (.obj, .glb,
.ply). The page turns with the left button, shifts with the right one and zooms with the wheel.
With --trajectory a slider moves the first splat scene through time. The button "Save a still" has
our own renderer draw what the page shows, into --out.

Examples:

  pip install -e ".[view]"
  python -m scripts.view --scene=out/me/head.glb
  python -m scripts.view --scene=out/me/splats.ply,out/me/head.glb
  python -m scripts.view --scene=flowers.ply --trajectory=trajectory.npz
  python -m scripts.view --scene=flowers.ply --open=false --port=9000

The page shows the colour of splats that does not depend on the view. Ctrl-C ends it. Exit status:
0 done; 2 bad input, or viser is not installed.
"""

import contextlib
import importlib.util
import time
import webbrowser

from absl import flags

from render import trajectory_io
from scripts import command, scenes
from scripts.viewer import HOST, Viewer

_SCENE = flags.DEFINE_list("scene", None, "Splats and meshes.", required=True)
_TRAJECTORY = flags.DEFINE_string("trajectory", None, "How the first splats move, .npz.")
_UP = flags.DEFINE_enum("up", None, scenes.AXES, "Which way is up; the first scene's by default.")
_BACKGROUND = flags.DEFINE_string("background", "white", "white, black, grey, #rrggbb or r,g,b.")
_PORT = flags.DEFINE_integer("port", 8080, "Of localhost; the next free one if taken.", 1, 65535)
_FRAME = flags.DEFINE_integer("frame", 0, "Frame of the trajectory to begin at.", 0)
_OPEN = flags.DEFINE_bool("open", True, "Open the page in the browser.")
_SECONDS = flags.DEFINE_float("seconds", None, "End by itself after this time.", 0.0)
_OUT = flags.DEFINE_string("out", "out/view", "Folder for stills.")
_SEED = flags.DEFINE_integer("seed", 0, "Nothing here is random.")

_TICK = 0.02  # seconds


def main() -> None:
    if importlib.util.find_spec("viser") is None:
        raise ValueError('expected viser, found none: pip install -e ".[view]"')
    out = command.writable_folder(_OUT.value)
    background = scenes.color(_BACKGROUND.value)
    shown = [scenes.read_scene(path) for path in _SCENE.value]
    trajectory = None
    if _TRAJECTORY.value:
        # The first splats are those that move.
        number = next((i for i, scene in enumerate(shown) if scene.mesh is None), None)
        if number is None:
            raise ValueError("expected splats for --trajectory, found only meshes")
        moving = shown[number]
        trajectory = trajectory_io.read_trajectory(_TRAJECTORY.value, len(moving.gaussians.means))
        shown[number] = moving._replace(places=scenes.moving_subject(moving, trajectory))
    for scene in shown:
        command.say(f"{scene.name}: {scene.text}")
    viewer = Viewer(shown, _UP.value or shown[0].up, background, out, _PORT.value)
    if trajectory is not None:
        viewer.add_time(number, trajectory, _FRAME.value)
    address = f"http://{HOST}:{viewer.port}"
    command.say(f"open {address} in a browser; Ctrl-C ends")
    if _OPEN.value:
        webbrowser.open_new_tab(address)
    started = time.monotonic()
    with contextlib.suppress(KeyboardInterrupt):
        while _SECONDS.value is None or time.monotonic() - started < _SECONDS.value:
            viewer.tick()
            time.sleep(_TICK)
    viewer.server.stop()


if __name__ == "__main__":
    command.run(main)
