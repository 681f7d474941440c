"""Checkpoints of either format give the same arrays, and only those that were asked for."""

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from torch_files import FEW, assert_same, program_of, write_stream, write_zip

from models.weights import (
    find_weights,
    read_about,
    read_entries,
    shipped_weights,
    take_entries,
    write_entries,
)


def test_weights_that_come_along_are_small_and_say_where_they_are_from():
    paths = shipped_weights("")
    assert {"motion_stalk", "generator_heads", "face_id"} <= set(paths)
    sizes = [path.stat().st_size for path in paths.values()]
    assert max(sizes) <= 12e6 and sum(sizes) <= 40e6
    assert all(path.with_suffix(".md").is_file() for path in paths.values())


def test_weights_are_found_by_name_or_path(tmp_path):
    assert (
        find_weights("heads", "generator_", "a generator") == shipped_weights("")["generator_heads"]
    )
    (tmp_path / "own").touch()
    assert find_weights(tmp_path / "own", "generator_", "a generator") == tmp_path / "own"
    with pytest.raises(ValueError, match=r"expected a prior's file or one of .*stalk.*, found no"):
        find_weights("heads", "motion_", "a prior")


@pytest.mark.parametrize("write", [write_zip, write_stream])
def test_files_of_torch_are_read_whatever_their_name(tmp_path, write):
    write(tmp_path / "few.safetensors", *program_of(FEW))
    assert_same(read_entries(tmp_path / "few.safetensors"), FEW)


def test_safetensors_are_read_whatever_their_name(tmp_path):
    arrays = FEW | {"half": np.ones(3, ml_dtypes.bfloat16), "count": np.array([2**40])}
    safetensors.numpy.save_file(arrays, tmp_path / "few.pth")
    found = read_entries(tmp_path / "few.pth")
    assert_same({name: found[name] for name in arrays}, arrays)


def test_a_header_whose_length_looks_like_a_pickle_is_still_safetensors(tmp_path):
    path = tmp_path / "x.safetensors"
    for pad in range(256):
        safetensors.numpy.save_file({"x": np.arange(3)}, path, {"pad": pad * "-"})
        if path.read_bytes()[:1] == b"\x80":
            break
    assert path.read_bytes()[:1] == b"\x80"
    assert_same(read_entries(path), {"x": np.arange(3)})


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 no", b"\x80\x02", b"\x80\x02}"])
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "bad.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected .*, found .*bad\.pth") as error:
        read_entries(path)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="expected a checkpoint, found nothing at"):
        read_entries(tmp_path / "none.pth")


def test_entries_that_do_not_fit_are_reported_by_name():
    shapes = {"w": (2, 3), "b": (2,)}
    good = {"b": np.zeros(2), "w": np.ones((2, 3)), "extra.x": np.zeros(1)}
    assert list(take_entries(good, shapes, "a layer", ("extra.",))) == ["w", "b"]
    with pytest.raises(ValueError, match=r"^expected a layer, found unknown extra\.x$"):
        take_entries(good, shapes, "a layer")
    with pytest.raises(ValueError, match=r"^expected a layer, found no w; no b$"):
        take_entries({}, shapes, "a layer")
    bad = {"w": np.zeros((3, 2)), "b": np.array([0, np.nan]), "c": np.zeros(1), "d": np.zeros(1)}
    message = (
        r"w of shape \(3, 2\) instead of \(2, 3\); b with values that are not finite; "
        r"unknown c; 1 more$"
    )
    with pytest.raises(ValueError, match=message):
        take_entries(bad, shapes, "a layer")


def test_what_a_file_says_about_itself_is_read_whatever_it_is(tmp_path):
    path, arrays = tmp_path / "x.safetensors", {"x": np.zeros(1, np.float32)}
    write_entries(path, arrays, "field", {"kind": "of grass"})
    assert read_about(path, "field") == {"kind": "of grass"}
    assert read_about(path, "forest") is None
    for broken in ("{", "[1]", "[" * 100_000):
        safetensors.numpy.save_file(arrays, path, {"field": broken})
        assert read_about(path, "field") == {}
    write_zip(path, *program_of(FEW))
    assert read_about(path, "field") is None
    assert read_about(tmp_path / "none", "field") is None
