"""Elements of .ply: text says what binary says, and lists are passed by."""

import numpy as np
import pytest

from render.ply_elements import unpack_ply

KINDS = {"x": "f4", "y": "f8", "count": "i4", "byte": "u1"}
TYPES = {"f4": "float", "f8": "double", "i4": "int", "u1": "uchar"}
ROWS = [(1.5, -2.25, -7, 255), (1e-30, 3e38, 123456, 0), (np.nan, np.inf, 0, 1)]


def table(order="<"):
    return np.array(ROWS, [(name, order + kind) for name, kind in KINDS.items()])


def header(form, elements):
    lines = ["ply", f"format {form} 1.0"]
    for name, count, properties in elements:
        lines += [f"element {name} {count}", *(f"property {text}" for text in properties)]
    return "\n".join([*lines, "end_header", ""]).encode()


VERTEX = ("vertex", len(ROWS), [f"{TYPES[kind]} {name}" for name, kind in KINDS.items()])


def text_of(rows):
    return b"\n".join(" ".join(f"{v:.9g}" for v in row).encode() for row in rows) + b"\n"


def binary(order, lists):
    """A file with an element of lists and one number before its vertices."""
    form = "binary_little_endian" if order == "<" else "binary_big_endian"
    face = ("face", len(lists), ["list uchar int corners", "float weight"])
    weight = np.array(2.0, order + "f4").tobytes()
    rows = [bytes([len(one)]) + np.array(one, order + "i4").tobytes() + weight for one in lists]
    return header(form, [face, VERTEX]) + b"".join(rows) + table(order).tobytes()


ALIKE, UNLIKE, EMPTY = [[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [], [4, 5]], []


def assert_rows(found):
    assert found.dtype.names == tuple(KINDS)
    for name in KINDS:
        np.testing.assert_array_equal(found[name], table()[name])


def test_text_says_what_binary_says():
    content = header("ascii", [VERTEX]) + text_of(ROWS)
    assert_rows(unpack_ply(content)["vertex"])
    one_line = header("ascii", [VERTEX]) + text_of(ROWS).replace(b"\n", b"\t ")
    assert_rows(unpack_ply(one_line)["vertex"])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("lists", [ALIKE, UNLIKE, EMPTY])
def test_lists_before_the_vertices_are_passed_by(order, lists):
    assert_rows(unpack_ply(binary(order, lists))["vertex"])


@pytest.mark.parametrize("lists", [ALIKE, UNLIKE])
def test_lists_of_a_text_are_passed_by(lists):
    face = ("face", len(lists), ["list uchar int corners", "float weight"])
    body = text_of([[len(one), *one, 2.0] for one in lists])
    content = header("ascii", [face, VERTEX]) + body + text_of(ROWS)
    assert_rows(unpack_ply(content)["vertex"])


def test_lists_of_one_length_among_the_vertices_leave_the_columns():
    rows = b"".join(np.array([i], "<f4").tobytes() + bytes([2, 7, 8]) for i in range(3))
    content = header("binary_little_endian", [("vertex", 3, ["float x", "list uchar uchar n"])])
    np.testing.assert_array_equal(unpack_ply(content + rows)["vertex"]["x"], [0, 1, 2])


def test_a_header_may_be_long():
    comments = b"comment " + b"how this came about " * 40 + b"\n"
    content = header("binary_little_endian", [VERTEX]).replace(
        b"element", comments * 500 + b"element"
    )
    assert len(content) > 400_000
    assert_rows(unpack_ply(content + table().tobytes())["vertex"])


LIST = [("face", 2, ["list char int corners"])]
REFUSED = {
    "a word among numbers": (header("ascii", [VERTEX]) + b"1 2 three 4", "expected numbers"),
    "text cut short": (
        header("ascii", [VERTEX]) + b"1 2 3",
        "12 numbers of element vertex, found 3",
    ),
    "many rows of nothing": (
        header("ascii", [("face", 10**17, ["list int int a"])]),
        "rows of elem",
    ),
    "lists cut short": (
        header("binary_little_endian", LIST) + bytes([1, 0, 0]),
        "expected 2 rows of element face, found 0",
    ),
    "many lists": (
        header("binary_big_endian", [("face", 10**17, LIST[0][2])]) + bytes(40),
        "rows of element face, found 40",
    ),
    "a list of negative length": (
        header("binary_little_endian", LIST) + bytes([255, 0]),
        "expected lists in element face, found one of length -1",
    ),
    "a text's list of negative length": (header("ascii", LIST) + b"-1 2 3", "one of length -1"),
    "a list of half a length": (
        header("ascii", [("a", 1, ["list float int b"])]),
        "found the line",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_whole_is_refused(case):
    content, reason = REFUSED[case]
    with pytest.raises(ValueError, match=reason):
        unpack_ply(content)
