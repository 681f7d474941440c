"""Paths on the face: interpolating cubic splines that move with the face's coefficients.

A path is stored as barycentric control points on the mesh (thesis 2.2). Every control point, and a
pair of tangents of the surface there, is linear in the coefficients, and so is the spline through
them: one path point is `blend(p) @ frames @ [1, coefficients]`.

Axes: P paths, C control points, D = 9 (point, tangent u, tangent v), M = 1 + K + E columns
(mean, identity, expression).
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from render.mesh import vertex_normals

FRAME_SIZE = 9
_RINGS = 2  # neighbourhood of a tangent plane; one ring is noisy on a 4,000-vertex head


def natural_spline(num_control: int) -> NDArray:
    """Coefficients [C - 1, 4, C] of the natural cubic spline through C uniform knots.

    Row `[s, k]` gives, from the control values, the coefficient of `(u - s)^k` on segment s, with
    `u = p (C - 1)` and p in [0, 1].
    """
    import scipy.interpolate  # here, as it takes 0.4 s, and only a new model needs it

    knots = np.arange(num_control)
    spline = scipy.interpolate.CubicSpline(knots, np.eye(num_control), bc_type="natural")
    return np.moveaxis(spline.c[::-1], 0, 1)  # SciPy's begin with the cubes


def spline_blend(coefficients: jax.Array, p: jax.Array) -> jax.Array:
    """Weights [..., C] of the control points at parameter `p` [...], C1 for every real p.

    Inside [0, 1] it is the cubic spline; past the ends it goes on straight, so that a solver that
    overshoots keeps a slope that leads back.

    Args:
      coefficients: [C - 1, 4, C] from `natural_spline`.
      p: [...] parameter along the path.
    """
    num_segments = coefficients.shape[0]
    inside = jnp.clip(p, 0.0, 1.0)
    u = inside * num_segments
    segment = jnp.clip(jnp.floor(u), 0, num_segments - 1).astype(jnp.int32)
    s = u - segment
    cubic = coefficients[segment]  # [..., 4, C]
    one, zero = jnp.ones_like(s), jnp.zeros_like(s)
    value = jnp.stack([one, s, s**2, s**3], -1)
    slope = jnp.stack([zero, one, 2.0 * s, 3.0 * s**2], -1) * num_segments
    # p - inside is zero inside, with derivative zero: d/dp is the spline's own there.
    powers = value + jax.lax.stop_gradient(slope) * (p - inside)[..., None]
    return jnp.einsum("...k,...kc->...c", powers, cubic)


def tangent_weights(
    mean: NDArray, triangles: NDArray, corners: NDArray, weights: NDArray, directions: NDArray
) -> list[scipy.sparse.csr_matrix]:
    """Linear weights over the vertices for the surface's two tangents at given points.

    A plane is fitted to the two-ring neighbourhood of each point on the mean face. The slopes of
    that fit are fixed linear combinations of vertices: they follow every face of the model and
    vary smoothly along a path, which facet normals do not.

    Args:
      mean: [V, 3] mean face.
      triangles: [T, 3].
      corners: [N, 3] vertices around each point.
      weights: [N, 3] barycentric.
      directions: [N, 3] where the path goes on, on the mean face: the first tangent's direction.
        A direction that turns smoothly keeps the frames of one path comparable.

    Returns:
      Sparse matrices (u, v), each [N, V]; cross(u, v) of the mean points out of the face.
    """
    reach = _neighbourhoods(triangles, len(mean))
    normals = np.asarray(vertex_normals(jnp.asarray(mean), jnp.asarray(triangles)))
    rows, columns, slopes = [], [], []
    for i, (corner, weight) in enumerate(zip(corners, weights, strict=True)):
        near = np.unique(np.concatenate([reach[c].indices for c in corner[weight > 0]]))
        axis_v = np.cross(weight @ normals[corner], directions[i])
        axis_v /= np.linalg.norm(axis_v)
        axis_u = np.cross(axis_v, weight @ normals[corner])
        axis_u /= np.linalg.norm(axis_u)
        offset = mean[near] - weight @ mean[corner]
        distance = np.linalg.norm(offset, axis=1)
        trust = np.exp(-((2.0 * distance / distance.max()) ** 2))
        design = np.stack([np.ones(len(near)), offset @ axis_u, offset @ axis_v], 1)
        fitted = np.linalg.lstsq(design * trust[:, None], np.diag(trust), rcond=None)[0]
        rows.append(np.full(len(near), i))
        columns.append(near)
        slopes.append(fitted[1:])
    index = (np.concatenate(rows), np.concatenate(columns))
    shape = (len(corners), len(mean))
    return [scipy.sparse.csr_matrix((s, index), shape) for s in np.concatenate(slopes, axis=1)]


def path_frames(
    mean: NDArray,
    triangles: NDArray,
    columns: NDArray,
    corners: NDArray,
    weights: NDArray,
    directions: NDArray,
) -> NDArray:
    """Frames [P, C, D, M] of path points: position and two tangents, linear in coefficients.

    Args:
      mean: [V, 3].
      triangles: [T, 3].
      columns: [V, 3, M] mean, identity and expression columns side by side.
      corners: [P, C, 3] triangle vertices of each control point.
      weights: [P, C, 3] barycentric.
      directions: [P, C, 3] of each path on the mean face, any length; see `tangent_weights`.
    """
    flat_corners, flat_weights = corners.reshape(-1, 3), weights.reshape(-1, 3)
    flat = columns.reshape(len(mean), -1)
    position = np.einsum("nw,nwm->nm", flat_weights, flat[flat_corners])
    tangents = tangent_weights(
        mean, triangles, flat_corners, flat_weights, directions.reshape(-1, 3)
    )
    stacked = np.stack([position] + [tangent @ flat for tangent in tangents], axis=1)
    return stacked.reshape(*corners.shape[:2], FRAME_SIZE, columns.shape[-1]).astype(np.float32)


def frame_normal(frame: jax.Array) -> jax.Array:
    """Unnormalised outward normal [..., 3] of a frame [..., D]."""
    return jnp.cross(frame[..., 3:6], frame[..., 6:9])


def _neighbourhoods(triangles: NDArray, num_vertices: int) -> scipy.sparse.csr_matrix:
    """Boolean matrix [V, V]: which vertices lie within a few edges of each other."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    size = (num_vertices, num_vertices)
    step = scipy.sparse.csr_matrix((np.ones(len(edges), bool), edges.T), size)
    step = step + step.T + scipy.sparse.identity(num_vertices, dtype=bool, format="csr")
    reach = step
    for _ in range(_RINGS - 1):
        reach = reach @ step
    return reach.tocsr()
