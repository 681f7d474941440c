"""The stages of `evaluate_fit`: experiments, methods, scores; each goes on where it was stopped.

A folder of the evaluation holds

  settings.json                 what the experiments and the methods are
  experiments/face_000.npz      a face, its poses, the points found (see experiments.py)
  results/METHOD/face_000.npz   what a method made of them, and its scores
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import skimage.data
from numpy.typing import NDArray

from recon import assets, evaluate, fit, landmarks, morphable
from recon.evaluation import appearance, detector, experiments
from recon.evaluation.appearance import Appearance
from recon.evaluation.detector import DetectorConfig, FaceOutline
from recon.evaluation.experiments import Angles, Experiment
from recon.evaluation.experiments_io import (
    read_experiment,
    read_results,
    write_experiment,
    write_results,
)
from recon.morphable import MorphableModel
from recon.pose import Pose
from recon.residuals import FitConfig, FitModel
from render import files_io, mesh_io
from render.mesh import Mesh
from scripts.shell import command

METRICS = [field.name for field in dataclasses.fields(evaluate.Scores)]
_BATCH = 70  # views fitted at once: one compilation, whatever their number


_THESIS_YAWS = Angles(tuple(float(yaw) for yaw in range(-30, 31, 10)))
_UPRIGHT = Angles()
_NOISE = DetectorConfig()


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Which faces are seen how, and by which detector."""

    model: str = "default"
    num_faces: int = 20
    components: int | None = 10  # modes that the faces have and the methods fit; None: all
    held_out: int = 0  # each so-many-th of them belongs to the faces alone
    meshes: tuple[str, ...] = ()  # scans instead of random faces
    yaw: Angles = _THESIS_YAWS
    pitch: Angles = _UPRIGHT
    roll: Angles = _UPRIGHT
    detector: str = "silhouette"  # exact, silhouette or dlib
    noise: DetectorConfig = _NOISE
    knows_scale: bool = True  # as the thesis does
    seed: int = 0

    def __post_init__(self) -> None:
        if self.held_out == 1:
            raise ValueError("expected --held_out of 2 and more, or 0, found 1: no mode is left")


class Subject(NamedTuple):
    """The model of the true faces, what the methods are given of it, and who looks at them."""

    truth: MorphableModel
    modes: NDArray  # [k] of the truth's modes
    given: MorphableModel
    fit_model: FitModel
    outline: FaceOutline | None  # of the simulated detector
    looks: list[Appearance]  # of the rendered faces: one for all, or one per scan
    scans: list[Mesh]  # in metres, aligned


class Method(NamedTuple):
    """A row of the tables; `name` is that of its folder too."""

    name: str
    config: FitConfig
    is_mean: bool = False


def methods(names: list[str], identity_weight: float | None = None) -> list[Method]:
    """The rows of these names; with another weight of the prior, if one is given."""
    rows = []
    for name in names:
        is_mean = name == evaluate.MEAN_FACE
        config = fit.METHODS["inner" if is_mean else name]
        if identity_weight is not None:
            config = config.replace(identity_weight=identity_weight)
            name = f"{name},eta={identity_weight:g}"
        rows.append(Method(name, config, is_mean))
    return rows


def load_subject(protocol: Protocol) -> Subject:
    """Reads the model, keeps the modes asked for, and prepares it for methods and detector."""
    whole = assets.load_model(protocol.model)
    largest = whole.identity_sigma.shape[0]
    num_identity = protocol.components or largest
    if num_identity > largest:
        command.say(f"modes {largest + 1} to {num_identity} are made up: the model has {largest}")
        whole = experiments.padded(whole, num_identity)
    truth = morphable.with_modes(whole, num_identity, use_expression=False)
    modes = np.arange(num_identity)
    if protocol.held_out:
        modes = experiments.kept_modes(num_identity, protocol.held_out)
    given = experiments.with_only(truth, modes)
    scans = [_read_scan(path, truth, protocol) for path in protocol.meshes]
    outline, looks = None, []
    if protocol.detector != "dlib":
        outline = detector.face_outline(truth)
    elif any(len(scan.vertices) != len(truth.mean) for scan in scans):
        looks = [appearance.scan_appearance(scan) for scan in scans]
    else:
        with command.progress("painting the model"):
            looks = [appearance.photo_appearance(whole, skimage.data.astronaut() / 255.0)]
    return Subject(truth, modes, given, fit.prepare(given), outline, looks, scans)


def _read_scan(path: str, model: MorphableModel, protocol: Protocol) -> Mesh:
    """Reads a scan and moves it onto the mean face."""
    scan = mesh_io.read_mesh(path)
    if len(scan.vertices) != len(model.mean) and protocol.detector != "dlib":
        raise ValueError(
            f"expected the model's {len(model.mean)} vertices in {path}, or --detector=dlib, "
            f"found {len(scan.vertices)} vertices"
        )
    try:
        vertices = experiments.aligned(scan.vertices, model.mean)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return scan.replace(vertices=vertices.astype(np.float32))


def experiment_paths(folder: pathlib.Path) -> list[pathlib.Path]:
    """The experiment files of a folder, in order."""
    return sorted((folder / "experiments").glob("face_*.npz"))


def make_experiments(folder: pathlib.Path, protocol: Protocol, subject: Subject) -> None:
    """Writes the experiment files that the folder lacks."""
    make = experiment_maker(protocol, subject)
    with command.progress(
        f"experiments: {protocol.num_faces} faces", protocol.num_faces
    ) as advance:
        for number in range(protocol.num_faces):
            path = folder / "experiments" / f"face_{number:03d}.npz"
            if not path.exists():
                write_experiment(path, make(number))
            advance()


def experiment_maker(protocol: Protocol, subject: Subject) -> Callable[[int], Experiment]:
    """Returns what makes the experiment of a number: a face, which the detector then looks at."""
    num_faces, num_identity = protocol.num_faces, len(subject.truth.identity_sigma)
    keys = jax.random.split(jax.random.key(protocol.seed), 3)
    angles, head = experiments.views(
        keys[0], num_faces, protocol.yaw, protocol.pitch, protocol.roll
    )
    identities = np.asarray(morphable.random_identity(keys[1], num_faces, num_identity))

    def make(number: int) -> Experiment:
        key = jax.random.fold_in(keys[2], number)
        here = jax.tree.map(lambda x: x[number], head)
        if subject.scans:
            identity = np.full(num_identity, np.nan, np.float32)
            vertices = np.asarray(subject.scans[number].vertices)
        else:
            identity = identities[number]
            vertices = np.asarray(morphable.face_shape(subject.truth, identity, jnp.zeros(0)))
        if protocol.detector == "dlib":
            look = subject.looks[number % len(subject.looks)]
            xy, sigma = _rendered_points(key, look, vertices, here)
        else:
            noise = detector.EXACT if protocol.detector == "exact" else protocol.noise
            xy, sigma = experiments.find_points(key, subject.outline, vertices, here, noise)
        return Experiment(
            vertices=vertices,
            identity=identity,
            rotation=here.rotation,
            translation=here.translation,
            scale=here.scale,
            angles_deg=angles[number],
            xy=xy,
            sigma_px=sigma,
        )

    return make


def _rendered_points(key, look: Appearance, vertices: NDArray, head: Pose):
    """Draws the face in its poses [A] in one light, and has dlib find it."""
    found, sigma = [], []
    for view in range(len(head.scale)):
        one = jax.tree.map(lambda x: x[view], head)  # noqa: B023
        points = appearance.find_points(appearance.render_face(look, vertices, one, key))
        found.append(points)
        is_found = np.isfinite(points).all()
        sigma.append(
            landmarks.landmarks_from_points(points).sigma_px
            if is_found
            else np.full(len(points), np.nan)
        )
    return np.stack(found), np.stack(sigma)


class _Views(NamedTuple):
    """All views of some faces in one row, N of them, without those where no face was found."""

    face: NDArray  # [N]
    view: NDArray  # [N]
    experiments: list[Experiment]

    def gather(self, name: str) -> NDArray:
        return np.stack(
            [
                getattr(self.experiments[f], name)[v]
                for f, v in zip(self.face, self.view, strict=True)
            ]
        )


def run_method(folder: pathlib.Path, method: Method, protocol: Protocol, subject: Subject) -> None:
    """Fits and scores the experiments that the folder has no results of."""
    paths = experiment_paths(folder)
    results = folder / "results" / method.name
    missing = [path for path in paths if not (results / path.name).exists()]
    if not missing:
        return
    read = [read_experiment(path) for path in missing]
    is_found = [np.isfinite(one.xy).all((1, 2)) for one in read]
    face, view = np.nonzero(np.stack(is_found))
    views = _Views(face, view, read)
    with command.progress(f"{method.name}: {len(face)} fits", len(face)) as advance:
        found, seconds = _fit_views(views, method, protocol, subject, advance)
    scores = _score_views(views, found, subject)
    for number, path in enumerate(missing):
        mine = face == number
        arrays = {**found, **scores}
        whole = {name: _spread(values[mine], is_found[number]) for name, values in arrays.items()}
        whole["seconds"] = np.float32(seconds)
        write_results(results / path.name, whole)


def _spread(values: NDArray, is_found: NDArray) -> NDArray:
    """Puts values of the views found [n, ...] among all [A, ...]; NaN elsewhere."""
    whole = np.full((len(is_found), *values.shape[1:]), np.nan, np.float32)
    whole[is_found] = values
    return whole


def _fit_views(views: _Views, method: Method, protocol: Protocol, subject: Subject, advance):
    """Fits all views, a batch at a time; returns arrays [N, ...] by name and seconds per fit."""
    xy, sigma = views.gather("xy"), views.gather("sigma_px")
    scale = views.gather("scale") if protocol.knows_scale else None
    call = evaluate.mean_faces if method.is_mean else fit.fit_faces
    compiled, parts, seconds = None, [], 0.0
    for first in range(0, len(xy), _BATCH):
        index = np.minimum(np.arange(first, first + _BATCH), len(xy) - 1)  # the last one repeats
        seen = evaluate.observe_views(
            xy[index], sigma[index], method.config, None if scale is None else scale[index]
        )
        arguments = (subject.fit_model, seen, method.config)
        compiled = compiled or call.lower(*arguments).compile()
        begin = time.perf_counter()
        output = jax.device_get(compiled(*arguments))
        seconds += time.perf_counter() - begin
        parts.append(_flat(output, method.is_mean))
        for _ in range(min(_BATCH, len(xy) - first)):
            advance()
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    each = seconds / len(found["scale"])
    return {name: values[: len(xy)] for name, values in found.items()}, each


def _flat(output, is_mean: bool) -> dict[str, NDArray]:
    identity, head = output if is_mean else (output.params.identity, output.params.pose)
    count = len(identity)
    return {
        "identity": identity,
        "rotation": head.rotation,
        "translation": head.translation,
        "scale": head.scale,
        "iterations": np.zeros(count) if is_mean else output.iterations,
        "converged": np.ones(count, bool) if is_mean else output.converged,
    }


def _score_views(views: _Views, found: dict[str, NDArray], subject: Subject) -> dict[str, NDArray]:
    """Scores of N fits by metric [N]."""
    truth, given = subject.truth, subject.given
    head = Pose(*(jnp.asarray(found[name]) for name in ("rotation", "translation", "scale")))
    true_head = Pose(*(views.gather(name) for name in ("rotation", "translation", "scale")))
    shapes = [views.experiments[f].vertices for f in views.face]
    identities = [views.experiments[f].identity for f in views.face]
    is_corresponding = all(len(shape) == len(truth.mean) for shape in shapes)
    if is_corresponding:
        true_vertices = jnp.asarray(np.stack(shapes))
    else:  # scored against what is nearest, below
        true_vertices = jnp.broadcast_to(truth.mean, (len(shapes), *truth.mean.shape))
    scores = evaluate.score_views(
        truth,
        jnp.asarray(subject.modes),
        jnp.asarray(found["identity"]),
        head,
        true_vertices,
        jnp.asarray(np.stack(identities)),
        true_head,
        views.gather("xy"),
    )
    scores = {name: np.array(getattr(scores, name)) for name in METRICS}
    if not is_corresponding:
        for n, f in enumerate(views.face):
            shape = morphable.face_shape(given, found["identity"][n], jnp.zeros(0))
            mesh = subject.scans[f]
            scores["normal_deg"][n], scores["vertex_mm"][n] = evaluate.closest_errors(
                np.asarray(shape), given.triangles, mesh.vertices, mesh.triangles
            )
    return scores


def collect(folder: pathlib.Path, method: Method) -> dict[str, NDArray]:
    """Scores [F, A] of a method by metric, and `seconds` [F] per fit."""
    files = [
        read_results(folder / "results" / method.name / path.name)
        for path in experiment_paths(folder)
    ]
    return {name: np.stack([one[name] for one in files]) for name in [*METRICS, "seconds"]}


def true_angles(folder: pathlib.Path) -> NDArray:
    """Yaw, pitch and roll of all views [F, A, 3], degrees."""
    return np.stack([read_experiment(path).angles_deg for path in experiment_paths(folder)])


def read_first(folder: pathlib.Path) -> Experiment:
    """The experiment of the first face."""
    return read_experiment(experiment_paths(folder)[0])


def first_identity(folder: pathlib.Path, name: str) -> NDArray:
    """What a method found of the first face in each view [A, k]."""
    return read_results(folder / "results" / name / experiment_paths(folder)[0].name)["identity"]


def check_settings(folder: pathlib.Path, settings: dict) -> None:
    """Writes settings.json, or sees that the folder's own are the same.

    Raises:
      ValueError: the folder holds an evaluation of other settings.
    """
    path = folder / "settings.json"
    if path.exists():
        before = files_io.read_object(path, "settings of evaluate_fit")
        for name, value in json.loads(files_io.json_text(settings)).items():
            if before.get(name) != value:
                raise ValueError(
                    f"expected the settings of the evaluation in {folder}, {name} of "
                    f"{before.get(name)}, found {value}: name another --out to keep both"
                )
    files_io.write_json(path, settings)
