"""Experiments: poses, models with fewer and with more modes, scans, files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.assets import load_model
from recon.evaluation import experiments
from recon.evaluation.experiments import Angles, Experiment
from recon.evaluation.experiments_io import read_experiment, write_experiment
from render.transforms import euler_rotation


@pytest.fixture(scope="module")
def model():
    return load_model("default")


@pytest.mark.slow
@pytest.mark.compiles
def test_every_combination_of_swept_angles_is_a_view():
    yaw, pitch = Angles((-20.0, 0.0, 20.0)), Angles((-10.0, 10.0))
    angles, head = experiments.views(jax.random.key(0), 4, yaw, pitch, Angles((5.0,)))
    assert angles.shape == (4, 6, 3)
    assert {tuple(a) for a in angles[0]} == {(y, p, 5.0) for y in yaw.values for p in pitch.values}
    expected = euler_rotation(*jnp.deg2rad(jnp.asarray(angles[2, 3])))
    np.testing.assert_allclose(head.rotation[2, 3], expected, atol=1e-6)


def test_a_range_is_drawn_from_for_each_view():
    angles, _ = experiments.views(
        jax.random.key(0), 300, Angles((-20.0, 20.0)), Angles((-8.0, 4.0), True), Angles()
    )
    pitch = angles[..., 1]
    assert len(np.unique(pitch)) == pitch.size and pitch.min() > -8.0 and pitch.max() < 4.0
    np.testing.assert_allclose(pitch.mean(), -2.0, atol=0.5)
    assert (angles[..., 2] == 0.0).all()


def test_kept_modes_leave_out_each_so_manyth():
    assert experiments.kept_modes(10, 5).tolist() == [0, 1, 2, 3, 5, 6, 7, 8]


def test_made_up_modes_are_new_directions_and_smaller(model):
    more = experiments.padded(model, 70)
    sigma = np.asarray(more.identity_sigma)
    assert (np.diff(sigma[59:]) <= 0.0).all() and sigma[69] > 0.0
    basis = np.asarray(more.identity_basis, np.float64).reshape(-1, 70)
    overlap = basis[:, 60:].T @ basis
    np.testing.assert_allclose(overlap[:, 60:], np.eye(10), atol=1e-5)
    np.testing.assert_allclose(overlap[:, :60], 0.0, atol=1e-5)
    np.testing.assert_array_equal(basis[:, :60], np.asarray(model.identity_basis).reshape(-1, 60))
    # Smooth: a vertex moves much as its neighbours do.
    field = basis[:, 60:].reshape(len(more.mean), 3, 10)
    a, b = np.asarray(more.triangles)[:, 0], np.asarray(more.triangles)[:, 1]
    assert np.abs(field[a] - field[b]).mean() < 0.3 * np.abs(field).mean()


def experiment():
    rng = np.random.default_rng(0)
    shapes = {"vertices": (5, 3), "identity": (4,), "rotation": (2, 3, 3), "translation": (2, 2)}
    shapes |= {"scale": (2,), "angles_deg": (2, 3), "xy": (2, 68, 2), "sigma_px": (2, 68)}
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["xy"][1] = np.nan
    return Experiment(**arrays)


def test_files_hold_an_experiment(tmp_path):
    written = experiment()
    write_experiment(tmp_path / "face.npz", written)
    read = read_experiment(tmp_path / "face.npz")
    jax.tree.map(np.testing.assert_array_equal, read, written)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("xy", np.zeros((2, 67, 2)), r"expected 'xy' of shape .*found \(2, 67, 2\)"),
        ("scale", np.zeros(3), r"expected 'scale' of shape .*found \(3,\)"),
        ("vertices", np.zeros(3), "expected 'vertices' of shape"),
    ],
)
def test_files_of_other_shapes_are_refused(tmp_path, name, value, message):
    write_experiment(tmp_path / "face.npz", experiment().replace(**{name: value}))
    with pytest.raises(ValueError, match=message):
        read_experiment(tmp_path / "face.npz")


def test_a_file_without_an_array_is_refused(tmp_path):
    np.savez(tmp_path / "face.npz", xy=np.zeros((1, 68, 2)))
    with pytest.raises(ValueError, match="found no 'vertices' in"):
        read_experiment(tmp_path / "face.npz")
