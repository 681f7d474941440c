"""Reads model files that are pickles of arrays; `render.pickle_io` executes nothing in them."""

import io
import math
import os
import pathlib

import numpy as np
from numpy.typing import NDArray

from recon.formats.raw_model import guarded, refuse
from render.pickle_io import pickled_arrays

_PICKLE = "a pickle of arrays"
_NPY_MAGIC = b"\x93NUMPY"


def read_pickle(path: os.PathLike) -> dict[str, NDArray]:
    """Reads the arrays that a pickled dict holds, by name; what is no array is left out.

    Args:
      path: a pickle, or an `.npy` file whose only entry is a pickled dict.

    Raises:
      ValueError: one line, when the file is damaged, or asks for anything but arrays.
    """
    path = pathlib.Path(path)
    return guarded(path, _PICKLE, lambda: pickled_arrays(_pickle_in(path)))


def _pickle_in(path: pathlib.Path) -> bytes:
    """Returns the bytes of a file from where its pickle begins."""
    stream = io.BytesIO(path.read_bytes())
    if stream.getvalue()[:6] == _NPY_MAGIC:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
        if dtype.kind != "O" or math.prod(shape) != 1:
            raise refuse(path, "a dict in an .npy file", f"an array {shape} of {dtype}")
    return stream.read()
