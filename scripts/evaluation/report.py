"""The tables of `evaluate_fit`: report.json for programs, report.md for people."""

import dataclasses
import json
import pathlib

import numpy as np
from numpy.typing import NDArray

from recon import evaluate, landmarks
from recon.evaluation import protocol as protocol_lib
from recon.evaluation.detector_errors import DetectorErrors
from recon.evaluation.methods import METRICS, Method
from recon.evaluation.protocol import Protocol
from render import files_io
from scripts.shell import outputs_io

_AXES = ("yaw", "pitch", "roll")
_REFERENCES = ("fixed", "inner")  # what ratios are to; of scans the mean face comes first
_COLUMNS = {  # metric: heading, factor, digits
    "alpha_unexplained": ("alpha, unexplained", 1.0, 3),
    "rotation_deg": ("rotation, deg", 1.0, 2),
    "translation_model_units": ("translation, mm", 1e3, 2),
    "normal_deg": ("normals, deg", 1.0, 2),
    "vertex_mm": ("vertices, mm", 1.0, 2),
    "projection_px": ("projection, px", 1.0, 1),
    "scan_median_mm": ("scan, median mm", 1.0, 2),
    "scan_mean_mm": ("scan, mean mm", 1.0, 2),
    "scan_std_mm": ("scan, std mm", 1.0, 2),
    "scan_normal_deg": ("scan, normals deg", 1.0, 2),
    "rigid_median_mm": ("scan, rigid, median mm", 1.0, 2),
    "rigid_mean_mm": ("scan, rigid, mean mm", 1.0, 2),
}
_NOTES = """Each cell: mean over all views, median in brackets, then the standard deviation. Alpha,
unexplained, is the share of the squared shape error (Eq. 10) that the mean face leaves: at 1 a
method knows no more than that every face is the mean. Rotation is Eq. 12, translation Eq. 11,
normals Eq. 13, projection Eq. 14 (to the model's own vertices: a contour point that rightly slid
away from its vertex counts as missed). In brackets behind a ratio: the 95 % interval by a paired
bootstrap over faces. Below 1, the row is better than the column."""
_DETECTOR_NOTES = """In parts of the distance between the outer eye corners: by how much the
detector's points are off on all faces alike, in the plane of the face, and the standard deviation
of the rest, each coordinate; of the contour across the outline."""
_SCAN_NOTES = """Of a scan, the columns are figures of the distances of its points, even over its
surface within 95 mm of the tip of the nose, to the fitted surface, which a similarity has brought
nearest to them ("rigid": a rigid motion, so that the size counts), and the mean angle of the
normals there. Rotation and translation are those of the scan that the fit was laid onto."""


def make_report(
    folder: pathlib.Path,
    protocol: Protocol,
    rows: list[Method],
    scores: dict[str, dict],
    errors: DetectorErrors | None = None,
) -> dict:
    """Sums the scores up; `scores` holds for each method [F, A] by metric."""
    angles = protocol_lib.true_angles(folder)
    first = next(iter(scores.values()))["rotation_deg"]
    names = [row.name for row in rows if ",eta=" not in row.name]
    references = (evaluate.MEAN_FACE,) * bool(protocol.meshes) + _REFERENCES
    return {
        "settings": json.loads(files_io.json_text(dataclasses.asdict(protocol))),
        "num_faces": len(first),
        "num_views": int(first.size),
        "num_missed": int(np.isnan(first).sum()),  # by the detector
        "detector": None if errors is None else detector_groups(errors),
        "methods": {
            name: _method_report(values, angles, protocol) for name, values in scores.items()
        },
        "ratios": {
            f"{name}/{other}": {
                metric: evaluate.compare(scores[name][metric], scores[other][metric])
                for metric in METRICS
            }
            for other in references
            if other in names
            for name in names
            if name != other
        },
    }


def detector_groups(errors: DetectorErrors) -> dict[str, dict[str, float]]:
    """What the detector is off by, root mean squares over groups of points, of the eye distance."""
    groups = {}
    ends = np.cumsum((0, *landmarks.GROUP_SIZES))
    for name, first, last in zip(landmarks.GROUPS, ends[:-1], ends[1:], strict=True):
        seen = errors.offsets[first:last, :2]
        groups[name] = {
            "offset": float(np.sqrt((seen**2).sum(1).mean())),
            "noise": float(np.sqrt((errors.sigma[first:last] ** 2).mean())),
        }
    return groups


def _method_report(values: dict[str, NDArray], angles: NDArray, protocol: Protocol) -> dict:
    report = {metric: evaluate.summarize(values[metric]) for metric in METRICS}
    report["seconds_per_fit"] = float(np.mean(values["seconds"]))
    report["per_angle"] = {
        axis: {
            f"{value:g}": {
                metric: evaluate.summarize(at_angle(values[metric], angles[..., i], value))
                for metric in METRICS
            }
            for value in getattr(protocol, axis).values
        }
        for i, axis in enumerate(_AXES)
        if getattr(protocol, axis).is_swept
    }
    return report


def at_angle(values: NDArray, angles: NDArray, wanted: float) -> NDArray:
    """Keeps values [F, A] at one angle of angles [F, A]; NaN elsewhere."""
    return np.where(np.abs(angles - wanted) < 1e-3, values, np.nan)


def write_report(folder: pathlib.Path, report: dict) -> None:
    """Writes report.json and report.md."""
    files_io.write_json(folder / "report.json", report)
    outputs_io.write_document(folder / "report.md", _markdown(report))


def _markdown(report: dict) -> str:
    settings, methods = report["settings"], report["methods"]
    own = {name: method for name, method in methods.items() if ",eta=" not in name}
    other = {name: method for name, method in methods.items() if ",eta=" in name}
    columns = [
        metric
        for metric in _COLUMNS
        if any(method[metric] is not None for method in methods.values())
    ]
    missed = f", of which the detector missed {report['num_missed']}" * (report["num_missed"] > 0)
    parts = [
        "# Reconstruction of known faces",
        f"{report['num_faces']} faces, {report['num_views']} views{missed}. "
        + _protocol_text(settings),
        _errors_table(own, columns),
    ]
    if report["detector"] is not None:
        parts.append("## The detector")
        rows = [
            [name, f"{100 * group['offset']:.1f}", f"{100 * group['noise']:.1f}"]
            for name, group in report["detector"].items()
        ]
        parts.append(_table(["points", "always off by, %", "noise, %"], rows))
        parts.append(_DETECTOR_NOTES)
    if report["ratios"]:
        parts.append("## Ratios of the means")
        rows = [
            [pair.replace("/", " / "), *(_ratio(ratio[metric]) for metric in columns)]
            for pair, ratio in report["ratios"].items()
        ]
        parts.append(_table(["", *(_COLUMNS[metric][0] for metric in columns)], rows))
    for axis in next(iter(own.values()))["per_angle"]:
        for metric in ("rotation_deg", "normal_deg"):
            parts.append(f"## {_COLUMNS[metric][0].capitalize()}, by {axis}")
            angles = list(next(iter(own.values()))["per_angle"][axis])
            rows = [
                [name, *(_mean(method["per_angle"][axis][a][metric]) for a in angles)]
                for name, method in own.items()
            ]
            parts.append(_table(["method", *angles], rows))
    if other:
        parts += ["## With other weights of the prior", _errors_table(other, columns)]
    parts += [_NOTES] + [_SCAN_NOTES] * bool(settings["meshes"])
    return "\n\n".join(parts) + "\n"


def _errors_table(methods: dict[str, dict], columns: list[str]) -> str:
    return _table(
        ["method", *(_COLUMNS[metric][0] for metric in columns), "ms per fit"],
        [
            [name, *(_cell(method[metric], metric) for metric in columns), _time(method)]
            for name, method in methods.items()
        ],
    )


def _protocol_text(settings: dict) -> str:
    modes = settings["components"] or "all"
    faces = f"{modes} modes"
    if settings["meshes"]:
        faces = f"scans, fitted with {modes} modes"
    elif settings["held_out"]:
        faces += f", each {settings['held_out']}th of them kept from the methods"
    noise, detector = settings["noise"], settings["detector"]
    if detector == "silhouette":
        detector += (
            f" (noise {noise['inner_px']:g} px inside, {noise['contour_px']:g} px and "
            f"{noise['sliding_deg']:g} degrees along on the contour, "
            f"{noise['outlier_share']:.0%} outliers)"
        )
    angles = "; ".join(
        f"{axis} {', '.join(f'{v:g}' for v in settings[axis]['values'])}"
        + " at random" * settings[axis]["is_range"]
        for axis in _AXES
    )
    scale = "known" if settings["knows_scale"] else "fitted"
    return (
        f"Model {settings['model']}, {faces}. Detector: {detector}. Degrees: {angles}. "
        f"Scale {scale}. Seed {settings['seed']}."
    )


def _table(heading: list[str], rows: list[list[str]]) -> str:
    lines = [heading, ["---"] + ["---:"] * (len(heading) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(summary: dict | None, metric: str) -> str:
    if summary is None:
        return "-"
    _, factor, digits = _COLUMNS[metric]
    mean, median, std = (factor * summary[name] for name in ("mean", "median", "std"))
    return f"{mean:.{digits}f} ({median:.{digits}f}) {std:.{digits}f}"


def _mean(summary: dict | None) -> str:
    return "-" if summary is None else f"{summary['mean']:.2f}"


def _ratio(ratio: dict | None) -> str:
    return (
        "-" if ratio is None else f"{ratio['ratio']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})"
    )


def _time(method: dict) -> str:
    return f"{1e3 * method['seconds_per_fit']:.2g}"


def summary(report: dict) -> str:
    """The one number: how the best-known pair of methods compares."""
    is_scan = bool(report["settings"]["meshes"])
    what, metric, unit = "rotation error", "rotation_deg", "degrees"
    if is_scan:
        what, metric, unit = "median distance", "scan_median_mm", "mm"
    for pair in (f"robust/{evaluate.MEAN_FACE}" if is_scan else "robust/fixed", *report["ratios"]):
        if pair in report["ratios"]:
            return f"{what} {pair} {_ratio(report['ratios'][pair][metric])}"
    name, method = next(iter(report["methods"].items()))
    return f"{what} of {name} {method[metric]['mean']:.2f} {unit}"
