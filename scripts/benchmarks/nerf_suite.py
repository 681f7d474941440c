"""Suite `nerf` of `benchmark`: a step of a radiance field, against nerfstudio's hash encoding.

Both shoot the same rays through the unit cube, look at the same evenly spaced samples, add them up
and take a step of Adam. Ours is the field that `train_nerf` learns, with codes of style and
appearance, which the peer's lacks.
"""

import dataclasses
import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from models.nerf.field import Codes, NerfConfig, init_field, query
from models.nerf.hashgrid import HashGridConfig
from models.nerf.train import PRESETS, RayBatch, compiled_step, init_state
from render.camera import Rays, orbit
from render.stages import compiled
from render.volume import composite_samples, midpoints, points_along
from scripts.benchmarks.measuring import (
    Row,
    against,
    median_milliseconds,
    milliseconds,
    run_peer,
)
from scripts.shell import command

_PEER = "nerfstudio's HashEncoding in PyTorch"
_FLOOR = "what was asked, 0.5 s"
_FLOOR_MS = 500.0
_LENGTH = 0.5  # of a ray, in sides of the cube
_LOSS_TOLERANCE = 0.2  # of the first loss: fields that know nothing yet are grey, whoever's


@dataclasses.dataclass(frozen=True)
class NerfSuite:
    """Settings of the suite."""

    rays: int = 4096
    samples: int = 64  # of a ray
    few_samples: int = 16  # laid where an occupancy grid says
    levels: int = 16
    log2_entries: tuple[int, ...] = (16, 19)
    finest: int = 2048
    repeats: int = 9
    stretches: int = 3  # of the training's steps: one look at the occupancy grid each
    peer_repeats: int = 3
    peer_python: str | None = None  # that has nerfstudio; None for this one
    seed: int = 0


class Beams(NamedTuple):
    """Rays that start in the unit cube and are seen to have some colours."""

    origins: np.ndarray  # [R, 3] float32
    directions: np.ndarray  # [R, 3] unit length
    colors: np.ndarray  # [R, 3] in [0, 1]


def nerf_rows(suite: NerfSuite) -> Iterator[Row]:
    """Measures steps with tables of several sizes, of few samples, and of the small preset.

    Raises:
      WorkFailed: when the peer fails, or does something else.
    """
    beams = draw_beams(suite)
    for log2_entries in suite.log2_entries:
        yield from _step_rows(beams, log2_entries, suite)
    yield from _few_rows(beams, suite)
    yield from _training_rows(beams, suite)


def draw_beams(suite: NerfSuite) -> Beams:
    """Draws rays in any direction that stay in the unit cube for `_LENGTH`."""
    rng = np.random.default_rng(suite.seed)
    middles = rng.uniform(0.3, 0.7, (suite.rays, 3))
    directions = rng.normal(size=(suite.rays, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    origins = middles - 0.5 * _LENGTH * directions
    return Beams(*map(np.float32, (origins, directions, rng.random((suite.rays, 3)))))


def field_step(suite: NerfSuite, log2_entries: int) -> tuple[Callable, tuple]:
    """Returns our step, compiled, and the parameters and moments it starts with."""
    grid = HashGridConfig(levels=suite.levels, log2_entries=log2_entries, finest=suite.finest)
    config = NerfConfig(grid=grid, background="none")
    adam = optax.adam(1e-2, b2=0.99, eps=1e-15)

    def loss(params, beams: Beams):
        rays = Rays(beams.origins, beams.directions)
        edges = jnp.linspace(0.0, _LENGTH, suite.samples + 1)
        t = jnp.broadcast_to(edges, (suite.rays, suite.samples + 1))
        codes = Codes(jnp.zeros(suite.rays), jnp.full((suite.rays, config.appearance), 0.5))
        seen = query(params, points_along(rays, midpoints(t)), rays.directions, codes, config)
        return jnp.mean((composite_samples(seen.density, seen.rgb, t).rgb - beams.colors) ** 2)

    def step(params, moments, beams):
        value, gradient = jax.value_and_grad(loss)(params, beams)
        update, moments = adam.update(gradient, moments)
        return optax.apply_updates(params, update), moments, value

    params = init_field(jax.random.key(suite.seed), config)
    return compiled(step, donate_argnums=(0, 1)), (params, adam.init(params))


def _step_rows(beams: Beams, log2_entries: int, suite: NerfSuite) -> list[Row]:
    case = _case(log2_entries, suite)
    first, each, loss = _timed(beams, log2_entries, suite)
    peer = _peer(beams, log2_entries, suite)
    theirs = peer.get("loss")
    if theirs is not None and not abs(theirs / loss - 1) < _LOSS_TOLERANCE:
        raise command.WorkFailed(
            f"expected a first loss of nerfstudio within {_LOSS_TOLERANCE:.0%} of our "
            f"{loss:.4g}, found {theirs:.4g}"
        )
    return [
        Row(f"{case}, first call with compilation", first, "ms"),
        against(f"{case}, a step", each, "CPU-ms", _PEER, peer.get("milliseconds")),
    ]


def _few_rows(beams: Beams, suite: NerfSuite) -> list[Row]:
    few, log2_entries = dataclasses.replace(suite, samples=suite.few_samples), suite.log2_entries[0]
    _, each, _ = _timed(beams, log2_entries, few)
    case = _case(log2_entries, few)
    return [against(f"{case}, a step", each, "CPU-ms", _FLOOR, _FLOOR_MS)]


def _case(log2_entries: int, suite: NerfSuite) -> str:
    size = f"{suite.rays} x {suite.samples} samples"
    return f"nerf, {size}, {suite.levels} tables of 2^{log2_entries}"


def _timed(beams: Beams, log2_entries: int, suite: NerfSuite) -> tuple[float, float, float]:
    """Milliseconds of the first step, CPU-milliseconds of one, and the loss before the first."""
    step, state = field_step(suite, log2_entries)
    losses = []

    def go_on():
        nonlocal state  # each step gives the last one's state away
        *state, loss = step(*state, beams)
        losses.append(loss)
        return loss

    with command.progress(_case(log2_entries, suite)):
        first = milliseconds(go_on)
        each = median_milliseconds(go_on, suite.repeats, time.process_time)
    return first, each, float(losses[0])


def _training_rows(beams: Beams, suite: NerfSuite) -> list[Row]:
    config, how = PRESETS["small"]
    config = dataclasses.replace(config, samples=suite.few_samples)
    how = dataclasses.replace(how, rays=suite.rays)
    step, key = compiled_step(config, how), jax.random.key(suite.seed)
    state = init_state(key, orbit(np.zeros(3), 1.0, 8, 64, 64), config)
    one, zero = np.ones(suite.rays, np.float32), np.zeros(suite.rays, np.float32)
    rays = Rays(beams.origins, beams.directions)
    batch = RayBatch(rays, np.int32(zero), zero, beams.colors, coverage=one, weight=one)

    def stretch():
        nonlocal state
        for _ in range(how.grid_every):
            state, report = step(key, state, batch, np.float32(0.5))
        return report.loss

    case = f"nerf, {suite.rays} x {suite.few_samples} samples, small preset"
    with command.progress(case):
        each = median_milliseconds(stretch, suite.stretches, time.process_time)
    each /= how.grid_every
    return [against(f"{case}, a step of its training", each, "CPU-ms", _FLOOR, _FLOOR_MS)]


def _peer(beams: Beams, log2_entries: int, suite: NerfSuite) -> dict:
    """What `nerfstudio_nerf.py` measures, in a process of its own; nothing if not installed."""
    if suite.peer_python is None and importlib.util.find_spec("nerfstudio") is None:
        return {}
    task = {
        "num_samples": suite.samples,
        "length": _LENGTH,
        "num_levels": suite.levels,
        "log2_entries": log2_entries,
        "finest": suite.finest,
        "repeats": suite.peer_repeats,
    }
    with command.progress(f"nerfstudio, 2^{log2_entries}"):
        rays = np.stack(beams)
        return run_peer("nerfstudio", "nerfstudio_nerf", task, rays, suite.peer_python)
