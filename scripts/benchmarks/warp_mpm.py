"""A peer for the benchmark: the material point method in NVIDIA warp, as one would write it there.

A kernel each for what particles give the grid, for the grid, and for what particles take back;
gradients by warp's tape. A program of its own, so that neither disturbs the other: the task comes
as JSON in the first argument, places [N, 3] as float32 on standard input; the last line of the
output is the answer, as JSON.

Source: Hu et al. 2018 (MLS-MPM).
"""

import json
import statistics
import sys
import time

import numpy as np
import warp as wp

_WALL = wp.constant(3)  # nodes from the edge of the grid to the walls


def measure(x: np.ndarray, law: str, num_gradient_steps: int, **task) -> dict:
    """Lets particles fall on one thread.

    Args:
      x: [N, 3] metres in the unit box.
      law: neo_hookean or jelly.
      num_gradient_steps: steps whose gradient is timed; zero for the forward motion alone.
      **task: fields of `_Fall`, and how long.

    Returns:
      As `_forward` or `_with_gradient`.
    """
    if num_gradient_steps:
        return _with_gradient(x, law, num_gradient_steps, **task)
    return _forward(x, law, **task)


def _forward(x, law: str, num_substeps: int, repeats: int, **task) -> dict:
    """Returns CPU-milliseconds per step, the median of stretches, and the last mean height."""
    fall = _Fall(x, law, **task)
    states, grid = [fall.start(), fall.new_state()], fall.new_grid()

    def stretch():
        for _ in range(num_substeps):
            for nodes in grid:
                nodes.zero_()
            fall.step(*states, grid)
            states.reverse()

    each = _median_milliseconds(stretch, repeats) / num_substeps
    return {"milliseconds": each, "height": float(states[0][0].numpy()[:, 2].mean())}


def _with_gradient(x, law: str, num_gradient_steps: int, repeats: int, **task) -> dict:
    """Returns CPU-milliseconds per step, and d(last mean height) / d(log Young's modulus)."""
    del task["num_substeps"]
    fall = _Fall(x, law, is_differentiable=True, **task)
    states = [fall.start(), *(fall.new_state() for _ in range(num_gradient_steps))]
    grids = [fall.new_grid() for _ in range(num_gradient_steps)]
    height = fall.zeros(1, float)
    slopes = []

    def gradient():
        for grid in grids:
            for nodes in grid:
                nodes.zero_()
        height.zero_()
        tape = wp.Tape()
        with tape:
            for before, after, grid in zip(states, states[1:], grids, strict=False):
                fall.step(before, after, grid)
            wp.launch(_mean_height, len(x), [states[-1][0], 1.0 / len(x)], [height], device="cpu")
        tape.backward(height)
        slopes.append(float(fall.log_E.grad.numpy()[0]))
        tape.zero()

    each = _median_milliseconds(gradient, repeats) / num_gradient_steps
    return {"milliseconds": each, "slope": slopes[-1]}


def _median_milliseconds(call, repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):  # the first one compiles
        begin = time.process_time()
        call()
        times.append(1e3 * (time.process_time() - begin))
    return statistics.median(times[1:])


class _Fall:
    """A body that falls on the ground. A state is x, v, C, F; a grid is momentum and velocity."""

    def __init__(
        self,
        x: np.ndarray,
        law: str,
        num_nodes: int,
        dt: float,
        speed: float,
        gravity: float,
        volume: float,  # of a particle
        density: float,
        log_youngs_modulus: float,
        poisson_ratio: float,
        is_differentiable: bool = False,
    ):
        self._x, self._speed, self._num_nodes = x, speed, num_nodes
        self._dt, self._gravity, self._is_differentiable = dt, gravity, is_differentiable
        self._matter = [volume * density, volume, poisson_ratio]
        self._give = _give_kernel(_neo_hookean if law == "neo_hookean" else _fixed_corotated)
        self.log_E = self.zeros(1, float)
        self.log_E.fill_(log_youngs_modulus)

    def zeros(self, shape, dtype) -> wp.array:
        return wp.zeros(shape, dtype=dtype, device="cpu", requires_grad=self._is_differentiable)

    def new_state(self) -> list[wp.array]:
        return [self.zeros(len(self._x), t) for t in (wp.vec3, wp.vec3, wp.mat33, wp.mat33)]

    def new_grid(self) -> list[wp.array]:
        return [self.zeros((self._num_nodes,) * 3, t) for t in (wp.vec4, wp.vec3)]

    def start(self) -> list[wp.array]:
        state = self.new_state()
        state[0].assign(self._x)
        state[1].fill_(wp.vec3(0.0, 0.0, self._speed))
        state[3].fill_(wp.mat33(*np.eye(3).ravel()))
        return state

    def step(self, before, after, grid) -> None:
        """Goes from one state to the next, over a grid of zeros."""
        size, dt = self._num_nodes, self._dt
        given, velocity = grid
        launch = [*before, self.log_E, *self._matter, float(size), dt]
        wp.launch(self._give, len(self._x), launch, [given], device="cpu")
        wp.launch(_move, given.shape, [given, size, dt * self._gravity], [velocity], device="cpu")
        launch = [before[0], before[3], velocity, float(size), dt]
        wp.launch(_take, len(self._x), launch, after, device="cpu")


@wp.func
def _neo_hookean(F: wp.mat33, mu: float, lam: float):
    """The Kirchhoff stress."""
    one = wp.identity(n=3, dtype=float)
    return mu * (F * wp.transpose(F) - one) + lam * wp.log(wp.determinant(F)) * one


@wp.func
def _fixed_corotated(F: wp.mat33, mu: float, lam: float):
    U, _, V = wp.svd3(F)
    J = wp.determinant(F)
    stretched = (F - U * wp.transpose(V)) * wp.transpose(F)
    return 2.0 * mu * stretched + lam * J * (J - 1.0) * wp.identity(n=3, dtype=float)


@wp.func
def _base(place: wp.vec3):
    """The first node of the stencil; `place` counts in cells."""
    return wp.vec3i(int(place[0] - 0.5), int(place[1] - 0.5), int(place[2] - 0.5))


@wp.func
def _local(place: wp.vec3, base: wp.vec3i):
    return place - wp.vec3(float(base[0]), float(base[1]), float(base[2]))


@wp.func
def _weights(f: wp.vec3):
    """Quadratic B-splines: a row for each node, a column for each axis."""
    below, middle, above = wp.vec3(1.5) - f, f - wp.vec3(1.0), f - wp.vec3(0.5)
    return wp.matrix_from_rows(
        0.5 * wp.cw_mul(below, below),
        wp.vec3(0.75) - wp.cw_mul(middle, middle),
        0.5 * wp.cw_mul(above, above),
    )


def _give_kernel(stress):
    """The kernel of a law: particles give mass and momentum to the grid."""

    @wp.kernel
    def give(
        x: wp.array(dtype=wp.vec3),
        v: wp.array(dtype=wp.vec3),
        C: wp.array(dtype=wp.mat33),
        F: wp.array(dtype=wp.mat33),
        log_E: wp.array(dtype=float),
        mass: float,
        volume: float,
        ratio: float,
        cells: float,
        dt: float,
        grid: wp.array3d(dtype=wp.vec4),
    ):
        p = wp.tid()
        mu = wp.exp(log_E[0]) / (2.0 * (1.0 + ratio))
        lam = 2.0 * mu * ratio / (1.0 - 2.0 * ratio)
        base = _base(x[p] * cells)
        f = _local(x[p] * cells, base)
        w = _weights(f)
        impulse = stress(F[p], mu, lam) * (4.0 * dt * volume * cells)
        slope = C[p] * (mass / cells) - impulse  # of momentum, per cell
        middle = v[p] * mass - slope * f
        for i in range(3):
            for j in range(3):
                for k in range(3):
                    momentum = middle + slope * wp.vec3(float(i), float(j), float(k))
                    given = wp.vec4(momentum[0], momentum[1], momentum[2], mass)
                    given = given * (w[i, 0] * w[j, 1] * w[k, 2])
                    wp.atomic_add(grid, base[0] + i, base[1] + j, base[2] + k, given)

    return give


@wp.kernel
def _move(
    grid: wp.array3d(dtype=wp.vec4),
    size: int,
    gain: float,
    velocity: wp.array3d(dtype=wp.vec3),
):
    """Momentum over mass, gravity, and walls to slide along."""
    i, j, k = wp.tid()
    node = grid[i, j, k]
    if node[3] > 0.0:
        x, y, z = node[0] / node[3], node[1] / node[3], node[2] / node[3] + gain
        if i < _WALL:
            x = wp.max(x, 0.0)
        if j < _WALL:
            y = wp.max(y, 0.0)
        if k < _WALL:
            z = wp.max(z, 0.0)
        if i >= size - _WALL:
            x = wp.min(x, 0.0)
        if j >= size - _WALL:
            y = wp.min(y, 0.0)
        if k >= size - _WALL:
            z = wp.min(z, 0.0)
        velocity[i, j, k] = wp.vec3(x, y, z)


@wp.kernel
def _take(
    x: wp.array(dtype=wp.vec3),
    F: wp.array(dtype=wp.mat33),
    velocity: wp.array3d(dtype=wp.vec3),
    cells: float,
    dt: float,
    new_x: wp.array(dtype=wp.vec3),
    new_v: wp.array(dtype=wp.vec3),
    new_C: wp.array(dtype=wp.mat33),
    new_F: wp.array(dtype=wp.mat33),
):
    """Particles take velocity and its gradient from the grid, and move."""
    p = wp.tid()
    base = _base(x[p] * cells)
    f = _local(x[p] * cells, base)
    w = _weights(f)
    v = wp.vec3(0.0)
    C = wp.mat33(0.0)
    for i in range(3):
        for j in range(3):
            for k in range(3):
                u = velocity[base[0] + i, base[1] + j, base[2] + k]
                u = u * (w[i, 0] * w[j, 1] * w[k, 2])
                v = v + u
                C = C + wp.outer(u, wp.vec3(float(i), float(j), float(k)) - f)
    C = C * (4.0 * cells)
    new_x[p] = x[p] + v * dt
    new_v[p] = v
    new_C[p] = C
    new_F[p] = F[p] + C * F[p] * dt


@wp.kernel
def _mean_height(x: wp.array(dtype=wp.vec3), share: float, out: wp.array(dtype=float)):
    wp.atomic_add(out, 0, x[wp.tid()][2] * share)


if __name__ == "__main__":
    places = np.frombuffer(sys.stdin.buffer.read(), np.float32).reshape(-1, 3)
    print(json.dumps(measure(places, **json.loads(sys.argv[1]))))
