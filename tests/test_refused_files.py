"""What people take for splats is told, with a way out; damaged files end in one line."""

import gzip
import io
import itertools
import struct
import zipfile

import jax
import numpy as np
import pytest
import zstandard

from render.antimatter import is_antimatter, unpack_antimatter
from render.gaussians import Gaussians
from render.splat_io import is_splat_file, read_splats, write_splats
from render.standard_ply import unpack_standard
from scripts.shell.shown import read_shown


def zipped(name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, b"hello")
    return buffer.getvalue()


def point_cloud(form="binary_little_endian", body=bytes(24)):
    lines = [
        "ply",
        f"format {form} 1.0",
        "element vertex 2",
        *(f"property float {c}" for c in "xyz"),
    ]
    return "\n".join([*lines, "end_header", ""]).encode() + body


KSPLAT = struct.pack("<4B4IH", 0, 1, 0, 0, 1, 1, 500, 400, 1) + bytes(5000)
FOREIGN = {
    "lfs.ply": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "page.ply": (b"\r\n<!DOCTYPE html><html>sign in</html>", "a web page"),
    "page.spz": (b"\xef\xbb\xbf<HTML>", "a web page"),
    "denied.splat": (b"<?xml version='1.0'?><Error>AccessDenied</Error>" * 4, "XML"),
    "a.ksplat": (KSPLAT, "splat-transform"),
    "renamed.splat": (KSPLAT, "splat-transform"),
    "a.sog": (zipped("meta.json"), "found .sog in"),
    "b.sog": (zipped("means_l.webp"), "splat-transform"),
    "step.ckpt": (zipped("archive/data.pkl"), "a checkpoint of PyTorch"),
    "a.zip": (zipped("scene.ply"), "unpack it"),
    "meta.json": (b'{"version": 2, "means": {}, "quats": {}}', "meta.json of a .sog"),
    "transforms.json": (b'{"frames": []}', "found JSON"),
    "photo.jpg": (b"\xff\xd8\xff\xe0" + bytes(99), "a picture (JPEG)"),
    "points.las": (b"LASF" + bytes(400), "a point cloud"),
    "points.ply": (point_cloud(), "`train_splats` makes them from photos"),
    "points_as_text.ply": (point_cloud("ascii", b"0 0 0\n1 1 1\n"), "a point cloud"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_another_kind_is_told(tmp_path, name):
    content, words = FOREIGN[name]
    path = tmp_path / name
    path.write_bytes(content)
    for read in (read_splats, lambda path: read_shown(str(path))):
        with pytest.raises(ValueError) as error:
            read(path)
        message = str(error.value)
        assert words in message and f" in {path}: " in message and "\n" not in message


def antimatter(count=50, seed=0):
    rng = np.random.default_rng(seed)
    quats = rng.normal(size=(count, 4))
    quats /= np.linalg.norm(quats, axis=-1, keepdims=True)
    rows = np.zeros(count, [("m", "<f4", 3), ("s", "<f4", 3), ("c", "u1", 4), ("q", "u1", 4)])
    rows["m"], rows["s"] = rng.normal(size=(count, 3)), np.exp(rng.uniform(-7, -1, (count, 3)))
    rows["c"] = rng.integers(0, 256, (count, 4))
    rows["q"] = np.clip(np.round(quats * 128 + 128), 0, 255)
    return rows, quats


def test_antimatter_splats_are_read_by_their_content(tmp_path):
    rows, quats = antimatter()
    path = tmp_path / "scene.bin"
    path.write_bytes(rows.tobytes())
    assert is_splat_file(path)
    found = jax.tree.map(np.asarray, read_splats(path))
    np.testing.assert_array_equal(found.means, rows["m"])
    np.testing.assert_allclose(np.exp(found.log_scales), rows["s"], rtol=1e-5)
    np.testing.assert_allclose(found.quats, quats, atol=1.01 / 128)
    np.testing.assert_allclose(
        0.5 + np.sqrt(0.25 / np.pi) * found.harmonics[:, 0], rows["c"][:, :3] / 255, atol=1e-6
    )
    alphas = 1 / (1 + np.exp(-found.logit_opacities))
    np.testing.assert_allclose(alphas, rows["c"][:, 3] / 255, atol=0.3 / 255)
    path.write_bytes(rows.tobytes()[:-5])
    with pytest.raises(ValueError, match=r"32 bytes of each Gaussian .* found 1595 .*short"):
        read_splats(path)


def test_flat_splats_stay_finite_and_other_bytes_are_none():
    rows, _ = antimatter()
    rows["s"][:, 2] = 0.0
    assert np.isfinite(unpack_antimatter(rows.tobytes()).log_scales).all()
    rng = np.random.default_rng(1)
    assert not is_antimatter(b"") and not is_antimatter(bytes(640))
    assert not any(is_antimatter(rng.bytes(32 * 20)) for _ in range(50))
    assert not is_antimatter(b"# a mesh of somebody\nv 0.25 0.5 0.125\n" * 40)


@pytest.mark.parametrize("num_scales", [1, 2])
def test_discs_and_balls_have_fewer_scales(num_scales):
    names = [*"xyz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "rot_0", "rot_1", "rot_2", "rot_3"]
    names += [f"scale_{i}" for i in range(num_scales)]
    rows = np.zeros(4, [(name, "f4") for name in names])
    rows["scale_0"] = -3.0
    if num_scales == 2:
        rows["scale_1"] = -2.0
    scales = np.asarray(unpack_standard(rows).log_scales)
    if num_scales == 1:
        np.testing.assert_array_equal(scales, np.full((4, 3), -3.0))
    else:
        np.testing.assert_array_equal(scales[:, :2], [[-3.0, -2.0]] * 4)
        assert np.all(np.isfinite(scales)) and np.all(scales[:, 2] < -9.0)  # the normal is z


def sound_files(folder):
    rng = np.random.default_rng(2)
    gaussians = Gaussians(
        *(
            rng.normal(size=shape).astype(np.float32)
            for shape in [(20, 3), (20, 4), (20, 3), (20,)]
        ),
        rng.normal(size=(20, 4, 3)).astype(np.float32),
    )
    for ending in (".ply", ".compressed.ply", ".spz"):
        write_splats(folder / f"a{ending}", gaussians)
        yield (folder / f"a{ending}").read_bytes()
    yield antimatter(20)[0].tobytes()
    header = (folder / "a.ply").read_bytes().partition(b"end_header\n")[0]
    rows = rng.normal(size=(20, 23))
    text = "\n".join(" ".join(f"{v:.4g}" for v in row) for row in rows)
    yield header.replace(b"binary_little_endian", b"ascii") + b"end_header\n" + text.encode()
    body = gzip.decompress((folder / "a.spz").read_bytes())
    ends = 16 + 20 * np.cumsum([0, 9, 1, 3, 3, 4, 9])
    streams = [zstandard.compress(body[a:b]) for a, b in itertools.pairwise(ends)]
    table = [
        struct.pack("<QQ", len(s), b - a)
        for s, a, b in zip(streams, ends[:-1], ends[1:], strict=True)
    ]
    yield body[:4] + b"\4\0\0\0" + body[8:15] + b"\6 " + bytes(15) + b"".join(table + streams)
    yield gzip.compress(gzip.decompress((folder / "a.spz").read_bytes())[:9] + bytes(60))


def mutated(rng, content):
    content = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(len(content)))
        match rng.integers(5):
            case 0:
                content[at] = rng.integers(256)
            case 1:
                content[at : at + 4] = rng.bytes(4)
            case 2:
                del content[at : at + int(rng.integers(1, 40))]
            case 3:
                content[at:at] = content[max(at - 30, 0) : at]
            case _:
                content[at : at + 2] = b"99"
        if not content:
            content = bytearray(b"x")
    return bytes(content)


def test_damaged_files_are_read_or_refused_in_one_line(tmp_path):
    rng = np.random.default_rng(7)
    path = tmp_path / "damaged.ply"
    refused = 0
    for content in sound_files(tmp_path):
        for _ in range(40):
            path.write_bytes(mutated(rng, content))
            try:
                read_splats(path)
            except ValueError as error:
                refused += 1
                assert str(path) in str(error) and "\n" not in str(error)
    assert refused > 50
