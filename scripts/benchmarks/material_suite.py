"""Suite `material` of `benchmark`: how well a stiffness is learnt, where the truth is known.

The protocol: scenes that the priors were not taught, each asked for three bands of stiffness, by
searches from four starts. Beside the prior that is told the band stand one that is told nothing,
one told another band, steps of random sign, and no step at all. What it recovers is the band that
a word stands for, not a truth of physics; the limit of the simulator's own derivatives is shown by
fits to a film of the scene.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from models.diffusion.guidance import NoiseBank, draw_bank
from models.diffusion.motion_answers import clip_residuals, drawn_residual
from models.diffusion.motion_prior import MotionPrior
from models.diffusion.motion_prior_io import load_prior
from scripts.benchmarks.measuring import Row, against
from scripts.materials.options import SETTINGS, Settings
from scripts.shell import command
from sim import identify, matching, properties
from sim.families.family import FAMILIES, Family, family_view
from sim.families.random_scenes import random_scene
from sim.identify import Curve, Scan
from sim.material_training import (
    LearntScene,
    MaterialBatch,
    MaterialTraining,
    init_material,
    material_step,
)

_FIRST_SCENE = 20  # held out from training, and not those that settings were chosen on
_STARTS = np.array([-1.0, -0.5, 0.5, 1.0])  # decades from the band
_VALUES = 25
_NEAR = 0.15  # decades: close enough, for the ablations
_RULES = ("log", "linear", "paper")
_UNDONE = "no update"


@dataclasses.dataclass(frozen=True)
class MaterialSuite:
    """Settings of the suite."""

    scenes: int = 20
    ablation_scenes: int = 3
    steps: int = 40
    seed: int = 0


class _Ends(NamedTuple):
    """Where searches ended, decades."""

    told: np.ndarray  # [scenes, bands, starts]
    null: np.ndarray
    random: np.ndarray


def material_rows(suite: MaterialSuite) -> Iterator[Row]:
    """Searches held-out scenes of every family, fits films, and takes the method apart."""
    for family in FAMILIES.values():
        prior = load_prior(family.name)
        yield from _search_rows(suite, family, prior)
    for family in FAMILIES.values():
        yield from _match_rows(suite, family)
    yield from _ablation_rows(suite)


def _search_rows(suite: MaterialSuite, family: Family, prior: MotionPrior) -> Iterator[Row]:
    ends = _search(suite, family, prior)
    bands = np.array(family.bands)[:, None]
    away = np.abs(ends.told - bands)
    starts = np.clip(bands + _STARTS, *family.log10_range)
    still = float(np.median(np.abs(starts - bands)))
    name = f"material, {family.name}, {suite.scenes} held-out scenes"

    def row(what: str, value: float, peer: str | None = None, peer_value=None) -> Row:
        case = f"{name}: {what}"
        return against(case, value, "dec", peer, peer_value) if peer else Row(case, value, "dec")

    yield row("median error", float(np.median(away)), _UNDONE, still)
    yield row("90th percentile of errors", float(np.quantile(away, 0.9)))
    yield row("gap between low and high starts", float(np.mean(np.ptp(ends.told, axis=-1))))
    for band, errors in zip(family.bands, np.moveaxis(away, 1, 0), strict=True):
        yield row(f"median error, band {band:g}", float(np.median(errors)))
    yield row("median error, told nothing", float(np.median(np.abs(ends.null - bands))))
    yield row("median error, steps of random sign", float(np.median(np.abs(ends.random - bands))))
    reached = np.abs(ends.null[:, 1] - bands[1]) < _NEAR
    yield Row(f"{name}: told nothing, it reaches the middle band", float(reached.mean()), "share")
    in_order = float(np.mean(np.diff(ends.told, axis=1) > 0))
    yield Row(f"{name}: bands in order", in_order, "share")
    slopes = [np.polyfit(family.bands, scene.mean(-1), 1)[0] for scene in ends.told]
    yield Row(f"{name}: decades moved for a decade of label", float(np.mean(slopes)), "dec")
    failed = float(np.mean(away > 0.3))
    yield Row(f"{name}: searches that end over 0.3 decades off", failed, "share")


def _search(suite: MaterialSuite, family: Family, prior: MotionPrior) -> _Ends:
    settings, view = SETTINGS["default", "motion"], family_view(family)
    grid = np.linspace(*family.log10_range, _VALUES)
    key, rng = jax.random.key(suite.seed), np.random.default_rng(suite.seed)
    shape = (family.timing.num_frames, family.size, family.size, 3)
    bank = draw_bank(key, settings.pairs, shape, settings.sigma_range)
    told, null, drifted = [], [], []
    label = f"material, {family.name}"
    with command.progress(label, suite.scenes * _VALUES) as advance:
        for number in range(_FIRST_SCENE, _FIRST_SCENE + suite.scenes):
            scan = identify.scan_modulus(random_scene(number, family), view, grid, advance)
            curves = [_curve(scan, prior, band, settings, bank) for band in (*family.bands, None)]
            told.append([_ends(*pair) for pair in zip(curves[:-1], family.bands, strict=True)])
            null.append([_ends(curves[-1], band) for band in family.bands])
            drifted.append([_drift(rng, family, band, suite.steps) for band in family.bands])
    return _Ends(*(np.array(values) for values in (told, null, drifted)))


def _curve(
    scan: Scan, prior: MotionPrior, wanted: float | None, settings: Settings, bank: NoiseBank
) -> Curve:
    """The forces of a prior that is told `wanted`, or nothing."""
    first = scan.videos[0, 0]
    wanted = None if wanted is None else np.float32(wanted)
    return identify.force_along(
        scan, lambda clip: clip_residuals(prior, first, wanted, clip, bank, settings.guidance)
    )


def _ends(curve: Curve, band: float) -> list[float]:
    """Where searches from around a band end."""
    points = curve.log10_modulus
    starts = np.clip(band + _STARTS, points[0], points[-1])
    return [identify.come_to_rest(points, curve.mean, start) for start in starts]


def _drift(rng: np.random.Generator, family: Family, band: float, steps: int) -> list[float]:
    """Where steps of random sign lead, as long as a descent's."""
    how = MaterialTraining()
    ends = np.clip(band + _STARTS, *family.log10_range)
    for number in range(steps):
        share = 0.1 + 0.45 * (1.0 + np.cos(np.pi * number / steps))
        ends = ends + how.rate * share * rng.choice([-1.0, 1.0], len(ends))
        ends = np.clip(ends, *family.log10_range)
    return ends.tolist()


def _match_rows(suite: MaterialSuite, family: Family) -> Iterator[Row]:
    """Fits to a film and to a trajectory of the scene itself, from ten times too low and high."""
    scene, view = random_scene(_FIRST_SCENE, family), family_view(family)
    truth = family.bands[1]
    unknowns = properties.make_unknowns(("youngs_modulus",), scene, bounds=_bounds(family))
    learnt = LearntScene(scene, unknowns, view)
    sights = {"film": matching.observe_video, "trajectory": matching.observe_places}
    for what, see in sights.items():
        observe = see(learnt)
        seen = np.asarray(observe(_theta(truth))[0])
        for start in (-1.0, 1.0):
            found = matching.match(observe, seen, _theta(truth + start), learnt)
            error = abs(10.0 ** (float(found.theta["youngs_modulus"][0]) - truth) - 1.0)
            side = "low" if start < 0 else "high"
            case = f"material, {family.name}: error of E from a {what}, ten times too {side}"
            yield Row(case, 100.0 * error, "%")


def _ablation_rows(suite: MaterialSuite) -> Iterator[Row]:
    """Steps of a descent until it stays within 0.15 decades of where searches end."""
    family = FAMILIES["stalk"]
    prior, band = load_prior(family.name), family.bands[1]
    for rule in _RULES:
        yield _steps_row(suite, family, prior, band, f"{rule} updates", rule=rule)
    for groups in (2, 4):
        yield _steps_row(suite, family, prior, band, f"{groups} groups of frames", groups=groups)
    frame = family.timing.per_frame
    for what, tracked in {"one frame": frame, "half a frame": frame // 2, "one step": 1}.items():
        yield _steps_row(suite, family, prior, band, f"derivative of {what}", tracked=tracked)


def _steps_row(
    suite: MaterialSuite,
    family: Family,
    prior: MotionPrior,
    band: float,
    what: str,
    rule: str = "log",
    groups: int = 1,
    tracked: int | None = None,
) -> Row:
    counts = []
    name = f"material, {family.name}: steps to 0.15 decades, {what}"
    with command.progress(name, 2 * suite.ablation_scenes * suite.steps) as advance:
        for number in range(_FIRST_SCENE, _FIRST_SCENE + suite.ablation_scenes):
            for start in (band - 1.0, band + 1.0):
                path = _descend(
                    suite, family, prior, band, number, start, rule, groups, tracked, advance
                )
                away = np.abs(path - band) > _NEAR
                counts.append(len(path) if away[-1] else int(np.flatnonzero(away)[-1]) + 2)
    return Row(name, float(np.mean(counts)), "steps")


def _descend(suite, family, prior, band, number, start, rule, groups, tracked, advance):
    """The stiffness after each step of a descent."""
    settings, how = SETTINGS["default", "motion"], MaterialTraining(suite.steps, rule=rule)
    scene, view = random_scene(number, family), family_view(family)
    timing = dataclasses.replace(
        view.timing, groups=groups, per_frame=view.timing.per_frame // groups, tracked=tracked
    )
    unknowns = properties.make_unknowns(("youngs_modulus",), scene, bounds=_bounds(family))
    learnt = LearntScene(scene, unknowns, view.replace(timing=timing))
    ask = settings.pairs, settings.sigma_range, settings.weight, settings.guidance

    def residual_of(clip: jax.Array, batch: MaterialBatch) -> jax.Array:
        return drawn_residual(batch.key, prior, np.float32(band), clip, *ask)

    key, state, path = jax.random.key(suite.seed), init_material(_theta(start)), []
    for step in range(suite.steps):
        batch = MaterialBatch(jax.random.fold_in(key, step), np.int32(step % groups))
        share = np.float32(step / suite.steps)
        state, _ = material_step(state, batch, share, residual_of, learnt, how)
        path.append(float(state.theta["youngs_modulus"][0]))
        advance()
    return np.array(path)


def _theta(log10_modulus: float) -> properties.Theta:
    return {"youngs_modulus": jax.numpy.float32([log10_modulus])}


def _bounds(family: Family) -> dict[str, tuple[float, float]]:
    low, high = family.log10_range
    return {"youngs_modulus": (10.0**low, 10.0**high)}
