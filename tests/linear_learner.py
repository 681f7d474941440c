"""A learner small enough to be killed and started again many times: a line through noisy points.

As a program, `python tests/linear_learner.py FOLDER STEP SIGNAL`, it trains in FOLDER and sends
itself the signal of that number before the step of that number; a negative step sends nothing.
"""

import os
import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from scripts.shell import command, training

LOOP = training.LoopConfig(steps=60, report_every=5, evaluate_every=20, checkpoint_seconds=7)
SETTINGS = {"seed": 3, "rates": {"first": 0.1}, "steps": LOOP.steps}


@struct.dataclass
class LineState:
    params: dict[str, jax.Array]  # "slope" [] bfloat16, "offset" [] float32
    step: jax.Array  # [] int32
    key: jax.Array  # [] typed PRNG key


class LineReport:
    """A loss and nothing else."""

    def __init__(self, loss):
        self.loss = loss


def first_state():
    params = {"slope": jnp.zeros((), jnp.bfloat16), "offset": jnp.zeros(())}
    return LineState(params, jnp.int32(0), jax.random.key(0))


@jax.jit
def _line_step(state, x, y, share):
    key, draw_key = jax.random.split(state.key)

    def loss_of(params):
        noise = 0.01 * jax.random.normal(draw_key, x.shape)
        return jnp.mean((params["slope"] * x + params["offset"] + noise - y) ** 2)

    loss, gradient = jax.value_and_grad(loss_of)(state.params)
    rate = 0.1 * (1 - share)
    params = jax.tree.map(lambda p, g: (p - rate * g).astype(p.dtype), state.params, gradient)
    return LineState(params, state.step + 1, key), loss


def line_step(state, batch, share):
    state, loss = _line_step(state, *batch, np.float32(share))
    return state, LineReport(loss)


def batch_of(step):
    x = np.random.default_rng((SETTINGS["seed"], step)).normal(size=8).astype(np.float32)
    return x, 2 * x + 1


def slope_error(state):
    return {"slope_error": abs(float(state.params["slope"]) - 2)}


def sitting(folder, batch_of=batch_of, step=line_step, loop=LOOP, evaluate=slope_error):
    """Trains in `folder` on a clock that strikes once a step."""
    ticks = iter(range(10**6))
    now = [0.0]

    def batch(number):
        now[0] = float(next(ticks))
        return batch_of(number)

    clock, training.time = training.time, types.SimpleNamespace(perf_counter=lambda: now[0])
    try:
        run = training.open_run(folder, SETTINGS, first_state)
        return training.train(run, step, batch, evaluate, folder, loop)
    finally:
        training.time = clock


def main(folder, step, number):
    def deadly_batch(at):
        if at == step:
            os.kill(os.getpid(), number)
        return batch_of(at)

    sitting(folder, deadly_batch)


if __name__ == "__main__":
    arguments = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    sys.argv[1:] = []
    command.run(lambda: main(*arguments))
