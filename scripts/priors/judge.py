"""Judges a prior by scenes that it was not taught: its errors, and the forces it exerts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from models.diffusion import motion_training
from models.diffusion.guidance import draw_bank
from models.diffusion.motion_answers import scan_forces
from models.diffusion.motion_prior import MotionPrior, PriorConfig
from models.diffusion.motion_training import Batch
from scripts.priors.clips_io import Clips, Scans, to_floats
from sim import identify
from sim.identify import Curve

SIGMAS = (2.0, 4.0, 8.0)
GATE = 0.15  # relative error at sigma 4: a prior that knows less misleads whoever learns from it
_FORCE_SIGMA = (4.0, 4.0)  # all noises of the judgement at the level of the gate
_PAIRS = 4
_GATE_SIGMA = 4.0
_STARTS = (-1.0, -0.5, 0.5, 1.0)  # decades from the band, where searches begin


class Judgement(NamedTuple):
    """What a prior says of held-out scenes."""

    scores: dict[str, float]
    curves: list[list[Curve]]  # of each scene and each band
    null_curves: list[Curve]  # of each scene, told nothing
    scene_errors: np.ndarray  # [S] relative, of each scene's own scan at the level of the gate


def errors(key: jax.Array, params: Any, held_out: Clips, config: PriorConfig) -> dict[str, float]:
    """Returns relative squared errors by name: the mean of the clips', and that of all in one sum.

    A stiff stalk hardly moves; by the mean it counts as much as one that sways.
    """
    batch = Batch(to_floats(held_out.videos), held_out.log10_modulus)
    found = {}
    for sigma in SIGMAS:
        error, energy = jax.device_get(
            motion_training.relative_errors(key, params, batch, sigma, config)
        )
        found[f"error_{sigma:g}"] = float(np.mean(error / energy))
        found[f"error_of_sums_{sigma:g}"] = float(error.sum() / energy.sum())
    return found


def judge_forces(
    key: jax.Array, prior: MotionPrior, scans: Scans, bands: Sequence[float]
) -> Judgement:
    """Draws the forces of held-out scenes, towards each band and towards nothing in particular."""
    bank = draw_bank(key, _PAIRS, scans.videos.shape[2:], _FORCE_SIGMA)
    grid = scans.log10_modulus
    curves, null_curves = [], []
    for videos, slopes in zip(scans.videos, scans.slopes, strict=True):
        told = [scan_forces(prior, np.float32(band), videos, slopes, bank) for band in bands]
        curves.append([Curve(grid, np.asarray(values, np.float64)) for values in told])
        null = scan_forces(prior, None, videos, slopes, bank)
        null_curves.append(Curve(grid, np.asarray(null, np.float64)))
    scores = _scores(grid, np.array([[c.mean for c in scene] for scene in curves]), bands)
    return Judgement(scores, curves, null_curves, _scene_errors(key, prior, scans))


def _scores(grid: np.ndarray, means: np.ndarray, bands: Sequence[float]) -> dict[str, float]:
    """Sums up mean forces [S, bands, E]: their signs, their zeros, where searches end."""
    shares, singles, ends = [], [], []
    for scene in means:
        for mean, band in zip(scene, bands, strict=True):
            shares.append(identify.share_of_right_signs(grid, mean, band))
            singles.append(len(identify.zeros_of(grid, mean)) == 1)
            starts = np.clip(band + np.array(_STARTS), grid[0], grid[-1])
            ends.append([identify.come_to_rest(grid, mean, start) for start in starts])
    ends = np.array(ends).reshape(len(means), len(bands), len(_STARTS))
    away = np.abs(ends - np.array(bands)[:, None])
    return {
        "right_signs": float(np.mean(shares)),
        "single_zeros": float(np.mean(singles)),
        "search_error_median": float(np.median(away)),
        "search_error_p90": float(np.quantile(away, 0.9)),
        "search_gap": float(np.mean(np.ptp(ends, axis=-1))),
        "bands_in_order": float(np.mean(np.diff(ends, axis=1) > 0)),
    }


def _scene_errors(key: jax.Array, prior: MotionPrior, scans: Scans) -> np.ndarray:
    """Relative errors [S] of scans, told their own stiffness: the gate of each scene."""
    found = []
    for videos in scans.videos:
        batch = Batch(np.asarray(videos, np.float32), np.float32(scans.log10_modulus))
        error, energy = jax.device_get(
            motion_training.relative_errors(key, prior.params, batch, _GATE_SIGMA, prior.config)
        )
        found.append(error.sum() / energy.sum())
    return np.array(found)
