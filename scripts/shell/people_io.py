"""Writes pictures of random people: a folder that a killed run goes on with.

Person n depends on the seed and on n alone, so that it does not matter how often a run was stopped,
or how many cores drew it. A line of people.jsonl is written after its pictures; what has no line is
drawn anew.
"""

import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from recon.assets import load_model
from recon.looks import looks_io
from recon.looks.look import Looks
from recon.looks.picture import PictureConfig, draw_person
from recon.looks.studio import LABELS, Studio, build_studio
from recon.looks.words import picture_in_words
from render import files_io, image_io
from render.frames import with_room
from render.image import contact_sheet
from scripts.shell import command, stopping
from scripts.shell.parallel import on_all_cores
from scripts.shell.prepared_io import prepared
from scripts.shell.settings import as_json, check_settings, write_settings

_PICTURES, _MASKS, _ROWS, _SHEET = "pictures", "masks", "people.jsonl", "sheet.jpg"
_ON_SHEET, _COLUMNS = 32, 8
_TEXTURES = (256, 512)  # sides; below, brows vanish; above, the skins have no more to show
_FINE = 64  # pixels: smaller pictures take more samples a pixel
# Triangle-tile pairs that all but a few pictures find room in, and more for each four samples.
_PAIRS, _PAIRS_PER_PIXEL = 25_000, 1.3


class _Set(NamedTuple):
    """What all pictures share."""

    studio: Studio
    looks: Looks
    key: jax.Array
    config: PictureConfig
    out: pathlib.Path


def write_people(
    out: pathlib.Path, count: int, seed: int, width: int, height: int, sheet: bool
) -> int:
    """Writes pictures, masks and people.jsonl; returns how many people there are.

    Args:
      out: folder, which may hold an earlier run's people of the same settings.
      count: people that it is to hold in the end.
      seed: of the people.
      width: of the pictures, pixels.
      height: of the pictures, pixels.
      sheet: whether to write sheet.jpg of the first of them, too.

    Raises:
      ValueError: the folder's people were drawn with other settings.
    """
    settings = {"show": "people", "seed": seed, "size": f"{width}x{height}"}
    if (out / "config.json").is_file():
        found = files_io.read_object(out / "config.json", "the settings of a run")
        check_settings(out, found, as_json(settings))
    rows = _whole_rows(out / _ROWS)
    out.mkdir(parents=True, exist_ok=True)
    write_settings(out, **settings, labels=dict(enumerate(LABELS)))
    missing = [n for n in range(count) if n >= len(rows) or not _are_drawn(out, n)]
    with stopping.noted() as stop:
        if missing:
            with command.progress("studio"):
                shared = _share(out, seed, width, height)
            label = f"people of {width} x {height}"
            with command.progress(label, count, done=count - len(missing)) as advance:
                with (out / _ROWS).open("a", encoding="utf-8") as file:
                    for row in on_all_cores(lambda n: _write_person(shared, n), missing, stop):
                        if row["number"] >= len(rows):
                            file.write(json.dumps(row) + "\n")
                            file.flush()
                            rows.append(row["number"])
                        advance()
        if sheet and rows:
            _write_sheet(out, min(count, len(rows)))
        stop.keep(f"{len(rows)} people in {out}")
    return len(rows)


def _share(out: pathlib.Path, seed: int, width: int, height: int) -> _Set:
    side = max(width, height)
    texture = next((size for size in _TEXTURES if size >= 2 * side), _TEXTURES[-1])
    looks = looks_io.load_looks()
    studio = prepared(build_studio, load_model(), looks, looks_io.load_traits(), texture)
    samples = 3 if side <= _FINE else 2
    pairs = _PAIRS + int(_PAIRS_PER_PIXEL * width * height * samples**2 / 4)
    config = PictureConfig(width, height, samples, max_pairs=pairs)
    return _Set(studio, looks, jax.random.key(seed), config, out)


def _write_person(shared: _Set, number: int) -> dict[str, Any]:
    """Draws and writes one person; returns the line of the table."""
    key = jax.random.fold_in(shared.key, number)

    def draw(max_pairs: int | None):
        config = dataclasses.replace(shared.config, max_pairs=max_pairs)
        person, view, picture = draw_person(key, shared.studio, config)
        return _Drawn(person, view, picture, picture.needed, picture.overflow)

    drawn, _ = with_room(draw, shared.config.max_pairs)
    person, view, picture = jax.device_get(drawn[:3])
    for name, values in ((_PICTURES, picture.rgb), (_MASKS, picture.label)):
        path = shared.out / _path(name, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        image_io.write_image(path, values)
    return {
        "number": number,
        "picture": _path(_PICTURES, number),
        "mask": _path(_MASKS, number),
        **picture_in_words(person, view, picture, shared.looks, shared.studio.casting),
    }


class _Drawn(NamedTuple):
    person: Any
    view: Any
    picture: Any
    needed: jax.Array
    overflow: jax.Array


def _path(kind: str, number: int) -> str:
    """Names a file of a person; folders hold a thousand, as long ones are slow to look through."""
    return f"{kind}/{number // 1000:04d}/{number:07d}.png"


def _are_drawn(out: pathlib.Path, number: int) -> bool:
    return all((out / _path(kind, number)).is_file() for kind in (_PICTURES, _MASKS))


def _whole_rows(path: pathlib.Path) -> list[int]:
    """Returns the numbers of the table's lines, and cuts off a last one that was not finished."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    try:
        numbers = [json.loads(line)["number"] for line in whole]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"expected a table of people, found something else in {path}") from None
    if numbers != list(range(len(numbers))):
        raise ValueError(f"expected people from 0 on, one a line, found others in {path}")
    if len(whole) < len(lines):
        with files_io.replacing(path) as temporary:
            temporary.write_text("".join(whole), encoding="utf-8")
    return numbers


def _write_sheet(out: pathlib.Path, count: int) -> None:
    pictures = [
        np.asarray(image_io.read_photo(out / _path(_PICTURES, n)))
        for n in range(min(count, _ON_SHEET))
    ]
    image_io.write_image(out / _SHEET, contact_sheet(pictures, _COLUMNS, gap=0))
