"""Levenberg-Marquardt least squares; the one file that knows jaxopt.

jaxopt is the project's choice for this solver: it is written in JAX, so that a fit compiles as one
program and batches under `vmap`, and it takes the exact Jacobian. It is no longer developed: 0.8.5
is its last release and is pinned. Four of its habits are met here:

* It blends accepted and rejected steps by multiplication, so that one NaN at a trial point freezes
  it (0 * NaN). Residuals that are not finite count as very large instead: the step is refused.
* It damps all unknowns alike. They are scaled by the Jacobian's columns at the start, after which
  a unit of each is about one standard deviation.
* Its stops are an absolute gradient norm, which float32 may never reach, or a step relative to the
  unknowns' norm, which is nothing at a good start. Here the step itself decides, in standard
  deviations, and what it gained; its own loop, which compiles the step twice, is not used.
* It crashes on `jac_fun` with a materialised Jacobian: the attribute is set by hand.

To swap it, write `solve_least_squares` anew (a damped Cholesky step in the loop below, or
`optimistix.LevenbergMarquardt`) until tests/test_levenberg_marquardt.py passes. Those tests know
nothing of jaxopt, and no other file imports it.

Axes: N unknowns, R residuals.
Source: Madsen, Nielsen and Tingleff 2004, Methods for Non-Linear Least Squares Problems.
"""

import functools
import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it says at each import that it is old
    import jaxopt

_INITIAL_DAMPING = 1e-3  # of the largest squared column norm, which scaling makes 1
_LEAST_DECREASE = 1e-4  # of the cost, by an accepted step that is to be followed by another
_REFUSED = 1e6  # stands for a residual that is not finite: large, yet its square is a float32


class Solution(NamedTuple):
    """Where the solver ended."""

    x: jax.Array  # [N]
    cost: jax.Array  # [] half the squared residual norm
    iterations: jax.Array  # [] int32
    converged: jax.Array  # [] bool


def solve_least_squares(
    residual: Callable[[jax.Array], jax.Array],
    jacobian: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    max_iterations: int,
    tolerance: float,
) -> Solution:
    """Minimises half the squared norm of a residual vector of R entries.

    It ends when no unknown moves by more than `tolerance`, when an accepted step gains next to
    nothing, or when the gradient is that flat; all relative to the Jacobian's columns at the start.

    Args:
      residual: [N] to [R].
      jacobian: [N] to [R, N], its derivative.
      start: [N]; the residual is finite here.
      max_iterations: accepted and refused steps together.
      tolerance: standard deviations, if the residual is in such.

    Returns:
      The best point found; `converged` is False if the iterations ran out or nothing was finite.
    """
    residual, jacobian = jax.jit(residual), jax.jit(jacobian)  # traced once, not at each use
    first_jacobian = _finite(jacobian(start), 0.0)
    column_norm = jnp.linalg.norm(first_jacobian, axis=0)
    unit = 1.0 / jnp.where(column_norm > 0.0, column_norm, 1.0)

    def scaled_residual(y):
        return _finite(residual(start + unit * y), _REFUSED)

    def scaled_jacobian(y):
        return _finite(jacobian(start + unit * y) * unit, 0.0)

    def is_moving(carry):
        _, state, last_cost = carry
        return _is_moving(state, last_cost, tolerance)

    def is_unfinished(carry):
        return is_moving(carry) & (carry[1].iter_num < max_iterations)

    def advance(carry):
        y, state, _ = carry
        return *_update(solver, y, state), state.value

    y = jnp.zeros_like(start)
    solver, state = _begin(scaled_residual, scaled_jacobian, first_jacobian * unit, y)
    last = jax.lax.while_loop(is_unfinished, advance, (y, state, state.value))
    y, state, _ = last
    is_finite = jnp.isfinite(state.value) & (state.value < 0.5 * _REFUSED**2)
    return Solution(
        x=start + unit * y,
        cost=state.value,
        iterations=state.iter_num,
        converged=is_finite & ~is_moving(last),
    )


def _begin(
    residual: Callable[[jax.Array], jax.Array],
    jacobian: Callable[[jax.Array], jax.Array],
    first_jacobian: jax.Array,
    y: jax.Array,
) -> tuple[jaxopt.LevenbergMarquardt, NamedTuple]:
    """Sets jaxopt up for a problem, and its state at y [N], where the Jacobian is known."""
    solver = jaxopt.LevenbergMarquardt(
        residual_fun=residual,
        materialize_jac=True,
        solver="cholesky",
        damping_parameter=_INITIAL_DAMPING,
        jit=False,
    )
    solver._jac_fun = lambda _: first_jacobian  # compiling it once more takes seconds
    state = solver.init_state(y)
    solver._jac_fun = jacobian
    return solver, state._replace(increase_factor=jnp.asarray(2.0, y.dtype))  # its own is an int


def _is_moving(state: NamedTuple, last_cost: jax.Array, tolerance: float) -> jax.Array:
    """Whether another step is worth it, [] bool: see `solve_least_squares`."""
    is_first = state.iter_num == 0
    is_long = jnp.max(jnp.abs(state.delta)) > tolerance
    is_steep = jnp.max(jnp.abs(state.gradient)) > tolerance
    # A refused step leaves the cost alone and doubles this factor; it says nothing yet.
    is_refused = state.increase_factor > 2.0
    is_paying = last_cost - state.value > _LEAST_DECREASE * state.value
    return is_steep & (is_first | (is_long & (is_refused | is_paying)))


def _update(solver: jaxopt.LevenbergMarquardt, y: jax.Array, state: NamedTuple) -> tuple:
    """One iteration; if Cholesky fails, too stiff for float32, as one whose step is refused."""
    trial = tuple(solver.update(y, state))
    refused = state._replace(
        damping_factor=state.damping_factor * state.increase_factor,
        increase_factor=2.0 * state.increase_factor,
        iter_num=state.iter_num + 1,
    )
    is_finite = jnp.isfinite(trial[0]).all() & jnp.isfinite(trial[1].value)
    return jax.tree.map(functools.partial(jnp.where, is_finite), trial, (y, refused))


def _finite(x: jax.Array, instead: float) -> jax.Array:
    return jnp.where(jnp.isfinite(x), x, instead)
