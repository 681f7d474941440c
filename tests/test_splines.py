import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.interpolate import CubicSpline

from recon import splines
from recon.assets import load_model
from recon.morphable import face_shape
from render.mesh import vertex_normals

CONTROL = 10
VALUES = np.random.default_rng(0).normal(size=CONTROL)


@pytest.fixture(scope="module")
def model():
    return load_model("default")


@pytest.fixture(scope="module")
def frames(model):
    mean = np.asarray(model.mean, np.float64)
    corners = np.asarray(model.path_vertices)
    weights = np.asarray(model.path_weights, np.float64)
    columns = np.concatenate(
        [mean[..., None], np.asarray(model.identity_basis) * np.asarray(model.identity_sigma)], -1
    )
    points = np.einsum("pcw,pcwd->pcd", weights, mean[corners])
    directions = np.gradient(points, axis=1)
    return splines.path_frames(
        mean, np.asarray(model.triangles), columns, corners, weights, directions
    )


def blend(p, dtype=jnp.float64):
    return splines.spline_blend(jnp.asarray(splines.natural_spline(CONTROL), dtype), p)


@pytest.mark.usefixtures("x64")
def test_spline_equals_scipys_natural_cubic_spline():
    p = np.linspace(0.0, 1.0, 37)
    expected = CubicSpline(np.linspace(0.0, 1.0, CONTROL), VALUES, bc_type="natural")
    np.testing.assert_allclose(blend(jnp.asarray(p)) @ VALUES, expected(p), atol=1e-12)


@pytest.mark.parametrize("end, outward", [(0.0, -1.0), (1.0, 1.0)])
@pytest.mark.usefixtures("x64")
def test_past_its_ends_the_spline_goes_on_straight(end, outward):

    def curve(p):
        return blend(p) @ VALUES

    slope = jax.grad(curve)(jnp.asarray(end))
    for step in (0.1, 2.0):
        outside = jnp.asarray(end + outward * step)
        expected = curve(jnp.asarray(end)) + outward * step * slope
        np.testing.assert_allclose(curve(outside), expected, rtol=1e-12)
        np.testing.assert_allclose(jax.grad(curve)(outside), slope, rtol=1e-12)
    assert abs(slope) > 0.1  # a clamped curve would have none, and p would never come back


@pytest.mark.parametrize("p", [-0.3, 0.05, 0.5, 0.93, 1.2])
@pytest.mark.usefixtures("x64")
def test_spline_gradients_match_finite_differences(p):
    check_grads(lambda q: blend(q) @ VALUES, (jnp.asarray(p),), order=1, rtol=1e-6)


def test_frames_follow_the_face_linearly(model, frames):
    identity = jax.random.normal(jax.random.key(0), (60,))
    moved = face_shape(model, identity, jnp.zeros(0))
    expected = jnp.einsum("pcw,pcwd->pcd", model.path_weights, moved[model.path_vertices])
    found = frames @ jnp.concatenate([jnp.ones(1), identity])
    np.testing.assert_allclose(found[..., :3], expected, atol=2e-6)


def test_frame_normals_are_the_surfaces_on_any_face(model, frames):
    for seed in range(3):
        identity = jax.random.normal(jax.random.key(seed), (60,))
        moved = face_shape(model, identity, jnp.zeros(0))
        surface = np.asarray(vertex_normals(moved, model.triangles))
        expected = np.einsum("pcw,pcwd->pcd", model.path_weights, surface[model.path_vertices])
        found = np.asarray(splines.frame_normal(frames @ jnp.concatenate([jnp.ones(1), identity])))
        cosine = (found * expected).sum(-1)
        cosine /= np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
        angle = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
        assert np.median(angle) < 6.0 and angle.max() < 35.0
