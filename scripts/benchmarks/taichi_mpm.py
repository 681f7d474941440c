"""A peer for the benchmark: the material point method in taichi, as one would write it there.

A program of its own, so that neither disturbs the other: the task comes as JSON in the first
argument, places [N, 3] as float32 on standard input; the last line of the output is the answer, as
JSON.

Source: Hu et al. 2018 (MLS-MPM).
"""

import json
import os
import statistics
import sys
import time

import numpy as np
import taichi as ti

_WALL = 3  # nodes from the edge of the grid to the walls


def measure(
    x: np.ndarray, law: str, num_substeps: int, repeats: int, num_gradient_steps: int, **task
) -> dict:
    """Lets particles fall, on as many threads as this process has cores.

    Args:
      x: [N, 3] metres in the unit box.
      law: neo_hookean or jelly.
      num_substeps: of a stretch.
      repeats: stretches, after a first that is not counted.
      num_gradient_steps: zero; taichi's gradients need a program of another kind.
      **task: arguments of `_make_step`.

    Returns:
      CPU-milliseconds per step, the median of the stretches, and the last mean height.
    """
    if num_gradient_steps:
        raise ValueError("expected no gradient to be asked for")
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    ti.init(arch=ti.cpu, cpu_max_num_threads=threads, log_level=ti.WARN)
    places, step = _make_step(x, law, **task)
    times = []
    for _ in range(repeats + 1):
        begin = time.process_time()
        for _ in range(num_substeps):
            step()
        ti.sync()
        times.append(1e3 * (time.process_time() - begin))
    height = float(places.to_numpy()[:, 2].mean())
    return {"milliseconds": statistics.median(times[1:]) / num_substeps, "height": height}


def _make_step(
    x0: np.ndarray,
    law: str,
    num_nodes: int,
    dt: float,
    speed: float,
    gravity: float,
    volume: float,  # of a particle
    density: float,
    log_youngs_modulus: float,
    poisson_ratio: float,
):
    """Returns the field of places, and the function that moves it on by a step."""
    mu = float(np.exp(log_youngs_modulus)) / (2 * (1 + poisson_ratio))
    lam = 2 * mu * poisson_ratio / (1 - 2 * poisson_ratio)
    mass = density * volume
    stress = _neo_hookean if law == "neo_hookean" else _fixed_corotated

    x, v = (ti.Vector.field(3, ti.f32, len(x0)) for _ in range(2))
    C, F = (ti.Matrix.field(3, 3, ti.f32, len(x0)) for _ in range(2))
    grid = ti.Vector.field(4, ti.f32, (num_nodes,) * 3)  # momentum or velocity; mass
    x.from_numpy(x0)
    v.from_numpy(np.tile(np.array([0, 0, speed], np.float32), (len(x0), 1)))
    F.from_numpy(np.tile(np.eye(3, dtype=np.float32), (len(x0), 1, 1)))

    @ti.kernel
    def step():
        for node in ti.grouped(grid):
            grid[node] = ti.Vector.zero(ti.f32, 4)
        for p in x:
            place = x[p] * num_nodes
            base = ti.cast(place - 0.5, ti.i32)
            f = place - base
            w = _weights(f)
            impulse = (4 * dt * volume * num_nodes) * stress(F[p], mu, lam)
            slope = (mass / num_nodes) * C[p] - impulse  # of momentum, per cell
            for i, j, k in ti.static(ti.ndrange(3, 3, 3)):
                offset = ti.Vector([i, j, k])
                momentum = mass * v[p] + slope @ (offset - f)
                given = ti.Vector([momentum[0], momentum[1], momentum[2], mass])
                grid[base + offset] += w[i, 0] * w[j, 1] * w[k, 2] * given
        for node in ti.grouped(grid):
            if grid[node][3] > 0:
                u = grid[node] / grid[node][3]
                u[2] += dt * gravity
                for axis in ti.static(range(3)):
                    if node[axis] < _WALL:
                        u[axis] = ti.max(u[axis], 0)
                    if node[axis] >= num_nodes - _WALL:
                        u[axis] = ti.min(u[axis], 0)
                grid[node] = u
        for p in x:
            place = x[p] * num_nodes
            base = ti.cast(place - 0.5, ti.i32)
            f = place - base
            w = _weights(f)
            new_v = ti.Vector.zero(ti.f32, 3)
            new_C = ti.Matrix.zero(ti.f32, 3, 3)
            for i, j, k in ti.static(ti.ndrange(3, 3, 3)):
                offset = ti.Vector([i, j, k])
                u = w[i, 0] * w[j, 1] * w[k, 2] * grid[base + offset][:3]
                new_v += u
                new_C += u.outer_product(offset - f)
            v[p] = new_v
            C[p] = 4 * num_nodes * new_C
            x[p] += dt * new_v
            F[p] += dt * C[p] @ F[p]

    return x, step


@ti.func
def _weights(f):
    """Quadratic B-splines: a row for each node, a column for each axis."""
    return ti.Matrix.rows([0.5 * (1.5 - f) ** 2, 0.75 - (f - 1.0) ** 2, 0.5 * (f - 0.5) ** 2])


@ti.func
def _neo_hookean(F, mu, lam):
    """The Kirchhoff stress."""
    one = ti.Matrix.identity(ti.f32, 3)
    return mu * (F @ F.transpose() - one) + lam * ti.log(F.determinant()) * one


@ti.func
def _fixed_corotated(F, mu, lam):
    R, _ = ti.polar_decompose(F)
    J = F.determinant()
    stretched = 2 * mu * (F - R) @ F.transpose()
    return stretched + lam * J * (J - 1) * ti.Matrix.identity(ti.f32, 3)


if __name__ == "__main__":
    places = np.frombuffer(sys.stdin.buffer.read(), np.float32).reshape(-1, 3)
    print(json.dumps(measure(places, **json.loads(sys.argv[1]))))
