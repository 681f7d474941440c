"""The peer eos of the benchmark: what it is given of our model, and the rows with it or without."""

import importlib.machinery
import importlib.util
import json
import sys
import tomllib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon import assets, morphable, pose
from recon.formats import eos_io
from recon.landmarks import Landmarks
from recon.pose import Pose
from render.transforms import euler_rotation
from scripts.benchmarks import eos_fit, eos_maps_io, fit_suite
from scripts.benchmarks.fit_suite import FitSuite

SUITE = FitSuite(num_faces=2, eos_fits=((5, True), (5, False)))
OURS = fit_suite._Result(1.0, 0.5, 2.0)


@pytest.fixture(scope="module")
def model():
    return morphable.with_modes(assets.load_model("default"), 6, use_expression=False)


@pytest.fixture(scope="module")
def photos(model):
    """Exact points of two faces, one turned to each side."""
    turn = jnp.deg2rad(jnp.array([-20.0, 20.0]))
    head = Pose(
        rotation=jax.vmap(euler_rotation)(turn, jnp.zeros(2), jnp.zeros(2)),
        translation=jnp.tile(jnp.array([600.0, 450.0]), (2, 1)),
        scale=jnp.full(2, 4000.0),
    )
    identity = morphable.random_identity(jax.random.key(0), 2, 6)
    points = [fit_suite._vertices(model, one)[model.landmark_vertices] for one in identity]
    xy = jax.vmap(pose.project)(head, jnp.stack(points))
    return fit_suite._Photos([Landmarks(xy=x, sigma_px=jnp.ones(68)) for x in xy], identity, head)


def fake_eos(model, rotation):
    """A module that keeps what it is given, and finds the mean face, turned by `rotation`."""
    given = {}

    def keep(name):
        return lambda *arguments: given.setdefault(name, arguments)

    def read(path):
        with open(path) as file:
            return file.read()

    def fit_shape_and_pose(*arguments, num_iterations):
        given.setdefault("fits", []).append((len(arguments), num_iterations))
        rendering = types.SimpleNamespace(get_modelview=lambda: rotation)
        return None, rendering, [0.0] * model.identity_sigma.shape[0], [0.0]

    eos = types.ModuleType("eos")
    eos.__spec__ = importlib.machinery.ModuleSpec("eos", None)
    eos.given = given
    eos.core = types.SimpleNamespace(LandmarkMapper=read, Landmark=lambda *one: one)
    eos.morphablemodel = types.SimpleNamespace(
        PcaModel=lambda *arguments: given.setdefault("pca", arguments) if arguments else None,
        Blendshape=keep("blendshape"),
        MorphableModel=keep("model"),
        EdgeTopology=keep("edges"),
    )
    loader = types.SimpleNamespace(load=read)
    eos.fitting = types.SimpleNamespace(
        ContourLandmarks=loader, ModelContour=loader, fit_shape_and_pose=fit_shape_and_pose
    )
    return eos


def eos_rows(model, photos):
    return fit_suite._eos_rows("fit", OURS, model, photos, SUITE)


def test_rows_of_a_missing_eos_have_no_value(model, photos, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    rows = eos_rows(model, photos)
    assert [row.unit for row in rows] == ["CPU-ms", "deg", "mm"] * 2
    assert [row.peer for row in rows[::3]] == ["eos, 5 iterations", "eos, 5 iterations, no contour"]
    assert [row.ours for row in rows] == [*OURS] * 2
    assert all(row.peer_value is None and row.ratio is None for row in rows)


def test_rows_of_eos_hold_its_time_and_its_errors(model, photos, monkeypatch):
    eos = fake_eos(model, np.pad(photos.head.rotation[0], ((0, 1), (0, 1))))
    monkeypatch.setitem(sys.modules, "eos", eos)
    rows = eos_rows(model, photos)
    assert eos.given["fits"] == [(8, 5)] * 2 + [(5, 5)] * 2
    vertices = jnp.stack([fit_suite._vertices(model, one) for one in photos.identity])
    off = 1e3 * np.linalg.norm(vertices - model.mean, axis=-1).mean()
    for time_row, rotation_row, vertex_row in (rows[:3], rows[3:]):
        assert time_row.peer_value >= 0 and time_row.ratio == time_row.peer_value / OURS[0]
        assert rotation_row.peer_value == pytest.approx(0.5 * 40.0, abs=0.01)
        assert vertex_row.peer_value == pytest.approx(off, rel=1e-3)
        assert vertex_row.ratio == vertex_row.peer_value / OURS[2]


def test_eos_gets_the_same_faces_in_millimetres(model, photos):
    eos = fake_eos(model, None)
    peer = eos_fit.EosFit(eos, model, (1200, 900))
    mean, basis, variance, triangles = eos.given["pca"]
    np.testing.assert_allclose(np.linalg.norm(basis, axis=0), 1.0, atol=1e-4)
    identity = np.asarray(photos.identity[0])
    shape = mean[:, 0] + basis @ (np.sqrt(variance[:, 0]) * identity)
    expected = 1e3 * fit_suite._vertices(model, photos.identity[0])
    np.testing.assert_allclose(shape.reshape(-1, 3), expected, atol=1e-3)
    np.testing.assert_array_equal(triangles, model.triangles)
    assert not eos.given["blendshape"][1].any()
    names, points = zip(*peer.landmarks(photos.landmarks[0].xy), strict=True)
    assert names == tuple(str(i) for i in range(1, 69))
    np.testing.assert_array_equal(points, photos.landmarks[0].xy)


def test_each_edge_knows_its_triangles_counted_from_one():
    # Two triangles of a square, and one apart: edge 1-2 has both, the others lie at a rim.
    around, edges = eos_fit.edge_topology(np.array([[0, 1, 2], [2, 1, 3], [4, 5, 6]]))
    found = {tuple(edge): tuple(pair) for edge, pair in zip(edges, around, strict=True)}
    assert found == {
        **{(1, 2): (0, 1), (1, 3): (0, 1), (2, 3): (1, 2), (2, 4): (0, 2), (3, 4): (0, 2)},
        **{(5, 6): (0, 3), (5, 7): (0, 3), (6, 7): (0, 3)},
    }


def test_the_contour_follows_the_jaw_along_edges_and_leaves_out_the_chin(model):
    edges = {tuple(edge) for edge in eos_fit.edge_topology(np.asarray(model.triangles))[1] - 1}
    index = np.asarray(model.landmark_vertices)
    right, left = eos_fit.model_contour(model)
    for side, landmarks in ((right, index[:8]), (left, index[16:8:-1])):
        assert side[0] == landmarks[0] and set(landmarks) <= set(side) and len(set(side)) > 12
        assert len(set(side)) == len(side)
        ways = zip(side, [*side[1:], index[8]], strict=True)
        assert {tuple(sorted(way)) for way in ways} <= edges
    assert np.asarray(model.mean)[right, 0].max() < 0.0 < np.asarray(model.mean)[left, 0].min()


def test_the_maps_name_inner_points_and_chin_and_call_the_rest_contour(model, tmp_path):
    index = np.asarray(model.landmark_vertices)
    sides = np.array([3, 1]), np.array([4])
    landmarks, contour = eos_maps_io.write_maps(tmp_path, index, sides)
    maps = tomllib.loads(landmarks.read_text())
    assert maps["landmark_mappings"] == {str(i + 1): index[i] for i in (8, *range(17, 68))}
    assert maps["contour_landmarks"] == {
        "right": [str(i) for i in range(1, 9)],
        "left": [str(i) for i in range(17, 9, -1)],
    }
    sides = json.loads(contour.read_text())["model_contour"]
    assert sides == {"right_contour": [3, 1], "left_contour": [4]}


def test_what_eos_saves_of_our_model_reads_back_as_ours(model, tmp_path):
    eos = pytest.importorskip("eos")
    path = str(tmp_path / "model.bin")
    eos.morphablemodel.save_model(eos_fit.eos_model(eos, model), path)
    raw = eos_io.read_eos(path)
    np.testing.assert_allclose(raw.mean, 1e3 * model.mean, atol=1e-4)
    modes = 1e3 * model.identity_basis * model.identity_sigma
    np.testing.assert_allclose(raw.identity_modes, modes, atol=1e-4)
    np.testing.assert_array_equal(raw.triangles, model.triangles)


def test_eos_finds_the_pose_of_exact_points_and_makes_the_face_of_its_coefficients(model, photos):
    eos = pytest.importorskip("eos")
    peer = eos_fit.EosFit(eos, model, (1200, 900))
    for n, uses_contour in ((0, True), (1, False)):
        points = peer.landmarks(photos.landmarks[n].xy)
        result = peer.fit(points, 2, uses_contour)
        face = peer.face(result)
        cosine = (np.trace(face.rotation.T @ photos.head.rotation[n]) - 1.0) / 2.0
        assert np.rad2deg(np.arccos(cosine)) < 5.0
        expected = 1e3 * fit_suite._vertices(model, jnp.asarray(face.identity, jnp.float32))
        np.testing.assert_allclose(np.array(result[0].vertices), expected, atol=1e-2)
