"""Made-up shapes are whole, in bounds, and what the scenes made for them expect."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from render import harmonics, shapes
from sim.particles import prepare
from sim.scene_io import read_scene_file


@pytest.mark.parametrize("name", shapes.NAMES)
def test_a_shape_is_one_piece_of_side_two_at_most(name):
    found = shapes.shape(name)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(shapes.shape(name)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all() and a.dtype == np.float32
    assert np.abs(found.means).max() <= 1.0
    np.testing.assert_allclose(np.linalg.norm(found.quats, axis=-1), 1.0, atol=1e-6)
    color = 0.5 + harmonics.CONSTANT * found.harmonics
    assert color.min() > -1e-6 and color.max() < 1 + 1e-6
    cells = np.zeros([36] * 3, bool)
    cells[tuple(np.floor(18 * (found.means.T + 1.0)).clip(0, 35).astype(int))] = True
    assert ndimage.label(cells, np.ones([3] * 3))[1] == 1


@pytest.mark.parametrize(
    "scene, name, held", [("plant_swaying", "plant", 0.5), ("cord_hanging", "cord", 0.22)]
)
def test_scenes_for_a_shape_hold_the_part_that_they_are_to_hold(scene, name, held):
    scene = read_scene_file(scene)
    setup = prepare(scene, shapes.shape(name), up="z")
    x = np.asarray(setup.state.x)
    (pin,) = [one for one in scene.boundaries if type(one).__name__ == "Pin"]
    is_held = np.all(np.abs(x - np.array(pin.point)) < pin.size, -1)
    assert abs(is_held.mean() - held) < 0.03
    # All of what is held is on one side of the rest: the pot below the plant, the rose above.
    heights = x[is_held, 2], x[~is_held, 2]
    assert np.median(heights[0]) < heights[1].min() or heights[0].min() > heights[1].max()
