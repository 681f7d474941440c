"""Writing files so that a reader never sees half of one."""

import contextlib
import json
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterator

import numpy as np

try:
    import fcntl
except ImportError:  # Windows, where nothing is taken for abandoned
    fcntl = None

_UNFINISHED = ".unfinished."


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`; renames it to `path` if the block succeeds.

    The temporary name keeps the suffix, because writers choose their format by it. When the block
    raises, the temporary file is removed and whatever stood at `path` before stays as it was.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished(path.parent, f".{path.name}") as temporary:
        yield temporary
        temporary.replace(path)


@contextlib.contextmanager
def unfinished(
    folder: pathlib.Path, ending: str = "", is_folder: bool = False
) -> Iterator[pathlib.Path]:
    """Yields a hidden empty file or folder in `folder`, and removes what is left of it afterwards.

    Those that killed processes left in `folder` are removed, too. A lock tells them from those of
    a process that is alive: the system drops it with the process, on whichever machine or in
    whichever container that was.

    Args:
      folder: an existing one.
      ending: of the name.
      is_folder: what to make.
    """
    _remove_abandoned(folder)
    path = folder / f"{_UNFINISHED}{secrets.token_hex(6)}{ending}"
    handle = None
    try:  # from before it is there: a signal may come at any moment
        handle = _claim(path, is_folder)
        yield path
    finally:
        _remove(path)
        if handle is not None:
            os.close(handle)


def _claim(path: pathlib.Path, is_folder: bool) -> int | None:
    """Makes an empty file or folder, and locks it."""
    while True:
        if is_folder:
            path.mkdir()
        else:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o666))
        if fcntl is None:
            return None
        with contextlib.suppress(FileNotFoundError):  # taken for abandoned, before the lock
            handle = os.open(path, os.O_RDONLY)
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if path.exists():
                return handle
            os.close(handle)


def _remove_abandoned(folder: pathlib.Path) -> None:
    for path in folder.glob(f"{_UNFINISHED}*") if fcntl else ():
        with contextlib.suppress(OSError):  # locked, or somebody else removes it just now
            handle = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(handle)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
