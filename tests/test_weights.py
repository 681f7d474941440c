"""Checkpoints are written here byte by byte, honest ones and others, and read back."""

import pickle
import struct
import zipfile

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from models.weights import load_lpips, read_checkpoint, take_entries

KINDS = {
    np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.int64): "LongStorage",
    np.dtype(np.uint8): "ByteStorage",
    np.dtype(np.bool_): "BoolStorage",
}
WIDTHS = (64, 128, 256, 512, 512)
# Where torchvision keeps the convolutions among rectifiers and poolings.
LAYERS = {
    "conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7, "conv3_1": 10, "conv3_2": 12,
    "conv3_3": 14, "conv4_1": 17, "conv4_2": 19, "conv4_3": 21, "conv5_1": 24, "conv5_2": 26,
    "conv5_3": 28,
}  # fmt: skip


# The instructions of a pickle, as torch.save writes them.


def constant(value):
    return pickle.dumps(value, 2)[2:-1]


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def call(function, *arguments):
    return function + b"(" + b"".join(arguments) + b"tR"


def storage(kind, key, size, *view):
    parts = [constant("storage"), named("torch", kind), constant(key), constant("cuda:0")]
    return b"(" + b"".join([*parts, constant(size), *map(constant, view)]) + b"tQ"


ORDERED_DICT = named("collections", "OrderedDict")


def tensor(block, shape, strides, offset=0, function="_rebuild_tensor_v2"):
    arguments = [block, *map(constant, (offset, shape, strides))]
    if function == "_rebuild_tensor_v2":
        arguments += [constant(False), call(ORDERED_DICT)]
    return call(named("torch._utils", function), *arguments)


def program(entries):
    """A pickle of named values; like torch's, with an attribute set on the dictionary."""
    items = b"".join(constant(name) + value for name, value in entries.items())
    metadata = constant({"_metadata": {"": {"version": 1}}})
    return b"\x80\x02" + call(ORDERED_DICT) + b"(" + items + b"u" + metadata + b"b."


def write_zip(path, instructions, blocks, root="archive/", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{root}data.pkl", instructions)
        archive.writestr(f"{root}byteorder", "little")
        for key, content in blocks.items():
            archive.writestr(f"{root}data/{key}", content)


def write_stream(path, instructions, blocks, itemsize=4, little_endian=True):
    system = {"protocol_version": 1001, "little_endian": little_endian}
    header = [0x1950A86A20F9469CFC6C, 1001, system]
    content = b"".join(pickle.dumps(value, 2) for value in header) + instructions
    content += pickle.dumps(list(blocks), 2)
    for block in blocks.values():
        content += struct.pack("<q", len(block) // itemsize) + block
    path.write_bytes(content)


def program_of(arrays):
    """Instructions and storages of plain arrays, a storage for each."""
    entries, blocks = {}, {}
    for key, (name, array) in enumerate(arrays.items()):
        block = storage(KINDS[array.dtype], str(key), array.size)
        strides = tuple(stride // array.itemsize for stride in array.strides)
        entries[name] = tensor(block, array.shape, strides)
        blocks[str(key)] = array.tobytes()
    return program(entries), blocks


def write_torch(path, arrays):
    write_zip(path, *program_of(arrays))


FEW = {
    "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "a.bias": np.array([-1.5, 2.5], np.float32),
    "scalar": np.array(7.0, np.float32),
    "none": np.zeros((0, 3), np.float32),
}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("write", [write_zip, write_stream])
def test_torch_files_hold_the_arrays_that_were_written(tmp_path, write):
    write(tmp_path / "few.pth", *program_of(FEW))
    assert_same(read_checkpoint(tmp_path / "few.pth"), FEW)


@pytest.mark.parametrize("dtype", KINDS)
def test_torch_numbers_keep_their_type(tmp_path, dtype):
    arrays = {"x": np.array([0, 1, 1, 0], dtype)}
    write_torch(tmp_path / "x.pth", arrays)
    assert_same(read_checkpoint(tmp_path / "x.pth"), arrays)


@pytest.mark.parametrize("function", ["_rebuild_tensor", "_rebuild_tensor_v2"])
@pytest.mark.parametrize("write", [write_zip, write_stream])
def test_tensors_may_share_a_storage_and_lie_in_it_transposed(tmp_path, write, function):
    numbers = np.arange(10, dtype=np.float32)
    block = storage("FloatStorage", "0", 10)
    entries = {
        "turned": tensor(block, (3, 2), (1, 3), offset=4, function=function),
        "spread": tensor(block, (2, 2), (0, 1), offset=1, function=function),
    }
    write(tmp_path / "shared.pth", program(entries), {"0": numbers.tobytes()})
    turned = numbers[4:].reshape(2, 3).T
    expected = {"turned": turned, "spread": np.array([[1, 2], [1, 2]], np.float32)}
    assert_same(read_checkpoint(tmp_path / "shared.pth"), expected)


def test_safetensors_are_read_whatever_their_name(tmp_path):
    arrays = FEW | {"half": np.ones(3, ml_dtypes.bfloat16), "count": np.array([2**40])}
    safetensors.numpy.save_file(arrays, tmp_path / "few.pth")
    found = read_checkpoint(tmp_path / "few.pth")
    assert_same({name: found[name] for name in arrays}, arrays)


def malicious(path, how):
    """Programs that would run `touch PATH`."""
    command = constant(f"touch {path}")
    if how == "reduce":
        value = call(named("os", "system"), command)
    elif how == "posix":
        value = call(named("posix", "system"), command)
    elif how == "eval":
        value = call(named("builtins", "eval"), constant(f"open({str(path)!r}, 'w')"))
    elif how == "instance":
        value = b"(" + command + b"ios\nsystem\n"
    elif how == "object":
        value = b"(" + named("os", "system") + command + b"o"
    elif how == "dotted":
        name = constant("_rebuild_tensor.__globals__")
        value = constant("torch._utils") + name + b"\x93"
    elif how == "import":
        value = named("torch.utils.os", "system") + b"(" + command + b"tR"
    return program({"x": value}).replace(b"\x80\x02", b"\x80\x04", 1)


@pytest.mark.parametrize("write", [write_zip, write_stream])
@pytest.mark.parametrize(
    "how, name",
    [
        ("reduce", "os.system"),
        ("posix", "posix.system"),
        ("eval", "builtins.eval"),
        ("instance", "os.system"),
        ("object", "os.system"),
        ("dotted", "torch._utils._rebuild_tensor.__globals__"),
        ("import", "torch.utils.os.system"),
    ],
)
def test_a_pickle_that_runs_something_is_refused_by_name(tmp_path, write, how, name):
    instructions = malicious(tmp_path / "ran", how)
    if how in ("reduce", "posix"):  # the program does what it is meant to, where it may
        pickle.loads(instructions)
        (tmp_path / "ran").unlink()
    write(tmp_path / "bad.pth", instructions, {})
    with pytest.raises(ValueError, match=f"asks for {name}, which is not allowed") as error:
        read_checkpoint(tmp_path / "bad.pth")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


FOUR = np.arange(4, dtype=np.float32).tobytes()
BLOCK = storage("FloatStorage", "0", 4)
LIES = {
    "16 bytes instead of 20": tensor(storage("FloatStorage", "0", 5), (4,), (1,)),
    "16 bytes instead of 12": tensor(storage("FloatStorage", "0", 3), (3,), (1,)),
    r"shape \(5,\) in a storage of 4": tensor(BLOCK, (5,), (1,)),
    r"shape \(2, 2\) in a storage of 4": tensor(BLOCK, (2, 2), (3, 1)),
    r"shape \(1,\) in a storage of 4": tensor(BLOCK, (1,), (1,), offset=4),
    "no list of counts": tensor(BLOCK, (2,), (1,), offset=-1),
    "is no list of counts": tensor(BLOCK, (2,), (-1,), offset=3),
    "a tensor whose place": tensor(BLOCK, (2, 2), (1,)),
    "in its storage is no list": tensor(constant("0"), (2,), (1,)),
    "without a name or a size": tensor(storage("FloatStorage", "0", -4), (2,), (1,)),
    "storage 0 as a view of another": tensor(
        storage("FloatStorage", "0", 4, ("1", 0, 4)), (2,), (1,)
    ),
    "'x', which is no named tensor": constant(3),
}


@pytest.mark.parametrize("message", LIES)
def test_sizes_that_are_not_so_are_refused(tmp_path, message):
    write_zip(tmp_path / "bad.pth", program({"x": LIES[message]}), {"0": FOUR})
    with pytest.raises(ValueError, match=rf"expected a checkpoint, found .*bad\.pth: .*{message}"):
        read_checkpoint(tmp_path / "bad.pth")


def test_archives_that_torch_does_not_write_are_refused(tmp_path):
    path, instructions = tmp_path / "bad.pth", program({"x": tensor(BLOCK, (4,), (1,))})
    write_zip(path, instructions, {"0": FOUR}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="a compressed archive/"):
        read_checkpoint(path)
    write_zip(path, instructions, {})
    with pytest.raises(ValueError, match="an archive without archive/data/0"):
        read_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(ValueError, match=r"0 entries called data\.pkl"):
        read_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", instructions)
        archive.writestr("a/byteorder", "big")
    with pytest.raises(ValueError, match="not little-endian"):
        read_checkpoint(path)
    write_zip(path, pickle.dumps([1, 2], 2), {})
    with pytest.raises(ValueError, match="a list instead of named tensors"):
        read_checkpoint(path)
    write_zip(path, b"\x80\x02r\xff\xff\xff\xff.", {})  # memo entry 2^32 - 1
    with pytest.raises(ValueError, match="more entries than bytes"):
        read_checkpoint(path)


def test_bare_streams_that_torch_does_not_write_are_refused(tmp_path):
    path, instructions = tmp_path / "bad.pth", program({"x": tensor(BLOCK, (4,), (1,))})
    write_stream(path, instructions, {"0": FOUR}, little_endian=False)
    with pytest.raises(ValueError, match="not little-endian"):
        read_checkpoint(path)
    write_stream(path, instructions, {"0": FOUR, "1": FOUR})
    with pytest.raises(ValueError, match="storage '1', which belongs to no tensor"):
        read_checkpoint(path)
    write_stream(path, instructions, {})
    with pytest.raises(ValueError, match="no storage 0"):
        read_checkpoint(path)
    write_stream(path, instructions, {"0": FOUR})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="12 bytes instead of 16"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps({"x": 1}, 2))
    with pytest.raises(ValueError, match=r"a pickle that torch\.save did not write"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 no", b"\x80\x02", b"\x80\x02}"])
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "bad.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected a checkpoint, found .*bad\.pth") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="expected a checkpoint, found nothing at"):
        read_checkpoint(tmp_path / "none.pth")


def test_entries_that_do_not_fit_are_reported_by_name():
    shapes = {"w": (2, 3), "b": (2,)}
    good = {"b": np.zeros(2), "w": np.ones((2, 3)), "extra.x": np.zeros(1)}
    assert list(take_entries(good, shapes, "a layer", ("extra.",))) == ["w", "b"]
    with pytest.raises(ValueError, match=r"^expected a layer, found unknown extra\.x$"):
        take_entries(good, shapes, "a layer")
    with pytest.raises(ValueError, match=r"^expected a layer, found no w; no b$"):
        take_entries({}, shapes, "a layer")
    bad = {"w": np.zeros((3, 2)), "b": np.array([0, np.nan]), "c": np.zeros(1), "d": np.zeros(1)}
    message = (
        r"w of shape \(3, 2\) instead of \(2, 3\); b with values that are not finite; "
        r"unknown c; 1 more$"
    )
    with pytest.raises(ValueError, match=message):
        take_entries(bad, shapes, "a layer")


def test_lpips_weights_go_where_their_names_say(tmp_path):
    rng = np.random.default_rng(0)
    trunk, channels = {"classifier.0.bias": np.zeros(5, np.float32)}, 3
    for our_name, index in LAYERS.items():
        width = WIDTHS[int(our_name[4]) - 1]
        trunk[f"features.{index}.weight"] = rng.random((width, channels, 3, 3), np.float32)
        trunk[f"features.{index}.bias"] = rng.random(width, np.float32)
        channels = width
    heads = {
        f"lin{tap}.model.1.weight": rng.random((1, width, 1, 1), np.float32)
        for tap, width in enumerate(WIDTHS)
    }
    write_torch(tmp_path / "trunk.pth", trunk)
    safetensors.numpy.save_file(heads, tmp_path / "heads.safetensors")
    params = load_lpips(tmp_path / "trunk.pth", tmp_path / "heads.safetensors")
    assert set(params["trunk"]) == set(LAYERS)
    for our_name, index in LAYERS.items():
        layer = params["trunk"][our_name]
        weight = trunk[f"features.{index}.weight"]  # out, in, row, column
        np.testing.assert_array_equal(layer["kernel"][0, 2], weight[:, :, 0, 2].T)
        np.testing.assert_array_equal(layer["bias"], trunk[f"features.{index}.bias"])
        assert layer["kernel"].shape == (3, 3, *weight.shape[1::-1])
        assert layer["kernel"].dtype == jnp.float32
    for tap in range(5):
        np.testing.assert_array_equal(
            params[f"head{tap + 1}"], heads[f"lin{tap}.model.1.weight"].ravel()
        )
    with pytest.raises(ValueError, match=r"expected VGG16 in .*heads.*, found no features\.0\.wei"):
        load_lpips(tmp_path / "heads.safetensors", tmp_path / "heads.safetensors")
    with pytest.raises(ValueError, match=r"expected LPIPS heads in .*trunk\.pth, found no lin0"):
        load_lpips(tmp_path / "trunk.pth", tmp_path / "trunk.pth")
