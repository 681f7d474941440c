"""A scene, what is to be learnt of it, and who is asked: made of what the user said."""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from models.diffusion import words
from models.diffusion.motion_prior import MotionPrior
from models.diffusion.motion_prior_io import load_prior
from render import image_io
from scripts.materials import judges, references_io, sights
from scripts.materials.judges import Judge
from scripts.materials.options import Settings
from scripts.materials.references_io import Reference
from scripts.shell.shown import SplatsShown
from sim import properties
from sim.coarse import make_coarse
from sim.constitutive import LAWS
from sim.families.family import FAMILIES, Family
from sim.families.likeness import Clips, Corner, Likeness, make_likeness, stand_on_foot
from sim.material import Material
from sim.material_training import LearntScene
from sim.motion_video import film_motion
from sim.particles import out_of_box
from sim.properties import Theta, Unknowns
from sim.scene import SceneFile
from sim.simulation import ReadyScene, make_simulation, with_material

_ANY = {name: (-np.inf, np.inf) for name in properties.PROPERTIES}
Bounds = dict[str, tuple[float, float]]  # by property, SI

_WIDTH = 30.0  # times the scene's stiffness, down and up, where no prior and no user say a range
_DENSITIES = 10.0  # likewise of density: the substep has to do for the lightest
_SLENDER = 1.5  # times as tall as wide: a stalk


@dataclasses.dataclass(frozen=True)
class Wish:
    """What the user asked for, every default filled in."""

    kind: str  # of prior: motion, modelscope, svd, reference
    place: str  # of it; a small prior's may be empty: what suits the scene
    prompt: str
    image: str | None
    learn: tuple[str, ...]
    regions: str  # "1", a number of clusters, "boxes" or "field"
    starts: tuple[float, ...]  # times the scene's own values
    range_pa: tuple[float, float] | None
    frame_seconds: float | None
    settings: Settings
    seed: int
    how: dict[str, Any]  # of `make_simulation`


class Quest(NamedTuple):
    """All that a search needs."""

    ready: ReadyScene  # as its file says
    likeness: Likeness
    scene: LearntScene
    own: Theta  # the scene's own values
    starts: list[Theta]
    labels: tuple[float, float]  # range of log10 E plus the likeness' shift
    judge: Judge | None
    reference: Reference | None
    family: Family | None


def make_quest(wish: Wish, scene: SceneFile, splats: SplatsShown, stands_on_foot: bool) -> Quest:
    """Makes the scene ready and opens the prior.

    Args:
      wish: of the user.
      scene: as read.
      splats: that it moves.
      stands_on_foot: the scene's conditions give way to those that a small prior was taught.

    Raises:
      ValueError: in one line, when things do not go together.
    """
    _check(wish, scene)
    scene = dataclasses.replace(scene, substep_dt=None)
    # What was simulated elsewhere is to be met on its own grid.
    make = make_simulation if wish.kind == "reference" else make_coarse
    ready = make(scene, splats.gaussians, **wish.how)
    _check_laws(wish, ready)
    prior = None
    if wish.kind == "motion":
        prior = load_prior(wish.place or suited_family(ready).name)
    family = FAMILIES[prior.config.family] if prior else None
    if stands_on_foot:
        if family and not family.kick:
            raise ValueError(f"expected --scene with --prior={family.name}, found none")
        standing = stand_on_foot(ready, family or suited_family(ready))
        ready = make_simulation(standing, splats.gaussians, **wish.how)
    bounds = _bounds(wish, ready)
    clips = Clips(wish.frame_seconds, wish.settings.groups, wish.settings.truncate)
    corner = functools.partial(_corner, names=wish.learn, bounds=bounds)
    reference = None
    if wish.kind == "reference":
        reference = _read_reference(wish, splats)
        clips = clips._replace(frame_seconds=reference.frame_seconds)
    if family is not None:
        likeness, labels = make_likeness(ready, family, clips, corner), family.log10_range
    else:
        likeness, labels = _sight(wish, ready, clips, corner, reference)
    bounds["youngs_modulus"] = tuple(10.0 ** (label - likeness.shift) for label in labels)
    # The stiffest of all was for the substep; what is not learnt is the scene's own.
    simulation = likeness.simulation.replace(material=ready.simulation.material)
    unknowns = properties.make_unknowns(
        wish.learn,
        simulation,
        _regions(wish, ready),
        is_field=wish.regions == "field",
        velocity=ready.scene.velocity,
        bounds={name: bounds[name] for name in wish.learn if name in bounds},
    )
    learnt = LearntScene(simulation, unknowns, likeness.view)
    own = properties.start_of(jax.random.key(wish.seed), unknowns, ready.simulation)
    starts = [_times(own, factor, unknowns) for factor in wish.starts]
    _check_places(reference, learnt)
    judge = None if reference else _judge(wish, prior, likeness, learnt, own)
    return Quest(ready, likeness, learnt, own, starts, labels, judge, reference, family)


def _check(wish: Wish, scene: SceneFile) -> None:
    """Refuses early what does not go together."""
    if wish.kind != "svd" and wish.image:
        raise ValueError("expected --image with --prior=svd:DIR alone, found it with another")
    if wish.kind == "motion":
        words.band_of(wish.prompt)
    if wish.regions == "boxes" and not scene.boxes:
        raise ValueError(
            f"expected boxes of material in {scene.path} for --regions=boxes, found none"
        )


def _check_laws(wish: Wish, ready: ReadyScene) -> None:
    """Refuses what no law of the scene reads, and updates that are for decades alone."""
    laws = [law for law, _ in ready.simulation.material.laws]
    read = {"youngs_modulus", "poisson_ratio", "density", properties.VELOCITY}
    read = read.union(*(LAWS[law].parameters for law in laws))
    for name in wish.learn:
        if name not in read:
            raise ValueError(f"expected to learn what {' and '.join(laws)} has, found {name}")
        if wish.settings.rule != "log" and properties.PROPERTIES[name].step is not None:
            raise ValueError(f"expected --rule=log for {name}, found {wish.settings.rule}")


def suited_family(ready: ReadyScene) -> Family:
    """Returns the family that things of a scene's shape are most alike, held at their foot."""
    wide, deep, high = np.ptp(np.asarray(ready.simulation.state.x), axis=0)
    return FAMILIES["stalk" if high > _SLENDER * max(wide, deep) else "block"]


def doubts(made: Quest) -> list[str]:
    """Says which of the scene's own values lie outside what is searched."""
    lines = []
    whole = properties.start_of(
        jax.random.key(0), made.scene.unknowns.replace(bounds=_ANY), made.ready.simulation
    )
    for name, values in whole.items():
        low, high = made.scene.unknowns.bounds[name]
        found = np.asarray(values.level if isinstance(values, properties.Smooth) else values)
        if np.any((found < low) | (found > high)):
            ends = (properties.value_of(name, end) for end in (low, high))
            lines.append(
                f"the scene's own {name} lies outside of what is searched, "
                f"{' to '.join(f'{end:.3g}' for end in ends)}: a search starts at the bound"
            )
    return lines


def with_own_substep(made: Quest, theta: Theta) -> LearntScene:
    """Returns the scene with the substep that suits what was found, instead of all that might be.

    The transfers damp by the substep: a film that was simulated has that of its own stiffness.
    """
    changed = properties.with_properties(theta, made.scene.unknowns, made.scene.simulation)
    ready = with_material(made.likeness.ready, jax.device_get(changed.material))
    timing = dataclasses.replace(made.scene.view.timing, per_frame=ready.time_step.per_frame)
    return made.scene._replace(
        simulation=made.scene.simulation.replace(dt=ready.simulation.dt),
        view=made.scene.view.replace(timing=timing),
    )


def _read_reference(wish: Wish, splats: SplatsShown) -> Reference:
    return references_io.read_reference(
        wish.place,
        wish.settings.frames,
        wish.settings.resolution,
        wish.frame_seconds,
        len(splats.gaussians.means),
    )


def _sight(
    wish: Wish, ready: ReadyScene, clips: Clips, corner: Corner, reference: Reference | None
) -> tuple[Likeness, tuple[float, float]]:
    """The scene as it looks, and the range of log10 E that is searched."""
    own = ready.scene.material.youngs_modulus
    low, high = wish.range_pa or (own / _WIDTH, own * _WIDTH)
    labels = math.log10(low), math.log10(high)
    count = wish.settings.frames if reference is None else len(reference.values)
    is_exact = reference is not None and reference.is_video
    size = wish.settings.resolution
    return sights.make_sight(ready, clips, count, size, labels, corner, is_exact), labels


def _bounds(wish: Wish, ready: ReadyScene) -> Bounds:
    """Ranges of what the substep has to be chosen for, about the scene's own values."""
    found = {}
    for name, factor in (("density", _DENSITIES), ("viscosity", _WIDTH)):
        if name in wish.learn:
            own = np.asarray(getattr(ready.simulation.material, name))
            if own.min() <= 0:
                raise ValueError(f"expected a {name} above 0 in {ready.scene.path} to start from")
            found[name] = float(own.min()) / factor, float(own.max()) * factor
    return found


def _corner(material: Material, names: tuple[str, ...], bounds: Bounds) -> Material:
    """The material that wants the shortest substep of all that may be found."""
    changes = {}
    if "poisson_ratio" in names:
        changes["poisson_ratio"] = properties.PROPERTIES["poisson_ratio"].high
    if "density" in names:
        changes["density"] = bounds["density"][0]
    if "viscosity" in names:
        changes["viscosity"] = bounds["viscosity"][1]
    leaves = {name: np.full_like(getattr(material, name), v) for name, v in changes.items()}
    return material.replace(**leaves)


def _regions(wish: Wish, ready: ReadyScene) -> np.ndarray | None:
    x = np.asarray(ready.simulation.state.x)
    if wish.regions in ("1", "field"):
        return None
    if wish.regions == "boxes":
        return properties.in_boxes(x, ready.scene.boxes)
    return properties.in_clusters(x, int(wish.regions))


def _times(own: Theta, factor: float, unknowns: Unknowns) -> Theta:
    """Values that are `factor` times as large: of stiffness, or else of all that spans decades."""
    names = [n for n in own if properties.PROPERTIES[n].step is None]
    names = ["youngs_modulus"] if "youngs_modulus" in names else names
    shift = np.float32(math.log10(factor))
    moved = dict(own)
    for name in names:
        values = own[name]
        is_field = isinstance(values, properties.Smooth)
        moved[name] = values._replace(level=values.level + shift) if is_field else values + shift
    return properties.bounded(moved, unknowns)


def _check_places(reference: Reference | None, learnt: LearntScene) -> None:
    if reference is None or reference.is_video:
        return
    expected, found = len(learnt.simulation.state.x), reference.values.shape[1]
    if expected != found:
        raise ValueError(
            f"expected a trajectory of the scene's {expected} particles, found one of {found}: the "
            "same --max_particles, --seed and scene give the same particles"
        )
    simulation = learnt.simulation
    at_start = np.asarray(out_of_box(simulation.placement, simulation.state.x))
    cell = simulation.config.grid.dx / float(simulation.placement.scale)
    if np.abs(reference.values[0] - at_start).max() > cell:
        raise ValueError(
            "expected a trajectory that starts with the scene's particles in their places, found "
            "others: the same --seed and scene give the same particles"
        )


def _judge(
    wish: Wish, prior: MotionPrior | None, likeness: Likeness, learnt: LearntScene, own: Theta
) -> Judge:
    key = jax.random.key(wish.seed)
    if prior is not None:
        return judges.small_judge(key, prior, wish.prompt, wish.settings)
    if wish.kind == "modelscope":
        return judges.text_judge(key, wish.place, wish.prompt, wish.settings)
    picture = image_io.read_photo(wish.image) if wish.image else _first_frame(learnt, own)
    seconds = likeness.ready.scene.frame_dt * wish.settings.groups
    return judges.picture_judge(key, wish.place, picture, seconds, wish.settings)


def _first_frame(learnt: LearntScene, own: Theta) -> np.ndarray:
    """What the view shows at the start [S, S, 3]."""
    simulation = properties.with_properties(own, learnt.unknowns, learnt.simulation)
    timing = dataclasses.replace(learnt.view.timing, num_frames=1, groups=1)
    clip = film_motion(simulation, learnt.view.replace(timing=timing))
    return np.clip(0.5 + 0.5 * np.asarray(clip.video[0]), 0.0, 1.0)
