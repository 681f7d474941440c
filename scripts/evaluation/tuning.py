"""The search of `evaluate_fit --tune`: weights of the energy that suit all models at once.

The thesis found its weights by hand, for ten modes, and saw them fail for 199. Here each candidate
is judged on several cases together: every model, 10, 50, 100 and 199 modes, little and much noise
of the detector, and the thesis' start, from which no weight may lead astray. Its loss in a case is
the geometric mean of the errors of rotation, normals and vertices over that of the weights to begin
with; its objective the geometric mean over the cases. The search goes along one weight after the
other. What it finds is judged once more on other faces.

The search is written here: on a smooth bowl of five weights SciPy's Powell wants three times as
many evaluations (98 for 34), on one as rough as this objective eight times as many (274), and each
takes minutes. Its factors are few and fixed, so that a stopped search finds its history again.
"""

import dataclasses
import operator
import pathlib
from typing import NamedTuple

import jax
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from recon import evaluate, fit
from recon.evaluation import protocol as protocol_lib
from recon.evaluation.detector import DetectorConfig
from recon.evaluation.experiments import Angles, Experiment
from recon.evaluation.protocol import Protocol, Subject
from recon.residuals import FitConfig, Observation
from render import files_io
from scripts.evaluation import figures
from scripts.shell import command

WEIGHTS = ("contour_weight", "inner_weight", "identity_weight", "normal_sd", "along_ratio")
_MODES = (10, 50, 100, 199)
_LITTLE = DetectorConfig(inner_px=3.0, contour_px=3.0, sliding_deg=3.0)
_MUCH = DetectorConfig(inner_px=8.0, contour_px=10.0, sliding_deg=6.0)
_FRONTAL_YAWS = Angles((-30.0, 0.0, 30.0))  # from R = I, the thesis' start; farther is too far
_TILTS = Angles((-10.0, 10.0), is_range=True), Angles((-5.0, 5.0), is_range=True)
_JUDGED = ("rotation_deg", "normal_deg", "vertex_mm")
_STEPS = (4.0, 2.0, 2.0**0.5)  # factors up and down, one round each
_LEAST_GAIN = 1e-3  # of the objective
_ETA_FACTORS = 2.0 ** np.arange(-5, 6)
_WORTHLESS = 1e6
_OTHER_FACES = 1  # added to the seed


class Case(NamedTuple):
    """Faces of one model with so many modes, as a detector sees them; N views."""

    name: str
    subject: Subject
    seen: Observation  # [N]
    truth: Experiment  # [N] of one view each
    start: str  # see FitConfig

    def errors(self, config: FitConfig) -> NDArray:
        """Mean errors [3] of rotation, normals and vertices."""
        config = config.replace(start=self.start)
        faces = fit.fit_faces(self.subject.fit_model, self.seen, config)
        scores = evaluate.score_views(
            self.subject.truth,
            self.subject.modes,
            faces.params.identity,
            faces.params.pose,
            self.truth.vertices,
            self.truth.identity,
            self.truth.head,
            self.truth.xy,
        )
        return np.array([np.mean(getattr(scores, metric)) for metric in _JUDGED])


def tune(folder: pathlib.Path, protocol: Protocol, models: list[str], method: str) -> None:
    """Searches the weights, writes tune.json, tune.md and eta.png, and says what it found."""
    settings = {"protocol": dataclasses.asdict(protocol), "models": models, "method": method}
    protocol_lib.check_settings(folder, settings)
    start = fit.METHODS[method]
    cases = make_cases(protocol, models, start)
    base = [case.errors(start) for case in cases]
    history = _read_history(folder)

    def objective(config: FitConfig) -> float:
        key = ",".join(f"{getattr(config, name):.6g}" for name in WEIGHTS)
        if key not in history:
            history[key] = _objective(cases, base, config)
            files_io.write_json(folder / "history.json", {"weights": WEIGHTS, "tried": history})
        return history[key]

    best = search(objective, start)
    others = make_cases(
        dataclasses.replace(protocol, seed=protocol.seed + _OTHER_FACES), models, start
    )
    other_base = [case.errors(start) for case in others]
    transfer = eta_transfer(others, best)
    report = {
        "settings": settings,
        "start": {name: getattr(start, name) for name in WEIGHTS},
        "best": {name: float(getattr(best, name)) for name in WEIGHTS},
        "objective": objective(best),
        "objective_on_other_faces": _objective(others, other_base, best),
        "eta": transfer,
    }
    files_io.write_json(folder / "tune.json", report)
    figures.write_figure(folder / "eta.png", _eta_figure(transfer))
    worst = max(case["loss"] for case in transfer.values())
    found = ", ".join(f"{name} {value:.3g}" for name, value in report["best"].items())
    command.say(
        f"wrote {folder}: {found}; errors {report['objective_on_other_faces']:.3f} of before on "
        f"other faces; with one eta for all at most {worst:.1%} worse than with the best for each"
    )


def _read_history(folder: pathlib.Path) -> dict[str, float]:
    """What an earlier run of the same settings has tried already."""
    path = folder / "history.json"
    return files_io.read_object(path, "a history of --tune")["tried"] if path.exists() else {}


def make_cases(protocol: Protocol, models: list[str], config: FitConfig) -> list[Case]:
    """All cases of the search."""
    cases = []
    with command.progress("faces to tune on", len(models) * len(_MODES)) as advance:
        for model in models:
            for num_identity in _MODES:
                one = dataclasses.replace(protocol, model=model, components=num_identity)
                subject = protocol_lib.load_subject(one, command.progress)
                for note in subject.notes:
                    command.say(note)
                for name, noise in (("little noise", _LITTLE), ("much noise", _MUCH)):
                    pitch, roll = _TILTS if noise is _MUCH else (protocol.pitch, protocol.roll)
                    noisy = dataclasses.replace(one, noise=noise, pitch=pitch, roll=roll)
                    label = f"{subject.truth.name}, {num_identity} modes, {name}"
                    cases.append(_make_case(label, noisy, subject, config))
                if num_identity == _MODES[0]:
                    far = dataclasses.replace(one, noise=_LITTLE, yaw=_FRONTAL_YAWS)
                    label = f"{subject.truth.name}, {num_identity} modes, frontal start"
                    cases.append(_make_case(label, far, subject, config, "frontal"))
                advance()
    return cases


def _make_case(
    name: str, protocol: Protocol, subject: Subject, config: FitConfig, start: str | None = None
) -> Case:
    make = protocol_lib.experiment_maker(protocol, subject)
    views = []
    for number in range(protocol.num_faces):
        made = make(number)
        for view in range(len(made.scale)):
            cut = made.replace(vertices=(), identity=())
            cut = jax.tree.map(operator.itemgetter(view), cut)
            views.append(cut.replace(vertices=made.vertices, identity=made.identity))
    truth = jax.tree.map(lambda *leaves: np.stack(leaves), *views)
    scale = np.asarray(truth.scale) if protocol.knows_scale else None
    seen = evaluate.observe_views(np.asarray(truth.xy), np.asarray(truth.sigma_px), config, scale)
    return Case(name, subject, seen, truth, start or config.start)


def _objective(cases: list[Case], base: list[NDArray], config: FitConfig) -> float:
    """Geometric mean over errors and cases, in parts of that of the first weights."""
    losses = [
        np.log(case.errors(config) / before) for case, before in zip(cases, base, strict=True)
    ]
    mean = float(np.exp(np.mean(losses)))
    return mean if np.isfinite(mean) else _WORTHLESS  # a fit that went nowhere


def search(objective, start: FitConfig) -> FitConfig:
    """Goes along one weight after the other, with smaller and smaller factors."""
    best, lowest = start, objective(start)
    rounds = [(factor, name) for factor in _STEPS for name in WEIGHTS]
    with command.progress("tuning", len(rounds)) as advance:
        for factor, name in rounds:
            for step in (factor, 1.0 / factor):
                while True:  # as long as it pays
                    tried = best.replace(**{name: getattr(best, name) * step})
                    value = objective(tried)
                    if not value < lowest * (1.0 - _LEAST_GAIN):
                        break
                    best, lowest = tried, value
            advance(f"errors {lowest:.3f} of before")
    return best


def eta_transfer(cases: list[Case], config: FitConfig) -> dict[str, dict]:
    """For each case the error at many etas, the best of them, and what the one for all loses."""
    report = {}
    with command.progress("eta, case by case", len(cases)) as advance:
        for case in cases:
            base = [case.errors(config)]
            etas = [float(config.identity_weight * factor) for factor in _ETA_FACTORS]
            errors = [_objective([case], base, config.replace(identity_weight=eta)) for eta in etas]
            report[case.name] = {
                "eta": etas,
                "error": errors,  # in parts of that with the eta for all
                "best_eta": etas[int(np.argmin(errors))],
                "loss": 1.0 / min(errors) - 1.0,
            }
            advance()
    return report


def _eta_figure(transfer: dict[str, dict]) -> Figure:
    """Errors by eta, a line a case: colours tell modes, markers models, dashes noise and start."""
    figure = Figure(figsize=(11.0, 5.0), dpi=110, layout="constrained")
    ax = figure.subplots()
    models, modes = ([name.split(", ")[i] for name in transfer] for i in (0, 1))
    modes, models = list(dict.fromkeys(modes)), list(dict.fromkeys(models))
    for name, case in transfer.items():
        model, mode, noise = name.split(", ")
        ax.plot(
            case["eta"],
            case["error"],
            color=colormaps["viridis"](0.9 * modes.index(mode) / max(len(modes) - 1, 1)),
            marker="osD^v"[models.index(model) % 5],
            linestyle={"little noise": "-", "much noise": "--"}.get(noise, ":"),
            markersize=4,
            linewidth=1.2,
            label=name,
        )
    ax.axhline(1.0, color="black", linewidth=0.6)
    ax.axhline(1.0 / 1.05, color="black", linewidth=0.6, linestyle=":")
    ax.annotate("5 % better", (case["eta"][0], 1.0 / 1.05), va="top", fontsize=8)
    ax.set(xscale="log", xlabel="eta", ylabel="error, in parts of that with the eta for all")
    ax.set_ylim(0.85, 1.6)
    ax.set_title("One weight of the prior for all, against each case's own")
    ax.grid(alpha=0.25, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(fontsize=8, frameon=False, loc="outside right upper")
    return figure
