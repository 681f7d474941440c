"""A program that was kept does what `jax.jit` does, and is not traced again."""

import jax
import numpy as np
import pytest

from recon.pose import Pose
from render.program_io import kept

traces = []


def turned(pose, points, power=2, offset=0.0):
    """A pose and a picture of it; tells of its traces."""
    traces.append(power)
    if points.shape[-1] != 3:
        raise ValueError(f"expected points of 3 numbers, found {points.shape[-1]}")
    moved = (points @ pose.rotation.T) ** power + offset
    return pose.replace(scale=2 * pose.scale), {"moved": moved, "none": None}


def fresh():
    """The function as another process would have it: nothing is in memory."""
    return kept(turned, static_argnames="power")


POSE = Pose(np.eye(3, dtype=np.float32), np.zeros(2, np.float32), np.float32(3.0))
POINTS = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    traces.clear()
    yield tmp_path / "traced"
    jax.config.update("jax_compilation_cache_dir", before)


def assert_right(result, power=2, offset=0.0):
    pose, more = result
    assert isinstance(pose, Pose) and float(pose.scale) == 6.0
    assert more["none"] is None
    np.testing.assert_allclose(more["moved"], POINTS**power + offset, rtol=1e-6)


def test_the_next_process_does_not_trace(folder):
    assert_right(fresh()(POSE, POINTS))
    assert_right(fresh()(POSE, points=POINTS, power=2))
    assert traces == [2] and len(list(folder.iterdir())) == 1


def test_every_shape_type_and_setting_has_its_own_program(folder):
    call = fresh()
    assert_right(call(POSE, POINTS, power=3), 3)
    assert_right(call(POSE, POINTS, power=2))
    assert_right(call(POSE, POINTS, offset=1.0), offset=1.0)  # another number, the same program
    call(POSE, POINTS[:1])
    with jax.enable_x64(True):
        moved = np.asarray(call(POSE, np.float64(POINTS), offset=1e-12)[1]["moved"])
    assert moved.dtype == np.float64 and moved[0, 0] == 1e-12
    assert traces == [3, 2, 2, 2] and len(list(folder.iterdir())) == 4


def test_it_composes(folder):
    call = fresh()

    def loss(points):
        return call(POSE, points)[1]["moved"].sum()

    expected = 2 * POINTS
    np.testing.assert_allclose(jax.grad(loss)(POINTS), expected)
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(POINTS), expected)
    batch = jax.vmap(lambda points: call(POSE, points)[1]["moved"])(np.stack([POINTS, -POINTS]))
    np.testing.assert_allclose(batch, np.stack([POINTS, POINTS]) ** 2)
    assert_right(call.lower(POSE, POINTS).compile()(POSE, POINTS))
    assert not folder.exists()


@pytest.mark.parametrize("content", [b"", b"no program", None])
def test_what_cannot_be_read_is_made_anew(folder, content):
    fresh()(POSE, POINTS)
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-40] if content is None else content)
    assert_right(fresh()(POSE, POINTS))
    assert_right(fresh()(POSE, POINTS))
    assert traces == [2, 2]


def test_errors_are_the_function_s_own(folder):
    with pytest.raises(ValueError, match="expected points of 3 numbers, found 2"):
        fresh()(POSE, POINTS[:, :2])
    assert not folder.exists()


def calls_back(x):
    return jax.pure_callback(lambda x: np.asarray(x) + 1, jax.typeof(x), x)


def with_a_function(x, function):
    return function(x)


def test_what_cannot_be_exported_or_named_is_compiled_as_ever(folder):
    assert float(kept(calls_back)(np.float32(1.0))) == 2.0
    assert float(kept(with_a_function, "function")(np.float32(1.0), lambda x: x + 3)) == 4.0
    assert not folder.exists()


def test_without_a_folder_or_with_checks_on_it_is_jit(folder):
    with jax.debug_nans(True):
        assert_right(fresh()(POSE, POINTS))
    jax.config.update("jax_compilation_cache_dir", None)
    assert_right(fresh()(POSE, POINTS))
    assert not folder.exists()
