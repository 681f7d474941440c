"""Experiments with known answers: a face, the poses it is seen in, and the points found in each.

An experiment holds all that a method needs and all that its evaluate needs (thesis section 4), so
that its file can be handed to others.

Axes: F faces, A views of a face, V vertices, K identity modes, L = 68 landmarks.
Units: metres on the face, pixels in the picture, degrees where a name says so.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.spatial
from flax import struct
from numpy.typing import NDArray

from recon.evaluation.detector import DetectorConfig, FaceOutline, detect, detector_sigma
from recon.morphable import MorphableModel
from recon.pose import Pose
from render.transforms import euler_rotation

PICTURE = 1200, 900  # width and height, thesis section 4
SCALE = 4000.0  # pixels per metre: a face about 500 pixels high
_SHIFT = 60.0  # pixels around the middle of the picture, each way


@struct.dataclass
class Experiment:
    """A face with its views; a leading axis F where there are several."""

    vertices: jax.Array  # [V, 3] the true face
    identity: jax.Array  # [K] its coefficients; NaN where it is not of the model
    rotation: jax.Array  # [A, 3, 3] model to viewer
    translation: jax.Array  # [A, 2]
    scale: jax.Array  # [A] pixels per metre
    angles_deg: jax.Array  # [A, 3] yaw, pitch, roll
    xy: jax.Array  # [A, 68, 2] the points found; NaN where no face was
    sigma_px: jax.Array  # [A, 68]

    @property
    def head(self) -> Pose:
        """The true poses [A]."""
        return Pose(self.rotation, self.translation, self.scale)


@dataclasses.dataclass(frozen=True)
class Angles:
    """The values of one angle: a sweep, or a range to draw from at random for each view."""

    values: tuple[float, ...] = (0.0,)  # degrees
    is_range: bool = False  # of two values, the ends

    @property
    def is_swept(self) -> bool:
        return not self.is_range and len(self.values) > 1


def views(
    key: jax.Array, num_faces: int, yaw: Angles, pitch: Angles, roll: Angles
) -> tuple[NDArray, Pose]:
    """Places heads in the picture: angles [F, A, 3] in degrees, and poses [F, A].

    Every combination of the swept angles is a view. Heads lie a little off the picture's middle.
    """
    swept = [(0.0,) if angle.is_range else angle.values for angle in (yaw, pitch, roll)]
    grid = np.array(list(itertools.product(*swept)), np.float32)
    angles = np.tile(grid, (num_faces, 1, 1))
    key_shift, *keys = jax.random.split(key, 4)
    for axis, (angle, key_angle) in enumerate(zip((yaw, pitch, roll), keys, strict=True)):
        if angle.is_range:
            low, high = angle.values
            angles[..., axis] = jax.random.uniform(
                key_angle, angles.shape[:2], minval=low, maxval=high
            )
    turn = jax.vmap(jax.vmap(lambda a: euler_rotation(*jnp.deg2rad(a))))
    shift = jax.random.uniform(key_shift, (*angles.shape[:2], 2), minval=-_SHIFT, maxval=_SHIFT)
    head = Pose(
        rotation=turn(jnp.asarray(angles)),
        translation=0.5 * jnp.array(PICTURE) + shift,
        scale=jnp.full(angles.shape[:2], SCALE),
    )
    return angles, head


def kept_modes(num_identity: int, every: int) -> NDArray:
    """All modes but each `every`-th, to be fitted to faces that have them all.

    Modes of all sizes are missing, as they are from any model for a face it was not made from.
    """
    return np.flatnonzero(np.arange(num_identity) % every != every - 1)


def with_only(model: MorphableModel, modes: NDArray) -> MorphableModel:
    """The model with these identity modes alone."""
    return model.replace(
        identity_basis=model.identity_basis[..., modes], identity_sigma=model.identity_sigma[modes]
    )


def padded(model: MorphableModel, num_identity: int, seed: int = 0) -> MorphableModel:
    """Adds made-up smooth modes, to try more than a model has.

    Each is a few broad bumps of random place and direction, without what the modes before hold,
    and the standard deviations go on falling as the model's own do.
    """
    own = model.identity_sigma.shape[0]
    mean = np.asarray(model.mean, np.float64)
    rng = np.random.default_rng(seed)
    basis = np.asarray(model.identity_basis, np.float64).reshape(-1, own)
    basis = np.linalg.qr(basis)[0]
    added = []
    for _ in range(num_identity - own):
        centers = mean[rng.integers(len(mean), size=8)]
        near = np.exp(-scipy.spatial.distance.cdist(mean, centers, "sqeuclidean") / (2 * 0.02**2))
        column = (near @ rng.normal(size=(8, 3))).ravel()
        for _ in range(2):  # once more, as rounding leaves a little of the others
            column -= basis @ (basis.T @ column)
        column /= np.linalg.norm(column)
        basis = np.concatenate([basis, column[:, None]], axis=1)
        added.append(column.reshape(-1, 3))
    sigma = np.asarray(model.identity_sigma)
    falling = min(sigma[-1] / sigma[len(sigma) // 2], 1.0) ** (1.0 / max(own - own // 2 - 1, 1))
    tail = sigma[-1] * falling ** np.arange(1, len(added) + 1)
    return model.replace(
        identity_basis=jnp.concatenate(
            [model.identity_basis, jnp.asarray(np.stack(added, -1), jnp.float32)], axis=-1
        ),
        identity_sigma=jnp.asarray(np.concatenate([sigma, tail]), jnp.float32),
    )


def find_points(
    key: jax.Array, face: FaceOutline, vertices: NDArray, head: Pose, config: DetectorConfig
) -> tuple[NDArray, NDArray]:
    """Has the simulated detector look at a face [V, 3] in its poses [A].

    Returns:
      Points [A, 68, 2] and their standard deviations [A, 68].
    """
    keys = jax.random.split(key, len(head.scale))
    found = [
        detect(keys[i], face, jnp.asarray(vertices), jax.tree.map(lambda x: x[i], head), config)  # noqa: B023
        for i in range(len(keys))
    ]
    sigma = np.tile(detector_sigma(config).astype(np.float32), (len(keys), 1))
    return np.stack(jax.device_get(found)), sigma
