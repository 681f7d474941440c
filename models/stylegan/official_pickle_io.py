"""Reads the pickles of NVIDIA's StyleGAN2, without torch, and executes nothing that is in them.

A network is pickled as a call of `_reconstruct_persistent_obj` with the Python source of its class,
which the official reader executes, and the state of the object, which is all that is read here: a
tree of modules with tensors and plain settings. A tensor's numbers are a stream of `torch.save`
inside the pickle. Older files, of TensorFlow, are a tuple of three networks with named arrays.
Whatever else a file names stops the reading.

Sources: `torch_utils/persistence.py` and `legacy.py` of stylegan2-ada-pytorch and of stylegan3,
`dnnlib/tflib/network.py` of stylegan2.
"""

import io
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.torch_io import cut_tensor, read_storage
from render.pickle_io import Dictionary, Record, array_of, one_line, run_pickle, stand_in

NETWORKS = ("G", "D", "G_ema")  # in the order of TensorFlow's tuples
_MOST_DEPTH = 8  # of modules in modules; a generator's are four deep
_RECORDS = {("dnnlib.tflib.network", "Network"), ("tflib.network", "Network")}
_DICTS = {("dnnlib.util", "EasyDict"), ("dnnlib", "EasyDict")}


class Module(NamedTuple):
    """A network, or a layer of one, as it lies in its file."""

    kind: str  # the name of its class, or in TensorFlow of the function that builds it
    settings: dict[str, Any]  # numbers, texts, None, and tuples of numbers
    arrays: dict[str, NDArray]  # its own parameters and buffers
    parts: dict[str, "Module"]
    is_tensorflow: bool = False

    def tree(self, path: str = "") -> dict[str, "Module"]:
        """All modules from this one on, by their path: "", "synthesis", "synthesis.b4", ..."""
        found = {path: self}
        for name, part in self.parts.items():
            found |= part.tree(f"{path}.{name}" if path else name)
        return found

    def named_arrays(self) -> dict[str, NDArray]:
        """All arrays from this module on, by path and name: "synthesis.b4.const", ..."""
        return {
            f"{path}.{name}" if path else name: array
            for path, module in self.tree().items()
            for name, array in module.arrays.items()
        }


class _Persistent(NamedTuple):
    """An object with its source, as the pickle describes it."""

    description: Any


def read_official(path: str | os.PathLike) -> dict[str, Module]:
    """Reads the networks of an official pickle: those of "G", "D" and "G_ema" that it has.

    Raises:
      ValueError: in one line, when the file is another one, or broken, or asks for anything but
        what such networks are made of, which is then named.
    """
    path = pathlib.Path(path)
    content = path.read_bytes()
    try:
        networks = _networks(run_pickle(io.BytesIO(content), _look_up))
        for name, network in networks.items():
            _check_size(name, network, len(content))
        return networks
    except Exception as error:  # a pickle makes its reader raise whatever it likes
        line = one_line(error)
        raise ValueError(f"expected a pickle of StyleGAN2, found {path}: {line}") from None


def _look_up(module: str, name: str) -> Any:
    """What takes the place of a name that networks are made of, new each time; None for others."""
    match module, name:
        case "torch_utils.persistence", "_reconstruct_persistent_obj":
            return lambda description: _Persistent(description)
        case "torch._utils", "_rebuild_parameter":
            return lambda tensor, *_: tensor
        case "torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor":
            return lambda *args: _rebuild_tensor(*args)
        case "torch.storage", "_load_from_bytes":
            return lambda content: _load_storage(content)
    if (module, name) in _RECORDS:
        return type(name, (Record,), {"name": name})
    if (module, name) in _DICTS:
        return type(name, (Dictionary,), {})
    return None if module.startswith("chumpy") else stand_in(module, name)


def _load_storage(content: Any) -> NDArray:
    if not isinstance(content, bytes):
        raise ValueError(f"a storage in a {type(content).__name__}")
    return read_storage(content)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> NDArray:
    if not isinstance(storage, np.ndarray) or storage.ndim != 1:
        raise ValueError("a tensor without a storage")
    return cut_tensor(storage, offset, shape, strides)


def _check_size(name: str, network: Module, most: int) -> None:
    """Refuses arrays that share their bytes: they grow when they are made ours."""
    size = sum(array.nbytes for array in network.named_arrays().values())
    if size > most:
        raise ValueError(f"{name} of {size} bytes in a file of {most}")


def _networks(data: Any) -> dict[str, Module]:
    if isinstance(data, tuple) and len(data) == len(NETWORKS) and all(map(_is_tensorflow, data)):
        return {
            name: _tensorflow_module(network, _MOST_DEPTH, set())
            for name, network in zip(NETWORKS, data, strict=True)
        }
    if not isinstance(data, dict):
        raise ValueError(f"a {type(data).__name__} instead of networks")
    found = {name: data[name] for name in NETWORKS if data.get(name) is not None}
    if not found:
        raise ValueError(f"none of {', '.join(NETWORKS)} in it")
    return {name: _module(value, _MOST_DEPTH, set()) for name, value in found.items()}


def _module(value: Any, depth: int, seen: set[int]) -> Module:
    description = value.description if isinstance(value, _Persistent) else None
    if not isinstance(description, dict) or description.get("type") != "class":
        raise ValueError(f"a {type(value).__name__} instead of a module")
    state = description.get("state")
    _enter(state, depth, seen)
    arrays = {
        name: array
        for group in ("_parameters", "_buffers")
        for name, array in _entries(state, group).items()
    }
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name}, which is no tensor")
    parts = {
        name: _module(part, depth - 1, seen) for name, part in _entries(state, "_modules").items()
    }
    return Module(_kind(description.get("class_name")), _settings(state), arrays, parts)


def _enter(state: Any, depth: int, seen: set[int]) -> None:
    if not depth or id(state) in seen:
        raise ValueError("a module inside itself, in two places, or too deep to be one")
    seen.add(id(state))


def _kind(name: Any) -> str:
    """The name of a class; of anything else not even the text is made, which may be endless."""
    if not isinstance(name, str):
        raise ValueError(f"a {type(name).__name__} as the name of a class")
    return name


def _entries(state: Any, group: str) -> dict[str, Any]:
    """The entries of a dict in a state, without those that are None."""
    entries = state.get(group, {}) if isinstance(state, dict) else None
    if not isinstance(entries, dict):
        raise ValueError(f"a module without {group}")
    return _named({name: value for name, value in dict(entries).items() if value is not None})


def _named(entries: dict) -> dict[str, Any]:
    if not all(isinstance(name, str) and name.isidentifier() for name in entries):
        raise ValueError("a part of a module without a name")
    return entries


def _settings(values: Mapping) -> dict[str, Any]:
    """The entries that are a plain value; numbers of NumPy become Python's."""
    settings = {}
    for name, value in dict(values).items():
        array = None if isinstance(value, np.ndarray) else array_of(value)
        if array is not None and array.dtype == object:
            raise ValueError("a number that is too large for any setting")
        if array is not None and array.ndim <= 1:
            settings[name] = tuple(array.tolist()) if array.ndim else array.item()
        elif value is None or isinstance(value, str):
            settings[name] = value
    return settings


def _is_tensorflow(network: Any) -> bool:
    return (
        isinstance(network, Record)
        and network.name == "Network"
        and isinstance(network.state, dict)
    )


def _tensorflow_module(network: Any, depth: int, seen: set[int]) -> Module:
    if not _is_tensorflow(network):
        raise ValueError("a network of TensorFlow without a state")
    state = network.state
    _enter(state, depth, seen)
    kwargs, parts = state.get("static_kwargs", {}), state.get("components", {})
    variables = state.get("variables", [])
    if not isinstance(kwargs, dict) or not isinstance(parts, dict) or not _are_pairs(variables):
        raise ValueError("a network of TensorFlow whose state is another's")
    arrays = {}
    for name, value in variables:
        array = array_of(value)
        if not isinstance(name, str) or array is None:
            raise ValueError("a variable of TensorFlow that is no array with a name")
        arrays[name] = array
    components = {
        name: _tensorflow_module(part, depth - 1, seen)
        for name, part in _named(dict(parts)).items()
    }
    return Module(
        _kind(state.get("build_func_name")),
        _settings(kwargs) | _settings({"version": state.get("version")}),
        arrays,
        components,
        is_tensorflow=True,
    )


def _are_pairs(variables: Any) -> bool:
    return isinstance(variables, list) and all(
        isinstance(pair, tuple) and len(pair) == 2 for pair in variables
    )
