"""Whoever says of a clip how it should change: the small priors and the public video networks."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import ml_dtypes
import numpy as np

from models.diffusion import guidance, words
from models.diffusion.motion_answers import clip_residuals, drawn_residual
from models.diffusion.motion_prior import MotionPrior
from models.diffusion.motion_training import Batch, relative_errors
from models.diffusion.pipelines import ModelScopePrior, SvdPrior, load_modelscope, load_svd
from models.diffusion.video_answers import Asking, picture_residual, size_unit, text_residual
from render.image import resize
from scripts.materials.options import Settings
from sim.identify import Residual, Scan
from sim.material_training import MaterialBatch, ResidualOf

Ask = Callable[[jax.Array, jax.Array, Asking], jax.Array]  # key, clip -> its mean residual

_GATE_SIGMA = 4.0


class Judge(NamedTuple):
    """A prior that was told what is wanted."""

    residual_of: ResidualOf  # of a clip, under noise of its own each time
    # Of the first frame: the residuals of a clip under noise that is always the same, each draw's
    # for itself; and those of the prior that is told nothing.
    fixed: Callable[[np.ndarray], tuple[Residual, Residual]]
    wanted: float | None = None  # label of the stiffness that the words stand for
    error_on: Callable[[Scan], float] | None = None  # how well it knows a scene's own clips


def small_judge(key: jax.Array, prior: MotionPrior, prompt: str, settings: Settings) -> Judge:
    """Asks a small prior for a band of stiffness.

    Raises:
      ValueError: when the prompt names none.
    """
    wanted = words.log10_modulus_of(prompt)
    label = np.float32(wanted)
    how = settings.guidance, settings.weight

    def residual_of(clip: jax.Array, batch: MaterialBatch) -> jax.Array:
        noise = settings.pairs, settings.sigma_range
        return drawn_residual(batch.key, prior, label, clip, *noise, *how[::-1])

    def fixed(first: np.ndarray) -> tuple[Residual, Residual]:
        shape = (settings.frames, *first.shape)
        bank = guidance.draw_bank(key, settings.pairs, shape, settings.sigma_range)
        return (
            lambda clip: clip_residuals(prior, first, label, clip, bank, *how),
            lambda clip: clip_residuals(prior, first, None, clip, bank, *how),
        )

    def error_on(scan: Scan) -> float:
        batch = Batch(scan.videos, np.float32(scan.log10_modulus))
        error, energy = relative_errors(key, prior.params, batch, _GATE_SIGMA, prior.config)
        return float(error.sum() / energy.sum())

    return Judge(residual_of, fixed, wanted, error_on)


def text_judge(key: jax.Array, folder: str, prompt: str, settings: Settings) -> Judge:
    """Asks ModelScope's network for what a text describes.

    Raises:
      ValueError: as `load_modelscope`, or when the clips' size does not suit the network.
    """
    prior = load_modelscope(folder, _dtype())
    _check_size(prior, settings)
    told, untold = prior.context(prompt), prior.context("")

    def ask(key: jax.Array, clip: jax.Array, asking: Asking) -> jax.Array:
        return text_residual(key, prior, told, untold, clip, asking)

    def ask_untold(key: jax.Array, clip: jax.Array, asking: Asking) -> jax.Array:
        return text_residual(key, prior, untold, untold, clip, asking)

    return _network_judge(key, ask, ask_untold, settings)


def picture_judge(
    key: jax.Array, folder: str, picture: np.ndarray, frame_seconds: float, settings: Settings
) -> Judge:
    """Asks Stable Video Diffusion for what may follow a picture [H, W, 3].

    Raises:
      ValueError: as `load_svd`, or when the clips' size does not suit the network.
    """
    prior = load_svd(folder, _dtype())
    _check_size(prior, settings)
    side = settings.resolution
    if picture.shape[:2] != (side, side):
        picture = resize(picture, side, side)
    told = prior.condition(key, np.float32(picture), 1.0 / frame_seconds)

    def ask(key: jax.Array, clip: jax.Array, asking: Asking) -> jax.Array:
        return picture_residual(key, prior, told, clip, asking)

    def ask_untold(key: jax.Array, clip: jax.Array, asking: Asking) -> jax.Array:
        return picture_residual(key, prior, told.null(), clip, asking)

    return _network_judge(key, ask, ask_untold, settings)


def _network_judge(key: jax.Array, ask: Ask, ask_untold: Ask, settings: Settings) -> Judge:
    asking = Asking(settings.pairs, settings.sigma_range, settings.weight, settings.guidance)
    one = dataclasses.replace(asking, num_pairs=1)
    keys = list(jax.random.split(key, settings.pairs))

    def fixed(_: np.ndarray) -> tuple[Residual, Residual]:
        return tuple(
            lambda clip, ask=ask: np.stack([ask(key, clip, one) for key in keys])
            for ask in (ask, ask_untold)
        )

    return Judge(lambda clip, batch: ask(batch.key, clip, asking), fixed)


def _check_size(prior: ModelScopePrior | SvdPrior, settings: Settings) -> None:
    unit = size_unit(prior)
    if settings.resolution % unit:
        raise ValueError(
            f"expected a --resolution in steps of {unit} pixels, as the network halves it, found "
            f"{settings.resolution}"
        )


def _dtype() -> jax.typing.DTypeLike:
    """Half precision where it is fast."""
    return np.float32 if jax.default_backend() == "cpu" else ml_dtypes.bfloat16
