"""What the suites of `benchmark` share: a line of the table, the clock, the machine."""

import dataclasses
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from numpy.typing import NDArray

from scripts.shell import command

_ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass
class Row:
    """One line of the table; `ratio` is the peer's value over ours."""

    case: str
    ours: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None


def against(case: str, ours: float, unit: str, peer: str, peer_value: float | None) -> Row:
    """A row beside a peer; one that is not installed has no value."""
    ratio = None if peer_value is None else peer_value / ours
    return Row(case, ours, unit, peer, peer_value, ratio)


def milliseconds(call: Callable, clock: Callable[[], float] = time.perf_counter) -> float:
    """Time of one call and what it computes.

    With `time.perf_counter` it is wall time; with `time.process_time` what the process used of the
    processor, all threads together: robust where others work on the same machine.
    """
    begin = clock()
    jax.block_until_ready(call())
    return 1e3 * (clock() - begin)


def median_milliseconds(
    call: Callable, repeats: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Median time, after a first call that is not counted."""
    jax.block_until_ready(call())
    return statistics.median(milliseconds(call, clock) for _ in range(repeats))


def run_peer(name: str, module: str, task: dict, data: NDArray, python: str | None = None) -> dict:
    """Runs a peer's program in a process of its own, and returns the last line that it prints.

    Args:
      name: of the peer.
      module: beside this file; it reads the task as its argument and the data as its input.
      task: JSON.
      data: float32.
      python: that has the peer; None for this one.

    Raises:
      WorkFailed: it ended otherwise than well.
    """
    line = [python or sys.executable, "-m", f"scripts.benchmarks.{module}", json.dumps(task)]
    try:
        done = subprocess.run(
            line, input=np.asarray(data, np.float32).tobytes(), capture_output=True, cwd=_ROOT
        )
    except OSError as error:
        raise command.WorkFailed(f"expected a time of {name}, found {error}") from None
    lines = (done.stderr if done.returncode else done.stdout).decode().strip().splitlines()
    if done.returncode:
        reason = lines[-1] if lines else f"status {done.returncode}"
        raise command.WorkFailed(f"expected a time of {name}, found {reason}")
    return json.loads(lines[-1])


def compile_anew() -> None:
    """Has what is called next be compiled, whatever was before, in this process or on disk."""
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # it looks at the setting at its first use only
    jax.clear_caches()


def use_cores(count: int) -> None:
    """Keeps this process on its first `count` cores; to be called before any array is made."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def machine() -> dict:
    """Says what was measured on."""
    available = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "cores_used": len(available),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "jax": jax.__version__,
    }
