"""Where the photo's own head ends, from drawn discs for heads."""

import numpy as np
import pytest

from recon.painting.outline import surroundings

SIZE, CELL = 120, 1 / 32  # pixels, eye distances a pixel
SKIN, HAIR = (0.78, 0.58, 0.48), (0.25, 0.17, 0.10)
LEAVES = ((0.2, 0.5, 0.15), (0.45, 0.6, 0.3), (0.1, 0.25, 0.1))


def radius():
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    return np.hypot(x, y), y


def drawn(behind, hair_radius, noise=0.02):
    """A face of radius 24, hair above it to `hair_radius`, in front of what is behind."""
    r, y = radius()
    picture = np.array(np.broadcast_to(behind, (SIZE, SIZE, 3)))
    picture[(r < hair_radius) & (y < 6)] = HAIR
    picture[(r < 24) & (y > -16)] = SKIN
    grain = np.random.default_rng(0).normal(size=picture.shape)
    return np.clip(picture + noise * grain, 0, 1).astype(np.float32)


def leaves():
    rng = np.random.default_rng(1)
    kinds = np.kron(rng.integers(3, size=(SIZE // 4, SIZE // 4)), np.ones((4, 4), int))
    return np.array(LEAVES)[kinds]


def found(picture, model_radius=34):
    r, y = radius()
    is_head, counts = r < model_radius, y < 6
    return surroundings(picture, is_head, counts, CELL), is_head & counts, r


@pytest.mark.parametrize("behind", [(0.2, 0.75, 0.3), (0.95, 0.95, 0.93), leaves()])
def test_what_shows_beside_a_smaller_head_is_found(behind):
    is_behind, guess, r = found(drawn(behind, hair_radius=27))
    assert is_behind[guess & (r > 28)].mean() > 0.9
    assert not is_behind[r < 26].any()


@pytest.mark.parametrize("behind", [(0.2, 0.75, 0.3), (0.95, 0.95, 0.93), leaves()])
def test_hair_that_stands_off_the_skull_is_kept(behind):
    is_behind, guess, _ = found(drawn(behind, hair_radius=42))
    assert is_behind[guess].mean() < 0.01


def test_what_does_not_reach_in_from_outside_is_kept():
    picture = drawn((0.2, 0.75, 0.3), hair_radius=38)
    r, y = radius()
    picture[(np.abs(y + 20) < 5) & (r < 24)] = (0.2, 0.75, 0.3)  # a badge
    assert not found(picture)[0].any()


def test_a_head_before_its_own_colour_is_left_alone():
    assert not found(drawn(HAIR, hair_radius=27))[0].any()


def test_a_photo_that_ends_at_the_head_says_nothing():
    picture = drawn((0.2, 0.75, 0.3), hair_radius=27)
    is_head = np.ones((SIZE, SIZE), bool)
    assert not surroundings(picture, is_head, is_head, CELL).any()
