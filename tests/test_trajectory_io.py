import jax.numpy as jnp
import numpy as np
import pytest

from render.gaussians import Gaussians
from render.trajectory_io import Trajectory, gaussians_at, read_trajectory, write_trajectory


def scene(count=4):
    return Gaussians(
        *(jnp.ones((count, n)) for n in (3, 4, 3)), jnp.ones(count), jnp.ones((count, 1, 3))
    )


def moves(frames=3, count=4, **more):
    means = np.arange(frames * count * 3, dtype=np.float32).reshape(frames, count, 3)
    return Trajectory(np.arange(frames) / 10, means, **more)


def test_a_trajectory_comes_back(tmp_path):
    whole = moves(quats=np.ones((3, 4, 4), np.float16), log_scales=np.zeros((3, 4, 3)))
    write_trajectory(tmp_path / "a.npz", whole)
    again = read_trajectory(tmp_path / "a.npz", 4)
    assert again.index is None and again.quats.dtype == np.float16
    for a, b in zip(again[:4], whole[:4], strict=True):
        np.testing.assert_array_equal(a, b)


def test_only_what_is_named_moves():
    part = moves(count=2, index=np.array([3, 1]))
    at = gaussians_at(scene(), part, 2)
    np.testing.assert_array_equal(at.means[3], part.means[2, 0])
    np.testing.assert_array_equal(at.means[1], part.means[2, 1])
    np.testing.assert_array_equal(at.means[0], 1.0)
    np.testing.assert_array_equal(at.log_scales, 1.0)


def test_all_move_where_none_is_named():
    at = gaussians_at(scene(), moves(log_scales=np.full((3, 4, 3), 0.5)), 1)
    np.testing.assert_array_equal(at.means, moves().means[1])
    np.testing.assert_array_equal(at.log_scales, 0.5)
    np.testing.assert_array_equal(at.quats, 1.0)


@pytest.mark.parametrize(
    "trajectory, line",
    [
        (moves(count=5), r"expected means of shape \[3, 4, 3\], found \[3, 5, 3\]"),
        (moves(quats=np.ones((2, 4, 4))), r"expected quats of shape \[3, 4, 4\], found \[2"),
        (moves()._replace(seconds=np.zeros(3)), "expected growing seconds"),
        (moves(count=1, index=np.array([4])), "expected an index of 4 Gaussians"),
        (moves(count=2, index=np.array([1, 1])), "expected an index of 4 Gaussians"),
        (moves()._replace(means=np.full((3, 4, 3), "x")), "expected floats as means, found <U1"),
        (moves()._replace(means=None), "expected an entry means, found none"),
    ],
)
def test_a_trajectory_that_is_not_of_the_scene_is_refused(tmp_path, trajectory, line):
    write_trajectory(tmp_path / "a.npz", trajectory)
    with pytest.raises(ValueError, match=line):
        read_trajectory(tmp_path / "a.npz", 4)


def test_no_file_and_no_archive_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a trajectory, found nothing at"):
        read_trajectory(tmp_path / "a.npz", 4)
    (tmp_path / "a.npz").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="found a broken file"):
        read_trajectory(tmp_path / "a.npz", 4)
