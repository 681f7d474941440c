"""Signals: the way out, what is noted and written to the end, what killed processes leave."""

import os
import signal
import subprocess
import sys
import time
from unittest import mock

import commands
import numpy as np
import pytest
from absl import flags

from render import files_io, video_io
from scripts.shell import command, stopping
from scripts.shell.film_io import write_film
from scripts.shell.outputs_io import filling_folder

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture(autouse=True)
def heard():
    """Signals that a test sends itself are heard as in a command, and no longer afterwards."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stopping.listening():
        yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.fixture
def status(monkeypatch, capsys):
    """Runs a function as the body of a command: exit status and stderr."""
    monkeypatch.setattr("sys.argv", ["/somewhere/smile.py"])
    monkeypatch.setattr(command, "_cache_compilations", lambda: None)
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    return lambda body: (command._exit_status(body), capsys.readouterr().err)


def send(number=signal.SIGINT):
    os.kill(os.getpid(), number)
    for _ in range(100):  # the interpreter looks for signals between its steps
        pass


def hidden(folder):
    return [path for path in folder.rglob("*") if path.name.startswith(".")]


@BOTH
def test_a_signal_ends_a_command_with_its_status_and_one_line(status, number):
    line = "smile: stopped; nothing was finished\n"
    assert status(lambda: send(number)) == (128 + number, line)


@BOTH
def test_a_noted_signal_acts_at_the_end_of_the_block_and_says_what_is_kept(status, number):
    steps = []

    def body():
        with stopping.keeping(lambda: "the head"), stopping.noted() as stop:
            for step in range(5):
                if stop:
                    break
                steps.append(step)
                if step == 2:
                    send(number)
            stop.keep("3 steps")
        steps.append("beyond")

    assert status(body) == (128 + number, "smile: stopped; kept 3 steps and the head\n")
    assert steps == [0, 1, 2]


def test_blocks_inside_one_another_share_what_they_note():
    done = []
    with pytest.raises(stopping.Stopped), stopping.noted() as outer:
        with stopping.noted() as inner:
            send()
            done.append(bool(inner))
        done.append(bool(outer))  # the inner block raises nothing
        with stopping.noted() as late:
            done.append(bool(late))  # and the next one knows of it
    assert done == [True, True, True]


def test_a_second_signal_acts_at_once():
    with pytest.raises(stopping.Stopped) as caught, stopping.noted():
        send(signal.SIGINT)
        send(signal.SIGTERM)
        pytest.fail("still there")
    assert caught.value.number == signal.SIGTERM


def test_an_error_does_not_hide_that_a_signal_came():
    with pytest.raises(stopping.Stopped), stopping.noted():
        send()
        raise ValueError("a photo that cannot be read, among many")


def test_who_tidies_up_after_a_signal_is_not_disturbed_by_the_next():
    steps = []
    with pytest.raises(stopping.Stopped):
        try:
            send()
        finally:
            send(signal.SIGTERM)
            steps.append("tidied up")
    assert steps == ["tidied up"]


def test_a_signal_that_a_destructor_swallows_comes_again():
    class Sends:
        def __del__(self):
            send()

    with pytest.raises(stopping.Stopped):
        one = Sends()
        del one
        time.sleep(10)


def test_ignored_signals_stay_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping.listening(), stopping.noted() as stop:
            send()
            assert not stop
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_folder_that_is_being_filled_is_filled_to_the_end(tmp_path):
    (tmp_path / "film").write_text("of an earlier run")
    with pytest.raises(stopping.Stopped) as caught, filling_folder(tmp_path, ["film"]) as folder:
        send()
        (folder / "one").write_text("1")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    assert caught.value.__notes__ == [f"the files in {tmp_path}"]


def shades(count, at, number):
    for i in range(count):
        if i == at:
            send(number)
        yield np.full((16, 16, 3), i / count, np.float32)


@BOTH
def test_a_film_that_is_stopped_has_the_pictures_so_far(tmp_path, number):
    video, sheet = tmp_path / "a.mp4", tmp_path / "a.png"
    with pytest.raises(stopping.Stopped) as caught:
        write_film(video, shades(20, 4, number), 20, 10.0, sheet=sheet)
    frames = [np.asarray(frame) for frame in video_io.read_video(video)]
    means = np.array([frame.mean() for frame in frames]) / 255
    np.testing.assert_allclose(means, np.arange(5) / 20, atol=0.03)
    assert caught.value.__notes__ == [f"5 of 20 pictures in {video}"]
    assert sorted(tmp_path.iterdir()) == [video, sheet]


def test_a_film_without_a_picture_leaves_the_one_before(tmp_path):
    (tmp_path / "a.mp4").write_text("before")
    with pytest.raises(stopping.Stopped), stopping.noted():
        send()
        write_film(tmp_path / "a.mp4", shades(3, None, None), 3, 10.0)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_stopped_process_ends_though_nobody_reads_it_any_more(monkeypatch):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr("sys.stdout", mock.Mock(flush=mock.Mock(side_effect=BrokenPipeError)))
    command._leave(130)
    assert ended == [130]


def test_a_terminals_ctrl_c_reaches_us_and_not_the_encoder(tmp_path, monkeypatch):
    groups = []

    class Noticed(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            groups.append(os.getpgid(self.pid))

    monkeypatch.setattr(video_io.subprocess, "Popen", Noticed)
    video_io.write_video(tmp_path / "a.mp4", shades(2, None, None), 10.0)
    assert len(groups) == 1 and groups[0] != os.getpgrp()


KILLED = """
import os, pathlib, signal, sys
from render.files_io import replacing, unfinished
folder = pathlib.Path(sys.argv[1])
with unfinished(folder, is_folder=True) as inside, replacing(folder / "video.mp4") as path:
    (inside / "head.obj").write_text("half")
    path.write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_by_the_next_and_not_while_it_lives(tmp_path):
    line = [sys.executable, "-c", KILLED, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, stdin=pipe, stdout=pipe, cwd=commands.ROOT) as other:
        assert other.stdout.readline() == b"ready\n"
        with filling_folder(tmp_path) as folder:
            (folder / "one").write_text("1")
        files_io.write_json(tmp_path / "two", {})
        assert len(hidden(tmp_path)) == 2
        other.kill()
        other.wait()
    assert len(hidden(tmp_path)) == 2
    files_io.write_json(tmp_path / "two", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_what_was_left_without_a_lock_is_removed_too(tmp_path):
    (tmp_path / ".unfinished.abc" / "deep").mkdir(parents=True)
    (tmp_path / ".unfinished.def.mp4").write_text("half")
    (tmp_path / ".mine").write_text("of the user")
    with filling_folder(tmp_path) as folder:
        (folder / "one").write_text("1")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine", "one"]


def test_written_files_have_the_permissions_of_any_other(tmp_path):
    (tmp_path / "any").touch()
    files_io.write_json(tmp_path / "ours", {})
    assert (tmp_path / "any").stat().st_mode == (tmp_path / "ours").stat().st_mode
