"""How sure a fit is: the posterior of identity, expression and pose around the solution.

Every row of the fit's residual is divided by its standard deviation, and the priors are rows, too.
So the inverse of J^T J, J being the residual's Jacobian at the solution, is the covariance of the
Gaussian that has the posterior's peak and curvature (Laplace's approximation; Bishop 2006, 4.4).
It holds as far as its premises do: landmarks as noisy as stated, errors that know nothing of each
other, a face that the model can make. `evaluation.calibration` measures how far that is. Root mean
square errors over stated deviations, 1 at best, of hundreds of random faces:

  inner     noise as stated                                         0.99 to 1.06
  robust    a simulated detector, 8 to 10 px                        0.95 to 1.05
            the same, 3 px                                          0.96 to 1.11
            the same, with a contour_weight of 1 instead of 0.35    1.04 to 1.38

The paths miss the outline by a little, and that error neither shrinks with the noise nor averages
out along the contour: at its full weight it makes fits too sure, by a factor that depends on the
noise. So no factor is put on top of the deviations; the contour's smaller weight accounts for it.

Two things it does not know. Rows whose pull the Huber loss has limited enter with the Jacobian of
the residual that the solver squares: an outlier's share falls with its distance, but is never
nothing, so it counts for a little more than it should. And the ends of the expressions' range are
felt only where an expression has reached them: elsewhere its spread may pass them.

Axes: K identity and E expression coefficients, B photos, N unknowns of all photos, F of one photo,
V vertices.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from numpy.typing import NDArray

from recon import fit, person, residuals
from recon.fit import FaceFit
from recon.morphable import NUM_CONTOUR, MorphableModel
from recon.residuals import FitConfig, FitModel, Observation, Unknowns
from render.program_io import kept


@struct.dataclass
class Posterior:
    """Standard deviations of a fit; of each, the other unknowns being unknown as well.

    Infinite or NaN where the landmarks leave the pose open.
    """

    rotation_std_deg: jax.Array  # [3] about the viewer's axes x (pitch), y (yaw) and z (roll)
    translation_std_px: jax.Array  # [2] of the point where the model's origin is in the picture
    scale_std: jax.Array  # [] of the scale, relative to it; zero where it is known
    coefficient_root: jax.Array  # [K + E, K + E] lower triangular; times its transpose: covariance

    @property
    def coefficient_covariance(self) -> jax.Array:
        """Covariance [K + E, K + E] of the identity and, after it, the expression."""
        return self.coefficient_root @ jnp.swapaxes(self.coefficient_root, -1, -2)

    @property
    def coefficient_std(self) -> jax.Array:
        """Standard deviations [K + E]: identity, then expression."""
        return jnp.linalg.norm(self.coefficient_root, axis=-1)


@kept
def posterior(model: FitModel, seen: Observation, face: FaceFit, config: FitConfig) -> Posterior:
    """Says how sure a fit is.

    Args:
      model: from `fit.prepare`.
      seen: what was fitted.
      face: the result of `fit.fit_face`.
      config: what it was fitted with.
    """
    is_free = _free_unknowns(model, seen, config)
    at = _solution(face)
    jacobian = residuals.jacobian(at, model, face.params.pose, seen, config)[:, is_free]
    return _deviations(_inverse_root(jacobian), is_free, model)


@kept
def person_posterior(
    model: FitModel, seen: Observation, faces: FaceFit, config: FitConfig
) -> Posterior:
    """Says how sure a fit of one person to B photos is: a leading axis B on every leaf.

    Arguments as in `posterior`, `seen` and `faces` as in and from `person.fit_person`. The
    identity's block of the covariance is the same for all photos: it knows of all of them. What
    errs alike in all photos does not average out: of five, the identity is off by up to 1.2 times
    what is stated.
    """
    num_photos = len(seen.xy)
    is_free = _free_unknowns(model, seen, config)
    config = person.shared_prior(config, num_photos)
    at = jax.vmap(_solution)(faces)
    jacobian = person.person_jacobian(at, model, faces.params.pose, seen, config, is_free)
    root = person.apart(_inverse_root(jacobian), num_photos, model.num_identity)
    return jax.vmap(lambda root: _deviations(root, is_free, model))(root)


def _free_unknowns(model: FitModel, seen: Observation, config: FitConfig) -> NDArray:
    num_coefficients = model.landmark_rows.shape[-1] - 1
    return fit.free_unknowns(num_coefficients, seen.known_scale is None, config)


def _solution(face: FaceFit) -> Unknowns:
    """The unknowns of a fit whose start is its own pose: so its turn is about the viewer's axes."""
    coefficients = jnp.concatenate([face.params.identity, face.params.expression])
    still = jnp.zeros(3, coefficients.dtype)
    return Unknowns(coefficients, still, still[:2], still[0], face.params.path)


def _deviations(root: jax.Array, is_free: NDArray, model: FitModel) -> Posterior:
    """Reads the posterior of one photo off its rows [F, N] of a root of the covariance."""
    num_coefficients = model.landmark_rows.shape[-1] - 1
    all_rows = jnp.zeros((num_coefficients + 6 + NUM_CONTOUR, root.shape[1]), root.dtype)
    coefficients, turn, shift, log_scale, _ = jnp.split(
        all_rows.at[is_free].set(root), np.cumsum([num_coefficients, 3, 2, 1])
    )
    return Posterior(
        rotation_std_deg=jnp.rad2deg(jnp.linalg.norm(turn, axis=1)),
        translation_std_px=jnp.linalg.norm(shift, axis=1),
        scale_std=jnp.linalg.norm(log_scale),
        coefficient_root=_triangle(coefficients.T).T,
    )


def _inverse_root(jacobian: jax.Array) -> jax.Array:
    """Returns G [N, N] with G G^T = (J^T J)^-1, of J [R, N].

    By the QR decomposition of J with its columns scaled alike: it keeps twice the digits that
    the product would, so that float32 suffices.
    """
    norm = jnp.linalg.norm(jacobian, axis=0)
    unit = 1.0 / jnp.where(norm > 0.0, norm, 1.0)
    identity = jnp.eye(len(unit), dtype=unit.dtype)
    inverse = jax.scipy.linalg.solve_triangular(_triangle(jacobian * unit), identity)
    return unit[:, None] * inverse


def _triangle(matrix: jax.Array) -> jax.Array:
    """Returns the upper triangular R [n, n] with R^T R = A^T A, of A [m, n]."""
    return jnp.linalg.qr(matrix, mode="r")


@jax.jit
def vertex_std(model: MorphableModel, uncertainty: Posterior) -> jax.Array:
    """Returns the standard deviation [V] of each vertex in the model's own frame, metres.

    It is the root of the trace of the vertex' covariance (3 x 3), so the distance by which the
    vertex is likely to be off; identity and expression add up, the pose is left out. `model` is
    the one that was fitted.
    """
    root = uncertainty.coefficient_root
    k = model.identity_sigma.shape[0]
    moves = model.identity_basis @ (model.identity_sigma[:, None] * root[:k])
    moves = moves + model.expression_basis @ root[k:]
    return jnp.linalg.norm(moves.reshape(moves.shape[0], -1), axis=-1)
