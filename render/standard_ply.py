"""Splats as the .ply that 3D Gaussian splatting writes, and its kin with fewer scales.

Axes: N Gaussians, M harmonics, K = M - 1 of them beyond the constant.

Sources: Kerbl et al. 2023, the layout; Huang et al. 2024 (2D Gaussian splatting), whose discs have
two scales; isotropic ones, of SplaTAM, have one.
"""

from collections.abc import Sequence

import numpy as np

from render.gaussians import Gaussians
from render.ply_elements import columns, pack_ply

_FLATNESS = 1e-3  # thickness of a disc, of its smaller radius: thin to the eye, not to float32


def unpack_standard(vertices: np.ndarray) -> Gaussians:
    """Makes Gaussians of the rows [N] of element vertex.

    Raises:
      ValueError: when properties are missing, or harmonics are of a degree above three.
    """
    names = vertices.dtype.names or ()
    num_rest = count_rest(names)
    num_scales = 3
    if "scale_0" in names:
        num_scales = next(i for i in (1, 2, 3) if i == 3 or f"scale_{i}" not in names)
    table = columns(vertices, _names(num_rest, num_scales))
    means, constant, rest, logit_opacities, log_scales, quats = np.split(
        table, np.cumsum([3, 3, num_rest, 1, num_scales]), -1
    )
    if num_scales == 2:  # a disc across its third axis
        thickness = np.min(log_scales, -1, keepdims=True) + np.log(_FLATNESS)
        log_scales = np.concatenate([log_scales, thickness], -1)
    elif num_scales == 1:
        log_scales = np.repeat(log_scales, 3, -1)
    coefficients = join_harmonics(constant, rest)
    return Gaussians(means, quats, log_scales, logit_opacities[:, 0], coefficients)


def pack_standard(gaussians: Gaussians) -> bytes:
    """Makes the content of a file."""
    constant, rest = gaussians.harmonics[:, 0], channels_first(gaussians.harmonics)
    parts = [gaussians.means, constant, rest, gaussians.logit_opacities[:, None]]
    parts += [gaussians.log_scales, gaussians.quats]
    table = np.concatenate(parts, -1).astype("<f4")
    return pack_ply(("vertex", _names(rest.shape[1], 3), table))


def numbered(name: str, count: int) -> list[str]:
    """Returns name_0, name_1 and so on."""
    return [f"{name}_{i}" for i in range(count)]


def count_rest(names: Sequence[str]) -> int:
    """Returns how many properties f_rest there are, 3 K.

    Raises:
      ValueError: when they are not those of degree 0 to 3.
    """
    count = sum(name.startswith("f_rest_") for name in names)
    if count == 72:
        raise ValueError(
            "expected harmonics of degree 0 to 3, found degree 4 (72 properties f_rest): "
            "export with degree 3"
        )
    if count not in (0, 9, 24, 45):
        raise ValueError(f"expected 0, 9, 24 or 45 properties f_rest, found {count}")
    return count


def join_harmonics(constant: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Joins [N, 3] and [N, 3 K], channel after channel, to [N, M, 3]."""
    rest = rest.reshape(len(rest), 3, rest.shape[1] // 3)
    return np.concatenate([constant[:, None], rest.swapaxes(1, 2)], 1)


def channels_first(coefficients: np.ndarray) -> np.ndarray:
    """Lays [N, M, 3] out as [N, 3 K], channel after channel, without the constant."""
    num_rest = 3 * (coefficients.shape[1] - 1)
    return coefficients[:, 1:].swapaxes(1, 2).reshape(len(coefficients), num_rest)


def _names(num_rest: int, num_scales: int) -> list[str]:
    names = [*"xyz", *numbered("f_dc", 3), *numbered("f_rest", num_rest), "opacity"]
    return names + numbered("scale", num_scales) + numbered("rot", 4)
