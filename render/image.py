"""Pictures as arrays: colour encoding, sizes, comparison.

Pictures are float, [H, W, C], row 0 on top, in [0, 1], sRGB-encoded unless a name says linear.
Nothing here touches the disk; `image_io.py` does.

Sources: IEC 61966-2-1 (sRGB); Wang et al. 2004 (SSIM).
"""

import functools
import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from flax import struct
from jax import lax
from numpy.typing import ArrayLike
from PIL import Image

_SSIM_RADIUS = 5  # pixels; an 11 x 11 window
_OVERSHOOT = 0.25  # of the range: smooth resampling passes its ends by less
_FEWEST_LEVELS = 16.0  # below it, and above one, floats to 255 are too dark to be told


@struct.dataclass
class RenderOutput:
    """What a renderer shows."""

    rgb: jax.Array  # [H, W, 3] over the background
    alpha: jax.Array  # [H, W] share of the pixel that is covered
    depth: jax.Array  # [H, W] metres, mean over what is covered; zero where nothing is
    needed: jax.Array  # [] int32 capacity that the picture takes
    overflow: jax.Array  # [] bool: the capacity was too small, the picture is wrong


def as_picture(image: ArrayLike | Image.Image) -> np.ndarray:
    """Turns whatever stands for a picture into float32 [H, W, 3] in [0, 1], on the host.

    Args:
      image: a picture of Pillow's, or numbers [H, W], [H, W, 1], [H, W, 3], or with alpha
        [H, W, 2] and [H, W, 4]: bools, integers of 8 bits or, where that is too few, of 16,
        floats to 1 or to 255. Transparency shows white.

    Raises:
      ValueError: anything else; says what was expected and what was found.
    """
    if isinstance(image, Image.Image):
        return _over_white(_pillow_values(image))
    if image is None:
        raise ValueError("expected a picture [H, W, 3], found None: was its file read?")
    if isinstance(image, str | bytes | os.PathLike):
        name = os.fspath(image)
        raise ValueError(
            f"expected a picture [H, W, 3], found the path {name!r}: image_io.read_photo reads it"
        )
    values = np.asarray(image)
    if values.dtype.kind not in "buif":
        raise ValueError(f"expected a picture of numbers, found an array of {values.dtype}")
    if values.size == 0:
        raise ValueError(f"expected a picture [H, W, 3], found an empty array {values.shape}")
    channels = values.shape[2] if values.ndim == 3 else 1
    if values.ndim not in (2, 3) or channels > 4:
        raise ValueError(f"expected a picture [H, W, 3], found {_shape_text(values.shape)}")
    return _over_white(_to_unit_range(values.reshape(*values.shape[:2], channels)))


def _shape_text(shape: tuple[int, ...]) -> str:
    text = f"an array {shape}"
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return f"{text}: np.moveaxis(image, 0, -1) puts its channels last"
    return f"{text}: one picture at a time" if len(shape) == 4 else text


def _to_unit_range(values: np.ndarray) -> np.ndarray:
    """Divides numbers by the largest that they can be, as told by their type and size."""
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f":
        limit = 1.0 if high <= 1.0 + _OVERSHOOT else 255.0
        is_known = limit == 1.0 or high >= _FEWEST_LEVELS
        slack = _OVERSHOOT * limit
    else:
        limit, is_known, slack = 1.0, True, 0.0
        if values.dtype.kind != "b":
            limit = 255.0 if high <= 255 else 65535.0
    # NaN compares false.
    if not (is_known and -slack <= low and high <= limit + slack):
        raise ValueError(
            f"expected a picture from 0 to 1 or from 0 to 255, found {values.dtype} "
            f"from {low:g} to {high:g}"
        )
    unit = values.astype(np.float32, copy=False)
    if limit != 1.0:
        unit = unit / np.float32(limit)
    return unit if 0.0 <= low and high <= limit else np.clip(unit, 0.0, 1.0)


def _pillow_values(picture: Image.Image) -> np.ndarray:
    """Converts to float32 [H, W, 4] in [0, 1]; 16-bit grey keeps its precision."""
    if picture.mode.startswith(("I", "F")):
        grey = np.asarray(picture, np.float32)
        # Pillow widens 16-bit grey to "I" on some paths; a float picture says no scale at all.
        limit = 65535.0 if picture.mode.startswith("I") else max(1.0, float(np.nanmax(grey)))
        grey = np.clip(np.nan_to_num(grey) / limit, 0.0, 1.0)
        return np.stack([grey, grey, grey, np.ones_like(grey)], -1)
    return np.asarray(picture.convert("RGBA"), np.float32) / 255.0


def _over_white(values: np.ndarray) -> np.ndarray:
    """Lays [H, W, C] of grey or RGB, with alpha or without, over white: [H, W, 3]."""
    channels = values.shape[2]
    colors = values[..., : 3 if channels >= 3 else 1]
    if channels in (2, 4):
        alpha = values[..., -1:]
        colors = colors * alpha + (1.0 - alpha)
    return np.repeat(colors, 3, axis=2) if colors.shape[2] == 1 else colors


def srgb_to_linear(rgb: jax.Array) -> jax.Array:
    """Decodes sRGB values to linear light, with finite gradients everywhere."""
    high = ((jnp.maximum(rgb, 0.04045) + 0.055) / 1.055) ** 2.4
    return jnp.where(rgb <= 0.04045, rgb / 12.92, high)


def linear_to_srgb(linear: jax.Array) -> jax.Array:
    """Encodes linear light as sRGB values, with finite gradients everywhere."""
    high = 1.055 * jnp.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return jnp.where(linear <= 0.0031308, 12.92 * linear, high)


def mean_where(values: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Returns the mean of a picture [H, W, C] over the pixels that count, by `mask` [H, W]."""
    if mask is None:
        return jnp.mean(values)
    total = jnp.maximum(jnp.sum(mask), 1e-6) * values.shape[-1]  # a mask may leave nothing
    return jnp.sum(values * mask[..., None]) / total


@jax.jit
def psnr(image: jax.Array, reference: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Returns the peak signal-to-noise ratio in decibels; infinite for equal pictures.

    Args:
      image: [H, W, C] in [0, 1].
      reference: [H, W, C] in [0, 1].
      mask: [H, W] how much each pixel counts, or None for all alike.
    """
    _check_floats(image, reference)
    return -10.0 * jnp.log10(mean_where((image - reference) ** 2, mask))


@functools.partial(jax.jit, static_argnames="border")
def ssim(
    image: jax.Array, reference: jax.Array, border: str = "valid", mask: jax.Array | None = None
) -> jax.Array:
    """Returns the mean structural similarity of two pictures [H, W, C], one for equal pictures.

    The window is a Gaussian of 1.5 pixels, cut to 11 x 11. A blur is two products with banded
    matrices: on a CPU ten times as fast as eleven shifted sums a side.

    Args:
      image: [H, W, C] in [0, 1].
      reference: [H, W, C] in [0, 1].
      border: "valid" averages the pixels whose window lies inside the picture, as papers report it
        and as scikit-image does. "zero" averages all pixels and takes what lies outside for black,
        as trainers of Gaussian splats do: no pixel is left without a gradient.
      mask: [H, W] in [0, 1], how much each pixel counts; None for all alike. Where it is zero both
        pictures are taken for black, as beyond the border.
    """
    if image.shape != reference.shape or image.ndim != 3:
        raise ValueError(
            f"expected two [H, W, C] of one shape, found {image.shape} and {reference.shape}"
        )
    _check_floats(image, reference)
    x, y = jnp.moveaxis(image, -1, 0), jnp.moveaxis(reference, -1, 0)
    if mask is not None:
        x, y = (jnp.where(mask > 0, side, 0.0) for side in (x, y))
    rows, columns = (jnp.asarray(_blur_matrix(side, border), x.dtype) for side in x.shape[1:])
    outside = 1.0 - np.outer(*(_blur_matrix(side, border).sum(1) for side in x.shape[1:]))
    outside = jnp.asarray(outside, x.dtype)  # share of a pixel's window
    # Variances do not change when a constant is taken off, but in short floats the difference of
    # two moments is all rounding where they are large and the variance is small.
    shift_x, shift_y = (lax.stop_gradient(jnp.mean(v, (1, 2), keepdims=True)) for v in (x, y))
    x, y = x - shift_x, y - shift_y
    moments = jnp.stack([x, y, x * x + y * y, x * y])
    # Accelerators' short products would drown the variances, too.
    blurred = jnp.matmul(rows, moments, precision="highest")
    mean_x, mean_y, squares, products = jnp.matmul(blurred, columns.T, precision="highest")
    mean_x, mean_y = mean_x - outside * shift_x, mean_y - outside * shift_y
    variances = squares + outside * (shift_x**2 + shift_y**2) - mean_x**2 - mean_y**2
    covariance = products + outside * shift_x * shift_y - mean_x * mean_y
    mean_x, mean_y = mean_x + shift_x, mean_y + shift_y
    c1, c2 = 0.01**2, 0.03**2  # K1 and K2 of the paper, for a range of one
    luminance = (2.0 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2.0 * covariance + c2) / (variances + c2)
    if mask is not None and border == "valid":
        mask = mask[_SSIM_RADIUS:-_SSIM_RADIUS, _SSIM_RADIUS:-_SSIM_RADIUS]
    return mean_where(jnp.moveaxis(luminance * structure, 0, -1), mask)


def _check_floats(*images: jax.Array) -> None:
    for image in images:
        if not jnp.issubdtype(image.dtype, jnp.floating):
            raise ValueError(f"expected pictures of floats in [0, 1], found {image.dtype}")


def _blur_matrix(side: int, border: str) -> np.ndarray:
    """Returns [side - 10, side] ("valid") or [side, side] ("zero"): a blur as a product."""
    if border not in ("valid", "zero"):
        raise ValueError(f'expected border "valid" or "zero", found {border!r}')
    if border == "valid" and side <= 2 * _SSIM_RADIUS:
        raise ValueError(
            f"expected pictures of at least {2 * _SSIM_RADIUS + 1} pixels a side, found {side}"
        )
    offset = np.arange(side) - np.arange(side)[:, None]
    window = np.exp(-0.5 * (offset / 1.5) ** 2) * (np.abs(offset) <= _SSIM_RADIUS)
    band = window / np.exp(-0.5 * (np.arange(-_SSIM_RADIUS, _SSIM_RADIUS + 1) / 1.5) ** 2).sum()
    return band if border == "zero" else band[_SSIM_RADIUS:-_SSIM_RADIUS]


def resize(image: jax.Array, height: int, width: int) -> jax.Array:
    """Resamples a picture [H, W, C] in [0, 1] to [height, width, C], smoothly up and down."""
    _check_floats(image)
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


def area_downsample(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Averages a picture [H, W, ...] over the area of each pixel of a smaller one, on the host.

    Unlike `box_downsample` it takes any smaller size: pixels on a seam are shared out. Pillow's box
    filter does the same for 8 bits alone, OpenCV's for floats, but OpenCV is no dependency.
    """
    rows, columns = image.shape[:2]
    if not (1 <= height <= rows and 1 <= width <= columns):
        raise ValueError(f"expected at most {rows} x {columns} pixels, found {height} x {width}")
    flat = _area_matrix(rows, height) @ image.reshape(rows, -1)
    flat = flat.reshape(height, columns, -1).swapaxes(0, 1).reshape(columns, -1)
    flat = (_area_matrix(columns, width) @ flat).reshape(width, height, -1)
    return np.ascontiguousarray(flat.swapaxes(0, 1)).reshape(height, width, *image.shape[2:])


def _area_matrix(size: int, new_size: int) -> scipy.sparse.csr_array:
    """Returns the sparse [new_size, size] whose rows are each new pixel's share of the old ones."""
    edges = np.arange(new_size + 1) * (size / new_size)
    low, high = edges[:-1, None], edges[1:, None]
    old = np.arange(size)
    overlap = np.minimum(high, old + 1.0) - np.maximum(low, old)
    weights = np.maximum(overlap, 0.0) * (new_size / size)
    return scipy.sparse.csr_array(weights.astype(np.float32))


def to_bytes(image: jax.Array | np.ndarray) -> np.ndarray:
    """Turns a picture in [0, 1] into uint8, rounding; uint8 passes through; NaN becomes black.

    Floats outside of [0, 1] are clipped, as a renderer's may be a little. Other integers are
    taken as by `as_picture`.

    """
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind in "bui" and image.size:
        image = _to_unit_range(image)
    image = np.nan_to_num(image.astype(np.float32), nan=0.0)
    return (np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def check_writable(image: jax.Array | np.ndarray) -> None:
    """Refuses what `to_bytes` would turn into a file that shows nothing.

    Raises:
      ValueError: no numbers, no pixels, or floats to 255, which would all be white.
    """
    values = np.asarray(image)
    if values.dtype.kind not in "buif" or values.ndim not in (2, 3) or values.size == 0:
        found = f"an array {values.shape}" if values.ndim else type(image).__name__
        raise ValueError(f"expected a picture [H, W, 3], found {found}")
    # A renderer's highlights may be bright, but not most of its picture.
    if values.dtype.kind == "f" and np.mean(values > _FEWEST_LEVELS) > 0.5:
        raise ValueError(
            f"expected a picture in [0, 1], found most of it above {_FEWEST_LEVELS:g}: "
            "divide it by 255, or make it uint8"
        )


def contact_sheet(
    images: Sequence[np.ndarray], columns: int, gap: int = 4, background: float = 1.0
) -> np.ndarray:
    """Lays pictures [h, w, 3] or [h, w] of any sizes out row by row, on the host.

    Every cell has the size of the largest picture; smaller ones sit in the middle.
    """
    if not images:
        raise ValueError("expected at least one picture, found none")
    images = [_to_floats(np.asarray(image)) for image in images]
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


def _to_floats(image: np.ndarray) -> np.ndarray:
    """Turns integers into [0, 1]; floats stay what they are."""
    is_float = image.dtype.kind == "f" or not image.size
    return image.astype(np.float32, copy=False) if is_float else _to_unit_range(image)


def sample_texture(texture: jax.Array, uv: jax.Array) -> jax.Array:
    """Reads a texture [H, W, C] at `uv` [..., 2] (v up), bilinearly; the border goes on outside."""
    height, width = texture.shape[:2]
    x = jnp.clip(uv[..., 0] * width - 0.5, 0.0, width - 1.0)
    y = jnp.clip((1.0 - uv[..., 1]) * height - 0.5, 0.0, height - 1.0)
    x0 = jnp.clip(jnp.floor(x), 0, max(width - 2, 0)).astype(jnp.int32)
    y0 = jnp.clip(jnp.floor(y), 0, max(height - 2, 0)).astype(jnp.int32)
    x1, y1 = jnp.minimum(x0 + 1, width - 1), jnp.minimum(y0 + 1, height - 1)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    top = texture[y0, x0] * (1 - fx) + texture[y0, x1] * fx
    bottom = texture[y1, x0] * (1 - fx) + texture[y1, x1] * fx
    return top * (1 - fy) + bottom * fy
