"""Splat files: what is written is read, within what the format can hold, and lies are refused."""

import gzip
import pathlib
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from render import harmonics
from render.gaussians import Gaussians
from render.splat_io import read_splats, read_up, write_splats

FLOWERS = pathlib.Path(__file__).parents[2] / "shared" / "data" / "splats" / "flowers.ply"
FORMATS = [".ply", ".compressed.ply", ".spz"]
QUANTISED = FORMATS[1:]
SIZES = [1, 4, 9, 16]
TURN = np.diag([1.0, -1.0, -1.0])
FIELDS = ["x", "y", "z", "opacity"]
FIELDS += [f"{name}_{i}" for name, n in [("f_dc", 3), ("scale", 3), ("rot", 4)] for i in range(n)]


def scene(num_gaussians=600, num_harmonics=4, seed=0):
    """Values that every format can hold: none is cut off."""
    rng = np.random.default_rng(seed)
    quats = rng.normal(size=(num_gaussians, 4))
    values = Gaussians(
        means=rng.uniform(-1.0, 1.0, (num_gaussians, 3)),
        quats=quats * rng.uniform(0.1, 10.0, (num_gaussians, 1)),
        log_scales=rng.uniform(-9.0, 1.0, (num_gaussians, 3)),
        logit_opacities=rng.uniform(-9.0, 9.0, num_gaussians),
        harmonics=rng.uniform(-0.99, 0.99, (num_gaussians, num_harmonics, 3)),
    )
    return jax.tree.map(lambda leaf: leaf.astype(np.float32), values)


def round_trip(folder, ending, gaussians):
    path = folder / f"new/scene{ending}"
    write_splats(path, gaussians)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    path = path.rename(folder / "scene.bin")  # the content tells the format, not the name
    return read_splats(path)


def nearest(means, others):
    """Returns which of `others` is nearest to each of `means`, no one twice."""
    order = np.argmin(np.linalg.norm(means[:, None] - np.asarray(others), axis=-1), -1)
    assert len(set(order)) == len(order)
    return order


def in_order_of(gaussians, found):
    order = nearest(gaussians.means, found.means)
    assert len(order) == len(found.means)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[order], found)


def sigmoid(logits):
    return 1.0 / (1.0 + np.exp(-np.asarray(logits, np.float64)))


def rotations(quats):
    """Rotation matrices of quaternions wxyz."""
    w, x, y, z = (quats / np.linalg.norm(quats, axis=-1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def angles(quats, others):
    """Radians between rotations; a quaternion and its negative are the same one."""
    quats, others = (q / np.linalg.norm(q, axis=-1, keepdims=True) for q in (quats, others))
    cosine = np.abs(np.sum(np.float64(quats) * others, -1))
    return 2.0 * np.arccos(np.minimum(cosine, 1.0))


def assert_bits_equal(found, expected):
    for leaf, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert leaf.dtype == np.float32 and leaf.shape == other.shape
        leaf, other = np.asarray(leaf).view(np.uint32), np.asarray(other).view(np.uint32)
        np.testing.assert_array_equal(leaf, other)


def ply(names, rows, count=None, kinds=None, order="<", lines=(), newline="\n"):
    """A .ply with `rows` [N, P] under `names`, of floats unless `kinds` says more."""
    kinds = kinds or {}
    types = {"f4": "float", "f8": "double", "u1": "uchar", "i4": "int", "u4": "uint"}
    dtype = np.dtype([(name, order + kinds.get(name, "f4")) for name in names])
    table = np.empty(len(rows), dtype)
    for i, name in enumerate(names):
        table[name] = rows[:, i]
    endian = {"<": "little", ">": "big"}[order]
    header = ["ply", f"format binary_{endian}_endian 1.0", "comment end_header comes below"]
    header += [*lines, f"element vertex {len(rows) if count is None else count}"]
    header += [f"property {types[kinds.get(name, 'f4')]} {name}" for name in names]
    return newline.join([*header, "end_header", ""]).encode() + table.tobytes()


def spz(sections, version=3, count=1, degree=0, bits=12):
    header = struct.pack("<4sIIBBBB", b"NGSP", version, count, degree, bits, 0, 0)
    return gzip.compress(header + bytes(sections))


# What is written is read


@pytest.mark.parametrize("num_harmonics", SIZES)
@pytest.mark.parametrize("to_array", [np.asarray, jnp.asarray])
def test_ply_keeps_every_bit(tmp_path, num_harmonics, to_array):
    gaussians = scene(70, num_harmonics)
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-42, 3e38], np.float32)
    gaussians.means[:2].flat[:] = odd
    gaussians.harmonics[5, 0] = np.nan
    found = round_trip(tmp_path, ".ply", jax.tree.map(to_array, gaussians))
    assert isinstance(found.means, jax.Array)
    assert_bits_equal(found, gaussians)


@pytest.mark.parametrize("num_harmonics", SIZES)
def test_compressed_ply_is_within_half_a_step(tmp_path, num_harmonics):
    gaussians = scene(600, num_harmonics)
    found = in_order_of(gaussians, round_trip(tmp_path, ".compressed.ply", gaussians))
    # No chunk is wider than the scene: 11 bits for x and z, 10 for y.
    half = 0.5 / np.array([2047, 1023, 2047]) + 1e-6
    assert np.all(np.abs(found.means - gaussians.means) <= 2.0 * half)
    assert np.all(np.abs(found.log_scales - gaussians.log_scales) <= 10.0 * half)
    alpha, expected = sigmoid(found.logit_opacities), sigmoid(gaussians.logit_opacities)
    np.testing.assert_allclose(alpha, expected, atol=0.5 / 255 + 1e-6)
    constant, rest = found.harmonics[:, 0], found.harmonics[:, 1:]
    np.testing.assert_allclose(constant, gaussians.harmonics[:, 0], atol=2.0 * 0.5 / 255 + 1e-6)
    np.testing.assert_allclose(rest, gaussians.harmonics[:, 1:], atol=1 / 64 + 1e-6)
    assert rotation_error(found, gaussians) <= bound_of_smallest_three(np.sqrt(2) / 1023)


@pytest.mark.parametrize("num_harmonics", SIZES)
def test_spz_is_within_half_a_step(tmp_path, num_harmonics):
    gaussians = scene(600, num_harmonics)
    found = round_trip(tmp_path, ".spz", gaussians)
    np.testing.assert_allclose(found.means, gaussians.means, atol=0.5 / 2**16 + 1e-7)
    np.testing.assert_allclose(found.log_scales, gaussians.log_scales, atol=0.5 / 16 + 1e-6)
    alpha, expected = sigmoid(found.logit_opacities), sigmoid(gaussians.logit_opacities)
    np.testing.assert_allclose(alpha, expected, atol=0.5 / 255 + 1e-6)
    constant, rest = found.harmonics[:, 0], found.harmonics[:, 1:]
    step = 1.0 / (0.15 * 255)
    np.testing.assert_allclose(constant, gaussians.harmonics[:, 0], atol=0.5 * step + 1e-6)
    np.testing.assert_allclose(rest, gaussians.harmonics[:, 1:], atol=1 / 256 + 1e-6)
    assert rotation_error(found, gaussians) <= bound_of_smallest_three(np.sqrt(0.5) / 511)


def rotation_error(found, gaussians):
    quats = np.asarray(found.quats)
    np.testing.assert_allclose(np.linalg.norm(quats, axis=-1), 1.0, atol=1e-6)
    return angles(quats, gaussians.quats).max()


def bound_of_smallest_three(step):
    """Three parts off by half a step; the fourth, at least a half, is off by their weighted sum."""
    error = 0.5 * step * np.array([1.0, 1.0, 1.0])
    fourth = np.linalg.norm(error) * np.sqrt(0.75) / 0.5
    return 2.0 * np.hypot(np.linalg.norm(error), fourth) * 1.01


@pytest.mark.parametrize("ending", QUANTISED)
def test_a_second_round_trip_changes_nothing(tmp_path, ending):
    once = round_trip(tmp_path, ending, scene(200, 9))
    twice = round_trip(tmp_path, ending, once)
    for field in ("means", "log_scales", "logit_opacities", "harmonics"):
        np.testing.assert_allclose(getattr(twice, field), getattr(once, field), atol=2e-6)
    assert rotation_error(twice, once) < 1e-3


def test_chunks_hold_neighbours(tmp_path):
    # Two heads a hundred metres apart, taken in turns.
    gaussians = scene(1024)
    gaussians.means[:] = 0.01 * gaussians.means + 100.0 * (np.arange(1024) % 2)[:, None]
    found = round_trip(tmp_path, ".compressed.ply", gaussians)
    found = in_order_of(gaussians, found)
    np.testing.assert_allclose(found.means, gaussians.means, atol=2e-5)


@pytest.mark.parametrize("size, step", [(0.2, 2**-16), (1000.0, 2**-13), (2000.0, 2**-12)])
def test_spz_takes_the_finest_steps_that_reach_its_farthest_point(tmp_path, size, step):
    gaussians = scene(50)
    gaussians.means[:] *= size
    found = round_trip(tmp_path, ".spz", gaussians)
    error = np.abs(np.asarray(found.means) - gaussians.means).max()
    assert step / 4 < error <= step / 2 * 1.01


def test_values_beyond_a_format_stop_at_its_border(tmp_path):
    gaussians = scene(3, 4)
    gaussians.means[0] = [5000.0, -5000.0, 0.5]
    gaussians.log_scales[0] = [-np.inf, 30.0, -15.0]
    gaussians.logit_opacities[:3] = [np.inf, -np.inf, -1000.0]
    gaussians.harmonics[0, 1] = [-7.0, 7.0, 0.5]
    found = round_trip(tmp_path, ".spz", gaussians)
    np.testing.assert_allclose(found.means[0], [2048.0, -2048.0, 0.5], atol=1e-3)
    np.testing.assert_allclose(found.log_scales[0], [-10.0, 5.9375, -10.0])
    np.testing.assert_allclose(found.harmonics[0, 1], [-1.0, 1.0, 0.5], atol=0.01)
    np.testing.assert_allclose(sigmoid(found.logit_opacities), [1.0, 0.0, 0.0], atol=1e-3)
    assert np.isfinite(found.logit_opacities).all()
    found = in_order_of(gaussians, round_trip(tmp_path, ".compressed.ply", gaussians))
    np.testing.assert_allclose(found.log_scales[0], [-20.0, 20.0, -15.0], atol=0.01)
    np.testing.assert_allclose(found.harmonics[0, 1], [-4.0, 4.0, 0.5], atol=0.02)
    np.testing.assert_allclose(sigmoid(found.logit_opacities), [1.0, 0.0, 0.0], atol=1e-3)


@pytest.mark.parametrize("ending", QUANTISED)
@pytest.mark.parametrize("field", ["means", "quats", "log_scales", "logit_opacities", "harmonics"])
def test_rows_with_nan_become_transparent_and_leave_the_others_alone(tmp_path, ending, field):
    gaussians = scene(300)
    gaussians.logit_opacities[2] = 1.0
    means = gaussians.means.copy()
    getattr(gaussians, field)[:2] = np.nan
    found = round_trip(tmp_path, ending, gaussians)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    order = nearest(means[3:], found.means)
    np.testing.assert_allclose(found.means[order], means[3:], atol=2e-3)
    alpha, expected = sigmoid(found.logit_opacities), sigmoid(gaussians.logit_opacities)
    np.testing.assert_allclose(alpha[order], expected[3:], atol=0.5 / 255 + 1e-6)
    others = np.sort(np.delete(alpha, order))
    np.testing.assert_allclose(others, [0.0, 0.0, expected[2]], atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("ending", QUANTISED)
def test_a_scene_of_nan_alone_is_written(tmp_path, ending):
    gaussians = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), scene(5))
    found = round_trip(tmp_path, ending, gaussians)
    assert found.harmonics.shape == (5, 4, 3) and found.logit_opacities.max() < -6.5


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("num_harmonics", SIZES)
def test_no_gaussian_at_all_is_a_scene(tmp_path, ending, num_harmonics):
    found = round_trip(tmp_path, ending, scene(0, num_harmonics))
    assert found.means.shape == (0, 3) and found.harmonics.shape == (0, num_harmonics, 3)


def test_an_ending_or_a_number_of_harmonics_of_no_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected splats in \.ply, \.compressed\.ply or \.spz"):
        write_splats(tmp_path / "scene.splat", scene(2))
    with pytest.raises(ValueError, match="expected 1, 4, 9 or 16 harmonics, found 5"):
        write_splats(tmp_path / "scene.ply", scene(2, 5))
    assert not list(tmp_path.iterdir())
    write_splats(tmp_path / "SCENE.SPZ", scene(2))
    assert (tmp_path / "SCENE.SPZ").read_bytes().startswith(b"\x1f\x8b")


# The layout other programs expect


def test_ply_is_laid_out_as_others_read_it(tmp_path):
    gaussians = scene(2, 9)
    write_splats(tmp_path / "scene.ply", gaussians)
    header, body = (tmp_path / "scene.ply").read_bytes().split(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:3] == ["ply", "format binary_little_endian 1.0", "element vertex 2"]
    names = [line.removeprefix("property float ") for line in lines[3:]]
    rows = [dict(zip(names, row, strict=True)) for row in np.frombuffer(body, "<f4").reshape(2, -1)]
    row, other = rows
    assert len(names) == 14 + 24
    assert [row[name] for name in "xyz"] == list(gaussians.means[0])
    assert [other[f"f_dc_{i}"] for i in range(3)] == list(gaussians.harmonics[1, 0])
    # All of red, then green, then blue.
    assert [row[f"f_rest_{i}"] for i in range(24)] == list(gaussians.harmonics[0, 1:].T.ravel())
    assert [row[f"scale_{i}"] for i in range(3)] == list(gaussians.log_scales[0])
    assert [row[f"rot_{i}"] for i in range(4)] == list(gaussians.quats[0])
    assert row["opacity"] == gaussians.logit_opacities[0]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("num_rest", [0, 9])
def test_properties_are_found_by_name(tmp_path, order, newline, num_rest):
    names = [*FIELDS, *(f"f_rest_{i}" for i in range(num_rest)), "red", "nx", "segment"]
    names = list(np.random.default_rng(1).permutation(names))
    rows = np.random.default_rng(2).integers(0, 100, (5, len(names)))
    kinds = {"red": "u1", "segment": "i4", "x": "f8"}
    lines = ["obj_info from elsewhere"]
    content = ply(names, rows, kinds=kinds, order=order, newline=newline, lines=lines)
    (tmp_path / "scene.ply").write_bytes(content + b"what follows")
    found = read_splats(tmp_path / "scene.ply")
    row = dict(zip(names, rows.T, strict=True))
    np.testing.assert_array_equal(found.means, np.stack([row[name] for name in "xyz"], -1))
    np.testing.assert_array_equal(found.logit_opacities, row["opacity"])
    np.testing.assert_array_equal(found.quats[:, 1], row["rot_1"])
    np.testing.assert_array_equal(found.log_scales[:, 2], row["scale_2"])
    assert found.harmonics.shape == (5, 1 + num_rest // 3, 3)
    np.testing.assert_array_equal(found.harmonics[:, 0, 1], row["f_dc_1"])
    if num_rest:
        np.testing.assert_array_equal(found.harmonics[:, 2, 1], row["f_rest_4"])


def test_an_element_before_the_splats_is_skipped(tmp_path):
    content = ply(FIELDS, np.arange(28).reshape(2, 14), lines=["element at 2", "property short n"])
    content = content.replace(b"\nend_header\n", b"\nend_header\nabcd")
    (tmp_path / "scene.ply").write_bytes(content)
    np.testing.assert_array_equal(read_splats(tmp_path / "scene.ply").means[1], [14, 15, 16])


BOUNDS = [f"{end}_{name}" for end in ("min", "max") for name in "xyz"]
BOUNDS += [f"{end}_scale_{name}" for end in ("min", "max") for name in "xyz"]
COLOR_BOUNDS = [f"{end}_{name}" for end in ("min", "max") for name in "rgb"]
PACKED = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]


def compressed(packed, bounds, names, lines=(), rest=b""):
    """A compressed .ply with one chunk."""
    header = ["ply", "format binary_little_endian 1.0", "element chunk 1"]
    header += [f"property float {name}" for name in names]
    header += [f"element vertex {len(packed)}", *(f"property uint {name}" for name in PACKED)]
    content = "\n".join([*header, *lines, "end_header", ""]).encode()
    content += np.array(bounds, "<f4").tobytes() + np.array(packed, "<u4").tobytes()
    return content + rest


# One splat: x, y, z at 2047, 512 and 0 steps; y the largest part of the rotation and x at -1.
SPLAT = [
    2047 << 21 | 512 << 11 | 0,
    2 << 30 | 1023 << 20 | 0 << 10 | 512,
    1024 << 21 | 1023 << 11 | 2047,
    255 << 24 | 0 << 16 | 51 << 8 | 128,
]
BOX = [-1.0, -2.0, -3.0, 1.0, 2.0, 3.0, -9.0, -9.0, -9.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("has_colors", [True, False])
def test_a_compressed_splat_written_by_hand_is_read(tmp_path, has_colors):
    bounds = [*BOX, -1.0, 0.0, 0.0, 1.0, 1.0, 2.0] if has_colors else BOX
    names = BOUNDS + COLOR_BOUNDS if has_colors else BOUNDS
    lines = ["element sh 1", *(f"property uchar f_rest_{i}" for i in range(9))]
    rest = bytes([0, 127, 255, 128, 128, 128, 160, 128, 128])
    (tmp_path / "a.ply").write_bytes(compressed([SPLAT], bounds, names, lines, rest))
    found = read_splats(tmp_path / "a.ply")
    np.testing.assert_allclose(found.means, [[1.0, 512 / 1023 * 4 - 2, -3.0]], atol=1e-6)
    np.testing.assert_allclose(found.log_scales, [[1024 / 2047 * 10 - 9, 1.0, 1.0]], atol=1e-6)
    w, x, z = np.sqrt(0.5), -np.sqrt(0.5), (512 / 1023 - 0.5) * np.sqrt(2)
    np.testing.assert_allclose(found.quats, [[w, x, 0.0, z]], atol=1e-3)
    np.testing.assert_allclose(sigmoid(found.logit_opacities), [128 / 255], atol=1e-6)
    color = [1.0, 0.0, 0.4 if has_colors else 0.2]
    constant = 0.5 + np.sqrt(0.25 / np.pi) * found.harmonics[0, 0]
    np.testing.assert_allclose(constant, color, atol=1e-6)
    red, green, blue = found.harmonics[0, 1:].T
    half = 1 / 64
    np.testing.assert_allclose(red, [half - 4.0, -half, 4.0 - half], atol=1e-6)
    np.testing.assert_allclose(green, [half] * 3, atol=1e-6)
    np.testing.assert_allclose(blue, [1.0 + half, half, half], atol=1e-6)


def test_numbers_beyond_any_scene_are_read_without_a_warning(tmp_path):
    (tmp_path / "a.ply").write_bytes(compressed([SPLAT], [-np.inf, *BOX[1:]], BOUNDS))
    assert not np.isfinite(read_splats(tmp_path / "a.ply").means[0, 0])
    rows = np.full([1, len(FIELDS)], 1e300)
    (tmp_path / "b.ply").write_bytes(ply(FIELDS, rows, kinds=dict.fromkeys(FIELDS, "f8")))
    with jax.enable_x64(True):
        found = read_splats(tmp_path / "b.ply")
    assert all(leaf.dtype == np.float32 and np.isinf(leaf).all() for leaf in jax.tree.leaves(found))


def test_a_chunk_of_equal_splats_is_exact(tmp_path):
    gaussians = jax.tree.map(lambda leaf: np.repeat(leaf, 9, 0), scene(1, 1))
    found = round_trip(tmp_path, ".compressed.ply", gaussians)
    for field in ("means", "log_scales", "harmonics"):
        np.testing.assert_allclose(getattr(found, field), getattr(gaussians, field), rtol=1e-6)


@pytest.mark.parametrize("version", [2, 3])
def test_an_spz_splat_written_by_hand_is_read(tmp_path, version):
    """The file says y up and z backwards; the scene has y down and z forward."""
    position = b"".join(int(v).to_bytes(3, "little", signed=True) for v in (4096, -8192, 1))
    if version == 2:  # x, y, z as bytes about 127.5; w is what is missing
        rotation, quats = bytes([255, 0, 127]), [0.0, 1.0, 1.0, 1 / 255]
    else:  # y is the largest, and not there; x = sqrt(1/2), z = 0 and w = -sqrt(1/2) are
        rotation = struct.pack("<I", 1 << 30 | 511 << 20 | 512 << 10 | 512 | 511)
        quats = [-np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0]
    rest = [0, 128, 192, 128, 64, 128, 255, 128, 128]  # coefficient after coefficient
    sections = [*position, 51, 255, 0, 128, 160, 0, 255, *rotation, *rest]
    content = spz(sections, version, degree=1)
    (tmp_path / "a").write_bytes(content)
    found = read_splats(tmp_path / "a")
    np.testing.assert_allclose(found.means, [[1.0, 2.0, -1 / 4096]], atol=1e-7)
    np.testing.assert_allclose(sigmoid(found.logit_opacities), [0.2], atol=1e-6)
    np.testing.assert_allclose(found.log_scales, [[0.0, -10.0, 5.9375]], atol=1e-6)
    np.testing.assert_allclose(found.quats, [quats], atol=1e-5)
    dc = np.array([255, 0, 128]) / 255 - 0.5
    np.testing.assert_allclose(found.harmonics[0, 0], dc / 0.15, atol=1e-5)
    expected = [[1.0, 0.0, -0.5], [0.0, 0.5, 0.0], [127 / 128, 0.0, 0.0]]
    np.testing.assert_allclose(found.harmonics[0, 1:], expected, atol=1e-6)


@pytest.mark.parametrize("num_harmonics", SIZES)
def test_spz_holds_the_scene_turned_upright(tmp_path, num_harmonics):
    gaussians = scene(40, num_harmonics)
    write_splats(tmp_path / "scene.spz", gaussians)
    body = gzip.decompress((tmp_path / "scene.spz").read_bytes())
    magic, version, count, degree, bits = struct.unpack_from("<4sIIBB", body)
    assert (magic, version, count) == (b"NGSP", 3, 40) and (degree + 1) ** 2 == num_harmonics
    widths = 40 * np.array([9, 1, 3, 3, 4])
    ends = 16 + np.cumsum(widths)
    positions = [body[i : i + 3] for i in range(16, ends[0], 3)]
    positions = [int.from_bytes(word, "little", signed=True) for word in positions]
    positions = np.array(positions).reshape(40, 3) / 2.0**bits
    np.testing.assert_allclose(positions, gaussians.means @ TURN, atol=1e-4)
    # Rotations: xyzw by their three smallest parts, here unpacked one by one.
    quats = np.zeros([40, 4])
    for quat, word in zip(quats, struct.unpack("<40I", body[ends[3] : ends[4]]), strict=True):
        others = [i for i in range(4) if i != word >> 30]
        for i, shift in zip(others, (20, 10, 0), strict=True):
            code = word >> shift & 1023
            quat[i] = (code & 511) / 511 * np.sqrt(0.5) * (-1 if code > 511 else 1)
        quat[word >> 30] = np.sqrt(1.0 - np.sum(quat**2))
    axes = rotations(np.roll(quats, 1, -1)) * np.exp(gaussians.log_scales)[:, None]
    expected = TURN @ rotations(gaussians.quats) * np.exp(gaussians.log_scales)[:, None]
    # What is seen is the covariance; axes may point either way.
    covariance, turned = (m @ np.swapaxes(m, -1, -2) for m in (axes, expected))
    size = np.exp(2.0 * gaussians.log_scales.max(-1))[:, None, None]
    np.testing.assert_allclose(covariance / size, turned / size, atol=0.01)
    rest = np.frombuffer(body[ends[4] :], np.uint8).reshape(40, -1, 3) / 128.0 - 1.0
    coefficients = np.concatenate([np.zeros([40, 1, 3]), rest], 1)
    original = gaussians.harmonics * (np.arange(num_harmonics) > 0)[:, None]
    direction = np.array([0.48, 0.6, -0.64])
    np.testing.assert_allclose(
        harmonics.evaluate(coefficients, TURN @ direction),
        harmonics.evaluate(original, direction),
        atol=0.02,
    )


# What is no splat file


def small(names=FIELDS, num_rows=2, **settings):
    names = list(names)
    return ply(names, np.zeros([num_rows, len(names)]), **settings)


ODD_FORMAT = b"ply\nformat utf8 1.0\nelement vertex 0\nend_header\n"
MESH = (
    b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty float x\n"
    b"property float y\nproperty float z\nelement face 1\n"
    b"property list uchar int vertex_indices\nend_header\n" + bytes(12 + 13)
)
SH = ["element sh 2", *(f"property uchar f_rest_{i}" for i in range(9))]
SPZ = spz(bytes(20))
LARGE = spz(np.random.default_rng(0).bytes(20_000), count=1000)
REFUSED = {
    "nothing": (b"", "expected splats as .ply, .spz or .splat, found b''"),
    "text": (b"hello, hello", "expected splats as .ply, .spz or .splat, found b'hello, h'"),
    "picture": (b"\x89PNG\r\n\x1a\n" * 9, "expected splats, found a picture (PNG)"),
    "pickle": (b"\x80\x04cos\nsystem\n", "expected splats as .ply, .spz or .splat"),
    "mesh": (MESH, "expected splats, found a mesh"),
    "endless header": (b"ply\n" + b"comment\n" * 99, "expected a header of .ply, found no end"),
    "no format": (
        b"ply\nelement vertex 0\nend_header\n",
        "expected .ply in binary or ascii, found no format",
    ),
    "text format": (ODD_FORMAT, "in binary or ascii, found format utf8 1.0"),
    "odd line": (small(lines=["elephant"]), "expected a header of .ply, found the line 'eleph"),
    "bad count": (small(count="-2"), "found the line 'element vertex -2'"),
    "bad type": (small(lines=["element a 1", "property half b"]), "line 'property half b'"),
    "no vertex": (small(count=0).replace(b"vertex", b"point"), "expected properties x, y, z"),
    "no opacity": (small(set(FIELDS) - {"opacity"}), "expected properties opacity, found none"),
    "no rotation": (small(FIELDS[:-2]), "expected properties rot_2, rot_3, found none such"),
    "twice": (small().replace(b" y\n", b" x\n"), "expected each property once, found x again"),
    "rest": (small([*FIELDS, *(f"f_rest_{i}" for i in range(12))]), "f_rest, found 12"),
    "rest from 1": (
        small([*FIELDS, *(f"f_rest_{i + 1}" for i in range(9))]),
        "properties f_rest_0",
    ),
    "rest of degree 4": (
        small([*FIELDS, *(f"f_rest_{i}" for i in range(72))]),
        "expected harmonics of degree 0 to 3, found degree 4",
    ),
    "truncated": (small()[:-1], "expected 112 bytes of element vertex, found 111"),
    "lying": (small(count=10**12), "expected 56000000000000 bytes of element vertex, found 112"),
    "lying more": (small(count=10**30), "expected a header of .ply, found the line 'element"),
    "lying, no properties": (small([], count=10**12), "expected properties x, y, z"),
    "no chunk": (
        compressed([SPLAT] * 257, BOX, BOUNDS),
        "expected a chunk for 256 splats, found 1 chunks",
    ),
    "no bound": (compressed([SPLAT], BOX[1:], BOUNDS[1:]), "expected properties min_x, found none"),
    "chunks of floats": (
        compressed([SPLAT], BOX, BOUNDS).replace(b"uint packed_s", b"float packed_s"),
        "expected properties packed_scale of type uint or uchar, found none such",
    ),
    "truncated chunks": (
        compressed([SPLAT], BOX, BOUNDS)[:-1],
        "16 bytes of element vertex, found",
    ),
    "other sh": (compressed([SPLAT], BOX, BOUNDS, SH, bytes(18)), "expected 1 rows of element sh"),
    "truncated sh": (
        compressed([SPLAT], BOX, BOUNDS, SH, bytes(9)),
        "expected 18 bytes of element",
    ),
    "other gzip": (gzip.compress(b"hello" * 9), "expected .spz, found something else"),
    "empty gzip": (gzip.compress(b""), "expected .spz, found something else"),
    "half a gzip": (SPZ[:14], "expected .spz, found something else"),
    "broken gzip": (SPZ[:10] + b"\xff" * 20, "expected .spz, found broken compression"),
    "wrong checksum": (LARGE[:-8] + bytes(8), "expected .spz, found broken compression"),
    "version 5": (spz(bytes(99), version=5), "version 1 to 4, found version 5"),
    "version 6": (b"NGSP\x06\0\0\0" + bytes(24), "version 1 to 4, found version 6"),
    "degree 4": (spz(bytes(99), degree=4), "expected harmonics of degree 0 to 3, found degree 4"),
    "truncated spz": (spz(bytes(19)), "expected 36 bytes in .spz, found 35"),
    "lying spz": (spz(bytes(20), count=2**32 - 1, degree=3), "bytes in .spz, found 36"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_splat_file_is_refused_in_one_line(tmp_path, case):
    content, reason = REFUSED[case]
    path = tmp_path / "scene.ply"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        read_splats(path)
    message = str(error.value)
    assert reason in message and f" in {path}" in message and "\n" not in message
    assert message.endswith(f" in {path}") or f" in {path}: " in message


def test_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.ply"):
        with pytest.raises(ValueError, match="expected a splat file, found nothing at"):
            read_splats(path)


@pytest.mark.skipif(not FLOWERS.exists(), reason="needs a real scene")
def test_a_real_scene_keeps_every_bit(tmp_path):
    gaussians = read_splats(FLOWERS)
    assert gaussians.harmonics.shape == (26895, 9, 3)
    assert 0.0 < sigmoid(gaussians.logit_opacities).mean() < 1.0
    assert_bits_equal(round_trip(tmp_path, ".ply", gaussians), gaussians)
    for ending in QUANTISED:
        found = round_trip(tmp_path, ending, gaussians)
        centre = np.asarray(gaussians.means, np.float64).mean(0)
        np.testing.assert_allclose(np.asarray(found.means, np.float64).mean(0), centre, atol=1e-5)


@pytest.mark.parametrize("up", ["y", "-z"])
def test_a_ply_says_where_up_is(tmp_path, up):
    path = tmp_path / "a.ply"
    write_splats(path, scene(3), up)
    assert read_up(path) == up
    np.testing.assert_array_equal(read_splats(path).means, scene(3).means)
    write_splats(path, scene(3))
    assert read_up(path) is None
