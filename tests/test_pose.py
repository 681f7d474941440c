import jax.numpy as jnp
import numpy as np
import pytest

from recon import pose
from recon.assets import load_model
from recon.evaluate import rotation_error_deg
from recon.fit import face_camera
from recon.pose import Pose
from render import camera
from render.transforms import euler_rotation


@pytest.fixture(scope="module")
def points():
    model = load_model("default")
    return model.mean[model.landmark_vertices[17:]]


def make_pose(yaw=0.0, pitch=0.0, roll=0.0):
    angles = jnp.deg2rad(jnp.array([yaw, pitch, roll]))
    return Pose(euler_rotation(*angles), jnp.array([311.0, 207.0]), jnp.array(2300.0))


@pytest.mark.parametrize("yaw, pitch, roll", [(0, 0, 0), (30, -10, 5), (-60, 10, 20), (0, 0, 170)])
def test_closed_form_finds_the_pose_of_exact_points(points, yaw, pitch, roll):
    truth = make_pose(yaw, pitch, roll)
    found = pose.closed_form(points, pose.project(truth, points), jnp.ones(51))
    assert rotation_error_deg(found.rotation, truth.rotation) < 0.05
    np.testing.assert_allclose(found.scale, truth.scale, rtol=1e-4)
    np.testing.assert_allclose(pose.project(found, points), pose.project(truth, points), atol=0.2)


def test_closed_form_leaves_out_points_of_no_weight(points):
    truth = make_pose(20.0)
    xy = pose.project(truth, points).at[7].add(500.0)
    found = pose.closed_form(points, xy, jnp.ones(51).at[7].set(0.0))
    assert rotation_error_deg(found.rotation, truth.rotation) < 0.05


def test_frontal_start_is_unturned_and_lands_on_the_face(points):
    truth = make_pose()
    found = pose.frontal(points, pose.project(truth, points), jnp.ones(51))
    np.testing.assert_array_equal(found.rotation, np.eye(3))
    np.testing.assert_allclose(found.scale, truth.scale, rtol=1e-5)
    np.testing.assert_allclose(found.translation, truth.translation, atol=0.01)


def test_the_fits_camera_projects_as_the_fit_does(points):
    head = make_pose(25.0, 10.0, -15.0)
    xy, depth = camera.project(face_camera(head, 640, 480), points)
    np.testing.assert_allclose(xy, pose.project(head, points), atol=1e-3)
    turned = points @ head.rotation.T
    assert np.corrcoef(depth, -turned[:, 2])[0, 1] > 0.999 and (depth > 0).all()
