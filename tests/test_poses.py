"""Numbers that are nearly a rigid motion become one; others are refused."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from render.captures.poses import make_rigid, read_pose

NAMES = [f"{i}.jpg" for i in range(6)]


def motions():
    poses = np.tile(np.eye(4), (6, 1, 1))
    poses[:, :3, :3] = Rotation.random(6, rng=np.random.default_rng(0)).as_matrix()
    poses[:, :3, 3] = np.random.default_rng(1).normal(size=(6, 3))
    return poses


def test_rotations_stay_what_they_are():
    poses, scale = make_rigid(motions(), NAMES)
    np.testing.assert_allclose(poses, motions(), atol=1e-12)
    np.testing.assert_allclose(scale, 1)
    assert make_rigid([], [])[0].shape == (0, 4, 4)


@pytest.mark.parametrize("decimals, off", [(2, 0.012), (3, 0.0012)])
def test_rounded_rotations_become_the_nearest(decimals, off):
    poses, _ = make_rigid(np.round(motions(), decimals), NAMES)
    rotations = poses[:, :3, :3]
    np.testing.assert_allclose(rotations @ rotations.mT, np.tile(np.eye(3), (6, 1, 1)), atol=1e-12)
    turn = Rotation.from_matrix(rotations @ motions()[:, :3, :3].mT).magnitude()
    assert turn.max() < off


@pytest.mark.parametrize("factor", [0.1, 7.0])
def test_a_common_scale_is_taken_out_and_cameras_stay_where_they_are(factor):
    scaled = motions()
    scaled[:, :3, :3] *= factor
    poses, scale = make_rigid(scaled, NAMES)
    np.testing.assert_allclose(poses, motions(), atol=1e-12)
    np.testing.assert_allclose(scale, factor)


@pytest.mark.parametrize(
    "change, message",
    [
        (np.diag([1, 1, -1.0]), "frame 4.jpg: expected a rotation .*, found a mirror"),
        (np.diag([1, 1, 1.1]), "frame 4.jpg: expected a rotation .*, found a shear"),
        (np.eye(3) + 0.1 * np.eye(3, k=1), "found a shear"),
        (np.zeros((3, 3)), "found a mirror"),
        (2 * np.eye(3), "frame 4.jpg: .* of the scale 1 that most have, found 2"),
    ],
)
def test_what_is_no_rotation_is_refused(change, message):
    poses = motions()
    poses[4, :3, :3] = poses[4, :3, :3] @ change
    with pytest.raises(ValueError, match=message):
        make_rigid(poses, NAMES)


def test_a_pose_may_come_as_rows_or_in_one_row():
    pose = motions()[0]
    for values in (pose.tolist(), pose[:3].tolist(), pose.ravel().tolist()):
        np.testing.assert_array_equal(read_pose(values), pose)
