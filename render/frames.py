"""Draws one picture after another, for scripts: enough room for each, and all cores at work."""

import collections
import contextlib
import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import TypeVar

import jax

from render.image import RenderOutput

View = TypeVar("View")
Output = TypeVar("Output")

_AHEAD = 64  # pictures that wait to be taken
_PATIENCE = 0.1  # seconds between looks at whether anybody still waits


def round_capacity(needed: float) -> int:
    """Rounds up by at most an eighth, so that needs of about the same size share a compilation."""
    step = 2 ** max(int(needed).bit_length() - 4, 0)
    return (int(needed) // step + 1) * step


def with_room(
    draw: Callable[[int | None], Output],
    capacity: int | None,
    margin: float = 1.3,
    on_growth: Callable[[int], None] = lambda capacity: None,
) -> tuple[Output, int | None]:
    """Draws, and draws again with more room as long as there is not enough.

    For scripts and host loops: it looks at the result.

    Args:
      draw: takes the static capacity, None lets it guess; what it returns has fields `overflow`
        and `needed`, as `RenderOutput` has.
      capacity: to begin with.
      margin: room on top of what was needed, so that the next call fits as well.
      on_growth: is told each new capacity.

    Returns:
      What was drawn, and the capacity that it took.
    """
    output = draw(capacity)
    while output.overflow:
        capacity = round_capacity(margin * int(output.needed))
        on_growth(capacity)
        output = draw(capacity)
    return output, capacity


def draw_frames(
    draw: Callable[[View, int | None], RenderOutput],
    views: Iterable[View],
    capacity: int | None,
    margin: float = 1.3,
    num_threads: int = 2,
    on_growth: Callable[[int], None] = lambda capacity: None,
) -> Iterator[RenderOutput]:
    """Draws `views` in order; a picture that finds no room is drawn again with more.

    On a CPU a picture keeps about one core busy, so `num_threads` are drawn at a time, and no more
    than one each is kept in advance. Views of one shape and capacity share one compiled function.

    Args:
      draw: takes a view and the static capacity; None lets it guess.
      views: whatever `draw` takes.
      capacity: to begin with.
      margin: room on top of what a picture needed, so that the next ones fit as well.
      num_threads: pictures drawn at a time.
      on_growth: is told each new capacity.
    """

    def draw_whole(view: View) -> RenderOutput:
        nonlocal capacity  # what one picture learns serves the next
        output, found = with_room(lambda room: draw(view, room), capacity, margin, on_growth)
        if found is not None:
            capacity = max(found, capacity or 0)  # another thread may have grown it since
        return jax.block_until_ready(output)

    views = iter(views)
    for view in itertools.islice(views, 1):
        yield draw_whole(view)  # alone: two threads would both compile
    with futures.ThreadPoolExecutor(num_threads) as pool:
        pending = collections.deque()
        for view in views:
            pending.append(pool.submit(draw_whole, view))
            if len(pending) > num_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@contextlib.contextmanager
def drawn_ahead(pictures: Iterable[Output]) -> Iterator[Iterator[Output]]:
    """Draws in the background from here on, whatever the block does meanwhile.

    Args:
      pictures: what is drawn as it is taken, such as `draw_frames` gives.

    Yields:
      The same pictures in their order; an error of theirs comes where the next one would.
    """
    drawn: queue.Queue = queue.Queue(_AHEAD)
    is_over = threading.Event()

    def put(item: tuple) -> None:
        while not is_over.is_set():
            with contextlib.suppress(queue.Full):
                return drawn.put(item, timeout=_PATIENCE)

    def work() -> None:
        try:
            for picture in pictures:
                if is_over.is_set():
                    return
                put((picture, None))
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))

    def taken() -> Iterator[Output]:
        while True:
            picture, error = drawn.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield picture

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield taken()
    finally:
        is_over.set()
        worker.join()
