"""IR-SE50 against a twin in NumPy that does what torch's layers do, by names of the public file."""

import jax
import numpy as np
import pytest
import torch_files

from models.perception import arcface
from models.perception.arcface import IrSe, IrSeConfig, embed_by_arcface, load_arcface

TINY = IrSeConfig(side=16, stem=4, widths=(4, 8), units=(1, 2), squeeze=2, size=6)
# Input channels, channels, stride: what the official code lists for TINY.
UNITS = [(4, 4, 2), (4, 8, 2), (8, 8, 1)]


def norm_entries(name, channels):
    return {f"{name}.{part}": (channels,) for part in arcface._NORM}


def official_shapes():
    shapes = {"input_layer.0.weight": (4, 3, 3, 3), "input_layer.2.weight": (4,)}
    shapes |= norm_entries("input_layer.1", 4) | norm_entries("output_layer.0", 8)
    shapes |= {"output_layer.3.weight": (6, 8 * 4 * 4), "output_layer.3.bias": (6,)}
    shapes |= norm_entries("output_layer.4", 6)
    for number, (inputs, width, _) in enumerate(UNITS):
        body = f"body.{number}"
        if inputs != width:
            shapes[f"{body}.shortcut_layer.0.weight"] = (width, inputs, 1, 1)
            shapes |= norm_entries(f"{body}.shortcut_layer.1", width)
        shapes |= norm_entries(f"{body}.res_layer.0", inputs)
        shapes[f"{body}.res_layer.1.weight"] = (width, inputs, 3, 3)
        shapes[f"{body}.res_layer.2.weight"] = (width,)
        shapes[f"{body}.res_layer.3.weight"] = (width, width, 3, 3)
        shapes |= norm_entries(f"{body}.res_layer.4", width)
        shapes[f"{body}.res_layer.5.fc1.weight"] = (width // 2, width, 1, 1)
        shapes[f"{body}.res_layer.5.fc2.weight"] = (width, width // 2, 1, 1)
    return shapes


@pytest.fixture(scope="module")
def entries():
    rng = np.random.default_rng(0)

    def draw(shape):
        if len(shape) > 1:
            return rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        return rng.uniform(0.3, 1.7, shape)  # variances among them

    return {name: np.float32(draw(shape)) for name, shape in official_shapes().items()}


@pytest.fixture(scope="module")
def path(entries, tmp_path_factory):
    path = tmp_path_factory.mktemp("arcface") / "model_ir_se50.pth"
    counts = {"input_layer.1.num_batches_tracked": np.array(7)}
    torch_files.write_torch(path, entries | counts)
    return path


def batch_norm(h, entries, name):
    weight, bias, mean, variance = (np.float64(entries[f"{name}.{p}"]) for p in arcface._NORM)
    shape = 1, -1, *[1] * (h.ndim - 2)
    weight, bias, mean, variance = (v.reshape(shape) for v in (weight, bias, mean, variance))
    return (h - mean) / np.sqrt(variance + 1e-5) * weight + bias


def convolve(h, weight, stride=1):
    """torch's Conv2d of [N, C, H, W], padded by half of its window."""
    side = weight.shape[-1]
    rows = -(-h.shape[2] // stride)
    h = np.pad(h, [(0, 0), (0, 0), (side // 2, side // 2), (side // 2, side // 2)])
    found = 0.0
    for i in range(side):
        for j in range(side):
            seen = h[:, :, i : i + stride * rows : stride, j : j + stride * rows : stride]
            seen = seen[:, :, :rows, :rows]
            found = found + np.einsum("nihw,oi->nohw", seen, np.float64(weight[:, :, i, j]))
    return found


def prelu(h, slope):
    return np.where(h > 0, h, slope.reshape(1, -1, 1, 1) * h)


def twin(images, entries):
    """The official forward pass on [N, 3, H, W] in [-1, 1]."""
    h = convolve(images, entries["input_layer.0.weight"])
    h = prelu(batch_norm(h, entries, "input_layer.1"), entries["input_layer.2.weight"])
    for number, (inputs, width, stride) in enumerate(UNITS):
        of = {
            name.removeprefix(f"body.{number}."): value
            for name, value in entries.items()
            if name.startswith(f"body.{number}.")
        }
        if inputs == width:
            shortcut = h[:, :, ::stride, ::stride]  # a pooling of one pixel
        else:
            shortcut = convolve(h, of["shortcut_layer.0.weight"], stride)
            shortcut = batch_norm(shortcut, of, "shortcut_layer.1")
        r = convolve(batch_norm(h, of, "res_layer.0"), of["res_layer.1.weight"])
        r = convolve(prelu(r, of["res_layer.2.weight"]), of["res_layer.3.weight"], stride)
        r = batch_norm(r, of, "res_layer.4")
        gate = r.mean((2, 3), keepdims=True)
        gate = np.maximum(convolve(gate, of["res_layer.5.fc1.weight"]), 0)
        gate = 1 / (1 + np.exp(-convolve(gate, of["res_layer.5.fc2.weight"])))
        h = r * gate + shortcut
    h = batch_norm(h, entries, "output_layer.0").reshape(len(h), -1)
    h = h @ np.float64(entries["output_layer.3.weight"]).T + entries["output_layer.3.bias"]
    h = batch_norm(h, entries, "output_layer.4")
    return h / np.linalg.norm(h, axis=1, keepdims=True)


def test_a_public_file_is_read_and_computes_what_torch_would(path, entries):
    images = np.random.default_rng(1).uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
    found = jax.jit(IrSe(TINY).apply)({"params": load_arcface(path, TINY)}, images)
    expected = twin(images.transpose(0, 3, 1, 2), entries)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_the_default_is_ir_se50():
    strided = IrSeConfig().strided
    assert len(strided) == 24 and sum(stride == 2 for *_, stride in strided) == 4
    config = IrSeConfig()
    shapes = arcface._shapes(config, arcface._places(config), arcface._norms(config))
    assert shapes["output_layer.3.weight"] == (512, 512 * 7 * 7)
    # 43.80 million of the public file, less mean and variance of each normalisation.
    learnt = (s for n, s in shapes.items() if not n.endswith(("running_mean", "running_var")))
    assert sum(int(np.prod(shape)) for shape in learnt) == 43_797_696


def test_other_files_are_refused(tmp_path, entries):
    path = tmp_path / "other.pth"
    short = {name: value for name, value in entries.items() if name != "body.1.res_layer.2.weight"}
    negative = entries | {"output_layer.4.running_var": np.full(6, -1.0, np.float32)}
    cases = {
        r"no body\.1\.res_layer\.2\.weight": short,
        r"unknown body\.9": entries | {"body.9": np.zeros(1, np.float32)},
        "a variance below 0 in output_layer.4": negative,
    }
    for message, values in cases.items():
        torch_files.write_torch(path, values)
        with pytest.raises(ValueError, match=f"expected IR-SE50 in .*, found.*{message}"):
            load_arcface(path, TINY)


def test_pictures_are_cropped_as_psp_does(path):
    """Pooled to 256 pixels if they are of another side, cut, pooled to what the network sees."""
    pool = arcface.pooling_matrix
    assert pool(188, 112).shape == (112, 188) and np.allclose(pool(188, 112).sum(1), 1)
    np.testing.assert_array_equal(
        pool(4, 3), [[0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0.5, 0.5]]
    )
    np.testing.assert_array_equal(pool(2, 4), np.repeat(np.eye(2), 2, 0))
    images = np.zeros((1, 256, 256, 3), np.float32)
    images[0, 35, 32] = 1.0  # the first pixel of the cut
    images[0, 34, :] = images[0, :, 31] = images[0, 223, :] = images[0, :, 220] = 5.0
    face = np.asarray(arcface.cropped(images, 112))
    assert face.shape == (1, 112, 112, 3) and face.max() == face[0, 0, 0, 0] == 0.25
    with pytest.raises(ValueError, match="expected square pictures"):
        embed_by_arcface({}, np.zeros((1, 16, 8, 3), np.float32), TINY)
    large = np.random.default_rng(2).random((1, 512, 512, 3)).astype(np.float32)
    small = large.reshape(1, 256, 2, 256, 2, 3).mean((2, 4))
    ours = [np.asarray(arcface.cropped(x, 16)) for x in (large, small)]
    np.testing.assert_allclose(*ours, atol=1e-6)
