"""What stands around a simulated scene, as splats in the space of its own: floor and balls."""

from typing import NamedTuple

import numpy as np

from render import scenery
from render.gaussians import Gaussians
from sim.motion import floor_height, sphere_center, spheres
from sim.particles import Placement, gaussians_out_of_box, out_of_box
from sim.scene import SceneFile
from sim.scene_conditions import MovingSphere


class Ball(NamedTuple):
    """A ball that the scene runs into."""

    sphere: MovingSphere
    splats: Gaussians  # about the origin

    def is_there(self, seconds: float) -> bool:
        """Whether the scene can run into it at a time."""
        return self.sphere.start_time <= seconds < self.sphere.end_time


def floor_splats(scene: SceneFile, placement: Placement) -> list[Gaussians]:
    """The highest plane that matter may fall on; nothing where there is none."""
    height = floor_height(scene)
    if height is None:
        return []
    return [gaussians_out_of_box(placement, scenery.floor(scene.grid_lim, height))]


def balls(scene: SceneFile, placement: Placement) -> list[Ball]:
    """The balls that the scene runs into, in the order of the scene."""
    unshifted = placement.replace(shift=np.zeros(3, np.float32))
    return [
        Ball(one, gaussians_out_of_box(unshifted, scenery.ball(np.zeros(3), one.radius)))
        for one in spheres(scene)
    ]


def ball_place(ball: Ball, placement: Placement, seconds: float) -> np.ndarray:
    """Where the middle [3] of a ball is at a time."""
    return np.asarray(out_of_box(placement, sphere_center(ball.sphere, seconds)))
