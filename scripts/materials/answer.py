"""What a search for a stiffness found, in numbers and in words."""

from typing import Any, NamedTuple

import jax
import numpy as np

from sim import identify
from sim.families.family import Family
from sim.identify import Curve, Scan

GATE = 0.2  # relative error of a prior on a scene's own clips: above, it does not know this motion
VISIBLE = 15.0  # |dV/dl| below which pictures hardly tell a stiffness from its neighbours
_STARTS = (-1.0, 1.0)  # decades from the band: where searches are begun
_TWO = 0.15  # decades apart: two answers


class Findings(NamedTuple):
    """All that is known once the forces are drawn; stiffnesses are the family's labels."""

    scan: Scan
    curve: Curve
    null_curve: Curve
    wanted: float  # the band's middle
    error: float  # of the prior on the scan
    shift: float  # label = log10 E + shift


def summarize(key: jax.Array, found: Findings, family: Family) -> dict[str, Any]:
    """Returns the flat numbers of material.json."""
    points, mean = found.curve.log10_modulus, found.curve.mean
    zeros = identify.zeros_of(points, mean)
    ends = [
        identify.come_to_rest(points, mean, np.clip(found.wanted + start, points[0], points[-1]))
        for start in _STARTS
    ]
    rest = min([*zeros, *ends], key=lambda value: abs(value - found.wanted))
    low, high = identify.interval_of(key, found.curve, rest)
    visible = float(np.interp(rest, found.scan.log10_modulus, identify.identifiability(found.scan)))
    null_zeros = identify.zeros_of(points, found.null_curve.mean)
    return {
        "youngs_modulus_pa": 10.0 ** (rest - found.shift),
        "interval_pa": [10.0 ** (value - found.shift) for value in (low, high)],
        "label": rest,
        "label_wanted": found.wanted,
        "label_interval": [low, high],
        "label_minus_log10_pa": found.shift,
        "from_softer": ends[0],
        "from_stiffer": ends[1],
        "zeros": zeros.tolist(),
        "null_zeros": null_zeros.tolist(),
        "prior_error_on_scene": found.error,
        "derivative_norm": visible,
        "warnings": _warnings(rest, ends, zeros, visible, found, family),
    }


def _warnings(
    rest: float,
    ends: list[float],
    zeros: np.ndarray,
    visible: float,
    found: Findings,
    family: Family,
) -> list[str]:
    lines = []
    if found.error > GATE:
        lines.append(
            f"the prior does not know this motion: its relative error on the scene's own clips is "
            f"{found.error:.2f}, above {GATE}; the answer means little"
        )
    if visible < VISIBLE:
        lines.append(
            f"hardly identifiable from this view: move the camera, or make the motion about "
            f"{VISIBLE / max(visible, 1e-3):.1f} times as strong"
        )
    if len(zeros) > 1:
        others = ", ".join(f"{10.0 ** (zero - found.shift):.3g}" for zero in zeros)
        lines.append(f"several plausible values: {others} Pa")
    if abs(ends[0] - ends[1]) > _TWO:
        lines.append("searches from softer and from stiffer end apart")
    low, high = family.log10_range
    if min(rest - low, high - rest) < _TWO:
        lines.append("at the bound of what the prior was taught")
    return lines
