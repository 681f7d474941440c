import dataclasses
import json
import math
import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from scripts.shell import settings


@dataclasses.dataclass(frozen=True)
class Config:
    rates: tuple[float, ...] = (0.1, math.inf)
    count: int = 3


def test_every_flag_of_the_command_is_written_and_resolved_values_go_before(monkeypatch, tmp_path):
    values = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", values)
    monkeypatch.setattr(sys, "argv", ["/there/learn.py"])
    define = {"flag_values": values, "module_name": "/there/learn.py"}
    flags.DEFINE_string("capture", "photos", "", **define)
    flags.DEFINE_integer("width", None, "", **define)
    flags.DEFINE_string("wing", "ours", "", flag_values=values, module_name="scripts.viewing.x")
    flags.DEFINE_string("verbosity", "theirs", "", flag_values=values, module_name="absl.logging")
    settings.write_settings(tmp_path, width=12, training=Config(), at=pathlib.Path("/a"))
    found = json.loads((tmp_path / "config.json").read_text())
    assert found["command"] == "learn" and found["capture"] == "photos" and found["wing"] == "ours"
    assert found["width"] == 12 and found["at"] == "/a" and "verbosity" not in found
    assert found["training"] == {"rates": [0.1, "inf"], "count": 3}
    assert found["versions"].keys() >= {"mien", "jax"} and found["device"]["platform"] == "cpu"


def test_settings_read_back_as_they_are_compared(tmp_path):
    given = {"n": np.float32(0.1), "array": jnp.arange(2), "nested": {"t": (1, -math.inf)}}
    plain = settings.as_json(given)
    assert json.loads(json.dumps(plain)) == plain
    settings.check_settings(tmp_path, plain | {"more": 1}, plain)
    with pytest.raises(ValueError, match=r"run in .*, nested.t of \[2\], found \[1, '-inf'\]"):
        settings.check_settings(tmp_path, plain | {"nested": {"t": [2]}}, plain)
