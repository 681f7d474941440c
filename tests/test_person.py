"""One identity from several photos: what is shared, what is not, and that it pays."""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from recon import fit, morphable, person, pose, posterior, residuals
from recon.assets import load_model
from recon.morphable import with_modes
from recon.pose import Pose
from recon.residuals import Observation
from render.transforms import euler_rotation

pytestmark = pytest.mark.compiles

NUM_IDENTITY, NUM_FACES, NOISE_PX, SCALE = 10, 30, 4.0, 4000.0
INNER, ROBUST = fit.METHODS["inner"], fit.METHODS["robust"]


# Compiled once for each number of photos: a leading axis of faces, then one of photos.
fit_people = jax.jit(jax.vmap(person.fit_person, (None, 0, None)))


def photograph(fit_model, identity, yaws, seed):
    """Photos [F, B] of faces [F, K] turned by each of `yaws` [B] degrees, all points noisy."""
    num_faces, num_photos = len(identity), len(yaws)
    rows = fit_model.landmark_rows
    points = rows[..., 0] + jnp.einsum("pdk,fk->fpd", rows[..., 1 : 1 + NUM_IDENTITY], identity)
    rotation = jnp.stack([euler_rotation(np.deg2rad(yaw), 0.1, -0.05) for yaw in yaws])
    heads = Pose(rotation, jnp.full((num_photos, 2), 450.0), jnp.full(num_photos, SCALE))
    xy = jax.vmap(jax.vmap(pose.project, (0, None)), (None, 0))(heads, points)
    xy = xy + NOISE_PX * jax.random.normal(jax.random.key(seed), xy.shape)
    return Observation(xy=xy, sigma_px=jnp.full((num_faces, num_photos, 68), NOISE_PX))


@pytest.fixture(scope="module")
def model():
    return with_modes(load_model("default"), NUM_IDENTITY, use_expression=False)


@pytest.fixture(scope="module")
def fit_model(model):
    return fit.prepare(model)


@pytest.fixture(scope="module")
def people(fit_model):
    """Random faces, and two photos of each."""
    identity = morphable.random_identity(jax.random.key(0), NUM_FACES, NUM_IDENTITY)
    return identity, photograph(fit_model, identity, (-30, 30), seed=1)


@pytest.fixture(scope="module")
def fits(fit_model, people):
    """Both photos of each face together."""
    return fit_people(fit_model, people[1], INNER)


@pytest.fixture(scope="module")
def single_fits(fit_model, people):
    """The first photo of each face as the only one of a person."""
    alone = jax.tree.map(lambda x: x[:, :1], people[1])
    return fit_people(fit_model, alone, INNER)


@pytest.mark.slow
def test_one_photo_is_fitted_as_ever(fit_model, people, single_fits):
    alone = jax.tree.map(lambda x: x[:, 0], people[1])
    faces = fit.fit_faces(fit_model, alone, INNER)
    found, expected = jax.tree.map(lambda x: x[:, 0], single_fits.params), faces.params
    np.testing.assert_allclose(found.identity, expected.identity, atol=1e-3)
    np.testing.assert_allclose(found.pose.rotation, expected.pose.rotation, atol=1e-4)
    np.testing.assert_allclose(single_fits.cost[:, 0], faces.cost, rtol=1e-4)
    np.testing.assert_allclose(single_fits.inner_error_px[:, 0], faces.inner_error_px, rtol=1e-3)


def test_photos_share_the_identity_and_have_their_own_poses(fits):
    identity = np.asarray(fits.params.identity)
    np.testing.assert_array_equal(identity[:, 0], identity[:, 1])
    assert fits.converged.all()
    side = np.asarray(fits.params.pose.rotation)[..., 0, 2]  # the sine of the yaw
    assert (side[:, 0] < -0.3).all() and (side[:, 1] > 0.3).all()


def test_the_order_of_photos_does_not_matter(fit_model, people, fits):
    turned = jax.tree.map(lambda x: x[:, ::-1], people[1])
    other = fit_people(fit_model, turned, INNER)
    np.testing.assert_allclose(other.params.identity, fits.params.identity, atol=2e-3)
    np.testing.assert_allclose(
        other.params.pose.rotation[:, ::-1], fits.params.pose.rotation, atol=2e-4
    )


def test_the_prior_of_the_identity_counts_once(fit_model, people, fits):
    faces, seen = jax.tree.map(lambda x: x[0], (fits, people[1]))
    cost = 0.5 * np.sum(np.asarray(faces.params.identity[0], np.float64) ** 2)
    for i in range(2):
        head, xy = jax.tree.map(lambda x: x[i], (faces.params.pose, seen.xy))  # noqa: B023
        rows = fit_model.landmark_rows[17:]
        points = rows[..., 0] + rows[..., 1:] @ faces.params.identity[i]
        cost += 0.5 * np.sum((np.asarray(pose.project(head, points) - xy[17:]) / NOISE_PX) ** 2)
    np.testing.assert_allclose(faces.cost, cost, rtol=1e-4)


def test_two_photos_beat_one(model, people, fits, single_fits):
    def error(faces):
        off = (faces.params.identity[:, 0] - people[0]) * model.identity_sigma
        return float(jnp.mean(jnp.sum(off**2, -1)))

    assert error(fits) < 0.95 * error(single_fits)


@pytest.mark.slow
def test_two_photos_make_the_identity_surer(fit_model, people, fits, single_fits):
    judge = jax.jit(jax.vmap(lambda s, f: posterior.person_posterior(fit_model, s, f, INNER)))
    both = judge(people[1], fits).coefficient_std
    one = judge(jax.tree.map(lambda x: x[:, :1], people[1]), single_fits).coefficient_std
    np.testing.assert_array_equal(both[:, 0], both[:, 1])
    assert (both[:, 0] < one[:, 0]).all()
    z = (fits.params.identity[:, 0] - people[0]) / both[:, 0]
    assert 0.85 < jnp.sqrt(jnp.mean(z**2)) < 1.15


@pytest.mark.slow
def test_the_jacobian_equals_plain_autodiff_in_float64():
    """With expressions, outliers and sliding contours."""
    narrow = fit.prepare(with_modes(load_model("default"), NUM_IDENTITY, use_expression=True))
    seen = photograph(narrow, jnp.zeros((1, NUM_IDENTITY)), (-20, 25), seed=0)
    seen = jax.tree.map(lambda x: x[0], seen)
    with jax.enable_x64(True):
        model, seen = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (narrow, seen))
        num = model.landmark_rows.shape[-1] - 1
        rng = np.random.default_rng(1)
        turns = jnp.array([-0.3, 0.4]), jnp.array([0.1, 0.2]), jnp.zeros(2)
        start = Pose(
            rotation=jax.vmap(euler_rotation)(*turns),
            translation=jnp.full((2, 2), 450.0),
            scale=jnp.full(2, SCALE),
        )
        is_free = fit.free_unknowns(num, True, ROBUST)
        config = person.shared_prior(ROBUST, 2)
        free = jnp.asarray(0.1 * rng.normal(size=2 * len(is_free) - NUM_IDENTITY))

        def unknowns(free):
            each = person.apart(free, 2, NUM_IDENTITY)
            return jax.vmap(functools.partial(residuals.split_unknowns, num_coefficients=num))(each)

        @jax.jit
        def residual(free):
            return person.person_residual(unknowns(free), model, start, seen, config)

        @jax.jit
        def jacobian(free):
            return person.person_jacobian(unknowns(free), model, start, seen, config, is_free)

        found = jacobian(free)
        plain = jax.jit(jax.jacfwd(residual))(free)
        np.testing.assert_allclose(found, plain, rtol=1e-10, atol=1e-10)
        assert np.linalg.norm(found[:, :NUM_IDENTITY], axis=0).min() > 0
        np.testing.assert_array_equal(
            person.together(person.apart(free, 2, NUM_IDENTITY), NUM_IDENTITY), free
        )
