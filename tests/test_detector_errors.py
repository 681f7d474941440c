"""A detector's errors, measured on faces of which all is known: what was put in comes out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon import pose
from recon.assets import load_model
from recon.evaluation import detector, experiments
from recon.evaluation.detector_errors import measure_errors
from recon.evaluation.experiments import Angles, Experiment
from recon.morphable import face_shape, random_identity

pytestmark = pytest.mark.compiles

YAW = Angles((-30.0, 0.0, 30.0))
NUM_FACES, OUTWARD = 20, 0.03


@pytest.fixture(scope="module")
def model():
    return load_model("default")


@pytest.fixture(scope="module")
def offsets():
    return 0.04 * np.random.default_rng(3).normal(size=(68, 3)) * [1.0, 1.0, 0.0]


@pytest.fixture(scope="module")
def measured(model, offsets):
    """Faces whose inner points are off by offsets, and by noise that pairs of neighbours share."""
    rng = np.random.default_rng(0)
    angles, heads = experiments.views(jax.random.key(0), NUM_FACES, YAW, Angles(), Angles())
    identity = random_identity(jax.random.key(1), NUM_FACES, 20)
    outline = detector.face_outline(model)
    faces = []
    for n in range(NUM_FACES):
        vertices = face_shape(model, identity[n], jnp.zeros(0))
        points = vertices[model.landmark_vertices]
        eyes = float(jnp.linalg.norm(points[45] - points[36]))
        xy = []
        for view in range(len(YAW.values)):
            head = jax.tree.map(lambda x: x[n, view], heads)  # noqa: B023
            found = np.array(pose.project(head, points + eyes * offsets))
            noise = np.repeat(rng.normal(size=(26, 2)), 2, axis=0)[:51]
            found[17:] += 0.01 * eyes * float(head.scale) * noise
            exact = np.asarray(
                detector.detect(jax.random.key(0), outline, vertices, head, detector.EXACT)
            )
            away = exact[:17] - exact[17:].mean(0)
            away /= np.linalg.norm(away, axis=1, keepdims=True)
            found[:17] = exact[:17] + OUTWARD * eyes * float(head.scale) * away
            xy.append(found)
        here = jax.tree.map(lambda x: x[n], heads)  # noqa: B023
        pose_of = here.rotation, here.translation, here.scale, angles[n]
        faces.append(
            Experiment(vertices, identity[n], *pose_of, np.stack(xy), np.ones((len(xy), 68)))
        )
    return measure_errors(model, faces)


def test_what_is_always_off_is_an_offset(measured, offsets):
    np.testing.assert_allclose(measured.offsets[17:, :2], offsets[17:, :2], atol=0.02)
    np.testing.assert_allclose(measured.offsets[17:, 2], 0.0, atol=0.02)


def test_a_contour_outside_of_the_outline_is_moved_outward(measured):
    sides = measured.offsets[[0, 16], 0]
    np.testing.assert_allclose(sides, [-OUTWARD, OUTWARD], atol=0.012)
    np.testing.assert_allclose(measured.offsets[8, 1], -OUTWARD, atol=0.01)


def test_the_rest_is_noise_and_neighbours_err_together(measured):
    np.testing.assert_allclose(measured.sigma[17:], 0.01, rtol=0.3)
    pairs = [measured.correlation[i, i + 1] for i in range(0, 50, 2)]
    others = [measured.correlation[i, i + 1] for i in range(1, 49, 2)]
    assert np.mean(pairs) > 0.7 and abs(np.mean(others)) < 0.1
    np.testing.assert_allclose(np.diag(measured.correlation), 1.0, atol=1e-6)
    assert np.linalg.eigvalsh(measured.correlation).min() > 0.0


def test_no_face_is_said(model):
    with pytest.raises(ValueError, match="expected a face found in some view, found none"):
        measure_errors(model, [])
