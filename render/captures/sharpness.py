"""How sharp pictures are, and which of many to keep.

Source: Pech-Pacheco et al. 2000 (the variance of the Laplacian).
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WIDTH = 640  # pixels that a picture is judged at, about: what is blurred is larger than its noise


def sharpness(image: NDArray) -> float:
    """Returns the variance of the Laplacian of a picture [H, W, 3] of grey values from 0 to 255.

    Pictures of one scene and size compare; others do not. Float pictures in [0, 1] count as 255.
    """
    factor = max(1, image.shape[1] // _WIDTH)
    rows, columns = (side // factor for side in image.shape[:2])
    blocks = image[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor, -1)
    grey = blocks.mean((1, 3, 4), dtype=np.float32)
    if image.dtype.kind == "f":
        grey = 255 * grey
    if min(grey.shape) < 3:
        return 0.0
    middle = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(np.var(around - 4 * middle))


def sharpest(scores: Sequence[float], count: int) -> list[int]:
    """Returns the index of the sharpest picture of each of `count` equal stretches, in order.

    Of fewer pictures than `count` all are taken.
    """
    count = min(count, len(scores))
    ends = np.linspace(0, len(scores), count + 1).round().astype(int)
    return [int(first + np.argmax(scores[first:last])) for first, last in itertools.pairwise(ends)]
