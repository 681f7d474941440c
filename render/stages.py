"""Keeps XLA from computing things twice: cuts between its fused loops.

XLA merges elementwise operations into the loop of whoever uses them. Where several loops use the
same values it computes them once for each, and a loop of many outputs once for each output; on the
CPU that can cost more than half of a kernel's time, and as much of its compilation.
"""

from collections.abc import Callable

import jax
from jax.experimental.xla_metadata import set_xla_metadata


def stage(function: Callable) -> Callable:
    """Makes the results of `function` be computed once and stored, not merged into their users.

    Changes speed, never values; derivatives and batching pass through.
    """

    def body(*args):
        # Only the call is kept apart; calls inside it may be inlined as ever.
        with set_xla_metadata(inlineable="true"):
            return function(*args)

    jitted = jax.jit(body, inline=False)

    def call(*args):
        with set_xla_metadata(inlineable="false"):
            return jitted(*args)

    return call
