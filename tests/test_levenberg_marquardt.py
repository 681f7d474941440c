"""What the fit relies on in its solver, whichever library it comes from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from recon.levenberg_marquardt import solve_least_squares

pytestmark = pytest.mark.compiles


TIMES = np.linspace(0.0, 2.0, 30)
DECAY = 3.0 * np.exp(-1.3 * TIMES) + 0.5 + 0.05 * np.sin(40.0 * TIMES)


def decay_residual(x):
    """Misses [30] of a decay with amplitude, rate and offset `x` [3]."""
    times, decay = jnp.asarray(TIMES, x.dtype), jnp.asarray(DECAY, x.dtype)
    return x[0] * jnp.exp(-x[1] * times) + x[2] - decay


def solve(residual, start, max_iterations=60, tolerance=1e-4):
    start = jnp.asarray(start)
    return solve_least_squares(residual, jax.jacfwd(residual), start, max_iterations, tolerance)


@pytest.mark.parametrize("x64, rtol", [(False, 2e-3), (True, 1e-4)])
def test_the_solution_is_scipys(x64, rtol):
    with jax.enable_x64(x64):
        peer = scipy.optimize.least_squares(
            lambda x: x[0] * np.exp(-x[1] * TIMES) + x[2] - DECAY, np.ones(3)
        )
        found = solve(decay_residual, np.ones(3), tolerance=1e-5)
        assert found.converged and found.iterations < 60
        np.testing.assert_allclose(found.x, peer.x, rtol=rtol)
        np.testing.assert_allclose(found.cost, peer.cost, rtol=rtol)


def test_units_of_the_unknowns_do_not_matter():
    unit = jnp.array([1e4, 1e-3, 1.0])
    plain = solve(decay_residual, np.ones(3))
    scaled = solve(lambda x: decay_residual(x / unit), unit)
    assert scaled.iterations == plain.iterations
    np.testing.assert_allclose(scaled.x / unit, plain.x, rtol=1e-3)


def test_a_batch_is_solved_as_one_at_a_time():
    starts = jnp.array([[1.0, 1.0, 1.0], [2.0, 3.0, 0.0]])
    batch = jax.jit(jax.vmap(lambda start: solve(decay_residual, start)))(starts)
    for i, start in enumerate(starts):
        np.testing.assert_allclose(batch.x[i], solve(decay_residual, start).x, rtol=1e-3)


def test_too_few_iterations_are_reported():
    found = solve(decay_residual, np.ones(3), max_iterations=1)
    assert not found.converged and found.iterations == 1


def test_a_trial_point_with_nan_does_not_freeze_the_solver():
    def residual(x):  # from 60 the full step lands far below zero, where the log is NaN
        return jnp.concatenate([jnp.log(x) - 1.0, 1e-3 * x])

    found = solve(residual, [60.0])
    assert found.converged
    np.testing.assert_allclose(found.x, np.e, rtol=1e-3)


def test_a_step_that_cannot_be_solved_for_is_refused():
    # Unknowns that do nearly the same: as the damping falls, the normal equations lose rank in
    # float32. The last unknown creeps to a root of third order, so that the damping does fall.
    rows = 1.0 + 1e-4 * jax.random.normal(jax.random.key(0), (20, 100))

    def residual(x):
        return jnp.concatenate([rows @ x[:-1] - 1.0, x[-1:] ** 3])

    found = solve(residual, jnp.ones(101), max_iterations=40, tolerance=1e-8)
    assert jnp.isfinite(found.x).all()
    np.testing.assert_allclose(residual(found.x), 0.0, atol=1e-3)


def test_a_residual_that_is_never_finite_is_reported():
    found = solve(lambda x: jnp.nan * x, np.ones(2), max_iterations=10)
    assert not found.converged
    np.testing.assert_array_equal(found.x, 1.0)
