"""The morphable face model: a mean face, directions of identity and expression, and its landmarks.

Axes: V vertices, T triangles, K identity modes, E expression modes, C control points of a path,
U texture coordinates. Units: metres; y up, z out of the face, x to the subject's left.

Source: Blanz and Vetter 1999; `s = mean + S diag(sigma) alpha` is Eq. 2 of the thesis.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from numpy.typing import NDArray

NUM_LANDMARKS = 68  # iBUG order: 17 contour points, then 51 inner points
NUM_CONTOUR = 17


@struct.dataclass
class MorphableModel:
    """A linear model of faces with everything the fit and the texture need to know of its mesh."""

    mean: jax.Array  # [V, 3]
    triangles: jax.Array  # [T, 3] int32, counter-clockwise from outside
    identity_basis: jax.Array  # [V, 3, K], unit norm over V and axes
    identity_sigma: jax.Array  # [K] standard deviation along each basis column, metres
    expression_basis: jax.Array  # [V, 3, E] displacement per unit coefficient, metres
    expression_sd: jax.Array  # [E] prior standard deviation of each coefficient
    expression_bounds: jax.Array  # [E, 2] range that looks natural
    landmark_vertices: jax.Array  # [68] int32, iBUG order; -1 where the model has no such point
    path_vertices: jax.Array  # [17, C, 3] int32, triangle corners of each control point
    path_weights: jax.Array  # [17, C, 3] barycentric weights
    # Where landmarks lie inside triangles, their corners (-1 without one) and barycentric weights;
    # `landmark_vertices` then names the nearest corner. None: they are vertices.
    landmark_corners: jax.Array | None = None  # [68, 3] int32
    landmark_weights: jax.Array | None = None  # [68, 3]
    albedo_mean: jax.Array | None = None  # [V, 3] in [0, 1]
    albedo_basis: jax.Array | None = None  # [V, 3, A]
    albedo_sigma: jax.Array | None = None  # [A]
    uvs: jax.Array | None = None  # [U, 2], v up
    uv_triangles: jax.Array | None = None  # [T, 3] int32
    mirror: jax.Array | None = None  # [V] int32, the vertex on the other side
    regions: dict[str, jax.Array] | None = None  # name -> [V] membership in [0, 1]
    expression_names: tuple[str, ...] = struct.field(pytree_node=False, default=())
    name: str = struct.field(pytree_node=False, default="unnamed")


@struct.dataclass
class IdentityPrior:
    """Which identities are likely, where they are not N(0, I): a Gaussian."""

    mean: NDArray  # [K]
    covariance: NDArray  # [K, K]

    def of(self, modes: NDArray) -> "IdentityPrior":
        """The prior of some of the modes [k]."""
        return IdentityPrior(self.mean[modes], self.covariance[np.ix_(modes, modes)])


@jax.jit
def face_shape(model: MorphableModel, identity: jax.Array, expression: jax.Array) -> jax.Array:
    """Returns the vertices [V, 3] of a face, Eq. 2 plus expression.

    Args:
      model: the morphable model.
      identity: [k] coefficients alpha in standard deviations; k <= K, the rest are zero.
      expression: [e] coefficients; e is 0 (neutral) or E.
    """
    k, e = identity.shape[-1], expression.shape[-1]
    shape = model.mean + model.identity_basis[..., :k] @ (model.identity_sigma[:k] * identity)
    return shape + model.expression_basis[..., :e] @ expression


def landmark_embedding(model: MorphableModel) -> tuple[jax.Array, jax.Array]:
    """Returns corners [68, 3] int32, vertex 0 where there is none, and barycentric weights [68, 3].

    A landmark that is a vertex stands three times, with the weights 1, 0, 0.
    """
    if model.landmark_corners is None:
        corners = jnp.tile(model.landmark_vertices[:, None], 3)
        weights = jnp.tile(jnp.array([1.0, 0.0, 0.0]), (NUM_LANDMARKS, 1))
    else:
        corners, weights = model.landmark_corners, model.landmark_weights
    return jnp.maximum(corners, 0), weights


def with_modes(model: MorphableModel, num_identity: int, use_expression: bool) -> MorphableModel:
    """Keeps the first `num_identity` modes, and the expressions only if asked."""
    e = model.expression_sd.shape[0] if use_expression else 0
    return model.replace(
        identity_basis=model.identity_basis[..., :num_identity],
        identity_sigma=model.identity_sigma[:num_identity],
        expression_basis=model.expression_basis[..., :e],
        expression_sd=model.expression_sd[:e],
        expression_bounds=model.expression_bounds[:e],
        expression_names=model.expression_names[:e],
    )


def with_paths(model: MorphableModel, corners: NDArray, weights: NDArray) -> MorphableModel:
    """Gives the model other contour paths.

    Args:
      model: the morphable model.
      corners: [P, C, 3] vertices around each control point.
      weights: [P, C, 3] barycentric.
    """
    return model.replace(path_vertices=jnp.asarray(corners), path_weights=jnp.asarray(weights))


def random_identity(key: jax.Array, num_faces: int, num_identity: int) -> jax.Array:
    """Draws identities [num_faces, num_identity] from the model's prior N(0, I)."""
    return jax.random.normal(key, (num_faces, num_identity), jnp.float32)
