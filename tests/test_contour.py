import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from recon import contour

RNG = np.random.default_rng(0)
ANGLES = np.linspace(np.pi, 2.0 * np.pi, 17)
JAW = np.stack([300.0 + 150.0 * np.cos(ANGLES), 200.0 - 180.0 * np.sin(ANGLES)], 1)


def brute_force_distance(polyline, xy):
    share = np.linspace(0.0, 1.0, 2001)[:, None, None]
    dense = (polyline[:-1] * (1.0 - share) + polyline[1:] * share).reshape(-1, 2)
    return np.linalg.norm(dense - xy, axis=1).min()


def test_pixel_contour_passes_its_corners_without_gaps():
    corners = np.floor(JAW).astype(int)
    cells = contour.pixel_contour(corners)
    assert np.abs(np.diff(cells, axis=0)).max() == 1
    assert {tuple(corner) for corner in corners} <= {tuple(cell) for cell in cells}


def test_map_and_polyline_agree_to_a_pixel():
    found = contour.distance_map(JAW)
    points = RNG.uniform([100, 150], [500, 450], (200, 2))
    by_map = contour.map_distance(found, jnp.asarray(points, jnp.float32))
    by_line = [brute_force_distance(JAW, p) for p in points]
    assert np.abs(np.asarray(by_map) - by_line).max() < 1.5 * float(found.cell)


def test_polyline_distance_equals_dense_sampling():
    distance = jax.vmap(contour.polyline_distance, (None, 0))
    points = RNG.uniform([50, 100], [550, 500], (100, 2))
    found = distance(jnp.asarray(JAW, jnp.float32), jnp.asarray(points, jnp.float32))
    np.testing.assert_allclose(found, [brute_force_distance(JAW, p) for p in points], atol=0.02)


def test_distance_grows_outside_the_map_as_far_as_one_goes():
    found = contour.distance_map(JAW)
    far = jnp.array([[300.0, 5000.0], [-4000.0, 200.0]])
    expected = [brute_force_distance(JAW, p) for p in np.asarray(far)]
    np.testing.assert_allclose(contour.map_distance(found, far), expected, rtol=0.1)


@pytest.mark.parametrize("point", [(210.3, 333.3), (305.7, 150.2), (-900.0, 40.0)])
def test_distances_have_exact_gradients(point):
    with jax.enable_x64(True):
        jaw = jnp.asarray(JAW)
        found = jax.tree.map(lambda x: x.astype(jnp.float64), contour.distance_map(JAW))
        for distance in (
            lambda xy: contour.map_distance(found, xy),
            lambda xy: contour.polyline_distance(jaw, xy),
        ):
            check_grads(distance, (jnp.asarray(point),), order=1, modes=["fwd"], rtol=1e-5)


def test_distances_are_finite_with_finite_slope_on_the_contour_itself():
    jaw = jnp.asarray(JAW, jnp.float32)
    value, slope = jax.value_and_grad(contour.polyline_distance, 1)(jaw, jaw[5])
    assert value == 0.0 and np.isfinite(slope).all()


def test_tangents_run_along_the_contour_and_survive_equal_points():
    tangents = contour.contour_tangents(jnp.asarray(JAW, jnp.float32))
    np.testing.assert_allclose(np.linalg.norm(tangents, axis=1), 1.0, rtol=1e-5)
    assert abs(float(tangents[8, 1])) < 1e-3 and float(tangents[8, 0]) > 0.99  # level at the chin
    assert np.isfinite(contour.contour_tangents(jnp.zeros((17, 2)))).all()
