"""Splat scenes as .spz, versions 1 to 4; written is version 3, which every program reads.

Such a file has y up and z backwards unless an extension says otherwise, scenes elsewhere y down and
z forward: half a turn about x on the way in and out. gsply, the library for it, leaves that out and
brings 200 MB of dependencies.

Axes: N Gaussians, M harmonics.

Source: Niantic, the descriptions of .spz 3 and 4 and of its extensions.
"""

import gzip
import struct
import zlib
from typing import NamedTuple

import numpy as np
import zstandard

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
from render.refused_files import CUT_SHORT, RefusedFileError
from render.spz_axes import turn_of

_MAGIC = b"NGSP"
_GZIP = b"\x1f\x8b"
_HEADER = struct.Struct("<4sIIBBBB")  # magic, version, N, degree, bits, flags, streams from 4 on
_HEADER_BYTES_4 = 32  # of version 4, where the offset of the table of its streams follows
_STREAM = struct.Struct("<QQ")  # bytes compressed, bytes decompressed
_HAS_EXTENSIONS = 2  # of the flags
_EXTENSION = struct.Struct("<II")  # type, bytes that follow
_COORDINATES = 0xADBE0003  # the extension that names the axes
_MAX_EXTENSIONS = 65_536  # bytes after the Gaussians that are looked at
_COLOR = 0.15 * 255.0
_UP_BACKWARDS = 4  # the axes where nothing else is said: x right, y up, z back
_PIECE = 1 << 20  # bytes that are decompressed at a time


class _Sections(NamedTuple):
    """The bytes of a file, decompressed."""

    version: int
    bits: int  # of the fraction of a coordinate
    axes: int  # in which it is, see `spz_axes`
    parts: list[np.ndarray]  # positions, alphas, colours, scales, rotations, harmonics, [N, bytes]


def is_spz(content: bytes) -> bool:
    """Tells by its beginning whether a file may be .spz."""
    return content.startswith((_GZIP, _MAGIC))


def unpack_spz(content: bytes) -> Gaussians:
    """Reads the content of a file.

    Raises:
      ValueError: when it is none, not whole, or of another version.
    """
    sections = _sections_of_4(content) if content.startswith(_MAGIC) else _sections_of_1_3(content)
    positions, alphas, colors, scales, rotations, rest = sections.parts
    coefficients = rest.reshape(len(rest), rest.shape[1] // 3, 3) / 128.0 - 1.0
    constant = (colors - 127.5) / _COLOR
    return turn_of(sections.axes).apply(
        Gaussians(
            means=_means(positions, sections),
            quats=_quats(rotations, sections.version),
            log_scales=scales / 16.0 - 10.0,
            logit_opacities=logits_of(alphas[:, 0]),
            harmonics=np.concatenate([constant[:, None], coefficients], 1),
        )
    )


def _widths(version: int, degree: int) -> list[int]:
    """Bytes of a Gaussian in each section."""
    if degree > harmonics.MAX_DEGREE:
        raise ValueError(
            f"expected harmonics of degree 0 to {harmonics.MAX_DEGREE}, found degree {degree}"
        )
    num_rest = 3 * ((degree + 1) ** 2 - 1)
    return [6 if version == 1 else 9, 1, 3, 3, 4 if version >= 3 else 3, num_rest]


def _sections_of_1_3(content: bytes) -> _Sections:
    """Reads the layout of versions 1 to 3: all in one stream of gzip."""
    header = _inflate(content, _HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        raise ValueError("expected .spz, found something else compressed by gzip")
    _, version, count, degree, bits, flags, _ = _HEADER.unpack(header)
    if version not in (1, 2, 3):
        raise ValueError(f"expected .spz of version 1 to 4, found version {version}")
    widths = _widths(version, degree)
    num_bytes = _HEADER.size + count * sum(widths)
    has_more = flags & _HAS_EXTENSIONS
    body = _inflate(content, num_bytes + (_MAX_EXTENSIONS if has_more else 0))
    if len(body) < num_bytes:
        raise RefusedFileError(f"expected {num_bytes} bytes in .spz, found {len(body)}", CUT_SHORT)
    axes = _axes_of(body[num_bytes:]) if has_more else _UP_BACKWARDS
    body = np.frombuffer(body, np.uint8, num_bytes - _HEADER.size, _HEADER.size)
    parts = np.split(body, count * np.cumsum(widths)[:-1])
    parts = [part.reshape(count, width) for part, width in zip(parts, widths, strict=True)]
    return _Sections(version, bits, axes, parts)


def _sections_of_4(content: bytes) -> _Sections:
    """Reads the layout of version 4: a stream of zstd for each section, none for empty ones."""
    if len(content) < _HEADER_BYTES_4:
        raise RefusedFileError(
            f"expected {_HEADER_BYTES_4} bytes of header in .spz, found {len(content)}", CUT_SHORT
        )
    _, version, count, degree, bits, flags, num_streams = _HEADER.unpack_from(content)
    if version != 4:
        raise ValueError(f"expected .spz of version 1 to 4, found version {version}")
    (table,) = struct.unpack_from("<I", content, _HEADER.size)
    start = table + num_streams * _STREAM.size
    widths = _widths(version, degree)
    num_wanted = sum(count * width > 0 for width in widths)
    if table < _HEADER_BYTES_4 or num_streams != num_wanted:
        raise ValueError(f"expected {num_wanted} streams in .spz, found {num_streams}")
    parts, streams = [], iter(range(num_streams))
    for width in widths:
        data = b""
        if count * width:
            place = table + next(streams) * _STREAM.size
            size, full_size = _STREAM.unpack_from(_slice(content, place, _STREAM.size))
            if full_size != count * width:
                raise ValueError(f"expected {count * width} bytes in .spz, found {full_size}")
            data = _decompress(_slice(content, start, size), full_size)
            start += size
        parts.append(np.frombuffer(data, np.uint8).reshape(count, width))
    has_more = flags & _HAS_EXTENSIONS
    axes = _axes_of(content[_HEADER_BYTES_4:table]) if has_more else _UP_BACKWARDS
    return _Sections(version, bits, axes, parts)


def _slice(content: bytes, start: int, size: int) -> bytes:
    found = content[start : start + size]
    if len(found) < size:
        raise RefusedFileError(
            f"expected {start + size} bytes of .spz, found {len(content)}", CUT_SHORT
        )
    return found


def _axes_of(records: bytes) -> int:
    """Returns the axes that the extensions name; those without a meaning here are skipped."""
    at = 0
    while at + _EXTENSION.size <= len(records):
        kind, size = _EXTENSION.unpack_from(records, at)
        at += _EXTENSION.size
        if kind == _COORDINATES and size >= 4 and at + 4 <= len(records):
            return struct.unpack_from("<I", records, at)[0] or _UP_BACKWARDS
        at += size
    return _UP_BACKWARDS


def _means(positions: np.ndarray, sections: _Sections) -> np.ndarray:
    if sections.version == 1:
        return np.ascontiguousarray(positions).view("<f2").astype(np.float64)
    # Three bytes become the upper ones of four: the shift back down carries the sign.
    words = np.zeros([len(positions), 3, 4], np.uint8)
    words[..., 1:] = positions.reshape(-1, 3, 3)
    return (words.view("<i4")[..., 0] >> 8) * 2.0**-sections.bits


def _quats(rotations: np.ndarray, version: int) -> np.ndarray:
    if version < 3:
        xyz = rotations / 127.5 - 1.0
        w = np.sqrt(np.maximum(1.0 - np.sum(xyz**2, -1, keepdims=True), 0.0))
        return np.concatenate([w, xyz], -1)
    largest, codes = split_codes(np.ascontiguousarray(rotations).view("<u4")[:, 0])
    three = (codes & 511) / 511.0 * np.where(codes >> 9, -1.0, 1.0)
    return np.roll(restore_largest(largest, three), 1, -1)


def _inflate(content: bytes, max_bytes: int) -> bytes:
    """Decompresses up to `max_bytes`; memory follows what there is, not what is asked for."""
    try:
        return zlib.decompressobj(wbits=31).decompress(content, max_bytes)
    except zlib.error as error:
        raise ValueError(f"expected .spz, found broken compression ({error})") from None


def _decompress(content: bytes, num_bytes: int) -> bytes:
    """Decompresses a stream of zstd piece by piece: memory follows what there is."""
    pieces, size = [], 0
    try:
        with zstandard.ZstdDecompressor().stream_reader(content) as reader:
            while size <= num_bytes and (piece := reader.read(_PIECE)):
                pieces.append(piece)
                size += len(piece)
    except zstandard.ZstdError as error:
        raise ValueError(f"expected .spz, found broken compression ({error})") from None
    if size != num_bytes:
        raise RefusedFileError(f"expected {num_bytes} bytes in .spz, found {size}", CUT_SHORT)
    return b"".join(pieces)


def pack_spz(gaussians: Gaussians) -> bytes:
    """Makes the content of a file, in the finest steps that reach the farthest Gaussian."""
    gaussians = drawable(gaussians)
    count, num_harmonics, _ = gaussians.harmonics.shape
    farthest = np.abs(gaussians.means).max(initial=1.0)
    bits = int(np.clip(np.floor(np.log2((2**23 - 1) / farthest)), 12, 16))
    gaussians = turn_of(_UP_BACKWARDS).apply(gaussians)  # half a turn is its own inverse
    fixed = np.round(gaussians.means * 2.0**bits)
    fixed = np.clip(fixed, -(2**23), 2**23 - 1).astype("<i4")
    largest, three = drop_largest(np.roll(gaussians.quats, -1, -1))
    codes = np.round(np.abs(three) * 511.0) + np.where(three < 0.0, 512, 0)
    degree = harmonics.degree_of(num_harmonics)
    sections = [
        np.frombuffer(_HEADER.pack(_MAGIC, 3, count, degree, bits, 0, 0), np.uint8),
        fixed.view(np.uint8).reshape(count, 3, 4)[..., :3],
        to_codes(alphas_of(gaussians.logit_opacities)),
        to_codes(gaussians.harmonics[:, 0] * _COLOR + 127.5),
        to_codes((gaussians.log_scales + 10.0) * 16.0),
        join_codes(largest, codes).astype("<u4"),
        to_codes(gaussians.harmonics[:, 1:] * 128.0 + 128.0),
    ]
    return gzip.compress(b"".join(section.tobytes() for section in sections), 6, mtime=0)
