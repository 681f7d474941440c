"""Simulated matter moves Gaussians: rotations, stretches, followers, gradients, pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.spatial.transform import Rotation

from render.camera import perspective_camera
from render.gaussians import Gaussians, covariances, move_gaussians
from render.splat import splat
from sim import carry

pytestmark = pytest.mark.compiles

deform = jax.jit(carry.deform)
follow = jax.jit(carry.follow)
spread = jax.jit(covariances)
COUNT = 40  # one size, so that little is compiled twice


def splats(count=COUNT, degree=0, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    shapes = (3,), (4,), (3,), (), ((degree + 1) ** 2, 3)
    means, quats, log_scales, logits, harmonics = (rng.normal(size=(count, *s)) for s in shapes)
    fields = means, quats, 0.5 * log_scales - 3.0, logits, harmonics
    return Gaussians(*(jnp.asarray(field, dtype) for field in fields))


def turns(count, seed=1):
    return jnp.asarray(Rotation.random(count, random_state=seed).as_matrix())


def gradients_of_motion(count=COUNT, seed=2, size=0.2):
    return jnp.asarray(np.eye(3) + size * np.random.default_rng(seed).normal(size=(count, 3, 3)))


def each(matrix, count):
    return jnp.broadcast_to(matrix, (count, 3, 3))


def axes_of(F, scene):
    """Logarithms of the standard deviations that matter would have, ascending."""
    variances = np.linalg.eigvalsh(F @ spread(scene) @ F.mT)
    return 0.5 * np.log(np.maximum(variances, 1e-300))


def rows_are_close(a, b, **tolerance):
    """Of scenes, whatever the order and sign of each Gaussian's axes."""
    for name in ("means", "logit_opacities", "harmonics"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), **tolerance)
    np.testing.assert_allclose(spread(a), spread(b), **tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("degree", [0, 3])
def test_a_rotation_does_what_it_does_to_a_scene(degree):
    with jax.enable_x64(True):
        scene, turn = splats(degree=degree), turns(1)[0]
        expected = move_gaussians(scene, turn, jnp.array([1.0, 2.0, 3.0]))
        moved = deform(scene, expected.means, each(turn, COUNT))
        rows_are_close(moved, expected, atol=1e-12)


def test_the_covariance_is_that_of_deformed_matter():
    with jax.enable_x64(True):
        scene = splats()
        F = gradients_of_motion(size=0.4)  # some invert
        assert np.linalg.det(F).min() < 0
        moved = deform(scene, scene.means, F)
        expected = F @ spread(scene) @ F.mT
        scale = np.linalg.norm(expected, axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(spread(moved) / scale, expected / scale, atol=1e-10)
        np.testing.assert_allclose(jnp.linalg.norm(moved.quats, axis=-1), 1.0, rtol=1e-12)


def test_a_float32_scene_of_all_sizes_is_deformed_as_exactly_as_it_can_be():
    scene = splats(dtype=np.float32)
    scene = scene.replace(log_scales=scene.log_scales * 4.0)  # needles, discs, specks
    F = jnp.asarray(gradients_of_motion(), jnp.float32)
    moved = deform(scene, scene.means, F)
    expected = np.float64(F) @ np.float64(spread(scene)) @ np.float64(F).swapaxes(1, 2)
    scale = np.linalg.norm(expected, axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(spread(moved) / scale, expected / scale, atol=3e-6)


def test_colours_turn_with_the_rotation_alone():
    with jax.enable_x64(True):
        scene, turn = splats(degree=3), turns(COUNT)
        stretch = gradients_of_motion(size=0.1)
        stretch = stretch @ stretch.mT  # symmetric and positive
        moved = deform(scene, scene.means, turn @ stretch)
        expected = deform(scene, scene.means, turn)
        np.testing.assert_allclose(moved.harmonics, expected.harmonics, atol=1e-12)


@pytest.mark.slow
def test_a_turned_scene_looks_as_from_a_turned_camera():
    scene = splats(degree=3, dtype=np.float32)
    scene = scene.replace(means=0.3 * scene.means, harmonics=0.3 * scene.harmonics)
    turn = jnp.asarray(turns(1)[0], jnp.float32)
    eye = np.array([0.3, 0.4, 3.0])
    camera = perspective_camera(eye, (0, 0, 0), 48, 48)
    still = splat(scene, camera).rgb
    moved = deform(scene, scene.means @ turn.T, each(turn, COUNT))
    around = camera.replace(rotation=camera.rotation @ turn.T)
    np.testing.assert_allclose(splat(moved, around).rgb, still, atol=2e-4)
    unturned = moved.replace(harmonics=scene.harmonics)
    assert np.abs(splat(unturned, around).rgb - still).max() > 0.05


def test_matter_that_flows_apart_grows_no_needles():
    with jax.enable_x64(True):
        scene = splats()
        F = jnp.asarray(np.diag([50.0, 1.0, 0.5])) @ turns(COUNT)
        longest = jnp.max(scene.log_scales, -1)
        held = deform(scene, scene.means, F)
        np.testing.assert_allclose(
            jnp.max(held.log_scales, -1), longest + np.log(carry.MAX_STRETCH), rtol=1e-12
        )
        volume = jnp.sum(scene.log_scales, -1) + np.log(25.0)
        assert np.all(jnp.sum(held.log_scales, -1) < volume)  # only what is held is lost
        others = jnp.sort(held.log_scales, -1)[:, :2], jnp.sort(axes_of(F, scene))[:, :2]
        np.testing.assert_allclose(*others, atol=1e-10)


@jax.jit
def total_and_gradient(scene, x, F):
    def total(scene, x, F):
        moved = carry.deform(scene, x, F)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(moved))

    return jax.value_and_grad(total, (0, 1, 2))(scene, x, F)


@pytest.mark.parametrize("case", ["zero", "flat", "one", "reflection"])
def test_no_deformation_breaks_numbers_or_gradients(case):
    F = {
        "zero": np.zeros((3, 3)),
        "flat": np.diag([1.0, 1.0, 0.0]),
        "one": np.eye(3),
        "reflection": np.diag([1.0, 1.0, -1.0]),
    }[case]
    scene = splats(degree=1, dtype=np.float32)
    scene = scene.replace(log_scales=jnp.full((COUNT, 3), -3.0))  # all alike

    arguments = scene, scene.means, each(jnp.asarray(F, jnp.float32), COUNT)
    value, found = total_and_gradient(*arguments)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_a_gaussian_without_size_or_turn_is_carried():
    scene = splats(dtype=np.float32)
    scene = scene.replace(quats=jnp.zeros((COUNT, 4)), log_scales=jnp.full((COUNT, 3), -jnp.inf))
    moved = deform(scene, scene.means, each(jnp.eye(3), COUNT))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(moved))


def test_gradients_are_those_of_finite_differences():
    with jax.enable_x64(True):
        scene, F = splats(3, degree=1), gradients_of_motion(3)
        probe = jnp.asarray(np.random.default_rng(5).normal(size=(3, 3, 3)))

        def seen(means, quats, log_scales, harmonics, x, F):
            some = Gaussians(means, quats, log_scales, scene.logit_opacities, harmonics)
            moved = deform(some, x, F)
            return jnp.sum(probe * covariances(moved)) + jnp.sum(
                jnp.sin(moved.harmonics) + moved.means[:, None] ** 2
            )

        arguments = scene.means, scene.quats, scene.log_scales, scene.harmonics, scene.means, F
        check_grads(jax.jit(seen), arguments, 1, ["rev"], atol=1e-6, rtol=1e-6)


def cloud(count, seed=3):
    return np.random.default_rng(seed).uniform(size=(count, 3))


@pytest.mark.parametrize("num_particles", [1, 5, 8, 9, 200])
def test_followers_follow_any_affine_motion(num_particles):
    with jax.enable_x64(True):
        rest, points = cloud(num_particles), cloud(50, seed=4)
        binding = carry.find_neighbours(points, rest)
        np.testing.assert_allclose(binding.weights.sum(-1), 1.0, rtol=1e-14)
        assert binding.index.shape == binding.weights.shape == (50, min(8, num_particles))
        assert num_particles > 8 or binding.weights.min() > 0  # all of them have a say
        matrix, shift = np.array(gradients_of_motion(1)[0]), np.array([1.0, -2.0, 0.5])
        x, F = jnp.asarray(rest @ matrix.T + shift), each(jnp.asarray(matrix), num_particles)
        found, stretch = follow(binding, points, rest, x, F)
        np.testing.assert_allclose(found, points @ matrix.T + shift, atol=1e-13)
        np.testing.assert_allclose(stretch, each(matrix, 50), atol=1e-14)


def test_a_follower_moves_as_the_mean_of_what_its_neighbours_say():
    with jax.enable_x64(True):
        rest, points = cloud(30), cloud(4, seed=4)
        binding = carry.find_neighbours(points, rest, k=5)
        x, F = jnp.asarray(cloud(30, seed=6)), gradients_of_motion(30)
        found, stretch = follow(binding, points, rest, x, F)
        for m in range(4):
            k, w = binding.index[m], binding.weights[m]
            maps = x[k] + np.einsum("kij,kj->ki", F[k], points[m] - rest[k])
            np.testing.assert_allclose(found[m], w @ maps, atol=1e-14)
            np.testing.assert_allclose(stretch[m], np.einsum("k,kij->ij", w, F[k]), atol=1e-14)


def test_neighbouring_followers_do_not_tear():
    rest = cloud(300)
    way = np.linspace(0, 1, 20_001)[:, None]
    points = (1 - way) * [0.1, 0.2, 0.3] + way * [0.9, 0.7, 0.8]
    binding = carry.find_neighbours(points, rest)
    full = np.zeros((len(points), len(rest)))
    np.put_along_axis(full, binding.index, binding.weights, -1)
    step = np.abs(np.diff(full, axis=0)).sum(-1)
    num_changes = (np.diff(np.sort(binding.index, -1), axis=0) != 0).any(-1).sum()
    assert num_changes > 20  # sets of neighbours do change on the way
    assert step.max() < 0.01  # of the weight, in a two-thousandth of the spacing


def test_particles_in_one_place_and_at_one_distance_share_alike():
    ring = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1.0]])
    np.testing.assert_allclose(carry.find_neighbours(np.zeros((1, 3)), ring, k=3).weights, 1 / 3)
    at_particles = carry.find_neighbours(ring, ring, k=5).weights
    assert 0.9 < at_particles[:, 0].min() <= at_particles[:, 0].max() < 0.999  # smooth there too
    same = carry.find_neighbours(np.zeros((1, 3)), np.zeros((9, 3)), k=4)
    np.testing.assert_allclose(same.weights, 0.25)


@pytest.mark.parametrize(
    "points, particles, line",
    [
        (np.zeros((1, 3)), np.zeros((0, 3)), "expected particles to follow, found none"),
        (np.full((1, 3), np.nan), np.zeros((2, 3)), "expected finite places"),
        (np.zeros((1, 3)), np.full((2, 3), np.inf), "expected finite places"),
    ],
)
def test_nobody_to_follow_is_refused(points, particles, line):
    with pytest.raises(ValueError, match=line):
        carry.find_neighbours(points, particles)


def test_gradients_of_followers_are_those_of_finite_differences():
    with jax.enable_x64(True):
        rest, points = cloud(12), cloud(3, seed=4)
        binding = carry.find_neighbours(points, rest, k=4)
        x, F = jnp.asarray(cloud(12, seed=6)), gradients_of_motion(12)

        def seen(points, rest, x, F):
            places, stretch = carry.follow(binding, points, rest, x, F)
            return jnp.sum(places**2) + jnp.sum(jnp.sin(stretch))

        check_grads(jax.jit(seen), (points, rest, x, F), 1, ["rev"], atol=1e-6, rtol=1e-6)


def test_a_scene_moves_by_the_binding_of_its_gaussians():
    with jax.enable_x64(True):
        scene = splats(12, degree=1)
        owners = np.array([7, -1, 2, 0, -1])  # two particles are no Gaussian
        rest = np.array(cloud(5))
        rest[owners >= 0] = np.asarray(scene.means)[owners[owners >= 0]]
        followers = np.array([9, 1])
        binding = carry.bind(scene.means, owners, followers, rest, k=3)
        x, F = jnp.asarray(cloud(5, seed=7)), gradients_of_motion(5)
        moved = carry.carry(scene, binding, x, F)
        x_m, F_m = follow(binding.neighbours, scene.means[followers], rest, x, F)
        kept = np.setdiff1d(np.arange(12), [7, 2, 0, 9, 1])
        take = lambda rows: jax.tree.map(lambda leaf: leaf[rows], moved)  # noqa: E731
        some = lambda rows: jax.tree.map(lambda leaf: leaf[rows], scene)  # noqa: E731
        rows_are_close(take(kept), some(kept), atol=0)
        particles = np.array([7, 2, 0])
        moves = (particles, x[owners >= 0], F[owners >= 0]), (followers, x_m, F_m)
        for rows, places, stretch in moves:
            before, after = some(rows), take(rows)
            np.testing.assert_allclose(after.means, places, atol=1e-14)
            expected = stretch @ covariances(before) @ stretch.mT
            np.testing.assert_allclose(covariances(after), expected, atol=1e-12)
            turned = np.abs(after.harmonics - before.harmonics)[:, 1:]
            assert turned.max((1, 2)).min() > 0.01


@pytest.mark.slow
def test_a_whole_scene_is_differentiable():
    scene = splats(6, dtype=np.float32)
    rest = np.float32(cloud(10))
    owners = np.full(10, -1)
    owners[:2] = [4, 5]
    binding = carry.bind(scene.means, owners, np.array([0, 1, 2]), rest, k=4)

    def total(scene, x, F):
        moved = carry.carry(scene, binding, x, F)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(moved))

    F = jnp.asarray(gradients_of_motion(10), jnp.float32)
    _, x_bar, F_bar = jax.jit(jax.grad(total, (0, 1, 2)))(scene, rest, F)
    follows = np.isin(np.arange(10), binding.neighbours.index[binding.neighbours.weights > 0])
    is_used = follows | (owners >= 0)
    np.testing.assert_array_equal(np.abs(x_bar).sum(-1) > 0, is_used)
    np.testing.assert_array_equal(np.abs(F_bar).sum((1, 2)) > 0, is_used)
