"""The two ways to a material: the whole curve of forces for one stiffness, or descent for more."""

import pathlib

import jax
import numpy as np

from scripts.materials.answer import Descent, Findings, least_visible
from scripts.materials.judges import Judge
from scripts.shell import command, stopping, training
from scripts.shell.training import LoopConfig
from sim import identify
from sim.families.likeness import Likeness
from sim.identify import Scan
from sim.material_training import (
    LearntScene,
    MaterialBatch,
    MaterialReport,
    MaterialState,
    MaterialTraining,
    init_material,
    material_step,
)
from sim.properties import Theta, values_by_region

_EVERY = 5  # steps between printed values


def scan_scene(likeness: Likeness, labels: np.ndarray, stop: stopping.Stop) -> Scan:
    """Simulates clips at stiffnesses that are told as labels [E].

    Raises:
      command.WorkFailed: when the scene does not stay in its box.
    """
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
    if kept < len(labels) and not stop:
        command.warn(f"{len(labels) - kept} of {len(labels)} clips left their box: not used")
    return scan._replace(log10_modulus=scan.log10_modulus + likeness.shift)


def warn_if_unseen(scan: Scan) -> None:
    """Says before any answer that the clips hardly tell one stiffness from another."""
    most = float(identify.identifiability(scan).max())
    least = least_visible(scan)
    if most < least:
        command.warn(
            f"stiffness hardly shows in these clips, |dV/dlog10E| is {most:.3g}: move the camera "
            f"closer, or make the motion {least / max(most, 1e-3):.1f} times as strong"
        )


def find(judge: Judge, scan: Scan, shift: float) -> Findings:
    """Draws the forces of a prior that was told what is wanted, and of one that was not."""
    told, untold = judge.fixed(scan.videos[0, 0])
    error = judge.error_on(scan) if judge.error_on else None
    points = 2 * identify.num_points(scan)
    with command.progress("forces", points) as advance:
        curves = [identify.force_along(scan, residual, advance) for residual in (told, untold)]
    return Findings(scan, *curves, judge.wanted, error, shift)


def descend(
    key: jax.Array,
    folder: pathlib.Path,
    start: Theta,
    scene: LearntScene,
    judge: Judge,
    how: MaterialTraining,
    settings: dict,
) -> Descent:
    """Follows the forces from a start; a folder that holds a begun descent is gone on with."""
    groups = scene.view.timing.groups
    run = training.open_run(folder, settings, lambda: init_material(start))

    def batch_of(number: int) -> MaterialBatch:
        return MaterialBatch(jax.random.fold_in(key, number), np.int32(number % groups))

    def step(
        state: MaterialState, batch: MaterialBatch, share: float
    ) -> tuple[MaterialState, MaterialReport]:
        return material_step(state, batch, np.float32(share), judge.residual_of, scene, how)

    def evaluate(state: MaterialState) -> dict[str, float]:
        return flat_values(state.theta, scene)

    loop = LoopConfig(how.steps, report_every=1, evaluate_every=_EVERY, checkpoint_seconds=20.0)
    run = training.train(run, step, batch_of, evaluate, folder, loop)
    return Descent(run.state.theta, run.history, int(run.state.shortened))


def flat_values(theta: Theta, scene: LearntScene) -> dict[str, float]:
    """Returns the values of all properties by name, numbered where there are several regions."""
    found = {}
    for name, values in values_by_region(theta, scene.unknowns).items():
        many = len(values) > 1
        found |= {f"{name}_{i}" if many else name: value for i, value in enumerate(values)}
    return found
