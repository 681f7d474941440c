"""What pictures say: the nearest latents, what edits change, who is seen.

An encoder that was taught on pictures whose latents are known judges edits: a reading of its
latents is a reading of the picture. Who is seen before and after, a face embedding says.
"""

from typing import Any

import jax
import numpy as np

from models.stylegan.config import GeneratorConfig
from models.stylegan.directions import Directions, edited, read_labels
from models.stylegan.encoder import TrainedEncoder, encode_latents
from models.stylegan.encoder_io import load_encoder, shipped_encoders
from models.stylegan.generator import Generator, synthesize
from scripts.generators.labels import POSE
from scripts.shell.identity import Embed

_BATCH = 50


def load_encoder_of(
    generator: str, encoder: str | None, config: GeneratorConfig
) -> TrainedEncoder | None:
    """Loads an encoder: of this name or file, or the one that came along with its generator.

    Args:
      generator: its file or name.
      encoder: likewise; "none" for none.
      config: of the generator.

    Raises:
      ValueError: in one line, when it is no encoder, or one of another shape.
    """
    if encoder == "none" or (not encoder and generator not in shipped_encoders()):
        return None
    loaded = load_encoder(encoder or generator)
    wanted, found = (
        f"{shape.resolution} pixels and {shape.num_ws} latents of {shape.w_dim} numbers"
        for shape in (config, loaded.config)
    )
    if found != wanted:
        raise ValueError(f"expected an encoder of {wanted}, found one of {found} in {encoder}")
    return loaded


def painted(generator: Generator, ws: np.ndarray) -> np.ndarray:
    """Returns pictures of latents [N, L, w], without noise."""
    return _in_batches(lambda part: synthesize(generator.params, part, None, generator.config), ws)


def encoded(encoder: TrainedEncoder, images: np.ndarray) -> np.ndarray:
    """Returns one latent a picture [N, w]."""
    params, statistics, config, _ = encoder
    return _in_batches(lambda part: encode_latents(params, part, statistics, config).shared, images)


def nearest_latents(generator: Generator, image: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Returns of samples [M, L, w] that [L, w] whose picture is nearest to a picture [r, r, 3].

    A search from the mean latent can end at a head that is turned the wrong way.
    """
    made = np.clip(painted(generator, np.float32(samples)), -1.0, 1.0)
    return samples[np.mean((made - image) ** 2, (1, 2, 3)).argmin()]


def turned(
    samples: np.ndarray, pose: np.ndarray | None, directions: Directions | None
) -> np.ndarray:
    """Turns samples [M, L, w] to a pose [2], degrees, where it and directions are known."""
    if pose is None or directions is None or not set(POSE) <= set(directions.names):
        return samples
    for name, angle in zip(POSE, pose, strict=True):
        at = read_labels(samples, directions)[:, directions.names.index(name)]
        step = directions.edits[directions.names.index(name)]
        samples = samples + (angle - at)[:, None, None] * step
    return samples


def judge_edits(
    generator: Generator, encoder: TrainedEncoder, directions: Directions, ws: np.ndarray
) -> dict[str, dict[str, float]]:
    """Reads what each edit changes, of a deviation of its label to either side.

    What a picture shows little of, a reader guesses to be nearer to the mean than it is.

    Args:
      generator: of the latents.
      encoder: of the generator.
      directions: likewise.
      ws: [N, L, w] of heads that are edited.

    Returns:
      By name: `changed`, the share of what was asked for that is read; `readable`, the share of a
      label that is read where nothing was edited; `beside`, the largest mean change of another
      label, in its deviations.
    """
    true, read = (
        values - values.mean(0)
        for values in (
            read_labels(ws, directions),
            read_labels(encoded(encoder, painted(generator, ws)), directions),
        )
    )
    readable = np.sum(true * read, 0) / np.sum(true**2, 0)
    scores = {}
    for index, name in enumerate(directions.names):
        low, high = (
            read_labels(encoded(encoder, painted(generator, end)), directions)
            for end in _ends(ws, directions, name)
        )
        change = np.mean((high - low) / directions.deviations, 0) / 2.0
        others = np.delete(change, index)
        scores[name] = {
            "changed": round(float(change[index]), 3),
            "readable": round(float(readable[index]), 3),
            "beside": round(float(np.abs(others).max()), 3) if others.size else 0.0,
        }
    return scores


def judge_identity(
    generator: Generator, embed: Embed, directions: Directions, ws: np.ndarray
) -> tuple[dict[str, float], float]:
    """Returns how alike who is seen before and after an edit is, by name, and how alike strangers.

    Both are mean cosines.

    Args:
      generator: of the latents.
      embed: pictures [N, r, r, 3] in [0, 1] to unit embeddings.
      directions: edits, each of a deviation of its label to either side.
      ws: [N, L, w] of heads that are edited.
    """

    def seen(ws: np.ndarray) -> np.ndarray:
        images = np.clip(0.5 * painted(generator, ws) + 0.5, 0.0, 1.0)
        return _in_batches(embed, images)

    before = seen(ws)
    cosines = {}
    for name in directions.names:
        after = [seen(end) for end in _ends(ws, directions, name)]
        cosines[name] = round(float(np.mean(np.sum(before * after, -1))), 3)
    strangers = (before @ before.T)[np.triu_indices(len(before), 1)]
    return cosines, round(float(strangers.mean()), 3)


def _ends(ws: np.ndarray, directions: Directions, name: str) -> list[np.ndarray]:
    """The latents, a deviation less and more of what has the name."""
    amount = float(directions.deviations[directions.names.index(name)])
    return [edited(ws, directions, name, sign * amount) for sign in (-1.0, 1.0)]


def _in_batches(function: Any, values: np.ndarray) -> np.ndarray:
    """One size of batch, one compilation."""
    found = []
    for first in range(0, len(values), _BATCH):
        part = values[first : first + _BATCH]
        padded = np.concatenate([part, np.repeat(part[:1], _BATCH - len(part), 0)])
        found.append(np.asarray(jax.device_get(function(padded)))[: len(part)])
    return np.concatenate(found)
