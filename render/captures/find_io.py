"""Finds the files that a capture names, on another machine than the one that named them."""

import os
import pathlib
import re
from collections.abc import Iterator, Sequence

from PIL import Image

_SHRUNK = re.compile(r"images_\d+", re.IGNORECASE)
_PLACES = ("images", "input")


class Finder:
    """Looks for photos and masks; remembers what it saw of each folder."""

    def __init__(self, roots: Sequence[str | os.PathLike]):
        """Takes the folders that names may count from, the likeliest first."""
        self.roots = [pathlib.Path(root) for root in roots]
        self._entries = {}
        Image.init()  # knows no endings before
        self._endings = {ending.lower() for ending in Image.registered_extensions()}

    def find(self, name: str) -> pathlib.Path | None:
        """Returns where the photo of that name is, if anywhere.

        Separators may be those of Windows. Letter case may differ, the ending may differ or be left
        out, and the photo may lie in images/, images_2/ and the like, or input/ in place of the
        folder that is named. Of a path from another machine's root the end counts.
        """
        parts = _parts(name)
        tails = [parts]
        if _is_absolute(name):
            if (place := self._resolve(pathlib.Path(name).parent, parts[-1:])) is not None:
                return place
            tails = [parts[i:] for i in range(len(parts))]
        for tail in tails:
            for root in self.roots:
                for folder, rest in self._candidates(root, tail):
                    if (place := self._resolve(folder, rest)) is not None:
                        return place
        return None

    def find_mask(self, name: str) -> pathlib.Path | None:
        """Looks for a photo's mask in a folder called masks beside that of the photos."""
        parts = _parts(name)
        inner = parts[1:] if len(parts) > 1 and _is_place(parts[0]) else parts
        for root in self.roots:
            folder = root / "masks"
            for rest in (inner, parts, parts[1:]):
                for file in (f"{rest[-1]}.png", rest[-1]) if rest else ():
                    if (place := self._resolve(folder, [*rest[:-1], file])) is not None:
                        return place
        return None

    def _candidates(
        self, root: pathlib.Path, parts: list[str]
    ) -> Iterator[tuple[pathlib.Path, list[str]]]:
        """Yields the folders to look in, and the path within each."""
        if len(parts) > 1:
            yield root, parts
        inner = parts[1:] if len(parts) > 1 and _is_place(parts[0]) else parts
        entries = (name for names in self._list(root)[0].values() for name in names)
        shrunk = sorted(filter(_SHRUNK.fullmatch, entries), key=lambda name: int(name[7:]))
        for place in (_PLACES[0], *shrunk, *_PLACES[1:]):
            if (folder := self._entry(root, place)) is not None:
                yield folder, inner
        yield root, inner

    def _resolve(self, folder: pathlib.Path, parts: list[str]) -> pathlib.Path | None:
        for part in parts[:-1]:
            folder = folder / part if part == ".." else self._entry(folder, part)
            if folder is None:
                return None
        return self._photo(folder, parts[-1])

    def _photo(self, folder: pathlib.Path, name: str) -> pathlib.Path | None:
        if (place := self._entry(folder, name)) is not None and place.is_file():
            return place
        stem, ending = os.path.splitext(name.lower())
        stems = [name.lower(), stem] if ending in self._endings else [name.lower()]
        _, by_stem = self._list(folder)
        return next((folder / min(by_stem[stem]) for stem in stems if stem in by_stem), None)

    def _entry(self, folder: pathlib.Path, name: str) -> pathlib.Path | None:
        """Returns what `folder` holds under that name in whatever case; as written comes first."""
        if (folder / name).exists():
            return folder / name
        names = self._list(folder)[0].get(name.lower())
        return folder / min(names) if names else None

    def _list(self, folder: pathlib.Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Returns what is in `folder` by name, and the pictures by name without ending."""
        if folder not in self._entries:
            names, stems = {}, {}
            try:
                entries = os.listdir(folder)
            except OSError:  # no folder, or none that may be read: nothing is found there
                entries = []
            for entry in entries:
                names.setdefault(entry.lower(), []).append(entry)
                stem, ending = os.path.splitext(entry.lower())
                if ending in self._endings:
                    stems.setdefault(stem, []).append(entry)
            self._entries[folder] = names, stems
        return self._entries[folder]


def _is_place(part: str) -> bool:
    return part.lower() in _PLACES or bool(_SHRUNK.fullmatch(part))


def _parts(name: str) -> list[str]:
    parts = re.split(r"[\\/]+", re.sub(r"^[A-Za-z]:", "", name.strip()))
    return [part for part in parts if part not in ("", ".")] or [name]


def _is_absolute(name: str) -> bool:
    return bool(re.match(r"[A-Za-z]:|[\\/]", name.strip()))
