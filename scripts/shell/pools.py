"""Pools of drawn pictures, in parts of so many each: what a stopped run has finished is kept."""

import pathlib
from collections.abc import Callable, Mapping
from typing import TypeVar

from scripts.shell import command, stopping
from scripts.shell.parallel import on_all_cores

Drawn = TypeVar("Drawn")


def draw_missing(
    paths: Mapping[int, pathlib.Path],
    part: int,
    chunk: int,
    prepare: Callable[[], Callable[[int], Drawn]],
    write: Callable[[pathlib.Path, list[Drawn]], None],
    what: str,
) -> None:
    """Draws and writes the parts whose files are not there, on every core.

    Args:
      paths: of the parts, by the first number of each.
      part: numbers of a part.
      chunk: numbers of a call.
      prepare: makes the function that draws `chunk` numbers from one on.
      write: writes a part.
      what: is drawn, for the progress.
    """
    missing = [first for first in paths if not paths[first].is_file()]
    if not missing:
        return
    with command.progress("studio"):
        draw = prepare()
    calls = part // chunk
    total, done = len(paths) * calls, (len(paths) - len(missing)) * calls
    bar = command.progress(f"{what}, {chunk} at a time", total, done)
    with stopping.noted() as stop, bar as advance:
        for first in missing:
            made = []
            for drawn in on_all_cores(draw, range(first, first + part, chunk), stop):
                made.append(drawn)
                advance()
            if len(made) < calls:
                break
            write(paths[first], made)
        if any(path.is_file() for path in paths.values()):
            where = paths[missing[0]].parent
            stop.keep(f"pictures in {where} (the same command goes on from there)")
