"""A folder of results that appears complete or not at all."""

import contextlib
import os
import pathlib
from collections.abc import Iterable, Iterator

from render.files_io import replacing, unfinished
from scripts.shell import stopping


@contextlib.contextmanager
def filling_folder(
    folder: str | os.PathLike, followed_by: Iterable[str] = (), what: str = "the files"
) -> Iterator[pathlib.Path]:
    """Yields a temporary folder; its files move to `folder` if the block succeeds.

    When the block raises, `folder` is as before: older results stay, a new folder is not left
    behind. Files of earlier runs under other names are kept. A signal is noted: the files that are
    begun are written to the end.

    Args:
      folder: made when missing.
      followed_by: names of what is written afterwards; an earlier run's is removed, as it does not
        belong to these files.
      what: is in the folder, for the line of a command that is stopped.
    """
    folder = pathlib.Path(folder)
    is_new = not folder.exists()
    with stopping.noted() as stop:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished(folder, is_folder=True) as temporary:
                yield temporary
                for name in followed_by:
                    (folder / name).unlink(missing_ok=True)
                for path in sorted(temporary.iterdir()):
                    path.replace(folder / path.name)
        except BaseException:
            if is_new:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise
        stop.keep(f"{what} in {folder}")


def write_document(path: str | os.PathLike, text: str) -> None:
    """Writes a page or a table."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
