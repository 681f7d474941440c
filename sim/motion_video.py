"""A scene as a motion prior looks at it: a short video in colours that say where matter rests.

What a network is to know is how things move. So looks are taken out of its sight: each Gaussian
is coloured by its place at rest, before black, and seen by a camera that always stands the same
way. Then no capacity is spent on textures, and whatever the user's scene is made of, it looks like
what the network learnt from.

  video = motion_video(log10_modulus, simulation, view)     # [T, H, W, 3]
  video, slope = video_and_slope(log10_modulus, simulation, view)

A view of a larger network is one of the scene's own looks: `film_motion` draws what Gaussians there
are, before any background.

Long motions are shown in groups, by turns: of M T simulated frames, group i is every M-th from
frame i on. (The paper calls it frame interpolation.)

Axes: T key frames, H rows and W columns of pixels, A Gaussians. Lengths in metres in the box.

Source: Huang et al. 2024 (DreamPhysics, section 3.3: groups, truncated derivatives).
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
_OPACITY_LOGIT = 2.2  # 0.9
_SPREAD = 0.62  # standard deviation of a particle's Gaussian, in their spacing
LN10 = math.log(10.0)  # pascals are told by their decimal logarithm here


@dataclasses.dataclass(frozen=True)
class ClipTiming:
    """Key frames of a clip; static, as reverse mode wants them before it compiles."""

    num_frames: int = 8  # T, the first is the start
    per_frame: int = 140  # substeps of a simulated frame
    groups: int = 1  # M: so many simulated frames lie between two key frames
    tracked: int | None = None  # substeps before each frame that derivatives pass; None: all


@struct.dataclass
class MotionView:
    """How a simulation is looked at."""

    camera: Camera  # in the splats' own space
    timing: ClipTiming = struct.field(pytree_node=False)
    max_pairs: int | None = struct.field(pytree_node=False, default=None)  # of `SplatConfig`
    background: tuple[float, float, float] = struct.field(pytree_node=False, default=BACKGROUND)


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


def draw_particles(x: np.ndarray, spacing: float) -> Gaussians:
    """Returns a round Gaussian for each particle at x [N, 3], wide enough to close the gaps.

    Args:
      x: places.
      spacing: between neighbours, in units of x.
    """
    count = len(x)
    return Gaussians(
        means=x,
        quats=np.tile(np.float32([1, 0, 0, 0]), (count, 1)),
        log_scales=np.full((count, 3), np.log(_SPREAD * spacing), np.float32),
        logit_opacities=np.full(count, _OPACITY_LOGIT, np.float32),
        harmonics=np.zeros((count, 1, 3), np.float32),
    )


def with_colors(gaussians: Gaussians, colors: jax.Array) -> Gaussians:
    """Returns Gaussians of colours [A, 3], alike from all sides."""
    return gaussians.replace(harmonics=((colors - 0.5) / harmonics.CONSTANT)[:, None])


def mirror_video(video: jax.Array) -> jax.Array:
    """Mirrors videos [..., H, W, 3]: left is right then, and red is green."""
    return video[..., ::-1, np.array([1, 0, 2])]


def _film_motion(simulation, view, group):
    timing = view.timing
    num_frames = timing.groups * timing.num_frames
    frames = roll_clip(simulation, timing.per_frame, num_frames, timing.tracked)
    if timing.groups > 1:
        chosen = group + timing.groups * jnp.arange(timing.num_frames)
        frames = frames._replace(x=frames.x[chosen], F=frames.F[chosen])
    forward_mode = simulation.config.grid.forward_mode
    config = SplatConfig(max_pairs=view.max_pairs, forward_mode=forward_mode)
    shown = splat_clip(clip_at(simulation, frames), view.camera, config, view.background)
    return MotionVideo(2.0 * shown.rgb - 1.0, frames.out_of_grid | shown.overflow)


_compiled_film = compiled(_film_motion)


def film_motion(
    simulation: Simulation, view: MotionView, group: jax.Array | int = 0
) -> MotionVideo:
    """Simulates and films a clip. Differentiable, in the mode that the simulation's grid says.

    Args:
      simulation: its Gaussians are drawn as they are; its `dt` is that of the substeps.
      view: camera and timing.
      group: [] int32, of `ClipTiming.groups`.
    """
    return _compiled_film(simulation, view, group)


def _motion_video(log10_modulus, simulation, view):
    material = simulation.material.replace(
        log_youngs_modulus=LN10 * jnp.asarray(log10_modulus, simulation.state.x.dtype)
    )
    return _film_motion(simulation.replace(material=material), view, 0)


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
