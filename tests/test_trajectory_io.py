import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from render.gaussians import Gaussians, covariances, move_gaussians
from sim.carry import bind, carry, find_neighbours
from sim.needles import cut
from sim.trajectory_io import (
    Trajectory,
    cut_scene,
    gaussians_of_frame,
    read_trajectory,
    trajectory_of,
    vertices_of_frame,
    write_trajectory,
)


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
    at = gaussians_of_frame(scene(), part, 2)
    np.testing.assert_array_equal(at.means[3], part.means[2, 0])
    np.testing.assert_array_equal(at.means[1], part.means[2, 1])
    np.testing.assert_array_equal(at.means[0], 1.0)
    np.testing.assert_array_equal(at.log_scales, 1.0)


def test_all_move_where_none_is_named():
    at = gaussians_of_frame(scene(), moves(log_scales=np.full((3, 4, 3), 0.5)), 1)
    np.testing.assert_array_equal(at.means, moves().means[1])
    np.testing.assert_array_equal(at.log_scales, 0.5)
    np.testing.assert_array_equal(at.quats, 1.0)


def long_scene(seed=0):
    rng = np.random.default_rng(seed)
    shapes = (12, 3), (12, 4), (12, 3), (12,), (12, 4, 3)
    return Gaussians(*(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes))


@pytest.mark.compiles
def test_long_gaussians_are_cut_again_as_they_were(tmp_path):
    whole, moving = long_scene(), np.arange(2, 9)
    drawn, pieces = cut(whole, moving, 0.9)
    assert len(pieces.parents)
    rest, owners = np.asarray(whole.means)[2:6], np.arange(2, 6)
    followers = np.concatenate([np.arange(6, 9), 12 + np.arange(len(pieces.parents))])
    binding = bind(drawn.means, owners, followers, rest)
    F = np.tile(np.diag([1.0, 2.0, 0.5]).astype(np.float32), (2, 4, 1, 1))
    x = np.stack([rest, rest + 1.0])
    write_trajectory(tmp_path / "a.npz", trajectory_of(np.arange(2), x, F, binding, pieces))
    trajectory = read_trajectory(tmp_path / "a.npz", 12)
    found = gaussians_of_frame(whole, trajectory, 1)
    expected = carry(drawn, binding, x[1], F[1])
    np.testing.assert_allclose(found.means, expected.means, atol=5e-3)
    np.testing.assert_allclose(found.log_scales, expected.log_scales, atol=5e-3)
    np.testing.assert_array_equal(found.logit_opacities, drawn.logit_opacities)
    again = gaussians_of_frame(cut_scene(whole, trajectory), trajectory, 1)
    np.testing.assert_array_equal(found.means, again.means)
    with pytest.raises(ValueError, match="expected the splats that were simulated"):
        cut_scene(long_scene(1), trajectory)
    with pytest.raises(ValueError, match="expected parents among the Gaussians, found others"):
        read_trajectory(tmp_path / "a.npz", 5)


def turning(num_particles=20, num_followers=30, frames=3, k=4, degree=1):
    """A scene of matter that turns about an axis, and rests: particles that fill, own, lead."""
    rng = np.random.default_rng(0)
    turns = Rotation.from_rotvec(np.arange(frames)[:, None] * [0.1, 0.5, -0.2]).as_matrix()
    shifts = np.arange(frames)[:, None] * [0.3, 0.0, 0.1]
    num_own = num_particles // 2
    count = num_own + num_followers + 2  # the last two stay
    rest = rng.uniform(size=(num_particles, 3)).astype(np.float32)
    means = rng.uniform(size=(count, 3)).astype(np.float32)
    means[:num_own] = rest[:num_own]
    shapes = (count, 4), (count, 3), (count,), (count, (degree + 1) ** 2, 3)
    shown = Gaussians(means, *(rng.normal(size=shape).astype(np.float32) for shape in shapes))
    followers = num_own + np.arange(num_followers)
    binding = find_neighbours(means[followers], rest, k)
    moves = Trajectory(
        seconds=np.arange(frames) / 10,
        means=np.float32(np.einsum("fij,nj->fni", turns, rest) + shifts[:, None]),
        index=np.where(np.arange(num_particles) < num_own, np.arange(num_particles), -1),
        deformation=np.tile(turns[:, None], (1, num_particles, 1, 1)),
        rest=rest,
        followers=followers,
        neighbours=binding.index,
        weights=binding.weights,
    )
    return shown, moves, turns, shifts


@pytest.mark.compiles
def test_matter_moves_its_gaussians_and_their_followers_after_a_round_trip(tmp_path):
    shown, whole, turns, shifts = turning()
    write_trajectory(tmp_path / "a.npz", whole)
    again = read_trajectory(tmp_path / "a.npz", len(shown.means))
    with np.load(tmp_path / "a.npz") as stored:
        assert stored["deformation"].dtype == stored["weights"].dtype == np.float16
        assert stored["neighbours"].dtype == np.uint8
    np.testing.assert_allclose(again.weights.sum(-1), 1.0, rtol=1e-6)
    for trajectory, tolerance in ((whole, 2e-6), (again, 1e-3)):
        moved = gaussians_of_frame(shown, trajectory, 2)
        expected = move_gaussians(shown, turns[2].astype(np.float32), shifts[2])
        rows = slice(0, 40)
        np.testing.assert_allclose(moved.means[rows], expected.means[rows], atol=tolerance)
        np.testing.assert_allclose(
            moved.harmonics[rows], expected.harmonics[rows], atol=2 * tolerance
        )
        spread = np.asarray(covariances(expected))
        size = np.linalg.norm(spread, axis=(1, 2), keepdims=True)
        found = np.asarray(covariances(moved)) / size
        np.testing.assert_allclose(found[rows], (spread / size)[rows], atol=2 * tolerance)
        np.testing.assert_array_equal(moved.means[40:], shown.means[40:])
        np.testing.assert_array_equal(moved.quats[40:], shown.quats[40:])


def test_a_small_file_moves_a_large_scene(tmp_path):
    _, whole, _, _ = turning(num_particles=500, num_followers=10_000, frames=20, k=8, degree=0)
    noise = 0.1 * np.random.default_rng(1).normal(size=whole.deformation.shape)
    write_trajectory(tmp_path / "a.npz", whole._replace(deformation=whole.deformation + noise))
    size = (tmp_path / "a.npz").stat().st_size
    # 12 + 18 bytes for each particle and frame, 2 + 2 for each neighbour.
    assert size < 20 * 500 * 30 + 10_000 * 8 * 4 + 100_000


def test_particles_alone_move_a_scene_without_an_index():
    shown, whole, _, _ = turning(num_particles=42, num_followers=30, degree=0)
    alone = whole._replace(
        index=None, followers=None, neighbours=None, weights=None, rest=np.asarray(shown.means)[:42]
    )
    shown = Gaussians(*(np.asarray(leaf)[:42] for leaf in vars(shown).values()))
    moved = gaussians_of_frame(shown, alone, 1)
    np.testing.assert_allclose(moved.means, whole.means[1], atol=1e-7)


def test_followers_alone_move_a_scene():
    shown, whole, turns, shifts = turning(degree=0)
    moved = gaussians_of_frame(shown, whole._replace(index=np.full(20, -1)), 1)
    np.testing.assert_array_equal(moved.means[:10], shown.means[:10])
    expected = np.asarray(shown.means) @ turns[1].T + shifts[1]
    np.testing.assert_allclose(moved.means[10:40], expected[10:40], atol=2e-6)


def test_deformation_is_held_within_what_the_file_can_say(tmp_path):
    _, whole, _, _ = turning()
    write_trajectory(tmp_path / "a.npz", whole._replace(deformation=1e6 * whole.deformation))
    assert np.isfinite(read_trajectory(tmp_path / "a.npz", 42).deformation).all()


def test_a_mesh_follows_the_particles(tmp_path):
    _, whole, turns, shifts = turning()
    write_trajectory(tmp_path / "a.npz", whole)
    again = read_trajectory(tmp_path / "a.npz", None)
    vertices = np.random.default_rng(2).uniform(size=(7, 3))
    binding = find_neighbours(vertices, again.rest)
    for given in (None, binding):
        found = vertices_of_frame(vertices, again, 2, given)
        np.testing.assert_allclose(found, vertices @ turns[2].T + shifts[2], atol=1e-3)
    write_trajectory(tmp_path / "b.npz", moves())
    with pytest.raises(ValueError, match="expected a trajectory of matter to move a mesh"):
        read_trajectory(tmp_path / "b.npz", None)


WHOLE = turning()[1]


@pytest.mark.parametrize(
    "changes, line",
    [
        ({"rest": None}, "expected an entry rest, found none"),
        ({"deformation": None}, "expected an entry deformation, found none"),
        ({"neighbours": None}, "expected an entry neighbours, found none"),
        ({"weights": None}, "expected an entry weights, found none"),
        ({"followers": None}, "expected an entry followers, found none"),
        ({"quats": np.ones((3, 20, 4))}, "expected deformation or quats and log_scales"),
        ({"deformation": np.ones((3, 20, 3))}, r"expected deformation of shape \[3, 20, 3, 3\]"),
        ({"deformation": np.ones((3, 20, 3, 3), int)}, "expected floats as deformation"),
        ({"rest": np.ones((19, 3))}, r"expected rest of shape \[20, 3\], found \[19, 3\]"),
        ({"rest": np.full((20, 3), np.nan)}, "expected particles at finite places as rest"),
        ({"index": np.full(20, -2)}, "expected an index of 42 Gaussians"),
        ({"index": np.zeros(20, int)}, "expected an index of 42 Gaussians"),
        ({"index": np.arange(20) + 30}, "expected an index of 42 Gaussians"),
        ({"index": np.zeros(20)}, "expected an index of 42 Gaussians"),
        ({"followers": np.full(30, 15)}, "expected followers among the 42 Gaussians"),
        ({"followers": np.arange(30)}, "expected followers among .* that are no particles"),
        ({"followers": np.arange(30) + 20}, "expected followers among the 42 Gaussians"),
        ({"neighbours": np.zeros((29, 4), int)}, "expected neighbours of 30 followers, found"),
        ({"neighbours": np.zeros(30, int)}, r"expected neighbours of 30 .* shape \[30\]"),
        ({"neighbours": np.zeros((30, 0), int)}, "expected neighbours of 30 followers"),
        ({"neighbours": np.full((30, 4), 20)}, "expected neighbours among 20 particles"),
        ({"neighbours": np.full((30, 4), -1)}, "expected neighbours among 20 particles"),
        ({"neighbours": np.zeros((30, 4))}, "expected neighbours among 20 particles"),
        ({"weights": np.ones((30, 3)) / 3}, r"expected weights of shape \[30, 4\], found"),
        ({"weights": np.ones((30, 4))}, "expected weights that sum to one"),
        ({"weights": np.full((30, 4), np.nan)}, "expected weights that sum to one"),
        ({"weights": np.tile([-1.0, 2.0, 0, 0], (30, 1))}, "expected weights that sum to one"),
        ({"weights": np.ones((30, 4), int)}, "expected floats as weights"),
        ({"seconds": np.zeros(0), "means": np.zeros((0, 20, 3))}, "expected deformation of shape"),
    ],
)
def test_a_trajectory_of_matter_that_does_not_fit_is_refused(tmp_path, changes, line):
    write_trajectory(tmp_path / "a.npz", WHOLE._replace(**changes))
    with pytest.raises(ValueError, match=line) as refused:
        read_trajectory(tmp_path / "a.npz", 42)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "trajectory, line",
    [
        (moves(count=5), r"expected means of shape \[3, 4, 3\], found \[3, 5, 3\]"),
        (moves(quats=np.ones((2, 4, 4))), r"expected quats of shape \[3, 4, 4\], found \[2"),
        (moves()._replace(seconds=np.zeros(3)), "expected growing seconds"),
        (moves(count=1, index=np.array([4])), "expected an index of 4 Gaussians"),
        (moves(count=2, index=np.array([1, 1])), "expected an index of 4 Gaussians"),
        (moves(count=1, index=np.array([-1])), "expected an index of 4 Gaussians"),
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
    write_trajectory(tmp_path / "a.npz", moves())
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[data.rindex(b"PK\x01\x02") + 6] = 99  # the version of zip that is needed to unpack
    for content in (b"nothing of the kind", bytes(data)):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(ValueError, match="found a broken file"):
            read_trajectory(tmp_path / "a.npz", 4)
