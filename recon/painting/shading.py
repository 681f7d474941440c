"""Skin under the light of a photo, fitted to what the photo shows.

Colours are logarithms of sRGB values: there light is a sum, and lit and shaded skin differ by the
same amount in every pixel.

Axes: V vertices, H = 9 harmonics. Normals are unit vectors.

Sources: Ramamoorthi and Hanrahan 2001 (light as low-order harmonics of the normal).
"""

from typing import NamedTuple

import numpy as np

_BLACK = 0.03  # added before the logarithm, so that the noise of dark pixels stays small
_RIDGE = np.array([0.0, *[0.02] * 3, *[0.06] * 5])  # of the harmonics, against extrapolation
_CAST_SD = 0.12  # log light of cast shadows and highlights, which no harmonic explains
_NOISE_SD = 0.03
_MEDIAN_SQUARED = 2.366  # of the squared deviation of three normal variables
_OUTLIER = 2.0  # standard deviations from which a colour counts ever less


class Skin(NamedTuple):
    """Skin under one light."""

    shading: np.ndarray  # [H, 3] log colour per harmonic of the normal
    precision: np.ndarray  # [3, 3] inverse covariance of what the shading leaves


def to_log(rgb: np.ndarray) -> np.ndarray:
    """Logarithm of colours in [0, 1]."""
    return np.log(np.maximum(rgb, 0.0) + _BLACK)


def to_rgb(log_rgb: np.ndarray) -> np.ndarray:
    """The inverse of `to_log`, clipped to [0, 1]."""
    return np.clip(np.exp(np.minimum(log_rgb, 1.0)) - _BLACK, 0.0, 1.0)


def fit_skin(log_rgb: np.ndarray, normals: np.ndarray, weight: np.ndarray) -> Skin:
    """Fits skin robustly: brows, lashes and nostrils are outliers.

    Args:
      log_rgb: [V, 3] what the photo shows.
      normals: [V, 3] with z to the viewer.
      weight: [V] zero off the skin.
    """
    harmonics = _harmonics(normals)
    total = max(weight.sum(), 1e-6)
    rest = log_rgb - weighted_median(log_rgb, weight)
    off = np.linalg.norm(rest, axis=-1)
    typical = weighted_median(off[:, None], weight)[0] + _NOISE_SD
    robust = _believed(off / typical)
    for _ in range(12):
        w = (weight * robust)[:, None]
        gram = harmonics.T @ (w * harmonics) + total * np.diag(_RIDGE)
        shading = np.linalg.lstsq(gram, harmonics.T @ (w * log_rgb), rcond=None)[0]
        rest = log_rgb - harmonics @ shading
        covariance = (w * rest).T @ rest / max(w.sum(), 1e-6) + 1e-6 * np.eye(3)
        # Outliers weighed down shrink it; the median deviation knows its size.
        squared = np.einsum("vi,ij,vj->v", rest, np.linalg.inv(covariance), rest)
        covariance *= weighted_median(squared[:, None], weight)[0] / _MEDIAN_SQUARED
        covariance += _NOISE_SD**2 * np.eye(3) + _CAST_SD**2 * np.ones((3, 3))
        skin = Skin(shading, np.linalg.inv(covariance))
        robust = _believed(deviations(skin, rest))
    return skin


def _believed(deviations: np.ndarray) -> np.ndarray:
    return 1 / (1 + (deviations / _OUTLIER) ** 2) ** 2


def deviations(skin: Skin, rest: np.ndarray) -> np.ndarray:
    """How many standard deviations of skin [V] residuals [V, 3] are long."""
    return np.sqrt(np.einsum("vi,ij,vj->v", rest, skin.precision, rest))


def lit_skin(skin: Skin, normals: np.ndarray) -> np.ndarray:
    """Log colours [V, 3] of skin. What faces away is lit like what faces the viewer."""
    return _harmonics(normals * [1, 1, 0] + np.abs(normals) * [0, 0, 1]) @ skin.shading


def light_ratio(
    log_rgb: np.ndarray, trust: np.ndarray, normals: np.ndarray, mirror: np.ndarray
) -> np.ndarray:
    """The log [V, 3] of this side's light over the mirrored side's: a smooth function.

    It is odd in x, so that of the harmonics up to second order those odd in x are left. They are
    fitted to the points that show both sides.

    Args:
      log_rgb: [V, 3] what the photo shows.
      trust: [V] in it.
      normals: [V, 3] in the model's axes.
      mirror: [V] the vertex on the other side.
    """
    x, y, z = normals.T
    odd = np.stack([x, x * y, x * z], -1)
    odd = odd - odd[mirror]
    difference = log_rgb - log_rgb[mirror]
    both = trust * trust[mirror]
    ridge = (0.001 * both.sum() + 1e-3) * np.eye(3)
    robust = np.ones(len(trust))
    for _ in range(6):
        w = both * robust
        gram = odd.T @ (w[:, None] * odd) + ridge
        coefficients = np.linalg.solve(gram, odd.T @ (w[:, None] * difference))
        rest = np.linalg.norm(difference - odd @ coefficients, axis=-1)
        spread = 1.5 * np.sqrt(np.sum(w * rest**2) / max(w.sum(), 1e-6)) + _CAST_SD
        robust = _believed(_OUTLIER * rest / spread)
    return odd @ coefficients


def weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Median [C] of each column of `values` [V, C] under `weights` [V]."""
    order = np.argsort(values, axis=0)
    share = np.cumsum(weights[order], axis=0)
    middle = np.argmax(share >= 0.5 * share[-1:], axis=0)
    columns = np.arange(values.shape[1])
    return values[order[middle, columns], columns]


def _harmonics(normals: np.ndarray) -> np.ndarray:
    x, y, z = normals.T
    return np.stack([np.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, z * z], -1)
