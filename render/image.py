"""Pictures as arrays: colour encoding, sizes, comparison.

Pictures are float, [H, W, C], row 0 on top, in [0, 1], sRGB-encoded unless a name says linear.
Nothing here touches the disk; `image_io.py` does.

Sources: IEC 61966-2-1 (sRGB).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct


@struct.dataclass
class RenderOutput:
    """What a renderer shows."""

    rgb: jax.Array  # [H, W, 3] over the background
    alpha: jax.Array  # [H, W] share of the pixel that is covered
    depth: jax.Array  # [H, W] metres, mean over what is covered; zero where nothing is
    needed: jax.Array  # [] int32 capacity that the picture takes
    overflow: jax.Array  # [] bool: the capacity was too small, the picture is wrong


def srgb_to_linear(rgb: jax.Array) -> jax.Array:
    """Decodes sRGB values to linear light, with finite gradients everywhere."""
    high = ((jnp.maximum(rgb, 0.04045) + 0.055) / 1.055) ** 2.4
    return jnp.where(rgb <= 0.04045, rgb / 12.92, high)


def linear_to_srgb(linear: jax.Array) -> jax.Array:
    """Encodes linear light as sRGB values, with finite gradients everywhere."""
    high = 1.055 * jnp.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return jnp.where(linear <= 0.0031308, 12.92 * linear, high)


def psnr(image: jax.Array, reference: jax.Array) -> jax.Array:
    """Returns the peak signal-to-noise ratio in decibels; infinite for equal pictures."""
    return -10.0 * jnp.log10(jnp.mean((image - reference) ** 2))


def resize(image: jax.Array, height: int, width: int) -> jax.Array:
    """Resamples a picture [H, W, C] to [height, width, C], smoothly both up and down."""
    shape = (height, width, *image.shape[2:])
    return jnp.clip(jax.image.resize(image, shape, "cubic", antialias=True), 0.0, 1.0)


def resize_to_fit(image: jax.Array, max_side: int) -> jax.Array:
    """Shrinks a picture until its longer side is at most `max_side`; never enlarges."""
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return image
    return resize(image, max(1, round(height * scale)), max(1, round(width * scale)))


def box_downsample(image: jax.Array, factor: int) -> jax.Array:
    """Averages blocks of `factor` x `factor` pixels of [H, W, ...]; the sides must divide."""
    height, width = image.shape[:2]
    blocks = image.reshape(height // factor, factor, width // factor, factor, *image.shape[2:])
    return jnp.mean(blocks, (1, 3))


def to_bytes(image: jax.Array | np.ndarray) -> np.ndarray:
    """Turns a picture in [0, 1] into uint8, rounding; uint8 passes through; NaN becomes black."""
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return image
    image = np.nan_to_num(image.astype(np.float32), nan=0.0)
    return (np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def contact_sheet(
    images: Sequence[np.ndarray], columns: int, gap: int = 4, background: float = 1.0
) -> np.ndarray:
    """Lays pictures [h, w, 3] or [h, w] of any sizes out row by row, on the host.

    Every cell has the size of the largest picture; smaller ones sit in the middle.
    """
    if not images:
        raise ValueError("expected at least one picture, found none")
    images = [np.asarray(image, np.float32) for image in images]
    images = [np.repeat(i[..., None], 3, -1) if i.ndim == 2 else i for i in images]
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    sheet = np.full(shape, background, np.float32)
    for i, image in enumerate(images):
        top = i // columns * (height + gap) + (height - image.shape[0]) // 2
        left = i % columns * (width + gap) + (width - image.shape[1]) // 2
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet
