"""Moves Gaussians with simulated matter: means, covariances, and the colours that depend on views.

Matter at X moves to x, and its neighbourhood by the deformation gradient F: X + d goes to x + F d.
A Gaussian of covariance S then has F S F^T (Xie et al. 2024, PhysGaussian, eq. 8), and its
harmonics turn by the rotation R of the polar decomposition F = R U. PhysGaussian turns the view
direction by R^T at each look instead, which is the same.

Gaussians that are no particles follow those around them: each of the nearest k says where its own
affine motion would take the Gaussian, and the weighted mean of that is taken. Weights fall to zero
where the next particle would enter the set (Franke and Nielson 1980, modified Shepard), so that
neighbours do not tear, and any affine motion is followed exactly.

Axes: N Gaussians, P particles, M followers, K neighbours of each, A particles that are Gaussians.
Letters: x, X where particles are now and at rest, metres; F deformation gradient. All are in one
space. On lanes a 3x3 matrix is a list of nine arrays, row by row, as in `polar.py`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from scipy.spatial import cKDTree

from render import harmonics
from render.gaussians import Gaussians
from render.stages import compiled, stage
from render.transforms import multiply_quats
from sim.polar import frame_of, multiply, rotation_of, transpose

MAX_STRETCH = 4.0
_MIN_SCALE = 1e-6  # of a Gaussian's longest axis: flatter has no logarithm to speak of
_SOFT = 0.1  # of the reach: nearer particles do not weigh more


class Neighbours(NamedTuple):
    """The particles that each of M points follows; the weights of each sum to one."""

    index: np.ndarray  # [M, K] int32 particles, the nearest first
    weights: np.ndarray  # [M, K]


@struct.dataclass
class Binding:
    """Which Gaussians of a scene move with which particles; those that are not named stay."""

    particles: jax.Array  # [A] int32 particles that are Gaussians; others fill the inside
    gaussians: jax.Array  # [A] int32 those Gaussians
    followers: jax.Array  # [M] int32 Gaussians that follow the particles around them
    neighbours: Neighbours  # of the followers
    rest: jax.Array  # [P, 3] X, metres

    @property
    def moving(self) -> jax.Array:
        """The Gaussians [A + M] that move."""
        return jnp.concatenate([self.gaussians, self.followers])

    @property
    def particle_gaussians(self) -> np.ndarray:
        """The Gaussian [P] that each particle is, -1 for one that fills the inside."""
        owners = np.full(len(self.rest), -1, np.int32)
        owners[np.asarray(self.particles)] = self.gaussians
        return owners


def deform(
    gaussians: Gaussians, x: jax.Array, F: jax.Array, max_stretch: float = MAX_STRETCH
) -> Gaussians:
    """Moves each Gaussian to `x` [N, 3] and deforms it by its own `F` [N, 3, 3].

    Differentiable. Where two axes come out equal, turning one into the other changes nothing, and
    what shear between them would do is missing from the gradient: quaternions and scales cannot
    say it.

    Args:
      gaussians: [N], undeformed.
      x: metres.
      F: deformation gradient; any matrix, zero included.
      max_stretch: no axis becomes longer than this times the longest one before, so that matter
        that flows apart does not grow needles; below, the covariance is F S F^T exactly.
    """
    # In units of its longest axis: far from the ends of what float32 can say.
    unit = jax.lax.stop_gradient(jnp.max(gaussians.log_scales, -1))
    unit = jnp.where(jnp.isfinite(unit), unit, 0.0)
    lanes = [F[:, i, j] for i in range(3) for j in range(3)]
    axes = stage(_deformed_axes)(lanes, gaussians.quats, gaussians.log_scales, unit)
    frame = frame_of(axes)
    P = stage(multiply)(transpose(frame.U), stage(multiply)(axes, frame.V))
    moved = gaussians.replace(
        means=x,
        quats=multiply_quats(stage(_quats)(frame.U), stage(_turn)(P)),
        log_scales=stage(_log_scales)(P, unit, max_stretch),
    )
    if gaussians.harmonics.shape[1] == 1:
        return moved
    rotation = jnp.stack(rotation_of(lanes), -1).reshape(-1, 3, 3)
    return moved.replace(harmonics=stage(harmonics.rotate)(gaussians.harmonics, rotation))


def _deformed_axes(lanes, quats, log_scales, unit):
    """F R diag(s) on lanes, in each Gaussian's own unit."""
    return multiply(lanes, _scaled_axes(quats, jnp.exp(log_scales - unit[:, None])))


def _turn(P):
    """How the axes turn with P = U^T F R diag(s) V, U and V fixed, as quaternions [N, 4] wxyz.

    One in value, for P is diagonal: only the derivative tells something. With w the turn, the
    covariance P P^T has w (s_i^2 - s_j^2) off its diagonal. Where axes are equal w may be anything
    and is held.
    """
    spin = []
    for i, j in ((1, 2), (2, 0), (0, 1)):
        si, sj = P[4 * i], P[4 * j]
        off = si * P[3 * j + i] + sj * P[3 * i + j]
        gap, size = jax.lax.stop_gradient(((si - sj) * (si + sj), si * si + sj * sj))
        floor = jnp.sqrt(jnp.finfo(size.dtype).eps) * size + jnp.finfo(size.dtype).tiny ** 0.5
        spin.append(0.5 * (off - jax.lax.stop_gradient(off)) * gap / (gap * gap + floor * floor))
    return jnp.stack([jnp.ones_like(P[0]), *spin], -1)


def _log_scales(P, unit, max_stretch):
    # Reflections show in the sign of a singular value.
    held = [jnp.clip(jnp.abs(P[4 * i]), _MIN_SCALE, max_stretch) for i in range(3)]
    return jnp.stack([jnp.log(length) + unit for length in held], -1)


def find_neighbours(rest_means: np.ndarray, particles: np.ndarray, k: int = 8) -> Neighbours:
    """Finds the particles that points follow, on the host.

    Args:
      rest_means: [M, 3] points, metres.
      particles: [P, 3] at rest, metres.
      k: neighbours of each; fewer where there are not so many particles.

    Raises:
      ValueError: without particles, or with places that are not finite.
    """
    rest_means, particles = (np.asarray(v, np.float64) for v in (rest_means, particles))
    if not len(particles):
        raise ValueError("expected particles to follow, found none")
    if not (np.isfinite(rest_means).all() and np.isfinite(particles).all()):
        raise ValueError("expected finite places of followers and particles, found others")
    k = min(k, len(particles))
    num_asked = min(k + 1, len(particles))
    distance, index = cKDTree(particles).query(rest_means, num_asked)
    distance, index = (v.reshape(-1, num_asked) for v in (distance, index))
    # Nobody can enter a set of all particles: it may end where it likes.
    reach = distance[:, -1:] if num_asked > k else 2.0 * distance[:, -1:]
    distance = distance[:, :k] / np.where(reach > 0, reach, 1.0)
    weights = np.maximum(1.0 - distance, 0.0) ** 2 / (distance**2 + _SOFT**2)
    # All of them at one distance: none is nearer than who would enter.
    weights = np.where(weights.sum(-1, keepdims=True) > 0, weights, 1.0)
    return Neighbours(index[:, :k].astype(np.int32), weights / weights.sum(-1, keepdims=True))


def follow(
    neighbours: Neighbours,
    rest_means: jax.Array,
    rest_particles: jax.Array,
    x: jax.Array,
    F: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Returns where followers are, [M, 3], and their deformation gradients, [M, 3, 3].

    x_g = sum_k w_k (x_k + F_k (X_g - X_k)) and F_g = sum_k w_k F_k. Differentiable.

    Args:
      neighbours: of `find_neighbours`.
      rest_means: [M, 3] X_g, metres.
      rest_particles: [P, 3] X, metres.
      x: [P, 3] metres.
      F: [P, 3, 3].
    """
    # The sum is that of affine maps, gathered once: 12 numbers a particle. They act on places
    # about the middle, where less is lost to rounding.
    middle = jax.lax.stop_gradient(jnp.mean(rest_particles, 0))
    maps = stage(_affine_maps)(rest_particles - middle, x, F)
    blended = stage(_blend)(maps, neighbours.index, neighbours.weights)
    F_g = blended[:, :9].reshape(-1, 3, 3)
    return blended[:, 9:] + _apply(F_g, rest_means - middle), F_g


def _affine_maps(rest, x, F):
    """What takes a place to where a particle would: F and the image of zero, [P, 12]."""
    return jnp.concatenate([F.reshape(-1, 9), x - _apply(F, rest)], -1)


def _blend(maps, index, weights):
    """The weighted means of maps [P, 12] over neighbours [M, K], [M, 12]."""
    index, weights = jnp.asarray(index), jnp.asarray(weights, maps.dtype)
    return sum(
        weights[:, k, None] * maps.at[index[:, k]].get(mode="promise_in_bounds")
        for k in range(index.shape[1])
    )


def bind(
    means: np.ndarray,
    particle_gaussians: np.ndarray,
    followers: np.ndarray,
    rest: np.ndarray,
    k: int = 8,
) -> Binding:
    """Binds Gaussians to particles: those that are particles, and those that follow them.

    Args:
      means: [N, 3] of all Gaussians at rest, metres.
      particle_gaussians: [P] int, -1 for particles that fill the inside.
      followers: [M] int, Gaussians that follow.
      rest: [P, 3] particles at rest, metres.
      k: neighbours of each follower.
    """
    owners, followers = (np.asarray(v, np.int32) for v in (particle_gaussians, followers))
    particles = np.flatnonzero(owners >= 0).astype(np.int32)
    neighbours = Neighbours(np.zeros((0, 1), np.int32), np.zeros((0, 1)))
    if len(followers):
        neighbours = find_neighbours(np.asarray(means)[followers], rest, k)
    return Binding(particles, owners[particles], followers, neighbours, np.asarray(rest))


def carry(
    gaussians: Gaussians,
    binding: Binding,
    x: jax.Array,
    F: jax.Array,
    max_stretch: float = MAX_STRETCH,
) -> Gaussians:
    """Moves a whole scene with its particles. Differentiable.

    Args:
      gaussians: [N] the scene at rest.
      binding: who moves with what.
      x: [P, 3] particles, metres.
      F: [P, 3, 3].
      max_stretch: see `deform`.
    """
    return _carry(gaussians, binding, x, F, max_stretch)


def _carry_all(gaussians, binding, x, F, max_stretch):
    moving = binding.moving
    some = jax.tree.map(lambda field: field[moving], gaussians)
    moved = deform(some, *_move_bound(binding, gaussians.means, x, F), max_stretch)
    names = ["means", "quats", "log_scales"]
    if gaussians.harmonics.shape[1] > 1:
        names.append("harmonics")
    return gaussians.replace(
        **{
            name: getattr(gaussians, name)
            .at[moving]
            .set(getattr(moved, name), unique_indices=True, mode="promise_in_bounds")
            for name in names
        }
    )


_carry = compiled(_carry_all, static_argnames="max_stretch")


def _move_bound(binding, means, x, F) -> tuple[jax.Array, jax.Array]:
    """Where the moving Gaussians are, [A + M, 3], and their deformation gradients."""
    rest = means[binding.followers]
    x_m, F_m = follow(binding.neighbours, rest, binding.rest, x, F)
    x_a, F_a = x[binding.particles], F[binding.particles]
    return jnp.concatenate([x_a, x_m]), jnp.concatenate([F_a, F_m])


def slots(binding: Binding, num_gaussians: int) -> np.ndarray:
    """Where each Gaussian [N] is found in the list of the moving ones, then of all at rest."""
    moving = np.asarray(binding.moving)
    found = len(moving) + np.arange(num_gaussians, dtype=np.int32)
    found[moving] = np.arange(len(moving))
    return found


def _moved_covariances(means, covariances, binding, slot, x, F):
    moved_means, F = _move_bound(binding, means, x, F)
    moved = _multiply_3x3(_multiply_3x3(F, covariances[binding.moving]), F.mT)
    both = jnp.concatenate([moved, covariances]).reshape(-1, 9)[:, np.array([0, 1, 2, 4, 5, 8])]
    # To gather is faster than to scatter.
    return jnp.concatenate([moved_means, means])[slot], both[slot]


_carry_covariances = compiled(_moved_covariances)


def carry_covariances(
    means: jax.Array,
    covariances: jax.Array,
    binding: Binding,
    slot: jax.Array,
    x: jax.Array,
    F: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """As `carry`, but F S F^T and no more: no axes, no limit to their stretch, much faster.

    Args:
      means: [N, 3] of the scene at rest, metres.
      covariances: [N, 3, 3] likewise.
      binding: who moves with what.
      slot: [N] of `slots`.
      x: [P, 3] particles, metres.
      F: [P, 3, 3].

    Returns:
      Means [N, 3] and covariances [N, 6] in the order xx, xy, xz, yy, yz, zz.
    """
    return _carry_covariances(means, covariances, binding, slot, x, F)


def _multiply_3x3(a: jax.Array, b: jax.Array) -> jax.Array:
    """Products of matrices [..., 3, 3], without a call to the matrix library."""
    return sum(a[..., :, k, None] * b[..., None, k, :] for k in range(3))


def _apply(matrices: jax.Array, vectors: jax.Array) -> jax.Array:
    """Matrices [..., 3, 3] times vectors [..., 3], without a call to the matrix library."""
    return jnp.sum(matrices * vectors[..., None, :], -1)


def _scaled_axes(quats: jax.Array, scales: jax.Array) -> list:
    """R diag(s) on lanes, of quaternions [N, 4] wxyz of any length and scales [N, 3]."""
    w, x, y, z = quats.T
    squared = w * w + x * x + y * y + z * z
    twice = 2.0 / jnp.where(squared > 0, squared, 1.0)  # zeros turn nothing
    a, b, c = scales.T
    return [
        (1 - twice * (y * y + z * z)) * a,
        twice * (x * y - w * z) * b,
        twice * (x * z + w * y) * c,
        twice * (x * y + w * z) * a,
        (1 - twice * (x * x + z * z)) * b,
        twice * (y * z - w * x) * c,
        twice * (x * z - w * y) * a,
        twice * (y * z + w * x) * b,
        (1 - twice * (x * x + y * y)) * c,
    ]


def _quats(rotation: list) -> jax.Array:
    """Unit quaternions [N, 4] wxyz of rotations on lanes.

    As `render.transforms.rotation_to_quat`, but without gathers along the four roots.
    """
    a, b, c, d, e, f, g, h, i = rotation
    # Each row is 4 q_k times the quaternion; the largest q_k has the safe root (Shepperd 1978).
    rows = [
        [1 + a + e + i, h - f, c - g, d - b],
        [h - f, 1 + a - e - i, b + d, c + g],
        [c - g, b + d, 1 - a + e - i, f + h],
        [d - b, c + g, f + h, 1 - a - e + i],
    ]
    row, largest = rows[0], rows[0][0]
    for k in range(1, 4):
        is_larger = rows[k][k] > largest
        row = [jnp.where(is_larger, new, old) for new, old in zip(rows[k], row, strict=True)]
        largest = jnp.where(is_larger, rows[k][k], largest)
    return jnp.stack(row, -1) * (0.5 * jax.lax.rsqrt(largest))[:, None]
