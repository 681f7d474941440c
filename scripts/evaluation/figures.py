"""The figures of `evaluate_fit`: errors by angle, by method and by the weight of the prior."""

import pathlib

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from recon import evaluate, morphable
from recon.evaluation import methods as methods_lib
from recon.evaluation import protocol as protocol_lib
from recon.evaluation import scans
from recon.evaluation.protocol import Protocol, Subject
from render import image_io, rasterize
from render.camera import orthographic_camera
from render.mesh import Mesh
from scripts.evaluation import report

OVERFITTED = 0.001  # weight of the prior of thesis Figure 2
_COLORS = {
    "mean": "#8a8f98",
    "fixed": "#d1495b",
    "inner": "#edae49",
    "chain": "#66a182",
    "spline": "#00798c",
    "robust": "#2e4057",
}
_MARKERS = {"mean": ".", "fixed": "s", "inner": "^", "chain": "D", "spline": "v", "robust": "o"}
_PANELS = {  # metric: title, axis, factor
    "alpha_unexplained": ("Shape (Eq. 10)", "squared error, mean face = 1", 1.0),
    "rotation_deg": ("Rotation (Eq. 12)", "degrees", 1.0),
    "translation_model_units": ("Translation (Eq. 11)", "mm", 1e3),
    "normal_deg": ("Normals (Eq. 13)", "degrees", 1.0),
    "vertex_mm": ("Vertices", "mm", 1.0),
    "projection_px": ("Projection (Eq. 14)", "pixels", 1.0),
    "scan_median_mm": ("Scan, median distance", "mm", 1.0),
    "scan_normal_deg": ("Scan, normals", "degrees", 1.0),
    "rigid_median_mm": ("Scan, median distance at own size", "mm", 1.0),
}
_FARTHEST_MM = 8.0  # of the cumulative curve
_HEAD_SIZE = 360  # pixels a side


def draw_figures(
    folder: pathlib.Path,
    subject: Subject,
    protocol: Protocol,
    names: list[str],
    etas: list[float],
    scores: dict[str, dict[str, NDArray]],
) -> None:
    """Draws all figures that these scores are enough for."""
    angles = protocol_lib.true_angles(folder)
    for i, axis in enumerate(("yaw", "pitch", "roll")):
        if getattr(protocol, axis).is_swept:
            values = getattr(protocol, axis).values
            figure = by_angle(names, scores, angles[..., i], values, axis)
            name = "by_angle.png" if axis == "yaw" else f"by_{axis}.png"
            write_figure(folder / name, figure)
    write_figure(folder / "boxes.png", boxes(names, scores))
    if subject.scans:
        own = [name for name in scores if ",eta=" not in name]
        write_figure(folder / "cumulative.png", cumulative(folder, own))
    if len(etas) > 1:
        write_figure(folder / "by_eta.png", by_eta(names, scores, etas))
    if f"fixed,eta={OVERFITTED:g}" in scores:
        write_figure(folder / "overfitting.png", overfitting(folder, subject, names))


def write_figure(path: pathlib.Path, figure: Figure) -> None:
    """Draws a figure into a picture file."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image_io.write_image(path, np.asarray(canvas.buffer_rgba())[..., :3] / 255.0)


def _panels(scores: dict, title: str) -> tuple[Figure, list[tuple[str, Axes]]]:
    """A figure with a panel for each error that the truth tells."""
    shown = [m for m in _PANELS if any(np.isfinite(row[m]).any() for row in scores.values())]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows + 0.7), dpi=110, layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for unused in axes[len(shown) :]:
        unused.set_visible(False)
    for metric, ax in zip(shown, axes, strict=False):
        ax.set_title(_PANELS[metric][0], fontsize=11)
        ax.set_ylabel(_PANELS[metric][1])
        ax.grid(alpha=0.25, linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=13)
    return figure, list(zip(shown, axes, strict=False))


def _legend(figure: Figure, ax: Axes) -> None:
    figure.legend(
        *ax.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False
    )


def _line(ax: Axes, x, summaries: list[dict | None], name: str, factor: float) -> None:
    """A method's means over x, and their intervals as a band."""
    known = [(value, s) for value, s in zip(x, summaries, strict=True) if s is not None]
    if not known:
        return
    x = [value for value, _ in known]
    mean, low, high = (
        np.array([factor * s[key] for _, s in known]) for key in ("mean", "low", "high")
    )
    ax.plot(x, mean, color=_COLORS[name], marker=_MARKERS[name], markersize=4.5, label=name)
    ax.fill_between(x, low, high, color=_COLORS[name], alpha=0.12, linewidth=0)


def by_angle(names, scores, angles: NDArray, values, axis: str) -> Figure:
    """Mean errors against an angle (thesis Figures 6 and 7)."""
    figure, panels = _panels(
        {name: scores[name] for name in names},
        f"Errors by {axis}; bands: 95 % interval of the mean",
    )
    for metric, ax in panels:
        for name in names:
            at = [
                evaluate.summarize(report.at_angle(scores[name][metric], angles, value))
                for value in values
            ]
            _line(ax, values, at, name, _PANELS[metric][2])
        ax.set_xlabel(f"{axis}, degrees")
        ax.set_ylim(bottom=0.0)
    _legend(figure, panels[0][1])
    return figure


def by_eta(names, scores, etas: list[float]) -> Figure:
    """Mean errors against the weight of the prior (thesis Figures 4 and 5)."""
    etas = sorted(etas)
    names = [name for name in names if name != evaluate.MEAN_FACE]
    figure, panels = _panels(
        {name: scores[name] for name in names},
        "Errors by the weight of the prior; bands: 95 % interval of the mean",
    )
    for metric, ax in panels:
        for name in names:
            at = [evaluate.summarize(scores[f"{name},eta={eta:g}"][metric]) for eta in etas]
            _line(ax, etas, at, name, _PANELS[metric][2])
        ax.set_xscale("log")
        ax.set_xlabel("eta")
        # Without a prior some errors are hundreds of times the rest.
        highest = [_PANELS[metric][2] * np.nanmean(scores[name][metric]) for name in names]
        ax.set_ylim(0.0, min(ax.get_ylim()[1], 4.0 * max(highest)))
    _legend(figure, panels[0][1])
    return figure


def boxes(names, scores) -> Figure:
    """How the errors of all views are spread: quartiles, and whiskers at 5 and 95 %."""
    figure, panels = _panels(
        {name: scores[name] for name in names}, "Errors of all views; whiskers: 5 to 95 %"
    )
    for metric, ax in panels:
        values = [_PANELS[metric][2] * scores[name][metric].ravel() for name in names]
        drawn = ax.boxplot(
            [v[np.isfinite(v)] for v in values],
            tick_labels=names,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            medianprops={"color": "black", "linewidth": 1.4},
        )
        for box, name in zip(drawn["boxes"], names, strict=True):
            box.set(facecolor=_COLORS[name], edgecolor=_COLORS[name])
        ax.set_ylim(bottom=0.0)
    return figure


def cumulative(folder: pathlib.Path, names: list[str]) -> Figure:
    """The share of the scans' points that are so near to the fitted faces, over all views."""
    figure = Figure(figsize=(6.4, 4.6), dpi=110, layout="constrained")
    ax = figure.subplots()
    reach = np.linspace(0.0, _FARTHEST_MM, 161)
    for name in names:
        views = methods_lib.distance_quantiles(folder, name).reshape(-1, len(scans.QUANTILES))
        views = views[np.isfinite(views).all(1)]
        shares = [np.interp(reach, one, scans.QUANTILES, left=0.0) for one in views]
        label = f"{name}, median {np.interp(0.5, np.mean(shares, axis=0), reach):.2f} mm"
        method, *together = name.split(",")
        style = {"color": _COLORS[method], "linestyle": "--" if together else "-"}
        ax.plot(reach, 100.0 * np.mean(shares, axis=0), label=label, **style)
    ax.set(xlabel="distance to the fitted face, mm", ylabel="share of the scans' points, %")
    ax.set(xlim=(0.0, _FARTHEST_MM), ylim=(0.0, 100.0))
    ax.set_title("Distances of scans, fits laid onto them by a similarity")
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="lower right")
    return figure


def overfitting(folder: pathlib.Path, subject: Subject, names: list[str]) -> Figure:
    """A face, and what methods make of it with and without enough of the prior (Figure 2)."""
    view = _most_turned(folder)
    heads = [("truth", protocol_lib.read_first(folder).vertices)]
    heads.append((f"fixed, eta = {OVERFITTED:g}", f"fixed,eta={OVERFITTED:g}"))
    heads += [(name, name) for name in ("fixed", "robust") if name in names]
    figure = Figure(figsize=(3.0 * len(heads), 3.5), dpi=110, layout="constrained")
    for ax, (title, head) in zip(figure.subplots(1, len(heads)), heads, strict=True):
        if isinstance(head, str):
            identity = methods_lib.first_identity(folder, head)[view]
            head = morphable.face_shape(subject.given, identity, np.zeros(0, np.float32))
        ax.imshow(_portrait(np.asarray(head), np.asarray(subject.truth.triangles)))
        ax.set_title(title, fontsize=11)
        ax.set_axis_off()
    return figure


def _most_turned(folder: pathlib.Path) -> int:
    """The view of the first face that is turned farthest, of those with points."""
    first = protocol_lib.read_first(folder)
    turn = np.abs(first.angles_deg[:, 0])
    return int(np.argmax(np.where(np.isfinite(first.xy).all((1, 2)), turn, -1.0)))


def _portrait(vertices: NDArray, triangles: NDArray) -> NDArray:
    """A grey head from the front [H, W, 3]."""
    center = 0.5 * (vertices.min(0) + vertices.max(0))
    camera = orthographic_camera(
        center + np.array([0.0, 0.0, 1.0]), center, _HEAD_SIZE, _HEAD_SIZE, extent=0.28
    )
    config = rasterize.RenderConfig(supersample=2)
    return np.clip(rasterize.render_mesh(Mesh(vertices, triangles), camera, config).rgb, 0.0, 1.0)
