"""Another model's people as identities of the default head: known ones come back."""

import jax.numpy as jnp
import numpy as np
import pytest

from recon import assets, fit, residuals
from recon.default_head.people_prior import people_prior
from recon.morphable import IdentityPrior, face_shape, with_modes

NUM_IDENTITY = 8


@pytest.mark.slow
def test_people_made_of_the_heads_own_modes_are_found():
    head = with_modes(assets.load_model("default"), NUM_IDENTITY, use_expression=False)
    usual = np.array([0.8, -0.5, 0.6, 0.0, 0.4, -0.7, 0.0, 0.3])
    people = with_modes(head, 3, use_expression=False).replace(
        mean=face_shape(head, jnp.asarray(usual), jnp.zeros(0)),
        identity_sigma=head.identity_sigma[:3] * jnp.array([1.0, 0.5, 1.5]),
    )
    prior = people_prior(head, people)
    np.testing.assert_allclose(prior.mean, usual, atol=0.25)
    deviations = np.sqrt(np.diag(prior.covariance))
    np.testing.assert_allclose(deviations[:3], [1.0, 0.55, 1.5], atol=0.2)
    assert deviations[3:].max() < 0.5


def test_the_prior_that_ships_is_of_all_modes_and_leaves_none_without_doubt():
    prior = assets.load_people_prior()
    count = assets.load_model("default").identity_sigma.shape[0]
    assert prior.mean.shape == (count,) and prior.covariance.shape == (count, count)
    np.testing.assert_allclose(prior.covariance, prior.covariance.T, atol=1e-6)
    assert np.linalg.eigvalsh(prior.covariance).min() > 0.01


def test_a_prior_is_a_gaussian_of_the_identity():
    """Its residual's square is the Mahalanobis distance, of some of the modes too."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    modes = np.array([0, 2, 3])
    prior = IdentityPrior(rng.normal(size=6), root @ root.T + np.eye(6)).of(modes)
    model = with_modes(assets.load_model("default"), 3, use_expression=False)
    fit_model = fit.prepare(model, prior=prior)
    identity = rng.normal(size=3)
    config = fit.METHODS["robust"].replace(identity_weight=2.0)
    found = residuals.prior_residual(jnp.asarray(identity, jnp.float32), fit_model, config)
    away = identity - prior.mean
    expected = 2.0 * away @ np.linalg.solve(prior.covariance, away)
    np.testing.assert_allclose(jnp.sum(found**2), expected, rtol=1e-4)
