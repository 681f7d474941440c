"""Pools of pictures, drawn in parts: what a signal leaves of them."""

import os
import signal

import pytest

from scripts.shell import stopping
from scripts.shell.pools import draw_missing

PART, CHUNK = 6, 2


def draw(folder, stopped_at=None):
    """Draws three parts of six numbers; what is drawn of a number is itself."""
    drawn = []

    def chunk_from(first):
        if first == stopped_at:
            os.kill(os.getpid(), signal.SIGINT)
        drawn.extend(range(first, first + CHUNK))
        return first

    def write(path, made):
        path.write_text(" ".join(map(str, made)))

    paths = {first: folder / f"{first}.txt" for first in range(0, 3 * PART, PART)}
    with stopping.listening():
        draw_missing(paths, PART, CHUNK, lambda: chunk_from, write, "numbers")
    return drawn


def test_parts_that_are_finished_are_kept_and_not_drawn_again(tmp_path):
    with pytest.raises(stopping.Stopped) as stopped:
        draw(tmp_path, stopped_at=PART)
    (note,) = stopped.value.__notes__
    assert note == f"pictures in {tmp_path} (the same command goes on from there)"
    assert [path.read_text() for path in tmp_path.iterdir()] == ["0 2 4"]
    assert sorted(draw(tmp_path)) == list(range(PART, 3 * PART))
    assert (tmp_path / f"{2 * PART}.txt").read_text() == "12 14 16"
    assert draw(tmp_path) == []


def test_a_stop_in_the_first_part_keeps_nothing_and_says_so(tmp_path):
    with pytest.raises(stopping.Stopped) as stopped:
        draw(tmp_path, stopped_at=0)
    assert stopping.line(stopped.value) == "stopped; nothing was finished"
    assert not list(tmp_path.iterdir())
