"""Takes a lens' distortion out of photos, on the host.

Axes: H and W pixels. A lens is told by its focal lengths [2] and its centre [2] in pixels and by
OpenCV's k1, k2, p1, p2, k3 [5]. OpenCV itself would be a large dependency for this one polynomial.

Source: OpenCV's documentation, "Camera Calibration and 3D Reconstruction".
"""

import functools

import numpy as np
import scipy.ndimage

_MAX_ZOOM = 3.0


def distort(xy: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """Returns where a lens shows what a pinhole shows at `xy` [..., 2], in focal lengths."""
    k1, k2, p1, p2, k3 = distortion
    x, y = np.moveaxis(xy, -1, 0)
    squared = x * x + y * y
    radial = 1.0 + squared * (k1 + squared * (k2 + squared * k3))
    return np.stack(
        [
            x * radial + 2.0 * p1 * x * y + p2 * (squared + 2.0 * x * x),
            y * radial + p1 * (squared + 2.0 * y * y) + 2.0 * p2 * x * y,
        ],
        -1,
    )


def undistort(
    image: np.ndarray, focal: np.ndarray, center: np.ndarray, distortion: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the photo [H, W, C] that a pinhole would take, and its focal lengths [2].

    They are as long as needed for the old photo to fill the new one; the centre stays.

    Raises:
      ValueError: when the distortion is too strong for that.
    """
    height, width = image.shape[:2]
    lens = tuple(float(value) for value in (*focal, *center, *distortion))
    rows_columns, zoom = _source_pixels(height, width, lens)
    channels = [
        scipy.ndimage.map_coordinates(channel, rows_columns, order=1, mode="nearest")
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.stack(channels, -1), np.asarray(focal) * zoom


@functools.lru_cache(maxsize=2)  # photos of one camera come one after the other
def _source_pixels(height: int, width: int, lens: tuple[float, ...]) -> tuple[np.ndarray, float]:
    """Returns row and column [2, H, W] in the old photo of each new pixel, and the zoom."""
    focal, center, distortion = np.array(lens[:2]), np.array(lens[2:4]), np.array(lens[4:])

    def source(pixels: np.ndarray, zoom: float) -> np.ndarray:
        return distort((pixels - center) / (focal * zoom), distortion) * focal + center

    def is_filled(zoom: float) -> bool:
        xy = source(border, zoom)
        return bool(((xy >= 0.0) & (xy <= [width, height])).all())

    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    pixels = np.stack(np.meshgrid(x, y), -1)
    border = np.concatenate([pixels[[0, -1]].reshape(-1, 2), pixels[:, [0, -1]].reshape(-1, 2)])
    low, high = 1.0, _MAX_ZOOM
    if not is_filled(high):
        raise ValueError("expected a lens of mild distortion, found one that bends photos away")
    if is_filled(low):
        high = low
    while high - low > 1e-4:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if is_filled(middle) else (middle, high)
    xy = source(pixels, high) - 0.5
    return np.stack([xy[..., 1], xy[..., 0]]).astype(np.float32), high
