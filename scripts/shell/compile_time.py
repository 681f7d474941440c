"""How long JAX spends on making programs, so that a time limit can leave that out."""

import contextlib
import time
from collections.abc import Callable, Iterator

import jax

_EVENTS = "/jax/core/compile/"  # tracing, lowering, and compiling or reading from the cache


@contextlib.contextmanager
def compile_seconds() -> Iterator[Callable[[], float]]:
    """Yields a function that tells the seconds spent so far inside the block.

    JAX reports each trace when it ends, those inside of others too: spans that overlap count once.
    """
    spans, total = [], 0.0

    def listen(event: str, seconds: float, **_) -> None:
        nonlocal total
        if not event.startswith(_EVENTS):
            return
        end = time.perf_counter()
        while spans and spans[-1][1] > end - seconds:
            start, stop = spans.pop()
            total -= stop - start
        spans.append((end - seconds, end))
        total += seconds

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield lambda: total
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
