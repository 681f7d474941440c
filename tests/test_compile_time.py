"""What JAX spends on making a program is told once, though its parts report themselves."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from scripts.shell.compile_time import compile_seconds


def test_a_program_is_counted_when_it_is_made_and_not_when_it_runs():
    inner = jax.jit(lambda x: jnp.sin(x) @ x)
    outer = jax.jit(lambda x: inner(inner(x)) + jnp.linalg.norm(inner(x)))
    x = np.eye(7, dtype=np.float32)
    with compile_seconds() as compiling:
        start = time.perf_counter()
        jax.block_until_ready(outer(x))
        first, elapsed = compiling(), time.perf_counter() - start
        jax.block_until_ready(outer(x))
        assert 0 < first <= elapsed and compiling() == first
    jax.block_until_ready(outer(x[:3, :3]))
    assert compiling() == first  # nobody listens any more


def test_spans_that_overlap_count_once():
    with compile_seconds() as compiling:
        for seconds in (0.001, 0.002, 0.5, 0.001):  # the third holds the two before it
            time.sleep(0.004)
            jax.monitoring.record_event_duration_secs("/jax/core/compile/x", seconds)
            jax.monitoring.record_event_duration_secs("/jax/elsewhere", 7.0)
        np.testing.assert_allclose(compiling(), 0.501, atol=1e-6)
