"""Stopping a command by Ctrl-C or SIGTERM so that it keeps what it has.

A signal raises `Stopped` wherever the program is, and what is half-written is removed on the way
out. Work that would be lost that way goes on in `noted`: there the first signal is only written
down, the work looks at it between its steps, ends early, writes what there is, and `Stopped` comes
at the end of the block. A second signal raises at once. The last line of the command says what is
kept: the notes of the exception.
"""

import contextlib
import contextvars
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

_NUMBERS = (signal.SIGINT, signal.SIGTERM)
_HINT = b"ending, with what is begun; once more ends at once\n"
BASE_STATUS = 128  # of a process that a signal ended, by the convention of shells
_AGAIN = 0.01  # seconds


class Stopped(KeyboardInterrupt):
    """A signal ended the work; the notes say what is kept."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__()
        self.number = number


class Stop:
    """Whether the work is to end: true once a signal came."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._kept: list[str] = []

    def __bool__(self) -> bool:
        return self.number is not None

    def keep(self, what: str) -> None:
        """Says what the work has left, should it be stopped."""
        self._kept.append(what)

    def forget(self) -> None:
        """Takes the signal as the usual end of the work."""
        self.number = None

    def act(self) -> None:
        """Ends the work, if a signal came.

        Raises:
          Stopped: with notes of what is kept.
        """
        if self.number is not None:
            stopped = Stopped(self.number)
            for what in self._kept:
                stopped.add_note(what)
            raise stopped


_current: contextvars.ContextVar[Stop | None] = contextvars.ContextVar("stop", default=None)


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Within, signals raise `Stopped`; signals that are ignored stay so."""
    before = sys.unraisablehook

    def hook(lost: Any) -> None:  # see sys.unraisablehook
        if isinstance(lost.exc_value, Stopped):  # raised in a destructor, where none gets through
            number = lost.exc_value.number
            threading.Timer(_AGAIN, os.kill, (os.getpid(), number)).start()
        else:
            before(lost)

    sys.unraisablehook = hook
    try:
        with _handling(_raise):
            yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def noted() -> Iterator[Stop]:
    """Within, the first signal is written down, to be looked at between the steps of the work.

    Blocks inside one another share their `Stop`.

    Raises:
      Stopped: at the end of the outermost block, if a signal came.
    """
    if (outer := _current.get()) is not None:
        yield outer
        return
    stop = Stop()
    with contextlib.ExitStack() as stack:

        def note(number: int, frame: types.FrameType | None) -> None:
            stop.number = number
            stack.close()  # the next signal acts at once
            if sys.stderr.isatty():
                os.write(2, _HINT)

        stack.enter_context(_handling(note))
        token = _current.set(stop)
        try:
            yield stop
        except Exception:
            stop.act()  # else whoever goes on after an error would go on
            raise
        finally:
            _current.reset(token)
    stop.act()


@contextlib.contextmanager
def keeping(what: Callable[[], str]) -> Iterator[None]:
    """Within, `Stopped` takes along a note of what is kept, if there is any."""
    try:
        yield
    except Stopped as stopped:
        if note := what():
            stopped.add_note(note)
        raise


def line(stop: KeyboardInterrupt) -> str:
    """Says in a line what is kept."""
    notes = getattr(stop, "__notes__", [])
    return f"stopped; kept {' and '.join(notes)}" if notes else "stopped; nothing was finished"


def status(stop: KeyboardInterrupt) -> int:
    """The exit status by the shells' convention: 130 after Ctrl-C, 143 after SIGTERM."""
    return BASE_STATUS + getattr(stop, "number", signal.SIGINT)


def _raise(number: int, frame: types.FrameType | None) -> None:
    if not isinstance(sys.exception(), Stopped):  # what tidies up after it is let through
        raise Stopped(number)


@contextlib.contextmanager
def _handling(handler: Callable[[int, types.FrameType | None], None]) -> Iterator[None]:
    """Handles signals; not in other threads than the main one, which Python gives none."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in _NUMBERS}
        before = {n: old for n, old in handlers.items() if old not in (None, signal.SIG_IGN)}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
