"""Lenses: one table for every format, and what a lens is in a photo of another size.

Pixels are those of `camera.py`: the centre of the top left one is at (0.5, 0.5).

Sources: COLMAP's documentation, "Camera Models"; OpenCV's, "Camera Calibration and 3D
Reconstruction" and "Fisheye camera model".
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

# COLMAP's models by number; f is one focal length for both axes.
MODELS = (
    ("SIMPLE_PINHOLE", "f cx cy"),
    ("PINHOLE", "fx fy cx cy"),
    ("SIMPLE_RADIAL", "f cx cy k1"),
    ("RADIAL", "f cx cy k1 k2"),
    ("OPENCV", "fx fy cx cy k1 k2 p1 p2"),
    ("OPENCV_FISHEYE", "fx fy cx cy k1 k2 k3 k4"),
    ("FULL_OPENCV", "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6"),
    ("FOV", "fx fy cx cy omega"),
    ("SIMPLE_RADIAL_FISHEYE", "f cx cy k1"),
    ("RADIAL_FISHEYE", "f cx cy k1 k2"),
    ("THIN_PRISM_FISHEYE", "fx fy cx cy k1 k2 p1 p2 k3 k4 sx1 sy1"),
    ("RAD_TAN_THIN_PRISM_FISHEYE", "fx fy cx cy k0 k1 k2 k3 k4 k5 p0 p1 s0 s1 s2 s3"),
)
_PERSPECTIVE_TERMS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
_FISHEYE_TERMS = ("k1", "k2", "k3", "k4")
_SAME_RATIO = 5e-3  # of the sides of model and photo, which were rounded to pixels


class Distortion(NamedTuple):
    """How a lens bends what a pinhole would show; see `undistort.distort`."""

    terms: tuple[float, ...] = (0.0,) * 8  # of OpenCV: k1 k2 p1 p2 k3 k4 k5 k6; fisheye: k1 to k4
    is_fisheye: bool = False

    @property
    def is_none(self) -> bool:
        """Whether the lens is a pinhole. A fisheye is none, whatever its terms."""
        return not self.is_fisheye and not any(self.terms)


class Intrinsics(NamedTuple):
    """A lens as a file describes it; what it leaves open follows from the photo's size."""

    focal: tuple[float | None, float | None]  # pixels, over the width and over the height
    angle: tuple[float | None, float | None] = (None, None)  # radians, where focal is None
    center: tuple[float | None, float | None] = (None, None)  # pixels; None: the middle
    size: tuple[int, int] | None = None  # width and height that all this is said of
    distortion: Distortion = Distortion()


class Lens(NamedTuple):
    """A lens in a picture of a known size."""

    focal: np.ndarray  # [2] pixels
    center: np.ndarray  # [2] pixels
    size: tuple[int, int]  # width and height, pixels
    distortion: Distortion


def distortion_of(model: str, terms: Mapping[str, float]) -> Distortion:
    """Makes the distortion of a lens of COLMAP's `model`.

    Args:
      model: its name.
      terms: by name, without focal lengths and centre.

    Raises:
      ValueError: the model is unknown, or bends by a term that is not known here.
    """
    names = [name for name, _ in MODELS]
    if model not in names:
        raise ValueError(f"expected a lens among {', '.join(names)}, found {model}; {_WAY_OUT}")
    is_fisheye = "FISHEYE" in model
    if is_fisheye:
        known = _FISHEYE_TERMS
    else:
        # Behind k4 stand a numerator here and a denominator there, unless the model says which.
        known = _PERSPECTIVE_TERMS[: None if model == "FULL_OPENCV" else 5]
    for name, value in terms.items():
        is_bent_otherwise = name not in known or model == "RAD_TAN_THIN_PRISM_FISHEYE"
        if value and is_bent_otherwise:
            raise ValueError(f"expected no {name} of a {model} lens, found {value}; {_WAY_OUT}")
    order = _FISHEYE_TERMS if is_fisheye else _PERSPECTIVE_TERMS
    values = tuple(float(terms.get(name, 0.0)) for name in order)
    return Distortion((*values, *[0.0] * (8 - len(values))), is_fisheye)


_WAY_OUT = "undistort the photos with `colmap image_undistorter`"


def lens_of(intrinsics: Intrinsics, size: tuple[int, int]) -> Lens:
    """Returns the lens in the pixels of a picture of `size`, width and height."""
    said_of = intrinsics.size or size
    focal = []
    for i in range(2):
        if intrinsics.focal[i] is None and intrinsics.angle[i] is not None:
            focal.append(0.5 * said_of[i] / np.tan(0.5 * intrinsics.angle[i]))
        else:
            focal.append(intrinsics.focal[i])
    focal = [one or other for one, other in (focal, focal[::-1])]
    middle = 0.5 * said_of[0], 0.5 * said_of[1]
    center = [m if c is None else c for c, m in zip(intrinsics.center, middle, strict=True)]
    lens = Lens(np.array(focal), np.array(center), said_of, intrinsics.distortion)
    return scale_lens(lens, size)


def scale_lens(lens: Lens, size: tuple[int, int]) -> Lens:
    """Returns the lens of the same view in a picture of another size, width and height."""
    share = np.array(size) / lens.size
    return lens._replace(focal=lens.focal * share, center=lens.center * share, size=tuple(size))


def is_same_view(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Tells whether a picture of one size may be one of the other size made larger or smaller.

    The sides have one ratio, or one whole factor, up to rounding.
    """
    (w, h), (large_w, large_h) = sorted((size, other))
    if abs(w * large_h / (h * large_w) - 1.0) < _SAME_RATIO:
        return True
    factor = round(large_w / w)
    return factor > 1 and abs(large_w / factor - w) < 1 and abs(large_h / factor - h) < 1
