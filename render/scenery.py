"""What a simulated scene stands on and runs into, as Gaussians to be drawn with it."""

import jax.numpy as jnp
import numpy as np

from render import harmonics
from render.gaussians import Gaussians

_TILES = 16  # of the floor along a side, light and dark
_DISCS = 6  # Gaussians along a side of a tile
_LIGHT, _DARK = 0.93, 0.83
_BALL_COLOR = np.array([0.35, 0.42, 0.55])
_BALL_DISCS = 3000
_SUN = np.array([0.4, -0.5, 0.77])
_OPAQUE = 6.0  # logit


def floor(side: float, height: float) -> Gaussians:
    """A chequered floor [0, side]^2 at a height, faint towards its rim."""
    count = _TILES * _DISCS
    place = (np.arange(count) + 0.5) / count
    x, y = (axis.ravel() for axis in np.meshgrid(place, place, indexing="ij"))
    is_dark = (np.floor(x * _TILES) + np.floor(y * _TILES)) % 2 > 0
    far = np.hypot(x - 0.5, y - 0.5)
    is_kept = far < 0.5
    x, y, is_dark, far = x[is_kept], y[is_kept], is_dark[is_kept], far[is_kept]
    radius = 0.6 * side / count
    grey = np.where(is_dark, _DARK, _LIGHT)
    grey = grey + (1.0 - grey) * np.clip(far / 0.5, 0, 1) ** 2  # to the white of the background
    return _discs(
        np.stack([side * x, side * y, np.full_like(x, height - 2.0 * radius * 0.05)], -1),
        np.tile([1.0, 0.0, 0.0, 0.0], (len(x), 1)),
        radius,
        np.tile(grey[:, None], (1, 3)),
    )


def ball(center: np.ndarray, radius: float) -> Gaussians:
    """A ball in the light, of flat Gaussians that lie on it."""
    # Places of a spiral are spread evenly over a sphere.
    k = np.arange(_BALL_DISCS) + 0.5
    z = 1.0 - 2.0 * k / _BALL_DISCS
    angle = np.pi * (1.0 + 5.0**0.5) * k
    flat = np.sqrt(1.0 - z * z)
    normals = np.stack([flat * np.cos(angle), flat * np.sin(angle), z], -1)
    # The shortest turn from z to the normal.
    quats = np.stack([1.0 + z, -normals[:, 1], normals[:, 0], np.zeros_like(z)], -1)
    light = 0.55 + 0.45 * np.clip(normals @ _SUN, 0.0, None)
    size = 1.3 * radius * np.sqrt(4.0 / _BALL_DISCS)
    return _discs(np.asarray(center) + radius * normals, quats, size, light[:, None] * _BALL_COLOR)


def _discs(means: np.ndarray, quats: np.ndarray, radius: float, colors: np.ndarray) -> Gaussians:
    scales = np.tile(np.log([radius, radius, 0.05 * radius]), (len(means), 1))
    return Gaussians(
        means=jnp.asarray(means, jnp.float32),
        quats=jnp.asarray(quats, jnp.float32),
        log_scales=jnp.asarray(scales, jnp.float32),
        logit_opacities=jnp.full(len(means), _OPAQUE, jnp.float32),
        harmonics=jnp.asarray((colors[:, None] - 0.5) / harmonics.CONSTANT, jnp.float32),
    )
