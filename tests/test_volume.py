"""Volume rendering against what homogeneous matter does to light, and against plain integrals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from render import volume
from render.camera import Rays
from render.volume import OccupancyGrid, Spacing


def rays_at_the_ball(num=64, seed=0):
    """Rays from outside of the unit ball; most of them meet it."""
    rng = np.random.default_rng(seed)
    origins = rng.normal(size=(num, 3))
    origins *= 3.0 / np.linalg.norm(origins, axis=1, keepdims=True)
    towards = rng.uniform(-0.7, 0.7, (num, 3)) - origins
    return Rays(origins, towards / np.linalg.norm(towards, axis=1, keepdims=True))


def chords(rays):
    """How long the rays are inside of the unit ball, by their distance to its middle."""
    nearest = np.cross(rays.origins, rays.directions)
    return 2.0 * np.sqrt(np.maximum(1.0 - np.sum(nearest**2, -1), 0.0))


def test_a_homogeneous_ball_stops_what_its_chord_says(x64):
    rays = rays_at_the_ball()

    @jax.jit
    def opacity(density):
        edges = volume.stratified(jax.random.key(0), len(rays.origins), 7)
        t = volume.distances(Spacing(*volume.ray_sphere(rays)), edges)
        return volume.composite_samples(jnp.full((64, 7), density), jnp.ones((64, 7, 3)), t).opacity

    found, slope = jax.jvp(opacity, (1.7,), (1.0,))
    chord = chords(rays)
    assert (chord > 0.5).sum() > 40
    np.testing.assert_allclose(found, 1.0 - np.exp(-1.7 * chord), atol=1e-12)
    np.testing.assert_allclose(slope, chord * np.exp(-1.7 * chord), atol=1e-12)


def test_the_depth_and_colour_of_a_slab(x64):
    """Density 3 between 2 and 4, red in its first half and blue in its second."""
    t = jnp.linspace(0.0, 5.0, 2001)[None]
    middle = volume.midpoints(t)
    density = jnp.where((middle > 2.0) & (middle < 4.0), 3.0, 0.0)
    color = jnp.where(middle[..., None] < 3.0, jnp.array([1.0, 0, 0]), jnp.array([0, 0, 1.0]))
    found = volume.composite_samples(density, color, t)
    red, through = 1.0 - np.exp(-3.0), np.exp(-6.0)
    np.testing.assert_allclose(found.rgb[0], [red, 0.0, 1.0 - through - red], atol=1e-10)
    mean = 2.0 + 1.0 / 3.0 - 2.0 * through / (1.0 - through)
    np.testing.assert_allclose(found.depth[0], mean, rtol=1e-5)
    nothing = volume.composite_samples(0.0 * density, color, t)
    assert nothing.opacity[0] == 0.0 and nothing.depth[0] == 0.0


def test_a_cube_is_entered_and_left_where_it_is():
    origins = np.array([[-3.0, 0.2, 0.1], [0.0, 0.0, 0.0], [-3.0, 2.0, 0.0], [3.0, 0.0, 0.0]])
    directions = np.array([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    near, far = volume.ray_box(Rays(origins, directions))
    np.testing.assert_allclose(near[:2], [2.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(far[:2], [4.0, 1.25], atol=1e-6)
    np.testing.assert_allclose((far - near)[2:], 0.0)  # passed by, and behind


def test_what_lies_behind_a_ray_is_not_on_it():
    rays = Rays(np.array([[0.6, 0.0, 0.0], [3.0, 0.0, 0.0]]), np.array([[1.0, 0, 0], [1.0, 0, 0]]))
    both = jax.jit(lambda rays: (volume.ray_sphere(rays), volume.ray_box(rays)))
    for ends in both(rays):
        np.testing.assert_allclose(ends, [[0.0, 0.0], [0.4, 0.0]], atol=1e-6)


def test_an_endless_ray_is_even_at_first_and_smooth():
    spacing = Spacing(jnp.full(1, 0.1), jnp.full(1, jnp.inf), even=2.0)
    s = jnp.linspace(0.0, 1.0, 201)[None]
    t = np.asarray(volume.distances(spacing, s))[0]
    steps = np.diff(t)
    np.testing.assert_allclose(steps[:100], 0.02, rtol=1e-3)
    assert t[0] == np.float32(0.1) and (steps > 0).all() and 1000 < t[-1] < np.inf
    np.testing.assert_allclose(steps[100] / steps[99], 1.0, atol=0.03)


def test_new_intervals_follow_the_weights():
    edges = jnp.array([[0.0, 0.2, 0.5, 1.0]])
    weights = jnp.array([[1.0, 0.0, 4.0]])
    resample = jax.jit(volume.resample, static_argnums=3)
    found = np.asarray(resample(None, edges, weights, 8))[0]
    assert found[0] == 0.0 and found[-1] == 1.0
    expected = np.interp(np.arange(9) / 8, [0.0, 0.2, 0.2 + 1e-9, 1.0], [0.0, 0.2, 0.5, 1.0])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    many = [np.tile(values, (500, 1)) for values in (edges, weights)]
    shaken = np.asarray(resample(jax.random.key(0), *many, 8))
    assert (np.diff(shaken) >= 0).all() and np.std(shaken[:, 4]) > 0.01
    np.testing.assert_allclose(shaken.mean(0)[4:], found[4:], atol=0.01)


def test_the_march_finds_the_wall():
    """Of a thin wall across the cube, in a grid that holds nothing else."""
    density = jnp.zeros((32, 32, 32)).at[20].set(100.0)
    num = 40
    origins, directions = np.zeros((2, num, 3))
    origins[:], directions[:] = (-0.5, 0.5, 0.5), (1.0, 0.0, 0.0)
    spacing = Spacing(np.full(num, 0.5), np.full(num, 1.5))

    @jax.jit
    def laid():
        edges = volume.stratified(None, num, 64)
        t = volume.distances(spacing, edges)
        x = volume.points_along(Rays(origins, directions), volume.midpoints(t))
        weights = volume.grid_weights(volume.look_up(OccupancyGrid(density), x), edges, t)
        return volume.resample(jax.random.key(0), edges, weights, 16)

    new = np.asarray(laid())
    places = 0.5 * (new[:, 1:] + new[:, :-1])
    # the wall is a bin long or two; its neighbours are looked at as well
    is_near = (places > 19 / 32) & (places < 22 / 32)
    assert np.mean(np.sum(is_near, -1)) > 11


def test_a_cell_that_lets_a_ray_by_hides_nothing():
    """A cell holds its densest place alone: what lies behind it is looked at all the same."""
    edges = jnp.linspace(0.0, 1.0, 11)[None]
    held = jnp.zeros((1, 10)).at[0, 3].set(1e4).at[0, 7].set(1e4)
    front, back = volume.grid_weights(held, edges, edges)[0, np.array([3, 7])]
    assert 0.3 * front < back < front
    front, back = volume.proposal_weights(held, edges, edges)[0, np.array([3, 7])]
    assert back < 0.05 * front  # of proposals there is no doubt: the first stops the ray


def test_what_was_met_on_the_way_is_kept():
    grid = volume.update_grid(volume.init_grid(4, 0.0), jnp.array([5]), jnp.array([2.0]), 0.5)
    x = jnp.array([[[0.1, 0.3, 0.3], [0.9, 0.9, 0.9], [0.8, 0.8, 0.8]]])
    seen = volume.see(grid, x, jnp.array([[1.0, 3.0, 4.0]]))
    np.testing.assert_array_equal(np.flatnonzero(seen.density), [5, 63])
    np.testing.assert_array_equal(seen.density.ravel()[np.array([5, 63])], [2.0, 4.0])


def test_a_march_that_meets_little_looks_everywhere_and_beside_what_it_meets():
    edges = np.array([[0.0, 0.1, 0.3, 0.6, 1.0]], np.float32)
    grid = np.zeros((2, 4), np.float32)
    grid[1, 1] = 50.0
    weights = jax.jit(volume.grid_weights)
    nothing, found = np.asarray(weights(grid, np.repeat(edges, 2, 0), np.repeat(edges, 2, 0)))
    np.testing.assert_allclose(nothing / nothing.sum(), np.diff(edges)[0], rtol=1e-5)
    assert (found > 0.1 * np.diff(edges)[0]).all()
    assert found[1] == found.max() and found[2] > 0.4 * found[1] and found[3] < 0.2 * found[1]


def test_cells_are_looked_at_where_they_are():
    grid = volume.init_grid(4, 0.0)
    index, x = jax.jit(volume.draw_cells, static_argnums=2)(jax.random.key(0), grid, 4000)
    assert len(np.unique(index)) == 64
    value = 1.0 + np.floor(4 * np.asarray(x)) @ [16.0, 4.0, 1.0]  # tells the cells apart
    seen = volume.update_grid(grid, index, np.float32(value), 0.5)
    x, value = np.array(x), np.array(value)
    x[:3] = [[1.0, 1.0, 1.0], [-0.1, 0.0, 0.3], [0.0, 1.2, 0.9]]  # outside is the border's
    value[:3] = [64.0, 2.0, 16.0]
    np.testing.assert_array_equal(jax.jit(volume.look_up)(seen, x), value)
    np.testing.assert_array_equal(seen.density.ravel(), 1.0 + np.arange(64))
    once = volume.update_grid(seen, jnp.array([3]), jnp.array([1.0]), 0.5)
    assert once.density.ravel()[3] == 2.0 and once.density.ravel()[4] == 5.0


def test_what_is_close_to_a_camera_learns_slowly():
    t = jnp.array([[0.0, 0.2, 0.6, 1.4, 3.0]])
    values = jnp.arange(8.0).reshape(1, 4, 2)
    found, back = jax.vjp(lambda v: volume.fade_near(v, t), values)
    np.testing.assert_allclose(found, values, rtol=1e-6)
    expected = np.array([0.01, 0.16, 1.0, 1.0])[None, :, None] * np.ones(2)
    np.testing.assert_allclose(back(jnp.ones_like(values))[0], expected, rtol=1e-6)


def test_distortion_is_the_double_integral(x64):
    rng = np.random.default_rng(0)
    edges = np.sort(rng.random((3, 8)))
    weights = rng.random((3, 7))
    found = jax.jit(volume.distortion)(jnp.asarray(edges), jnp.asarray(weights))
    fine = 400
    for ray in range(3):
        width = np.diff(edges[ray])
        share = (np.arange(fine) + 0.5) / fine
        places = (edges[ray, :-1, None] + width[:, None] * share).ravel()
        mass = np.repeat(weights[ray] / fine, fine)
        total = mass @ np.abs(places[:, None] - places) @ mass
        np.testing.assert_allclose(found[ray], total, rtol=1e-4)


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_a_patch_of_a_tilted_plane_is_as_rough_as_its_slope(slope):
    pixels = volume.patch_pixels(jnp.array([[3, 5], [0, 0]]))
    assert pixels.shape == (2, 8, 8, 2)
    np.testing.assert_array_equal(pixels[0, 0, 1], [4.5, 5.5])  # the second in the first row
    depth = 2.0 + slope * pixels[..., 0] + 2.0 * slope * pixels[..., 1]
    np.testing.assert_allclose(volume.depth_smoothness(depth), 5.0 * slope**2, rtol=1e-5)
