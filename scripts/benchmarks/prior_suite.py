"""Suite `prior` of `benchmark`: a step of score distillation, and one of the prior's training."""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np

from models.diffusion.guidance import draw_bank, force, sds_residual
from models.diffusion.motion_dit import DitConfig
from models.diffusion.motion_prior import MotionPrior, PriorConfig, motion_denoiser
from models.diffusion.motion_training import (
    Batch,
    PriorTraining,
    init_prior,
    train_prior_step,
)
from scripts.benchmarks.measuring import Row, against, median_milliseconds, milliseconds
from scripts.shell import command
from sim.families.family import FAMILIES, family_view
from sim.families.random_scenes import random_scene
from sim.motion_video import video_and_slope

_FLOOR = "what was asked, 1 s"
_FLOOR_MS = 1000.0
_PAIRS = 4
_SIGMAS = (4.0, 16.0)
_MODULUS = 5.0


@dataclasses.dataclass(frozen=True)
class PriorSuite:
    """Settings of the suite."""

    repeats: int = 9
    batch: int = 32
    seed: int = 0


def prior_rows(suite: PriorSuite) -> Iterator[Row]:
    """Measures a whole step of distillation on a scene of each family, and a training step."""
    key = jax.random.key(suite.seed)
    how = PriorTraining(steps=1000, batch=suite.batch)
    config = PriorConfig("stalk", 0.3, FAMILIES["stalk"].log10_range, dit=DitConfig())
    prior = MotionPrior(init_prior(key, config, how).params, config)
    for family in FAMILIES.values():
        scene, view = random_scene(0, family), family_view(family)
        shape = (family.timing.num_frames, family.size, family.size, 3)
        bank = draw_bank(key, _PAIRS, shape, _SIGMAS)

        @jax.jit
        def pushed(prior, video, slope, bank=bank):
            denoise = motion_denoiser(prior, video[0], np.float32(_MODULUS))
            return force(slope, sds_residual(denoise, video, bank))

        def step(scene=scene, view=view, pushed=pushed):
            clip, slope = video_and_slope(np.float32(_MODULUS), scene, view)
            return pushed(prior, clip.video, slope)

        case = f"prior, {family.name}: clip, derivative, force of {2 * _PAIRS} noises"
        with command.progress(case):
            first = milliseconds(step)
            each = median_milliseconds(step, suite.repeats)
        yield Row(f"{case}, first call with compilation", first, "ms")
        yield against(case, each, "ms", _FLOOR, _FLOOR_MS)
    yield _training_row(key, config, how, suite)


def _training_row(
    key: jax.Array, config: PriorConfig, how: PriorTraining, suite: PriorSuite
) -> Row:
    state = init_prior(key, config, how)
    size = config.dit.size
    clips = jax.random.normal(key, (suite.batch, config.dit.num_frames, size, size, 3))
    batch = Batch(clips, np.full(suite.batch, _MODULUS, np.float32))

    def step():
        nonlocal state  # each step gives the last one's state away
        state, report = train_prior_step(key, state, batch, np.float32(0.5), config, how)
        return report.loss

    case = f"prior, training step of {suite.batch} clips"
    with command.progress(case):
        return Row(case, median_milliseconds(step, suite.repeats), "ms")
