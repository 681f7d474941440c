"""What `simulate`, `demo` and `view` share: a scene made ready, its motion frame by frame."""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from render.gaussians import Gaussians, move_gaussians
from sim import carry, checks, particles
from sim.boundary import WALL_CELLS, Conditions
from sim.conditions import make_conditions
from sim.mpm import MpmConfig, MpmState, rollout
from sim.scene import SceneFile
from sim.trajectory_io import Trajectory

_FLOOR_SLOPE = 0.7  # of a normal's z: what is steeper is a wall


class Simulation(NamedTuple):
    """A scene that is ready to run."""

    scene: SceneFile
    setup: particles.Setup
    conditions: Conditions
    config: MpmConfig
    gaussians: Gaussians  # in the box
    roles: carry.Roles


class Motion(NamedTuple):
    """What a run gave, up to its end or to where it failed."""

    seconds: np.ndarray  # [F]
    x: np.ndarray  # [F, N, 3] metres in the box
    deformation: np.ndarray  # [F, N, 3, 3]
    samples: checks.Sample  # [F, ...]
    last: MpmState
    run_seconds: float  # of work, without the first frame, which compiles
    failure: str | None  # one line


def make_simulation(
    scene: SceneFile, gaussians: Gaussians, seed: int, up: str | None, max_particles: int | None
) -> Simulation:
    """Makes a scene ready.

    Raises:
      ValueError: in one line, when the scene and the splats do not go together.
    """
    setup = particles.prepare(scene, gaussians, seed, up, max_particles)
    mass = setup.material.density * setup.state.volume
    conditions = make_conditions(scene.boundaries, scene.gravity, setup.state.x, mass)
    config = MpmConfig(
        num_nodes=scene.n_grid,
        side=scene.grid_lim,
        rpic_damping=max(scene.rpic_damping, 0.0),
        pic_damping=1.0 if scene.rpic_damping < 0 else scene.pic_damping,
        velocity_scale=min(scene.grid_v_damping_scale, 1.0),
    )
    in_box = particles.into_box(setup.placement, setup.gaussians)
    roles = carry.assign_roles(
        in_box.means, setup.gaussian_of_particle, setup.followers, setup.state.x
    )
    return Simulation(scene, setup, conditions, config, in_box, roles)


def run(
    simulation: Simulation, num_frames: int, advance: Callable[[str | None], None] = lambda _: None
) -> Motion:
    """Simulates `num_frames` frames after the first; stops early where the scene fails.

    Args:
      simulation: what to run.
      num_frames: after the one at the start.
      advance: is called after each, with a note on the speed.
    """
    setup = simulation.setup
    sample = _sampler(simulation)
    state, failure, begin = setup.state, None, time.perf_counter()
    frames = [_kept(state)]
    samples = [jax.device_get(sample(state))]
    for number in range(num_frames):
        moved = step_frame(simulation, state)
        if failure := _failure(simulation, moved):
            break
        state = moved
        frames.append(_kept(state))
        samples.append(jax.device_get(sample(state)))
        if number == 0:
            begin = time.perf_counter()
            advance(None)
        else:
            rate = number * len(state.x) * setup.substep.per_frame
            rate /= time.perf_counter() - begin
            advance(f"{rate / 1e6:.1f} million particle steps per second")
    seconds, x, deformation = (np.stack(values) for values in zip(*frames, strict=True))
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *samples)
    elapsed = time.perf_counter() - begin
    return Motion(seconds, x, deformation, stacked, state, elapsed, failure)


def step_frame(
    simulation: Simulation, state: MpmState, conditions: Conditions | None = None
) -> MpmState:
    """Simulates one frame."""
    return rollout(
        state,
        simulation.setup.material,
        simulation.conditions if conditions is None else conditions,
        simulation.setup.substep.dt,
        simulation.setup.substep.per_frame,
        simulation.config,
    )


def _kept(state: MpmState) -> tuple[np.ndarray, ...]:
    return np.asarray(state.time), np.asarray(state.x), np.asarray(state.F, np.float32)


def _failure(simulation: Simulation, state: MpmState) -> str | None:
    """Says in one line what went wrong within a frame; None if nothing did."""
    if not bool(state.out_of_grid):
        return None
    x, v, side = np.asarray(state.x), np.asarray(state.v), simulation.scene.grid_lim
    when = f"at {float(state.time):.3g} s"
    is_sane = np.isfinite(x).all() and np.isfinite(v).all()
    substep = simulation.setup.substep
    if not is_sane or np.max(np.abs(v)) * substep.dt > side:
        return (
            f"expected a motion that stays finite, found that it diverges {when}: a substep_dt "
            f"below {substep.dt:.3g} s, a smaller E or more damping may help"
        )
    low, high = simulation.config.dx, side - 2.5 * simulation.config.dx
    beyond = np.maximum(low - x, x - high)
    count, axis = int(np.sum(beyond.max(-1) > 0)), int(np.argmax(beyond.max(0)))
    return (
        f"expected particles that stay in the box of {side:g} m, found that {max(count, 1)} leave "
        f"it along {'xyz'[axis]} {when}: a bounding_box would hold them"
    )


def obstacles(scene: SceneFile) -> list[dict]:
    """What stands in the way at all times and has a side: planes, as `point` and `normal`."""
    planes = [entry for entry in scene.boundaries if entry["type"] == "surface_collider"]
    if any(entry["type"] == "bounding_box" for entry in scene.boundaries):
        near = WALL_CELLS * scene.grid_lim / scene.n_grid
        for axis in range(3):
            for sign, place in ((1.0, near), (-1.0, scene.grid_lim - near)):
                normal = [sign if axis == k else 0.0 for k in range(3)]
                planes.append({"point": [place] * 3, "normal": normal})
    return planes


def floor_height(scene: SceneFile) -> float | None:
    """Height in the box of the highest plane that matter may fall on; None without one."""
    heights = [plane["point"][2] for plane in obstacles(scene) if plane["normal"][2] > _FLOOR_SLOPE]
    return max(heights) if heights else None


def _sampler(simulation: Simulation) -> Callable[[MpmState], checks.Sample]:
    scene, config = simulation.scene, simulation.config
    planes = obstacles(scene)
    balls = [entry for entry in scene.boundaries if entry["type"] == "sphere"]

    @jax.jit
    def sample(state: MpmState) -> checks.Sample:
        def distance(x):
            gaps = [checks.plane_distance(x, p["point"], jnp.array(p["normal"])) for p in planes]
            for ball in balls:
                gap = checks.sphere_distance(x, ball_center(ball, state.time), ball["radius"])
                gaps.append(jnp.where(state.time < ball["end_time"], gap, jnp.inf))
            return functools.reduce(jnp.minimum, gaps)

        gravity = jnp.asarray(scene.gravity)
        some = distance if planes or balls else None
        return checks.sample(state, simulation.setup.material, gravity, config.dx, some)

    return sample


def ball_center(ball: dict, seconds):
    """Where the middle [3] of a moving sphere is."""
    times, *ways = np.asarray(ball["path"]).T
    return jnp.stack([jnp.interp(seconds, times, way) for way in ways])


def trajectory_of(simulation: Simulation, motion: Motion) -> Trajectory:
    """Returns the motion in the splats' own space."""
    setup, roles = simulation.setup, simulation.roles
    x, F = particles.out_of_box(setup.placement, motion.x, motion.deformation)
    rest, _ = particles.out_of_box(setup.placement, roles.rest)
    follows = (roles.followers, roles.binding.index, roles.binding.weights)
    followers, neighbours, weights = follows if len(roles.followers) else (None, None, None)
    return Trajectory(
        seconds=np.float32(motion.seconds),
        means=np.asarray(x, np.float32),
        index=setup.gaussian_of_particle,
        deformation=np.asarray(F, np.float32),
        rest=np.asarray(rest, np.float32),
        followers=followers,
        neighbours=neighbours,
        weights=weights,
    )


def gaussians_in_box(simulation: Simulation, x: np.ndarray, F: np.ndarray) -> Gaussians:
    """Returns the scene in the box, its particles at x [N, 3] and deformed by F [N, 3, 3]."""
    return carry.carry(simulation.gaussians, simulation.roles, x, F)


def out_of_box(placement: particles.Placement, gaussians: Gaussians) -> Gaussians:
    """Carries Gaussians from the box back into the splats' own space."""
    back, scale = placement.rotation.T, 1.0 / placement.scale
    return move_gaussians(gaussians, back, -scale * back @ placement.shift, scale)


def farthest_way(motion: Motion) -> np.ndarray:
    """The way [F] of the particle that moves most, along its own main direction, metres."""
    way = motion.x - motion.x[0]
    tip = way[:, int(np.argmax(np.max(np.sum(way**2, -1), 0)))]
    return tip @ np.linalg.svd(tip - tip.mean(0), full_matrices=False)[2][0]


def report(simulation: Simulation, motion: Motion) -> dict:
    """Returns the flat numbers of report.json."""
    setup, config = simulation.setup, simulation.config
    num_frames, num_particles = len(motion.seconds) - 1, motion.x.shape[1]
    timed = max(num_frames - 1, 0)
    rate = timed * setup.substep.per_frame * num_particles / max(motion.run_seconds, 1e-9)
    found = checks.report(
        motion.samples, 0.5 * config.dx, up=(0.0, 0.0, 1.0), signal=farthest_way(motion)
    )
    return {
        "failure": motion.failure,
        "particles": num_particles,
        "gaussians": len(setup.gaussians.means),
        "followers": len(setup.followers),
        "nodes_per_side": config.num_nodes,
        "spacing_metres": config.dx,
        "frames": num_frames,
        "substeps_per_frame": setup.substep.per_frame,
        "substep_seconds": setup.substep.dt,
        "largest_stable_substep_seconds": setup.substep.bound,
        "particle_substeps_per_second": rate if timed else None,
        "work_seconds_per_frame": motion.run_seconds / timed if timed else None,
        "way_peak_metres": float(np.sqrt(np.max(np.sum((motion.x - motion.x[0]) ** 2, -1)))),
        **found,
    }
