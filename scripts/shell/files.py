"""The files that a flag names: one, several with commas, a folder, or a pattern."""

import glob
import os
import pathlib
from collections.abc import Iterator, Sequence


def list_files(values: Sequence[str], endings: Sequence[str], flag: str) -> list[str]:
    """Names the files that the values of a flag stand for, in the order given.

    A name may hold commas: the longest run of pieces that exists is one name. What is not there is
    named all the same, so that whoever reads it says so.

    Args:
      values: of the flag, one for each time it was given.
      endings: of the files that are taken from a folder, in lower case.
      flag: its name, for the message.

    Raises:
      ValueError: a folder or a pattern without such a file.
    """
    return [
        name for value in values for one in _split(value) for name in _expand(one, endings, flag)
    ]


def _split(value: str) -> Iterator[str]:
    pieces = value.split(",")
    while pieces:
        runs = (",".join(pieces[:n]).strip() for n in range(len(pieces), 1, -1))
        name = next((run for run in runs if _matches(run)), pieces[0].strip())
        pieces = pieces[name.count(",") + 1 :]
        if name:
            yield os.path.expanduser(name)


def _matches(name: str) -> bool:
    name = os.path.expanduser(name)
    return os.path.exists(name) or bool(glob.has_magic(name) and glob.glob(name))


def _expand(name: str, endings: Sequence[str], flag: str) -> list[str]:
    """Names the files of a folder, or of a pattern, sorted; a file's own name as it is."""
    if os.path.isdir(name):
        found = [path for path in pathlib.Path(name).iterdir() if not path.name.startswith(".")]
        found = [str(path) for path in found if path.suffix.lower() in endings]
        wanted = f"files ending in {', '.join(endings)} in {name}"
    elif glob.has_magic(name) and not os.path.exists(name):
        found = glob.glob(name, recursive=True)
        wanted = f"files like {name}"
    else:
        return [name]
    found = sorted(path for path in found if os.path.isfile(path))
    if not found:
        raise ValueError(f"expected {wanted} for --{flag}, found none")
    return found
