r"""Measures speed against named peers, in one run on one machine.

Example (about two minutes on two cores; --num_faces and --repeats make it shorter or steadier):

  python -m scripts.benchmark --suite=fit --out=out/benchmark

Suites:
  fit   the Levenberg-Marquardt solve of one photo, compiled, at 10 modes and at all of the model,
        and of a batch of 256, against scipy's least_squares with a 2-point numerical Jacobian on
        the same energy (what the thesis ran).

It writes benchmark.json, {"machine", "rows": [{"case", "ours", "peer", "peer_value", "ratio",
"unit"}]}, and prints the same as a table. A ratio is peer over ours: above one, ours is faster.
Times are medians in milliseconds; compile time is a row of its own.
"""

import dataclasses
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from absl import flags

from recon import assets, evaluate, fit, morphable, residuals
from recon.landmarks import Landmarks
from recon.pose import Pose
from recon.residuals import FitConfig, FitModel, Observation
from render import files_io
from render.transforms import euler_rotation
from scripts import command

_SUITE = flags.DEFINE_enum("suite", "all", ["fit", "all"], "What to measure.")
_MODEL = flags.DEFINE_string("model", "default", "Morphable model: default, or a file.")
_METHOD = flags.DEFINE_enum("method", "robust", list(fit.METHODS), "Method of the fit.")
_NUM_FACES = flags.DEFINE_integer("num_faces", 20, "Faces a time is the median of.", lower_bound=1)
_PEER_FACES = flags.DEFINE_integer(
    "peer_faces", 3, "Faces that the slow peer fits too.", lower_bound=1
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the faces and of the detector's noise.")
_OUT = flags.DEFINE_string("out", "out/benchmark", "Folder for benchmark.json.")

_BATCH = 256
_NOISE = evaluate.DetectorConfig(inner_px=3.0, contour_px=3.0, sliding_deg=3.0)


@dataclasses.dataclass
class Row:
    """One line of the table; `ratio` is the peer's time over ours."""

    case: str
    ours: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None


def main() -> None:
    folder = command.writable_folder(_OUT.value)
    model = assets.load_model(_MODEL.value)
    largest = model.identity_sigma.shape[0]
    rows = []
    for num_identity in sorted({min(10, largest), largest}):
        rows += _fit_rows(morphable.with_modes(model, num_identity, use_expression=False))
    report = {"machine": _machine(), "rows": [dataclasses.asdict(row) for row in rows]}
    path = pathlib.Path(folder) / "benchmark.json"
    files_io.write_json(path, report)
    for row in rows:
        peer = "" if row.peer is None else f"  {row.peer} {row.peer_value:.4g}, {row.ratio:.3g}x"
        print(f"{row.case:<44} {row.ours:10.4g} {row.unit:<8}{peer}")
    best = max(row.ratio for row in rows if row.ratio)
    print(f"wrote {path}: up to {best:.0f} times the speed of the peer")


def _fit_rows(model: morphable.MorphableModel) -> list[Row]:
    """Times one photo, the peer on the same energy, and (for few modes) a batch."""
    config = fit.METHODS[_METHOD.value]
    num_identity = model.identity_sigma.shape[0]
    case = f"fit, {_METHOD.value}, {num_identity} modes"
    fit_model = fit.prepare(model)
    seen = [fit.observe(photo, config) for photo in _photos(model, _BATCH)]

    compile_ms = _milliseconds(lambda: fit.fit_face(fit_model, seen[0], config))
    one_ms = statistics.median(
        _milliseconds(lambda: fit.fit_face(fit_model, s, config))  # noqa: B023
        for s in seen[: _NUM_FACES.value]
    )
    with command.progress(f"peer, {num_identity} modes", _PEER_FACES.value) as advance:
        peer_ms = []
        for s in seen[: _PEER_FACES.value]:
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
        each = _milliseconds(lambda: fit.fit_faces(fit_model, batch, config)) / _BATCH
        rows.append(Row(f"{case}, each of {_BATCH}", each, "ms", peer[0], peer_ms, peer_ms / each))
    return rows


def _photos(model: morphable.MorphableModel, count: int) -> list[Landmarks]:
    """Landmarks of random faces turned up to 30 degrees, about 500 pixels high."""
    keys = jax.random.split(jax.random.key(_SEED.value), 3)
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


def _milliseconds(call: Callable) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(call())
    return 1e3 * (time.perf_counter() - begin)


def _machine() -> dict:
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


if __name__ == "__main__":
    command.run(main)
