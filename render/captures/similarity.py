"""A capture's own space and one of a known centre, size and up, and the way between them.

Structure from motion leaves a world anywhere, in any unit and turned in any way. Radiance fields
want it about the origin: here the middle of what the cameras look at goes there, the farthest
camera to a distance of one, and up to +y.

Axes: F cameras, N points.

Source: Zhang et al. 2020 (NeRF++: all cameras inside the unit sphere, the rest is background).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from render.camera import Y_UP, Camera, camera_through, world_axes
from render.mesh import Mesh

_PARALLEL = 0.02  # least squared sine between viewing axes whose crossing is to be trusted


class Similarity(NamedTuple):
    """Takes a point x to scale R x + t."""

    rotation: NDArray  # [3, 3] R
    translation: NDArray  # [3] t, in units of the target
    scale: float  # units of the target in one of the source

    @property
    def inverse(self) -> "Similarity":
        """The way back."""
        rotation = self.rotation.T
        return Similarity(rotation, -(rotation @ self.translation) / self.scale, 1.0 / self.scale)

    @property
    def matrix(self) -> NDArray:
        """As [4, 4], the scale in its first three columns."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.scale * self.rotation, self.translation
        return matrix

    def points(self, points: NDArray) -> NDArray:
        """Moves points [N, 3]."""
        points = np.asarray(points, np.float64)
        return self.scale * points @ self.rotation.T + self.translation

    def camera(self, camera: Camera) -> Camera:
        """Moves a perspective camera, which sees the moved world as it saw the world."""
        back = self.inverse
        moved = camera_through(camera, back.rotation, back.translation, back.scale)
        return moved.replace(
            rotation=np.asarray(moved.rotation, np.float32),
            translation=np.asarray(moved.translation, np.float32),
        )

    def mesh(self, mesh: Mesh) -> Mesh:
        """Moves a mesh."""
        return mesh.replace(vertices=self.points(mesh.vertices).astype(np.float32))


def similarity_of(matrix: NDArray) -> Similarity:
    """Returns the similarity of a matrix [4, 4], as `Similarity.matrix` gives it.

    Raises:
      ValueError: it is none: not finite, sheared or mirrored.
    """
    matrix = np.asarray(matrix, np.float64)
    linear = matrix[:3, :3] if matrix.shape == (4, 4) else np.zeros((3, 3))
    determinant = np.linalg.det(linear) if np.isfinite(matrix).all() else 0.0
    scale = np.cbrt(max(determinant, 0.0))
    if scale == 0.0 or not np.allclose(
        linear.T @ linear, scale**2 * np.eye(3), atol=1e-4 * scale**2
    ):
        raise ValueError("expected a rotation, a scale and a translation, found another matrix")
    return Similarity(linear / scale, matrix[:3, 3], float(scale))


def normalizing(
    cameras: Sequence[Camera], up: NDArray | None = None, points: NDArray | None = None
) -> Similarity:
    """Finds the way from a capture's own space to the one that learning wants.

    Args:
      cameras: F, perspective.
      up: [3] in the capture's space; None for the mean of the cameras'.
      points: [P, 3] of the scene, whose middle counts where the cameras look along one another and
        their axes do not cross.

    Raises:
      ValueError: all cameras stand in one place.
    """
    rotations = np.stack([np.asarray(camera.rotation, np.float64) for camera in cameras])
    offsets = np.stack([np.asarray(camera.translation, np.float64) for camera in cameras])
    places = -np.einsum("fij,fi->fj", rotations, offsets)
    up = -rotations[:, 1].mean(0) if up is None else up
    rotation = world_axes(up if np.linalg.norm(up) > 1e-6 else Y_UP)
    middle = _focus(places, rotations[:, 2])
    if middle is None:
        middle = np.mean(places, 0) if points is None else np.median(points, 0)
    radius = np.linalg.norm(places - middle, axis=-1).max()
    if not np.ptp(places, 0).max() > 1e-9 * radius:
        raise ValueError(f"expected cameras at several places, found all {len(places)} at one")
    return Similarity(rotation, -(rotation @ middle) / radius, 1.0 / radius)


def _focus(places: NDArray, forward: NDArray) -> NDArray | None:
    """Returns the point [3] nearest to all viewing axes, if they cross in front of the cameras."""
    across = np.eye(3) - forward[:, :, None] * forward[:, None, :]
    normal = across.mean(0)
    if np.linalg.eigvalsh(normal)[0] < _PARALLEL:
        return None
    point = np.linalg.solve(normal, np.einsum("fij,fj->i", across, places) / len(places))
    is_ahead = np.einsum("fj,fj->f", point - places, forward) > 0
    return point if is_ahead.mean() > 0.5 else None
