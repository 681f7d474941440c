"""Preparation of pictures against Pillow, closed forms and numbers of diffusers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from golden_clip import IMAGES, picture, read_golden

from models.perception.clip_images import (
    MEAN,
    STD,
    ViewConfig,
    clip_pixels,
    perspective,
    random_views,
    smooth_resize_matrix,
    svd_pixels,
)


def shown(pixels):
    """Pixels as a picture again."""
    return np.asarray(pixels) * STD + MEAN


def test_the_middle_is_shrunk_and_enlarged_as_pillow_does():
    for height, width, side in [(30, 47, 12), (9, 7, 20)]:
        image = 0.3 + 0.4 * picture(height, width)  # where nothing overshoots 0 and 1
        rows, columns = side * height // min(height, width), side * width // min(height, width)
        channels = [
            PIL.Image.fromarray(channel).resize((columns, rows), PIL.Image.Resampling.BICUBIC)
            for channel in np.moveaxis(image, -1, 0)
        ]
        expected = np.stack(channels, -1)
        top, left = (rows - side) // 2, (columns - side) // 2
        found = shown(clip_pixels(jnp.asarray(image), side))
        np.testing.assert_allclose(
            found, expected[top : top + side, left : left + side], rtol=0, atol=2e-6
        )


def test_eight_bits_differ_by_what_they_round():
    image = np.round(255 * (picture(30, 47) > 0.5)).astype(np.uint8)  # overshoots everywhere
    expected = PIL.Image.fromarray(image)
    for size in ((18, 30), (18, 12)):  # which comes first depends on Pillow's version
        expected = expected.resize(size, PIL.Image.Resampling.BICUBIC)
    found = shown(clip_pixels(jnp.asarray(image / np.float32(255)), 12))
    difference = 255 * found - np.asarray(expected, np.float32)[:, 3:15]
    assert np.abs(difference).max() < 1.5
    assert 0.1 < np.abs(difference).mean() < 0.5


@pytest.mark.parametrize("old, new", [(40, 9), (9, 9), (5, 12), (23, 8), (400, 21)])
def test_smooth_resize_keeps_constants_and_ramps(old, new):
    matrix = smooth_resize_matrix(old, new)
    np.testing.assert_allclose(matrix.sum(1), 1.0, atol=1e-12)
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-9)
    at = np.linspace(0, old - 1, new)  # from corner to corner
    margin = 2 * max(old / new, 1.0) + 3  # how far blur and interpolation reach
    inside = (at > margin) & (at < old - 1 - margin)
    assert inside.any() or old < 12
    # Keys' kernel keeps ramps if a = -0.5. Here a = -0.75.
    t = at % 1.0
    found = matrix @ np.arange(old)
    expected = at - (1.0 - 2.0 * 0.75) * t * (1.0 - t) * (1.0 - 2.0 * t)
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-9)


def test_smooth_resize_of_one_size_changes_nothing():
    np.testing.assert_allclose(smooth_resize_matrix(9, 9), np.eye(9), atol=1e-12)


def test_pixels_are_those_of_the_public_pipelines():
    golden = read_golden()
    for name, (image, side) in IMAGES.items():
        found = svd_pixels(jnp.asarray(image), side)
        np.testing.assert_allclose(found, golden[f"svd_{name}"], rtol=0, atol=2e-5)
        # Theirs are rounded to 8 bits, twice.
        difference = clip_pixels(jnp.asarray(image), side) - golden[f"clip_{name}"]
        assert np.abs(difference * STD).max() < 1.5 / 255


@pytest.mark.parametrize("prepare", [clip_pixels, svd_pixels])
def test_gradients_flow_to_every_pixel_that_is_kept(prepare):
    image = jnp.asarray(0.3 + 0.4 * picture(14, 14))
    gradient = jax.grad(lambda image: jnp.sum(prepare(image, 6) * STD))(image)
    np.testing.assert_allclose(gradient.sum(), 6 * 6 * 3, rtol=1e-5)
    assert np.all(np.abs(gradient) > 1e-4)


def test_views_of_one_key_look_at_the_same_places_inside_the_picture():
    height, width, side = 24, 36, 12
    look = jax.jit(functools.partial(random_views, count=5, side=side))
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    # A picture whose colours tell where it is seen: colours stay on it, as all is linear.
    where = np.stack([x / width, y / height, np.full_like(x, 0.5, float)], -1).astype(np.float32)
    views = np.asarray(look(jax.random.key(0), where))
    assert views.shape == (5, side, side, 3)
    np.testing.assert_allclose(views[..., 2], 0.5, atol=1e-6)
    assert np.all(np.diff(views[..., 0], axis=2) > 0) and np.all(np.diff(views[..., 1], axis=1) > 0)
    assert len(np.unique(views[:, 0, 0, 0])) == 5
    again = np.asarray(look(jax.random.key(0), 1.0 - where))
    np.testing.assert_allclose(again, 1.0 - views, atol=1e-5)
    assert np.abs(np.asarray(look(jax.random.key(1), where)) - views).max() > 0.05


def test_a_perspective_maps_corners_to_corners_and_lines_to_lines():
    corners = jnp.array([[1.0, 2.0], [7.0, 1.0], [6.0, 5.0], [2.0, 8.0]])
    u, v = jnp.array([0.0, 1.0, 1.0, 0.0, 0.5]), jnp.array([0.0, 0.0, 1.0, 1.0, 0.5])
    *found, middle = perspective(corners, u, v)
    np.testing.assert_allclose(found, corners, atol=1e-5)
    # The middle stays where the diagonals cross.
    for first, last in (corners[0], corners[2]), (corners[1], corners[3]):
        np.testing.assert_allclose(jnp.cross(middle - first, last - first), 0.0, atol=1e-4)


def test_a_view_without_distortion_is_a_crop():
    image = picture(12, 12)
    whole = ViewConfig(smallest_scale=1.0, distortion=0.0)
    look = jax.jit(functools.partial(random_views, count=1, side=12, config=whole))
    (view,) = look(jax.random.key(0), image)
    np.testing.assert_allclose(view, image, atol=1e-5)
    with pytest.raises(ValueError, match=r"distortion in \[0, 0\.5\]"):
        ViewConfig(distortion=0.7)


def test_pictures_of_other_shapes_are_refused():
    for prepare in (clip_pixels, svd_pixels):
        with pytest.raises(ValueError, match=r"expected a picture \[H, W, 3\], found \(4, 5\)"):
            prepare(jnp.zeros((4, 5)), 3)
    with pytest.raises(ValueError, match=r"at least 2 pixels a side, found \(1, 5, 3\)"):
        svd_pixels(jnp.zeros((1, 5, 3)), 3)
