"""The words of commands that show something: axes, colours, sizes, angles, times."""

import re

import numpy as np

AXES = ("x", "y", "z", "-x", "-y", "-z")
_LATE = 1e-3  # of a picture's time
_COLORS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0), "grey": (0.5, 0.5, 0.5)}


def axis(name: str) -> np.ndarray:
    """Returns the unit vector [3] of an axis by its name."""
    return np.eye(3)["xyz".index(name[-1])] * (-1.0 if name.startswith("-") else 1.0)


def color(text: str) -> tuple[float, float, float]:
    """Reads white, black, grey, #rrggbb, or three numbers in [0, 1] with commas between them."""
    if text in _COLORS:
        return _COLORS[text]
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        return tuple(int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))
    values = numbers(text, "a colour: white, black, #rrggbb or r,g,b in [0, 1]")
    if len(values) != 3 or min(values) < 0 or max(values) > 1:
        raise ValueError(f"expected a colour: white, black, #rrggbb or r,g,b, found {text}")
    return tuple(values)


def numbers(text: str, what: str, separator: str = ",") -> list[float]:
    """Reads finite numbers with separators between them."""
    try:
        values = [float(part) for part in text.split(separator)]
    except ValueError:
        values = [np.nan]
    if not np.isfinite(values).all():
        raise ValueError(f"expected {what}, found {text}")
    return values


def nearest_axis(direction: np.ndarray) -> str:
    """Names the axis that lies nearest to a direction: "x" or "-x", and so on."""
    axis = int(np.argmax(np.abs(direction)))
    return ("-" if direction[axis] < 0 else "") + "xyz"[axis]


def picture_size(text: str) -> tuple[int, int]:
    """Reads 512 or 640x480."""
    sides = numbers(text.lower(), "--size such as 512 or 640x480", "x")
    sides = sides * 2 if len(sides) == 1 else sides
    if len(sides) != 2 or any(side != int(side) or not 8 <= side <= 8192 for side in sides):
        raise ValueError(f"expected --size such as 512 or 640x480, from 8 to 8192, found {text}")
    return int(sides[0]), int(sides[1])


def span(text: str, what: str) -> tuple[float, float]:
    """Reads LOW:HIGH, or one number for both."""
    ends = numbers(text, what, ":")
    if len(ends) > 2:
        raise ValueError(f"expected {what}, found {text}")
    return ends[0], ends[-1]


def azimuths(text: str | None, num_frames: int, is_still: bool) -> np.ndarray:
    """Reads the azimuths of the pictures, degrees."""
    text = text or ("0" if is_still else "0:360")
    if is_still:
        return np.array(numbers(text, "--azimuth such as 0 or -40,0,40"))
    return np.linspace(*span(text, "--azimuth such as 0:360 or 30"), num_frames, endpoint=False)


def frames_in_time(seconds: np.ndarray, fps: float) -> np.ndarray:
    """Returns the frame that each picture of a video in real time shows.

    Args:
      seconds: time of each frame, growing.
      fps: pictures per second.
    """
    seconds = seconds - seconds[0]
    # Times come in float32: a thousandth of a picture late is in time.
    times = np.arange(int(seconds[-1] * fps + _LATE) + 1) / fps
    return np.searchsorted(seconds, times + _LATE / fps, side="right") - 1
