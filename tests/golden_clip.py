"""What transformers and diffusers make of small inputs, kept as numbers in `golden/clip.npz`.

`tests/parity/clip_reference.py` computes them.
"""

import pathlib

import numpy as np

PATH = pathlib.Path(__file__).parent / "golden/clip.npz"


def picture(height: int, width: int) -> np.ndarray:
    """Noise [H, W, 3] in [0, 1] that 8 bits can hold."""
    noise = np.random.default_rng(height * width).integers(0, 256, (height, width, 3))
    return (noise / 255).astype(np.float32)


# A picture, and to how many pixels a side it is prepared.
IMAGES = {"shrunk": (picture(31, 43), 10), "enlarged": (picture(7, 5), 12)}


def read_golden() -> dict[str, np.ndarray]:
    with np.load(PATH) as file:
        return dict(file)
