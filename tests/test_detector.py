"""The simulated detector: outlines, sliding contours, and points that the head hides."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon import pose
from recon.assets import load_model
from recon.evaluation import detector
from recon.evaluation.detector import EXACT, DetectorConfig
from recon.morphable import with_modes
from recon.pose import Pose
from render.transforms import euler_rotation

SCALE = 4000.0  # pixels per metre


@pytest.fixture(scope="module")
def model():
    return with_modes(load_model("default"), 5, use_expression=False)


@pytest.fixture(scope="module")
def face(model):
    return detector.face_outline(model)


def turned(yaw=0.0, pitch=0.0, roll=0.0):
    rotation = euler_rotation(*(jnp.deg2rad(jnp.float32(a)) for a in (yaw, pitch, roll)))
    return Pose(rotation, jnp.array([600.0, 450.0]), jnp.array(SCALE))


def exact_inner(model, head):
    return np.asarray(pose.project(head, model.mean[model.landmark_vertices[17:]]))


def test_outline_of_a_polygon_is_found_on_every_ray():
    angles = np.linspace(0.0, 2.0 * np.pi, 65)[:-1]
    xy = np.stack([100.0 + 50.0 * np.cos(angles), 80.0 + 50.0 * np.sin(angles)], 1)
    rim = np.stack([np.arange(64), (np.arange(64) + 1) % 64], 1)
    inner = np.concatenate([rim, rim + 64])  # a smaller ring inside must not be taken
    xy = np.concatenate([xy, 0.5 * (xy + np.array([100.0, 80.0]))])
    found = detector.outline(
        jnp.asarray(xy, jnp.float32), inner, jnp.array([103.0, 80.0]), jnp.linspace(0.1, 6.0, 9)
    )
    np.testing.assert_allclose(
        np.linalg.norm(found - np.array([100.0, 80.0]), axis=1), 50, atol=0.1
    )


def test_contour_landmarks_leave_their_vertices_when_the_head_turns(model, face):
    gap = {}
    for yaw in (0.0, 30.0):
        head = turned(yaw)
        found = detector.detect(jax.random.key(0), face, model.mean, head, EXACT)
        static = pose.project(head, model.mean[model.landmark_vertices])
        np.testing.assert_allclose(found[17:], static[17:], atol=1e-2)
        gap[yaw] = np.linalg.norm(found[:17] - static[:17], axis=1)
    assert np.median(gap[0.0]) < 8.0  # pixels; 2 mm
    assert gap[30.0][:8].max() > 30.0 or gap[30.0][9:].max() > 30.0


def test_noise_and_outliers_are_as_large_as_stated(model, face):
    config = DetectorConfig(5.0, 2.0, 0.0, outlier_share=0.1, outlier_px=500.0, hides=False)
    head = turned()
    found = jnp.stack(
        [detector.detect(jax.random.key(i), face, model.mean, head, config) for i in range(60)]
    )
    off = np.linalg.norm(found[:, 17:] - exact_inner(model, head), axis=-1)
    is_outlier = off > 400.0
    assert abs(is_outlier.mean() - 0.1) < 0.02
    np.testing.assert_allclose(np.sqrt((off[~is_outlier] ** 2).mean() / 2), 5.0, rtol=0.05)


def test_from_the_front_no_point_is_hidden(model, face):
    for head in (turned(), turned(15.0, 5.0, 20.0)):
        seen = jax.jit(detector.seen_places)(face, model.mean, head)
        np.testing.assert_allclose(seen, exact_inner(model, head), atol=0.1)


def test_far_points_are_hidden_alike_on_either_side(model, face):
    far_eye = {60.0: 42 - 17, -60.0: 39 - 17}  # inner corners, behind the bridge of the nose
    moved = {}
    for yaw, corner in far_eye.items():
        head = turned(yaw)
        seen = jax.jit(detector.seen_places)(face, model.mean, head)
        shift = np.asarray(seen) - exact_inner(model, head)
        distance = np.linalg.norm(shift, axis=1)
        assert distance[corner] > 3e-3 * SCALE
        # The way the face looks, and no other; nothing on the near side.
        assert (shift[distance > 0.1] @ [np.sign(yaw), 0.0] > 0.0).all()
        assert np.abs(shift[distance > 0.1][:, 1]).max() < 0.1
        near = np.arange(36, 42) if yaw > 0.0 else np.arange(42, 48)
        assert distance[near - 17].max() < 0.1
        moved[yaw] = distance.sum()
    np.testing.assert_allclose(moved[60.0], moved[-60.0], rtol=0.1)


def test_roll_turns_hidden_points_along(model, face):
    places = []
    for roll in (0.0, 90.0):
        head = turned(60.0, 0.0, roll)
        seen = jax.jit(detector.seen_places)(face, model.mean, head)
        places.append(np.asarray(seen - head.translation))
    turned_back = places[1] @ np.array([[0.0, -1.0], [1.0, 0.0]]).T
    np.testing.assert_allclose(turned_back, places[0], atol=1.1e-3 * SCALE)  # a step of the march


def test_a_model_without_a_landmark_is_refused(model):
    broken = model.replace(landmark_vertices=model.landmark_vertices.at[3].set(-1))
    with pytest.raises(ValueError, match="expected a model with all 68 landmarks"):
        detector.face_outline(broken)


def test_sigma_is_never_zero():
    sigma = detector.detector_sigma(dataclasses.replace(EXACT, contour_px=4.0))
    assert (sigma[:17] == 4.0).all() and (sigma[17:] == 1.0).all()
