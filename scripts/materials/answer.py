"""What a search for a stiffness found, in numbers and in words."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from sim import identify
from sim.identify import Curve, Scan
from sim.matching import Match
from sim.material_training import LearntScene
from sim.properties import PROPERTIES, Theta, coordinate_of, values_by_region

GATE = 0.2  # relative error of a prior on a scene's own clips: above, it does not know this motion
# |dV/dl| below which clips of a small prior's size hardly tell a stiffness from its neighbours.
_VISIBLE, _VISIBLE_SIZE = 15.0, 8 * 32 * 32 * 3
_STARTS = (-1.0, 1.0)  # decades from the band: where searches are begun
_TWO = 0.15  # decades apart: two answers


class Descent(NamedTuple):
    """Where a descent ended."""

    theta: Theta
    history: list[dict]  # rows of metrics.csv
    shortened: int  # gradients that were too long


class Findings(NamedTuple):
    """All that is known once the forces are drawn; stiffnesses are the family's labels."""

    scan: Scan
    curve: Curve
    null_curve: Curve
    wanted: float | None  # the band's middle, where words name one
    error: float | None  # of the prior on the scan, where it can be told
    shift: float  # label = log10 E + shift


def least_visible(scan: Scan) -> float:
    """Returns |dV/dl| below which clips of a scan's size hardly tell one stiffness from another."""
    return _VISIBLE * float(np.sqrt(scan.videos[0].size / _VISIBLE_SIZE))


def summarize(key: jax.Array, found: Findings, labels: tuple[float, float]) -> dict[str, Any]:
    """Returns the flat numbers of material.json, of a curve over a range of labels."""
    points, mean = found.curve.log10_modulus, found.curve.mean
    zeros = identify.zeros_of(points, mean)
    middle = 0.5 * (labels[0] + labels[1]) if found.wanted is None else found.wanted
    ends = [
        identify.come_to_rest(points, mean, np.clip(middle + start, points[0], points[-1]))
        for start in _STARTS
    ]
    rest = min([*zeros, *ends], key=lambda value: abs(value - middle))
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
        "warnings": _warnings(rest, ends, zeros, visible, found),
    }


def of_descents(
    ends: Sequence[Descent], scene: LearntScene, labels: tuple[float, float], shift: float
) -> dict[str, Any]:
    """Returns material.json of descents; the value is that of the first start."""
    each = [values_by_region(end.theta, scene.unknowns) for end in ends]
    report = _values(each, scene)
    lines = _apart(each)
    shortened = max(end.shortened for end in ends)
    if shortened:
        lines.append(f"{shortened} gradients were shortened, being over five times the usual")
    for value in each[0].get("youngs_modulus", []):
        label = np.log10(value) + shift
        if min(label - labels[0], labels[1] - label) < _TWO:
            lines.append(f"{value:.3g} Pa is at the bound of what was searched")
    return report | {"shortened_gradients": shortened, "warnings": lines}


def of_matches(ends: Sequence[Match], scene: LearntScene) -> dict[str, Any]:
    """Returns material.json of matches to one motion; the value is the closest one's."""
    each = [values_by_region(end.theta, scene.unknowns) for end in ends]
    best = int(np.argmin([end.cost for end in ends]))
    report = _values([each[best], *each[:best], *each[best + 1 :]], scene)
    lines = _apart(each)
    if not ends[best].converged:
        lines.append("the match was still moving when its steps ran out")
    costs = [end.cost for end in ends]
    return report | {
        "cost": costs[best],
        "costs": costs,
        "evaluations": sum(end.evaluations for end in ends),
        "converged": ends[best].converged,
        "warnings": lines,
    }


def in_words(report: dict[str, Any]) -> str:
    """Says what was found in a few words."""
    if "interval_pa" in report:
        low, high = report["interval_pa"]
        return (
            f"{report['youngs_modulus_pa']:.3g} Pa ({low:.3g} to {high:.3g}) moves like "
            f"“{report['prompt']}”"
        )
    texts = []
    for name, values in report["values"].items():
        numbers = ", ".join(f"{value:.3g}" for value in values)
        unit = PROPERTIES[name].unit
        texts.append(f"{name} {numbers} {unit}".strip())
    return "; ".join(texts)


def _values(each: list[dict[str, list[float]]], scene: LearntScene) -> dict[str, Any]:
    sizes = np.asarray(scene.unknowns.regions.sum(0)).astype(int).tolist()
    report = {"values": each[0], "by_start": each, "particles_by_region": sizes}
    if len(each[0].get("youngs_modulus", [])) == 1:
        report["youngs_modulus_pa"] = each[0]["youngs_modulus"][0]
    return report


def _apart(each: list[dict[str, list[float]]]) -> list[str]:
    """Says where searches from several starts disagree."""
    lines = []
    for name in each[0]:
        found = coordinate_of(name, np.array([one[name] for one in each]))
        if np.ptp(found, axis=0).max() > _TWO:
            lines.append(f"searches from different starts end apart in {name}")
    return lines


def _warnings(
    rest: float,
    ends: list[float],
    zeros: np.ndarray,
    visible: float,
    found: Findings,
) -> list[str]:
    lines = []
    if found.error is not None and found.error > GATE:
        lines.append(
            f"the prior does not know this motion: its relative error on the scene's own clips is "
            f"{found.error:.2f}, above {GATE}; the answer means little"
        )
    least = least_visible(found.scan)
    if visible < least:
        lines.append(
            f"hardly identifiable from this view: move the camera, or make the motion about "
            f"{least / max(visible, 1e-3):.1f} times as strong"
        )
    if len(zeros) > 1:
        others = ", ".join(f"{10.0 ** (zero - found.shift):.3g}" for zero in zeros)
        lines.append(f"several plausible values: {others} Pa")
    if abs(ends[0] - ends[1]) > _TWO:
        lines.append("searches from softer and from stiffer end apart")
    low, high = found.curve.log10_modulus[[0, -1]]
    if min(rest - low, high - rest) < _TWO:
        lines.append("at the bound of what was searched")
    return lines
