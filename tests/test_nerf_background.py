"""What lies far away, brought near: against plain geometry."""

import jax
import jax.numpy as jnp
import numpy as np

from models.nerf.background import contract, inverted_distances, inverted_points
from render.camera import Rays


def test_the_unit_cube_stays_and_infinity_is_at_two():
    inside = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    np.testing.assert_allclose(contract(inside), inside, rtol=1e-6)
    outside = np.array([[4.0, -1.0, 0.0], [0.0, 0.0, -1e6], [2.0, 2.0, 2.0]])
    expected = np.array([[1.75, -0.4375, 0.0], [0.0, 0.0, -2.0], [1.5, 1.5, 1.5]])
    np.testing.assert_allclose(contract(outside), expected, atol=1e-5)
    slopes = jax.vmap(jax.jacfwd(contract))(jnp.asarray(outside[2:], jnp.float32))
    assert np.isfinite(slopes).all()


def test_inverted_points_lie_on_their_rays_and_balls(x64):
    rng = np.random.default_rng(0)
    origins = rng.uniform(-0.5, 0.5, (20, 3))
    directions = rng.normal(size=(20, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rays = Rays(jnp.asarray(origins), jnp.asarray(directions))
    inverse = jnp.broadcast_to(jnp.array([1.0, 0.5, 0.1, 1e-3]), (20, 4))
    distance = inverted_distances(rays, inverse)
    points = origins[:, None] + np.asarray(distance)[..., None] * directions[:, None]
    radius = np.linalg.norm(points, axis=-1)
    np.testing.assert_allclose(radius, 1.0 / inverse, rtol=1e-9)
    expected = (2.0 - 1.0 / radius)[..., None] * points / radius[..., None]
    np.testing.assert_allclose(inverted_points(rays, inverse), expected, atol=1e-9)
    endless = inverted_points(rays, jnp.zeros((20, 1)))[:, 0]
    np.testing.assert_allclose(endless, 2.0 * directions, atol=1e-12)
    farthest = np.asarray(inverted_distances(rays, jnp.zeros((20, 1))))
    assert (1e3 < farthest).all() and np.isfinite(farthest).all()
