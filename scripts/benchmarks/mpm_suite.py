"""Suite `mpm` of `benchmark`: the simulator against warp and taichi, on an elastic cube that falls.

All start from the same particles and take the same steps; where their cubes end is compared too.
"""

import dataclasses
import functools
import importlib.util
import math
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from scripts.benchmarks.measuring import (
    Row,
    against,
    compile_anew,
    median_milliseconds,
    milliseconds,
    run_peer,
)
from scripts.shell import command
from sim.boundary import BoundingBox, Conditions
from sim.grid import GridConfig
from sim.material import Material
from sim.mpm import MpmConfig, MpmState, initial_state, rollout

_SIDE = 0.4  # metres, in a box of one
_SPEED, _GRAVITY = -2.0, -9.8
_LOG_YOUNGS_MODULUS, _POISSON_RATIO, _DENSITY = math.log(1e5), 0.3, 1000.0
_DT = 1e-4

_PEERS = ("warp", "taichi")
_HEIGHT_TOLERANCE = 1e-3  # metres
_SLOPE_TOLERANCE = 0.01  # of the derivative


@dataclasses.dataclass(frozen=True)
class MpmSuite:
    """Settings of the suite."""

    # Law, particles, nodes per side.
    cases: tuple[tuple[str, int, int], ...] = (
        ("neo_hookean", 10_000, 32),
        ("neo_hookean", 50_000, 64),
        ("jelly", 10_000, 32),
    )
    num_substeps: int = 51  # of a rollout; with the first one, ten of them make 510
    repeats: int = 9
    gradient_case: tuple[str, int, int] = ("neo_hookean", 10_000, 32)
    num_gradient_steps: int = 32
    growth: tuple[int, ...] = (2_000, 20_000, 200_000)  # particles
    growth_nodes: int = 64
    growth_repeats: int = 3
    seed: int = 0


def mpm_rows(suite: MpmSuite) -> Iterator[Row]:
    """Measures steps, how their time grows with the particles, and steps with a gradient.

    Raises:
      WorkFailed: when a peer fails, its cube moves otherwise than ours, or ours leaves the grid.
    """
    for case in suite.cases:
        yield from _forward_rows(*case, suite)
    yield from _growth_rows(suite)
    yield from _gradient_rows(*suite.gradient_case, suite)


def _forward_rows(law: str, count: int, nodes: int, suite: MpmSuite) -> list[Row]:
    case, steps = f"mpm, {law}, {count} / {nodes}^3", (suite.repeats + 1) * suite.num_substeps
    fall = functools.partial(_fall, law=law, num_substeps=suite.num_substeps, nodes=nodes)
    state = _cube(count, nodes, suite.seed)
    with command.progress(case):
        compile_anew()
        first = milliseconds(lambda: fall(state))
        each, state = _timed(fall, state, suite.repeats)
    height = float(state.x[:, 2].mean())
    rows = [Row(f"{case}, first call with compilation", first, "ms")]
    for name in _PEERS:
        peer = _peer(name, law, count, nodes, suite)
        label = f"mean height after {steps} steps"
        _compare(name, label, height, peer.get("height"), _HEIGHT_TOLERANCE)
        peer_each = peer.get("milliseconds")
        rows += [
            against(f"{case}, a step", each / suite.num_substeps, "CPU-ms", name, peer_each),
            against(f"{case}, {label}", height, "m", name, peer.get("height")),
        ]
    return rows


def _gradient_rows(law: str, count: int, nodes: int, suite: MpmSuite) -> list[Row]:
    case, steps = f"mpm, {law}, {count} / {nodes}^3, with gradient", suite.num_gradient_steps

    def height(log_youngs_modulus, state):
        return jnp.mean(_fall(state, law, steps, nodes, log_youngs_modulus).x[:, 2])

    arguments = jnp.float32(_LOG_YOUNGS_MODULUS), _cube(count, nodes, suite.seed)
    program = jax.jit(jax.value_and_grad(height))
    with command.progress(case):
        compile_anew()
        begin = time.perf_counter()
        program = program.lower(*arguments).compile()  # it also tells of its memory
        slope = float(program(*arguments)[1])
        first = 1e3 * (time.perf_counter() - begin)
        each = median_milliseconds(lambda: program(*arguments), suite.repeats, time.process_time)
    memory = program.memory_analysis().temp_size_in_bytes / 1e6
    peer, label = _peer("warp", law, count, nodes, suite, steps), "d mean height / d log E"
    _compare("warp", label, slope, peer.get("slope"), _SLOPE_TOLERANCE * abs(slope))
    return [
        Row(f"{case}, first call with compilation", first, "ms"),
        against(f"{case}, a step", each / steps, "CPU-ms", "warp", peer.get("milliseconds")),
        Row(f"{case}, temporaries of {steps} steps", memory, "MB"),
        against(f"{case}, {label}", slope, "m", "warp", peer.get("slope")),
    ]


def _growth_rows(suite: MpmSuite) -> list[Row]:
    """Times of a step per thousand particles, and of one particle: the grid's, alike for all."""
    nodes, rows = suite.growth_nodes, []
    fall = functools.partial(_fall, law="neo_hookean", num_substeps=suite.num_substeps, nodes=nodes)
    for count in (1, *suite.growth):
        case = f"mpm, neo_hookean, {count} / {nodes}^3, a step"
        with command.progress(case):
            each, _ = _timed(fall, _cube(count, nodes, suite.seed), suite.growth_repeats)
        each /= suite.num_substeps
        if count == 1:
            rows.append(Row(f"{case} (the grid alone)", each, "CPU-ms"))
        else:
            rows.append(Row(f"{case}, per 1000 particles", 1e3 * each / count, "CPU-ms"))
    return rows


def _cube(count: int, nodes: int, seed: int) -> MpmState:
    """Random particles in a cube, half a cell above the ground, on its way down."""
    corner = np.array([0.3, 0.3, 3.5 / nodes])
    x = corner + _SIDE * np.random.default_rng(seed).random((count, 3))
    down = jnp.array([0.0, 0.0, _SPEED], jnp.float32)
    return initial_state(jnp.asarray(x, jnp.float32), _SIDE**3 / count, down)


def _fall(
    state: MpmState,
    law: str,
    num_substeps: int,
    nodes: int,
    log_youngs_modulus: jax.Array | float = _LOG_YOUNGS_MODULUS,
) -> MpmState:
    material = Material(
        ((law, len(state.x)),), jnp.float32(log_youngs_modulus), _POISSON_RATIO, _DENSITY
    )
    conditions = Conditions(jnp.array([0.0, 0.0, _GRAVITY], jnp.float32), (BoundingBox(),))
    return rollout(state, material, conditions, _DT, num_substeps, MpmConfig(GridConfig(nodes)))


def _timed(fall: Callable, state: MpmState, repeats: int) -> tuple[float, MpmState]:
    """CPU-milliseconds of a rollout, the median of those that go on one from the other; the end."""

    def go_on():
        nonlocal state
        state = fall(state)
        return state

    each = median_milliseconds(go_on, repeats, time.process_time)
    if state.out_of_grid:
        raise command.WorkFailed(f"expected {len(state.x)} particles in the grid, found some out")
    return each, state


def _peer(
    name: str, law: str, count: int, nodes: int, suite: MpmSuite, num_gradient_steps: int = 0
) -> dict:
    """What `<name>_mpm.py` measures, in a process of its own; nothing if not installed."""
    if importlib.util.find_spec(name) is None:
        return {}
    state = _cube(count, nodes, suite.seed)
    task = {
        "law": law,
        "num_nodes": nodes,
        "dt": _DT,
        "speed": _SPEED,
        "gravity": _GRAVITY,
        "volume": _SIDE**3 / count,
        "density": _DENSITY,
        "log_youngs_modulus": _LOG_YOUNGS_MODULUS,
        "poisson_ratio": _POISSON_RATIO,
        "num_substeps": suite.num_substeps,
        "repeats": suite.repeats,
        "num_gradient_steps": num_gradient_steps,
    }
    label = f"{name}, {law}, {count} / {nodes}^3" + ", with gradient" * (num_gradient_steps > 0)
    with command.progress(label):
        return run_peer(name, f"{name}_mpm", task, np.asarray(state.x))


def _compare(name: str, what: str, ours: float, theirs: float | None, tolerance: float) -> None:
    if theirs is not None and not abs(theirs - ours) <= tolerance:  # not so for NaN
        raise command.WorkFailed(
            f"expected the {what} of {name} within {tolerance:.2g} of our {ours:.6g}, "
            f"found {theirs:.6g}"
        )
