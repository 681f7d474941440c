"""Draws random heads from MakeHuman's sliders and finds their principal modes.

Axes: N vertices, D samples, K modes.
Units: decimetres. Macros are MakeHuman's whole-person targets (sex, origin, age, build), sliders
its targets for parts of the head.
"""

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

_ORIGINS = ("caucasian", "asian", "african")
_SEXES = ("female", "male")
_LEVELS = ("min", "average", "max")
_MEAN_ORIGIN = (0.6, 0.2, 0.2)
# Chosen by the distance to the mean of the ICT-FaceKit scans, and rounded; see the head's card.
_MEAN_SLIDERS = {
    "nose-trans-forward": 0.3,
    "head-angle-out": 0.3,
    "l-eye-trans-down": 0.3,
    "r-eye-trans-down": 0.3,
    "forehead-trans-backward": 0.3,
    "mouth-scale-horiz-incr": 0.3,
}
_OPPOSITES = {
    "decr": "incr",
    "down": "up",
    "in": "out",
    "backward": "forward",
    "concave": "convex",
    "compress": "uncompress",
}
_SLIDER_SD = 0.16  # makes random faces vary as scanned ones do: 2.5 mm rms
_OWN_SIDE = 0.2  # how far left and right differ, relative to what they share
_SIDEWAYS = 0.15  # whole parts hardly shift sideways
_ASYMMETRY_SD = 0.1
TRAITS = ("asian", "african", "male", "old", "weight", "muscle")


class Slider(NamedTuple):
    """One control: its target at +1 and, where there is one, at -1."""

    positive: str
    negative: str | None


def mean_head(base: np.ndarray, macros: dict, sliders: dict) -> np.ndarray:
    """Returns the designed mean [N, 3]: an average young adult, nearer to scans by five sliders."""
    head = macro_head(base, macros, _MEAN_ORIGIN)
    return head + sum(value * sliders[name] for name, value in _MEAN_SLIDERS.items())


def macro_head(base: np.ndarray, macros: dict, origin: Sequence[float] = (1, 1, 1)) -> np.ndarray:
    """Returns the average young adult [N, 3] of a mix of origins."""
    share = np.array(origin) / np.sum(origin)
    weights = macro_weights(share, male=0.5, old=0.0, weight=0.0, muscle=0.0)
    return base + sum(value * macros[name] for name, value in weights.items())


def macro_weights(
    origin: np.ndarray, male: float, old: float, weight: float, muscle: float
) -> dict[str, float]:
    """Returns the weight of every macro target.

    Args:
      origin: [3] shares of the three origins, summing to one.
      male, old: in [0, 1].
      weight, muscle: in [-1, 1], zero is average.
    """
    weights = {}
    sexes = dict(zip(_SEXES, (1 - male, male), strict=True))
    ages = {"young": 1 - old, "old": old}
    muscles, fats = (
        dict(zip(_LEVELS, (max(-v, 0.0), 1 - abs(v), max(v, 0.0)), strict=True))
        for v in (muscle, weight)
    )
    for sex, age in itertools.product(sexes, ages):
        share = sexes[sex] * ages[age]
        for name, origin_share in zip(_ORIGINS, origin, strict=True):
            weights[f"{name}-{sex}-{age}"] = share * origin_share
        for m, w in itertools.product(muscles, fats):
            build = muscles[m] * fats[w]
            weights[f"universal-{sex}-{age}-{m}muscle-{w}weight"] = share * build
    return weights


def pair_sliders(names: Sequence[str]) -> list[Slider]:
    """Joins targets that are the two ends of one slider, like `...-decr` and `...-incr`."""
    paired = []
    for name in names:
        stem, _, end = name.rpartition("-")
        if stem and end in _OPPOSITES.values() and not name.startswith("asym"):
            continue
        opposite = f"{stem}-{_OPPOSITES.get(end)}"
        paired.append(Slider(opposite, name) if opposite in names else Slider(name, None))
    return paired


def slider_weights(rng: np.random.Generator, paired: list[Slider]) -> dict[str, float]:
    """Draws the weight of every slider target for one head."""
    weights, shared = {}, {}
    for positive, negative in paired:
        if positive.startswith("asym"):
            is_on = rng.uniform() < 0.5
            weights[positive] = is_on * min(abs(rng.normal(0, _ASYMMETRY_SD)), 1.0)
            continue
        two_sided = re.sub("^[lr]-", "", positive)
        if two_sided not in shared:
            shared[two_sided] = rng.normal(0, _SLIDER_SD)
        value = shared[two_sided]
        if two_sided != positive:
            value += rng.normal(0, _OWN_SIDE * _SLIDER_SD)
        elif positive.endswith("trans-out"):
            value *= _SIDEWAYS
        value = float(np.clip(value, -1, 1))
        if negative is None:
            weights[positive] = value
        else:
            weights[positive], weights[negative] = max(value, 0.0), max(-value, 0.0)
    return weights


def sample_heads(
    rng: np.random.Generator, num_samples: int, base: np.ndarray, macros: dict, sliders: dict
) -> tuple[np.ndarray, np.ndarray]:
    """Draws heads [D, N, 3], and returns their `TRAITS` [D, 6] as well."""
    paired = pair_sliders(list(sliders))
    names = [*macros, *sliders]
    weights = np.zeros((num_samples, len(names)))
    traits = np.zeros((num_samples, len(TRAITS)))
    for row, trait_row in zip(weights, traits, strict=True):
        origin = rng.dirichlet([1.26, 0.42, 0.42])
        rest = {
            "male": rng.beta(0.7, 0.7),
            "old": max(0.0, rng.uniform(-0.6, 0.9)),
            "weight": float(np.clip(rng.normal(0, 0.5), -1, 1)),
            "muscle": float(np.clip(rng.normal(0, 0.5), -1, 1)),
        }
        trait_row[:] = [*origin[1:], *rest.values()]
        drawn = macro_weights(origin, **rest)
        drawn |= slider_weights(rng, paired)
        for name, value in _MEAN_SLIDERS.items():
            drawn[name] += value
        row[:] = [drawn[name] for name in names]
    targets = np.stack([{**macros, **sliders}[name] for name in names])
    return base + np.tensordot(weights, targets, axes=1), traits


def align(points: np.ndarray, target: np.ndarray, is_used: np.ndarray) -> np.ndarray:
    """Moves `points` [N, 3] by the similarity that brings its used part closest to `target`."""
    x, y = points[is_used], target[is_used]
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    rotation, _ = Rotation.align_vectors(y - y_mean, x - x_mean)
    scale = np.sum(rotation.apply(x - x_mean) * (y - y_mean)) / np.sum((x - x_mean) ** 2)
    return scale * rotation.apply(points - x_mean) + y_mean


def principal_modes(heads: np.ndarray, weight: np.ndarray, num_modes: int) -> np.ndarray:
    """Returns the modes [N, 3, K] of aligned heads [D, N, 3], each one standard deviation long.

    The weights [N] decide which modes come first; the modes themselves are the unweighted
    regression of the vertices on the scores, so that no part is shrunk.
    """
    centred = heads - heads.mean(axis=0)
    weighted = (centred * np.sqrt(weight)[:, None]).reshape(len(heads), -1)
    _, vectors = np.linalg.eigh(weighted @ weighted.T)  # ascending
    scores = vectors[:, ::-1][:, :num_modes] * np.sqrt(len(heads))
    modes = np.tensordot(centred, scores, axes=(0, 0)) / len(heads)
    # The sign of an eigenvector is arbitrary: make the sum of cubes positive.
    return modes * np.sign((modes**3).sum(axis=(0, 1)))
