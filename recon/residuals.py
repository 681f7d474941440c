"""The one energy of the fit, as a residual vector and its exact Jacobian.

Every block is divided by its standard deviation, so all are dimensionless and `identity_weight`
(the thesis' eta) is 1 at the maximum of the posterior. The methods differ in how the 17 contour
points enter, and in nothing else:

  fixed    each is tied to one vertex (Eq. 4)
  drop     none enters
  chain    the vertex of a chain whose normal is most orthogonal to the view, by its distance to
           the pixel contour (Eq. 5-7)
  path     a point sliding on a spline (Eq. 9); its condition on the normal and its distance to
           the contour are settings of their own

Axes: N points, P = 17 paths, C control points, D = 9 (point and two tangents), M = 1 + K + E
columns (mean, identity, expression). Pixels in the picture, metres on the face.

The Jacobian is autodiff, structured: a local residual has at most 22 inputs (frame, pose, path
parameter) and is differentiated there; the chain to the unknowns is a few matrix products. This
equals `jax.jacfwd` of the whole residual, at a fraction of its cost for many modes.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recon import contour, pose, splines
from recon.morphable import NUM_CONTOUR
from recon.pose import Pose
from render.transforms import rodrigues, safe_norm, safe_normalize

_SIGHT_STEPS = 65  # along a path of about 7 cm


def _choice(default: Any) -> Any:
    """A setting that the compiled program is built around; the others are numbers it is given."""
    return struct.field(pytree_node=False, default=default)


@struct.dataclass
class FitConfig:
    """Settings of one method. `recon.fit.METHODS` names five.

    The default weights come from `evaluate_fit --tune`, over two models of 10 to 199 modes.

    Weights and standard deviations are leaves: other values need no new compilation, and `vmap`
    tries many at once.
    """

    contour: str = _choice("path")  # fixed, drop, chain or path
    distance: str = _choice("anisotropic")  # of a path point: map, polyline or anisotropic
    normal: str = _choice("complementarity")  # of a path point: orthogonal (Eq. 8) or this
    path_start: float | None = _choice(None)  # 0 jaw, 0.5 middle; None: where it comes in sight
    start: str = _choice("closed_form")  # or "frontal", the thesis' R = I
    huber: float = _choice(1.5)  # standard deviations from which a pull stops growing; inf: never
    inner_weight: float = 1.0  # gamma of Eq. 9
    contour_weight: float = 0.35  # lambda of Eq. 9
    identity_weight: float = 1.0  # eta of Eq. 9
    along_ratio: float = 10.0  # noise along the contour over noise across it
    normal_sd: float = 0.1  # of the condition on the normal
    path_sd: float = 1.0  # of the weak prior on the path parameter; the path is 1 long
    bound_sd: float = 0.03  # how far an expression may pass its natural range
    max_iterations: int = 40
    tolerance: float = 0.02  # stops when no unknown moves by more, in standard deviations


@struct.dataclass
class FitModel:
    """The few rows of a morphable model that a fit touches."""

    landmark_rows: jax.Array  # [68, 3, M]
    is_present: jax.Array  # [68] 1.0 where the model has the landmark, else 0.0
    path_frames: jax.Array  # [P, C, D, M]
    chain_frames: jax.Array  # [P, J, D, M] single vertices
    path_blend: jax.Array  # [C - 1, 4, C]
    expression_sd: jax.Array  # [E]
    expression_bounds: jax.Array  # [E, 2]
    num_identity: int = struct.field(pytree_node=False)
    # Of another prior of the identity a than N(0, I), that of root @ (a - mean): [K], [K, K].
    prior_mean: jax.Array | None = None
    prior_root: jax.Array | None = None


@struct.dataclass
class Observation:
    """What the picture says."""

    xy: jax.Array  # [68, 2] pixels
    sigma_px: jax.Array  # [68] standard deviation of each landmark; inf leaves it out
    correlation: jax.Array | None = None  # [51, 51] of the inner landmarks' errors; None: none
    distance_map: contour.DistanceMap | None = None  # for distance="map"
    known_scale: jax.Array | None = None  # [] pixels per metre; None leaves it to the fit


def stack_observations(seen: Sequence[Observation]) -> Observation:
    """Joins pictures seen with one `FitConfig`, with a leading axis on every leaf."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *seen)


class Unknowns(NamedTuple):
    """What the solver moves, relative to the starting pose; all zero (path: p) at the start."""

    coefficients: jax.Array  # [K + E]
    turn: jax.Array  # [3] rotation vector, applied after the start's rotation
    shift: jax.Array  # [2] pixels
    log_scale: jax.Array  # []
    path: jax.Array  # [P]


def split_unknowns(flat: jax.Array, num_coefficients: int) -> Unknowns:
    """Gives the entries of a vector [K + E + 6 + P] their names."""
    coefficients, turn, shift, log_scale, path = jnp.split(
        flat, np.cumsum([num_coefficients, 3, 2, 1])
    )
    return Unknowns(coefficients, turn, shift, log_scale[0], path)


def moved_pose(start: Pose, turn: jax.Array, shift: jax.Array, log_scale: jax.Array) -> Pose:
    """The pose that the unknowns make of the starting pose."""
    return Pose(
        rotation=rodrigues(turn) @ start.rotation,
        translation=start.translation + shift,
        scale=start.scale * jnp.exp(log_scale),
    )


def huberize(r: jax.Array, threshold: float) -> jax.Array:
    """Scales `r` [n] so that its squared norm is twice the Huber loss of the norm.

    Inside the solver's square this is exactly the Huber loss, with a continuous derivative; no
    reweighting between iterations, so the solver sees one function.
    """
    if math.isinf(threshold):
        return r
    norm = safe_norm(r)
    is_far = norm > threshold
    far = jnp.where(is_far, norm, 2.0 * threshold)
    damped = jnp.sqrt(2.0 * threshold * far - threshold**2) / far
    return r * jnp.where(is_far, damped, 1.0)


def fischer_burmeister(a: jax.Array, b: jax.Array) -> jax.Array:
    """Zero where a >= 0, b >= 0 and a b = 0, up to a rounded corner (Fischer 1992)."""
    return a + b - jnp.sqrt(a**2 + b**2 + 1e-4)


def point_offset(point: jax.Array, head: jax.Array, xy: jax.Array) -> jax.Array:
    """Reprojection of one model point [3], two components (Eq. 4); `head` is a flat pose [12]."""
    return pose.project(_pose(head), point) - xy


def path_residual(
    frame: jax.Array,
    head: jax.Array,
    p: jax.Array,
    index: jax.Array,
    seen: Observation,
    config: FitConfig,
) -> jax.Array:
    """What a path point [D] at parameter `p` leaves of its contour landmark `index`.

    Returns distance terms (1 or 2), and for `contour="path"` the condition on the normal (Eq. 8 or
    complementarity) and the weak prior on `p`. `head` is a flat pose [12].
    """
    head = _pose(head)
    xy = pose.project(head, frame[:3])
    inverse_sigma = 1.0 / seen.sigma_px[index]
    if config.distance == "map":
        terms = contour.map_distance(seen.distance_map, xy)[None]
    elif config.distance == "polyline":
        terms = contour.polyline_distance(seen.xy[:NUM_CONTOUR], xy)[None]
    else:
        tangent = contour.contour_tangents(seen.xy[:NUM_CONTOUR])[index]
        offset = xy - seen.xy[index]
        along = offset @ tangent / config.along_ratio
        across = offset[0] * tangent[1] - offset[1] * tangent[0]
        terms = jnp.stack([across, along])
    terms = jnp.sqrt(config.contour_weight) * huberize(terms * inverse_sigma, config.huber)
    if config.contour == "chain":
        return terms
    normal_z = head.rotation[2] @ safe_normalize(splines.frame_normal(frame))
    is_complementary = config.normal == "complementarity"
    condition = fischer_burmeister(p, normal_z) if is_complementary else normal_z
    is_seen = jnp.where(jnp.isfinite(seen.sigma_px[index]), 1.0, 0.0)
    condition = condition * is_seen / config.normal_sd
    prior = (p - (config.path_start or 0.0)) / config.path_sd
    return jnp.concatenate([terms, jnp.stack([condition, prior])])


def prior_residual(coefficients: jax.Array, model: FitModel, config: FitConfig) -> jax.Array:
    """Identity prior, expression prior, and what passes the expressions' range [K + 2E]."""
    k = model.num_identity
    identity, expression = coefficients[:k], coefficients[k:]
    if model.prior_root is not None:
        identity = model.prior_root @ (identity - model.prior_mean)
    low, high = model.expression_bounds.T
    excess = jnp.maximum(low - expression, 0.0) + jnp.maximum(expression - high, 0.0)
    return jnp.concatenate(
        [
            jnp.sqrt(config.identity_weight) * identity,
            expression / model.expression_sd,
            excess / config.bound_sd,
        ]
    )


def residual(
    u: Unknowns, model: FitModel, start: Pose, seen: Observation, config: FitConfig
) -> jax.Array:
    """The residual vector [R]: points, contour, priors."""
    head = _flat_pose(_motion(u), start)
    columns = _columns(u)
    rows, xy, whiten = _point_group(model, seen, config)
    offsets = whiten(jax.vmap(point_offset, (0, None, 0))(rows @ columns, head, xy))
    blocks = [jax.vmap(lambda r: huberize(r, config.huber))(offsets)]
    if config.contour in ("chain", "path"):
        blend, frames = _contour_blend(u, columns, head, model, config)
        geometry = jnp.einsum("pc,pcd->pd", blend, frames @ columns)
        local = functools.partial(path_residual, seen=seen, config=config)
        index = jnp.arange(NUM_CONTOUR)
        blocks.append(jax.vmap(local, (0, None, 0, 0))(geometry, head, u.path, index))
    blocks.append(prior_residual(u.coefficients, model, config))
    return jnp.concatenate([b.ravel() for b in blocks])


def jacobian(
    u: Unknowns, model: FitModel, start: Pose, seen: Observation, config: FitConfig
) -> jax.Array:
    """The exact derivative [R, K + E + 6 + P] of `residual` in the order of `Unknowns`."""
    motion = _motion(u)
    head = _flat_pose(motion, start)
    head_by_motion = jax.jacfwd(_flat_pose)(motion, start)  # [12, 6]
    columns = _columns(u)
    rows, xy, whiten = _point_group(model, seen, config)
    points = rows @ columns
    offsets = whiten(jax.vmap(point_offset, (0, None, 0))(points, head, xy))
    by_point, by_head = jax.vmap(jax.jacfwd(point_offset, (0, 1)), (0, None, 0))(points, head, xy)
    by_offset = jax.vmap(jax.jacfwd(lambda r: huberize(r, config.huber)))(offsets)  # [N, 2, 2]
    by_coefficients = by_offset @ whiten(by_point @ rows[..., 1:])
    blocks = [_assemble(by_coefficients, by_offset @ whiten(by_head @ head_by_motion), None)]
    if config.contour in ("chain", "path"):
        blend, frames = _contour_blend(u, columns, head, model, config)
        basis = jnp.einsum("pc,pcdm->pdm", blend, frames)
        local = functools.partial(path_residual, seen=seen, config=config)
        by_frame, by_head, by_p = jax.vmap(jax.jacfwd(local, (0, 1, 2)), (0, None, 0, 0))(
            basis @ columns, head, u.path, jnp.arange(NUM_CONTOUR)
        )
        if config.contour == "path":
            slope = jax.vmap(jax.jacfwd(splines.spline_blend, 1), (None, 0))(
                model.path_blend, u.path
            )
            along = jnp.einsum("pc,pcd->pd", slope, frames @ columns)
            by_p = by_p + jnp.einsum("prd,pd->pr", by_frame, along)
        blocks.append(_assemble(by_frame @ basis[..., 1:], by_head @ head_by_motion, by_p))
    by_prior = jax.jacfwd(prior_residual)(u.coefficients, model, config)
    blocks.append(jnp.pad(by_prior, ((0, 0), (0, motion.size + NUM_CONTOUR))))
    return jnp.concatenate(blocks)


def starting_path(model: FitModel, start: Pose, config: FitConfig) -> jax.Array:
    """Path parameters [P] to begin with.

    Unless `config` names one, each point starts where its path, walked from the jaw, comes in sight
    of the mean face in its starting pose. Points that start at a hidden jaw overshoot, and the
    solver spends its steps on refusing that, or ends with some of them far down their paths.
    """
    if config.path_start is not None:
        return jnp.full(NUM_CONTOUR, config.path_start, model.path_frames.dtype)
    steps = jnp.linspace(0.0, 1.0, _SIGHT_STEPS)
    mean = jnp.einsum(
        "jc,pcd->pjd", splines.spline_blend(model.path_blend, steps), model.path_frames[..., 0]
    )
    is_seen = splines.frame_normal(mean) @ start.rotation[2] >= 0.0
    return steps[jnp.argmax(is_seen, axis=1)]


def errors_px(
    u: Unknowns, model: FitModel, start: Pose, seen: Observation, config: FitConfig
) -> tuple[jax.Array, jax.Array]:
    """Mean distances in pixels: inner landmarks to their points, contour points to the contour."""
    columns = _columns(u)
    flat_head = _flat_pose(_motion(u), start)
    head = _pose(flat_head)
    is_used = model.is_present * jnp.isfinite(seen.sigma_px)
    xy = pose.project(head, model.landmark_rows @ columns)
    inner = safe_norm(xy - seen.xy)[NUM_CONTOUR:]
    contour_xy = xy[:NUM_CONTOUR]
    if config.contour in ("chain", "path"):
        blend, frames = _contour_blend(u, columns, flat_head, model, config)
        geometry = jnp.einsum("pc,pcd->pd", blend, frames @ columns)
        contour_xy = pose.project(head, geometry[:, :3])
    outer = jax.vmap(contour.polyline_distance, (None, 0))(seen.xy[:NUM_CONTOUR], contour_xy)
    return (
        _weighted_mean(inner, is_used[NUM_CONTOUR:]),
        _weighted_mean(outer, is_used[:NUM_CONTOUR]),
    )


def _weighted_mean(x: jax.Array, weights: jax.Array) -> jax.Array:
    return jnp.sum(x * weights) / jnp.maximum(jnp.sum(weights), 1.0)


def _point_group(
    model: FitModel, seen: Observation, config: FitConfig
) -> tuple[jax.Array, jax.Array, Callable[[jax.Array], jax.Array]]:
    """Rows [N, 3, M] and pixels [N, 2] of the points tied to one vertex each.

    The function makes offsets [N, 2, ...] of them, and derivatives of these, independent of each
    other and divides them by their standard deviations.
    """
    first = 0 if config.contour == "fixed" else NUM_CONTOUR
    weight = jnp.where(
        jnp.arange(first, 68) < NUM_CONTOUR,
        jnp.sqrt(config.contour_weight),
        jnp.sqrt(config.inner_weight),
    )
    inverse_sigma = weight * model.is_present[first:] / seen.sigma_px[first:]

    def whiten(x):
        x = x * inverse_sigma.reshape(-1, *[1] * (x.ndim - 1))
        if seen.correlation is None:
            return x
        # Of correlated errors only what the points before do not tell; a point left out tells none.
        is_used = inverse_sigma[NUM_CONTOUR - first :] > 0.0
        correlation = jnp.where(is_used & is_used[:, None], seen.correlation, jnp.eye(len(is_used)))
        root = jnp.linalg.cholesky(correlation)
        outer, inner = jnp.split(x, [NUM_CONTOUR - first])
        flat = inner.reshape(len(inner), -1)
        told = jax.scipy.linalg.solve_triangular(root, flat, lower=True)
        return jnp.concatenate([outer, told.reshape(inner.shape)])

    return model.landmark_rows[first:], seen.xy[first:], whiten


def _contour_blend(
    u: Unknowns, columns: jax.Array, head: jax.Array, model: FitModel, config: FitConfig
) -> tuple[jax.Array, jax.Array]:
    """Weights [P, C] over control points, and the control points' frames [P, C, D, M]."""
    if config.contour == "path":
        return splines.spline_blend(model.path_blend, u.path), model.path_frames
    normals = safe_normalize(splines.frame_normal(model.chain_frames @ columns))
    normal_z = normals @ _pose(head).rotation[2]
    best = jnp.argmin(jnp.abs(normal_z), axis=-1)  # the LM-ICP choice of the thesis' [20]
    return jax.nn.one_hot(best, normals.shape[1], dtype=columns.dtype), model.chain_frames


def _columns(u: Unknowns) -> jax.Array:
    """What a model's columns are multiplied with [M]: one for the mean, then the coefficients."""
    return jnp.concatenate([jnp.ones(1, u.coefficients.dtype), u.coefficients])


def _motion(u: Unknowns) -> jax.Array:
    return jnp.concatenate([u.turn, u.shift, u.log_scale[None]])


def _flat_pose(motion: jax.Array, start: Pose) -> jax.Array:
    """The moved pose as a vector [12]; local residuals take it, so that they stay polynomial."""
    head = moved_pose(start, motion[:3], motion[3:5], motion[5])
    return jnp.concatenate([head.rotation.ravel(), head.translation, head.scale[None]])


def _pose(flat: jax.Array) -> Pose:
    return Pose(flat[:9].reshape(3, 3), flat[9:11], flat[11])


def _assemble(
    by_coefficients: jax.Array, by_motion: jax.Array, by_p: jax.Array | None
) -> jax.Array:
    """Rows [N r, K + E + 6 + P] of N local residuals of size r; residual n moves with `p[n]`."""
    num, size = by_motion.shape[:2]
    if by_p is None:
        path = jnp.zeros((num, size, NUM_CONTOUR), by_motion.dtype)
    else:
        path = by_p[..., None] * jnp.eye(num, dtype=by_p.dtype)[:, None, :]
    return jnp.concatenate([by_coefficients, by_motion, path], -1).reshape(num * size, -1)
