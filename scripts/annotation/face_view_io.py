"""The file beside a view of the mean face, which says how strokes on the view find back."""

import os

import numpy as np

from recon.morphable import MorphableModel
from render.camera import Camera
from render.files_io import read_object, write_json

_WHAT = "the .json that was written with the view"
_SHAPES = {"rotation": (3, 3), "translation": (3,), "focal": (2,), "center": (2,)}
_MOST_SIDE = 8192  # pixels


def write_view(path: str | os.PathLike, model: MorphableModel, camera: Camera) -> None:
    """Writes the orthographic camera of a view, and what model it shows."""
    data = {"model": model.name, "num_vertices": len(model.mean)}
    data |= {name: np.asarray(getattr(camera, name)) for name in _SHAPES}
    write_json(path, data | {"width": camera.width, "height": camera.height})


def read_view(path: str | os.PathLike, model: MorphableModel) -> Camera:
    """Reads the camera of a view of `model`.

    Raises:
      ValueError: no such file, a broken one, or a view of another model.
    """
    data = read_object(path, _WHAT)
    num_vertices = len(model.mean)
    if data.get("num_vertices") != num_vertices:
        raise ValueError(
            f"{path}: expected a view of a model of {num_vertices} vertices, "
            f"found {data.get('num_vertices')!r} ('{data.get('model')}')"
        )
    fields = {}
    for name, shape in _SHAPES.items():
        try:
            values = np.array(data.get(name), np.float32)
        except (TypeError, ValueError):
            values = np.empty(0)
        if values.shape != shape or not np.isfinite(values).all():
            raise ValueError(f"{path}: expected {_WHAT}, found no {name} of shape {shape}")
        fields[name] = values
    sides = data.get("width"), data.get("height")
    if not all(type(side) is int and 0 < side <= _MOST_SIDE for side in sides):
        raise ValueError(f"{path}: expected {_WHAT}, found sides of {sides}")
    return Camera(**fields, width=sides[0], height=sides[1], orthographic=True)
