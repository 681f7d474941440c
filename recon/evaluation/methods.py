"""What each method makes of the experiments: fits, a batch of views at a time, and their scores.

Axes: F faces, A views of a face, N views of all faces in which the detector found one, V vertices,
K modes of the true faces, k modes that the methods fit.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from recon import evaluate, fit, morphable, person
from recon.evaluation import scans
from recon.evaluation.experiments import Experiment
from recon.evaluation.experiments_io import read_experiment, read_results, write_results
from recon.evaluation.progress import Progress, silent
from recon.evaluation.protocol import Protocol, Subject, experiment_paths
from recon.fit import FaceFit
from recon.landmarks import LEFT_EYE_CORNER, RIGHT_EYE_CORNER
from recon.pose import Pose
from recon.residuals import FitConfig, FitModel, Observation

METRICS = [field.name for field in dataclasses.fields(evaluate.Scores)] + scans.SCAN_METRICS
_QUANTILES = "scan_quantiles_mm"
_BATCH = 70  # views fitted at once: one compilation, whatever their number


class Found(NamedTuple):
    """What a method made of N views."""

    identity: NDArray  # [N, k]
    rotation: NDArray  # [N, 3, 3]
    translation: NDArray  # [N, 2]
    scale: NDArray  # [N]
    iterations: NDArray  # [N]
    converged: NDArray  # [N]

    @property
    def head(self) -> Pose:
        """The poses [N]."""
        return Pose(self.rotation, self.translation, self.scale)


class Method(NamedTuple):
    """A row of the tables; `name` is that of its folder too."""

    name: str
    config: FitConfig
    fit: Callable[[FitModel, Observation, FitConfig], Found]  # jit-compiled
    shares_identity: bool = False  # among all views of a face; else each view is fitted alone


@jax.jit
def _fit_faces(model: FitModel, seen: Observation, config: FitConfig) -> Found:
    return _found(fit.fit_faces(model, seen, config))


@jax.jit
def _fit_person(model: FitModel, seen: Observation, config: FitConfig) -> Found:
    return _found(person.fit_person(model, seen, config))


def _found(face: FaceFit) -> Found:
    params, head = face.params, face.params.pose
    return Found(
        params.identity,
        head.rotation,
        head.translation,
        head.scale,
        face.iterations,
        face.converged,
    )


@jax.jit
def _fit_mean_faces(model: FitModel, seen: Observation, config: FitConfig) -> Found:
    identity, head = evaluate.mean_faces(model, seen, config)
    count = len(identity)  # a closed form, without iterations
    return Found(
        identity,
        head.rotation,
        head.translation,
        head.scale,
        jnp.zeros(count),
        jnp.ones(count, bool),
    )


def rows(
    names: list[str], identity_weight: float | None = None, shares_identity: bool = False
) -> list[Method]:
    """The rows of these names; with another weight of the prior, if one is given.

    With `shares_identity` all views of a face are fitted together (`recon.person`).
    """
    found = []
    for name in names:
        is_mean = name == evaluate.MEAN_FACE
        config = fit.METHODS["inner" if is_mean else name]
        if identity_weight is not None:
            config = config.replace(identity_weight=identity_weight)
            name = f"{name},eta={identity_weight:g}"
        if shares_identity:
            found.append(Method(f"{name},together", config, _fit_person, True))
        else:
            found.append(Method(name, config, _fit_mean_faces if is_mean else _fit_faces))
    return found


class _Views(NamedTuple):
    """The views of some faces in one row, without those where no face was found."""

    face: NDArray  # [N] which of the faces
    xy: NDArray  # [N, 68, 2]
    sigma_px: NDArray  # [N, 68]
    head: Pose  # [N] true


def _views_of(faces: list[Experiment]) -> _Views:
    """Puts the views of all faces in one row."""
    is_found = [np.isfinite(one.xy).all((1, 2)) for one in faces]
    parts = [
        jax.tree.map(lambda x: x[mine], (one.xy, one.sigma_px, one.head))  # noqa: B023
        for one, mine in zip(faces, is_found, strict=True)
    ]
    face = np.repeat(np.arange(len(faces)), [mine.sum() for mine in is_found])
    return _Views(face, *jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts))


def run_method(
    folder: pathlib.Path,
    method: Method,
    protocol: Protocol,
    subject: Subject,
    progress: Progress = silent,
) -> None:
    """Fits and scores the experiments that the folder has no results of."""
    results = folder / "results" / method.name
    missing = [path for path in experiment_paths(folder) if not (results / path.name).exists()]
    if not missing:
        return
    faces = [read_experiment(path) for path in missing]
    views = _views_of(faces)
    if subject.sigma is not None:
        eyes = np.linalg.norm(views.xy[:, LEFT_EYE_CORNER] - views.xy[:, RIGHT_EYE_CORNER], axis=1)
        views = views._replace(sigma_px=(subject.sigma * eyes[:, None]).astype(np.float32))
    if not len(views.face):
        raise RuntimeError(f"expected a face found in some view of {folder}, found none")
    with progress(f"{method.name}: {len(views.face)} fits", len(views.face)) as advance:
        fit_views = _fit_people if method.shares_identity else _fit_views
        found, seconds = fit_views(views, method, protocol, subject, advance)
    scores = _score_views(faces, views, found, subject)
    if subject.scans:
        with progress(f"{method.name}: {len(views.face)} scans", len(views.face)) as advance:
            scores |= _scan_scores(views, found, subject, advance)
    for number, (path, one) in enumerate(zip(missing, faces, strict=True)):
        arrays = {
            name: _spread(values[views.face == number], one)
            for name, values in {**found._asdict(), **scores}.items()
        }
        write_results(results / path.name, {**arrays, "seconds": np.float32(seconds)})


def _spread(values: NDArray, one: Experiment) -> NDArray:
    """Puts values of the views where a face was found among all views [A, ...]; NaN elsewhere."""
    is_found = np.isfinite(one.xy).all((1, 2))
    whole = np.full((len(is_found), *values.shape[1:]), np.nan, np.float32)
    whole[is_found] = values
    return whole


def _fit_views(
    views: _Views,
    method: Method,
    protocol: Protocol,
    subject: Subject,
    advance: Callable[..., None],
) -> tuple[Found, float]:
    """Fits all views, a batch at a time; returns what was found and the seconds per fit."""
    scale = views.head.scale if protocol.knows_scale else None
    num_views = len(views.face)
    compiled, parts, seconds = None, [], 0.0
    for first in range(0, num_views, _BATCH):
        index = np.minimum(np.arange(first, first + _BATCH), num_views - 1)  # the last one repeats
        seen = evaluate.observe_views(
            views.xy[index],
            views.sigma_px[index],
            method.config,
            None if scale is None else scale[index],
            subject.correlation,
        )
        arguments = (subject.fit_model, seen, method.config)
        compiled = compiled or method.fit.lower(*arguments).compile()
        begin = time.perf_counter()
        parts.append(jax.device_get(compiled(*arguments)))
        seconds += time.perf_counter() - begin
        for _ in range(min(_BATCH, num_views - first)):
            advance()
    found = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    each = seconds / len(found.scale)
    return jax.tree.map(lambda x: x[:num_views], found), each


def _fit_people(
    views: _Views,
    method: Method,
    protocol: Protocol,
    subject: Subject,
    advance: Callable[..., None],
) -> tuple[Found, float]:
    """Fits the views of each face together; returns what was found and the seconds per view."""
    compiled, parts, seconds = {}, [], 0.0
    for face in np.unique(views.face):
        mine = views.face == face
        scale = views.head.scale[mine] if protocol.knows_scale else None
        found = views.xy[mine], views.sigma_px[mine]
        seen = evaluate.observe_views(*found, method.config, scale, subject.correlation)
        arguments = (subject.fit_model, seen, method.config)
        count = len(seen.xy)
        compiled[count] = compiled.get(count) or method.fit.lower(*arguments).compile()
        begin = time.perf_counter()
        parts.append(jax.device_get(compiled[count](*arguments)))
        seconds += time.perf_counter() - begin
        for _ in range(count):
            advance()
    found = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    return found, seconds / len(views.face)


def _score_views(
    faces: list[Experiment], views: _Views, found: Found, subject: Subject
) -> dict[str, NDArray]:
    """Scores of the fits by metric [N], on the host; those of scans are still NaN."""
    truth = subject.truth
    shapes = [faces[f].vertices for f in views.face]
    is_corresponding = all(len(shape) == len(truth.mean) for shape in shapes)
    scores = evaluate.score_views(
        truth,
        jnp.asarray(subject.modes),
        jnp.asarray(found.identity),
        found.head,
        jnp.asarray(np.stack(shapes))
        if is_corresponding
        else jnp.broadcast_to(truth.mean, (len(shapes), *truth.mean.shape)),
        jnp.asarray(np.stack([faces[f].identity for f in views.face])),
        views.head,
        views.xy,
    )
    scores = vars(jax.device_get(scores))
    unknown = np.full(len(shapes), np.nan, np.float32)
    if not is_corresponding:
        scores |= {"normal_deg": unknown, "vertex_mm": unknown}
    return scores | dict.fromkeys(scans.SCAN_METRICS, unknown)


def _scan_scores(
    views: _Views, found: Found, subject: Subject, advance: Callable[..., None]
) -> dict[str, NDArray]:
    """Scores of fits to scans by metric [N], and the distances' quantiles [N, 101].

    Poses are those of the fits laid onto the scans.
    """
    rows = []
    for view, face in enumerate(views.face):
        head, truth = jax.tree.map(lambda x: x[view], (found.head, views.head))  # noqa: B023
        shape = morphable.face_shape(subject.given, found.identity[view], jnp.zeros(0))
        one, quantiles, onto = scans.score_shape(subject.given, shape, subject.scans[face])
        angle, shift = scans.pose_errors(head, onto, truth)
        rows.append(
            {
                **vars(one),
                "rotation_deg": angle,
                "translation_model_units": shift,
                _QUANTILES: quantiles,
            }
        )
        advance()
    return {name: np.array([row[name] for row in rows], np.float32) for name in rows[0]}


def collect(folder: pathlib.Path, method: Method) -> dict[str, NDArray]:
    """Scores [F, A] of a method by metric, and `seconds` [F] per fit."""
    files = [
        read_results(folder / "results" / method.name / path.name)
        for path in experiment_paths(folder)
    ]
    return {name: np.stack([one[name] for one in files]) for name in [*METRICS, "seconds"]}


def distance_quantiles(folder: pathlib.Path, name: str) -> NDArray:
    """Quantiles (`scans.QUANTILES`) of the distances of each face's scan in each view [F, A, 101].

    Millimetres; NaN where no face was found.
    """
    files = [read_results(folder / "results" / name / p.name) for p in experiment_paths(folder)]
    return np.stack([one[_QUANTILES] for one in files])


def first_identity(folder: pathlib.Path, name: str) -> NDArray:
    """What a method found of the first face in each view [A, k]."""
    return read_results(folder / "results" / name / experiment_paths(folder)[0].name)["identity"]
