"""How our kernels are compiled: cuts between XLA's fused loops, and options for the CPU.

XLA merges elementwise operations into the loop of whoever uses them. Where several loops use the
same values it computes them once for each, and a loop of many outputs once for each output; on the
CPU that can cost more than half of a kernel's time, and as much of its compilation.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata

# XLA uses half of a wide vector unit unless told; narrower machines split what they cannot hold.
_CPU_OPTIONS = {"xla_cpu_prefer_vector_width": "512"}


def stage(function: Callable, static_argnums: int | Sequence[int] = ()) -> Callable:
    """Makes the results of `function` be computed once and stored, not merged into their users.

    Changes speed, never values; derivatives and batching pass through. On other devices than the
    CPU it is the function itself.
    """

    def body(*args):
        # Only the call is kept apart; calls inside it may be inlined as ever.
        with set_xla_metadata(inlineable="true"):
            return function(*args)

    jitted = jax.jit(body, inline=False, static_argnums=static_argnums)

    def call(*args):
        if jax.default_backend() != "cpu":
            return function(*args)
        with set_xla_metadata(inlineable="false"):
            return jitted(*args)

    return call


def compiled(function: Callable, **options) -> Callable:
    """`jax.jit` that also asks the CPU's compiler for wide vectors, where it may.

    Only the outermost `jit` may ask: inside another transformation this is a plain `jit`. Scripts
    that wrap our kernels in steps of their own use it in place of `jax.jit`.
    """
    inner = jax.jit(function, **options)

    @functools.cache
    def outer():
        wide = _CPU_OPTIONS if jax.default_backend() == "cpu" else None
        return jax.jit(function, compiler_options=wide, **options)

    @functools.wraps(function)
    def call(*args, **kwargs):
        return (inner if is_traced((args, kwargs)) else outer())(*args, **kwargs)

    return call


def is_traced(arguments: Any) -> bool:
    """Whether a call with a tree of arguments happens inside another transformation."""
    leaves = jax.tree.leaves((arguments, jnp.zeros(())))  # under `jit` even a constant is traced
    return any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
