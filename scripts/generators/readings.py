"""An encoder as the judge of edits: what it reads in pictures before and after.

It was taught on pictures whose latents are known, so a reading of its latents is a reading of the
picture. It errs like any reader; what it reads of pictures that were not edited says how much.
"""

from typing import Any

import jax
import numpy as np

from models.stylegan.directions import Directions, edited, read_labels
from models.stylegan.encoder import TrainedEncoder, encode_latents
from models.stylegan.generator import Generator, synthesize
from scripts.generators.labels import POSE, WHO

_BATCH = 50
_AMOUNT = 1.0  # deviations, both ways


def painted(generator: Generator, ws: np.ndarray) -> np.ndarray:
    """Returns pictures of latents [N, L, w], without noise."""
    return _in_batches(lambda part: synthesize(generator.params, part, None, generator.config), ws)


def encoded(encoder: TrainedEncoder, images: np.ndarray) -> np.ndarray:
    """Returns one latent a picture [N, w]."""
    params, statistics, config, _ = encoder
    return _in_batches(lambda part: encode_latents(params, part, statistics, config).shared, images)


def nearest_latents(generator: Generator, images: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Returns for pictures [N, r, r, 3] the latents [N, L, w] of the nearest of samples [M, w].

    A search from the mean latent can end at a head that is turned the wrong way.
    """
    ws = np.repeat(np.float32(samples)[:, None], generator.config.num_ws, 1)
    made = np.clip(painted(generator, ws), -1.0, 1.0)
    return np.stack([ws[np.mean((made - image) ** 2, (1, 2, 3)).argmin()] for image in images])


def turned(
    samples: np.ndarray, pose: np.ndarray | None, directions: Directions | None
) -> np.ndarray:
    """Turns samples [M, w] to a pose [2] in degrees, where it is known and there are directions."""
    if pose is None or directions is None or not set(POSE) <= set(directions.names):
        return samples
    for name, angle in zip(POSE, pose, strict=True):
        at = read_labels(samples, directions)[:, directions.names.index(name)]
        step = directions.edits[directions.names.index(name)]
        samples = samples + (angle - at)[:, None] * step
    return samples


def judge_edits(
    generator: Generator, encoder: TrainedEncoder, directions: Directions, ws: np.ndarray
) -> dict[str, dict[str, float]]:
    """Reads what each edit changes.

    Args:
      generator: of the latents.
      encoder: of the generator.
      directions: likewise.
      ws: [N, L, w] of heads that are edited.

    Returns:
      By name: `changed`, the share of what was asked for; `beside`, the largest mean change of
      another label, in its deviations; `identity`, the mean cosine of who is seen before and after.
    """
    before = encoded(encoder, painted(generator, ws))
    scale = directions.deviations
    scores = {}
    for index, name in enumerate(directions.names):
        amount = _AMOUNT * float(scale[index])
        ends = [
            encoded(encoder, painted(generator, edited(ws, directions, name, sign * amount)))
            for sign in (-1.0, 1.0)
        ]
        low, high = (read_labels(end, directions) / scale for end in ends)
        change = np.mean(high - low, 0) / (2.0 * _AMOUNT)
        others = np.delete(change, index)
        scores[name] = {
            "changed": round(float(change[index]), 3),
            "beside": round(float(np.abs(others).max()), 3) if others.size else 0.0,
            "identity": round(
                float(np.mean([_alike(before, e, directions, name) for e in ends])), 3
            ),
        }
    return scores


def _alike(before: np.ndarray, after: np.ndarray, directions: Directions, name: str) -> float:
    """Cosine of latents that say who is seen: all but what has a name, and that of who it is."""
    left_out = [
        edit
        for label, edit in zip(directions.names, directions.edits, strict=True)
        if label == name or label not in WHO
    ]
    basis, _ = np.linalg.qr(np.stack(left_out).T)
    middle = before.mean(0)
    a, b = (values - middle for values in (before, after))
    a, b = (values - (values @ basis) @ basis.T for values in (a, b))
    return float(
        np.mean(np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1))
    )


def _in_batches(function: Any, values: np.ndarray) -> np.ndarray:
    """One size of batch, one compilation."""
    found = []
    for first in range(0, len(values), _BATCH):
        part = values[first : first + _BATCH]
        padded = np.concatenate([part, np.repeat(part[:1], _BATCH - len(part), 0)])
        found.append(np.asarray(jax.device_get(function(padded)))[: len(part)])
    return np.concatenate(found)
