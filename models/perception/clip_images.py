"""Pictures as CLIP's vision tower wants them: resized, cropped, normalised, differentiable.

Pictures are [..., H, W, 3] in [0, 1], sRGB-encoded, row 0 on top; S pixels a side leave. Both ways
to resize are linear and act on rows and columns apart, so each is a pair of matrices, worked out
when a shape is traced.

Sources: CLIP's own preparation is Pillow's bicubic filter (Keys 1981, a = -0.5, stretched when
shrinking). Stable Video Diffusion's is a Gaussian blur, as scikit-image sizes it, before bicubic
interpolation (a = -0.75) between corners. Views: Frans et al. 2022 (CLIPDraw).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from render.image import resize

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)

_MIN_SIDE = 2  # pixels; corners of a single one are nowhere


@dataclasses.dataclass(frozen=True)
class ViewConfig:
    """What `random_views` draws."""

    smallest_scale: float = 0.6  # of a view's side to the picture's shorter one
    distortion: float = 0.3  # of the half side, by which corners move in; 0.5 at most

    def __post_init__(self):
        if not (0.0 < self.smallest_scale <= 1.0 and 0.0 <= self.distortion <= 0.5):
            raise ValueError(f"expected a scale in (0, 1], a distortion in [0, 0.5], found {self}")


def clip_pixels(image: jax.Array, side: int) -> jax.Array:
    """Prepares a picture [H, W, 3] as for CLIP: the shorter side becomes S, its middle is kept.

    Pillow rounds to 8 bits, too; here nothing is rounded, so that gradients pass.
    """
    _check_picture(image)
    height, width = image.shape[:2]
    short = min(height, width)
    # Whole numbers, as the longer side is cut off there, not rounded.
    rows, columns = side * height // short, side * width // short
    top, left = (rows - side) // 2, (columns - side) // 2
    # Across, then down: Pillow cuts off what overshoots after each.
    fitted = resize(resize(image, height, columns), rows, columns)
    return normalize(fitted[top : top + side, left : left + side])


def svd_pixels(image: jax.Array, side: int) -> jax.Array:
    """Prepares a picture [H, W, 3] as for Stable Video Diffusion: all of it, on a square."""
    _check_picture(image)
    height, width = image.shape[:2]
    if min(height, width) < _MIN_SIDE:
        raise ValueError(f"expected at least {_MIN_SIDE} pixels a side, found {image.shape}")
    rows, columns = (smooth_resize_matrix(old, side).astype(np.float32) for old in (height, width))
    squared = jnp.einsum("ih,hwc,jw->ijc", rows, image, columns, precision="highest")
    return normalize(squared)


def random_views(
    key: jax.Array, image: jax.Array, count: int, side: int, config: ViewConfig = ViewConfig()
) -> jax.Array:
    """Looks at a picture [H, W, 3] from here and there: [count, S, S, 3], not yet normalised.

    An edit that is judged by one picture finds patterns that only this picture's pixels have. A
    view is a square of the picture, drawn from anywhere in it, with its corners pulled in. The same
    key looks at another picture of that shape from the same places.
    """
    _check_picture(image)
    height, width = image.shape[:2]
    scale = side / min(height, width)
    # From here on views only magnify, so that nothing aliases between their pixels.
    image = resize(image, round(height * scale), round(width * scale))
    extent = jnp.array(image.shape[1::-1], jnp.float32)

    size_key, place_key, corner_key = jax.random.split(key, 3)
    smallest = config.smallest_scale * side
    size = jax.random.uniform(size_key, (count, 1, 1), minval=smallest, maxval=side)
    corner = jax.random.uniform(place_key, (count, 1, 2)) * (extent - size)
    pull = jax.random.uniform(corner_key, (count, 4, 2), maxval=config.distortion / 2.0)
    square = jnp.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    corners = corner + size * (square + pull * (1.0 - 2.0 * square))

    def look(corners):
        grid = (jnp.arange(side) + 0.5) / side
        x, y = jnp.moveaxis(perspective(corners, *jnp.meshgrid(grid, grid)), -1, 0)
        at = [y - 0.5, x - 0.5]
        channels = [map_coordinates(c, at, 1, "nearest") for c in jnp.moveaxis(image, -1, 0)]
        return jnp.stack(channels, axis=-1)

    return jax.vmap(look)(corners)


def perspective(corners: jax.Array, u: jax.Array, v: jax.Array) -> jax.Array:
    """Maps points (u, v) [...] of the unit square by a homography to [..., 2] (Heckbert 1989).

    Args:
      corners: [4, 2] where (0, 0), (1, 0), (1, 1) and (0, 1) go.
      u: [...].
      v: [...].
    """
    p00, p10, p11, p01 = corners
    skew = p00 - p10 + p11 - p01
    left, right = p10 - p11, p01 - p11
    area = jnp.cross(left, right)
    g, h = jnp.cross(skew, right) / area, jnp.cross(left, skew) / area
    along_u, along_v = p10 - p00 + g * p10, p01 - p00 + h * p01
    depth = g * u + h * v + 1.0
    return (u[..., None] * along_u + v[..., None] * along_v + p00) / depth[..., None]


def normalize(image: jax.Array) -> jax.Array:
    """Shifts and scales pictures [..., 3] in [0, 1] as the networks were trained."""
    return (image - MEAN) / STD


def smooth_resize_matrix(old: int, new: int) -> np.ndarray:
    """Returns the matrix [new, old] that blurs a line of `old` pixels and resamples it to `new`."""
    sigma = max((old / new - 1.0) / 2.0, 0.001)
    radius = int(max(4.0 * sigma, 3.0)) // 2
    offsets = np.arange(-radius, radius + 1)
    window = np.exp(-0.5 * (offsets / sigma) ** 2)
    window /= window.sum()

    at = np.linspace(0.0, old - 1.0, new)[:, None]
    neighbours = np.floor(at).astype(int) + np.arange(-1, 3)
    shares = _cubic(at - neighbours, -0.75)  # [new, 4]
    # The blur mirrors at the border what interpolation clamps to it.
    blurred = np.abs(np.clip(neighbours, 0, old - 1)[..., None] + offsets)
    blurred = old - 1 - np.abs(old - 1 - blurred)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new)[:, None, None], blurred), shares[..., None] * window)
    return matrix


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' kernel at distances of at most 2 pixels."""
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = a * (((x - 5.0) * x + 8.0) * x - 4.0)
    return np.where(x <= 1.0, near, far)


def _check_picture(image: jax.Array) -> None:
    if image.ndim != 3 or image.shape[-1] != 3 or not min(image.shape[:2]):
        raise ValueError(f"expected a picture [H, W, 3], found {image.shape}")
