"""Smooth fields over a box."""

import jax
import jax.numpy as jnp
import numpy as np

from sim.fields import Field, field_at, init_field, total_variation

PLACES = jax.random.uniform(jax.random.key(1), (40, 3))


def ramps(size=5):
    """A field whose planes are linear in their first axis, so that it is xx (x + y) of a kind."""
    line = jnp.linspace(1.0, 2.0, size)
    plane = jnp.broadcast_to(line[:, None, None], (size, size, 1))
    return Field(jnp.stack([plane] * 3), jnp.ones((1, 1)), jnp.zeros(1), jnp.ones(1))


def test_it_is_zero_everywhere_at_the_start_and_can_leave_it():
    field = init_field(jax.random.key(0))
    np.testing.assert_array_equal(field_at(field, PLACES), 0.0)
    slope = jax.grad(lambda f: jnp.sum(field_at(f, PLACES) ** 2 + field_at(f, PLACES)))(field)
    assert jnp.abs(slope.out).min() > 0.1


def test_planes_are_read_bilinearly_and_multiplied():
    # The planes xy and xz grow along x, and yz along y: features are (1 + x)^2 (1 + y).
    x, y, _ = PLACES.T
    expected = jax.nn.softplus((1 + x) ** 2 * (1 + y))
    np.testing.assert_allclose(field_at(ramps(), PLACES), expected, rtol=1e-5)


def test_outside_it_goes_on_as_at_the_border():
    outside = jnp.array([[1.7, -0.4, 0.5]])
    inside = jnp.array([[1.0, 0.0, 0.5]])
    np.testing.assert_array_equal(field_at(ramps(), outside), field_at(ramps(), inside))


def test_total_variation_is_the_mean_square_of_steps():
    assert total_variation(ramps()) == np.float32(0.25**2)
    flat = ramps().replace(planes=jnp.ones((3, 5, 5, 1)))
    assert total_variation(flat) == 0.0
