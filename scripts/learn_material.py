r"""Finds the material at which splats move as they should: DreamPhysics, in minutes.

Who says how they should move is --prior:

  stalk, block, drop, or a FILE  a small prior, told a word of --prompt: soft, rubber, stiff ...
  modelscope:DIR                 ModelScope's network, told the text of --prompt
  svd:DIR                        Stable Video Diffusion, told --image or the first frame it sees
  reference:FILM.mp4             the motion of a film, taken by the camera that --scene says
  reference:TRAJECTORY.npz       the motion of particles, as `simulate` writes it

One stiffness is searched by its whole curve: the scene is simulated at 25 stiffnesses, and the
prior says of each clip how it should change; carried back through the simulation that is a force on
the stiffness. Where it vanishes, and pushes back from both sides, the motion looks right. More
properties, several regions or a smooth field are learnt by descent, --search=descent, which a
second call goes on with. A film or a trajectory is matched by least squares. Into --out go

  material.json   what was found, what else might be right, warnings
  before.mp4      the motion at what the scene file says
  after.mp4       the motion at what was found
  config.json     every setting of this run
  force.png       of a curve: the force over all stiffnesses, that of a prior told nothing, and what
                  can be seen of a stiffness
  clips.png       the scene as the prior sees it: softest, found, stiffest (or start, found)
  descent*/       of a descent: metrics.csv with the values of every fifth step, a checkpoint
  starts.mp4      where --start names two: too low and too high, before (above) and after (below)

Examples:

  python -m scripts.learn_material --splats=plant --prompt=soft --out=out/soft
  python -m scripts.learn_material --splats=toy.ply --prompt=stiff --up=-y
  python -m scripts.learn_material --experiment=ball --out=out/ball
  python -m scripts.learn_material --splats=ball --scene=ball_drop --prior=drop --regions=2

--splats is a splat file or a shape: ball, cube, plant, cord. --scene is a scene file or the name of
one; without it the splats, an object without surroundings, are held at their foot and hit once.
--learn names properties: youngs_modulus, poisson_ratio, density, yield_stress, friction_angle,
viscosity, plastic_viscosity, branch_viscosity, velocity. --regions: 1 for all matter; a number, of
clusters; boxes, the scene file's; field, a value for every particle. --start: what the search
starts from, times the scene's own value. --preset=paper has the paper's settings: groups of frames,
one substep that is differentiated, guidance 100, its update; they are there to compare with.

The small priors know clips of slender things that stand, were hit and sway (`stalk`), of broad ones
(`block`), and of things that are dropped (`drop`); without --prior the shape decides. What they
call soft is soft in the world of their simulations; a scene's size and density are taken into
account. The public networks want an accelerator. Exit status: 0 done, with warnings where the
answer is in doubt; 2 bad input; 1 the scene cannot be simulated; 130 or 143 stopped.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from models.diffusion.guidance import WEIGHTS
from render import files_io
from scripts.materials import answer, figure, films, options, quest, search
from scripts.materials.answer import Descent, Findings
from scripts.materials.options import Settings
from scripts.materials.quest import Quest, Wish
from scripts.shell import command, scenes, stopping
from scripts.shell.settings import write_settings
from scripts.shell.shown import read_splats
from sim import identify, matching, properties
from sim.families.likeness import TRUNCATIONS
from sim.matching import Match, Stage
from sim.material_training import RULES, LearntScene, MaterialTraining
from sim.motion_video import film_motion
from sim.properties import Theta
from sim.scene_io import read_scene_file

_EXPERIMENT = flags.DEFINE_enum(
    "experiment", None, sorted(options.EXPERIMENTS), "Splats, scene, prior, prompt and starts."
)
_SPLATS = flags.DEFINE_string("splats", None, "Splats, or a shape's name.")
_SCENE = flags.DEFINE_string("scene", None, "Scene file, or a name; on its foot by default.")
_PRIOR = flags.DEFINE_string("prior", None, "Who judges; by default the small prior that suits.")
_PROMPT = flags.DEFINE_string("prompt", None, "What it is to move like; rubber by default.")
_IMAGE = flags.DEFINE_string("image", None, "For svd: the picture that the clip starts with.")
_OUT = flags.DEFINE_string("out", "out/material", "Folder to write.")
_LEARN = flags.DEFINE_list("learn", ["youngs_modulus"], "Properties, with commas between.")
_REGIONS = flags.DEFINE_string("regions", "1", "1, a number of clusters, boxes or field.")
_SEARCH = flags.DEFINE_enum("search", None, ["curve", "descent"], "By default what suits.")
_START = flags.DEFINE_string("start", None, "Times the scene's values; several with commas.")
_RANGE = flags.DEFINE_string("range", None, "LOW:HIGH of Young's modulus, Pa, where no band is.")
_PRESET = flags.DEFINE_enum("preset", "default", options.PRESETS, "Settings of the search.")
_FRAMES = flags.DEFINE_integer("frames", None, "Key frames of a clip; not of a small prior's.", 2)
_GROUPS = flags.DEFINE_integer("groups", None, "Of frames, shown by turns.", 1)
_TRUNCATE = flags.DEFINE_enum(
    "truncate", None, TRUNCATIONS, "What derivatives pass before a frame."
)
_ITERATIONS = flags.DEFINE_integer("iterations", None, "Steps of a descent.", 1)
_RULE = flags.DEFINE_enum("rule", None, RULES, "How a step is taken.")
_GUIDANCE = flags.DEFINE_float("guidance", None, "Classifier-free; one is without.", 0.0)
_PAIRS = flags.DEFINE_integer("noises", None, "Pairs of noise a clip is looked at through.", 1)
_WEIGHT = flags.DEFINE_enum("weight", None, sorted(WEIGHTS), "Of the noise levels.")
_RESOLUTION = flags.DEFINE_integer("resolution", None, "Pixels; not of a small prior's clips.", 8)
_FRAME_SECONDS = flags.DEFINE_float("frame_seconds", None, "Between key frames.", 1e-4)
_VALUES = flags.DEFINE_integer("values", 25, "Stiffnesses that a curve is drawn through.", 5)
_MAX_PARTICLES = flags.DEFINE_integer(
    "max_particles", None, "Simulated, 1000 by default; to match a motion, the scene's.", 1
)
_FILM_FRAMES = flags.DEFINE_integer("film_frames", None, "Of the films; the scene's by default.", 1)
_SIZE = flags.DEFINE_string("size", "384", "Side of the films, or WIDTHxHEIGHT, pixels.")
_UP = flags.DEFINE_enum("up", None, scenes.AXES, "Axis of the splats that is to be up.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise, and of the places of what is filled in.")

_SUBSTEPS = 4  # that are tried, where a motion is matched
_PARTICLES = 1000
_STANDING = "sway"  # the scene that is made to fit where none is given


def main() -> None:
    size = scenes.picture_size(_SIZE.value)
    experiment = options.EXPERIMENTS.get(_EXPERIMENT.value)
    splats_name = _SPLATS.value or getattr(experiment, "splats", None)
    if splats_name is None:
        raise ValueError("expected --splats or --experiment, found neither")
    scene_name = _SCENE.value or getattr(experiment, "scene", None)
    splats = read_splats(splats_name)
    wish = _wish(experiment, splats.up)
    out = command.writable_folder(_OUT.value)
    scene = read_scene_file(scene_name or _STANDING)
    made = quest.make_quest(wish, scene, splats, stands_on_foot=scene_name is None)
    for warning in (*scene.warnings, *quest.doubts(made)):
        command.warn(warning)
    for note in made.ready.notes:
        command.say(note)
    command.say(f"{len(made.scene.simulation.state.x)} particles, {made.scene.view.timing}")
    with stopping.noted() as stop:
        names = {"splats": splats_name, "scene": scene_name or _STANDING}
        found = _search(out, wish, made, names, stop)
        stop.act()  # an answer from half a search would be none
    report = found.report | {
        "prior": made.family.name if made.family else f"{wish.kind}:{wish.place}",
        "prompt": wish.prompt,
        "learn": list(wish.learn),
    }
    for warning in report["warnings"]:
        command.warn(warning)
    if found.curve:
        figure.draw_force(out / "force.png", found.curve, report["label"], wish.prompt)
    films.write_clips(out / "clips.png", found.clips)
    files_io.write_json(out / "material.json", report)
    write_settings(out, settings=wish.settings)
    with stopping.keeping(lambda: str(out / "material.json")):
        _film(out, made, found, size)
    command.say(f"wrote {out / 'material.json'}: {answer.in_words(report)}")


class Outcome(NamedTuple):
    """What a search gave."""

    report: dict[str, Any]
    pairs: list[tuple[Theta, Theta]]  # starts and ends
    found: Theta
    clips: list[np.ndarray]  # to look at
    curve: Findings | None = None


def _wish(experiment: options.Experiment | None, up: str) -> Wish:
    """Fills in what the user left open.

    Raises:
      ValueError: for a property, regions, starts or a range that there are not.
    """
    kind, place = options.kind_of(_PRIOR.value or getattr(experiment, "prior", ""))
    unknown = [name for name in _LEARN.value if name not in properties.PROPERTIES]
    unknown += [name for name in set(_LEARN.value) if _LEARN.value.count(name) > 1]
    if unknown or not _LEARN.value:
        known = ", ".join(properties.PROPERTIES)
        raise ValueError(f"expected --learn of {known}, found {','.join(unknown) or 'nothing'}")
    is_count = _REGIONS.value.isdigit() and int(_REGIONS.value) > 0
    if not is_count and _REGIONS.value not in ("boxes", "field"):
        raise ValueError(f"expected --regions of 1, 2 ..., boxes or field, found {_REGIONS.value}")
    start = _START.value or getattr(experiment, "start", "1")
    factors = scenes.numbers(start, "--start such as 1 or 0.1,10")
    if min(factors) <= 0:
        raise ValueError(f"expected --start above 0, found {start}")
    wish = Wish(
        kind=kind,
        place=place,
        prompt=_PROMPT.value or getattr(experiment, "prompt", "rubber"),
        image=_IMAGE.value,
        learn=tuple(_LEARN.value),
        regions=_REGIONS.value,
        starts=tuple(factors),
        range_pa=_range(),
        frame_seconds=_FRAME_SECONDS.value,
        settings=_settings(kind),
        seed=_SEED.value,
        how={
            "seed": _SEED.value,
            "up": up,
            "max_particles": _MAX_PARTICLES.value or (None if kind == "reference" else _PARTICLES),
            "wanted_up": _UP.value,
        },
    )
    _refuse_idle(wish)
    return wish


def _range() -> tuple[float, float] | None:
    if _RANGE.value is None:
        return None
    ends = scenes.numbers(_RANGE.value, "--range such as 1e4:1e6", ":")
    if len(ends) != 2 or not 0 < ends[0] < ends[1]:
        raise ValueError(f"expected --range such as 1e4:1e6, found {_RANGE.value}")
    return tuple(ends)


def _settings(kind: str) -> Settings:
    found = options.SETTINGS[_PRESET.value, kind]
    said = {
        "frames": _FRAMES.value,
        "groups": _GROUPS.value,
        "truncate": _TRUNCATE.value,
        "iterations": _ITERATIONS.value,
        "rule": _RULE.value,
        "guidance": _GUIDANCE.value,
        "pairs": _PAIRS.value,
        "weight": _WEIGHT.value,
        "resolution": _RESOLUTION.value,
    }
    said = {name: value for name, value in said.items() if value is not None}
    if kind == "motion" and (fixed := {"frames", "resolution"} & set(said)):
        raise ValueError(
            f"expected no --{min(fixed)} with a small prior, whose clips are all alike, found "
            f"{said[min(fixed)]}"
        )
    return dataclasses.replace(found, **said)


def _search(
    out: pathlib.Path, wish: Wish, made: Quest, names: dict[str, str], stop: stopping.Stop
) -> Outcome:
    """Searches in the way that suits what is to be learnt."""
    if made.reference is not None:
        return _match(made, stop)
    if _way(wish) == "descent":
        return _descend(out, wish, made, names)
    return _draw_curve(wish, made, stop)


def _way(wish: Wish) -> str:
    """Returns how is searched: match, curve or descent."""
    is_scalar = wish.learn == ("youngs_modulus",) and wish.regions == "1"
    if wish.kind == "reference":
        return "match"
    by_default = "curve" if is_scalar and _PRESET.value == "default" else "descent"
    way = _SEARCH.value or by_default
    if way == "curve" and not is_scalar:
        raise ValueError("expected --search=descent for what is not one stiffness, found curve")
    return way


# What some ways to search have no use for.
_USES = {
    "groups": (_GROUPS, ("descent", "match")),
    "iterations": (_ITERATIONS, ("descent",)),
    "rule": (_RULE, ("descent",)),
    "truncate": (_TRUNCATE, ("curve", "descent")),
    "guidance": (_GUIDANCE, ("curve", "descent")),
    "noises": (_PAIRS, ("curve", "descent")),
    "weight": (_WEIGHT, ("curve", "descent")),
}


def _refuse_idle(wish: Wish) -> None:
    """Refuses flags that would change nothing."""
    way = _way(wish)
    for name, (flag, ways) in _USES.items():
        if flag.value is not None and way not in ways:
            raise ValueError(f"expected no --{name} where a {way} is made, found {flag.value}")
    if wish.range_pa and wish.kind == "motion":
        raise ValueError("expected no --range with a small prior, which has its own, found one")
    if _PROMPT.value and wish.kind in ("svd", "reference"):
        raise ValueError(f"expected no --prompt with --prior={wish.kind}, found {wish.prompt}")


def _draw_curve(wish: Wish, made: Quest, stop: stopping.Stop) -> Outcome:
    shift = made.likeness.shift
    labels = np.linspace(*made.labels, _VALUES.value)
    scan = search.scan_scene(made.likeness, labels, stop)
    stop.act()
    search.warn_if_unseen(scan)
    found = search.find(made.judge, scan, shift)
    report = answer.summarize(jax.random.key(wish.seed), found, made.labels)
    ends = []
    for start in made.starts:
        label = float(start["youngs_modulus"][0]) + shift
        rest = identify.come_to_rest(found.curve.log10_modulus, found.curve.mean, label)
        ends.append(rest if len(made.starts) > 1 else report["label"])
    pairs = [
        (start, {"youngs_modulus": np.float32([end - shift])})
        for start, end in zip(made.starts, ends, strict=True)
    ]
    value = {"youngs_modulus": np.float32([report["label"] - shift])}
    return Outcome(report, pairs, value, films.clips_of(scan, report["label"]), found)


def _descend(out: pathlib.Path, wish: Wish, made: Quest, names: dict[str, str]) -> Outcome:
    settings = wish.settings
    how = MaterialTraining(settings.iterations, settings.rate, settings.rule)
    if settings.rule != "log" and wish.regions == "field":
        raise ValueError(f"expected --rule=log for a field, found {settings.rule}")
    key = jax.random.key(wish.seed)
    ends: list[Descent] = []
    for factor, start in zip(wish.starts, made.starts, strict=True):
        folder = out / (f"descent_{factor:g}" if len(wish.starts) > 1 else "descent")
        wanted = names | {"wish": wish, "factor": factor, "training": how}
        ends.append(search.descend(key, folder, start, made.scene, made.judge, how, wanted))
    report = answer.of_descents(ends, made.scene, made.labels, made.likeness.shift)
    value = ends[0].theta
    return Outcome(report, _pairs(made, ends), value, _clips_at(made, value))


def _match(made: Quest, stop: stopping.Stop) -> Outcome:
    see = matching.observe_video if made.reference.is_video else matching.observe_places
    found: list[Match] = []
    with command.progress("matching") as advance:

        def match(theta: Theta, scene: LearntScene, stages: Sequence[Stage]) -> Match:
            return matching.match(
                see(scene),
                made.reference.values,
                theta,
                scene,
                stages,
                advance=advance,
                is_stopped=lambda: bool(stop),
            )

        for start in made.starts:
            best, timing = match(start, made.scene, matching.STAGES), None
            for _ in range(_SUBSTEPS):  # what is found depends on them, and they on that
                scene = quest.with_own_substep(made, best.theta)
                if scene.view.timing == timing:
                    break
                timing, so_far = scene.view.timing, best.evaluations
                best = match(best.theta, scene, [matching.LAST])
                best = best._replace(evaluations=so_far + best.evaluations)
            found.append(best)
    stop.act()
    best = min(found, key=lambda one: one.cost)
    if not np.isfinite(best.cost):
        raise command.WorkFailed("expected a scene that stays in its box, found that it does not")
    report = answer.of_matches(found, made.scene)
    return Outcome(report, _pairs(made, found), best.theta, _clips_at(made, best.theta))


def _pairs(made: Quest, ends: list[Descent] | list[Match]) -> list[tuple[Theta, Theta]]:
    return [(start, end.theta) for start, end in zip(made.starts, ends, strict=True)]


def _clips_at(made: Quest, end: Theta) -> list[np.ndarray]:
    """Clips at the first start and where it led."""
    return [
        np.asarray(
            film_motion(
                properties.with_properties(theta, made.scene.unknowns, made.scene.simulation),
                made.scene.view,
            ).video
        )
        for theta in (made.starts[0], end)
    ]


def _film(out: pathlib.Path, made: Quest, found: Outcome, size: tuple[int, int]) -> None:
    num_frames = _FILM_FRAMES.value or made.ready.scene.frame_num
    mover = films.Mover(made.ready, made.scene.unknowns, num_frames)
    films.write_motion(out / "before.mp4", mover, None, size)
    films.write_motion(out / "after.mp4", mover, found.found, size)
    if len(found.pairs) > 1:
        films.write_starts(out / "starts.mp4", found.pairs, mover, size)


if __name__ == "__main__":
    command.run(main)
