import jax
import numpy as np
import pytest

from models.stylegan.augment import AugmentConfig, adapted_probability, augment, shifted

IMAGES = np.random.default_rng(0).normal(size=(40, 8, 12, 3)).astype(np.float32)
KEY = jax.random.key(0)


@jax.jit
def changed(probability):
    """Changed pictures, and what was drawn for them: changes [5, N], numbers [7, N]."""
    which, how = jax.random.split(KEY)
    drawn = jax.random.uniform(which, (5, 40)) < probability, jax.random.uniform(how, (7, 40))
    return augment(KEY, IMAGES, probability, AugmentConfig()), drawn


def changed_twin(image, is_changed, drawn):
    """One picture with what is drawn for it: changes [5], numbers [7] in [0, 1)."""
    height, width, _ = image.shape
    x = np.float64(image)
    if is_changed[0]:
        x = x + drawn[0] - 0.5
    if is_changed[1]:
        grey = x.mean(2, keepdims=True)
        x = grey + 2.0 * drawn[1] * (x - grey)
    if is_changed[2]:
        x = x.mean() + (0.5 + drawn[2]) * (x - x.mean())
    if is_changed[3]:  # up to an eighth of the side: one row, 1.5 columns, both ways
        there = np.zeros_like(x)
        down, right = int(3 * drawn[3]) - 1, int(5 * drawn[4]) - 2
        for i in range(height):
            for j in range(width):
                if 0 <= i + down < height and 0 <= j + right < width:
                    there[i + down, j + right] = x[i, j]
        x = there
    if is_changed[4]:
        top, left = int(height * drawn[5]) - 2, int(width * drawn[6]) - 3
        x[max(top, 0) : max(top + 4, 0), max(left, 0) : max(left + 6, 0)] = 0.0
    return x


def test_each_picture_has_changes_of_its_own():
    found, (is_changed, drawn) = jax.device_get(changed(0.5))
    for n, image in enumerate(IMAGES):
        expected = changed_twin(image, is_changed[:, n], np.float64(drawn[:, n]))
        np.testing.assert_allclose(found[n], expected, atol=1e-5)


def test_no_probability_no_change():
    np.testing.assert_array_equal(changed(0.0)[0], IMAGES)
    assert np.all(np.any(changed(1.0)[0] != IMAGES, (1, 2, 3)))


def test_pictures_are_moved_by_whole_pixels_and_zeros_come_in():
    expected = np.zeros_like(IMAGES[:2])
    expected[0, 2:], expected[1, :-3] = IMAGES[0, :-2], IMAGES[1, 3:]
    np.testing.assert_array_equal(shifted(IMAGES[:2], np.float32([2, -3]), 1), expected)


def test_probability_rises_while_the_discriminator_is_too_sure():
    half = np.float32(0.5)
    assert adapted_probability(half, 0.9, 5_000) == pytest.approx(0.51)
    assert adapted_probability(half, 0.1, 5_000) == pytest.approx(0.49)
    assert adapted_probability(np.float32(0.0), -1.0, 5_000) == 0.0
    assert adapted_probability(np.float32(1.0), 1.0, 5_000) == 1.0
