import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.stylegan.augment import AugmentConfig, adapted_probability, augment, shifted

IMAGES = np.random.default_rng(0).normal(size=(64, 8, 12, 3)).astype(np.float32)
NOTHING = dict(brightness=0.0, saturation=0.0, contrast=0.0, translation=0.0, cutout=0.0)
KEY = jax.random.key(0)


def changed(probability=1.0, **sizes):
    config = AugmentConfig(**(NOTHING | sizes))
    return np.asarray(augment(KEY, IMAGES, probability, config))


def test_each_change_keeps_what_it_should():
    added = changed(brightness=0.5) - IMAGES
    np.testing.assert_allclose(
        added, np.broadcast_to(added[:, :1, :1, :1], IMAGES.shape), atol=1e-6
    )
    assert -0.5 <= added.min() < -0.4 and 0.4 < added.max() <= 0.5
    colours = changed(saturation=1.0)
    np.testing.assert_allclose(colours.mean(3), IMAGES.mean(3), atol=1e-6)
    contrast = changed(contrast=0.5)
    np.testing.assert_allclose(contrast.mean((1, 2, 3)), IMAGES.mean((1, 2, 3)), atol=1e-6)
    for values, axes, low, high in ((colours, 3, 0.0, 2.0), (contrast, (1, 2, 3), 0.5, 1.5)):
        ratio = np.ptp(values, axes) / np.ptp(IMAGES, axes)
        assert low <= ratio.min() < low + 0.1 and high - 0.1 < ratio.max() <= high + 1e-5


def test_pictures_are_moved_by_whole_pixels_and_zeros_come_in():
    expected = np.zeros_like(IMAGES[:2])
    expected[0, 2:], expected[1, :-3] = IMAGES[0, :-2], IMAGES[1, 3:]
    np.testing.assert_array_equal(shifted(IMAGES[:2], np.float32([2, -3]), 1), expected)
    expected = np.zeros_like(IMAGES[:2])
    expected[0], expected[1, :, :-5] = IMAGES[0], IMAGES[1, :, 5:]
    np.testing.assert_array_equal(shifted(IMAGES[:2], np.float32([0, -5]), 2), expected)
    moved = changed(translation=0.25)  # by 2 rows and 3 columns at most
    rows = [row for row in range(-4, 5) for n in range(64) if any(_moved(row, n, moved))]
    assert set(rows) == set(range(-2, 3))


def _moved(rows, n, moved):
    """Whether picture n went down by some rows, whatever the columns did."""
    for columns in range(-3, 4):
        there = np.zeros_like(IMAGES[n])
        there[max(rows, 0) : 8 + min(rows, 0), max(columns, 0) : 12 + min(columns, 0)] = IMAGES[
            n, max(-rows, 0) : 8 + min(-rows, 0), max(-columns, 0) : 12 + min(-columns, 0)
        ]
        yield np.array_equal(there, moved[n])


def test_a_square_is_cut_out_and_reaches_over_the_rim():
    cut = np.all(changed(cutout=0.5) == 0.0, -1)
    areas = cut.sum((1, 2))
    assert areas.max() == 4 * 6 and areas.min() < 4 * 6
    assert np.all(cut == (cut.any(2)[:, :, None] & cut.any(1)[:, None]))


def test_each_picture_is_changed_with_the_probability():
    np.testing.assert_array_equal(augment(KEY, IMAGES, 0.0), IMAGES)
    share = np.mean(np.any(changed(0.25, brightness=0.5) != IMAGES, (1, 2, 3)))
    assert 0.1 < share < 0.4


def test_the_gradient_comes_through():
    grown = jax.grad(lambda images: jnp.sum(augment(KEY, images, 1.0, AugmentConfig(cutout=0.0))))
    assert np.all(np.isfinite(grown(IMAGES))) and np.any(np.asarray(grown(IMAGES)) != 0.0)


def test_probability_rises_while_the_discriminator_is_too_sure():
    half = np.float32(0.5)
    assert adapted_probability(half, 0.9, 5_000) == pytest.approx(0.51)
    assert adapted_probability(half, 0.1, 5_000) == pytest.approx(0.49)
    assert adapted_probability(np.float32(0.0), -1.0, 5_000) == 0.0
    assert adapted_probability(np.float32(1.0), 1.0, 5_000) == 1.0
