"""Writing files so that a reader never sees half of one."""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`; renames it to `path` if the block succeeds.

    The temporary name keeps the suffix, because writers choose their format by it. When the block
    raises, the temporary file is removed and whatever stood at `path` before stays as it was.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = pathlib.Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp's files are private; outputs are not
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, data: dict) -> None:
    """Writes `data` as indented JSON; arrays and array scalars become lists and numbers."""
    text = json_text(data)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def json_text(data: dict) -> str:
    """Returns `data` as `write_json` writes it."""
    return json.dumps(data, indent=2, allow_nan=False, default=lambda value: value.tolist())


def read_object(path: str | os.PathLike, what: str) -> dict:
    """Reads a JSON file that holds an object.

    Raises:
      ValueError: there is no file, or something else in it; `what` names what was expected.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"expected {what}, found nothing at {path}")
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"expected JSON, found {error.msg} at line {error.lineno}, column {error.colno} "
            f"of {path}"
        ) from None
    except (ValueError, RecursionError):
        raise ValueError(f"expected JSON, found something else in {path}") from None
    if not isinstance(data, dict):
        raise ValueError(f"expected an object of keys, found {str(data)[:40]} in {path}")
    return data


def read_arrays(path: str | os.PathLike, what: str) -> dict[str, np.ndarray]:
    """Reads all arrays of an .npz file; nothing is unpickled.

    Raises:
      ValueError: there is no file, or no whole one; `what` names in the line what was expected.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"expected {what}, found nothing at {path}")
    try:
        # NumPy leaves a file of its own open when it finds it broken.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception:  # NumPy, zipfile and zlib each raise what they like on a damaged file
        raise ValueError(f"expected {what}, found a broken file at {path}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
