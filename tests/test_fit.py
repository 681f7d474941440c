import dataclasses
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from recon import evaluate, fit, pose, residuals
from recon.assets import load_model
from recon.evaluation import detector
from recon.landmarks import Landmarks
from recon.morphable import face_shape, with_modes
from recon.pose import Pose
from render.transforms import euler_rotation

pytestmark = pytest.mark.compiles

NUM_IDENTITY = 10
SIGMA = 2.0


@pytest.fixture(scope="module")
def model():
    return with_modes(load_model("default"), NUM_IDENTITY, use_expression=False)


@pytest.fixture(scope="module")
def fit_model(model):
    return fit.prepare(model)


def photograph(model, yaw, noise_px=0.0, seed=0):
    """A random face's landmarks as a detector sees them, and the truth."""
    rng = np.random.default_rng(seed)
    truth = jnp.asarray(rng.normal(size=NUM_IDENTITY), jnp.float32)
    angles = jnp.deg2rad(jnp.array([yaw, 5.0, -3.0]))
    head = Pose(euler_rotation(*angles), jnp.array([330.0, 250.0]), jnp.array(2200.0))
    noise = detector.DetectorConfig(noise_px, noise_px, noise_px, hides=False)
    vertices = face_shape(model, truth, jnp.zeros(0))
    face = detector.face_outline(model)
    xy = detector.detect(jax.random.key(seed), face, vertices, head, noise)
    return Landmarks(xy=xy, sigma_px=jnp.full(68, SIGMA)), truth, head


def run(fit_model, landmarks, config):
    return fit.fit_face(fit_model, fit.observe(landmarks, config), config)


@pytest.mark.slow
def test_a_detector_that_is_always_off_by_the_same_is_believed(model, fit_model):
    """Points moved by the offsets that the model is prepared with give the face as ever."""
    config = fit.METHODS["inner"]
    landmarks, _, head = photograph(model, 20.0)
    rng = np.random.default_rng(0)
    offsets = 0.05 * rng.normal(size=(68, 3))
    corners = model.mean[model.landmark_vertices[np.array([36, 45])]]
    away = offsets * float(jnp.linalg.norm(corners[1] - corners[0]))
    moved = pose.project(head, away) - head.translation
    there = landmarks.replace(xy=landmarks.xy + np.asarray(moved))
    expected = run(fit_model, landmarks, config).params
    found = run(fit.prepare(model, offsets), there, config).params
    np.testing.assert_allclose(found.identity, expected.identity, atol=0.06)
    np.testing.assert_allclose(found.pose.rotation, expected.pose.rotation, atol=3e-3)


@pytest.mark.quick
def test_robust_finds_known_faces(model, fit_model):
    config = fit.METHODS["robust"]
    shots = [photograph(model, yaw, seed=i) for i, yaw in enumerate((-30, -20, -10, 0, 10, 20, 30))]
    seen = [fit.observe(landmarks, config) for landmarks, _, _ in shots]
    faces = fit.fit_faces(fit_model, residuals.stack_observations(seen), config)
    one = [jax.tree.map(operator.itemgetter(i), faces.params) for i in range(len(shots))]
    scores = [
        evaluate.score(
            model,
            jnp.arange(NUM_IDENTITY),
            found.identity,
            found.pose,
            face_shape(model, truth, jnp.zeros(0)),
            truth,
            head,
            landmarks.xy,
        )
        for found, (landmarks, truth, head) in zip(one, shots, strict=True)
    ]
    assert faces.converged.all()
    assert np.mean([s.rotation_deg for s in scores]) < 1.0
    assert np.mean([s.vertex_mm for s in scores]) < 1.5
    assert (faces.inner_error_px < 0.01 * faces.eye_distance_px).all()


@pytest.mark.slow
def test_a_turned_head_defeats_fixed_landmarks_but_not_the_others(model, fit_model):
    landmarks, _, head = photograph(model, 30.0, noise_px=2.0, seed=3)
    error = {}
    for name in ("fixed", "inner", "spline", "robust"):
        config = fit.METHODS[name]
        face = run(fit_model, landmarks, config)
        assert jnp.isfinite(face.cost), name
        error[name] = float(evaluate.rotation_error_deg(face.params.pose.rotation, head.rotation))
    assert error["robust"] < 0.6 * error["fixed"]
    assert error["inner"] < error["fixed"] and error["spline"] < error["fixed"]


@pytest.mark.slow
def test_solution_equals_scipys(model, fit_model):
    landmarks, _, _ = photograph(model, 15.0, noise_px=2.0, seed=1)
    config = dataclasses.replace(fit.METHODS["robust"], tolerance=1e-4, max_iterations=100)
    seen = fit.observe(landmarks, config)
    face = fit.fit_face(fit_model, seen, config)
    start = fit.starting_pose(fit_model, seen, config)
    path = residuals.starting_path(fit_model, start, config)

    @jax.jit
    def residual(flat):
        split = jnp.split(flat, np.cumsum([NUM_IDENTITY, 3, 2, 1]))
        unknowns = residuals.Unknowns(*split[:3], split[3][0], split[4])
        return residuals.residual(unknowns, fit_model, start, seen, config)

    peer = scipy.optimize.least_squares(
        lambda x: np.asarray(residual(x), np.float64),
        np.concatenate([np.zeros(NUM_IDENTITY + 6), path]),
        jac=lambda x: np.asarray(jax.jacfwd(residual)(jnp.asarray(x, jnp.float32)), np.float64),
        x_scale="jac",
    )
    assert face.cost < 1.001 * peer.cost  # float32 lets either stop a little early
    np.testing.assert_allclose(face.params.identity, peer.x[:NUM_IDENTITY], atol=0.05)


@pytest.mark.slow
def test_thesis_start_reaches_the_same_face(model, fit_model):
    landmarks, _, _ = photograph(model, 30.0, noise_px=1.0, seed=2)
    robust = fit.METHODS["robust"]
    near = run(fit_model, landmarks, robust)
    far = run(fit_model, landmarks, dataclasses.replace(robust, start="frontal"))
    angle = evaluate.rotation_error_deg(far.params.pose.rotation, near.params.pose.rotation)
    assert far.converged and angle < 0.2


@pytest.mark.slow
def test_known_scale_stays_as_given(model, fit_model):
    landmarks, _, head = photograph(model, 10.0, noise_px=1.0)
    config = fit.METHODS["robust"]
    face = fit.fit_face(fit_model, fit.observe(landmarks, config, known_scale=2200.0), config)
    np.testing.assert_allclose(face.params.pose.scale, head.scale, rtol=1e-6)


@pytest.mark.slow
def test_a_batch_equals_one_at_a_time(model, fit_model):
    config = fit.METHODS["robust"]
    photos = [photograph(model, yaw, 1.0, seed)[0] for seed, yaw in enumerate((-20.0, 5.0, 30.0))]
    seen = [fit.observe(landmarks, config) for landmarks in photos]
    batch = fit.fit_faces(fit_model, residuals.stack_observations(seen), config)
    for i, one in enumerate(seen):
        alone = fit.fit_face(fit_model, one, config)
        np.testing.assert_allclose(batch.params.identity[i], alone.params.identity, atol=0.02)
        np.testing.assert_allclose(batch.cost[i], alone.cost, rtol=1e-3)


@pytest.mark.slow
def test_a_few_gross_outliers_hardly_move_the_robust_fit(model, fit_model):
    landmarks, _, head = photograph(model, 15.0, noise_px=1.0)
    broken = landmarks.replace(xy=landmarks.xy.at[jnp.array([2, 20, 33, 40, 55, 60])].add(40.0))
    face = run(fit_model, broken, fit.METHODS["robust"])
    assert evaluate.rotation_error_deg(face.params.pose.rotation, head.rotation) < 2.5


def test_too_few_iterations_are_reported(model, fit_model):
    landmarks, _, _ = photograph(model, 30.0, noise_px=2.0)
    face = run(fit_model, landmarks, dataclasses.replace(fit.METHODS["robust"], max_iterations=1))
    assert not face.converged and face.iterations == 1


def test_pixels_do_not_depend_on_where_the_photo_was_cropped(model, fit_model):
    landmarks, _, _ = photograph(model, 20.0, noise_px=1.0)
    moved = landmarks.replace(xy=landmarks.xy + jnp.array([1000.0, -300.0]))
    here, there = (run(fit_model, x, fit.METHODS["robust"]) for x in (landmarks, moved))
    np.testing.assert_allclose(here.params.identity, there.params.identity, atol=0.02)
    points = model.mean[:5]
    np.testing.assert_allclose(
        pose.project(there.params.pose, points) - pose.project(here.params.pose, points),
        np.broadcast_to([1000.0, -300.0], (5, 2)),
        atol=0.3,
    )
