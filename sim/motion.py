"""Runs a scene frame by frame on the host: its motion, what went wrong, what it measures.

Axes: F frames, N particles. Places are metres in the box.
"""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sim import checks
from sim.boundary import WALL_CELLS, curve_at
from sim.mpm import MpmState
from sim.particles import deformation_out_of_box, out_of_box
from sim.scene import SceneFile
from sim.scene_conditions import BoxWalls, MovingSphere, SurfaceCollider
from sim.simulation import ReadyScene, step_frame
from sim.trajectory_io import Trajectory, trajectory_of

_FLOOR_SLOPE = 0.7  # of a normal's z: what is steeper is a wall


class Plane(NamedTuple):
    """A plane that matter stays in front of."""

    point: np.ndarray  # [3]
    normal: np.ndarray  # [3] unit, away from what is solid


class Motion(NamedTuple):
    """What a run gave, up to its end or to where it failed."""

    seconds: np.ndarray  # [F]
    x: np.ndarray  # [F, N, 3] metres in the box
    deformation: np.ndarray  # [F, N, 3, 3]
    samples: checks.Sample  # [F, ...]
    last: MpmState
    run_seconds: float  # of work, without the first frame, which compiles
    failure: str | None  # one line


def run(
    ready: ReadyScene,
    num_frames: int,
    advance: Callable[[str | None], None] = lambda _: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Motion:
    """Simulates `num_frames` frames after the first; stops early where the scene fails.

    Args:
      ready: what to run.
      num_frames: after the one at the start.
      advance: is called after each, with a note on the speed.
      is_stopped: is asked before each; no more are simulated once it says so.
    """
    simulation = ready.simulation
    sample = _sampler(ready)
    state, failure, begin = simulation.state, None, time.perf_counter()
    frames = [_kept(state)]
    samples = [jax.device_get(sample(state))]
    for number in range(num_frames):
        if is_stopped():
            break
        moved = step_frame(simulation, state)
        if failure := _failure(ready, moved):
            break
        state = moved
        frames.append(_kept(state))
        samples.append(jax.device_get(sample(state)))
        if number == 0:
            begin = time.perf_counter()
            advance(None)
        else:
            rate = number * len(state.x) * ready.time_step.per_frame
            rate /= time.perf_counter() - begin
            advance(f"{rate / 1e6:.1f} million particle steps per second")
    seconds, x, deformation = (np.stack(values) for values in zip(*frames, strict=True))
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *samples)
    elapsed = time.perf_counter() - begin
    return Motion(seconds, x, deformation, stacked, state, elapsed, failure)


def _kept(state: MpmState) -> tuple[np.ndarray, ...]:
    return np.asarray(state.time), np.asarray(state.x), np.asarray(state.F, np.float32)


def _failure(ready: ReadyScene, state: MpmState) -> str | None:
    """Says in one line what went wrong within a frame; None if nothing did."""
    if not bool(state.out_of_grid):
        return None
    x, v, side = np.asarray(state.x), np.asarray(state.v), ready.scene.grid_lim
    when = f"at {float(state.time):.3g} s"
    is_sane = np.isfinite(x).all() and np.isfinite(v).all()
    dt, dx = ready.time_step.dt, ready.simulation.config.grid.dx
    if not is_sane or np.max(np.abs(v)) * dt > side:
        return (
            f"expected a motion that stays finite, found that it diverges {when}: a substep_dt "
            f"below {dt:.3g} s, a smaller E or more damping may help"
        )
    low, high = dx, side - 2.5 * dx
    beyond = np.maximum(low - x, x - high)
    count, axis = int(np.sum(beyond.max(-1) > 0)), int(np.argmax(beyond.max(0)))
    return (
        f"expected particles that stay in the box of {side:g} m, found that {max(count, 1)} leave "
        f"it along {'xyz'[axis]} {when}: a bounding_box would hold them"
    )


def obstacles(scene: SceneFile) -> list[Plane]:
    """The planes that stand in the way at all times: colliders and the walls of the box."""
    planes = [
        Plane(np.array(condition.point), np.array(condition.normal))
        for condition in scene.boundaries
        if isinstance(condition, SurfaceCollider)
    ]
    if any(isinstance(condition, BoxWalls) for condition in scene.boundaries):
        near = WALL_CELLS * scene.grid_lim / scene.n_grid
        for normal in np.eye(3):
            planes.append(Plane(np.full(3, near), normal))
            planes.append(Plane(np.full(3, scene.grid_lim - near), -normal))
    return planes


def floor_height(scene: SceneFile) -> float | None:
    """Height in the box of the highest plane that matter may fall on; None without one."""
    heights = [plane.point[2] for plane in obstacles(scene) if plane.normal[2] > _FLOOR_SLOPE]
    return float(max(heights)) if heights else None


def spheres(scene: SceneFile) -> list[MovingSphere]:
    """The balls that the scene runs into."""
    return [condition for condition in scene.boundaries if isinstance(condition, MovingSphere)]


def sphere_center(sphere: MovingSphere, seconds: jax.Array | float) -> jax.Array:
    """Where the middle [3] of a moving sphere is."""
    path = np.asarray(sphere.path)
    return curve_at(seconds, path[:, 0], path[:, 1:])


def _sampler(ready: ReadyScene) -> Callable[[MpmState], checks.Sample]:
    scene, simulation = ready.scene, ready.simulation
    planes, balls = obstacles(scene), spheres(scene)

    @jax.jit
    def sample(state: MpmState) -> checks.Sample:
        def distance(x):
            gaps = [
                checks.plane_distance(x, plane.point, jnp.array(plane.normal)) for plane in planes
            ]
            for ball in balls:
                gap = checks.sphere_distance(x, sphere_center(ball, state.time), ball.radius)
                gaps.append(jnp.where(state.time < ball.end_time, gap, jnp.inf))
            return functools.reduce(jnp.minimum, gaps)

        gravity = jnp.asarray(scene.gravity)
        some = distance if planes or balls else None
        return checks.sample(state, simulation.material, gravity, simulation.config.grid.dx, some)

    return sample


def trajectory_at(ready: ReadyScene, motion: Motion) -> Trajectory:
    """Returns the motion in the splats' own space."""
    placement = ready.simulation.placement
    x, F = out_of_box(placement, motion.x), deformation_out_of_box(placement, motion.deformation)
    return trajectory_of(motion.seconds, x, F, ready.simulation.binding, ready.pieces)


def main_displacement(motion: Motion) -> np.ndarray:
    """Displacement [F] of the particle that moves most, along its own main direction, metres."""
    displacement = motion.x - motion.x[0]
    tip = displacement[:, int(np.argmax(np.max(np.sum(displacement**2, -1), 0)))]
    return tip @ np.linalg.svd(tip - tip.mean(0), full_matrices=False)[2][0]


def report(ready: ReadyScene, motion: Motion) -> dict:
    """Returns the flat numbers of report.json."""
    grid, time_step = ready.simulation.config.grid, ready.time_step
    num_frames, num_particles = len(motion.seconds) - 1, motion.x.shape[1]
    timed = max(num_frames - 1, 0)
    rate = timed * time_step.per_frame * num_particles / max(motion.run_seconds, 1e-9)
    found = checks.metrics(
        motion.samples, 0.5 * grid.dx, up=(0.0, 0.0, 1.0), signal=main_displacement(motion)
    )
    return {
        "failure": motion.failure,
        "particles": num_particles,
        "gaussians": len(ready.simulation.gaussians.means),
        "followers": len(ready.simulation.binding.followers),
        "nodes_per_side": grid.num_nodes,
        "spacing_metres": grid.dx,
        "frames": num_frames,
        "substeps_per_frame": time_step.per_frame,
        "substep_seconds": time_step.dt,
        "largest_stable_substep_seconds": time_step.bound,
        "particle_substeps_per_second": rate if timed else None,
        "work_seconds_per_frame": motion.run_seconds / timed if timed else None,
        "way_peak_metres": float(np.sqrt(np.max(np.sum((motion.x - motion.x[0]) ** 2, -1)))),
        **found,
    }
