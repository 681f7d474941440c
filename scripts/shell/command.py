"""What all commands share: flags to exit status, a compilation cache, progress, a checked --out.

A command ends with status 0 (done), 2 (bad input) or 1 (the work itself failed); 1 and 2 print one
line on stderr: what was expected, what was found. `--debug` prints the traceback instead. Stopped
by Ctrl-C it ends with 130, by SIGTERM with 143, keeps what it has (see `stopping`), and says in one
line what that is.
"""

import contextlib
import logging
import os
import pathlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import NoReturn

import jax
import platformdirs
from absl import app, flags
from rich import console
from rich import progress as rich_progress

from scripts.shell import stopping

_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")

_BAD_INPUT, _WORK_FAILED = 2, 1
_LINE_SECONDS = 60.0  # between lines about work that goes on, where there is no terminal
_OS_ERRORS = {
    FileNotFoundError: "expected a file, found nothing at {}",
    IsADirectoryError: "expected a file, found a folder at {}",
    NotADirectoryError: "expected a folder, found a file on the way to {}",
    FileExistsError: "expected a folder or nothing, found a file at {}",
    PermissionError: "expected permission to use {}, found none",
}

# (command, flag of old) -> what it is called now
_RENAMED = {
    ("render", "scene"): "--show for what is shown",
    ("view", "simulate"): "--scene for a scene file",
}


class WorkFailed(RuntimeError):
    """The input was fine but the work did not succeed."""


def run(main: Callable[[], None]) -> NoReturn:
    """Parses the flags, calls `main` and exits; the last line of every command."""
    jax.config.config_with_absl()
    logging.getLogger("jax").setLevel(logging.WARNING)  # absl would show which chips are missing
    app.run(lambda _: _leave(_exit_status(main)), flags_parser=_parse_flags)


def _leave(status: int) -> int:
    """Ends a stopped process at once: XLA, still at work, would not survive Python's tidying up."""
    if status > stopping.BASE_STATUS:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # whoever read it was stopped by the same Ctrl-C
                stream.flush()
        os._exit(status)
    return status


def _parse_flags(argv: list[str]) -> list[str]:
    if {"-h", "-help", "--help"} & set(argv[1:]):
        print(f"{sys.modules['__main__'].__doc__.strip()}\n\nFlags:\n{_flag_manual()}")
        sys.exit(0)
    try:
        stray = flags.FLAGS(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        now = _RENAMED.get((_name(), error.flagname))
        message = f"expected {now}, found --{error.flagname}" if now else str(error)
        sys.exit(_complain(message, _BAD_INPUT))
    except flags.Error as error:
        sys.exit(_complain(str(error), _BAD_INPUT))
    if stray:
        found = f"expected flags only, found {' '.join(stray)}"
        if all(map(os.path.exists, stray)):  # a shell put them in the place of a pattern
            found += ": several files go into one flag, with commas, or as --flag='PATTERN'"
        sys.exit(_complain(found, _BAD_INPUT))
    return argv


def _flag_manual() -> str:
    texts = flags.FLAGS.main_module_help(), flags.FLAGS.module_help(__name__)
    lines = [line for text in texts for line in text.strip().splitlines()[1:]]
    return "\n".join(line for line in lines if line.strip())


def _exit_status(main: Callable[[], None]) -> int:
    with stopping.listening():
        if _DEBUG.value:
            _cache_compilations()
            main()
            return 0
        if not sys.warnoptions:
            warnings.simplefilter("ignore")  # libraries' advice to programmers
        return _guarded(main)


def _guarded(main: Callable[[], None]) -> int:
    try:
        _cache_compilations()
        main()
    except (app.UsageError, flags.Error, ValueError) as error:
        return _complain(str(error), _BAD_INPUT)
    except tuple(_OS_ERRORS) as error:
        return _complain(_os_message(error), _BAD_INPUT)
    except (NotImplementedError, RecursionError):
        raise  # a RuntimeError by birth, but ours to mend
    except (RuntimeError, OSError, MemoryError) as error:
        return _complain(str(error) or "out of memory", _WORK_FAILED)
    except KeyboardInterrupt as stop:
        return _complain(stopping.line(stop), stopping.status(stop))
    return 0


def _os_message(error: OSError) -> str:
    return _OS_ERRORS[type(error)].format(error.filename) if error.filename else str(error)


def _complain(message: str, status: int) -> int:
    print(f"{_name()}: {' '.join(message.split())}", file=sys.stderr)
    return status


def _name() -> str:
    return pathlib.Path(sys.argv[0]).stem


def _cache_compilations() -> None:
    """Keeps compiled programs in the user's cache folder, so that the next run starts at once."""
    if jax.config.jax_compilation_cache_dir:  # the user's own choice, by variable or flag
        return
    folder = platformdirs.user_cache_path("mien", appauthor=False) / "jax"
    if not _is_writable(folder):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def writable_folder(path: str | os.PathLike, flag: str = "--out") -> pathlib.Path:
    """Checks, before any long work, that a folder can be written or made at `path`.

    Raises:
      ValueError: a file is in the way, or the permission to write is missing.
    """
    if not os.fspath(path):
        raise ValueError(f"expected a folder in {flag}, found an empty name")
    ancestor = _nearest_existing(path)
    if not ancestor.is_dir():
        raise ValueError(f"expected a folder in {flag}, found a file at {ancestor}")
    if not _is_writable(path):
        raise ValueError(f"expected a folder to write in {flag}, found no permission at {ancestor}")
    return pathlib.Path(path)


def _is_writable(folder: str | os.PathLike) -> bool:
    ancestor = _nearest_existing(folder)
    return ancestor.is_dir() and os.access(ancestor, os.W_OK | os.X_OK)


def _nearest_existing(path: str | os.PathLike) -> pathlib.Path:
    path = pathlib.Path(path).absolute()
    return next(p for p in (path, *path.parents) if os.path.lexists(p))


def say(text: str) -> None:
    """Prints a result."""
    print(text, flush=True)


def warn(text: str) -> None:
    """Prints one line about a result that deserves a second look."""
    print(f"{_name()}: warning: {' '.join(text.split())}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress(label: str, total: int | None = None, done: int = 0) -> Iterator[Callable[..., None]]:
    """Shows that work is going on, and how long it took.

    On a terminal that is a bar, elsewhere a line a minute: how much is done, the last note and the
    time. At the end one line stays: the last note and the time.

    Args:
      label: of the work.
      total: steps that it takes, if known.
      done: steps of an earlier sitting.

    Yields:
      The function to call after each step, with a note to be shown or without; needless without
      a total.
    """
    start = time.perf_counter()
    screen = console.Console()
    shown = _bar(label, total, done, screen) if screen.is_terminal else _lines(label, total, done)
    note = ""
    with shown as show:

        def advance(new_note: str | None = None) -> None:
            nonlocal note
            note = new_note or ""
            show(note)

        yield advance
    say(f"{_text(label, note)}: {time.perf_counter() - start:.1f} s")


@contextlib.contextmanager
def _bar(
    label: str, total: int | None, done: int, screen: console.Console
) -> Iterator[Callable[[str], None]]:
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        *([rich_progress.MofNCompleteColumn()] if total else []),
        rich_progress.TimeElapsedColumn(),
    )
    with rich_progress.Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task(label, total=total, completed=done)
        yield lambda note: bar.update(task, advance=1, description=_text(label, note))


@contextlib.contextmanager
def _lines(label: str, total: int | None, done: int) -> Iterator[Callable[[str], None]]:
    start = last = time.perf_counter()

    def show(note: str) -> None:
        nonlocal done, last
        done += 1
        now = time.perf_counter()
        if now - last >= _LINE_SECONDS and done != total:  # the last step has a line of its own
            last = now
            count = f"{label} {done}/{total}" if total else f"{label} {done}"
            say(f"{_text(count, note)}: {now - start:.0f} s")

    yield show


def _text(label: str, note: str) -> str:
    return f"{label}, {note}" if note else label
