"""Fits the morphable model to the landmarks of one photo: one energy, one solve.

  fit_model = prepare(model)
  face = fit_face(fit_model, observe(landmarks, METHODS["robust"]), METHODS["robust"])

Axes: K identity and E expression coefficients, P = 17 contour paths, B photos of a batch.
Source: thesis Eq. 2-9 and Algorithm 1. The solver: `recon.levenberg_marquardt`.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from flax import struct
from numpy.typing import NDArray

from recon import contour, pose, residuals, splines
from recon.landmarks import LEFT_EYE_CORNER, RIGHT_EYE_CORNER, Landmarks, eye_distance
from recon.levenberg_marquardt import solve_least_squares
from recon.morphable import NUM_CONTOUR, IdentityPrior, MorphableModel, landmark_embedding
from recon.pose import Pose
from recon.residuals import FitConfig, FitModel, Observation
from render.camera import Camera
from render.program_io import kept

CHAIN_LENGTH = 20  # vertices per contour point, thesis 1.1.3

# The map's distance has kinks at every pixel, on which the solver goes slowly.
_QUADRATIC = FitConfig(
    huber=math.inf,
    distance="map",
    normal="orthogonal",
    contour_weight=1.0,
    normal_sd=0.5,
    max_iterations=100,
)

METHODS: dict[str, FitConfig] = {
    # A vertex per contour point is wrong as soon as the head turns: only a firm prior holds it.
    "fixed": dataclasses.replace(_QUADRATIC, contour="fixed", identity_weight=10.0),
    "inner": dataclasses.replace(_QUADRATIC, contour="drop"),
    "chain": dataclasses.replace(_QUADRATIC, contour="chain"),
    "spline": dataclasses.replace(_QUADRATIC, path_start=0.5),
    "robust": FitConfig(),
}


@struct.dataclass
class FaceParams:
    """A face and where it is."""

    identity: jax.Array  # [K] standard deviations
    expression: jax.Array  # [E]
    pose: Pose
    path: jax.Array  # [P] parameter of each contour point on its path


@struct.dataclass
class FaceFit:
    """What the solver found."""

    params: FaceParams
    cost: jax.Array  # [] half the squared residual norm
    iterations: jax.Array  # [] int32
    converged: jax.Array  # [] bool
    inner_error_px: jax.Array  # [] mean over the inner landmarks in use
    contour_error_px: jax.Array  # [] mean distance of the contour points to the contour
    eye_distance_px: jax.Array  # [] between the outer corners, in the picture


def prepare(
    model: MorphableModel,
    offsets: NDArray | None = None,
    prior: IdentityPrior | None = None,
) -> FitModel:
    """Gathers, once per model and on the host, the rows that fits touch.

    Args:
      model: the model.
      offsets: [68, 3] from each landmark to where the detector finds it, in the model's axes and
        in parts of its outer eye distance (`evaluation.detector_errors`); the paths move along.
      prior: of the model's identities; N(0, I) if not given.
    """
    mean = np.asarray(model.mean, np.float64)
    triangles = np.asarray(model.triangles)
    columns = np.concatenate(
        [
            mean[..., None],
            np.asarray(model.identity_basis) * np.asarray(model.identity_sigma),
            np.asarray(model.expression_basis),
        ],
        axis=-1,
    )
    point_corners, point_weights = map(np.asarray, landmark_embedding(model))
    corners, weights = np.asarray(model.path_vertices), np.asarray(model.path_weights, np.float64)
    points = np.einsum("pcw,pcwd->pcd", weights, mean[corners])
    blend = splines.natural_spline(corners.shape[1])
    chain_corners, chain_directions = _chains(mean, points, blend)
    surface = (mean, triangles, columns)
    path_frames = splines.path_frames(*surface, corners, weights, np.gradient(points, axis=1))
    chain_frames = splines.path_frames(
        *surface,
        chain_corners,
        np.broadcast_to([1.0, 0.0, 0.0], chain_corners.shape),
        chain_directions,
    )
    landmark_rows = np.einsum("lc,lcik->lik", point_weights, columns[point_corners])
    if offsets is not None:
        eyes = landmark_rows[[RIGHT_EYE_CORNER, LEFT_EYE_CORNER], :, 0]
        away = np.asarray(offsets) * np.linalg.norm(eyes[1] - eyes[0])
        landmark_rows[..., 0] += away
        for frames in (path_frames, chain_frames):
            frames[..., :3, 0] += away[:NUM_CONTOUR, None]
    return FitModel(
        landmark_rows=jnp.asarray(landmark_rows, jnp.float32),
        is_present=jnp.asarray(model.landmark_vertices >= 0, jnp.float32),
        path_frames=jnp.asarray(path_frames),
        chain_frames=jnp.asarray(chain_frames),
        path_blend=jnp.asarray(blend, jnp.float32),
        expression_sd=model.expression_sd,
        expression_bounds=model.expression_bounds,
        num_identity=model.identity_sigma.shape[0],
        **({} if prior is None else _prior_fields(prior)),
    )


def _prior_fields(prior: IdentityPrior) -> dict[str, jax.Array]:
    """What `FitModel` holds of a prior."""
    root = np.linalg.cholesky(np.asarray(prior.covariance, np.float64))
    inverse = scipy.linalg.solve_triangular(root, np.eye(len(root)), lower=True)
    return {
        "prior_mean": jnp.asarray(prior.mean, jnp.float32),
        "prior_root": jnp.asarray(inverse, jnp.float32),
    }


def _chains(mean: NDArray, points: NDArray, blend: NDArray) -> tuple[NDArray, NDArray]:
    """Vertices next to `CHAIN_LENGTH` even steps of each path [P, J, 3], and the path's directions.

    The vertex stands three times, as the corners of a barycentric point.
    """
    steps = np.linspace(0.0, 1.0, CHAIN_LENGTH)
    weights = np.asarray(jax.jit(splines.spline_blend)(blend, steps))
    along = np.einsum("jc,pcd->pjd", weights, points)
    squared = ((along[:, :, None] - mean) ** 2).sum(-1)  # [P, J, V]
    corners = np.repeat(squared.argmin(-1)[..., None], 3, axis=-1)
    return corners, np.gradient(along, axis=1)


def observe(
    landmarks: Landmarks,
    config: FitConfig,
    known_scale: float | None = None,
    correlation: NDArray | None = None,
) -> Observation:
    """Prepares a photo's landmarks for `fit_face`: the distance map, if it is used.

    Args:
      landmarks: what the detector found.
      config: one of `METHODS`, or a variation.
      known_scale: pixels per metre; takes the scale out of the unknowns (as in the thesis).
      correlation: [51, 51] of the inner landmarks' errors; none if not given.
    """
    xy, sigma_px = np.asarray(landmarks.xy), np.asarray(landmarks.sigma_px)
    xy = np.concatenate(
        [_filled_contour(xy[:NUM_CONTOUR], sigma_px[:NUM_CONTOUR]), xy[NUM_CONTOUR:]]
    )
    uses_map = config.contour in ("chain", "path") and config.distance == "map"
    seen = Observation(
        xy=xy,
        sigma_px=sigma_px,
        correlation=None if correlation is None else np.float32(correlation),
        distance_map=contour.distance_map(xy[:NUM_CONTOUR]) if uses_map else None,
        known_scale=None if known_scale is None else np.float32(known_scale),
    )
    return jax.device_put(seen)


def _filled_contour(xy: NDArray, sigma_px: NDArray) -> NDArray:
    """Puts points that are left out between their neighbours, where they bend no tangent."""
    is_used = np.isfinite(sigma_px)
    if is_used.all() or not is_used.any():
        return xy
    index = np.arange(len(xy))
    return np.stack([np.interp(index, index[is_used], axis[is_used]) for axis in xy.T], axis=1)


@kept
def fit_face(model: FitModel, seen: Observation, config: FitConfig) -> FaceFit:
    """Fits one face (Algorithm 1).

    Args:
      model: from `prepare`.
      seen: from `observe`, with the same `config`.
      config: one of `METHODS`, or a variation.
    """
    return _fit(model, seen, config)


@kept
def fit_faces(model: FitModel, seen: Observation, config: FitConfig) -> FaceFit:
    """Fits a batch: `seen` and the result have a leading axis B (stack them by `jax.tree.map`)."""
    return jax.vmap(lambda one: _fit(model, one, config))(seen)


def _fit(model: FitModel, seen: Observation, config: FitConfig) -> FaceFit:
    start = starting_pose(model, seen, config)
    num_coefficients = model.landmark_rows.shape[-1] - 1
    is_free = free_unknowns(num_coefficients, seen.known_scale is None, config)
    path = residuals.starting_path(model, start, config)
    first = jnp.concatenate([jnp.zeros(num_coefficients + 6, path.dtype), path])

    def unknowns(free):
        return residuals.split_unknowns(first.at[is_free].set(free), num_coefficients)

    solution = solve_least_squares(
        lambda free: residuals.residual(unknowns(free), model, start, seen, config),
        lambda free: residuals.jacobian(unknowns(free), model, start, seen, config)[:, is_free],
        first[is_free],
        config.max_iterations,
        config.tolerance,
    )
    u = unknowns(solution.x)
    params = FaceParams(
        identity=u.coefficients[: model.num_identity],
        expression=u.coefficients[model.num_identity :],
        pose=residuals.moved_pose(start, u.turn, u.shift, u.log_scale),
        path=u.path,
    )
    inner_error, contour_error = residuals.errors_px(u, model, start, seen, config)
    return FaceFit(
        params=params,
        cost=solution.cost,
        iterations=solution.iterations,
        converged=solution.converged,
        inner_error_px=inner_error,
        contour_error_px=contour_error,
        eye_distance_px=eye_distance(seen.xy),
    )


@jax.jit
def fitted_points(model: FitModel, face: FaceFit) -> jax.Array:
    """Where a fit has the model's landmarks in the picture [68, 2]; the contour's do not slide."""
    params = face.params
    columns = jnp.concatenate([jnp.ones(1), params.identity, params.expression])
    return pose.project(params.pose, model.landmark_rows @ columns)


def starting_pose(model: FitModel, seen: Observation, config: FitConfig) -> Pose:
    """Pose of the mean face from the inner landmarks alone."""
    points = model.landmark_rows[NUM_CONTOUR:, :, 0]
    weights = model.is_present[NUM_CONTOUR:] / seen.sigma_px[NUM_CONTOUR:] ** 2
    find = {"closed_form": pose.closed_form, "frontal": pose.frontal}[config.start]
    found = find(points, seen.xy[NUM_CONTOUR:], weights)
    return found if seen.known_scale is None else found.replace(scale=seen.known_scale)


def free_unknowns(num_coefficients: int, fits_scale: bool, config: FitConfig) -> NDArray:
    """Index of the unknowns that this method moves, in the order of `Unknowns`; on the host."""
    is_free = np.ones(num_coefficients + 6 + NUM_CONTOUR, bool)
    is_free[num_coefficients + 5] = fits_scale
    is_free[num_coefficients + 6 :] = config.contour == "path"
    return np.flatnonzero(is_free)


@functools.partial(jax.jit, static_argnames=("width", "height"))
def face_camera(head: Pose, width: int, height: int) -> Camera:
    """The orthographic camera through which the model, in its own axes, lands on the photo."""
    to_camera = jnp.diag(jnp.array([1.0, -1.0, -1.0])) @ head.rotation
    return Camera(
        rotation=to_camera,
        translation=jnp.array([0.0, 0.0, 1.0]),  # any distance that keeps the head in front
        focal=jnp.stack([head.scale, head.scale]),
        center=head.translation,
        width=width,
        height=height,
        orthographic=True,
    )
