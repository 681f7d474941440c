"""Objects of a JSON file, read key by key and checked; what is wrong becomes one line."""

import difflib
import itertools
import json
import math
from collections.abc import Callable
from typing import Any

REQUIRED = object()  # as default: the key must be there

_KINDS: dict[str, tuple[Callable[[float], bool], str]] = {
    "any": (lambda v: True, "a number"),
    "positive": (lambda v: v > 0, "a number above 0"),
    "not negative": (lambda v: v >= 0, "a number not below 0"),
    "share": (lambda v: 0 <= v <= 1, "a number from 0 to 1"),
    "angle": (lambda v: 0 <= v < 90, "degrees in [0, 90)"),
    "ratio": (lambda v: 0 <= v < 0.5, "a number in [0, 0.5)"),
    "damping": (lambda v: 0 <= v <= 1 or v == -1, "a number from 0 to 1, or -1"),
}


class Entries:
    """One object of the file, read key by key; null counts as not given.

    What nobody asked for when `finish` is called is unknown.

    Args:
      data: the object.
      place: where it is, for the lines: "F.json", "camera of F.json".
      is_si: of our dialect, where unknown keys are refused.
      warnings: gets a line for each unknown key elsewhere.
      si_keys: known in our dialect alone.
    """

    def __init__(
        self, data: dict, place: str, is_si: bool, warnings: list[str], si_keys: frozenset[str]
    ):
        self.data, self.place, self.is_si, self.warnings = data, place, is_si, warnings
        self._si_keys = si_keys
        self._asked: set[str] = set()
        self._inner: list[Entries] = []

    def value(self, key: str, default: Any = None) -> Any:
        self._asked.add(key)
        found = self.data.get(key)
        if found is None and default is REQUIRED:
            raise ValueError(f"expected a key {key}, found none in {self.place}")
        return default if found is None else found

    def refuse(self, key: str, what: str, found: Any, why: str = "") -> None:
        raise ValueError(f"expected {what} as {key}, found {shown(found)} in {self.place}{why}")

    def number(self, key: str, kind: str, default: Any = REQUIRED) -> Any:
        found = self.value(key, default)
        is_right, what = _KINDS[kind]
        if found is not default and not (is_number(found) and is_right(found)):
            self.refuse(key, what, found)
        return float(found) if is_number(found) else found

    def count(self, key: str, default: Any = REQUIRED, low: int = 1, high: int = 2**31) -> Any:
        found = self.value(key, default)
        if found is default:
            return found
        if not (is_number(found) and found == int(found) and low <= found <= high):
            self.refuse(key, f"a whole number from {low} to {high}", found)
        return int(found)

    def numbers(self, key: str, length: int | None, kind: str, default: Any = REQUIRED) -> Any:
        found = self.value(key, default)
        if found is default:
            return found
        is_right, what = _KINDS[kind]
        is_list = isinstance(found, list) and all(is_number(v) and is_right(v) for v in found)
        if not is_list or length not in (None, len(found)):
            each = "" if kind == "any" else f", each {what}"
            self.refuse(key, f"{'a list of' if length is None else length} numbers{each}", found)
        return tuple(float(v) for v in found)

    def vector(self, key: str, default: Any = REQUIRED) -> Any:
        return self.numbers(key, 3, "any", default)

    def direction(self, key: str, default: Any = REQUIRED) -> Any:
        found = self.vector(key, default)
        if not any(found):
            self.refuse(key, "a direction", list(found))
        length = math.hypot(*found)
        return tuple(v / length for v in found)

    def extent(self, key: str) -> tuple[float, ...] | None:
        found = self.numbers(key, 6, "any", None)
        if found and not all(found[i] < found[i + 1] for i in (0, 2, 4)):
            self.refuse(key, "xmin < xmax, ymin < ymax, zmin < zmax", list(found))
        return found

    def curve(self, key: str, default: Any = REQUIRED) -> Any:
        """Rows of a growing time and three numbers."""
        rows = self.value(key, default)
        if rows is default:
            return rows
        what = "rows of four numbers [t, x, y, z], t growing"
        if not isinstance(rows, list) or not rows:
            self.refuse(key, what, rows)
        if not all(
            isinstance(row, list) and len(row) == 4 and all(map(is_number, row)) for row in rows
        ):
            self.refuse(key, what, rows)
        if not all(a[0] < b[0] for a, b in itertools.pairwise(rows)):
            self.refuse(key, what, rows)
        return tuple(tuple(float(v) for v in row) for row in rows)

    def flag(self, key: str, default: bool = False) -> bool:
        found = self.value(key, default)
        if not (isinstance(found, bool) or found in (0, 1)):
            self.refuse(key, "true or false", found)
        return bool(found)

    def choice(self, key: str, choices: tuple[str, ...], default: Any = REQUIRED) -> str:
        found = self.value(key, default)
        if found not in choices:
            self.refuse(key, "one of " + ", ".join(choices), found, _near(found, choices))
        return found

    def object(self, key: str) -> "Entries | None":
        found = self.value(key)
        if found is None:
            return None
        if not isinstance(found, dict):
            self.refuse(key, "an object", found)
        return self._inside(found, key)

    def objects(self, key: str) -> list["Entries"]:
        found = self.value(key, [])
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            self.refuse(key, "a list of objects", found)
        return [self._inside(item, f"{key}[{i}]") for i, item in enumerate(found)]

    def finish(self) -> None:
        """Refuses keys that nobody asked for, in our dialect; in the others says so."""
        for key in self.data:
            if key in self._asked:
                continue
            near = _near(key, self._asked)
            if self.is_si:
                raise ValueError(f"expected a key of a scene, found '{key}'{near} in {self.place}")
            if key in self._si_keys:
                near = ' (it is read where "units" are "SI")'
            self.warnings.append(f"ignored the unknown key '{key}'{near} in {self.place}")
        for entries in self._inner:
            entries.finish()

    def _inside(self, data: dict, name: str) -> "Entries":
        place = f"{name} of {self.place}"
        self._inner.append(Entries(data, place, self.is_si, self.warnings, self._si_keys))
        return self._inner[-1]


def is_number(value: Any) -> bool:
    if type(value) not in (int, float):
        return False
    return math.isfinite(value) if type(value) is float else abs(value) < 10**300


def _near(found: Any, choices: Any) -> str:
    near = difflib.get_close_matches(str(found), sorted(choices), 1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
