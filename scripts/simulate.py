r"""Moves splats by physics: a scene file says of what they are and what happens to them.

--scene is a JSON file: PhysGaussian's and DreamPhysics' run as they are; ours, marked by "units":
"SI", may hold several materials, wind, moving balls, pins, forces and dragged handles. Some
scenes come along, by name: ball_drop, cord_hanging, flowers_in_wind, head, plant_swaying,
playbot_dropped, putty_drop, sway (they lie in sim/data/scenes/). --splats is a splat file (.ply,
.compressed.ply, .spz, .splat), or the name of a made-up shape: ball, cube, plant, cord. Into --out
go

  video.mp4        the motion in real time
  frames.png       some of its frames, for a look without a player
  trajectory.npz   the motion, for `render --trajectory` and `view --trajectory`
  last.ply         the splats as they are at the end
  report.json      speed; energy, momentum, contact, oscillation, stretch
  config.json      every setting of this run

Examples:

  python -m scripts.simulate --splats=out/me/splats.ply --scene=head
  python -m scripts.simulate --splats=flowers.ply --scene=flowers_in_wind
  python -m scripts.simulate --splats=playbot.ply --scene=playbot_dropped
  python -m scripts.simulate --splats=ball --scene=ball_drop --frames=40
  python -m scripts.simulate --splats=plant --scene=plant_swaying
  python -m scripts.simulate --splats=ficus.ply --scene=ficus_config.json --azimuth=40

An azimuth of zero looks at the front, as in `render`. Exit status: 0 done; 2 bad input; 1 when the
simulation diverges or leaves its box; 130 or 143 stopped by Ctrl-C or SIGTERM. Either way the
frames that came before are written; `render --trajectory` films them where the film is missing.
"""

import jax
from absl import flags

from render import files_io, splat_io
from scripts.shell import command, filming, scenes, stopping
from scripts.shell.film_io import write_film
from scripts.shell.outputs_io import filling_folder
from scripts.shell.settings import write_settings
from scripts.shell.shown import read_splats
from sim import motion as motion_lib
from sim.scene_io import read_scene_file
from sim.simulation import ReadyScene, gaussians_at, make_simulation
from sim.trajectory_io import write_trajectory

_SPLATS = flags.DEFINE_string("splats", None, "Splats, or a made-up shape.", required=True)
_SCENE = flags.DEFINE_string("scene", None, "Scene file, or the name of one.", required=True)
_OUT = flags.DEFINE_string("out", "out/simulate", "Folder to write.")
_FRAMES = flags.DEFINE_integer("frames", None, "Frames to simulate; the scene's by default.", 1)
_MAX_PARTICLES = flags.DEFINE_integer("max_particles", None, "Instead of the scene's.", 1)
_SIZE = flags.DEFINE_string("size", "512", "Side of the picture, or WIDTHxHEIGHT, pixels.")
_FPS = flags.DEFINE_float("fps", None, "Of the video; the scene's by default.", 0.1, 240.0)
_AZIMUTH = flags.DEFINE_float("azimuth", None, "Degrees; the scene's by default.")
_ELEVATION = flags.DEFINE_float("elevation", None, "Degrees; the scene's.", -90.0, 90.0)
_BACKGROUND = flags.DEFINE_string("background", "white", "white, black, grey, #rrggbb or r,g,b.")
_SCENERY = flags.DEFINE_bool("scenery", True, "Draw the floor and what the scene runs into.")
_UP = flags.DEFINE_enum("up", None, scenes.AXES, "Axis of the splats that is to be up.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the places of what is filled in.")


def main() -> None:
    out = command.writable_folder(_OUT.value)
    width, height = scenes.picture_size(_SIZE.value)
    background = scenes.color(_BACKGROUND.value)
    scene_file = read_scene_file(_SCENE.value)
    for warning in scene_file.warnings:
        command.warn(warning)
    splats = read_splats(_SPLATS.value)
    ready = make_simulation(
        scene_file, splats.gaussians, _SEED.value, splats.up, _MAX_PARTICLES.value, _UP.value
    )
    up = _UP.value or splats.up
    for note in ready.notes:
        command.say(note)
    command.say(_summary(ready))

    num_frames = _FRAMES.value or scene_file.frame_num
    with stopping.noted() as stop:
        with command.progress("simulation", num_frames) as advance:
            motion = motion_lib.run(ready, num_frames, advance, lambda: bool(stop))
            if len(motion.seconds) == 1:
                stop.act()  # with nothing to write, older results stay
        report = motion_lib.report(ready, motion)
        moved = f"{len(motion.seconds) - 1} of {num_frames} frames of the motion"
        with filling_folder(out, ("video.mp4", "frames.png"), moved) as folder:
            write_trajectory(folder / "trajectory.npz", motion_lib.trajectory_at(ready, motion))
            last = jax.device_get(gaussians_at(ready.simulation, motion.last))
            splat_io.write_splats(folder / "last.ply", last, up=up)
            files_io.write_json(folder / "report.json", report)
            write_settings(folder, up=up)
        shot = filming.Shot(
            width, height, _FPS.value, _AZIMUTH.value, _ELEVATION.value, background, _SCENERY.value
        )
        frames, fps = filming.frames_of(ready, motion, shot)
        pictures = filming.film(ready, motion, shot, frames)
        write_film(out / "video.mp4", pictures, len(frames), fps, sheet=out / "frames.png")
    if motion.failure:
        raise command.WorkFailed(f"{motion.failure}; what came before is in {out}")
    rate = report["particle_substeps_per_second"]
    speed = f", {rate / 1e6:.1f} million particle steps per second" if rate else ""
    command.say(f"wrote {out / 'video.mp4'}: {motion.seconds[-1]:.2f} s of motion{speed}")


def _summary(ready: ReadyScene) -> str:
    simulation, time_step = ready.simulation, ready.time_step
    num_nodes = simulation.config.grid.num_nodes
    laws = ", ".join(f"{count} of {law}" for law, count in simulation.material.laws)
    return (
        f"{len(simulation.state.x)} particles ({laws}), {num_nodes}^3 nodes, "
        f"{time_step.per_frame} steps of {time_step.dt:.3g} s a frame"
    )


if __name__ == "__main__":
    command.run(main)
