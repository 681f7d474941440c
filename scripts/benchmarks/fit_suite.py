"""Suite `fit` of `benchmark`: the fit of one photo against scipy's solver and against eos.

scipy minimises the same energy; eos fits the same model to the same points in its own way, so that
what both miss of the true faces stands beside their times.
"""

import dataclasses
import functools
import importlib
import importlib.util
import statistics
import time
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from recon import assets, evaluate, fit, morphable, residuals
from recon.evaluation.detector import DetectorConfig, detect, detector_sigma, face_outline
from recon.evaluation.experiments import PICTURE, SCALE
from recon.landmarks import Landmarks
from recon.morphable import MorphableModel
from recon.pose import Pose
from recon.residuals import FitConfig, FitModel, Observation, stack_observations
from render.transforms import euler_rotation
from scripts.benchmarks.eos_fit import EosFit
from scripts.benchmarks.measuring import Row, against, milliseconds
from scripts.shell import command

_SCIPY = "scipy least_squares, 2-point"
_NOISE = DetectorConfig()
_FEW = 10  # modes


@dataclasses.dataclass(frozen=True)
class FitSuite:
    """Settings of the suite."""

    model: str = "default"
    method: str = "robust"
    num_faces: int = 20  # a time is the median of, an error the mean of
    peer_faces: int = 10  # that scipy fits too
    seed: int = 0
    batch: int = 256
    # What eos is asked for: iterations, and whether it looks for the contour. 5 is its default.
    eos_fits: tuple[tuple[int, bool], ...] = ((5, True), (50, True), (5, False))


class _Photos(NamedTuple):
    """Points found on random faces, and the truth."""

    landmarks: list[Landmarks]
    identity: jax.Array  # [F, K]
    head: Pose  # [F]


class _Result(NamedTuple):
    """What a method took and missed."""

    milliseconds: float | None = None  # of the processor; median
    rotation_deg: float | None = None  # Eq. 12; mean
    vertex_mm: float | None = None  # mean


def fit_rows(suite: FitSuite) -> Iterator[Row]:
    """Measures the fit with few modes and with all that the model has."""
    model = assets.load_model(suite.model)
    largest = model.identity_sigma.shape[0]
    for num_identity in sorted({min(_FEW, largest), largest}):
        fewer = morphable.with_modes(model, num_identity, use_expression=False)
        yield from _model_rows(fewer, suite)


def _model_rows(model: MorphableModel, suite: FitSuite) -> list[Row]:
    """Times one photo and, for few modes, a batch; then what others take and miss."""
    config = fit.METHODS[suite.method]
    num_identity = model.identity_sigma.shape[0]
    case = f"fit, {suite.method}, {num_identity} modes"
    fit_model = fit.prepare(model)
    has_batch = num_identity <= _FEW
    count = max(suite.num_faces, suite.peer_faces, suite.batch if has_batch else 1)
    photos = _photos(model, count, suite.seed)
    seen = [fit.observe(photo, config) for photo in photos.landmarks]

    compile_ms = milliseconds(lambda: fit.fit_face(fit_model, seen[0], config))
    ours = _our_result(model, fit_model, photos, seen[: suite.num_faces], config)
    scipy_ms = _scipy_median(fit_model, seen[: suite.peer_faces], config)
    rows = [
        Row(f"{case}, first call with compilation", compile_ms, "ms"),
        against(f"{case}, one photo", ours.milliseconds, "CPU-ms", _SCIPY, scipy_ms),
    ]
    if has_batch:
        batch = stack_observations(seen[: suite.batch])
        jax.block_until_ready(fit.fit_faces(fit_model, batch, config))
        each = milliseconds(lambda: fit.fit_faces(fit_model, batch, config), time.process_time)
        each /= suite.batch
        rows.append(against(f"{case}, each of {suite.batch}", each, "CPU-ms", _SCIPY, scipy_ms))
    rows += _eos_rows(case, ours, model, photos, suite)
    mean_face = _mean_face_result(model, fit_model, photos, seen[: suite.num_faces], config)
    return rows + _error_rows(case, ours, "mean face", mean_face)


def _eos_rows(
    case: str, ours: _Result, model: MorphableModel, photos: _Photos, suite: FitSuite
) -> list[Row]:
    rows = []
    for name, peer in _eos_results(model, photos, suite).items():
        time_row = f"{case}, one photo", ours.milliseconds, "CPU-ms", name, peer.milliseconds
        rows += [against(*time_row), *_error_rows(case, ours, name, peer)]
    return rows


def _error_rows(case: str, ours: _Result, name: str, peer: _Result) -> list[Row]:
    return [
        against(f"{case}, rotation error", ours.rotation_deg, "deg", name, peer.rotation_deg),
        against(f"{case}, vertex error", ours.vertex_mm, "mm", name, peer.vertex_mm),
    ]


def _photos(model: MorphableModel, count: int, seed: int) -> _Photos:
    """Landmarks of random faces turned up to 30 degrees, about 500 pixels high."""
    keys = jax.random.split(jax.random.key(seed), 3)
    yaw = jnp.deg2rad(jax.random.uniform(keys[0], (count,), minval=-30.0, maxval=30.0))
    zero = jnp.zeros(count)
    head = Pose(
        rotation=jax.vmap(euler_rotation)(yaw, zero, zero),
        translation=jnp.tile(0.5 * jnp.array(PICTURE), (count, 1)),
        scale=jnp.full(count, SCALE),
    )
    identity = morphable.random_identity(keys[1], count, model.identity_sigma.shape[0])
    outline = face_outline(model)

    def points(key, identity, head):
        return detect(key, outline, _vertices(model, identity), head, _NOISE)

    keys = jax.random.split(keys[2], count)
    xy = jax.jit(lambda views: jax.lax.map(lambda view: points(*view), views))(
        (keys, identity, head)
    )
    sigma = jnp.asarray(detector_sigma(_NOISE), jnp.float32)
    return _Photos([Landmarks(xy=one, sigma_px=sigma) for one in xy], identity, head)


def _vertices(model: MorphableModel, identity: jax.Array) -> jax.Array:
    return morphable.face_shape(model, identity, jnp.zeros(0))


def _errors(
    model: MorphableModel, photos: _Photos, identity: NDArray, rotation: NDArray
) -> tuple[float, float]:
    """Means of the first photos' errors: Eq. 12 in degrees, and the vertices' in millimetres.

    Both are taken in the model's own axes, to which all methods keep: none gains by an alignment.
    """

    @jax.jit
    def missed(view):
        found, truth, turn, true_turn = view
        apart = _vertices(model, found) - _vertices(model, truth)
        length = jnp.linalg.norm(apart, axis=-1)
        return evaluate.rotation_error_deg(turn, true_turn), 1e3 * jnp.mean(length)

    count = len(identity)
    found, turn = (jnp.asarray(x, jnp.float32) for x in (identity, rotation))
    view = found, photos.identity[:count], turn, photos.head.rotation[:count]
    return tuple(float(jnp.mean(error)) for error in jax.lax.map(missed, view))


def _our_result(
    model: MorphableModel,
    fit_model: FitModel,
    photos: _Photos,
    seen: list[Observation],
    config: FitConfig,
) -> _Result:
    found, times = [], []
    for one in seen:
        begin = time.process_time()
        found.append(jax.block_until_ready(fit.fit_face(fit_model, one, config)).params)
        times.append(1e3 * (time.process_time() - begin))
    faces = jax.tree.map(lambda *x: jnp.stack(x), *found)
    errors = _errors(model, photos, faces.identity, faces.pose.rotation)
    return _Result(statistics.median(times), *errors)


def _mean_face_result(
    model: MorphableModel,
    fit_model: FitModel,
    photos: _Photos,
    seen: list[Observation],
    config: FitConfig,
) -> _Result:
    """The control: no shape at all, in the pose of the inner landmarks."""
    seen = stack_observations(seen)
    identity, head = evaluate.mean_faces(fit_model, seen, config)
    return _Result(None, *_errors(model, photos, identity, head.rotation))


def _eos_results(model: MorphableModel, photos: _Photos, suite: FitSuite) -> dict[str, _Result]:
    """What eos takes and misses, by what it is asked for; no numbers if not installed."""
    names = {
        f"eos, {count} iterations" + ", no contour" * (not uses_contour): (count, uses_contour)
        for count, uses_contour in suite.eos_fits
    }
    eos = _eos()
    if eos is None:
        return dict.fromkeys(names, _Result())
    peer = EosFit(eos, model, PICTURE)
    points = [peer.landmarks(photo.xy) for photo in photos.landmarks[: suite.num_faces]]
    results = {}
    for name, task in names.items():
        found, times = [], []
        label = f"{name}, {model.identity_sigma.shape[0]} modes"
        with command.progress(label, len(points)) as advance:
            for one in points:
                begin = time.process_time()
                result = peer.fit(one, *task)
                times.append(1e3 * (time.process_time() - begin))
                found.append(peer.face(result))
                advance()
        identity, rotation = (np.stack(x) for x in zip(*found, strict=True))
        errors = _errors(model, photos, identity, rotation)
        results[name] = _Result(statistics.median(times), *errors)
    return results


def _eos() -> ModuleType | None:
    return importlib.import_module("eos") if importlib.util.find_spec("eos") else None


def _scipy_median(model: FitModel, seen: list[Observation], config: FitConfig) -> float:
    """Median time of scipy's solver, as it comes, on the same energy from the same start.

    The peer's Jacobian is numerical, so its residual is compiled in float64: in float32 the
    differences drown in rounding. Compilation is not counted.
    """
    num_coefficients = model.landmark_rows.shape[-1] - 1

    @jax.jit
    def residual(start, one, flat):
        unknowns = residuals.split_unknowns(flat, num_coefficients)
        return residuals.residual(unknowns, model, start, one, config)

    times = []
    with jax.enable_x64(True):
        model, seen = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (model, seen))
        with command.progress(f"scipy, {num_coefficients} modes", len(seen)) as advance:
            for one in seen:
                start = fit.starting_pose(model, one, config)
                path = residuals.starting_path(model, start, config)
                first = np.concatenate([np.zeros(num_coefficients + 6), np.asarray(path)])
                missed = functools.partial(residual, start, one)
                missed(first).block_until_ready()
                begin = time.process_time()
                scipy.optimize.least_squares(lambda x: np.asarray(missed(x)), first)  # noqa: B023
                times.append(1e3 * (time.process_time() - begin))
                advance()
    return statistics.median(times)
