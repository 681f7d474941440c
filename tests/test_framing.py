import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from render.camera import Y_UP, orbit, project
from render.framing import (
    distance_of,
    extent_at,
    frame,
    frame_views,
    mesh_subject,
    splat_subject,
    spread_views,
    with_width,
)
from render.gaussians import Gaussians
from render.mesh import Mesh


def box(low, high):
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), -1).reshape(-1, 3)
    triangles = np.array([[0, 1, 2], [1, 2, 3], [4, 5, 6], [5, 6, 7], [0, 4, 7]])
    return Mesh(corners.astype(np.float32), triangles)


def ball(count=2000, floaters=0):
    rng = np.random.default_rng(0)
    means = rng.normal(size=(count, 3))
    means *= rng.random((count, 1)) ** (1 / 3) / np.linalg.norm(means, axis=1, keepdims=True)
    far = rng.normal(size=(floaters, 3)) * 100
    total = count + floaters
    return Gaussians(
        means=jnp.asarray(np.concatenate([means, far]), jnp.float32),
        quats=jnp.tile(jnp.array([1.0, 0, 0, 0]), (total, 1)),
        log_scales=jnp.full((total, 3), -5.0),
        logit_opacities=jnp.full(total, 3.0),
        harmonics=jnp.zeros((total, 1, 3)),
    )


def views(found, angles, width, height, **lens):
    return [
        orbit(found.target, found.extent, 1, width, height, azimuth_degrees=(a, a), **lens)[0]
        for a in angles
    ]


@pytest.mark.parametrize("up", [Y_UP, (0, -1, 0), (0, 0, 1)])
@pytest.mark.parametrize("width, height", [(300, 300), (400, 200)])
def test_a_mesh_is_whole_in_each_view_and_touches_the_margin_in_one(up, width, height):
    mesh = box((0.0, 1.0, 2.0), (1.0, 1.5, 4.0))
    angles, lens = (0.0, 50.0, 200.0), {"elevation_degrees": 20.0, "up": up}
    found = frame(mesh_subject(mesh), width, height, angles, **lens)
    least = []
    for camera in views(found, angles, width, height, **lens):
        pixels, depth = project(camera, mesh.vertices)
        assert np.all(depth > 0)
        sides = np.minimum(pixels, np.array([width, height]) - pixels) / (width, height)
        least.append(sides.min())
    np.testing.assert_allclose(min(least), 0.05, atol=2e-3)


@pytest.mark.compiles
def test_floaters_do_not_make_the_subject_small():
    without, found = (
        frame(splat_subject(ball(floaters=n)), 200, 200, (0.0, 90.0)) for n in (0, 60)
    )
    assert found.extent < 1.3 * without.extent
    np.testing.assert_allclose(without.target, 0.0, atol=0.1)


def joined(*parts):
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def guitar():
    """A body of nine tenths of the mass, and a neck three times as long with a head at its end."""
    body, neck = ball(3000), ball(400)
    rng = np.random.default_rng(1)
    place = np.stack([rng.uniform(0, 7, 400), *rng.normal(0, 0.1, (2, 400))], -1)
    return joined(body, neck.replace(means=jnp.asarray(place, jnp.float32)))


def extent(gaussians):
    return frame(splat_subject(gaussians), 200, 200, (0.0, 90.0)).extent


def test_a_long_limb_is_in_the_picture():
    found = frame(splat_subject(guitar()), 200, 200, (0.0,))
    (camera,) = views(found, (0.0,), 200, 200)
    pixels, _ = project(camera, jnp.array([[-1.0, 0.0, 0.0], [6.9, 0.0, 0.0]]))
    assert np.all((pixels > 5) & (pixels < 195))


@pytest.mark.compiles
def test_what_surrounds_the_subject_is_no_limb():
    rng = np.random.default_rng(2)
    floor = ball(1500)
    place = np.stack([*rng.uniform(-8, 8, (2, 1500)), np.full(1500, -1.0)], -1)
    floor = floor.replace(means=jnp.asarray(place, jnp.float32))
    assert extent(joined(ball(3000), floor)) < 3.0 * extent(ball(3000))  # the floor has 16


@pytest.mark.parametrize("subject", [ball, guitar])
def test_a_few_huge_gaussians_do_not_make_the_subject_a_dot(subject):
    huge = ball(8)
    huge = huge.replace(log_scales=jnp.full((8, 3), 3.0))
    assert extent(joined(subject(), huge)) < 1.1 * extent(subject())


def test_a_single_large_gaussian_is_a_subject():
    one = ball(1).replace(log_scales=jnp.full((1, 3), 1.0))
    assert extent(one) > 4.0


def test_a_scene_that_nobody_can_see_is_refused():
    hidden = dataclasses.replace(ball(), means=jnp.full((2000, 3), jnp.nan))
    with pytest.raises(ValueError, match="expected Gaussians to be seen, found none among 2000"):
        splat_subject(hidden)


def test_a_given_target_stays():
    found = frame(splat_subject(ball()), 200, 200, (0.0,), target=(1.0, 0.0, 0.0))
    np.testing.assert_array_equal(found.target, [1.0, 0.0, 0.0])


def test_distance_and_extent_are_inverse():
    assert extent_at(distance_of(0.7, 40.0), 40.0) == pytest.approx(0.7)


def test_another_width_shows_the_same_view():
    camera = orbit(np.zeros(3), 2.0, 1, 400, 300)[0]
    small = with_width(camera, 100)
    assert (small.width, small.height) == (100, 75)
    points = np.random.default_rng(0).normal(size=(5, 3)) * 0.3
    np.testing.assert_allclose(4 * project(small, points)[0], project(camera, points)[0], rtol=1e-5)


@pytest.mark.parametrize("every", [1, 8])
def test_views_are_spread_over_the_sphere_and_so_is_every_eighth(every):
    azimuths, elevations = np.radians(spread_views(400, (0, 360), (-90, 90))).T
    flat = np.cos(elevations)
    places = np.stack([flat * np.sin(azimuths), np.sin(elevations), flat * np.cos(azimuths)], -1)
    places = places[::every]
    # However the sphere is halved, half of them are on either side.
    sides = places @ np.random.default_rng(0).normal(size=(3, 50)) > 0
    np.testing.assert_allclose(sides.mean(0), 0.5, atol=0.06)
    distances = np.linalg.norm(places[:, None] - places, axis=-1) + 9 * np.eye(len(places))
    area = 4 * np.pi / len(places)
    assert distances.min() > 0.3 * np.sqrt(area)


def test_views_of_one_elevation_go_around():
    assert spread_views(4, (0, 360), (15, 15)) == [
        (angle, pytest.approx(15)) for angle in (0, 90, 180, 270)
    ]
    azimuths, elevations = np.array(spread_views(50, (-90, 90), (-20, 60))).T
    assert -90 <= azimuths.min() < -80 < 80 < azimuths.max() < 90
    assert -20 < elevations.min() < -18 < 56 < elevations.max() < 60


def test_one_distance_shows_all_from_every_elevation():
    mesh, seen = box((0.0, 1.0, 2.0), (1.0, 1.5, 4.0)), [(0.0, -20.0), (100.0, 10.0), (200.0, 60.0)]
    found = frame_views(mesh_subject(mesh), 200, 200, seen)
    least = []
    for azimuth, elevation in seen:
        (camera,) = views(found, [azimuth], 200, 200, elevation_degrees=elevation)
        pixels, _ = project(camera, mesh.vertices)
        least.append(np.minimum(pixels, 200 - pixels).min() / 200)
    np.testing.assert_allclose(min(least), 0.05, atol=2e-3)
