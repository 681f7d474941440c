"""Splat scenes as .spz, versions 2 and 3.

Such a file has y up and z backwards, scenes elsewhere y down and z forward: half a turn about x on
the way in and out. gsply, the library for it, leaves that out and brings 200 MB of dependencies.

Axes: N Gaussians, M harmonics.

Source: Niantic, the description of .spz.
"""

import gzip
import struct
import zlib

import numpy as np

from render import harmonics
from render.gaussians import Gaussians
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

MAGIC = b"NGSP"
_HEADER = struct.Struct("<4sIIBBBB")  # magic, version, N, degree, bits, flags, reserved
_COLOR = 0.15 * 255.0
# Half a turn about x, of points, of quaternions wxyz and of harmonics.
_TURN = np.array([1, -1, -1])
_TURN_QUATS = np.array([1, 1, -1, -1])
_TURN_HARMONICS = np.array([1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1])[:, None]


def unpack_spz(content: bytes) -> Gaussians:
    """Reads the content of a file.

    Raises:
      ValueError: when it is none, not whole, or of another version.
    """
    if content.startswith(MAGIC):
        version = int.from_bytes(content[4:8], "little")
        raise ValueError(f"expected .spz of version 2 or 3, found version {version}")
    header = _inflate(content, _HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(MAGIC):
        raise ValueError("expected .spz, found something else compressed by gzip")
    _, version, count, degree, bits, _, _ = _HEADER.unpack(header)
    if version not in (2, 3):
        raise ValueError(f"expected .spz of version 2 or 3, found version {version}")
    if degree > harmonics.MAX_DEGREE:
        raise ValueError(f"expected harmonics of degree 0 to 3, found degree {degree}")
    num_rest = 3 * ((degree + 1) ** 2 - 1)
    widths = np.array([9, 1, 3, 3, version + 1, num_rest])  # bytes of a Gaussian in each section
    num_bytes = _HEADER.size + count * int(widths.sum())
    body = _inflate(content, num_bytes)
    if len(body) < num_bytes:
        raise ValueError(f"expected {num_bytes} bytes in .spz, found {len(body)}")
    body = np.frombuffer(body, np.uint8, offset=_HEADER.size)
    sections = np.split(body, count * np.cumsum(widths)[:-1])
    positions, alphas, colors, scales, rotations, rest = (
        section.reshape(count, width) for section, width in zip(sections, widths, strict=True)
    )
    # Three bytes become the upper ones of four: the shift back down carries the sign.
    words = np.zeros([count, 3, 4], np.uint8)
    words[..., 1:] = positions.reshape(count, 3, 3)
    means = (words.view("<i4")[..., 0] >> 8) * 2.0**-bits
    if version == 2:
        xyz = rotations / 127.5 - 1.0
        w = np.sqrt(np.maximum(1.0 - np.sum(xyz**2, -1, keepdims=True), 0.0))
        quats = np.concatenate([w, xyz], -1)
    else:
        largest, codes = split_codes(np.ascontiguousarray(rotations).view("<u4")[:, 0])
        three = (codes & 511) / 511.0 * np.where(codes >> 9, -1.0, 1.0)
        quats = np.roll(restore_largest(largest, three), 1, -1)
    coefficients = rest.reshape(count, num_rest // 3, 3) / 128.0 - 1.0
    constant = (colors - 127.5) / _COLOR
    coefficients = np.concatenate([constant[:, None], coefficients], 1)
    return Gaussians(
        means=means * _TURN,
        quats=quats * _TURN_QUATS,
        log_scales=scales / 16.0 - 10.0,
        logit_opacities=logits_of(alphas[:, 0]),
        harmonics=coefficients * _TURN_HARMONICS[: coefficients.shape[1]],
    )


def _inflate(content: bytes, max_bytes: int) -> bytes:
    """Decompresses up to `max_bytes`; memory follows what there is, not what is asked for."""
    try:
        return zlib.decompressobj(wbits=31).decompress(content, max_bytes)
    except zlib.error as error:
        raise ValueError(f"expected .spz, found broken compression ({error})") from None


def pack_spz(gaussians: Gaussians) -> bytes:
    """Makes the content of a file, in the finest steps that reach the farthest Gaussian."""
    gaussians = drawable(gaussians)
    count, num_harmonics, _ = gaussians.harmonics.shape
    farthest = np.abs(gaussians.means).max(initial=1.0)
    bits = int(np.clip(np.floor(np.log2((2**23 - 1) / farthest)), 12, 16))
    fixed = np.round(gaussians.means * _TURN * 2.0**bits)
    fixed = np.clip(fixed, -(2**23), 2**23 - 1).astype("<i4")
    coefficients = gaussians.harmonics * _TURN_HARMONICS[:num_harmonics]
    largest, three = drop_largest(np.roll(gaussians.quats * _TURN_QUATS, -1, -1))
    codes = np.round(np.abs(three) * 511.0) + np.where(three < 0.0, 512, 0)
    degree = harmonics.degree_of(num_harmonics)
    sections = [
        np.frombuffer(_HEADER.pack(MAGIC, 3, count, degree, bits, 0, 0), np.uint8),
        fixed.view(np.uint8).reshape(count, 3, 4)[..., :3],
        to_codes(alphas_of(gaussians.logit_opacities)),
        to_codes(coefficients[:, 0] * _COLOR + 127.5),
        to_codes((gaussians.log_scales + 10.0) * 16.0),
        join_codes(largest, codes).astype("<u4"),
        to_codes(coefficients[:, 1:] * 128.0 + 128.0),
    ]
    return gzip.compress(b"".join(section.tobytes() for section in sections), 6, mtime=0)
