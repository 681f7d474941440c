r"""Finds the stiffness at which splats move as a prior expects of a word: DreamPhysics, in minutes.

The scene is simulated at 25 stiffnesses and filmed as the prior sees it. The prior, told the first
frame and a band of stiffness, says of each clip how it should change; carried back through the
simulation that is a force on the stiffness. Where the force vanishes, and pushes back from both
sides, the motion looks right. Into --out go

  material.json   Young's modulus in pascals, an interval, what else might be right, warnings
  force.png       the force over all stiffnesses, that of a prior told nothing, what can be seen
  clips.png       the scene as the prior sees it: softest, found, stiffest
  before.mp4      the motion at the stiffness that the scene file says
  after.mp4       the motion at the one that was found
  config.json     every setting of this run

--splats is a splat file or ball or cube. --scene is a scene file or the name of one, whose Young's
modulus is only what `before.mp4` shows; without it the splats are held at their foot and hit once.
Words: soft, rubber, stiff and their like (docs/priors.md).

Examples:

  python -m scripts.learn_material --splats=flowers.ply --prompt=soft --out=out/soft_flowers
  python -m scripts.learn_material --splats=flowers.ply --prompt=stiff --up=-y

The small prior knows clips of things that stand, were hit and sway (`stalk`), and of things that
are dropped (`drop`). What it calls soft is soft in the world of its simulations; a scene's size and
density are taken into account. Exit status: 0 done, with warnings where the answer is in doubt; 2
bad input; 1 the scene cannot be simulated; 130 or 143 stopped.
"""

import dataclasses

import jax
import numpy as np
from absl import flags

from models.diffusion import guidance, words
from models.diffusion.motion_answers import clip_residuals
from models.diffusion.motion_prior import MotionPrior
from models.diffusion.motion_prior_io import load_prior
from models.diffusion.motion_training import Batch, relative_errors
from render import files_io, image_io
from render.image import to_bytes
from scripts.materials import answer, figure
from scripts.materials.answer import Findings
from scripts.shell import command, filming, scenes, stopping
from scripts.shell.film_io import write_film
from scripts.shell.settings import write_settings
from scripts.shell.shown import read_splats
from sim import identify
from sim import motion as motion_lib
from sim.families.family import FAMILIES
from sim.families.likeness import Likeness, make_likeness, stand_on_foot
from sim.identify import Curve, Scan
from sim.scene import SceneFile
from sim.scene_io import read_scene_file
from sim.simulation import make_simulation

_SPLATS = flags.DEFINE_string("splats", None, "Splats, or ball or cube.", required=True)
_SCENE = flags.DEFINE_string("scene", None, "Scene file, or a name; on its foot by default.")
_PRIOR = flags.DEFINE_string("prior", "stalk", "A family's name, or a prior's file.")
_PROMPT = flags.DEFINE_string("prompt", "rubber", "What it is to move like.")
_OUT = flags.DEFINE_string("out", "out/material", "Folder to write.")
_VALUES = flags.DEFINE_integer("values", 25, "Stiffnesses that are simulated.", 5)
_NOISES = flags.DEFINE_integer("noises", 8, "Pairs of noise that a clip is looked at through.", 1)
_MAX_PARTICLES = flags.DEFINE_integer("max_particles", None, "Instead of the scene's.", 1)
_FRAMES = flags.DEFINE_integer("frames", None, "Of the films; the scene's by default.", 1)
_SIZE = flags.DEFINE_string("size", "384", "Side of the films, or WIDTHxHEIGHT, pixels.")
_UP = flags.DEFINE_enum("up", None, scenes.AXES, "Axis of the splats that is to be up.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise, and of the places of what is filled in.")

_STANDING = "sway"  # the scene that is made to fit where none is given
_SIGMA_RANGE = (4.0, 16.0)  # lower ones see details that the prior cannot draw
_GATE_SIGMA = 4.0
_SHOWN = 4  # times, clips are enlarged


def main() -> None:
    out = command.writable_folder(_OUT.value)
    wanted = words.log10_modulus_of(_PROMPT.value)
    prior = load_prior(_PRIOR.value)
    family = FAMILIES[prior.config.family]
    scene = read_scene_file(_SCENE.value or _STANDING)
    splats = read_splats(_SPLATS.value)
    how = {
        "seed": _SEED.value,
        "up": splats.up,
        "max_particles": _MAX_PARTICLES.value,
        "wanted_up": _UP.value,
    }
    if _SCENE.value is None:
        scene = stand_on_foot(scene, splats.gaussians, **how)
    likeness = make_likeness(scene, splats.gaussians, family, **how)
    command.say(f"{len(likeness.simulation.state.x)} particles, {likeness.view.timing}")
    key = jax.random.key(_SEED.value)
    with stopping.noted() as stop:
        scan = _scan(likeness, family, stop)
        stop.act()  # an answer from half a range would be none
        found = _find(key, prior, scan, wanted, likeness.shift)
    report = answer.summarize(key, found, family)
    report |= {"prompt": _PROMPT.value, "prior": _PRIOR.value, "family": family.name}
    for warning in report["warnings"]:
        command.warn(warning)
    figure.draw_force(out / "force.png", found, report["label"], _PROMPT.value)
    _write_clips(out, scan, report["label"])
    files_io.write_json(out / "material.json", report)
    write_settings(out)
    with stopping.noted():
        _film(out / "before.mp4", scene, splats.gaussians, how)
        _film(
            out / "after.mp4",
            _with_modulus(scene, report["youngs_modulus_pa"]),
            splats.gaussians,
            how,
        )
    low, high = report["interval_pa"]
    command.say(
        f"wrote {out / 'material.json'}: {report['youngs_modulus_pa']:.3g} Pa "
        f"({low:.3g} to {high:.3g}) moves like “{_PROMPT.value}”"
    )


def _scan(likeness: Likeness, family, stop: stopping.Stop) -> Scan:
    """Simulates the clips; their stiffnesses are told as the family's labels."""
    labels = np.linspace(*family.log10_range, _VALUES.value)
    with command.progress("clips", len(labels)) as advance:
        scan = identify.scan_modulus(
            likeness.simulation, likeness.view, labels - likeness.shift, advance, lambda: bool(stop)
        )
    kept, side = len(scan.log10_modulus), likeness.ready.scene.grid_lim
    if kept < 2 and not stop:
        raise command.WorkFailed(
            f"expected a scene that stays in its box of {side:g} m, found {len(labels) - kept} "
            f"of {len(labels)} clips that do not: more particles hold together better"
        )
    return scan._replace(log10_modulus=scan.log10_modulus + likeness.shift)


def _find(key: jax.Array, prior: MotionPrior, scan: Scan, wanted: float, shift: float) -> Findings:
    """Draws the forces of the prior, told the band and told nothing."""
    bank = guidance.draw_bank(key, _NOISES.value, scan.videos.shape[1:], _SIGMA_RANGE)
    first = scan.videos[0, 0]

    def told(clip):
        return clip_residuals(prior, first, np.float32(wanted), clip, bank)

    def untold(clip):
        return clip_residuals(prior, first, None, clip, bank)

    batch = Batch(scan.videos, np.float32(scan.log10_modulus))
    error, energy = relative_errors(key, prior.params, batch, _GATE_SIGMA, prior.config)
    with command.progress("forces"):
        curves: list[Curve] = [identify.force_along(scan, residual) for residual in (told, untold)]
    return Findings(scan, *curves, wanted, float(error.sum() / energy.sum()), shift)


def _write_clips(out, scan: Scan, label: float) -> None:
    rows = [scan.videos[0], identify.clip_between(scan, label)[0], scan.videos[-1]]
    sheet = np.concatenate([np.concatenate(list(row), 1) for row in rows], 0)
    picture = to_bytes(np.clip(0.5 + 0.5 * sheet, 0.0, 1.0))
    image_io.write_image(out / "clips.png", picture.repeat(_SHOWN, 0).repeat(_SHOWN, 1))


def _with_modulus(scene: SceneFile, modulus: float) -> SceneFile:
    material = dataclasses.replace(scene.material, youngs_modulus=modulus)
    return dataclasses.replace(scene, material=material, boxes=(), substep_dt=None)


def _film(path, scene: SceneFile, gaussians, how: dict) -> None:
    """Simulates and films a scene at the stiffness that it says."""
    ready = make_simulation(scene, gaussians, **how)
    width, height = scenes.picture_size(_SIZE.value)
    num_frames = _FRAMES.value or scene.frame_num
    with stopping.noted() as stop:
        with command.progress(f"motion of {path.stem}", num_frames) as advance:
            motion = motion_lib.run(ready, num_frames, advance, lambda: bool(stop))
        shot = filming.Shot(width, height)
        frames, fps = filming.frames_of(ready, motion, shot)
        write_film(path, filming.film(ready, motion, shot, frames), len(frames), fps, path.stem)
    if motion.failure:
        command.warn(f"{path.name} ends early: {motion.failure}")


if __name__ == "__main__":
    command.run(main)
