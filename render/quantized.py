"""What splat formats of few bits share: bytes for opacities, three numbers for a quaternion.

Compressed .ply and .spz are packed and read here with NumPy alone. gsply, the library for both,
reads integer properties as garbage, loses whole chunks to one NaN and leaves .spz upside down, and
it brings 200 MB of dependencies.

Axes: N Gaussians.
"""

import jax
import numpy as np

from render.gaussians import Gaussians


def drawable(gaussians: Gaussians) -> Gaussians:
    """Makes rows that cannot be drawn transparent copies of one that can; all float64."""
    gaussians = jax.tree.map(lambda values: values.astype(np.float64), gaussians)
    length = np.linalg.norm(gaussians.quats, axis=-1)
    drawn = np.isfinite(gaussians.means).all(-1) & np.isfinite(length) & (length > 0.0)
    drawn &= np.isfinite(gaussians.harmonics).all((1, 2))
    drawn &= ~np.isnan(gaussians.log_scales).any(-1) & ~np.isnan(gaussians.logit_opacities)
    if drawn.any():
        index = np.where(drawn, np.arange(len(drawn)), np.argmax(drawn))
        gaussians = jax.tree.map(lambda values: values[index], gaussians)
    else:
        gaussians = jax.tree.map(np.ones_like, gaussians)
    logits = np.where(drawn, gaussians.logit_opacities, -np.inf)
    return gaussians.replace(logit_opacities=logits)


def to_codes(values: np.ndarray) -> np.ndarray:
    """Rounds to uint8; what lies beyond stops at the end."""
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def alphas_of(logits: np.ndarray) -> np.ndarray:
    """Returns opacities as numbers from 0 to 255, uint32."""
    return np.round(255.0 / (1.0 + np.exp(-logits))).astype(np.uint32)


def logits_of(alphas: np.ndarray) -> np.ndarray:
    """Inverts `alphas_of`; both ends stay finite, a quarter of a step inside."""
    alpha = np.clip(alphas, 0.25, 254.75) / 255.0
    return np.log(alpha / (1.0 - alpha))


def drop_largest(quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the index [N] of the largest part and the other three [N, 3], scaled to [-1, 1].

    The sign of a quaternion is free: it is turned so that the part left out is positive.
    """
    index = np.argmax(np.abs(quats), -1)[:, None]
    largest = np.take_along_axis(quats, index, -1)
    quats = quats * np.sign(largest) / np.linalg.norm(quats, axis=-1, keepdims=True)
    three = quats[np.arange(4) != index].reshape(-1, 3)
    return index[:, 0], np.clip(three * np.sqrt(2.0), -1.0, 1.0)


def restore_largest(index: np.ndarray, three: np.ndarray) -> np.ndarray:
    """Inverts `drop_largest`."""
    three = three / np.sqrt(2.0)
    is_kept = np.arange(4) != index[:, None]
    quats = np.empty(is_kept.shape)
    quats[is_kept] = three.ravel()
    quats[~is_kept] = np.sqrt(np.maximum(1.0 - np.sum(three**2, -1), 0.0))
    return quats


def join_codes(index: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Packs two bits of `index` [N] and three times ten of `codes` [N, 3]."""
    a, b, c = codes.astype(np.uint32).T
    return index.astype(np.uint32) << 30 | a << 20 | b << 10 | c


def split_codes(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverts `join_codes`."""
    return packed >> 30, np.stack([packed >> 20, packed >> 10, packed], -1) & 1023
