import jax
import jax.numpy as jnp
import numpy as np
import pytest

from render.camera import perspective_camera
from render.gaussians import Gaussians
from render.image import psnr
from render.splat import splat
from render.splat_training import (
    TrainConfig,
    compiled_step,
    init_state,
    photos_of_step,
    relocate,
    scene_extent,
    share_opacity,
    stack_views,
)

pytestmark = pytest.mark.compiles

SIZE = 40
CONFIG = TrainConfig(count=64, degree=0, steps=60)


def cameras(count=6):
    angles = 2 * np.pi * np.arange(count) / count
    return [
        perspective_camera((3 * np.sin(a), 0.4, 3 * np.cos(a)), (0, 0, 0), SIZE, SIZE, 30.0)
        for a in angles
    ]


def points(count=64, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 0.5, (count, 3)), rng.random((count, 3))


def first_state(config=CONFIG, seed=0, with_points=True):
    places, colors = points() if with_points else (None, None)
    return init_state(jax.random.key(seed), cameras(), places, colors, config)


def one_each_device(camera, image, mask=None):
    num = jax.device_count()
    return stack_views([camera] * num, [np.asarray(image)] * num, [mask] * num)


def test_the_first_gaussians_lie_on_the_points_in_their_colours():
    places, colors = points()
    gaussians = first_state().gaussians
    order = np.lexsort(np.asarray(gaussians.means).T)
    expected = np.lexsort(places.astype(np.float32).T)
    np.testing.assert_allclose(gaussians.means[order], places[expected], rtol=1e-6)
    shown = 0.5 + 0.28209479 * np.asarray(gaussians.harmonics)[order, 0]
    np.testing.assert_allclose(shown, colors[expected], atol=1e-6)


def test_more_gaussians_than_points_share_them():
    config = TrainConfig(count=200, degree=1)
    gaussians = first_state(config).gaussians
    places, _ = points()
    distance = np.linalg.norm(np.asarray(gaussians.means)[:, None] - places, axis=-1).min(1)
    assert (distance < 1e-6).sum() == 64 and distance.max() < 0.05 * scene_extent(cameras())
    assert gaussians.harmonics.shape == (200, 4, 3)


def test_without_points_gaussians_fill_the_place_that_the_cameras_look_at():
    config = TrainConfig(count=4000, degree=0)
    means = np.asarray(first_state(config, with_points=False).gaussians.means)
    np.testing.assert_allclose(means.mean(0), 0.0, atol=0.1)
    radius = np.linalg.norm(means, axis=1).max()
    assert 0.5 * 3.03 < radius < 0.7 * 3.03  # the cameras stand 3.03 away


def test_the_extent_is_a_little_more_than_the_cameras_distance_from_their_middle():
    np.testing.assert_allclose(scene_extent(cameras()), 1.1 * 3.0, rtol=1e-5)


@pytest.mark.slow
def test_training_finds_back_a_scene_it_sees():
    places, colors = points(24, seed=1)
    truth = init_state(jax.random.key(1), cameras(), places, colors, TrainConfig(24, 0)).gaussians
    truth = truth.replace(log_scales=truth.log_scales * 0 + np.log(0.12))
    views = cameras()
    photos = [splat(truth, view).rgb for view in views]
    config = TrainConfig(count=64, degree=0, steps=120, relocate_from=20, relocate_every=25)
    state = init_state(jax.random.key(0), views, places, None, config)
    before = [psnr(splat(state.gaussians, v).rgb, p) for v, p in zip(views, photos, strict=True)]
    for step in range(config.steps):
        batch = one_each_device(views[step % 6], photos[step % 6])
        state, report = compiled_step(config, 4096)(state, batch, jnp.float32(step / 120))
        assert not report.overflow and np.isfinite(report.loss)
        if step % config.relocate_every == 0 and step >= config.relocate_from:
            state, _ = relocate(jax.random.key(step), state, config)
    after = [psnr(splat(state.gaussians, v).rgb, p) for v, p in zip(views, photos, strict=True)]
    assert np.mean(after) > np.mean(before) + 8 and min(after) > 24


@pytest.mark.slow
def test_a_step_without_room_changes_nothing_and_says_what_it_needs():
    state = first_state()
    kept = jax.device_get(state)
    batch = one_each_device(cameras()[0], jnp.zeros((SIZE, SIZE, 3)))
    after, report = compiled_step(CONFIG, 8)(state, batch, jnp.float32(0))
    assert report.overflow and report.needed > 8
    for a, b in zip(jax.tree.leaves(jax.device_get(after)), jax.tree.leaves(kept), strict=True):
        np.testing.assert_array_equal(a, b)


def step_from(seed, *view):
    """The state after a step on a view, as arrays on the host, and the loss before it."""
    state = first_state(seed=seed)
    state, report = compiled_step(CONFIG, 4096)(state, one_each_device(*view), jnp.float32(0))
    return jax.device_get(state.gaussians), float(report.loss)


def test_masked_pixels_take_no_part():
    rng = np.random.default_rng(2)
    photo, other = rng.random((2, SIZE, SIZE, 3), np.float32)
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[8:30, 5:33] = 1
    covered = np.where(mask[..., None] > 0, photo, other)
    clean, spoilt = (step_from(0, cameras()[1], image, mask) for image in (photo, covered))
    jax.tree.map(np.testing.assert_array_equal, clean, spoilt)
    _, whole = step_from(0, cameras()[1], photo, np.ones_like(mask))
    assert whole != clean[1]


@pytest.mark.slow
def test_beside_a_smaller_photo_nothing_counts():
    """A photo is learnt as it would be without the larger one that its step is compiled for."""
    camera = cameras()[2].replace(width=SIZE, height=24)
    photo = np.random.default_rng(3).random((24, SIZE, 3), np.float32)
    views = stack_views([camera, cameras()[1]], [photo, np.zeros((SIZE, SIZE, 3))])
    assert views.images.shape == (2, SIZE, SIZE, 3) and views.cameras.height == SIZE
    np.testing.assert_array_equal(views.masks.sum((1, 2)), [24 * SIZE, SIZE * SIZE])
    padded = step_from(0, camera.replace(height=SIZE), views.images[0], views.masks[0])
    alone = step_from(0, camera, photo)
    np.testing.assert_allclose(padded[1], alone[1], rtol=1e-5)
    # Adam divides by the gradient's size: what counts is that none points elsewhere.
    is_seen = np.abs(alone[0].harmonics - first_state().gaussians.harmonics) > 1e-3
    np.testing.assert_allclose(padded[0].harmonics[is_seen], alone[0].harmonics[is_seen], atol=1e-5)
    assert is_seen.mean() > 0.2


def test_photos_of_one_size_without_masks_need_none():
    assert stack_views(cameras()[:2], np.zeros((2, SIZE, SIZE, 3))).masks is None


@pytest.mark.parametrize("opacity", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("num_copies", [1, 2, 7, 51])
def test_copies_look_as_the_one_did_through_their_middle_and_in_all(opacity, num_copies):
    """The line integral of the copies' coverage over the plane is that of the one (Eq. 9)."""
    shared, shrink = share_opacity(jnp.array([opacity]), jnp.array([num_copies]))
    np.testing.assert_allclose(1 - (1 - shared[0]) ** num_copies, opacity, rtol=2e-5)
    x = np.linspace(-12, 12, 200_001)
    one = opacity * np.exp(-0.5 * x**2)
    copy = float(shared[0]) * np.exp(-0.5 * (x / float(shrink[0])) ** 2)
    together = 1 - (1 - copy) ** num_copies
    np.testing.assert_allclose(together.sum(), one.sum(), rtol=2e-3)


def test_the_dead_move_onto_the_living_and_forget_how_they_moved():
    state = first_state()
    is_dead = np.arange(64) % 4 == 0
    logits = jnp.where(is_dead, -8.0, 1.0)
    moments = jax.tree.map(jnp.ones_like, state.moments)
    state = state.replace(
        gaussians=state.gaussians.replace(logit_opacities=logits), moments=moments
    )
    before = jax.device_get(state.gaussians)
    after, num = relocate(jax.random.key(0), state, CONFIG)
    assert num == 16
    living = before.means[~is_dead]
    for i in np.flatnonzero(is_dead):
        twin = np.flatnonzero((before.means == after.gaussians.means[i]).all(1))
        assert len(twin) == 1 and not is_dead[twin[0]]
        assert after.gaussians.logit_opacities[i] == after.gaussians.logit_opacities[twin[0]] < 1.0
        assert np.all(after.moments.mu.means[np.array([i, twin[0]])] == 0)
    np.testing.assert_array_equal(after.gaussians.means[~is_dead], living)
    is_untouched = after.gaussians.logit_opacities == 1.0
    assert is_untouched.any() and np.all(after.moments.nu.quats[is_untouched] == 1)


def test_a_scene_without_living_gaussians_stays_as_it_is():
    state = first_state()
    dead = state.gaussians.replace(logit_opacities=jnp.full(64, -200.0))
    after, num = relocate(jax.random.key(0), state.replace(gaussians=dead), CONFIG)
    assert num == 0 and isinstance(after.gaussians, Gaussians)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.gaussians))


@pytest.mark.slow
def test_noise_moves_what_is_transparent_and_not_what_is_opaque():
    state = first_state()
    logits = jnp.where(jnp.arange(64) < 32, -8.0, 4.0)
    state = state.replace(gaussians=state.gaussians.replace(logit_opacities=logits))
    before = jax.device_get(state.gaussians.means)
    config = TrainConfig(count=64, degree=0, means_rate=1e-9, noise=1e12)
    batch = one_each_device(cameras()[0], jnp.ones((SIZE, SIZE, 3)))
    after, _ = compiled_step(config, 4096)(state, batch, jnp.float32(0))
    moved = np.linalg.norm(after.gaussians.means - before, axis=1)
    assert moved[:32].min() > 10 * moved[32:].max()


def test_every_photo_is_seen_once_a_round_in_another_order_each_time():
    seen = np.concatenate([photos_of_step(step, 2, 7, seed=0) for step in range(14)])
    rounds = seen.reshape(4, 7)
    assert all(set(one) == set(range(7)) for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
