"""Skin under the light of a photo, fitted to what the photo shows.

Light is a low-order function of the normal where intensities add up, in linear light. Colours are
compared as logarithms of sRGB values, where lit and shaded skin differ by the same amount in every
pixel.

Axes: V vertices, H = 9 harmonics. Normals are unit vectors, with z to the viewer.

Sources: Ramamoorthi and Hanrahan 2001 (what a matte surface reflects is given by the spherical
harmonics up to second order of its normal, to about 1 %).
"""

from typing import NamedTuple

import numpy as np

from recon.painting.surface import ramp

_BLACK = 0.03  # added before the logarithm, so that the noise of dark pixels stays small
_RIDGE = np.array([0.0, *[0.005] * 3, *[0.02] * 5])  # of the harmonics, against extrapolation
_SAMPLES = 4000  # vertices that are enough for some 30 unknowns
_CAST_SD = 0.12  # log light of cast shadows and highlights, which no harmonic explains
_NOISE_SD = 0.03
_MEDIAN_SQUARED = 2.366  # of the squared deviation of three normal variables
_OUTLIER = 2.0  # standard deviations from which a colour counts ever less
_LEVELS = 0.02, 0.95, 0.98  # shares of the skin that are darker: darkest, usual, brightest light
_EVEN_CONTRAST = 0.3  # of the light of an evenly lit head, of that in the photo
_EVEN = 0.05  # log light over which one side's gives way to the other's
_ONE_SIDED = 0.1, 0.25  # mean difference of log light between the sides: not at all, surely
_GAMMA = 2.2  # of sRGB, about
_LUMA = np.array([0.299, 0.587, 0.114])


class Skin(NamedTuple):
    """Skin under one light."""

    light: np.ndarray  # [H, 3] linear intensity per harmonic of the normal
    darkest: np.ndarray  # [3] linear intensity; what the photo shows of skin lies between
    usual: np.ndarray  # [3] where light falls
    brightest: np.ndarray  # [3]
    precision: np.ndarray  # [3, 3] inverse covariance of the log colours that light leaves


def to_log(rgb: np.ndarray) -> np.ndarray:
    """Logarithm of colours in [0, 1]."""
    return np.log(np.maximum(rgb, 0.0) + _BLACK)


def to_rgb(log_rgb: np.ndarray) -> np.ndarray:
    """The inverse of `to_log`, clipped to [0, 1]."""
    return np.clip(np.exp(np.minimum(log_rgb, 1.0)) - _BLACK, 0.0, 1.0)


def luma(rgb: np.ndarray) -> np.ndarray:
    """Lightness [...] of sRGB colours [..., 3] (ITU-R BT.601)."""
    return rgb @ _LUMA


def fit_skin(log_rgb: np.ndarray, normals: np.ndarray, weight: np.ndarray) -> Skin:
    """Fits skin robustly: brows, lashes and nostrils are outliers.

    Args:
      log_rgb: [V, 3] what the photo shows.
      normals: [V, 3] with z to the viewer.
      weight: [V] zero off the skin.
    """
    counts = np.flatnonzero(weight > 0)
    counts = counts[:: max(len(counts) // _SAMPLES, 1)] if len(counts) else np.arange(len(weight))
    log_rgb, weight = log_rgb[counts], weight[counts] + 1e-9
    harmonics = _harmonics(normals[counts])
    linear = _to_linear(to_rgb(log_rgb))
    usual = weighted_median(log_rgb, weight)
    typical = _to_linear(to_rgb(usual)) + 1e-3
    expected = np.broadcast_to(typical, linear.shape)
    off = np.linalg.norm(log_rgb - usual, axis=-1)
    robust = _believed(off / (weighted_median(off[:, None], weight)[0] + _NOISE_SD))
    ridge = np.diag(_RIDGE)
    for _ in range(12):
        w = weight * robust
        # Errors count in proportion to the light: a tenth less is as odd in the shade as in sun.
        relative = harmonics * (w / luma(expected) ** 2)[:, None]
        gram = relative.T @ harmonics + (w.sum() / luma(typical) ** 2) * ridge
        light = np.linalg.solve(gram, relative.T @ linear)
        shown = harmonics @ light
        expected = np.clip(shown, 0.1 * typical, 10 * typical)
        rest = log_rgb - to_log(_to_srgb(expected))
        covariance = (w[:, None] * rest).T @ rest / w.sum() + 1e-6 * np.eye(3)
        # Outliers weighed down shrink it; the median deviation knows its size.
        squared = np.einsum("vi,ij,vj->v", rest, np.linalg.inv(covariance), rest)
        covariance *= weighted_median(squared[:, None], weight)[0] / _MEDIAN_SQUARED
        covariance += _NOISE_SD**2 * np.eye(3) + _CAST_SD**2 * np.ones((3, 3))
        precision = np.linalg.inv(covariance)
        robust = _believed(np.sqrt(np.einsum("vi,ij,vj->v", rest, precision, rest)))
    levels = (weighted_quantile(expected, w, share) for share in _LEVELS)
    return Skin(light, *levels, precision)


def _believed(deviations: np.ndarray) -> np.ndarray:
    return 1 / (1 + (deviations / _OUTLIER) ** 2) ** 2


def deviations(skin: Skin, rest: np.ndarray) -> np.ndarray:
    """How many standard deviations of skin [V] residuals [V, 3] are long."""
    return np.sqrt(np.einsum("vi,ij,vj->v", rest, skin.precision, rest))


def lit_skin(skin: Skin, normals: np.ndarray) -> np.ndarray:
    """Log colours [V, 3] of skin. What faces away is lit like what faces the viewer.

    Light is never more, nor less, than what the photo shows of it: harmonics know nothing of
    normals that no pixel has.
    """
    linear = _harmonics(normals * [1, 1, 0] + np.abs(normals) * [0, 0, 1]) @ skin.light
    return to_log(_to_srgb(np.clip(linear, skin.darkest, skin.brightest)))


def evenly_lit_skin(skin: Skin, normals: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Log colours [V, 3] of skin if both sides of the head had the light of the brighter one.

    That light is softened as well. Where the photo lights both sides alike, all stays as it is.

    Args:
      skin: of the photo.
      normals: [V, 3] with z to the viewer.
      mirror: [V] the vertex on the other side.
    """
    lit = lit_skin(skin, normals)
    light = np.log(luma(to_rgb(lit)) + _BLACK)
    excess = light - light[mirror]
    brighter = 1 / (1 + np.exp(-excess / _EVEN))
    even = lit[mirror] + brighter[:, None] * (lit - lit[mirror])
    usual = to_log(_to_srgb(skin.usual))
    even = usual + _EVEN_CONTRAST * (even - usual)
    return lit + ramp(np.abs(excess).mean(), *_ONE_SIDED) * (even - lit)


def weighted_quantile(values: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    """Quantile [C] of each column of `values` [V, C] under `weights` [V]."""
    order = np.argsort(values, axis=0)
    below = np.cumsum(weights[order], axis=0)
    place = np.argmax(below >= share * below[-1:], axis=0)
    columns = np.arange(values.shape[1])
    return values[order[place, columns], columns]


def weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Median [C] of each column of `values` [V, C] under `weights` [V]."""
    return weighted_quantile(values, weights, 0.5)


def _to_linear(rgb: np.ndarray) -> np.ndarray:
    return rgb**_GAMMA


def _to_srgb(linear: np.ndarray) -> np.ndarray:
    return linear ** (1 / _GAMMA)


def _harmonics(normals: np.ndarray) -> np.ndarray:
    x, y, z = normals.T
    return np.stack([np.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, z * z], -1)
