"""How long work tells its caller where it is, without knowing of terminals.

A function that takes a `Progress` opens one stage after the other with it:

  with progress("fits", 70) as advance:
      for view in views:
          ...
          advance()
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol


class Progress(Protocol):
    """Opens a stage of the work: its label, and its number of steps where there are several.

    The stage yields the function to be called after each step. Commands pass a bar.
    """

    def __call__(
        self, label: str, total: int | None = None
    ) -> AbstractContextManager[Callable[..., None]]: ...


@contextlib.contextmanager
def silent(label: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """The `Progress` that shows nothing."""
    del label, total
    yield lambda: None
