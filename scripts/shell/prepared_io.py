"""What is worked out from a model alone is kept in the user's cache folder, for the next run.

A file is named by a digest of what its tree was made of and of the project's code, so that it is
never stale; what cannot be read is made anew.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any, TypeVar

import platformdirs

from render.tree_io import digest_of, digest_of_code, drop_oldest, read_tree, write_tree

_ROOMS = ("recon", "render")  # whose code makes what is kept
_MOST_FILES = 8  # tens of megabytes each
_DIGITS = 16  # of a digest

Tree = TypeVar("Tree")


def prepared(make: Callable[..., Tree], *arguments: Any) -> Tree:
    """Returns `make(*arguments)`, from the cache folder if it was made before.

    Args:
      make: a pure function of this project.
      arguments: trees of records, numbers and arrays.
    """
    folder = platformdirs.user_cache_path("mien", appauthor=False) / "prepared"
    digest = digest_of(arguments)[:_DIGITS] + digest_of_code(*_ROOMS)[:_DIGITS]
    path = folder / f"{make.__module__}.{make.__name__}-{digest}.safetensors"
    with contextlib.suppress(Exception):  # whatever a damaged file does
        tree = read_tree(path)
        os.utime(path)  # the ones not used for longest go first
        return tree
    tree = make(*arguments)
    with contextlib.suppress(OSError):  # a full disk, a folder that is not ours
        write_tree(path, tree)
        drop_oldest(folder, _MOST_FILES)
    return tree
