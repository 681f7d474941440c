"""The table of numbers that a training leaves as it goes: metrics.csv, one row a look.

Columns are the names that rows have, in the order in which they came up; a row without one of
them leaves its cell empty. Numbers are written so that they read back exactly.
"""

import csv
import os
import pathlib

from render.files_io import replacing

Row = dict[str, int | float]


def read_rows(path: str | os.PathLike) -> list[Row]:
    """Reads the rows of a table, without the empty cells; none where there is no file.

    A last line that was not written to its end is left out.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    try:
        names, *lines = csv.reader(whole)
        return [
            {name: _number(cell) for name, cell in zip(names, cells, strict=True) if cell}
            for cells in lines
        ]
    except (ValueError, csv.Error):
        raise ValueError(f"expected a table of numbers, found something else in {path}") from None


def write_rows(path: str | os.PathLike, rows: list[Row]) -> None:
    """Writes a whole table, in place of what is there."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, _columns(rows), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def append_row(path: str | os.PathLike, rows: list[Row]) -> None:
    """Adds the last of `rows` to the table of those before it; a new column rewrites the table."""
    path = pathlib.Path(path)
    columns = []
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            columns = next(csv.reader(file), [])
    if not rows[-1].keys() <= set(columns):
        write_rows(path, rows)
        return
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.DictWriter(file, columns, lineterminator="\n").writerow(rows[-1])


def _columns(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _number(cell: str) -> int | float:
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)
