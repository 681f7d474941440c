"""What the texts of `evaluate_fit`'s flags mean; each refuses in one line what means nothing."""

import glob
import math

from recon.evaluation.experiments import Angles


def read_number(text: str, flag: str) -> float:
    """Reads a finite number.

    Raises:
      ValueError: it is none; so all functions here.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a number in {flag}, found {text!r}")
    return number


def read_angles(text: str, flag: str) -> Angles:
    """Reads low:high:step, low:high, or values with commas; degrees."""
    parts = [read_number(part, flag) for part in text.replace(",", ":").split(":")]
    if max(abs(part) for part in parts) > 180.0:
        raise ValueError(f"expected {flag} within 180 degrees, found {text}")
    if "," in text or len(parts) == 1:
        return Angles(tuple(parts))
    if len(parts) == 2 and parts[0] <= parts[1]:
        return Angles(tuple(parts), is_range=True)
    if len(parts) == 3 and parts[0] <= parts[1] and parts[2] > 0.0:
        count = int((parts[1] - parts[0]) / parts[2] + 1e-6) + 1
        return Angles(tuple(parts[0] + i * parts[2] for i in range(count)))
    raise ValueError(f"expected {flag} as low:high:step, low:high or a list, found {text}")


def read_noise(texts: list[str]) -> tuple[float, float]:
    """Reads pixels of noise: of inner and of contour points, or one number for both."""
    noise = [read_number(text, "--noise_px") for text in texts]
    if len(noise) not in (1, 2) or min(noise) < 0.0:
        raise ValueError(
            f"expected --noise_px of one or two numbers, zero or more, found {','.join(texts)}"
        )
    return noise[0], noise[-1]


def read_components(text: str) -> int | None:
    """Reads a number of modes, or all (None)."""
    if text == "all":
        return None
    number = read_number(text, "--components")
    if number < 1 or number != int(number):
        raise ValueError(f"expected --components of 1 and more, or all, found {text}")
    return int(number)


def read_etas(texts: list[str]) -> list[float]:
    """Reads weights of the prior."""
    etas = [read_number(text, "--etas") for text in texts]
    if min(etas, default=0.0) < 0.0:
        raise ValueError(f"expected --etas of zero and more, found {min(etas):g}")
    return etas


def find_meshes(patterns: list[str]) -> tuple[str, ...]:
    """Finds the files that patterns name; none for the word model."""
    if patterns == ["model"]:
        return ()
    paths = []
    for pattern in patterns:
        found = sorted(glob.glob(pattern))
        if not found:
            raise ValueError(f"expected model or meshes in --truth, found nothing at {pattern}")
        paths += found
    return tuple(paths)
