"""What is kept of a model's preparation is what was prepared, and nothing else is taken for it."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from recon import fit
from recon.residuals import FitConfig
from render.camera import perspective_camera
from render.mesh import Mesh
from scripts.shell.prepared_io import prepared, read_tree, write_tree


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mien" / "prepared"


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert type(a) is type(b)
        np.testing.assert_array_equal(a, b)
        assert getattr(a, "dtype", None) == getattr(b, "dtype", None)


def test_a_tree_comes_back_as_it_was(tmp_path):
    tree = {
        "camera": perspective_camera((0, 0, 2), (0, 0, 0), 5, 4),
        "mesh": Mesh(np.arange(6, dtype=np.float64).reshape(2, 3), jnp.zeros((1, 3), jnp.int32)),
        "more": (None, True, 2.5, "text", [np.ones((), np.float32), np.zeros((0, 3), np.uint8)]),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "config": FitConfig(contour="chain"),
    }
    write_tree(tmp_path / "tree", tree)
    found = read_tree(tmp_path / "tree")
    assert_same(found, tree)
    assert found["camera"].width == 5 and found["config"].contour == "chain"


def test_a_models_preparation_is_done_once(cache, default_model):
    fresh = fit.prepare(default_model)
    assert_same(prepared(fit.prepare, default_model), fresh)
    (file,) = cache.iterdir()
    before = file.read_bytes()
    assert_same(prepared(fit.prepare, default_model), fresh)
    assert [path.read_bytes() for path in cache.iterdir()] == [before]


def counted(mesh):
    calls.append(mesh)
    return Mesh(2.0 * mesh.vertices, mesh.triangles)


calls = []


def test_what_is_kept_is_of_these_arguments_and_whole(cache):
    calls.clear()
    mesh = Mesh(np.ones((3, 3)), np.arange(3)[None])
    for _ in range(2):
        np.testing.assert_array_equal(prepared(counted, mesh).vertices, 2 * mesh.vertices)
    assert len(calls) == 1
    np.testing.assert_array_equal(
        prepared(counted, mesh.replace(vertices=mesh.vertices + 1)).vertices, 4
    )
    assert len(calls) == 2
    for file in cache.iterdir():
        file.write_bytes(file.read_bytes()[:-5])
    assert prepared(counted, mesh).vertices.max() == 2 and len(calls) == 3
    assert prepared(counted, mesh).vertices.max() == 2 and len(calls) == 3


def test_old_files_make_room(cache):
    calls.clear()
    for number in range(10):
        prepared(counted, Mesh(np.full((3, 3), float(number)), np.arange(3)[None]))
    assert len(list(cache.iterdir())) == 8


def test_without_a_place_to_keep_it_the_work_is_done_anyway(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert prepared(counted, Mesh(np.ones((3, 3)), np.arange(3)[None])).vertices.max() == 2


@pytest.mark.parametrize("name", ["os:system", "subprocess:Popen", "render.image:np", "json:dumps"])
def test_other_records_are_refused(tmp_path, name):
    entry = json.dumps({"record": name, "fields": {}})
    safetensors.numpy.save_file({"0": np.zeros(1)}, tmp_path / "tree", {"tree": entry})
    with pytest.raises((ValueError, AttributeError), match="record"):
        read_tree(tmp_path / "tree")


def test_only_records_are_written():
    with pytest.raises(TypeError, match="expected records"):
        write_tree("unused", dataclasses)
