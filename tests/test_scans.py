"""Scans with known answers: placed by a known motion, off by a known distance, in any unit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.assets import load_model
from recon.evaluation import scans
from recon.morphable import face_shape, random_identity
from recon.pose import Pose, project
from render.mesh import Mesh, apply, linear_subdivision
from render.transforms import euler_rotation

TURN = np.asarray(euler_rotation(0.4, -0.2, 0.3), np.float64)
HEAD = Pose(np.asarray(euler_rotation(0.3, 0.1, 0.0)), np.array([600.0, 450.0]), np.array(4000.0))


@pytest.fixture(scope="module")
def model():
    return load_model("default")


@pytest.fixture(scope="module")
def shape(model):
    """A face, larger than the mean."""
    identity = random_identity(jax.random.key(2), 1, 60)[0]
    return 1.06 * np.asarray(face_shape(model, identity, jnp.zeros(0)), np.float64)


def placed(model, vertices, triangles, landmarks, unit=1e-3):
    """A scan of these metres in another unit, turned and shifted, as it is placed again."""
    moved = Mesh((vertices @ TURN.T + [0.1, 0.3, -0.2]) / unit, np.asarray(triangles))
    return scans.place_scan(moved, (landmarks @ TURN.T + [0.1, 0.3, -0.2]) / unit, model)


def refined(model, shape):
    """The same surface with four times the triangles: another topology."""
    finer = linear_subdivision(model.triangles, len(shape), 1)
    return np.asarray(apply(finer, shape), np.float64), np.asarray(finer.triangles)


@pytest.fixture(scope="module")
def scan(model, shape):
    return placed(model, *refined(model, shape), scans.shape_landmarks(model, shape))


def test_a_face_is_no_distance_from_itself_in_another_topology(model, shape, scan):
    scores, quantiles, onto = scans.score_shape(model, shape, scan)
    assert scores.scan_median_mm < 2e-3 and quantiles[-1] < 0.02  # vertices are float32
    assert scores.rigid_mean_mm < 2e-3 and scores.scan_normal_deg < 4.0
    np.testing.assert_allclose(onto.scale, 1.0, atol=1e-5)


def test_another_size_costs_the_rigid_scores_alone(model, shape, scan):
    scores, _, onto = scans.score_shape(model, 0.95 * shape, scan)
    np.testing.assert_allclose(onto.scale, 1.0 / 0.95, rtol=1e-4)
    assert scores.scan_median_mm < 2e-3 and scores.rigid_median_mm > 0.5


def test_a_dented_scan_is_as_far_off_as_it_is_dented(model, shape, scan):
    """Each of its points 2 mm outside and once more 2 mm inside: no motion can lessen that."""
    side = np.tile([1.0, -1.0], len(scan.points))[:, None]
    points, normals = np.repeat(scan.points, 2, axis=0), np.repeat(scan.normals, 2, axis=0)
    dented = scan._replace(points=points + 2e-3 * side * normals, normals=normals)
    scores, quantiles, _ = scans.score_shape(model, shape, dented)
    # Next to a crease some are nearer to its other side.
    assert 1.8 < scores.scan_median_mm < 2.0
    np.testing.assert_allclose(quantiles[75:95], 2.0, atol=0.1)


def test_a_scan_is_read_in_any_usual_unit(model, shape):
    surface = model, shape, model.triangles, scans.shape_landmarks(model, shape)
    expected = placed(*surface, unit=1e-3)
    for unit in (1.0, 0.0254, 1e-6):
        found = placed(*surface, unit=unit)
        assert found.has_unit
        np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=1e-6)
        np.testing.assert_allclose(found.mesh.vertices, expected.mesh.vertices, atol=1e-6)


def test_a_scan_of_no_unit_is_as_large_as_the_mean_face_and_has_no_rigid_score(model, shape):
    points = scans.shape_landmarks(model, shape)
    lost = placed(model, shape, model.triangles, points, unit=0.33)
    assert not lost.has_unit
    mean = scans.shape_landmarks(model, model.mean)
    np.testing.assert_allclose(np.ptp(lost.landmarks, axis=0), np.ptp(mean, axis=0), rtol=0.15)
    scores, _, _ = scans.score_shape(model, shape, lost)
    assert np.isnan(scores.rigid_median_mm) and scores.scan_median_mm < 2e-3


def test_landmarks_of_no_face_are_refused(model, shape):
    points = np.random.default_rng(0).normal(size=(51, 3))
    with pytest.raises(ValueError, match=r"expected the landmarks of a face, found them \d+ mm"):
        placed(model, shape, model.triangles, points)


def test_a_wrong_landmark_does_not_pull_the_others(model, shape):
    points = scans.shape_landmarks(model, shape)
    wrong = points.copy()
    wrong[3] += [0.0, 0.02, -0.05]
    wrong[7] = np.nan
    found = scans.landmark_similarity(wrong, 1e3 * points @ TURN.T + 5.0)
    np.testing.assert_allclose(found(points)[20:], (1e3 * points @ TURN.T + 5.0)[20:], atol=1.0)
    np.testing.assert_allclose(found.back(found(points)), points, atol=1e-12)


def test_a_pose_is_that_of_the_scan_the_fit_is_laid_onto():
    """A fit in axes of its own that shows every point where the true pose does errs by nothing."""
    onto = scans.Similarity(1.1, TURN, np.array([0.01, -0.02, 0.03]))
    fitted = Pose(HEAD.rotation @ TURN, np.zeros(2), HEAD.scale * onto.scale)
    shift = np.asarray(project(HEAD, onto.translation))
    fitted = fitted.replace(translation=shift)
    angle, away = scans.pose_errors(fitted, onto, HEAD)
    assert angle < 1e-3 and away < 1e-6
    turned = fitted.replace(
        rotation=np.asarray(euler_rotation(np.deg2rad(7.0), 0.0, 0.0)) @ fitted.rotation
    )
    angle, _ = scans.pose_errors(turned, onto, HEAD)
    assert 5.0 < angle < 7.01
