"""Arrays of MATLAB files come back; damaged files end in one line, and nothing else ends."""

import struct
import zlib

import numpy as np
import pytest
import scipy.io

from recon.formats.matlab_io import read_matlab

RNG = np.random.default_rng(0)
VALUES = {
    "doubles": RNG.normal(size=(3, 4)),
    "singles": RNG.normal(size=(5, 2)).astype(np.float32),
    "bytes": RNG.integers(0, 255, (2, 3), dtype=np.uint8),
    "longs": RNG.integers(-(2**40), 2**40, (1, 6)),
    "cube": RNG.normal(size=(2, 3, 4)),
    "one": np.array([[7.0]]),
    "empty": np.zeros((0, 3)),
    "long_name_of_an_array": np.arange(6.0).reshape(2, 3),
}


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_come_back_as_they_were_written(tmp_path, compressed):
    scipy.io.savemat(tmp_path / "m.mat", VALUES, do_compression=compressed, long_field_names=True)
    found = read_matlab(tmp_path / "m.mat")
    assert list(found) == list(VALUES)
    for name, value in VALUES.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


def test_structs_are_dicts_and_what_is_no_full_array_of_numbers_is_passed_over(tmp_path):
    others = {
        "text": "letters",
        "cells": np.array([1, "a"], dtype=object),
        "sparse": scipy.sparse.eye(3).tocsc(),
        "complex": np.array([1j]),
        "structs": np.array([(1.0,), (2.0,)], dtype=[("a", object)]),
    }
    values = others | {"s": {"x": np.eye(2), "t": {"y": np.ones((1, 3))}, "name": "text"}}
    scipy.io.savemat(tmp_path / "m.mat", values)
    found = read_matlab(tmp_path / "m.mat")
    assert list(found) == ["s"] and list(found["s"]) == ["x", "t"]
    np.testing.assert_array_equal(found["s"]["x"], np.eye(2))
    np.testing.assert_array_equal(found["s"]["t"]["y"], np.ones((1, 3)))


def element(kind, data, order="<"):
    return struct.pack(f"{order}II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def matrix(name, shape, stored, kind=6, order="<"):
    """A matrix as MATLAB writes it: flags, shape, name, and numbers (type and bytes)."""
    parts = element(6, struct.pack(f"{order}II", kind, 0), order)
    parts += element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    parts += element(1, name, order) + element(*stored, order)
    return element(14, parts, order)


def write(path, *elements, order="<"):
    mark = b"IM" if order == "<" else b"MI"
    path.write_bytes(b"MATLAB 5.0".ljust(124) + struct.pack(f"{order}H", 0x100) + mark)
    with open(path, "ab") as file:
        file.writelines(elements)
    return path


def test_whole_doubles_are_stored_in_bytes_and_files_come_from_either_kind_of_machine(tmp_path):
    for order in "<>":
        stored = (4, struct.pack(f"{order}3H", 1, 500, 3))
        content = matrix(b"tl", (1, 3), stored, order=order)
        (found,) = read_matlab(write(tmp_path / "m.mat", content, order=order)).values()
        np.testing.assert_array_equal(found, [[1.0, 500.0, 3.0]])
        assert found.dtype == np.float64


def test_what_a_file_says_of_itself_is_not_trusted(tmp_path):
    eight = (9, bytes(64))
    bombs = {
        "of shape": matrix(b"a", (1 << 30, 1 << 30), eight),
        "shape (-1": matrix(b"a", (-1, -8), eight),
        "numbers of type 0": matrix(b"a", (2, 4), (0, bytes(64))),
        "cut short": struct.pack("<II", 14, 0xFFFFFFF0) + bytes(64),
        "promised in": element(15, zlib.compress(struct.pack("<II", 14, 0xFFFFFFF0))),
        "ends early": element(14, element(6, struct.pack("<II", 6, 0))),
        "no number": element(14, element(6, b"") + element(5, bytes(8))),
    }
    for reason, content in bombs.items():
        with pytest.raises(ValueError, match=r"m\.mat: expected a MATLAB file.*") as caught:
            read_matlab(write(tmp_path / "m.mat", content))
        assert reason in str(caught.value) and "\n" not in str(caught.value)
