"""The scores' own tests, and what the methods must reach on faces with known answers."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon import evaluate
from recon.assets import load_model
from recon.evaluation import methods as methods_lib
from recon.evaluation import protocol as protocol_lib
from recon.evaluation.detector import DetectorConfig
from recon.evaluation.experiments import Angles
from recon.evaluation.protocol import Protocol
from recon.morphable import face_shape, random_identity, with_modes
from recon.pose import Pose
from render.transforms import euler_rotation, rodrigues

ICT = pathlib.Path(__file__).parents[2] / "shared" / "data" / "ict" / "ict_head_100.npz"
NUM_IDENTITY = 10
HEAD = Pose(euler_rotation(0.3, 0.1, 0.0), jnp.array([600.0, 450.0]), jnp.array(4000.0))


@pytest.fixture(scope="module")
def model():
    return with_modes(load_model("default"), NUM_IDENTITY, use_expression=False)


def test_scores_of_the_truth_are_zero_and_of_the_mean_face_one(model):
    truth = random_identity(jax.random.key(0), 1, NUM_IDENTITY)[0]
    vertices = face_shape(model, truth, jnp.zeros(0))
    true = vertices, truth, HEAD, jnp.zeros((68, 2))
    modes = jnp.arange(NUM_IDENTITY)
    right = evaluate.score(model, modes, truth, HEAD, *true)
    assert right.alpha_error == 0.0 and right.rotation_deg < 1e-3 and right.vertex_mm == 0.0
    mean = evaluate.score(model, modes, 0.0 * truth, HEAD, *true)
    np.testing.assert_allclose(mean.alpha_unexplained, 1.0, rtol=1e-6)
    assert mean.normal_deg > 1.0


def test_each_error_is_what_its_equation_says(model):
    truth = random_identity(jax.random.key(0), 1, NUM_IDENTITY)[0]
    modes = jnp.array([0, 1, 3])  # the fit had three
    found = jnp.array([0.5, -1.0, 2.0])
    moved = Pose(
        rodrigues(jnp.deg2rad(7.0) * jnp.array([0.0, 1.0, 0.0])) @ HEAD.rotation,
        HEAD.translation + jnp.array([8.0, 0.0]),
        HEAD.scale,
    )
    xy = jnp.full((68, 2), 500.0)
    vertices = face_shape(model, truth, jnp.zeros(0))
    scores = evaluate.score(model, modes, found, moved, vertices, truth, HEAD, xy)
    whole = np.zeros(NUM_IDENTITY)
    whole[[0, 1, 3]] = [0.5, -1.0, 2.0]
    sigma = np.asarray(model.identity_sigma)
    expected = np.sum(sigma**2 * (whole - truth) ** 2)
    np.testing.assert_allclose(scores.alpha_error, expected, rtol=1e-5)
    np.testing.assert_allclose(
        scores.alpha_unexplained, expected / np.sum(sigma**2 * truth**2), rtol=1e-5
    )
    assert 0.0 < scores.rotation_deg <= 7.0001
    np.testing.assert_allclose(scores.translation_model_units, 0.002, rtol=1e-4)
    shape = np.asarray(model.mean + model.identity_basis @ (sigma * whole), np.float64)
    np.testing.assert_allclose(
        scores.vertex_mm, 1e3 * np.linalg.norm(shape - vertices, axis=1).mean(), rtol=1e-4
    )
    landmarks = shape[np.asarray(model.landmark_vertices)] @ np.asarray(moved.rotation).T
    pixels = 4000.0 * landmarks[:, :2] * [1, -1] + np.asarray(moved.translation)
    np.testing.assert_allclose(
        scores.projection_px, np.linalg.norm(pixels - 500.0, axis=1).mean(), rtol=1e-4
    )


def test_a_scan_is_scored_wherever_it_lies(model):
    truth = random_identity(jax.random.key(0), 1, NUM_IDENTITY)[0]
    vertices = face_shape(model, truth, jnp.zeros(0))
    moved = vertices @ rodrigues(jnp.array([0.02, 0.1, -0.05])).T + jnp.array([0.0, 0.01, 0.02])
    unknown = jnp.full(NUM_IDENTITY, jnp.nan)
    modes, xy = jnp.arange(NUM_IDENTITY), jnp.zeros((68, 2))
    scores = evaluate.score(model, modes, truth, HEAD, moved, unknown, HEAD, xy)
    assert scores.vertex_mm < 0.01 and scores.normal_deg < 0.05
    assert jnp.isnan(scores.alpha_error)


def test_rotation_error_is_the_larger_angle_of_the_first_two_rows():
    turned = rodrigues(jnp.deg2rad(7.0) * jnp.array([0.0, 1.0, 0.0]))
    np.testing.assert_allclose(evaluate.rotation_error_deg(turned, jnp.eye(3)), 7.0, rtol=1e-5)
    rolled = rodrigues(jnp.deg2rad(4.0) * jnp.array([0.0, 0.0, 1.0]))
    np.testing.assert_allclose(evaluate.rotation_error_deg(rolled, jnp.eye(3)), 4.0, rtol=1e-5)


def test_normal_error_is_the_angle_a_plane_is_tilted_by():
    triangle = jnp.array([[0, 1, 2]])
    flat = jnp.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    tilted = flat @ rodrigues(jnp.deg2rad(30.0) * jnp.array([1.0, 0.0, 0.0])).T
    np.testing.assert_allclose(evaluate.normal_error_deg(tilted, flat, triangle), 30.0, rtol=1e-5)


def test_a_summary_leaves_out_what_was_missed():
    values = np.array([[1.0, np.nan], [3.0, 5.0]])
    summary = evaluate.summarize(values)
    np.testing.assert_allclose([summary["mean"], summary["median"]], 3.0)
    np.testing.assert_allclose(summary["std"], np.std([1.0, 3.0, 5.0]))
    assert summary["low"] == 1.0 and summary["high"] == 4.0  # all of one face, or of the other
    assert evaluate.summarize(np.full((2, 2), np.nan)) is None


def test_the_interval_of_a_mean_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        face = rng.normal(size=(40, 1))  # views of a face go together
        summary = evaluate.summarize(5.0 + face + 0.3 * rng.normal(size=(40, 5)))
        hits += summary["low"] < 5.0 < summary["high"]
    assert 0.89 <= hits / 200 <= 0.99


def test_pairs_are_compared_face_by_face():
    rng = np.random.default_rng(0)
    hard = np.exp(rng.normal(size=(30, 1)))  # faces differ much, methods little
    ours, others = 0.9 * hard * np.ones((1, 4)), hard * np.ones((1, 4))
    ratio = evaluate.compare(ours, others)
    np.testing.assert_allclose([ratio[k] for k in ("ratio", "low", "high")], 0.9, rtol=1e-6)
    ours[0, 0] = np.nan  # missed by one, left out for both
    np.testing.assert_allclose(evaluate.compare(ours, others)["ratio"], 0.9, rtol=1e-6)


# What the methods must reach.


def table(folder, protocol, names):
    """Scores of the methods in a protocol, and their ratios of means."""
    subject = protocol_lib.load_subject(protocol)
    protocol_lib.make_experiments(folder, protocol, subject)
    scores = {}
    for method in methods_lib.rows(names):
        methods_lib.run_method(folder, method, protocol, subject)
        scores[method.name] = methods_lib.collect(folder, method)

    def ratio(ours, others, metric):
        found = evaluate.compare(scores[ours][metric], scores[others][metric])
        print(protocol.model, ours, others, metric, found)
        return found["ratio"]

    return ratio


@pytest.fixture(params=["default", ICT], ids=["default", "ict"])
def source(request):
    if request.param != "default" and not request.param.exists():
        pytest.skip("needs the ICT-FaceKit head")
    return str(request.param)


@pytest.mark.slow
def test_table_1_few_modes(tmp_path, source):
    ratio = table(tmp_path, Protocol(model=source), ["fixed", "inner", "chain", "spline", "robust"])
    assert ratio("spline", "fixed", "alpha_error") <= 0.904
    assert ratio("spline", "fixed", "rotation_deg") <= 0.793
    assert ratio("spline", "fixed", "translation_model_units") <= 0.794
    for metric in ("alpha_error", "rotation_deg", "translation_model_units"):
        assert ratio("robust", "fixed", metric) <= 0.5
    assert ratio("robust", "inner", "rotation_deg") <= 0.9


@pytest.mark.slow
def test_table_2_all_modes_with_the_same_weights(tmp_path, source):
    protocol = Protocol(model=source, components=None)
    assert table(tmp_path, protocol, ["fixed", "robust"])("robust", "fixed", "alpha_error") <= 0.7


@pytest.mark.slow
def test_table_3_faces_out_of_the_span(tmp_path, source):
    protocol = Protocol(model=source, components=None, held_out=5)
    ratio = table(tmp_path, protocol, ["fixed", "robust"])
    # Most of ICT's 100 modes move no landmark: their normals are nobody's to find.
    assert ratio("robust", "fixed", "normal_deg") <= (0.75 if source == "default" else 0.87)
    assert ratio("robust", "fixed", "rotation_deg") <= 0.45


@pytest.mark.slow
def test_heads_turned_far(tmp_path, source):
    yaw = Angles(tuple(float(angle) for angle in range(-60, 61, 20)))
    ratio = table(tmp_path, Protocol(model=source, yaw=yaw), ["fixed", "inner", "robust"])
    for metric in ("rotation_deg", "normal_deg", "vertex_mm"):
        assert ratio("robust", "fixed", metric) <= (0.2 if metric == "rotation_deg" else 0.5)
        assert ratio("robust", "inner", metric) <= 1.0


@pytest.mark.slow
def test_a_tenth_of_outliers(tmp_path, source):
    protocol = Protocol(model=source, noise=DetectorConfig(outlier_share=0.1))
    ratio = table(tmp_path, protocol, ["fixed", "inner", "robust"])
    for other in ("fixed", "inner"):
        assert ratio("robust", other, "rotation_deg") <= 0.5
