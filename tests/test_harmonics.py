import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from render import harmonics


@pytest.fixture
def directions():
    directions = np.random.default_rng(0).normal(size=(40, 3))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def real_harmonics(directions, degree):
    """The real harmonics by their definition, from scipy's complex ones."""
    theta, phi = np.arccos(directions[:, 2]), np.arctan2(directions[:, 1], directions[:, 0])
    columns = []
    for band in range(degree + 1):
        for order in range(-band, band + 1):
            value = sph_harm_y(band, abs(order), theta, phi)
            part = value.imag if order < 0 else value.real
            columns.append(part * (1 if order == 0 else np.sqrt(2)))
    return np.stack(columns, -1)


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.usefixtures("x64")
def test_the_basis_is_that_of_scipy(directions, degree):
    values = harmonics.basis(jnp.asarray(directions), degree)
    np.testing.assert_allclose(values, real_harmonics(directions, degree), atol=1e-14)


def test_one_coefficient_is_a_constant_colour(directions):
    rgb = harmonics.evaluate(jnp.full((1, 3), 0.25) / harmonics.CONSTANT, jnp.asarray(directions))
    np.testing.assert_allclose(rgb, 0.25, rtol=1e-6)


@pytest.mark.parametrize("degree", range(4))
def test_a_turned_function_is_the_old_one_at_the_direction_before_the_turn(directions, degree):
    rng = np.random.default_rng(degree)
    with jax.enable_x64(True):
        before = jnp.asarray(rng.normal(size=(5, (degree + 1) ** 2, 3)))
        turns = jnp.asarray(Rotation.random(5, random_state=1).as_matrix())
        after = jax.jit(harmonics.rotate)(before, turns)
        evaluate = jax.vmap(harmonics.evaluate, (None, 0))
        for i in range(5):
            turned = jnp.asarray(directions) @ turns[i].T
            np.testing.assert_allclose(
                evaluate(after[i], turned), evaluate(before[i], jnp.asarray(directions)), atol=1e-13
            )


def test_one_turn_serves_many_functions():
    coefficients = jnp.asarray(np.random.default_rng(0).normal(size=(4, 9, 3)), jnp.float32)
    turn = jnp.asarray(Rotation.from_rotvec([0.1, 0.2, 0.3]).as_matrix(), jnp.float32)
    each = harmonics.rotate(coefficients, jnp.broadcast_to(turn, (4, 3, 3)))
    np.testing.assert_allclose(harmonics.rotate(coefficients, turn), each, atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_gradients_of_a_turn_match_finite_differences():
    coefficients = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 3)))
    turns = jnp.asarray(Rotation.random(2, random_state=0).as_matrix())
    check_grads(jax.jit(harmonics.rotate), (coefficients, turns), order=1, modes=["rev"])


def test_a_count_that_is_no_degree_is_refused():
    with pytest.raises(ValueError, match="expected 1, 4, 9 or 16 harmonics, found 5"):
        harmonics.evaluate(jnp.zeros((5, 3)), jnp.zeros(3))
