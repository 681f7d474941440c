"""Suite `fit` of `benchmark`: the Levenberg-Marquardt solve against scipy's on the same energy."""

import dataclasses
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from recon import assets, evaluate, fit, morphable, residuals
from recon.landmarks import Landmarks
from recon.pose import Pose
from recon.residuals import FitConfig, FitModel, Observation
from render.transforms import euler_rotation
from scripts import command
from scripts.measuring import Row, milliseconds

_BATCH = 256
_NOISE = evaluate.DetectorConfig(inner_px=3.0, contour_px=3.0, sliding_deg=3.0)


@dataclasses.dataclass(frozen=True)
class FitSuite:
    """Settings of the suite."""

    model: str = "default"
    method: str = "robust"
    num_faces: int = 20  # a time is the median of
    peer_faces: int = 3
    seed: int = 0


def fit_rows(suite: FitSuite) -> list[Row]:
    """Measures the fit with few modes and with all that the model has."""
    model = assets.load_model(suite.model)
    largest = model.identity_sigma.shape[0]
    return [
        row
        for num_identity in sorted({min(10, largest), largest})
        for row in _model_rows(
            morphable.with_modes(model, num_identity, use_expression=False), suite
        )
    ]


def _model_rows(model: morphable.MorphableModel, suite: FitSuite) -> list[Row]:
    """Times one photo, the peer on the same energy, and (for few modes) a batch."""
    config = fit.METHODS[suite.method]
    num_identity = model.identity_sigma.shape[0]
    case = f"fit, {suite.method}, {num_identity} modes"
    fit_model = fit.prepare(model)
    seen = [fit.observe(photo, config) for photo in _photos(model, _BATCH, suite.seed)]

    compile_ms = milliseconds(lambda: fit.fit_face(fit_model, seen[0], config))
    one_ms = statistics.median(
        milliseconds(lambda: fit.fit_face(fit_model, s, config))  # noqa: B023
        for s in seen[: suite.num_faces]
    )
    with command.progress(f"peer, {num_identity} modes", suite.peer_faces) as advance:
        peer_ms = []
        for s in seen[: suite.peer_faces]:
            peer_ms.append(_scipy_milliseconds(fit_model, s, config))
            advance()
    peer_ms = statistics.median(peer_ms)
    peer = ("scipy least_squares, 2-point", peer_ms, peer_ms / one_ms)
    rows = [
        Row(f"{case}, first call with compilation", compile_ms, "ms"),
        Row(f"{case}, one photo", one_ms, "ms", *peer),
    ]
    if num_identity <= 10:
        batch = jax.tree.map(lambda *x: jnp.stack(x), *seen)
        fit.fit_faces(fit_model, batch, config)
        each = milliseconds(lambda: fit.fit_faces(fit_model, batch, config)) / _BATCH
        rows.append(Row(f"{case}, each of {_BATCH}", each, "ms", peer[0], peer_ms, peer_ms / each))
    return rows


def _photos(model: morphable.MorphableModel, count: int, seed: int) -> list[Landmarks]:
    """Landmarks of random faces turned up to 30 degrees, about 500 pixels high."""
    keys = jax.random.split(jax.random.key(seed), 3)
    yaw = jnp.deg2rad(jax.random.uniform(keys[0], (count,), minval=-30.0, maxval=30.0))
    zero = jnp.zeros(count)
    head = Pose(
        rotation=jax.vmap(euler_rotation)(yaw, zero, zero),
        translation=jnp.tile(jnp.array([600.0, 450.0]), (count, 1)),
        scale=jnp.full(count, 4000.0),
    )
    identity = morphable.random_identity(keys[1], count, model.identity_sigma.shape[0])
    region = jnp.asarray(evaluate.face_region(model))
    detect = jax.jit(
        lambda k, i, h: jax.lax.map(
            lambda x: evaluate.detect(x[0], model, region, x[1], x[2], _NOISE), (k, i, h)
        )
    )
    xy = detect(jax.random.split(keys[2], count), identity, head)
    sigma = jnp.repeat(
        jnp.array([_NOISE.contour_px, _NOISE.inner_px]), jnp.array([17, 51]), total_repeat_length=68
    )
    return [Landmarks(xy=one, sigma_px=sigma) for one in xy]


def _scipy_milliseconds(model: FitModel, seen: Observation, config: FitConfig) -> float:
    """Time of scipy's solver, as it comes, on the same energy from the same start.

    The peer's Jacobian is numerical, so its residual is compiled in float64: in float32 the
    differences drown in rounding. Compilation is not counted.
    """
    with jax.enable_x64(True):
        model, seen = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (model, seen))
        start = fit.starting_pose(model, seen, config)
        path = residuals.starting_path(model, start, config)
        num = model.landmark_rows.shape[-1] - 1

        @jax.jit
        def residual(flat):
            coefficients, turn, shift, log_scale, p = jnp.split(flat, np.cumsum([num, 3, 2, 1]))
            unknowns = residuals.Unknowns(coefficients, turn, shift, log_scale[0], p)
            return residuals.residual(unknowns, model, start, seen, config)

        first = np.concatenate([np.zeros(num + 6), np.asarray(path)])
        residual(first).block_until_ready()
        begin = time.perf_counter()
        scipy.optimize.least_squares(lambda x: np.asarray(residual(x)), first, jac="2-point")
        return 1e3 * (time.perf_counter() - begin)
