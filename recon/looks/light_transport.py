"""Light on heads and hair: nine harmonics of what shines, and baked shadows of what stands between.

`Looks` holds for each vertex of the mean head and of its hair how much of each harmonic reaches it,
shadows included. Another head's vertices face other ways: what they see of the open sky changes
with their normals, and the shadows are kept.

Axes: N vertices. Light is radiance in 9 harmonics of `render.harmonics` by 3 colours, [9, 3], in
the head's axes; irradiance is divided by pi, so that times albedo it is what the eye sees.

Sources: Ramamoorthi and Hanrahan 2001 (irradiance from nine harmonics); Sloan et al. 2002
(transfer vectors).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from render import harmonics

# What is left of each band's radiance in irradiance over pi.
_COSINE = np.repeat([1.0, 2 / 3, 1 / 4], [1, 3, 5]).astype(np.float32)
# Irradiance over pi, at the surface that faces it, of a light in one direction cut at degree two.
_PEAK = (1 + 2 + 5 / 4) / (4 * math.pi)
# Light that has been under the skin comes out blurred, red the most: the share of the second band
# and of the first that is left in each colour, after the scattering profile of skin.
_SCATTERED = np.array([[0.93, 0.97, 0.98], [0.6, 0.8, 0.87]], np.float32)
_OPEN_FLOOR = 0.03  # irradiance that ratios are taken above
_RATIOS = (0.4, 2.0)


def directional_light(direction: jax.Array, color: jax.Array) -> jax.Array:
    """Returns [9, 3] of a far light towards unit `direction` [3], of irradiance `color` [3]."""
    return harmonics.basis(direction, 2)[:, None] * (color / _PEAK)


def sky_light(above: jax.Array, below: jax.Array, up: jax.Array) -> jax.Array:
    """Returns [9, 3] of a sky whose radiance goes evenly from `below` [3] to `above` [3].

    Args:
      above: radiance straight up.
      below: radiance straight down.
      up: [3] unit.
    """
    constant = (above + below) / 2 / harmonics.CONSTANT
    slope = (above - below) / 2 * math.sqrt(4 * math.pi / 3)
    x, y, z = up
    first = jnp.stack([-y, z, -x])[:, None] * slope  # the first band is (-y, z, -x)
    return jnp.concatenate([constant[None], first, jnp.zeros((5, 3), constant.dtype)])


def scattered(light: jax.Array) -> jax.Array:
    """Blurs light [9, 3] as skin does, its red the most."""
    first, second = _SCATTERED
    share = np.concatenate([np.ones((1, 3)), np.tile(first, (3, 1)), np.tile(second, (5, 1))])
    return light * jnp.asarray(share, light.dtype)


def open_irradiance(normals: jax.Array, light: jax.Array) -> jax.Array:
    """Returns the irradiance over pi [N, 3] of surfaces that face along unit `normals` [N, 3]."""
    return harmonics.basis(normals, 2) @ (_COSINE[:, None] * light)


def irradiance(
    transfer: jax.Array,
    light: jax.Array,
    open_now: jax.Array,
    mean_normals: jax.Array,
    floor: jax.Array,
) -> jax.Array:
    """Returns the irradiance over pi [N, 3] of a head in its own shadows.

    Args:
      transfer: [N, 9] of the mean head.
      light: [9, 3].
      open_now: [N, 3] of `open_irradiance` of this head.
      mean_normals: [N, 3] of the mean head.
      floor: [N] least share of the open light: what is all but closed in (a scalp under hair, a
        mouth) is lit by light that shines through and around, which transfers leave out.
    """
    open_mean = jnp.maximum(open_irradiance(mean_normals, light), _OPEN_FLOOR)
    ratio = jnp.maximum(open_now, _OPEN_FLOOR) / open_mean
    shadowed = jnp.maximum(transfer @ light, 0.0) * jnp.clip(ratio, *_RATIOS)
    return jnp.maximum(shadowed, floor[:, None] * jnp.maximum(open_now, _OPEN_FLOOR))


def highlight(
    normals: jax.Array,
    to_viewer: jax.Array,
    directions: jax.Array,
    colors: jax.Array,
    roughness: tuple[float, float],
) -> jax.Array:
    """Returns what surfaces mirror of far lights [N, 3], for a reflectance of one.

    Two lobes of the half vector, wide and narrow, as of skin (Kelemen and Szirmay-Kalos use them
    for oily layers), stronger at grazing views.

    Args:
      normals: [N, 3] unit.
      to_viewer: [N, 3] unit.
      directions: [L, 3] unit, towards the lights.
      colors: [L, 3] their irradiance over pi.
      roughness: exponents of the two lobes.
    """
    half = to_viewer[:, None] + directions  # [N, L, 3]
    half = half / jnp.maximum(jnp.linalg.norm(half, axis=-1, keepdims=True), 1e-6)
    cosine = jnp.maximum(jnp.einsum("nd,nld->nl", normals, half), 0.0)
    wide, narrow = roughness
    lobes = 0.06 * wide * cosine**wide + 0.03 * narrow * cosine**narrow
    lobes = lobes * (normals @ directions.T > 0)
    facing = jnp.maximum(jnp.sum(normals * to_viewer, -1), 0.0)
    fresnel = 0.5 + 0.9 * (1.0 - facing) ** 4
    return fresnel[:, None] * (lobes @ colors)
