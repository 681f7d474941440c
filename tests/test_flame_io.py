"""FLAME, written here in the layouts that people have it in, becomes the head it was made from."""

import os
import pathlib
import pickle

import jax.numpy as jnp
import numpy as np
import pytest
from flame_files import (
    NUM_EXPRESSION,
    NUM_IDENTITY,
    Chumpy,
    Embedding,
    flame_values,
    python2_pickle,
    write_embedding,
    write_flame,
)
from model_files import Head

from recon import fit
from recon.assets import load_model, save_npz
from recon.formats.pickle_io import read_pickle
from recon.morphable import face_shape, landmark_embedding


@pytest.fixture
def head():
    return Head(rows=24, columns=36)


def assert_is_flame(model, head):
    modes = flame_values(head)["shapedirs"]
    np.testing.assert_allclose(model.mean, head.mean, atol=1e-6)
    np.testing.assert_array_equal(model.triangles, head.triangles)
    assert model.identity_sigma.shape == (NUM_IDENTITY,)
    assert model.expression_sd.shape == (NUM_EXPRESSION,)
    rng = np.random.default_rng(7)
    identity, expression = rng.normal(size=NUM_IDENTITY), rng.normal(size=NUM_EXPRESSION)
    found = face_shape(model, jnp.float32(identity), jnp.float32(expression))
    expected = head.mean + modes @ np.r_[identity, expression]
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_array_equal(model.expression_bounds, [[-3, 3]] * NUM_EXPRESSION)


def assert_has_landmarks(model, points, known=slice(0, 68)):
    corners, weights = map(np.asarray, landmark_embedding(model))
    found = np.einsum("lc,lci->li", weights, np.asarray(model.mean)[corners])
    np.testing.assert_allclose(found[known], points[known], atol=1e-6)
    assert (np.asarray(model.landmark_vertices)[known] >= 0).all()


def test_pickle_of_python_2_with_chumpy_arrays(tmp_path, head):
    write_flame(tmp_path / "generic_model.pkl", head)
    model = load_model(tmp_path / "generic_model.pkl")
    assert_is_flame(model, head)
    assert_has_landmarks(model, Embedding(head).points)
    np.testing.assert_array_equal(load_model(tmp_path).mean, model.mean)  # the folder, too


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_pickles_of_python_3_and_npz(tmp_path, head, protocol):
    write_embedding(tmp_path / "landmark_embedding.npy", head)
    values = flame_values(head)
    values["shapedirs"] = np.asfortranarray(values["shapedirs"])
    (tmp_path / "flame2023.pkl").write_bytes(pickle.dumps(values, protocol=protocol))
    assert_is_flame(load_model(tmp_path / "flame2023.pkl"), head)
    with Chumpy() as chumpy:
        values = flame_values(head, chumpy.array)
        (tmp_path / "flame2023.pkl").write_bytes(pickle.dumps(values, protocol=protocol))
    assert_is_flame(load_model(tmp_path / "flame2023.pkl"), head)
    values = flame_values(head)
    del values["J_regressor"]
    np.savez(tmp_path / "flame.npz", **values)
    assert_is_flame(load_model(tmp_path / "flame.npz"), head)


def test_chumpy_keeps_selections_and_other_shapes_of_arrays(tmp_path):
    x = np.arange(24.0).reshape(4, 6)
    with Chumpy() as chumpy:
        operation = "chumpy.reordering"
        source = chumpy.array(x)
        values = {
            "selected": chumpy.make(
                operation, "Select", a=source, idxs=np.arange(6, 18), preferred_shape=(2, 6)
            ),
            "reshaped": chumpy.make(operation, "Reshape", a=source, newshape=(2, 12)),
            "turned": chumpy.make(operation, "transpose", a=source, axes=None),
            "big_endian": x.astype(">f4"),
        }
        (tmp_path / "m.pkl").write_bytes(python2_pickle(values))
    found = read_pickle(tmp_path / "m.pkl")
    np.testing.assert_array_equal(found["selected"], x[1:3])
    np.testing.assert_array_equal(found["reshaped"], x.reshape(2, 12))
    np.testing.assert_array_equal(found["turned"], x.T)
    np.testing.assert_array_equal(found["big_endian"], x)


def test_every_embedding_of_68_or_51_points(tmp_path, head):
    write_flame(tmp_path / "generic_model.pkl", head)
    embedding, full = Embedding(head), tmp_path / "landmark_embedding.npy"
    full.unlink()
    np.savez(tmp_path / "landmark_embedding.npz", **embedding.deca())
    assert_has_landmarks(load_model(tmp_path), embedding.points)
    (tmp_path / "landmark_embedding.npz").unlink()

    with_eyes = embedding.deca()
    with_eyes["full_lmk_faces_idx"] = np.r_[embedding.face, 0, 0]
    with_eyes["full_lmk_bary_coords"] = np.r_[embedding.weights, np.eye(3)[:2]]
    np.save(tmp_path / "landmark_embedding_with_eyes.npy", with_eyes, allow_pickle=True)
    assert_has_landmarks(load_model(tmp_path), embedding.points)
    (tmp_path / "landmark_embedding_with_eyes.npy").unlink()

    inner = python2_pickle(embedding.ringnet())
    (tmp_path / "flame_static_embedding.pkl").write_bytes(inner)
    model = load_model(tmp_path)
    assert_has_landmarks(model, embedding.points, known=slice(17, 68))
    assert (np.asarray(model.landmark_vertices)[:17] == -1).all()
    by_yaw = embedding.ringnet_by_yaw()
    np.save(tmp_path / "flame_dynamic_embedding.npy", by_yaw, allow_pickle=True)
    assert_has_landmarks(load_model(tmp_path), embedding.points)


def test_fit_measures_at_the_points_inside_the_triangles(tmp_path, head):
    write_flame(tmp_path / "generic_model.pkl", head)
    model = load_model(tmp_path)
    rows = np.asarray(fit.prepare(model).landmark_rows)
    embedding = Embedding(head)
    np.testing.assert_allclose(rows[:, :, 0], embedding.points, atol=1e-6)
    corners = head.triangles[embedding.face]
    modes = np.einsum("lc,lcik->lik", embedding.weights, flame_values(head)["shapedirs"][corners])
    np.testing.assert_allclose(rows[:, :, 1:], modes, atol=1e-7)
    save_npz(tmp_path / "own.npz", model)
    again = load_model(tmp_path / "own.npz")
    assert_has_landmarks(again, embedding.points)


def test_eyeballs_are_the_pieces_apart(tmp_path, head):
    ball = Head(rows=3, columns=4)
    head.mean = np.r_[head.mean, 0.1 * ball.mean + [0.03, 0.03, 0.07]]
    num_skin = len(head.mean) - len(ball.mean)
    head.triangles = np.r_[head.triangles, ball.triangles + num_skin]
    write_flame(tmp_path / "generic_model.pkl", head)
    eyeballs = np.asarray(load_model(tmp_path).regions["eyeballs"])
    np.testing.assert_array_equal(eyeballs, np.arange(len(head.mean)) >= num_skin)


def refusal(path):
    with pytest.raises(ValueError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value) and "expected" in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_is_refused(tmp_path, head):
    path = tmp_path / "generic_model.pkl"

    def write(**changes):
        path.write_bytes(python2_pickle(flame_values(head) | changes))
        return path

    assert "landmark_embedding.npy" in refusal(write())  # beside it
    write_embedding(tmp_path / "landmark_embedding.npy", head)
    assert "'shapedirs'" in refusal(write(shapedirs=np.zeros((3, 3, 400))))
    assert "'v_template'" in refusal(write(v_template=head.mean * np.nan))
    assert "'f'" in refusal(write(f=head.triangles + len(head.mean)))
    assert "v_template" in refusal(write(v_template="none"))
    write()
    embedding = Embedding(head).deca()
    embedding["full_lmk_faces_idx"] = embedding["full_lmk_faces_idx"] + 10_000
    np.save(tmp_path / "landmark_embedding.npy", embedding, allow_pickle=True)
    assert "triangles" in refusal(path)
    embedding = Embedding(head).deca()
    embedding["full_lmk_bary_coords"] = 2 * embedding["full_lmk_bary_coords"]
    np.save(tmp_path / "landmark_embedding.npy", embedding, allow_pickle=True)
    assert "add up" in refusal(path)
    points = {"lmk_face_idx": np.zeros(105, int), "lmk_b_coords": np.zeros((105, 3))}
    np.save(tmp_path / "landmark_embedding.npy", points, allow_pickle=True)
    assert "105" in refusal(path)
    (tmp_path / "landmark_embedding.npy").write_text("<html>Please log in</html>")
    assert "web page" in refusal(path)


class _Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(self.path),)


class _System:
    def __reduce__(self):
        return os.system, ("exit 0",)


def test_nothing_in_a_pickle_is_executed(tmp_path, head):
    path, opened = tmp_path / "generic_model.pkl", tmp_path / "opened"
    for trap in (_Trap(opened), _System(), print, np.load, np.ctypeslib.as_array):
        for protocol in (0, 2, 5):
            content = {"v_template": head.mean, "shapedirs": trap}
            path.write_bytes(pickle.dumps(content, protocol=protocol))
            assert "not allowed" in refusal(path)
    write_flame(path, head)
    np.save(tmp_path / "landmark_embedding.npy", {"x": _Trap(opened)}, allow_pickle=True)
    assert "not allowed" in refusal(path)
    assert not opened.exists()


def test_a_pickle_gets_no_more_memory_than_it_has_bytes(tmp_path):
    path = tmp_path / "m.pkl"
    contents = {
        "more entries": b"\x80\x02}r\xff\xff\xff\x7f.",
        "bytes in an array": pickle.dumps({"a": np.zeros(3)}, 2).replace(b"K\x03", b"J\0\0\0\x40"),
        "": b"\x80\x02T\xff\xff\xff\x7fabc.",
    }
    for reason, content in contents.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"m\.pkl: expected a pickle") as caught:
            read_pickle(path)
        assert reason in str(caught.value)
