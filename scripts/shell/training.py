"""The shape of a training run: a folder that is begun once and gone on with until it is finished.

A learner brings a step, a batch and a score; here are the loop and the folder:

  config.json              the settings, from the start
  checkpoint.safetensors   the state, every minute or two and at the end
  metrics.csv              step, seconds, loss and scores, row by row as they are known

Steps are counted from zero. What a step does depends on the state, the step's number and the
share of the training that is done, so a run that was killed at any step and gone on with ends with
the same numbers as one that was not; a limit of time alone makes it depend on the machine.
"""

import collections
import dataclasses
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from render import files_io, frames
from scripts.shell import command, metrics_io, stopping
from scripts.shell.checkpoint_io import Header, read_checkpoint, read_header, write_checkpoint
from scripts.shell.compile_time import compile_seconds
from scripts.shell.metrics_io import Row
from scripts.shell.settings import as_json, check_settings, write_settings

State = TypeVar("State")  # pytree with a leaf .step, the number of steps taken
Batch = TypeVar("Batch")
Step = Callable[[State, Batch, float], tuple[State, Any]]

_AHEAD = 4  # steps given to the device before the loop waits for the first of them
_MARGIN = 1.25  # room for what needs grow by until they grow again


class Run(NamedTuple):
    """What a folder holds, and what a further sitting starts from."""

    state: Any  # pytree with .step
    seconds: float  # of learning, all sittings: without compiling, scores and first steps
    history: list[Row]  # rows of metrics.csv
    settings: dict[str, Any]  # JSON: what has to agree when the training goes on


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How long `train` goes on, and how often it looks up from its steps."""

    steps: int
    minutes: float | None = None  # of learning; ends the training if the steps take longer
    report_every: int = 50  # steps between rows of metrics.csv; the loss is fetched for them alone
    evaluate_every: int = 1000  # steps between scores
    checkpoint_seconds: float = 120.0


def open_run(
    folder: str | os.PathLike, settings: dict[str, Any], first: Callable[[], State]
) -> Run:
    """Starts a run in `folder`, or goes on with the one that it holds.

    A run is gone on with when `settings` are those it was begun with, the number of steps among
    them: rates follow the share of the training that is done, and would jump if its length
    changed. Rows of metrics.csv from beyond the checkpoint are left out; their steps come again.

    Args:
      folder: made when missing.
      settings: all that the state after a number of steps depends on. Written to config.json with
        what else `write_settings` knows.
      first: makes the state before the first step.

    Raises:
      ValueError: the folder holds a run of other settings, or files of one without its settings.
    """
    folder = pathlib.Path(folder)
    config, checkpoint = folder / "config.json", folder / "checkpoint.safetensors"
    settings = as_json(settings)
    if config.exists():
        check_settings(folder, files_io.read_object(config, "settings"), settings)
    else:
        for path in (checkpoint, folder / "metrics.csv"):
            if path.exists():
                raise ValueError(f"expected config.json beside {path}, found none")
        write_settings(folder, **settings)
    if not checkpoint.exists():
        return Run(jax.device_put(first()), 0.0, [], settings)
    header = read_header(checkpoint)
    check_settings(folder, header.settings, settings)
    like = jax.eval_shape(lambda state: state, first())  # lets its arrays go
    state = jax.device_put(read_checkpoint(checkpoint, like))
    rows = metrics_io.read_rows(folder / "metrics.csv")
    history = [row for row in rows if row["step"] <= header.step]
    return Run(state, header.seconds, history, settings)


def train(
    run: Run,
    step: Step,
    batch_of: Callable[[int], Batch],
    evaluate: Callable[[State], dict[str, float]] | None,
    folder: str | os.PathLike,
    loop: LoopConfig,
) -> Run:
    """Takes the steps that a run still lacks, and keeps its folder up to date.

    Ctrl-C and SIGTERM end it after the step that is running, with a checkpoint. Inside a block of
    `stopping.noted` it returns then, so that the command can still write what was learnt; a second
    signal stops at once.

    Args:
      run: from `open_run`. A step that donates its state takes that of `run` too.
      step: takes the state, a batch and the share of the training that is done, in [0, 1); returns
        the next state and a report with a `loss` [], and perhaps `scores`, numbers
        by name. See `with_room` for steps that may overflow.
      batch_of: the batch of a step's number; random choices follow from a seed and that number.
      evaluate: scores of a state by name, or None.
      folder: of the run.
      loop: how long, and how often what.

    Raises:
      command.WorkFailed: a loss is not finite, or the state holds NaN; the last checkpoint stays.
      stopping.Stopped: a signal came; the checkpoint is written.
    """
    folder = pathlib.Path(folder)
    state, seconds, history, settings = run
    number = int(state.step)
    if _share(number, seconds, loop) >= 1:
        command.say(f"the training is finished: {number} steps in {seconds:.0f} s")
        return run
    if number:
        command.say(f"going on from step {number}")
    history, losses, note, saved = list(history), [], "", seconds
    metrics_io.write_rows(folder / "metrics.csv", history)
    bar = command.progress("training", loop.steps, number)
    with stopping.noted() as stop, bar as advance:
        for number, seconds, state, report in _steps(run, step, batch_of, loop, stop):
            losses.append(report.loss)
            is_scored = evaluate is not None and number % loop.evaluate_every == 0
            if is_scored or number % loop.report_every == 0 or number == loop.steps:
                row = {"step": number, "seconds": seconds, "loss": _take_loss(losses, number)}
                row |= _scores_of(report)
                history.append(row | (evaluate(state) if is_scored else {}))
                note = _report(folder, history, is_scored)
            if seconds - saved >= loop.checkpoint_seconds:
                _save(folder, state, losses, Header(number, seconds, settings))
                saved = seconds
            advance(note)
        _save(folder, state, losses, Header(number, seconds, settings))
        stop.keep(f"step {number} in {folder} (the same command goes on from there)")
    return Run(state, seconds, history, settings)


def _steps(
    run: Run, step: Step, batch_of: Callable[[int], Batch], loop: LoopConfig, stop: stopping.Stop
) -> Iterator[tuple[int, float, State, Any]]:
    """Takes steps until the training is done or is to stop.

    Yields:
      After each step: the number of steps taken, the run's seconds, the state, and the report,
      whose numbers are on the device.
    """
    state, seconds = run.state, run.seconds
    first = number = int(state.step)
    ahead = collections.deque()
    with compile_seconds() as compiling:
        while not stop and (share := _share(number, seconds, loop)) < 1:
            start = time.perf_counter() - compiling()
            state, report = step(state, batch_of(number), share)
            number += 1
            ahead.append(report.loss)
            # Keeps the clock true, while the device always has work.
            if len(ahead) > _AHEAD or number == first + 1:
                jax.block_until_ready(ahead.popleft())
            if number > first + 1:  # the first one loads what was compiled
                seconds += time.perf_counter() - compiling() - start
            yield number, seconds, state, report


def check_learnt(run: Run, loop: LoopConfig, seen_per_step: int, total: int) -> None:
    """Checks that a run which was ended early saw each example once; to be called last.

    Raises:
      command.WorkFailed: it did not, so nothing was learnt that deserves the name.
    """
    number = int(run.state.step)
    if number < loop.steps and number * seen_per_step < total:
        raise command.WorkFailed(
            f"nothing was learnt: expected to see each of {total} photos once, found {number} "
            f"steps in {run.seconds:.1f} s of learning; --minutes and --steps say how long"
        )


def with_room(step_of: Callable[[int], Step], capacity: int) -> Step:
    """Makes a step of one that may run out of room: it is repeated with more until it is taken.

    It asks the device after each step, so only learners whose steps may overflow should use it.

    Args:
      step_of: the step compiled for a static capacity. Its report has `overflow` [] and `needed`
        [], the capacity that would do; a step that overflows returns the state as it was.
      capacity: to begin with.
    """

    def step(state: State, batch: Batch, share: float) -> tuple[State, Any]:
        nonlocal capacity  # what one step learns serves the next

        def take(room: int) -> Any:
            nonlocal state
            state, report = step_of(room)(state, batch, share)
            return report

        report, capacity = frames.with_room(take, capacity, _MARGIN, _say_growth)
        return state, report

    return step


def _say_growth(capacity: int) -> None:
    command.say(f"room for {capacity} from now on")


def split_cpu(max_devices: int) -> None:
    """Makes JAX see the cores of a CPU as devices, before it is asked for any.

    Other platforms are left alone, and so is whoever sets XLA_FLAGS.
    """
    if jax.config.jax_platforms in (None, "cpu") and "XLA_FLAGS" not in os.environ:
        jax.config.update("jax_num_cpu_devices", min(max_devices, os.cpu_count() or 1))


def _share(number: int, seconds: float, loop: LoopConfig) -> float:
    """Share of the training that is done before the step of that number."""
    share = number / loop.steps
    return share if loop.minutes is None else max(share, seconds / (60 * loop.minutes))


def _take_loss(losses: list[jax.Array], number: int) -> float:
    """Fetches the losses of the last steps up to `number`, empties the list, returns the last.

    Raises:
      command.WorkFailed: one of them is not finite.
    """
    values = np.asarray(jax.device_get(losses), np.float64)
    losses.clear()
    for step, value in enumerate(values, number - len(values)):
        if not np.isfinite(value):
            raise command.WorkFailed(
                f"the training diverged: expected a finite loss, found {value} in step {step}, "
                f"seen after step {number - 1}; the last checkpoint is kept"
            )
    return float(values[-1])


def _scores_of(report: Any) -> dict[str, float]:
    """Fetches the scores that a step reports, if it does."""
    scores = getattr(report, "scores", None)
    return {name: float(value) for name, value in jax.device_get(scores).items()} if scores else {}


def _report(folder: pathlib.Path, history: list[Row], is_scored: bool) -> str:
    """Adds the last row to metrics.csv, prints it if that is asked, and returns a short note."""
    metrics_io.append_row(folder / "metrics.csv", history)
    row = dict(history[-1])
    number, seconds = row.pop("step"), row.pop("seconds")
    texts = [f"{name} {value:.4g}" for name, value in row.items()]
    if is_scored:
        command.say(f"step {number}, {seconds:.0f} s: {', '.join(texts)}")
    return ", ".join(texts[:2])


def _save(folder: pathlib.Path, state: State, losses: list[jax.Array], header: Header) -> None:
    """Writes a checkpoint, unless what it would keep is spoilt.

    Raises:
      command.WorkFailed: a loss is not finite, or there is NaN in the state.
    """
    if losses:
        _take_loss(losses, header.step)
    state = jax.device_get(state)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jax.dtypes.issubdtype(leaf.dtype, np.inexact) and np.isnan(leaf).any():
            raise command.WorkFailed(
                f"the training diverged: found NaN in {jax.tree_util.keystr(path)} after step "
                f"{header.step - 1}; the last checkpoint is kept"
            )
    write_checkpoint(folder / "checkpoint.safetensors", state, header)
