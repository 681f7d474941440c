import dataclasses

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from recon import fit, pose, residuals
from recon.assets import load_model
from recon.landmarks import Landmarks
from recon.morphable import with_modes
from recon.residuals import Unknowns
from render.transforms import euler_rotation

pytestmark = pytest.mark.compiles

NUM_IDENTITY = 6
VARIANTS = {
    **fit.METHODS,
    "spline_polyline": dataclasses.replace(fit.METHODS["spline"], distance="polyline"),
    "chain_polyline": dataclasses.replace(fit.METHODS["chain"], distance="polyline", huber=2.0),
    "robust_weighted": dataclasses.replace(
        fit.METHODS["robust"], inner_weight=0.5, contour_weight=2.0, identity_weight=3.0, huber=0.5
    ),
}


@pytest.fixture(scope="module")
def model():
    return fit.prepare(with_modes(load_model("default"), NUM_IDENTITY, use_expression=True))


def problem(model, config, seed=0):
    """A noisy turned face in float64, and unknowns away from the optimum."""
    rng = np.random.default_rng(seed)
    model = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), model)
    yaw = jnp.deg2rad(25.0)
    head = pose.Pose(
        euler_rotation(yaw, 0.1, -0.05).astype(jnp.float64),
        jnp.array([320.0, 240.0]),
        jnp.array(2000.0),
    )
    xy = pose.project(head, model.landmark_rows[..., 0]) + 4.0 * rng.normal(size=(68, 2))
    sigma = jnp.asarray(rng.uniform(2.0, 4.0, 68))
    seen = fit.observe(Landmarks(xy=xy, sigma_px=sigma), config)
    seen = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), seen)
    num = model.landmark_rows.shape[-1] - 1
    unknowns = Unknowns(
        coefficients=jnp.asarray(0.3 * rng.normal(size=num)),
        turn=jnp.asarray(0.05 * rng.normal(size=3)),
        shift=jnp.asarray(3.0 * rng.normal(size=2)),
        log_scale=jnp.asarray(0.02),
        path=jnp.asarray(rng.uniform(-0.15, 1.15, 17)),  # some past the ends
    )
    start = jax.jit(lambda m, s: fit.starting_pose(m, s, config))(model, seen)
    return model, start, seen, unknowns


def flat_residual(model, start, seen, config, unknowns):
    flat, unravel = jax.flatten_util.ravel_pytree(unknowns)
    return jax.jit(lambda x: residuals.residual(unravel(x), model, start, seen, config)), flat


def exact_jacobian(model, start, seen, config, unknowns):
    return jax.jit(lambda u: residuals.jacobian(u, model, start, seen, config))(unknowns)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n != "robust")) for n in VARIANTS],
)
@pytest.mark.usefixtures("x64")
def test_jacobian_equals_float64_finite_differences_in_every_block(model, name):
    config = VARIANTS[name]
    wide, start, seen, unknowns = problem(model, config)
    function, flat = flat_residual(wide, start, seen, config, unknowns)
    found = exact_jacobian(wide, start, seen, config, unknowns)
    step = 1e-6 * np.eye(len(flat))
    differences = [(function(flat + h) - function(flat - h)) / 2e-6 for h in step]
    np.testing.assert_allclose(found, np.stack(differences, 1), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", [pytest.param("spline", marks=pytest.mark.slow), "robust"])
@pytest.mark.usefixtures("x64")
def test_structured_jacobian_equals_plain_autodiff(model, name):
    config = VARIANTS[name]
    wide, start, seen, unknowns = problem(model, config, seed=1)
    function, flat = flat_residual(wide, start, seen, config, unknowns)
    found = exact_jacobian(wide, start, seen, config, unknowns)
    np.testing.assert_allclose(found, jax.jacfwd(function)(flat), rtol=1e-10, atol=1e-10)


def correlated(size=51):
    """Errors that go together the more, the closer the numbers of their points are."""
    index = np.arange(size)
    return 0.9 * 0.7 ** np.abs(index[:, None] - index) + 0.1 * np.eye(size)


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_the_jacobian_of_correlated_errors_equals_plain_autodiff(model):
    config = VARIANTS["robust"]
    wide, start, seen, unknowns = problem(model, config, seed=1)
    seen = seen.replace(
        correlation=jnp.asarray(correlated()), sigma_px=seen.sigma_px.at[30].set(jnp.inf)
    )
    function, flat = flat_residual(wide, start, seen, config, unknowns)
    found = exact_jacobian(wide, start, seen, config, unknowns)
    np.testing.assert_allclose(found, jax.jacfwd(function)(flat), rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_correlated_errors_count_as_their_covariance_says(model):
    """Without the Huber loss the points' cost is e' C^-1 e, of those that are seen."""
    config = fit.METHODS["inner"]
    wide, start, seen, unknowns = problem(model, config)
    unknowns = jax.tree.map(jnp.zeros_like, unknowns)
    sigma = np.array(seen.sigma_px)
    sigma[[20, 50]] = np.inf
    seen = seen.replace(correlation=jnp.asarray(correlated()), sigma_px=jnp.asarray(sigma))
    found = residuals.residual(unknowns, wide, start, seen, config)
    errors = pose.project(start, wide.landmark_rows[..., 0]) - seen.xy
    kept = np.flatnonzero(np.isfinite(sigma[17:]))
    covariance = (sigma[17:, None] * correlated() * sigma[17:])[np.ix_(kept, kept)]
    left = np.asarray(errors)[17:][kept]
    expected = np.sum(left * np.linalg.solve(covariance, left))
    np.testing.assert_allclose(jnp.sum(found[: 2 * 51] ** 2), expected, rtol=1e-9)


def test_huberized_square_is_the_huber_loss():
    for size in (0.0, 0.3, 1.5, 1.5001, 40.0):
        r = size * jnp.array([0.6, -0.8])
        expected = size**2 if size <= 1.5 else 3.0 * size - 2.25
        np.testing.assert_allclose(
            jnp.sum(residuals.huberize(r, 1.5) ** 2), expected, rtol=1e-5, atol=1e-12
        )
    assert np.isfinite(jax.jacfwd(residuals.huberize)(jnp.zeros(2), 1.5)).all()


@pytest.mark.parametrize("p, normal_z", [(0.0, 0.6), (0.4, 0.0), (0.0, 0.0)])
def test_complementarity_holds_at_the_jaw_and_at_the_silhouette(p, normal_z):
    assert abs(residuals.fischer_burmeister(jnp.array(p), jnp.array(normal_z))) < 0.011


@pytest.mark.parametrize("p, normal_z", [(0.0, -0.3), (-0.3, 0.5), (0.4, 0.5)])
def test_complementarity_refuses_what_is_hidden_or_off_the_path_or_inside_the_face(p, normal_z):
    assert abs(residuals.fischer_burmeister(jnp.array(p), jnp.array(normal_z))) > 0.2


@pytest.mark.usefixtures("x64")
def test_a_landmark_of_infinite_sigma_moves_nothing(model):
    config = fit.METHODS["robust"]
    wide, start, seen, unknowns = problem(model, config)
    ignored = jnp.array([0, 3, 40])
    sigma = seen.sigma_px.at[ignored].set(jnp.inf)
    one, other = (
        fit.observe(Landmarks(xy=seen.xy.at[ignored].add(shift), sigma_px=sigma), config)
        for shift in (0.0, 200.0)
    )
    function = jax.jit(lambda s: residuals.residual(unknowns, wide, start, s, config))
    np.testing.assert_allclose(function(one), function(other), atol=1e-12)


def test_expressions_may_not_leave_their_range(model):
    config = fit.METHODS["robust"]
    num_expression = model.expression_sd.shape[0]
    inside = jnp.zeros(NUM_IDENTITY + num_expression)
    outside = inside.at[NUM_IDENTITY].set(1.5).at[NUM_IDENTITY + 1].set(-0.4)

    def excess(c):
        return residuals.prior_residual(c, model, config)[-num_expression:]

    np.testing.assert_array_equal(excess(inside), 0.0)
    np.testing.assert_allclose(excess(outside)[:2] * config.bound_sd, [0.5, 0.3], rtol=1e-5)
