"""The same training in processes of their own that count one device, or many."""

import os
import pathlib
import subprocess
import sys

import numpy as np


def losses(code: str, devices: int) -> np.ndarray:
    """Runs code that prints losses, where tests and rooms can be imported; returns them."""
    root = pathlib.Path(__file__).parents[1]
    paths = os.pathsep.join([str(root), str(root / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ
        | {"PYTHONPATH": paths, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return np.array(done.stdout.split(), float)
