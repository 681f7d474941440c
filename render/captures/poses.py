"""Poses as files give them: numbers that are nearly a rotation and a translation.

Axes: F photos.
"""

from collections.abc import Sequence

import numpy as np

_SHEAR = 0.03  # a pose of two decimals is off by about 0.02


def read_pose(values: object) -> np.ndarray:
    """Takes [3 or 4, 4] finite numbers, or as many in a row, and returns [4, 4].

    Raises:
      ValueError: they are something else.
    """
    if values is None:
        raise ValueError("expected a transform_matrix, found none")
    try:
        matrix = np.array(values, np.float64)
    except (ValueError, TypeError):
        matrix = np.zeros(0)
    if matrix.shape in ((16,), (12,)):
        matrix = matrix.reshape(-1, 4)
    if matrix.shape not in ((4, 4), (3, 4)):
        raise ValueError("expected a transform_matrix of 4 x 4 numbers, found another shape")
    if not np.isfinite(matrix).all():
        raise ValueError("expected finite numbers in transform_matrix, found others")
    return np.concatenate([matrix[:3], [[0.0, 0.0, 0.0, 1.0]]])


def make_rigid(poses: Sequence[np.ndarray], names: Sequence[str]) -> tuple[np.ndarray, float]:
    """Turns camera-to-world matrices into rotations and translations.

    A camera sees the same whatever the unit of its own axes, so a scale that all poses have in
    common is dropped. What is left is projected onto the nearest rotation.

    Args:
      poses: F of [4, 4].
      names: F, for messages.

    Returns:
      The poses [F, 4, 4], and the scale that was dropped.

    Raises:
      ValueError: a pose holds a shear or a mirror, or a scale of its own.
    """
    poses = np.array(poses)
    if not len(poses):
        return poses.reshape(0, 4, 4), 1.0
    left, scales, right = np.linalg.svd(poses[:, :3, :3])
    is_mirrored = np.linalg.det(poses[:, :3, :3]) <= 0
    is_sheared = scales[:, 0] > (1 + _SHEAR) * scales[:, 2]
    for i in np.flatnonzero(is_mirrored | is_sheared)[:1]:
        what = "mirror" if is_mirrored[i] else "shear"
        raise ValueError(
            f"frame {names[i]}: expected a rotation in transform_matrix, found a {what}"
        )
    size = np.exp(np.log(scales).mean(-1))
    common = float(np.median(size))
    for i in np.flatnonzero(np.abs(size / common - 1) > _SHEAR)[:1]:
        raise ValueError(
            f"frame {names[i]}: expected a transform_matrix of the scale {common:.4g} that most "
            f"have, found {size[i]:.4g}"
        )
    poses[:, :3, :3] = left @ right
    return poses, common
