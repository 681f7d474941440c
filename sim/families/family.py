"""The kinds of motion that the small video prior knows, and what their scenes have in common.

The stalk stands on the floor, is hit once, and sways; the block does so too, but is about as broad
as it is tall: a bust, a toy, a pot of flowers; the drop falls onto the floor, squashes and bounces.
All else is random: shape, kick, Poisson's ratio, stiffness. The substep is one for every
stiffness of a family, fixed by the stiffest: the damping of the transfers depends on it.

Units: SI; stiffness is told by log10 of Young's modulus in pascals.
"""

import dataclasses

import numpy as np

from render.camera import Camera, perspective_camera
from sim.boundary import WALL_CELLS
from sim.motion_video import ClipTiming, MotionView

Z_UP = (0.0, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Family:
    """One kind of motion."""

    name: str
    gravity: float  # m/s^2, along z
    frame_seconds: float  # between key frames
    timing: ClipTiming
    target_height: float  # metres above the floor that the camera looks at
    distance: float  # metres of the camera from there
    usual_height: float  # metres, of what is in its scenes
    widest: float  # metres: what is wider, for its height, is looked at from further away
    spacing: float  # metres between its particles, about
    kick: float = 0.0  # rad/s about the foot, after the blow, in the mean
    log10_range: tuple[float, float] = (3.9, 6.3)  # of what is simulated
    bands: tuple[float, ...] = (4.6, 5.1, 5.6)  # inside by 0.7: what words may ask for
    num_particles: int = 500
    num_nodes: int = 28  # per side of the box: what sways is not to touch its walls
    side: float = 1.4  # metres
    density: float = 1000.0  # kg/m^3
    law: str = "neo_hookean"
    size: int = 32  # pixels of the video
    height: float = 0.62  # metres of `rest_colors`

    @property
    def dt(self) -> float:
        """Seconds of a substep."""
        return self.frame_seconds / self.timing.per_frame

    @property
    def dx(self) -> float:
        """Metres between nodes."""
        return self.side / self.num_nodes

    @property
    def middle(self) -> float:
        """Of the box's walls along x and y, metres: matter that is mirrored there moves alike."""
        return 0.5 * (self.side - self.dx)

    @property
    def floor(self) -> float:
        """Height of the floor in the box, metres."""
        return WALL_CELLS * self.dx


FAMILIES = {
    family.name: family
    for family in (
        Family("stalk", 0.0, 0.065, ClipTiming(per_frame=140), 0.24, 1.6, 0.52, 0.45, 0.03, 3.1),
        # Shear is faster than bending: what is broad is looked at more often.
        Family("block", 0.0, 0.035, ClipTiming(per_frame=76), 0.24, 1.6, 0.42, 0.55, 0.044, 5.0),
        Family("drop", -9.8, 0.045, ClipTiming(per_frame=96), 0.2, 1.55, 0.32, 0.5, 0.032),
    )
}
_ELEVATION = 0.22  # radians of the one camera


def family_camera(family: Family) -> Camera:
    """The camera that all clips of a family are seen by."""
    target = np.array([family.middle, family.middle, family.floor + family.target_height])
    towards = np.array([0.0, -np.cos(_ELEVATION), np.sin(_ELEVATION)])
    eye = target + family.distance * towards
    return perspective_camera(eye, target, family.size, family.size, up=Z_UP)


def family_view(family: Family) -> MotionView:
    """The view that all clips of a family are seen by."""
    max_pairs = 3 * family.num_particles + 64
    return MotionView(family_camera(family), family.timing, max_pairs)
