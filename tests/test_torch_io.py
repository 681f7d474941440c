"""Files of torch.save are written here byte by byte, honest ones and others, and read back."""

import pickle
import zipfile

import numpy as np
import pytest
from torch_files import (
    FEW,
    KINDS,
    assert_same,
    call,
    constant,
    named,
    program,
    program_of,
    storage,
    tensor,
    write_stream,
    write_torch,
    write_zip,
)

from models.torch_io import read_torch


@pytest.mark.parametrize("write", [write_zip, write_stream])
def test_torch_files_hold_the_arrays_that_were_written(tmp_path, write):
    write(tmp_path / "few.pth", *program_of(FEW))
    assert_same(read_torch(tmp_path / "few.pth"), FEW)


@pytest.mark.parametrize("dtype", KINDS)
def test_torch_numbers_keep_their_type(tmp_path, dtype):
    arrays = {"x": np.array([0, 1, 1, 0], dtype)}
    write_torch(tmp_path / "x.pth", arrays)
    assert_same(read_torch(tmp_path / "x.pth"), arrays)


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
    assert_same(read_torch(tmp_path / "shared.pth"), expected)


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
        read_torch(tmp_path / "bad.pth")
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
    with pytest.raises(
        ValueError, match=rf"expected a file of torch.save, found .*bad\.pth: .*{message}"
    ):
        read_torch(tmp_path / "bad.pth")


def test_archives_that_torch_does_not_write_are_refused(tmp_path):
    path, instructions = tmp_path / "bad.pth", program({"x": tensor(BLOCK, (4,), (1,))})
    write_zip(path, instructions, {"0": FOUR}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="a compressed archive/"):
        read_torch(path)
    write_zip(path, instructions, {})
    with pytest.raises(ValueError, match="an archive without archive/data/0"):
        read_torch(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(ValueError, match=r"0 entries called data\.pkl"):
        read_torch(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", instructions)
        archive.writestr("a/byteorder", "big")
    with pytest.raises(ValueError, match="not little-endian"):
        read_torch(path)
    write_zip(path, pickle.dumps([1, 2], 2), {})
    with pytest.raises(ValueError, match="a list instead of named tensors"):
        read_torch(path)
    write_zip(path, b"\x80\x02r\xff\xff\xff\xff.", {})  # memo entry 2^32 - 1
    with pytest.raises(ValueError, match="counts more entries than it has"):
        read_torch(path)


def test_bare_streams_that_torch_does_not_write_are_refused(tmp_path):
    path, instructions = tmp_path / "bad.pth", program({"x": tensor(BLOCK, (4,), (1,))})
    write_stream(path, instructions, {"0": FOUR}, little_endian=False)
    with pytest.raises(ValueError, match="not little-endian"):
        read_torch(path)
    write_stream(path, instructions, {"0": FOUR, "1": FOUR})
    with pytest.raises(ValueError, match="storage '1', which belongs to no tensor"):
        read_torch(path)
    write_stream(path, instructions, {})
    with pytest.raises(ValueError, match="no storage 0"):
        read_torch(path)
    write_stream(path, instructions, {"0": FOUR})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="12 bytes instead of 16"):
        read_torch(path)
    path.write_bytes(pickle.dumps({"x": 1}, 2))
    with pytest.raises(ValueError, match=r"a pickle that torch\.save did not write"):
        read_torch(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04 no", b"\x80\x02", b"\x80\x02}", b"", b"hello"])
def test_what_is_no_file_of_torch_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "bad.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected a file of torch\.save, found .*bad") as error:
        read_torch(path)
    assert "\n" not in str(error.value)
