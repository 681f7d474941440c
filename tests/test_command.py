"""What the commands share: errors to exit status, the checked --out, folders that fill at once."""

import pathlib
import subprocess
import sys

import jax
import pytest
from absl import flags

from recon.landmarks import NoFaceError
from scripts.shell import command
from scripts.shell.outputs_io import filling_folder

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def status(monkeypatch, capsys, tmp_path):
    """Runs a function as the body of a command: exit status and stderr."""
    monkeypatch.setattr("sys.argv", ["/somewhere/smile.py"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(command, "_cache_compilations", lambda: None)
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()

    def run(body):
        return command._exit_status(body), capsys.readouterr().err

    return run


def raising(error):
    def body():
        raise error

    return body


@pytest.mark.parametrize(
    "error, expected, line",
    [
        (ValueError("expected a head,\n  found a tail"), 2, "expected a head, found a tail"),
        (flags.IllegalFlagValueError("flag --n=x"), 2, "flag --n=x"),
        (FileNotFoundError(2, "no", "a.npz"), 2, "expected a file, found nothing at a.npz"),
        (IsADirectoryError(21, "is", "a"), 2, "expected a file, found a folder at a"),
        (PermissionError(13, "no", "a"), 2, "expected permission to use a, found none"),
        (NoFaceError("no face found"), 1, "no face found"),
        (command.WorkFailed("the fit diverged"), 1, "the fit diverged"),
        (OSError(28, "No space left on device"), 1, "[Errno 28] No space left on device"),
        (MemoryError(), 1, "out of memory"),
        (KeyboardInterrupt(), 130, "stopped; nothing was finished"),
    ],
)
def test_errors_become_a_status_and_one_line(status, error, expected, line):
    assert status(raising(error)) == (expected, f"smile: {line}\n")


@pytest.mark.parametrize("error", [KeyError("x"), NotImplementedError("x"), RecursionError("x")])
def test_our_own_mistakes_keep_their_traceback(status, error):
    with pytest.raises(type(error)):
        status(raising(error))


def test_success_is_silent(status):
    assert status(lambda: None) == (0, "")


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "a" / "b"):
        with pytest.raises(ValueError, match=f"found a file at {tmp_path / 'file'}$"):
            command.writable_folder(path)


def test_a_folder_that_can_be_made_is_not_made_yet(tmp_path):
    assert command.writable_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not (tmp_path / "a").exists()


def test_an_empty_out_is_refused():
    with pytest.raises(ValueError, match="found an empty name"):
        command.writable_folder("")


@pytest.mark.usefixtures("no_program_folder")
@pytest.mark.parametrize("home, is_used", [("cache", True), ("file", False)])
def test_compiled_programs_go_to_the_users_cache(monkeypatch, tmp_path, home, is_used):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / home))
    settings = {}
    monkeypatch.setattr(jax.config, "update", settings.__setitem__)
    command._cache_compilations()
    folder = settings.get("jax_compilation_cache_dir")
    assert folder == (str(tmp_path / home / "mien" / "jax") if is_used else None)


def test_progress_is_one_line_without_a_terminal(capsys):
    with command.progress("turntable", 3) as advance:
        for _ in range(3):
            advance()
    out = capsys.readouterr().out
    assert out.startswith("turntable: ") and out.endswith(" s\n") and out.count("\n") == 1


def test_long_work_says_once_a_minute_how_far_it_is(monkeypatch, capsys):
    now = iter(range(0, 10**6, 25))  # 25 s a step
    monkeypatch.setattr(command.time, "perf_counter", lambda: float(next(now)))
    with command.progress("training", 9, done=1) as advance:
        for step in range(8):
            advance(f"loss {step}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["training 4/9, loss 2: 75 s", "training 7/9, loss 5: 150 s"]
    assert len(lines) == 3 and lines[2].startswith("training, loss 7: ")


def test_a_count_without_a_total_is_said_too(monkeypatch, capsys):
    now = iter(range(0, 10**6, 70))
    monkeypatch.setattr(command.time, "perf_counter", lambda: float(next(now)))
    with command.progress("faces") as advance:
        advance()
    assert capsys.readouterr().out.startswith("faces 1: 70 s\n")


def test_sigterm_ends_a_command_in_one_line_without_a_half_written_file(tmp_path):
    program = (
        "import os, pathlib, signal\n"
        "from render.files_io import replacing\n"
        "from scripts.shell import command\n"
        "def main():\n"
        f"    with replacing({str(tmp_path / 'a.txt')!r}) as path:\n"
        "        path.write_text('half')\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        signal.pause()\n"
        "command.run(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (143, "-c: stopped; nothing was finished\n")
    assert list(tmp_path.iterdir()) == []


def test_failed_work_announces_no_progress(capsys):
    with pytest.raises(ValueError), command.progress("turntable"):
        raise ValueError
    assert capsys.readouterr().out == ""


def test_a_filled_folder_appears_complete(tmp_path):
    with filling_folder(tmp_path / "a" / "out") as folder:
        (folder / "one").write_text("1")
        assert not (tmp_path / "a" / "out" / "one").exists()
    assert [path.name for path in (tmp_path / "a" / "out").iterdir()] == ["one"]


def test_a_failure_leaves_no_folder(tmp_path):
    with pytest.raises(KeyboardInterrupt), filling_folder(tmp_path / "out") as folder:
        (folder / "one").write_text("1")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_older_results(tmp_path):
    (tmp_path / "one").write_text("old")
    with pytest.raises(ValueError), filling_folder(tmp_path) as folder:
        (folder / "one").write_text("new")
        raise ValueError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("one", "old")]


def test_new_results_replace_older_ones(tmp_path):
    (tmp_path / "one").write_text("old")
    with filling_folder(pathlib.Path(tmp_path)) as folder:
        (folder / "one").write_text("new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("one", "new")]
