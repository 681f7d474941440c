"""Directions in W that change what their names say.

Labels of samples give a linear reading of them: label = read . w + bias, by ridge regression of
numbers, by logistic regression of what is or is not. The plane where a reading is zero is the
boundary of InterFaceGAN. An edit moves a latent so that its own reading changes by as much as was
asked and no other one does: the projection that makes an edit conditional on all others is, of all
at once, the pseudoinverse of the readings.

Axes: N samples, K names, L layers, w numbers of a latent.

Sources: Shen et al. 2020 (InterFaceGAN: boundaries, conditional projection); Harkonen et al. 2020
(edits of some layers alone).
"""

from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

_RIDGE = 1e-3  # of the mean variance of W
_LOGISTIC = 1e-3  # weight of the squared boundary, in deviations of W


class Directions(NamedTuple):
    """Readings and edits, by name."""

    names: tuple[str, ...]  # K
    readings: NDArray  # [K, w]
    biases: NDArray  # [K]
    edits: NDArray  # [K, w] that change their own reading by one, and no other
    means: NDArray  # [K] of the labels
    deviations: NDArray  # [K] of the labels
    explained: NDArray  # [K] share of the labels' variance, or of right guesses, that is read


def fit_directions(ws: NDArray, labels: dict[str, NDArray]) -> Directions:
    """Learns readings and edits of all labels together.

    Args:
      ws: [N, w] samples.
      labels: [N] numbers, or bools, by name.

    Raises:
      ValueError: labels that are all alike, or not one a sample.
    """
    ws = np.asarray(ws, np.float64)
    found = []
    for name, values in labels.items():
        values = np.asarray(values)
        if values.shape != (len(ws),) or np.ptp(values.astype(np.float64)) == 0:
            raise ValueError(
                f"expected {len(ws)} different labels of {name}, found {values.shape}, all alike"
                if values.shape == (len(ws),)
                else f"expected {len(ws)} labels of {name}, found {values.shape}"
            )
        fit = boundary_of_classes if values.dtype == bool else reading_of_numbers
        found.append(fit(ws, values))
    readings = np.array([reading for reading, _, _ in found]).reshape(-1, ws.shape[1])
    biases, explained = (np.array([one[part] for one in found]) for part in (1, 2))
    values = np.array([np.asarray(v, np.float64) for v in labels.values()]).reshape(-1, len(ws))
    return Directions(
        tuple(labels), readings, biases, np.linalg.pinv(readings).T,
        values.mean(1), values.std(1), explained,
    )  # fmt: skip


def reading_of_numbers(ws: NDArray, values: NDArray) -> tuple[NDArray, float, float]:
    """Returns the ridge regression [w], its bias, and the share of variance that it explains."""
    mean, middle = ws.mean(0), values.mean()
    away, wanted = ws - mean, values - middle
    square = away.T @ away / len(ws)
    square += _RIDGE * np.trace(square) / len(square) * np.eye(len(square))
    reading = np.linalg.solve(square, away.T @ wanted / len(ws))
    rest = wanted - away @ reading
    return reading, float(middle - mean @ reading), float(1.0 - rest.var() / wanted.var())


def boundary_of_classes(ws: NDArray, is_in: NDArray) -> tuple[NDArray, float, float]:
    """Returns the logistic regression [w], its bias, and the share of right guesses.

    The reading is zero on the boundary; its sign is the guess, its size the log of the odds.
    """
    mean = ws.mean(0)
    scale = np.sqrt(np.mean((ws - mean) ** 2))
    away, signs = (ws - mean) / scale, np.where(is_in, 1.0, -1.0)

    def cost(values: NDArray) -> tuple[float, NDArray]:
        margins = signs * (away @ values[:-1] + values[-1])
        slopes = -signs * special.expit(-margins) / len(ws)
        weight = _LOGISTIC * np.append(values[:-1], 0.0)
        gradient = np.append(away.T @ slopes, slopes.sum()) + weight
        return np.logaddexp(0.0, -margins).mean() + 0.5 * weight @ values, gradient

    found = optimize.minimize(cost, np.zeros(ws.shape[1] + 1), jac=True, method="L-BFGS-B").x
    reading = found[:-1] / scale
    bias = float(found[-1] - mean @ reading)
    return reading, bias, float(np.mean((ws @ reading + bias > 0) == is_in))


def conditioned(direction: NDArray, others: NDArray) -> NDArray:
    """Takes from a direction [w] what lies along others [., w]; the length becomes one.

    Raises:
      ValueError: nothing is left.
    """
    direction = np.asarray(direction, np.float64)
    along = np.linalg.lstsq(np.asarray(others, np.float64).T, direction, rcond=None)[0]
    left = direction - np.asarray(others).T @ along
    length = np.linalg.norm(left)
    if length < 1e-6 * np.linalg.norm(direction):
        raise ValueError("expected a direction that the others do not span, found none of it left")
    return left / length


def read_labels(ws: NDArray, directions: Directions) -> NDArray:
    """Returns the readings [N, K] of latents [N, w], or [N, L, w]: of their mean layer."""
    ws = np.asarray(ws, np.float64)
    ws = ws.mean(1) if ws.ndim == 3 else ws
    return ws @ directions.readings.T + directions.biases


def edited(
    ws: jax.Array, directions: Directions, name: str, amount: float, layers: slice = slice(None)
) -> jax.Array:
    """Moves latents [N, L, w] so that a reading changes by `amount`.

    Args:
      ws: of any generator's latents.
      directions: its own.
      name: of what changes.
      amount: in units of the label.
      layers: that are moved.

    Raises:
      ValueError: there is no such name.
    """
    if name not in directions.names:
        raise ValueError(f"expected one of {', '.join(directions.names)}, found {name!r}")
    step = directions.edits[directions.names.index(name)]
    ws = np.array(ws, np.float32)
    ws[:, layers] += np.float32(amount * step)
    return ws
