import itertools

import numpy as np
import pytest

from sim.filling import density_field, find_filling, is_inside, subsample
from sim.scene import Filling

SIDE = 2.0  # of the box, metres
STEPS = {0: (1, 0, 0), 1: (-1, 0, 0), 2: (0, 1, 0), 3: (0, -1, 0), 4: (0, 0, 1), 5: (0, 0, -1)}


def fill(*arguments, **keys):
    return find_filling(*arguments, **keys).points


def sphere(radius=0.4, count=6000):
    """Points of a spiral on a sphere about (1, 1, 1), evenly spread."""
    z = 1 - 2 * (np.arange(count) + 0.5) / count
    turn = np.arange(count) * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - z * z)
    return 1.0 + radius * np.stack([ring * np.cos(turn), ring * np.sin(turn), z], -1)


def cube(half=0.4, spacing=0.02):
    """Points on the faces of a cube about (1, 1, 1)."""
    ticks = np.arange(-half, half + 1e-9, spacing)
    grid = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), -1).reshape(-1, 3)
    return 1.0 + grid[np.isclose(np.abs(grid).max(-1), half)]


def round_ones(x, sigma):
    return x, np.broadcast_to(sigma**2 * np.eye(3), (len(x), 3, 3)), np.full(len(x), 0.9)


def shell_filling(**settings):
    return Filling(**{"n_grid": 64, "density_threshold": 1e9, "search_threshold": 0.2, **settings})


@pytest.mark.parametrize("smooth", [False, True])
def test_a_hollow_sphere_becomes_a_ball(smooth):
    filling = shell_filling(smooth=smooth)
    points = fill(*round_ones(sphere(), 0.015), filling, SIDE)
    shell = np.unique(np.floor(sphere() * 32), axis=0)
    volume = (len(points) + len(shell)) / 32**3
    # Cells of the shell reach out of the ball by half of a cell on average.
    assert 4 / 3 * np.pi * 0.4**3 == pytest.approx(volume, rel=0.13)
    from_middle = np.linalg.norm(points - 1, axis=-1)
    assert from_middle.max() < 0.4 + 2 / 32 and from_middle.min() < 0.1


def test_a_hollow_cube_becomes_solid():
    points = fill(*round_ones(cube(), 0.015), shell_filling(), SIDE)
    assert np.abs(points - 1).max() < 0.4 + 2 / 32
    # All cells of the inside, with one point each: 24^3 of 1/32 m.
    core = points[np.abs(points - 1).max(-1) < 0.375]
    assert len(core) == 24**3
    assert len(np.unique(np.floor(core * 32), axis=0)) == 24**3


def test_many_points_a_cell():
    one = fill(*round_ones(cube(), 0.015), shell_filling(), SIDE)
    four = fill(*round_ones(cube(), 0.015), shell_filling(max_particles_per_cell=4), SIDE)
    assert len(four) == 4 * len(one)
    assert set(map(tuple, np.floor(four * 32))) == set(map(tuple, np.floor(one * 32)))


def test_a_cup_is_filled_where_its_opening_is_left_out():
    cup = cube()
    cup = cup[cup[:, 2] < 1.39]  # open at the top
    walls = round_ones(cup, 0.015)

    def number(exclude, ray):
        settings = {"search_exclude_direction": exclude, "ray_cast_direction": ray}
        return len(fill(*walls, shell_filling(**settings), SIDE))

    assert number(4, 0) > 24**3 * 0.95
    # Rays up see nothing, but from under the rims.
    assert max(number(-1, 0), number(5, 0), number(4, 4)) < 24**3 * 0.25
    assert number(4, -1) >= number(4, 0)


def test_dense_cells_are_topped_up():
    x = np.full((3, 3), 1.02)
    settings = {"n_grid": 20, "max_particles_per_cell": 5, "density_threshold": 1.0}
    points = fill(
        x, np.broadcast_to(0.01 * np.eye(3), (3, 3, 3)), np.ones(3), Filling(**settings), 2
    )
    own = np.all(np.floor(points * 10) == 10, -1)
    assert own.sum() == 2  # three of five are there
    others = np.unique(np.floor(points[~own] * 10), axis=0, return_counts=True)[1]
    assert len(others) and np.all(others == 5)


def test_a_boundary_sets_place_and_size_of_the_grid():
    bounds = (0.5, 1.5, 0.5, 1.45, 0.5, 1.45)
    everywhere = round_ones(np.concatenate([sphere(), np.add(sphere(), [0.85, 0, 0])]), 0.015)
    part = fill(*everywhere, shell_filling(n_grid=32, boundary=bounds), SIDE)
    assert np.all((part > 0.5) & (part < 1.5))
    alone = fill(*round_ones(sphere(), 0.015), shell_filling(), SIDE)
    # The second ball, cut off at 1.5, does not disturb the first.
    ball = part[np.linalg.norm(part - 1, axis=-1) < 0.3]
    assert len(ball) == pytest.approx(np.sum(np.linalg.norm(alone - 1, axis=-1) < 0.3), rel=0.02)


def test_the_seed_decides_all():
    args = (*round_ones(cube(), 0.015), shell_filling(), SIDE)
    np.testing.assert_array_equal(fill(*args, seed=3), fill(*args, seed=3))
    assert np.abs(fill(*args, seed=3) - fill(*args, seed=4)).max() > 1e-3


def test_no_more_points_than_allowed_spread_over_all_cells():
    args = round_ones(cube(), 0.015)
    points = fill(*args, shell_filling(max_particles_num=500), SIDE)
    assert len(points) == 500
    np.testing.assert_allclose(points.mean(0), 1.0, atol=0.05)


def test_nothing_to_fill_gives_no_points():
    assert fill(*round_ones(sphere(0.4, 20), 0.01), Filling(32), SIDE).shape == (0, 3)
    outside = round_ones(np.full((1, 3), 9.0), 0.01)
    assert fill(*outside, Filling(32), SIDE).shape == (0, 3)
    bounds = Filling(32, boundary=(0.1, 0.2, 0.1, 0.2, 0.1, 0.2))
    assert fill(*round_ones(sphere(), 0.01), bounds, SIDE).shape == (0, 3)


def random_gaussians(count, low, high, seed=0):
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(count, 3, 3)))[0]
    sigma = rng.uniform(low, high, (count, 3))
    covariances = np.einsum("nij,nj,nkj->nik", axes, sigma**2, axes)
    return rng.uniform(0.0, 2.0, (count, 3)), covariances, rng.uniform(0.2, 1.0, count)


def slow_density(means, covariances, opacities, dx, size):
    density = np.zeros([size] * 3)
    for mean, covariance, opacity in zip(means, covariances, opacities, strict=True):
        own = np.floor(mean / dx).astype(int)
        reach = int(np.ceil(np.sqrt(np.linalg.eigvalsh(covariance)[-1]) / dx))
        cells = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), -1)
        corners = np.array(list(itertools.product([0, 1], repeat=3)))
        nodes = (cells[..., None, :] + corners) * dx - mean
        squares = np.einsum("...i,ij,...j->...", nodes, np.linalg.inv(covariance), nodes)
        is_near = np.all(np.abs(cells - own) <= reach, -1)
        density += opacity * np.exp(-0.5 * squares).mean(-1) * is_near
    return density


def test_the_density_is_the_sum_over_corners():
    gaussians = random_gaussians(60, 0.03, 0.3)
    fast = density_field(*gaussians, np.zeros(3), 0.125, 16)
    np.testing.assert_allclose(fast, slow_density(*gaussians, 0.125, 16), atol=1e-5)


def test_batches_change_nothing(monkeypatch):
    gaussians = random_gaussians(60, 0.03, 0.3)
    whole = density_field(*gaussians, np.zeros(3), 0.125, 16)
    monkeypatch.setattr("sim.filling._BATCH_NODES", 2000)
    np.testing.assert_allclose(density_field(*gaussians, np.zeros(3), 0.125, 16), whole, atol=1e-6)


def test_wide_gaussians_are_nearly_exact_on_coarser_grids():
    means, covariances, opacities = random_gaussians(4, 0.3, 0.5)
    gaussians = 1.0 + 0.1 * (means - 1.0), covariances, opacities
    fast = density_field(*gaussians, np.zeros(3), 2 / 40, 40)
    slow = slow_density(*gaussians, 2 / 40, 40)
    core = slow > 0.6 * slow.max()
    assert np.abs(fast - slow)[core].max() < 0.15 * slow.max()
    assert fast.sum() == pytest.approx(slow.sum(), rel=0.25)  # windows end at coarser cells


def test_flat_and_huge_gaussians_are_finite():
    covariances = np.zeros((3, 3, 3))
    covariances[1] = 1e12 * np.eye(3)
    covariances[2] = np.diag([1.0, 0.0, 0.0])
    field = density_field(np.ones((3, 3)), covariances, np.ones(3), np.zeros(3), 0.1, 20)
    assert np.isfinite(field).all() and field.min() > 0.99  # the huge one is everywhere


def slow_inside(matter, exclude, ray):
    size = len(matter)
    found = np.zeros(matter.shape, bool)
    for cell in np.ndindex(matter.shape):
        hits, crossings = [], 1
        for direction, step in STEPS.items():
            ahead = []
            at = np.add(cell, step)
            while np.all((at >= 0) & (at < size)):
                ahead.append(matter[tuple(at)])
                at = at + step
            hits.append(any(ahead) or direction == exclude)
            if direction == ray:
                pairs = zip([False, *ahead], ahead, strict=False)
                crossings = sum(not before and after for before, after in pairs)
        found[cell] = all(hits) and crossings % 2 == 1
    return found


@pytest.mark.parametrize("ray", [-1, 0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("exclude", [-1, 0, 3, 5])
def test_rays_see_what_a_walk_sees(exclude, ray):
    matter = np.random.default_rng(ray + 10).random((6, 6, 6)) < 0.35
    np.testing.assert_array_equal(
        is_inside(matter, exclude, ray), slow_inside(matter, exclude, ray)
    )


def test_a_subsample_has_one_point_a_cube():
    x = np.random.default_rng(0).random((5000, 3))
    kept = subsample(x, spacing=0.1)
    assert np.all(np.diff(kept) > 0)
    cubes = np.floor((x[kept] - x.min(0)) / 0.1)
    everyone = np.unique(np.floor((x - x.min(0)) / 0.1), axis=0)
    np.testing.assert_array_equal(np.unique(cubes, axis=0), everyone)
    assert len(kept) == len(everyone)
    # Those nearest to the middles of the cubes.
    off = np.abs((x[kept] - x.min(0)) / 0.1 - cubes - 0.5).mean()
    assert off < 0.2  # 0.25 for points at random


def test_a_subsample_holds_its_number_evenly():
    rng = np.random.default_rng(0)
    x = rng.random((20000, 3)) ** [3, 1, 1]  # crowded at x = 0
    kept = subsample(x, max_particles=2000)
    assert 1600 <= len(kept) <= 2000
    share = np.histogram(x[kept, 0], 4, (0, 1))[0] / len(kept)
    assert share.min() > 0.18  # of 0.25; the crowd has 0.63 of all in its quarter
    np.testing.assert_array_equal(kept, subsample(x, max_particles=2000))


@pytest.mark.parametrize("most", [1, 2, 5, 40])
def test_small_subsamples(most):
    x = np.random.default_rng(0).random((100, 3))
    assert 1 <= len(subsample(x, max_particles=most)) <= most


def test_nothing_is_left_out_where_all_fit():
    x = np.random.default_rng(0).random((100, 3))
    np.testing.assert_array_equal(subsample(x, max_particles=100), np.arange(100))
    np.testing.assert_array_equal(subsample(np.ones((9, 3)), max_particles=3), [0])
