"""Public checkpoints become the parameters of our networks: named arrays, checked one by one.

| file | format | read by |
| --- | --- | --- |
| `.safetensors` | Hugging Face's | the library of that name |
| `.pth`, `.pt`, `.bin` | what `torch.save` writes | `models.torch_io` |

The format is told by the content, not by the name. A folder as diffusers and transformers write it
holds `config.json`, and its entries in one file or in several with an index. What the entries of a
checkpoint are called is known to the file of the network, or follows from the network itself
(`models.torch_names`).
"""

import contextlib
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from models import torch_io
from models.torch_names import Place, torch_places
from render import files_io

Config = TypeVar("Config")
_DATA = pathlib.Path(__file__).parent / "data"
_MAX_NAMED = 3  # faults in one message
# Of diffusers, of transformers, and of both before there were safetensors.
_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_VARIANTS = ("", ".fp16", ".bf16")  # the full one first


class _Entries(NamedTuple):
    """The entries of a checkpoint that is open."""

    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]


def shipped_weights(prefix: str) -> dict[str, pathlib.Path]:
    """Returns the files of weights that come along, by what their names say after a prefix."""
    paths = sorted(_DATA.glob(f"{prefix}*.safetensors"))
    return {path.stem.removeprefix(prefix): path for path in paths}


def find_weights(name: str | os.PathLike, prefix: str, what: str) -> pathlib.Path:
    """Returns the file of weights that come along by this name, or of this path.

    Args:
      name: without the prefix, or a path.
      prefix: of the names of files that come along.
      what: is expected, for the message.

    Raises:
      ValueError: in one line, when it is neither.
    """
    known = shipped_weights(prefix)
    if str(name) in known:
        return known[str(name)]
    if not pathlib.Path(name).is_file():
        raise ValueError(
            f"expected {what}'s file or one of {', '.join(known)}, found nothing at {name}"
        )
    return pathlib.Path(name)


def read_entries(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the named arrays of a checkpoint, in its order.

    Raises:
      ValueError: when `path` is no checkpoint, or one that asks for more than its arrays.
    """
    with _opened(path) as entries:
        return {name: entries.read(name) for name in entries.shapes}


def write_entries(
    path: str | os.PathLike,
    entries: Mapping[str, np.ndarray],
    name: str,
    about: Mapping[str, Any],
    dtype: type = np.float32,
) -> None:
    """Writes named arrays as safetensors, in whole or not at all.

    Args:
      path: the file.
      entries: the arrays, by name.
      name: of the header's entry that says what they are.
      about: JSON, that entry.
      dtype: that arrays of numbers with a point are stored in.

    Raises:
      ValueError: when that holds not all of their values.
    """
    arrays = {}
    for key, entry in jax.device_get(dict(entries)).items():
        array = np.asarray(entry, order="C")
        is_real = np.issubdtype(array.dtype, np.floating)
        arrays[key] = array.astype(dtype) if is_real else array
        if is_real and dtype == np.float16 and not np.isfinite(arrays[key]).all():
            raise ValueError(f"expected parameters that float16 holds, found others in {key}")
    metadata = {name: json.dumps(about, sort_keys=True)}
    with files_io.replacing(path) as temporary:
        # The library's own writing of files would leave them readable to their owner alone.
        temporary.write_bytes(safetensors.numpy.save(arrays, metadata))


def read_about(path: str | os.PathLike, name: str) -> dict[str, Any] | None:
    """Reads what `write_entries` was told about the arrays of a file.

    Args:
      path: of any file.
      name: of the header's entry.

    Returns:
      The JSON, empty where the entry is broken; None when the file has none, or is no safetensors.
    """
    try:
        with safetensors.safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(name)
    except (safetensors.SafetensorError, OSError):
        return None
    if text is None:
        return None
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def take_entries(
    entries: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    what: str,
    ignored: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """Returns the entries that `shapes` names, in its order.

    Args:
      entries: what a checkpoint holds.
      shapes: what it has to hold.
      what: is being read, for the message.
      ignored: beginnings of names that may be there and are not wanted.

    Raises:
      ValueError: when entries are missing, have another shape, are not finite or are not known.
    """
    faults = [f"no {name}" for name in shapes if name not in entries]
    for name, entry in entries.items():
        if name in shapes and entry.shape != shapes[name]:
            faults.append(f"{name} of shape {entry.shape} instead of {shapes[name]}")
        elif name in shapes and not np.isfinite(entry.astype(np.float32)).all():
            faults.append(f"{name} with values that are not finite")
        elif name not in shapes and not name.startswith(ignored):
            faults.append(f"unknown {name}")
    _refuse(faults, what)
    return {name: entries[name] for name in shapes}


def read_config(folder: str | os.PathLike, from_json: Callable[[dict[str, Any]], Config]) -> Config:
    """Reads the settings of the network in a folder.

    Args:
      folder: with a `config.json`.
      from_json: makes settings of its entries, or raises a ValueError.

    Raises:
      ValueError: when there is no such file, or its entries are refused; names the file.
    """
    path = pathlib.Path(folder) / "config.json"
    values = files_io.read_object(path, "the settings of a network")
    try:
        return from_json(values)
    except ValueError as error:
        raise ValueError(f"{error} in {path}") from None


def load_params(
    folder: str | os.PathLike,
    shapes: dict,
    dtype: Any = jnp.float32,
    rename: Callable[[str], str | None] = str,
) -> dict:
    """Loads the parameters of a network from a folder, one array at a time.

    Of several variants the one in full precision is taken. A convolution of one pixel passes for
    the linear map that it is.

    Args:
      folder: as diffusers or transformers write it.
      shapes: the network's tree of whatever has a shape; from `param_shapes`.
      dtype: to cast to.
      rename: gives the present name of an entry, None if it is not wanted.

    Returns:
      The tree, with arrays.

    Raises:
      ValueError: when a file is missing or broken, or the entries are not exactly the network's;
        names file and entry.
    """
    places = torch_places(shapes)
    leaves = {}
    with contextlib.ExitStack() as stack:
        files = {path: stack.enter_context(_opened(path)) for path in _weight_files(folder)}
        sources = _find_sources(folder, files, places, rename)
        for known, place in places.items():
            path, name = sources[known]
            entry = place.arrange(files[path].read(name).reshape(place.shape))
            with np.errstate(over="ignore"):
                entry = entry.astype(dtype)
            if not np.isfinite(entry).all():
                fault = f"{name} with values that are not finite in {entry.dtype}"
                _refuse([fault], f"weights in {path}")
            leaves[place.path] = jax.device_put(entry)
    return traverse_util.unflatten_dict(leaves)


def _find_sources(
    folder: str | os.PathLike,
    files: Mapping[pathlib.Path, _Entries],
    places: Mapping[str, Place],
    rename: Callable[[str], str | None],
) -> dict[str, tuple[pathlib.Path, str]]:
    """Tells of each entry that is wanted which file has it, and under which name.

    No array is read for it: a folder of another network is refused at once.
    """
    sources, faults = {}, []
    for path, entries in files.items():
        for name, shape in entries.shapes.items():
            known = rename(name)
            if known is None:
                continue
            if known not in places:
                faults.append(f"unknown {name} in {path.name}")
            elif known in sources:
                faults.append(f"{name} twice, again in {path.name}")
            elif not _is_like(shape, places[known].shape):
                instead = f"{shape} instead of {places[known].shape}"
                faults.append(f"{name} of shape {instead} in {path.name}")
            sources[known] = path, name
    faults += [f"no {name}" for name in places if name not in sources]
    where = ", ".join(path.name for path in files)
    _refuse(faults, f"weights in {where} of {folder}")
    return sources


def _refuse(faults: list[str], what: str) -> None:
    """Raises a ValueError if there are faults."""
    if faults:
        rest = f"; {len(faults) - _MAX_NAMED} more" if len(faults) > _MAX_NAMED else ""
        raise ValueError(f"expected {what}, found {'; '.join(faults[:_MAX_NAMED])}{rest}")


def _is_like(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Tells whether a shape is the expected one, but for a window of one pixel."""
    is_linear = len(expected) == 2 and set(shape[2:]) <= {1}
    return shape == expected or (is_linear and shape[:2] == expected)


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[_Entries]:
    """Opens a checkpoint; of one in safetensors nothing is read but what is asked for."""
    if not pathlib.Path(path).is_file():
        raise ValueError(f"expected a checkpoint, found nothing at {path}")
    if torch_io.is_torch(path):
        arrays = torch_io.read_torch(path)
        yield _Entries({name: array.shape for name, array in arrays.items()}, arrays.__getitem__)
        return
    try:
        with safetensors.safe_open(path, framework="np") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
            yield _Entries(shapes, file.get_tensor)
    except safetensors.SafetensorError as error:
        message = " ".join(str(error).split())
        cut = _first_cut(path)
        where = f" (it ends before {cut} does)" if cut else ""
        raise ValueError(f"expected a checkpoint, found {path}: {message}{where}") from None


def _first_cut(path: str | os.PathLike) -> str | None:
    """Names the first entry that does not fit into a file of safetensors, if that is its fault."""
    content = np.memmap(path, np.uint8, mode="r") if os.path.getsize(path) > 8 else b""
    length = int.from_bytes(bytes(content[:8]), "little")
    try:
        header = json.loads(bytes(content[8 : 8 + length]))
        ends = {
            name: entry["data_offsets"][1]
            for name, entry in header.items()
            if name != "__metadata__"
        }
        cut = [name for name in ends if 8 + length + ends[name] > len(content)]
        return min(cut, key=ends.get, default=None)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None


def _weight_files(folder: str | os.PathLike) -> list[pathlib.Path]:
    """Finds the files that hold a folder's entries."""
    folder = pathlib.Path(folder)
    for variant, stem in itertools.product(_VARIANTS, _STEMS):
        index = folder / f"{stem}.safetensors.index{variant}.json"
        if index.is_file():
            return _shards(index)
        for ending in ("safetensors", "bin"):
            path = folder / f"{stem}{variant}.{ending}"
            if path.is_file():
                return [path]
    found = ", ".join(sorted(path.name for path in folder.glob("*"))) or "nothing"
    raise ValueError(f"expected {_STEMS[0]}.safetensors or its like in {folder}, found {found}")


def _shards(index: pathlib.Path) -> list[pathlib.Path]:
    """Finds the files that an index names."""
    names = files_io.read_object(index, "an index").get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ValueError(f"expected a weight_map in {index}, found none")
    shards = {}
    for entry, name in names.items():
        if not isinstance(name, str) or pathlib.PurePath(name).name != name:
            raise ValueError(f"expected the name of a file for {entry} in {index}, found {name!r}")
        shards.setdefault(index.parent / name, entry)
    for path, entry in shards.items():
        if not path.is_file():
            raise ValueError(f"expected {path} with {entry}, as {index.name} says, found nothing")
    return list(shards)
