"""Writes files as `torch.save` does, instruction by instruction, honest ones and others."""

import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np

KINDS = {
    np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.int64): "LongStorage",
    np.dtype(np.uint8): "ByteStorage",
    np.dtype(np.bool_): "BoolStorage",
}

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
    path.write_bytes(stream_bytes(instructions, blocks, itemsize, little_endian))


def stream_bytes(instructions, blocks, itemsize=4, little_endian=True):
    system = {"protocol_version": 1001, "little_endian": little_endian}
    header = [0x1950A86A20F9469CFC6C, 1001, system]
    content = b"".join(pickle.dumps(value, 2) for value in header) + instructions
    content += pickle.dumps(list(blocks), 2)
    for block in blocks.values():
        content += struct.pack("<q", len(block) // itemsize) + block
    return content


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
