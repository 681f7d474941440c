"""Fits one identity to several photos of one person, in one solve.

The energy is the sum of the photos' energies (`recon.residuals`), with the prior of the identity
counted once: each photo carries one B-th of its weight. Every photo keeps its own pose,
expression and path parameters.

Axes: B photos, K identity and E expression coefficients, P = 17 contour paths, R rows of one
photo's residual, N = K + E + 6 + P unknowns of one photo, F of which its method moves (the identity
comes first among them).
"""

import jax
import jax.numpy as jnp
from numpy.typing import NDArray

from recon import fit, residuals
from recon.fit import FaceFit, FaceParams
from recon.landmarks import eye_distance
from recon.levenberg_marquardt import solve_least_squares
from recon.pose import Pose
from recon.residuals import FitConfig, FitModel, Observation
from render.program_io import kept


@kept
def fit_person(model: FitModel, seen: Observation, config: FitConfig) -> FaceFit:
    """Fits one identity to B photos, each with a pose, an expression and paths of its own.

    One photo is fitted as by `fit.fit_face`. Their order does not matter, but for rounding.
    Another B is another compilation.

    Args:
      model: from `fit.prepare`.
      seen: photos from `fit.observe`, with the same `config`, joined by
        `residuals.stack_observations`: a leading axis B.
      config: one of `fit.METHODS`, or a variation.

    Returns:
      A fit with a leading axis B on every leaf, so that each photo's can be cut out. Identity
      [B, K] holds B times the same numbers, and so do cost, iterations and converged: they are
      those of the one solve.
    """
    num_photos = seen.xy.shape[0]
    num_coefficients = model.landmark_rows.shape[-1] - 1
    is_free = fit.free_unknowns(num_coefficients, seen.known_scale is None, config)
    config = shared_prior(config, num_photos)
    start = jax.vmap(lambda one: fit.starting_pose(model, one, config))(seen)
    path = jax.vmap(lambda one: residuals.starting_path(model, one, config))(start)
    first = jnp.pad(path, [(0, 0), (num_coefficients + 6, 0)])

    def unknowns(free):
        each = apart(free, num_photos, model.num_identity)
        each = first.at[:, is_free].set(each)
        return jax.vmap(lambda flat: residuals.split_unknowns(flat, num_coefficients))(each)

    solution = solve_least_squares(
        lambda free: person_residual(unknowns(free), model, start, seen, config),
        lambda free: person_jacobian(unknowns(free), model, start, seen, config, is_free),
        together(first[:, is_free], model.num_identity),
        config.max_iterations,
        config.tolerance,
    )
    u = unknowns(solution.x)
    inner_error, contour_error = jax.vmap(
        lambda u, start, seen: residuals.errors_px(u, model, start, seen, config)
    )(u, start, seen)
    return FaceFit(
        params=FaceParams(
            identity=u.coefficients[:, : model.num_identity],
            expression=u.coefficients[:, model.num_identity :],
            pose=jax.vmap(residuals.moved_pose)(start, u.turn, u.shift, u.log_scale),
            path=u.path,
        ),
        cost=jnp.broadcast_to(solution.cost, num_photos),
        iterations=jnp.broadcast_to(solution.iterations, num_photos),
        converged=jnp.broadcast_to(solution.converged, num_photos),
        inner_error_px=inner_error,
        contour_error_px=contour_error,
        eye_distance_px=jax.vmap(eye_distance)(seen.xy),
    )


def shared_prior(config: FitConfig, num_photos: int) -> FitConfig:
    """The settings of each of B photos, whose priors of the identity add up to one."""
    return config.replace(identity_weight=config.identity_weight / num_photos)


def apart(free: jax.Array, num_photos: int, num_identity: int) -> jax.Array:
    """Deals a person's free unknowns [K + B (F - K), ...] out to the photos [B, F, ...]."""
    shared, own = free[:num_identity], free[num_identity:]
    own = own.reshape(num_photos, -1, *free.shape[1:])
    return jnp.concatenate([jnp.broadcast_to(shared, (num_photos, *shared.shape)), own], axis=1)


def together(each: jax.Array, num_identity: int) -> jax.Array:
    """Undoes `apart`: the identity once, then what is each photo's own."""
    return jnp.concatenate([each[0, :num_identity], each[:, num_identity:].ravel()])


def person_residual(
    unknowns: residuals.Unknowns,
    model: FitModel,
    start: Pose,
    seen: Observation,
    config: FitConfig,
) -> jax.Array:
    """The residual [B R] of all photos; `unknowns`, `start` and `seen` have a leading axis B.

    `config` is from `shared_prior`.
    """

    def one(u, start, seen):
        return residuals.residual(u, model, start, seen, config)

    return jax.vmap(one)(unknowns, start, seen).ravel()


def person_jacobian(
    unknowns: residuals.Unknowns,
    model: FitModel,
    start: Pose,
    seen: Observation,
    config: FitConfig,
    is_free: NDArray,
) -> jax.Array:
    """The exact derivative [B R, K + B (F - K)] of `person_residual` in the free unknowns.

    Photos share the columns of the identity; in the others each has rows of its own.
    """

    def one(u, start, seen):
        return residuals.jacobian(u, model, start, seen, config)[:, is_free]

    each = jax.vmap(one)(unknowns, start, seen)  # [B, R, F]
    num_photos, num_rows, _ = each.shape
    shared, own = jnp.split(each, [model.num_identity], axis=-1)
    own = own[:, :, None, :] * jnp.eye(num_photos, dtype=own.dtype)[:, None, :, None]
    own = own.reshape(num_photos, num_rows, -1)
    return jnp.concatenate([shared, own], axis=-1).reshape(num_photos * num_rows, -1)
