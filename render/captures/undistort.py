"""Takes a lens' distortion out of photos, on the host.

Axes: H and W pixels. OpenCV itself would be a large dependency for these two polynomials.

Source: OpenCV's documentation, "Camera Calibration and 3D Reconstruction" and "Fisheye camera
model".
"""

import functools

import numpy as np
import scipy.sparse

from render.captures.intrinsics import Distortion, Lens

_MAX_ZOOM = 3.0
_BORDER_POINTS = 129  # a side, corners and middle among them
_RAY_STEPS = np.array([0.2, 0.4, 0.6, 0.8, 0.9, 0.999, 1.0])  # of the way out to the border


def distort(xy: np.ndarray, distortion: Distortion) -> np.ndarray:
    """Returns where a lens shows what a pinhole shows at `xy` [..., 2], in focal lengths."""
    x, y = np.moveaxis(np.asarray(xy), -1, 0)
    squared = x * x + y * y
    if distortion.is_fisheye:
        radius = np.sqrt(squared)
        angle = np.arctan(radius)
        k1, k2, k3, k4, *_ = distortion.terms
        squared_angle = angle * angle
        bend = 1.0 + squared_angle * (
            k1 + squared_angle * (k2 + squared_angle * (k3 + squared_angle * k4))
        )
        ratio = np.where(radius > 1e-9, angle / np.maximum(radius, 1e-9), 1.0) * bend
        return np.stack([x * ratio, y * ratio], -1)
    k1, k2, p1, p2, k3, k4, k5, k6 = distortion.terms
    radial = 1.0 + squared * (k1 + squared * (k2 + squared * k3))
    if k4 or k5 or k6:
        radial = radial / (1.0 + squared * (k4 + squared * (k5 + squared * k6)))
    return np.stack(
        [
            x * radial + 2.0 * p1 * x * y + p2 * (squared + 2.0 * x * x),
            y * radial + p1 * (squared + 2.0 * y * y) + 2.0 * p2 * x * y,
        ],
        -1,
    )


def undistort(image: np.ndarray, lens: Lens) -> tuple[np.ndarray, Lens]:
    """Returns the photo [H, W, C] that a pinhole would take, and that pinhole.

    Its focal lengths are as long as needed for the old photo to fill the new one; the centre stays.

    Raises:
      ValueError: when the distortion is too strong for that.
    """
    height, width, channels = image.shape
    key = (*map(float, lens.focal), *map(float, lens.center))
    matrix, zoom = _resampling(height, width, key, lens.distortion)
    straight = matrix @ image.reshape(height * width, channels)
    pinhole = lens._replace(focal=lens.focal * zoom, distortion=Distortion())
    return straight.reshape(height, width, channels), pinhole


@functools.lru_cache(maxsize=2)  # photos of one camera come one after the other
def _resampling(
    height: int, width: int, lens: tuple[float, ...], distortion: Distortion
) -> tuple[scipy.sparse.csr_array, float]:
    """Returns the matrix [HW, HW] that draws the new photo, bilinear, and the zoom.

    As a product a photo takes a tenth of the time of SciPy's interpolation.
    """
    focal, center = np.array(lens[:2], np.float32), np.array(lens[2:], np.float32)
    size = np.array([width, height], np.float32)

    def source(pixels: np.ndarray, zoom: float) -> np.ndarray:
        return distort((pixels - center) / (focal * np.float32(zoom)), distortion) * focal + center

    def is_filled(zoom: float) -> bool:
        xy = source(border, zoom)
        is_inside = (xy >= 0) & (xy <= size)
        # Polynomials turn back somewhere, and would show the middle once more at the border.
        rays = (border - center) / (focal * zoom) * _RAY_STEPS[:, None, None]
        outwards = np.diff((distort(rays, distortion) ** 2).sum(-1), axis=0)
        return bool(is_inside.all() and (outwards >= 0).all())

    # The edges, not the outermost pixels' centres: the zoom is then that of any smaller copy.
    ends, steps = np.float32([0, 1]), np.linspace(0, 1, _BORDER_POINTS, dtype=np.float32)
    sides = [np.stack(np.meshgrid(*axes), -1) for axes in ((ends, steps), (steps, ends))]
    border = np.concatenate([side.reshape(-1, 2) for side in sides]) * size
    low, high = 1.0, _MAX_ZOOM
    if not is_filled(high):
        raise ValueError("expected a lens of mild distortion, found one that bends photos away")
    if is_filled(low):
        high = low
    while high - low > 1e-4:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if is_filled(middle) else (middle, high)
    x, y = (np.arange(side, dtype=np.float32) + 0.5 for side in (width, height))
    xy = source(np.stack(np.meshgrid(x, y), -1), high)
    return _bilinear(np.clip(xy - 0.5, 0, size - 1).reshape(-1, 2), height, width), high


def _bilinear(xy: np.ndarray, height: int, width: int) -> scipy.sparse.csr_array:
    """Returns the matrix [N, HW] that looks up `xy` [N, 2], pixels from the first one's centre."""
    column = np.minimum(xy[:, 0].astype(np.int32), max(width - 2, 0))
    row = np.minimum(xy[:, 1].astype(np.int32), max(height - 2, 0))
    right, down = xy[:, 0] - column.astype(np.float32), xy[:, 1] - row.astype(np.float32)
    aside, below = min(1, width - 1), min(1, height - 1) * width
    index, weight = np.empty((len(xy), 4), np.int32), np.empty((len(xy), 4), np.float32)
    index[:] = (row * np.int32(width) + column)[:, None] + np.int32(
        [0, aside, below, aside + below]
    )
    weight[:, 0], weight[:, 1] = (1 - right) * (1 - down), right * (1 - down)
    weight[:, 2], weight[:, 3] = (1 - right) * down, right * down
    rows = np.arange(0, index.size + 1, 4, dtype=np.int32)
    shape = len(xy), height * width
    return scipy.sparse.csr_array((weight.ravel(), index.ravel(), rows), shape=shape)
