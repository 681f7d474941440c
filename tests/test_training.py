"""A training that was killed at any step ends as one that was not; other settings are refused."""

import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import types
import typing

import jax
import jax.numpy as jnp
import linear_learner
import numpy as np
import pytest
from absl import flags
from linear_learner import LOOP, SETTINGS, batch_of, first_state, line_step, sitting

from scripts.shell import command, metrics_io, stopping, training
from scripts.shell.checkpoint_io import read_header

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def parsed_flags():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def killed(folder, step, number):
    """Trains in a process of its own, which gets a signal before the step."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    environment["XLA_FLAGS"] = ""
    line = [sys.executable, ROOT / "tests" / "linear_learner.py", folder, step, number]
    return subprocess.run([str(word) for word in line], env=environment, capture_output=True)


def content(folder):
    """What a run leaves, without its seconds: header, bytes of the tensors, rows."""
    path = folder / "checkpoint.safetensors"
    data = path.read_bytes()
    size = 8 + int.from_bytes(data[:8], "little")
    rows = metrics_io.read_rows(folder / "metrics.csv")
    for row in rows:
        del row["seconds"]
    return read_header(path)._replace(seconds=0), data[size:], rows


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    sitting(folder)
    return content(folder)


def test_killed_at_random_steps_and_resumed_a_run_ends_with_the_same_bytes(tmp_path, uninterrupted):
    steps = sorted(random.sample(range(12, LOOP.steps), 3))
    for step, number in zip(steps, (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL), strict=True):
        done = killed(tmp_path, step, number)
        is_killed = number == signal.SIGKILL
        assert done.returncode == (-9 if is_killed else 143), (step, done.stderr)
        # A signal that can be heard lets its step be taken; else the last checkpoint stays.
        reached = read_header(tmp_path / "checkpoint.safetensors").step
        assert step - 8 < reached <= step if is_killed else reached == step + 1
    sitting(tmp_path)
    header, tensors, rows = content(tmp_path)
    assert header == uninterrupted[0] and header.step == LOOP.steps
    assert tensors == uninterrupted[1]
    assert rows == uninterrupted[2]
    assert [row["step"] for row in rows] == list(range(5, 61, 5))
    assert [row["step"] for row in rows if "slope_error" in row] == [20, 40, 60]
    assert rows[-1]["loss"] < 0.1 * rows[0]["loss"]


def interrupted(folder, step, number):
    def signalling_batch(at):
        if at == step:
            os.kill(os.getpid(), number)
        return batch_of(at)

    return sitting(folder, signalling_batch)


def test_ctrl_c_takes_the_step_saves_and_returns_what_was_learnt(tmp_path, capsys, uninterrupted):
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(stopping.Stopped) as caught, stopping.noted():
        run = interrupted(tmp_path, 33, signal.SIGINT)
    assert int(run.state.step) == 34 == read_header(tmp_path / "checkpoint.safetensors").step
    assert "step 34 in" in caught.value.__notes__[0]
    assert signal.getsignal(signal.SIGINT) is handler
    sitting(tmp_path)
    assert "going on from step 34\n" in capsys.readouterr().out
    assert content(tmp_path) == uninterrupted


def test_a_second_ctrl_c_stops_at_once_and_leaves_the_checkpoint(tmp_path):
    def impatient_batch(at):
        if at == 33:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return batch_of(at)

    with pytest.raises(KeyboardInterrupt):
        sitting(tmp_path, impatient_batch)
    assert 33 - 8 < read_header(tmp_path / "checkpoint.safetensors").step <= 33


def test_a_finished_run_says_so_and_takes_no_step(tmp_path, capsys, uninterrupted):
    sitting(tmp_path)
    capsys.readouterr()
    run = sitting(tmp_path, step=None)
    assert "the training is finished: 60 steps" in capsys.readouterr().out
    assert int(run.state.step) == 60 and len(run.history) == 12
    assert run.state.params["slope"].dtype == jnp.bfloat16
    assert content(tmp_path) == uninterrupted


def nan_from(first, value=np.nan):
    def step(state, batch, share):
        taken = int(state.step)
        state, report = line_step(state, batch, share)
        return state, linear_learner.LineReport(value if taken >= first else report.loss)

    return step


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("first, seen, kept", [(16, 19, 15), (13, 14, 8), (58, 59, 57)])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path, value, first, seen, kept
):
    line = f"found {value} in step {first}, seen after step {seen}; the last checkpoint is kept"
    with pytest.raises(command.WorkFailed, match=line):
        sitting(tmp_path, step=nan_from(first, value))
    assert read_header(tmp_path / "checkpoint.safetensors").step == kept


def test_a_state_with_nan_is_not_kept_though_its_loss_was_finite(tmp_path):
    def step(state, batch, share):
        state, report = line_step(state, batch, share)
        if int(state.step) == 15:
            state = state.replace(params=state.params | {"slope": jnp.bfloat16(jnp.nan)})
        return state, report

    line = r"found NaN in .params\['slope'\] after step 14"
    with pytest.raises(command.WorkFailed, match=line):
        sitting(tmp_path, step=step)
    assert read_header(tmp_path / "checkpoint.safetensors").step == 8


@pytest.mark.parametrize(
    "settings, line",
    [
        ({"seed": 4}, "seed of 3, found 4: name another --out"),
        ({"rates": {"first": 0.2}}, "rates.first of 0.1, found 0.2"),
        ({"steps": 80}, "steps of 60, found 80"),
        ({"warm_up": 1}, "warm_up of None, found 1"),
    ],
)
@pytest.mark.parametrize("has_checkpoint", [True, False])
def test_a_folder_with_a_run_of_other_settings_is_refused_untouched(
    tmp_path, settings, line, has_checkpoint
):
    run = training.open_run(tmp_path, SETTINGS, first_state)
    if has_checkpoint:
        training.train(run, line_step, batch_of, None, tmp_path, LOOP)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=line):
        training.open_run(tmp_path, SETTINGS | settings, first_state)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_checkpoint_of_another_run_is_refused_though_the_folder_agrees(tmp_path):
    sitting(tmp_path / "a")
    training.open_run(tmp_path / "b", SETTINGS | {"seed": 4}, first_state)
    checkpoint = tmp_path / "a" / "checkpoint.safetensors"
    checkpoint.rename(tmp_path / "b" / checkpoint.name)
    with pytest.raises(ValueError, match="seed of 3, found 4"):
        training.open_run(tmp_path / "b", SETTINGS | {"seed": 4}, first_state)


def test_the_settings_are_there_from_the_start_with_flags_versions_and_device(tmp_path):
    training.open_run(tmp_path, SETTINGS | {"limit": float("inf")}, first_state)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["rates"] == {"first": 0.1} and config["limit"] == "inf"
    assert config["versions"]["jax"] == jax.__version__
    assert config["device"]["count"] == jax.device_count()
    training.open_run(tmp_path, SETTINGS | {"limit": float("inf")}, first_state)


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "metrics.csv"])
def test_files_of_a_run_without_its_settings_are_not_overwritten(tmp_path, name):
    (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=f"expected config.json beside .*{name}, found none"):
        training.open_run(tmp_path, SETTINGS, first_state)


class CountedLoss:
    """A loss on a device that counts how often it is fetched."""

    fetched: typing.ClassVar[list] = []

    def __array__(self, dtype=None, copy=None):
        self.fetched.append(self)
        return np.array(1.0)

    def block_until_ready(self):
        return self


def test_losses_are_fetched_once_a_row_and_the_state_for_checkpoints_alone(tmp_path, monkeypatch):
    calls = []
    device_get = jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda tree: calls.append(tree) or device_get(tree))
    fetched_after = []

    def step(state, batch, share):
        fetched_after.append(len(CountedLoss.fetched))
        return state, linear_learner.LineReport(CountedLoss())

    loop = training.LoopConfig(steps=100, report_every=25, checkpoint_seconds=1e9)
    run = training.open_run(tmp_path, SETTINGS, lambda: {"step": 0})
    run = run._replace(state=types.SimpleNamespace(step=0))
    monkeypatch.setattr(training, "_save", lambda *_: None)
    training.train(run, step, batch_of, None, tmp_path, loop)
    assert fetched_after == [25 * (number // 25) for number in range(100)]
    assert len(calls) == 4


def test_minutes_count_all_sittings_and_leave_out_each_first_step(tmp_path):
    loop = training.LoopConfig(steps=1000, minutes=0.5, report_every=5, checkpoint_seconds=1e9)
    shares = []

    def step(state, batch, share):
        shares.append(share)
        return line_step(state, batch, share)

    def stopping_batch(at):
        if at == 11:
            os.kill(os.getpid(), signal.SIGINT)
        return batch_of(at)

    with pytest.raises(stopping.Stopped), stopping.noted():
        run = sitting(tmp_path, stopping_batch, step, loop, None)
    assert int(run.state.step) == 12 and run.seconds == 11  # a second each, but the first
    run = sitting(tmp_path, batch_of, step, loop, None)
    assert run.seconds == 30 and int(run.state.step) == 12 + 1 + 19
    assert shares[-1] == 29 / 30 and shares == sorted(shares)


def test_minutes_leave_out_compiling_and_scoring(tmp_path, monkeypatch):
    now, compiled = [0.0], [0.0]
    clock = types.SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr(training, "time", clock)
    counter = contextlib.nullcontext(lambda: compiled[0])
    monkeypatch.setattr(training, "compile_seconds", lambda: counter)

    def step(state, batch, share):
        now[0] += 1
        if int(state.step) == 7:  # a program is made anew
            now[0] += 100
            compiled[0] += 100
        return line_step(state, batch, share)

    def score(state):
        now[0] += 1000
        return {}

    loop = training.LoopConfig(steps=1000, minutes=0.5, evaluate_every=5)
    run = training.open_run(tmp_path, SETTINGS, first_state)
    run = training.train(run, step, batch_of, score, tmp_path, loop)
    assert run.seconds == 30 and int(run.state.step) == 31


def test_a_run_that_was_ended_before_it_saw_everything_learnt_nothing():
    run = training.Run(types.SimpleNamespace(step=4), 1.5, [], {})
    loop = training.LoopConfig(steps=60, minutes=0.1)
    training.check_learnt(run, loop, 2, 8)
    training.check_learnt(run, training.LoopConfig(steps=4), 2, 9)  # as was asked for
    line = "each of 9 photos once, found 4 steps in 1.5 s of learning"
    with pytest.raises(command.WorkFailed, match=line):
        training.check_learnt(run, loop, 2, 9)


def test_a_step_without_room_is_repeated_with_more_until_it_is_taken(capsys):
    tried = []

    def step_of(capacity):
        def step(state, batch, share):
            tried.append(capacity)
            needed = 100 * batch
            is_over = needed > capacity
            report = types.SimpleNamespace(overflow=is_over, needed=needed)
            return state if is_over else state + 1, report

        return step

    step = training.with_room(step_of, 10)
    assert [step(7, batch, 0.0)[0] for batch in (1, 1, 2)] == [8, 8, 8]
    assert tried[0] == 10 and len(tried) == 5 and tried[1] == tried[2] < 200 <= tried[4]
    assert capsys.readouterr().out.count("room for") == 2


def test_a_row_cut_in_two_and_rows_beyond_the_checkpoint_are_dropped(tmp_path, uninterrupted):
    with pytest.raises(stopping.Stopped):
        interrupted(tmp_path, 22, signal.SIGINT)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("25,25.0,0.5,\n30,3")
    sitting(tmp_path)
    assert content(tmp_path) == uninterrupted
