"""A folder of results that appears complete or not at all."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

from render.files_io import replacing


@contextlib.contextmanager
def filling_folder(folder: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary folder; its files move to `folder` if the block succeeds.

    When the block raises, `folder` is as before: older results stay, a new folder is not left
    behind. Files of earlier runs under other names are kept.
    """
    folder = pathlib.Path(folder)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".unfinished.", dir=folder) as name:
            yield pathlib.Path(name)
            for path in sorted(pathlib.Path(name).iterdir()):
                path.replace(folder / path.name)
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def write_document(path: str | os.PathLike, text: str) -> None:
    """Writes a page or a table."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
