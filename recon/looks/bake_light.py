"""Bakes how light reaches each vertex of the mean head and of its hair: harmonics with shadows.

The head is looked at from directions spread evenly over the sphere; what a direction sees is lit
from it. Irradiance over pi is then transfer @ radiance, both in 9 spherical harmonics.

Axes: V vertices of the head, M of the hair, T triangles, D directions. Units: metres.

Source: Sloan, Kautz and Snyder 2002 (precomputed radiance transfer, shadowed and diffuse).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from recon.morphable import MorphableModel
from recon.painting.surface import even_directions
from render import harmonics
from render.camera import orthographic_camera, project
from render.mesh import vertex_normals
from render.rasterize import rasterize
from render.zbuffer import RasterizeConfig

_NUM_DIRECTIONS = 96
_SIDE, _EXTENT = 192, 0.42  # pixels and metres of a shadow map
_STEP = 8192  # vertices and triangles are padded to, so that few sizes are compiled
_BIAS = 0.003, 0.006  # metres that skin and hair may lie behind what their pixel sees
_CONFIG = RasterizeConfig(max_pairs=60_000)
_SCATTER = 0.25  # of the cosine: hair scatters around itself
_CENTER, _ROUNDNESS = np.array([0.0, 0.02, -0.01]), np.array([1.0, 0.7, 1.0])
_CARD_SHARE = 0.8  # of the cards' own normals; alone they look like scales


def hair_normals(
    places: np.ndarray, triangles: np.ndarray, card_share: float = _CARD_SHARE
) -> np.ndarray:
    """Unit normals [M, 3] of hair: outwards from the head, bent as its cards are.

    Args:
      places: [M, 3].
      triangles: [T, 3] of the cards, which have no inside and no outside.
      card_share: of the cards' own normals.
    """
    outward = _unit((places - _CENTER) * _ROUNDNESS)
    a, b, c = np.moveaxis(places[triangles], 1, 0)
    flat = np.cross(b - a, c - a)
    normals = np.zeros_like(places)
    for corner in triangles.T:
        facing = np.sign((flat * outward[corner]).sum(1, keepdims=True))
        np.add.at(normals, corner, flat * facing)
    return _unit(outward + card_share * _unit(normals))


def bake_transfer(
    model: MorphableModel, places: np.ndarray, triangles: np.ndarray, is_dense: np.ndarray
) -> np.ndarray:
    """Bakes the light of the head and of the hair it wears [V + M, 9].

    Args:
      model: whose mean it is.
      places: [M, 3] of the hair; none for a bare head.
      triangles: [T, 3] of the hair's cards.
      is_dense: [T] which of them throw a shadow.
    """
    head = np.asarray(model.mean, np.float64)
    normals = np.asarray(vertex_normals(model.mean, model.triangles), np.float64)
    normals = np.concatenate([normals, hair_normals(places, triangles)])
    vertices = np.concatenate([head, places])
    is_hair = np.arange(len(vertices)) >= len(head)
    bias = np.where(is_hair, _BIAS[1], _BIAS[0])
    solid = np.concatenate([np.asarray(model.triangles), len(head) + triangles[is_dense]])
    directions = even_directions(_NUM_DIRECTIONS)
    basis = np.asarray(harmonics.basis(jnp.asarray(directions), 2))
    see = _see_from(vertices, solid)
    transfer = np.zeros((len(vertices), basis.shape[-1]))
    for direction, weights in zip(directions, basis, strict=True):
        cosine = normals @ direction
        cosine = np.where(is_hair, _SCATTER + (1 - _SCATTER) * cosine, cosine)
        transfer += np.outer(see(direction, bias) * np.maximum(cosine, 0), weights)
    return transfer * 4 / _NUM_DIRECTIONS  # 4 pi of the sphere, over pi


def _see_from(vertices: np.ndarray, triangles: np.ndarray) -> Callable:
    """Returns a function of direction and bias: the share of each vertex [V + M] that is seen."""
    count = len(vertices)
    vertices, triangles = (
        jnp.asarray(np.pad(rows, [(0, -len(rows) % _STEP), (0, 0)]), dtype)
        for rows, dtype in ((vertices, jnp.float32), (triangles, jnp.int32))
    )

    def see(direction: np.ndarray, bias: np.ndarray) -> np.ndarray:
        up = (0.0, 0.0, 1.0) if abs(direction[1]) > 0.9 else (0.0, 1.0, 0.0)
        away = jnp.asarray(direction, jnp.float32)
        seen = jax.device_get(_shadow_map(away, jnp.array(up), vertices, triangles))
        nearest, xy, depth, overflow = seen
        if overflow:
            raise RuntimeError("expected a shadow map with room for all triangles, found it full")
        shares = []
        for shift in ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)):
            column, row = np.clip((xy[:count] + shift).astype(int), 0, _SIDE - 1).T
            shares.append(depth[:count] <= nearest[row, column] + bias)
        return np.mean(shares, 0)

    return see


@jax.jit
def _shadow_map(
    away: jax.Array, up: jax.Array, vertices: jax.Array, triangles: jax.Array
) -> tuple[jax.Array, ...]:
    """The depth map, the places of the vertices on it and their depths, and whether it is full."""
    camera = orthographic_camera(away, jnp.zeros(3), _SIDE, _SIDE, _EXTENT, up)
    seen = rasterize(camera, vertices, triangles, _CONFIG)
    nearest = jnp.where(seen.triangle >= 0, seen.depth, jnp.inf)
    return nearest, *project(camera, vertices), seen.overflow


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
