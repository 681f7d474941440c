"""Short pickles that would keep their reader busy for ever, or fill its memory."""

import numpy as np
import pytest
import stylegan_pickles as files
from test_official_pickle import refusal
from torch_files import call, constant, named

from render.pickle_io import pickled_arrays

LONG = np.zeros(4000, np.float32)
NETWORK = named("dnnlib.tflib.network", "Network")


def endless():
    """A dict whose class says that its keys never end: each next one is the class's own object."""
    same = named("torch._utils", "_rebuild_parameter")
    cls = named("dnnlib.util", "EasyDict") + b"q\x01N"
    cls += files.listed({"__iter__": same, "__next__": same, "keys": same}) + b"\x86b"
    parameters = cls + b"0h\x01)R"
    return files.described({"state": files.listed({"_parameters": parameters})})


def doubled(times):
    """Pairs of the same pair, over and over: a short file, a text without end."""
    return constant("ha") + times * b"2\x86"


def large_from_small():
    """Many arrays of one storage."""
    storage = call(named("torch.storage", "_load_from_bytes"), files.raw(files.block(LONG)))
    entries = {"x0": files.tensor(storage + b"q\x09", LONG.shape, (1,))}
    entries |= {f"x{n}": files.tensor(b"h\x09", LONG.shape, (1,)) for n in range(1, 4)}
    state = files.listed({"_parameters": files.listed(entries)})
    return files.described({"class_name": constant("Layer"), "state": state})


def holding_one_another(depth, empty, wrapped):
    """A dict of thirty times the same dict of thirty times the same, and so on."""
    made = wrapped(empty)
    for level in range(depth):
        inner = {f"p{n}": b"h" + bytes([2 + level]) for n in range(30)}
        made += b"q" + bytes([2 + level]) + b"0" + wrapped(files.listed(inner))
    return made


def of_tensorflow(parts):
    entries = {"build_func_name": constant("G"), "static_kwargs": b"}", "components": parts}
    return NETWORK + b")\x81" + files.listed(entries) + b"b"


BOMBS = {
    "'state'": endless,
    "a tuple as the name of a class": lambda: files.described(
        {"state": b"}", "class_name": doubled(60)}
    ),
    "G_ema of 64000 bytes in a file of": large_from_small,
    "too large for any setting": lambda: files.module("Layer", up=10**400),
}


@pytest.mark.parametrize("message", BOMBS)
def test_they_are_refused_at_once(tmp_path, message):
    assert message in refusal(tmp_path, files.pickled({"G_ema": BOMBS[message]()}))


def test_networks_of_tensorflow_are_each_in_one_place(tmp_path):
    network = holding_one_another(7, b"}", of_tensorflow)
    content = b"\x80\x03" + network + 2 * b"2" + b"\x87."
    assert "in two places" in refusal(tmp_path, content)


def test_dicts_in_dicts_are_gone_through_once():
    content = b"\x80\x03" + holding_one_another(7, constant({"x": 1.5}), bytes) + b"."
    assert list(pickled_arrays(content).values()) == [1.5]


def test_what_a_terminal_would_obey_is_not_shown(tmp_path):
    message = refusal(tmp_path, b"\x80\x03" + named("\x1b[2J" + 500 * "a", "b") + b".")
    assert "asks for ?[2Jaaa" in message and message.isprintable()
