"""A scene made ready to run, as a pytree: the way from a material to the splats it moves.

  ready = make_simulation(read_scene_file("scene.json"), gaussians)
  state = step_frame(ready.simulation, ready.simulation.state)
  moved = gaussians_at(ready.simulation, state)

Particles live in the box of the scene; all that is drawn lives in the splats' own space, in which
a capture's cameras stand too. `clip_at` is differentiable, so that a picture can teach a material:

  simulation = ready.simulation.replace(material=material)
  frames = roll_clip(simulation, per_frame=50, num_frames=8)
  video = splat_clip(clip_at(simulation, frames), camera, SplatConfig(max_pairs=...))

Axes: N particles, A Gaussians, T key frames.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from render.gaussians import Gaussians
from sim.boundary import Conditions
from sim.carry import Binding, carry
from sim.conditions import make_conditions
from sim.grid import GridConfig
from sim.material import Material
from sim.mpm import Frames, MpmConfig, MpmState, advance, rollout_frames
from sim.needles import Pieces
from sim.particles import Placement, deformation_out_of_box, out_of_box, prepare
from sim.scene import SceneFile
from sim.time_step import TimeStep, choose_time_step


@struct.dataclass
class Simulation:
    """What a scene starts from and what acts on it; only the settings are static under jit."""

    state: MpmState  # [N] at the start, in the box
    material: Material  # [N]
    conditions: Conditions
    dt: jax.Array  # [] seconds of a substep
    substeps: jax.Array  # [] int32, of a frame
    placement: Placement  # of the splats' own space in the box
    gaussians: Gaussians  # [A] at rest, in their own space
    binding: Binding  # of the Gaussians to the particles, in that space
    config: MpmConfig = struct.field(pytree_node=False)


class ReadyScene(NamedTuple):
    """A simulation, and what people want to know of it."""

    scene: SceneFile
    simulation: Simulation
    time_step: TimeStep
    notes: tuple[str, ...]  # what a user should know, one line each
    pieces: Pieces | None = None  # that long Gaussians were cut into


def make_simulation(
    scene: SceneFile,
    gaussians: Gaussians,
    seed: int = 0,
    up: str | None = None,
    max_particles: int | None = None,
    wanted_up: str | None = None,
) -> ReadyScene:
    """Makes a scene ready; see `particles.prepare` for the arguments.

    Raises:
      ValueError: in one line, when the scene and the splats do not go together.
    """
    setup = prepare(scene, gaussians, seed, up, max_particles, wanted_up)
    state, material = setup.state, setup.material
    mass = material.density * state.volume
    grid = GridConfig(
        num_nodes=scene.n_grid,
        side=scene.grid_lim,
        rpic_damping=max(scene.rpic_damping, 0.0),
        pic_damping=1.0 if scene.rpic_damping < 0 else scene.pic_damping,
        velocity_scale=min(scene.grid_v_damping_scale, 1.0),
    )
    simulation = Simulation(
        state=state,
        material=material,
        conditions=make_conditions(scene.boundaries, scene.gravity, state.x, mass, setup.meant),
        dt=jnp.asarray(setup.time_step.dt, state.x.dtype),
        substeps=jnp.int32(setup.time_step.per_frame),
        placement=jax.tree.map(jnp.asarray, setup.placement),
        gaussians=jax.tree.map(jnp.asarray, setup.gaussians),
        binding=jax.tree.map(jnp.asarray, setup.binding),
        config=MpmConfig(grid),
    )
    return ReadyScene(scene, simulation, setup.time_step, setup.notes, setup.pieces)


def with_material(
    ready: ReadyScene, material: Material, frame_dt: float | None = None
) -> ReadyScene:
    """Returns the scene with another material, or other frames, and the substep that they want.

    Args:
      ready: what stays: places, conditions, splats.
      material: of its particles.
      frame_dt: seconds of a frame; the scene's own if None.
    """
    frame_dt = ready.scene.frame_dt if frame_dt is None else frame_dt
    scene = dataclasses.replace(ready.scene, frame_dt=frame_dt, substep_dt=None)
    grid = ready.simulation.config.grid
    time_step = choose_time_step(scene, material, grid.dx)
    simulation = ready.simulation.replace(
        material=material,
        dt=jnp.asarray(time_step.dt, ready.simulation.state.x.dtype),
        substeps=jnp.int32(time_step.per_frame),
    )
    return ready._replace(scene=scene, simulation=simulation, time_step=time_step)


def step_frame(
    simulation: Simulation, state: MpmState, conditions: Conditions | None = None
) -> MpmState:
    """Simulates one frame; one compilation serves any material, dt and number of substeps."""
    conditions = simulation.conditions if conditions is None else conditions
    return advance(
        state,
        simulation.material,
        conditions,
        simulation.dt,
        simulation.substeps,
        simulation.config,
    )


def gaussians_at(simulation: Simulation, state: MpmState) -> Gaussians:
    """Returns the scene [A] at a state, in the splats' own space. Differentiable."""
    return carry_gaussians(simulation, state.x, state.F)


def roll_clip(
    simulation: Simulation, per_frame: int, num_frames: int, tracked: int | None = None
) -> Frames:
    """Simulates a clip from the start: the particles of `num_frames` key frames, in the box.

    Differentiable, see `mpm.rollout_frames`. `Simulation.substeps` has no say here: reverse mode
    wants the number of substeps before it compiles. A new material or `dt` compiles nothing.

    Args:
      simulation: what to run; its `dt` is that of the substeps.
      per_frame: substeps of a frame, static.
      num_frames: T, static; the first is the start.
      tracked: substeps before each frame that derivatives pass through, static; None: all.
    """
    return rollout_frames(
        simulation.state,
        simulation.material,
        simulation.conditions,
        simulation.dt,
        per_frame,
        num_frames,
        simulation.config,
        tracked,
    )


def clip_at(simulation: Simulation, frames: Frames) -> Gaussians:
    """Returns the scene at the key frames, leaves [T, A, ...], in the splats' own space."""
    return lax.map(lambda frame: carry_gaussians(simulation, *frame), (frames.x, frames.F))


def carry_gaussians(simulation: Simulation, x: jax.Array, F: jax.Array) -> Gaussians:
    """As `gaussians_at`, for particles at x [N, 3] in the box, deformed by F [N, 3, 3] there."""
    placement = simulation.placement
    x, F = out_of_box(placement, x), deformation_out_of_box(placement, F)
    return carry(simulation.gaussians, simulation.binding, x, F)
