"""A scene as a motion prior looks at it: a short video in colours that say where matter rests.

What a network is to know is how things move. So looks are taken out of its sight: each Gaussian
is coloured by its place at rest, before black, and seen by a camera that always stands the same
way. Then no capacity is spent on textures, and whatever the user's scene is made of, it looks like
what the network learnt from.

  video = motion_video(log10_modulus, simulation, view)     # [T, H, W, 3]
  video, slope = video_and_slope(log10_modulus, simulation, view)

Axes: T key frames, H rows and W columns of pixels, A Gaussians. Lengths in metres in the box.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from render import harmonics
from render.camera import Camera
from render.gaussians import Gaussians
from render.splat import SplatConfig, splat_clip
from render.stages import compiled
from sim.simulation import Simulation, clip_at, roll_clip

BACKGROUND = (0.0, 0.0, 0.0)
LN10 = math.log(10.0)  # pascals are told by their decimal logarithm here


@dataclasses.dataclass(frozen=True)
class ClipTiming:
    """Key frames of a clip; static, as reverse mode wants them before it compiles."""

    num_frames: int = 8  # T, the first is the start
    per_frame: int = 140  # substeps


@struct.dataclass
class MotionView:
    """How a simulation is looked at."""

    camera: Camera  # in the splats' own space
    timing: ClipTiming = struct.field(pytree_node=False)
    max_pairs: int | None = struct.field(pytree_node=False, default=None)  # of `SplatConfig`


@struct.dataclass
class MotionVideo:
    """A clip, and whether it can be trusted."""

    video: jax.Array  # [T, H, W, 3] in [-1, 1]
    failed: jax.Array  # [] bool: matter left the grid, or the renderer ran out of room


def rest_colors(rest: jax.Array, foot: jax.Array, height: float) -> jax.Array:
    """Colours [A, 3] in [0, 1] that tell where matter rests.

    Red grows to the right and green to the left, half of each above the foot, so that together
    they are one wherever there is matter; blue grows with height. Lengths count, not shares of a
    bounding box, so that one leaf more does not recolour the stem.

    Args:
      rest: [A, 3] places at rest, metres.
      foot: [3] the middle of where the object stands.
      height: that takes blue from dark to bright, metres; as wide for red and green.
    """
    place = (rest - foot) / height
    colors = jnp.stack([0.5 + place[:, 0], 0.5 - place[:, 0], place[:, 2]], -1)
    return jnp.clip(colors, 0.0, 1.0)


def with_colors(gaussians: Gaussians, colors: jax.Array) -> Gaussians:
    """Returns Gaussians of colours [A, 3], alike from all sides."""
    return gaussians.replace(harmonics=((colors - 0.5) / harmonics.CONSTANT)[:, None])


def mirror_video(video: jax.Array) -> jax.Array:
    """Mirrors videos [..., H, W, 3]: left is right then, and red is green."""
    return video[..., ::-1, np.array([1, 0, 2])]


def _motion_video(log10_modulus, simulation, view):
    material = simulation.material.replace(
        log_youngs_modulus=LN10 * jnp.asarray(log10_modulus, simulation.state.x.dtype)
    )
    timing = view.timing
    frames = roll_clip(simulation.replace(material=material), timing.per_frame, timing.num_frames)
    forward_mode = simulation.config.grid.forward_mode
    config = SplatConfig(max_pairs=view.max_pairs, forward_mode=forward_mode)
    shown = splat_clip(clip_at(simulation, frames), view.camera, config, BACKGROUND)
    return MotionVideo(2.0 * shown.rgb - 1.0, frames.out_of_grid | shown.overflow)


_compiled_video = compiled(_motion_video)


def motion_video(log10_modulus: jax.Array, simulation: Simulation, view: MotionView) -> MotionVideo:
    """Simulates and films a clip. Differentiable, in the mode that the simulation's grid says.

    Args:
      log10_modulus: Young's modulus, log10 of pascals; [] or [N] of the particles.
      simulation: with coloured Gaussians; its `dt` is that of the substeps.
      view: camera and timing.
    """
    return _compiled_video(log10_modulus, simulation, view)


def _video_and_slope(log10_modulus, simulation, view):
    def film(value):
        clip = _motion_video(value, simulation, view)
        return clip.video, clip

    one = jnp.ones_like(jnp.asarray(log10_modulus, simulation.state.x.dtype))
    _, slope, clip = jax.jvp(film, (one * log10_modulus,), (one,), has_aux=True)
    return clip, slope


_compiled_slope = compiled(_video_and_slope)


def video_and_slope(
    log10_modulus: jax.Array, simulation: Simulation, view: MotionView
) -> tuple[MotionVideo, jax.Array]:
    """Returns a clip, and d(video)/d(log10 of Young's modulus) [T, H, W, 3] by forward mode."""
    return _compiled_slope(log10_modulus, in_forward_mode(simulation), view)


def in_forward_mode(simulation: Simulation) -> Simulation:
    """Returns the simulation with kernels that `jax.jvp` passes through."""
    grid = dataclasses.replace(simulation.config.grid, forward_mode=True)
    return simulation.replace(config=dataclasses.replace(simulation.config, grid=grid))
