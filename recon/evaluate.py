"""How far fits are from the truth: the thesis' errors, and what can be said of their means.

Axes: N views, F faces, A views of a face, V vertices, T triangles, K modes of the true model.
Source: thesis section 4, Eq. 10-14. Where a mean is given an interval, it is the bootstrap's over
faces (Efron 1979): views of one face are no independent trials. `scipy.stats.bootstrap` is not
used, as it cannot draw whole faces of which some views are missing.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from numpy.typing import NDArray

from recon import fit, pose
from recon.landmarks import Landmarks
from recon.morphable import MorphableModel, face_shape, landmark_embedding
from recon.pose import Pose
from recon.residuals import FitConfig, FitModel, Observation, stack_observations
from render.transforms import nearest_rotation, safe_norm, safe_normalize

MEAN_FACE = "mean"  # the method that fits the pose alone
_RESAMPLES = 2000
_INTERVAL = (2.5, 97.5)  # percent


@struct.dataclass
class Scores:
    """How far a fit is from the truth; NaN where the truth does not tell."""

    alpha_error: jax.Array  # [] Eq. 10: sum sigma^2 (alpha' - alpha)^2, square metres
    alpha_unexplained: jax.Array  # [] the same over that of the mean face: 1 is no better
    rotation_deg: jax.Array  # [] Eq. 12
    translation_model_units: jax.Array  # [] Eq. 11; models are in metres here
    normal_deg: jax.Array  # [] Eq. 13
    projection_px: jax.Array  # [] Eq. 14
    vertex_mm: jax.Array  # [] mean distance of corresponding vertices


def observe_views(
    xy: NDArray,
    sigma_px: NDArray,
    config: FitConfig,
    scale: NDArray | None,
    correlation: NDArray | None = None,
) -> Observation:
    """Observations, leading axis N, of points [N, 68, 2]; `scale` [N] is known, or fitted."""
    scales = [None] * len(xy) if scale is None else scale
    seen = [
        fit.observe(Landmarks(xy=xy[i], sigma_px=sigma_px[i]), config, scales[i], correlation)
        for i in range(len(xy))
    ]
    return stack_observations(seen)


@jax.jit
def mean_faces(model: FitModel, seen: Observation, config: FitConfig) -> tuple[jax.Array, Pose]:
    """The control of every table: identities [N, K] of zero, in the pose that suits them."""
    found = jax.vmap(lambda one: fit.starting_pose(model, one, config))(seen)
    return jnp.zeros((len(seen.xy), model.num_identity)), found


@jax.jit
def score(
    model: MorphableModel,
    modes: jax.Array,
    identity: jax.Array,
    head: Pose,
    true_vertices: jax.Array,
    true_identity: jax.Array,
    true_head: Pose,
    xy: jax.Array,
) -> Scores:
    """Scores one fit, Eq. 10-14.

    A face that is not of the model is scored after the rigid motion that brings the fit nearest to
    it: where a scan ends and its pose begins is anybody's choice.

    Args:
      model: the model of the true face.
      modes: [k] which of its modes the fit had.
      identity: [k] found.
      head: found pose.
      true_vertices: [V, 3].
      true_identity: [K]; NaN where the face is not of the model.
      true_head: true pose.
      xy: [68, 2] what the detector gave.
    """
    found = jnp.zeros(true_identity.shape).at[modes].set(identity)
    variance = model.identity_sigma[: len(true_identity)] ** 2
    alpha_error = jnp.sum(variance * (found - true_identity) ** 2)
    shape = face_shape(model, found, jnp.zeros(0))
    is_scan = jnp.isnan(true_identity).any()
    placed = jnp.where(is_scan, _moved_onto(shape, true_vertices), shape)
    shift = head.translation / head.scale - true_head.translation / true_head.scale
    corners, weights = landmark_embedding(model)
    points = jnp.einsum("lc,lci->li", weights, shape[corners])
    missed = safe_norm(pose.project(head, points) - xy)
    is_present = model.landmark_vertices >= 0
    return Scores(
        alpha_error=alpha_error,
        alpha_unexplained=alpha_error / jnp.sum(variance * true_identity**2),
        rotation_deg=rotation_error_deg(head.rotation, true_head.rotation),
        translation_model_units=jnp.linalg.norm(shift),
        normal_deg=normal_error_deg(placed, true_vertices, model.triangles),
        projection_px=jnp.sum(missed * is_present) / jnp.sum(is_present),
        vertex_mm=1e3 * jnp.mean(jnp.linalg.norm(placed - true_vertices, axis=-1)),
    )


def _moved_onto(points: jax.Array, target: jax.Array) -> jax.Array:
    """Points [N, 3] turned and shifted so that they lie nearest to `target` [N, 3] (Kabsch)."""
    center, target_center = jnp.mean(points, 0), jnp.mean(target, 0)
    rotation = nearest_rotation((target - target_center).T @ (points - center))
    return (points - center) @ rotation.T + target_center


@jax.jit
def score_views(
    model, modes, identity, head: Pose, true_vertices, true_identity, true_head: Pose, xy
) -> Scores:
    """Scores [N] of N views, one after the other; arguments as of `score` with a leading axis N."""
    return jax.lax.map(
        lambda view: score(model, modes, *view),
        (identity, head, true_vertices, true_identity, true_head, xy),
    )


def rotation_error_deg(found: jax.Array, truth: jax.Array) -> jax.Array:
    """Eq. 12: the larger angle [] of the first two rows, which orthography shows, in degrees."""
    cosine = jnp.sum(found[:2] * truth[:2], axis=-1)
    sine = jnp.linalg.norm(jnp.cross(found[:2], truth[:2]), axis=-1)  # acos alone is blunt near 0
    return jnp.rad2deg(jnp.max(jnp.arctan2(sine, cosine)))


def normal_error_deg(found: jax.Array, truth: jax.Array, triangles: jax.Array) -> jax.Array:
    """Eq. 13: mean angle [] between corresponding triangles' normals, in degrees."""
    a, b = _facet_normals(found, triangles), _facet_normals(truth, triangles)
    sine = jnp.linalg.norm(jnp.cross(a, b), axis=-1)
    return jnp.rad2deg(jnp.mean(jnp.arctan2(sine, jnp.sum(a * b, axis=-1))))


def _facet_normals(vertices: jax.Array, triangles: jax.Array) -> jax.Array:
    a, b, c = jnp.moveaxis(vertices[triangles], 1, 0)
    return safe_normalize(jnp.cross(b - a, c - a))


def _resamples(num_faces: int) -> NDArray:
    """Faces drawn with replacement [2000, F], the same at every call."""
    return np.random.default_rng(0).integers(num_faces, size=(_RESAMPLES, num_faces))


def _face_means(values: NDArray) -> tuple[NDArray, NDArray]:
    """Sums and counts [F] of the views that have a value."""
    is_valid = np.isfinite(values)
    return np.where(is_valid, values, 0.0).sum(1), is_valid.sum(1)


def summarize(values: NDArray) -> dict[str, float] | None:
    """Mean, median, standard deviation, and the 95 % interval of the mean, of values [F, A].

    NaN is left out; None if nothing else is there.
    """
    valid = values[np.isfinite(values)]
    if not valid.size:
        return None
    total, count = _face_means(values)
    drawn = _resamples(len(values))
    means = total[drawn].sum(1) / np.maximum(count[drawn].sum(1), 1)
    low, high = np.percentile(means, _INTERVAL)
    return {
        "mean": float(valid.mean()),
        "median": float(np.median(valid)),
        "std": float(valid.std()),
        "low": float(low),
        "high": float(high),
    }


def compare(ours: NDArray, others: NDArray) -> dict[str, float] | None:
    """Ratio of the mean of `ours` [F, A] to that of `others`, with its paired 95 % interval.

    Both saw the same views of the same faces. None where there is nothing to compare.
    """
    is_valid = np.isfinite(ours) & np.isfinite(others)
    if not is_valid.any():
        return None
    total, _ = _face_means(np.where(is_valid, ours, np.nan))
    other_total, _ = _face_means(np.where(is_valid, others, np.nan))
    if not other_total.sum() > 0.0:
        return None
    drawn = _resamples(len(ours))
    below = np.maximum(other_total[drawn].sum(1), 1e-30)
    low, high = np.percentile(total[drawn].sum(1) / below, _INTERVAL)
    ratio = float(total.sum() / other_total.sum())
    return {"ratio": ratio, "low": float(low), "high": float(high)}
