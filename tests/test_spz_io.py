"""Versions 1 and 4 of .spz, written here by their description, and the axes that files may name."""

import gzip
import struct

import jax
import numpy as np
import pytest
import zstandard

from render import harmonics
from render.gaussians import Gaussians, covariances, move_gaussians
from render.splat_io import read_splats
from render.spz_axes import turn_of
from render.spz_io import pack_spz, unpack_spz

NAMES = {1: "LDB", 2: "RDB", 3: "LUB", 4: "RUB", 6: "RDF", 8: "RUF", 9: "LFD", 12: "RFU", 16: "RBU"}


def sections(count, degree, seed=0, position_bytes=9, rotation_bytes=4):
    rng = np.random.default_rng(seed)
    widths = [position_bytes, 1, 3, 3, rotation_bytes, 3 * ((degree + 1) ** 2 - 1)]
    return [rng.integers(0, 256, (count, width), np.uint8) for width in widths]


def version_4(parts, count, degree, bits=12, flags=0, extensions=b"", level=3, sizes=None):
    streams = [part.tobytes() for part in parts if part.size]
    packed = [zstandard.ZstdCompressor(level=level).compress(stream) for stream in streams]
    header = struct.pack("<4sIIBBBB", b"NGSP", 4, count, degree, bits, flags, len(streams))
    header += struct.pack("<I", 32 + len(extensions)) + bytes(12)
    sizes = sizes or [len(stream) for stream in streams]
    table = [struct.pack("<QQ", len(b), a) for a, b in zip(sizes, packed, strict=True)]
    return header + extensions + b"".join(table) + b"".join(packed)


def record(kind, payload):
    return struct.pack("<II", kind, len(payload)) + payload


def gzipped(parts, version, count, degree, bits=12, flags=0, after=b""):
    header = struct.pack("<4sIIBBBB", b"NGSP", version, count, degree, bits, flags, 0)
    return gzip.compress(header + b"".join(part.tobytes() for part in parts) + after, mtime=0)


def assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("degree", range(4))
def test_version_4_holds_the_bytes_of_version_3(degree):
    parts = sections(50, degree)
    found = unpack_spz(version_4(parts, 50, degree))
    assert found.harmonics.shape == (50, (degree + 1) ** 2, 3)
    assert_equal(found, unpack_spz(gzipped(parts, 3, 50, degree)))


def test_version_4_is_read_bit_for_bit(tmp_path):
    """By the words of the description, one Gaussian at a time."""
    parts = sections(20, 1)
    positions, alphas, colors, scales, rotations, rest = parts
    skipped = record(0xADBE0002, bytes(12))
    (tmp_path / "a.spz").write_bytes(version_4(parts, 20, 1, 10, 3, skipped))
    found = jax.tree.map(np.asarray, read_splats(tmp_path / "a.spz"))
    for i in range(20):
        words = [int.from_bytes(positions[i, k : k + 3], "little", signed=True) for k in (0, 3, 6)]
        mean = np.float32(words) / np.float32(1024) * np.float32([1, -1, -1])
        np.testing.assert_array_equal(found.means[i], mean)
        np.testing.assert_array_equal(found.log_scales[i], np.float32(scales[i] / 16 - 10))
        np.testing.assert_array_equal(
            found.harmonics[i, 0], np.float32((colors[i] - 127.5) / (0.15 * 255))
        )
        codes = (rest[i].reshape(3, 3) - 128.0) / 128
        turned = np.float32(codes * np.array([[-1], [-1], [1]]))
        np.testing.assert_array_equal(found.harmonics[i, 1:], turned)
        (word,) = struct.unpack("<I", rotations[i].tobytes())
        quat, largest = np.zeros(4), word >> 30  # xyzw
        for k in (k for k in range(3, -1, -1) if k != largest):
            quat[k] = (word & 511) / 511 * np.sqrt(0.5) * (-1 if word & 512 else 1)
            word >>= 10
        quat[largest] = np.sqrt(max(1 - np.sum(quat**2), 0.0))
        x, y, z, w = quat
        np.testing.assert_allclose(found.quats[i], [w, x, -y, -z], atol=1e-7)
        alpha = np.clip(int(alphas[i, 0]) / 255, 0.25 / 255, 254.75 / 255)
        np.testing.assert_allclose(found.logit_opacities[i], np.log(alpha / (1 - alpha)), rtol=1e-6)


def test_version_1_has_half_floats():
    parts = sections(30, 0, position_bytes=6, rotation_bytes=3)
    places = np.random.default_rng(1).uniform(-3, 3, (30, 3)).astype("<f2")
    parts[0] = places.view(np.uint8).reshape(30, 6)
    found = unpack_spz(gzipped(parts, 1, 30, 0))
    np.testing.assert_array_equal(found.means, places.astype(np.float64) * [1, -1, -1])
    others = unpack_spz(gzipped([np.zeros((30, 9), np.uint8), *parts[1:]], 2, 30, 0))
    np.testing.assert_array_equal(found.quats, others.quats)
    np.testing.assert_array_equal(found.log_scales, others.log_scales)


def axes_of(name):
    """Rows: where x, y, z of these axes point to in ours."""
    ours = {"R": 0, "L": 0, "D": 1, "U": 1, "F": 2, "B": 2}
    return np.array([np.eye(3)[ours[c]] * (1 if c in "RDF" else -1) for c in name])


@pytest.mark.parametrize("number", NAMES)
def test_a_file_may_name_its_axes(number):
    """The same scene in other axes: what is seen from corresponding directions is the same."""
    rng = np.random.default_rng(3)
    original = Gaussians(
        rng.normal(size=(5, 3)),
        rng.normal(size=(5, 4)),
        rng.normal(size=(5, 3)),
        rng.normal(size=5),
        rng.normal(size=(5, 16, 3)),
    )
    found = turn_of(number).apply(original)
    turn = axes_of(NAMES[number]).T  # of the file's axes into ours
    np.testing.assert_allclose(found.means, original.means @ turn.T, atol=1e-6)
    old, new = (np.asarray(covariances(one)) for one in (original, found))
    np.testing.assert_allclose(new, turn @ old @ turn.T, atol=2e-5)
    direction = np.array([0.48, 0.6, -0.64])
    np.testing.assert_allclose(
        harmonics.evaluate(found.harmonics, turn @ direction),
        harmonics.evaluate(original.harmonics, direction),
        atol=1e-4,
    )


@pytest.mark.parametrize("version", [3, 4])
def test_axes_come_from_the_extension(version):
    parts = sections(10, 1)
    coordinates = record(0x12340001, b"abc") + record(0xADBE0003, struct.pack("<I", 6))
    if version == 4:
        content = version_4(parts, 10, 1, flags=2, extensions=coordinates)
    else:
        content = gzipped(parts, 3, 10, 1, flags=2, after=coordinates)
    half_turn = np.float32(np.diag([1, -1, -1]))
    plain = jax.tree.map(np.float32, unpack_spz(gzipped(parts, 3, 10, 1)))
    expected = move_gaussians(plain, half_turn)
    found = unpack_spz(content)
    np.testing.assert_allclose(found.means, expected.means, atol=1e-6)
    np.testing.assert_allclose(found.harmonics, expected.harmonics, atol=1e-5)


def test_what_is_written_is_read_by_version_3():
    parts = sections(10, 0)
    once = unpack_spz(gzipped(parts, 3, 10, 0))
    once = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), once)
    twice = unpack_spz(pack_spz(once))
    np.testing.assert_allclose(twice.means, once.means, atol=2**-13)


PARTS = sections(40, 1)
WHOLE = version_4(PARTS, 40, 1)
REFUSED = {
    "cut short": (WHOLE[:-1], "expected .* bytes of .spz, found"),
    "header cut short": (WHOLE[:20], "expected 32 bytes of header in .spz, found 20"),
    "table cut short": (WHOLE[:40], "bytes of .spz, found 40"),
    "too few streams": (version_4(PARTS[:5], 40, 1), "expected 6 streams in .spz, found 5"),
    "lying count": (version_4(PARTS, 4_000_000_000, 1), "bytes in .spz, found 360"),
    "lying size": (
        version_4(PARTS, 2**32 - 1, 1, sizes=[(2**32 - 1) * w for w in (9, 1, 3, 3, 4, 9)]),
        "expected 38654705655 bytes in .spz, found 360",
    ),
    "degree 4": (version_4(PARTS, 40, 4), "degree 0 to 3, found degree 4"),
    "other bytes": (
        WHOLE[:128] + bytes(8) + WHOLE[136:],
        "expected .spz, found broken compression",
    ),
    "axes of nobody": (
        version_4(PARTS, 40, 1, flags=2, extensions=record(0xADBE0003, struct.pack("<I", 99))),
        "expected coordinates 1 to 16 in .spz, found 99",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_whole_is_refused(case):
    content, reason = REFUSED[case]
    with pytest.raises(ValueError, match=reason):
        unpack_spz(content)
