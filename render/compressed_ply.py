"""Splats as compressed .ply: 16 bytes each within the bounds of a chunk of neighbours.

Axes: N Gaussians, C = 256 of them a chunk.

Source: PlayCanvas, the compressed layout of splat-transform.
"""

import jax
import numpy as np

from render import harmonics
from render.gaussians import Gaussians
from render.ply_elements import columns, pack_ply
from render.quantized import (
    alphas_of,
    drawable,
    drop_largest,
    join_codes,
    logits_of,
    restore_largest,
    split_codes,
    to_codes,
)
from render.standard_ply import channels_first, count_rest, join_harmonics, numbered

_CHUNK = 256
_BOUNDS = [f"{end}_{name}" for end in ("min", "max") for name in "xyz"]
_BOUNDS += [f"{end}_scale_{name}" for end in ("min", "max") for name in "xyz"]
_COLOR_BOUNDS = [f"{end}_{name}" for end in ("min", "max") for name in "rgb"]
_PACKED = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]
_STEPS = np.array([2047, 1023, 2047, 2047, 1023, 2047, 255, 255, 255])  # of x y z, scales, colours


def unpack_compressed(elements: dict[str, np.ndarray]) -> Gaussians:
    vertices, chunks = elements["vertex"], elements["chunk"]
    packed = columns(vertices, _PACKED, "u")
    if len(chunks) != -(-len(packed) // _CHUNK):
        raise ValueError(f"expected a chunk for {_CHUNK} splats, found {len(chunks)} chunks")
    rest = np.empty([len(packed), 0])
    if "sh" in elements:
        num_rest = count_rest(elements["sh"].dtype.names or ())
        rest = columns(elements["sh"], numbered("f_rest", num_rest), "u") if num_rest else rest
    if len(rest) != len(packed):
        raise ValueError(f"expected {len(packed)} rows of element sh, found {len(rest)}")
    bounds = columns(chunks, _BOUNDS, "f").reshape(-1, 2, 2, 3)  # chunk, group, end, axis
    if "min_r" in (chunks.dtype.names or ()):
        colors = columns(chunks, _COLOR_BOUNDS, "f").reshape(-1, 1, 2, 3)
    else:  # files of the first years
        colors = np.broadcast_to(np.array([[0.0], [1.0]]), [len(chunks), 1, 2, 3])
    bounds = np.concatenate([bounds, colors], 1, dtype=np.float64)
    low, high = bounds[:, :, 0].reshape(-1, 9), bounds[:, :, 1].reshape(-1, 9)
    position, rotation, scale, color = packed.T
    fields = [position >> 21, position >> 11, position, scale >> 21, scale >> 11, scale]
    fields += [color >> 24, color >> 16, color >> 8]
    unit = (np.stack(fields, -1) & _STEPS) / _STEPS
    chunk = np.arange(len(packed)) // _CHUNK
    values = low[chunk] + unit * (high - low)[chunk]
    largest, codes = split_codes(rotation)
    return Gaussians(
        means=values[:, :3],
        quats=restore_largest(largest, codes / 1023.0 * 2.0 - 1.0),
        log_scales=values[:, 3:6],
        logit_opacities=logits_of(color & 255),
        harmonics=join_harmonics(
            (values[:, 6:] - 0.5) / harmonics.CONSTANT, (rest + 0.5) / 32.0 - 4.0
        ),
    )


def pack_compressed(gaussians: Gaussians) -> bytes:
    gaussians = drawable(gaussians)
    order = _morton_order(gaussians.means)
    gaussians = jax.tree.map(lambda values: values[order], gaussians)
    colors = 0.5 + harmonics.CONSTANT * gaussians.harmonics[:, 0]
    scales = np.clip(gaussians.log_scales, -20.0, 20.0)  # an infinite one would take all steps
    values = np.concatenate([gaussians.means, scales, colors], -1)
    starts = np.arange(0, len(values), _CHUNK)
    low = np.minimum.reduceat(values, starts).astype("<f4")
    high = np.maximum.reduceat(values, starts).astype("<f4")
    bounds = np.stack([low.reshape(-1, 3, 3), high.reshape(-1, 3, 3)], 2).reshape(-1, 18)
    chunk = np.arange(len(values)) // _CHUNK
    span = high.astype(np.float64) - low
    unit = (values - low[chunk]) / np.where(span > 0.0, span, 1.0)[chunk]
    codes = np.round(np.clip(unit, 0.0, 1.0) * _STEPS).astype(np.uint32)
    x, y, z, scale_x, scale_y, scale_z, red, green, blue = codes.T
    largest, three = drop_largest(gaussians.quats)
    packed = [
        x << 21 | y << 11 | z,
        join_codes(largest, np.round((three + 1.0) / 2.0 * 1023.0)),
        scale_x << 21 | scale_y << 11 | scale_z,
        red << 24 | green << 16 | blue << 8 | alphas_of(gaussians.logit_opacities),
    ]
    rest = np.floor(channels_first(gaussians.harmonics) * 32.0 + 128.0)
    elements = [
        ("chunk", _BOUNDS + _COLOR_BOUNDS, bounds),
        ("vertex", _PACKED, np.stack(packed, -1).astype("<u4")),
        ("sh", numbered("f_rest", rest.shape[1]), to_codes(rest)),
    ]
    return pack_ply(*elements if rest.shape[1] else elements[:2])


def _morton_order(means: np.ndarray) -> np.ndarray:
    """Orders points [N, 3] along a curve on which neighbours in space are near each other."""
    low = means.min(0, initial=np.inf)
    span = (means - low).max(initial=1e-30)
    cells = ((means - low) / span * (2**21 - 1)).astype(np.uint64)
    code = np.zeros(len(means), np.uint64)
    for bit in range(21):
        for axis in range(3):
            code |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return np.argsort(code, kind="stable")
