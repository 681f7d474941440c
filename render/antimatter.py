"""Splats as .splat, 32 bytes each, without a header and without harmonics beyond the constant.

Of each Gaussian: three floats of its mean, three of its standard deviations, a byte each of red,
green, blue and opacity, and four bytes of its quaternion wxyz, -1 to 1 as 0 to 255 about 128.

Axes: N Gaussians.

Source: antimatter15, the viewer "splat" whose format it is.
"""

import numpy as np

from render import harmonics
from render.gaussians import Gaussians
from render.quantized import logits_of
from render.refused_files import CUT_SHORT, RefusedFileError

_ROW = np.dtype([("mean", "<f4", 3), ("std", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])
_SOUND = 0.9  # share of the rows of any such file that hold what a Gaussian can
_UNIT = (0.9, 1.1)  # length of a quaternion, rounded to bytes
_FLATTEST = 1e-9  # metres: what has no thickness has no logarithm


def is_antimatter(content: bytes) -> bool:
    """Tells whether content, or its beginning, is of this format: nothing else looks like it."""
    rows = np.frombuffer(content, _ROW, len(content) // _ROW.itemsize)
    if not len(rows):
        return False
    length = np.linalg.norm(_quats(rows), axis=-1)
    with np.errstate(all="ignore"):
        is_sound = np.isfinite(rows["mean"]).all(-1) & np.isfinite(rows["std"]).all(-1)
        is_sound &= np.all(np.abs(rows["mean"]) < 1e9, -1) & np.all(rows["std"] < 1e9, -1)
        is_sound &= np.all(rows["std"] >= 0, -1) & np.any(rows["std"] > 1e-12, -1)
    is_sound &= (length > _UNIT[0]) & (length < _UNIT[1])
    return bool(np.mean(is_sound) > _SOUND)


def unpack_antimatter(content: bytes) -> Gaussians:
    """Reads the content of a file.

    Raises:
      ValueError: when it is not a whole number of rows.
    """
    if len(content) % _ROW.itemsize:
        raise RefusedFileError(
            f"expected {_ROW.itemsize} bytes of each Gaussian in .splat, found {len(content)}",
            CUT_SHORT,
        )
    rows = np.frombuffer(content, _ROW)
    colors = rows["rgba"][:, :3] / 255.0
    return Gaussians(
        means=rows["mean"],
        quats=_quats(rows),
        log_scales=np.log(np.maximum(rows["std"], _FLATTEST)),
        logit_opacities=logits_of(rows["rgba"][:, 3]),
        harmonics=((colors - 0.5) / harmonics.CONSTANT)[:, None],
    )


def _quats(rows: np.ndarray) -> np.ndarray:
    return (rows["quat"].astype(np.float64) - 128.0) / 128.0
