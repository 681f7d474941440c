"""Reading photos and writing pictures.

Pictures are float32 [H, W, 3] in [0, 1], sRGB-encoded, row 0 on top.
"""

import io
import os
import pathlib

import jax
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from render.files_io import replacing
from render.image import to_bytes


def read_photo(path: str | os.PathLike) -> np.ndarray:
    """Reads a picture file [H, W, 3], turned as its EXIF tag says, transparency over white.

    Raises:
      ValueError: when `path` is not a file, or no picture that can be decoded.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"expected an image file, found nothing at {path}")
    try:
        with Image.open(path) as file:
            file.load()
            picture = ImageOps.exif_transpose(file)
            values = _to_rgba(picture)
    # Pillow's decoders report broken files by all of these.
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
    ) as error:
        raise ValueError(f"expected an image, found {path}: {_one_line(error)}") from None
    alpha = values[..., 3:]
    return values[..., :3] * alpha + (1.0 - alpha)


def write_image(path: str | os.PathLike, image: jax.Array | np.ndarray, quality: int = 95) -> None:
    """Writes [H, W, 3], [H, W, 4] or [H, W] in [0, 1] as .png or .jpg, by the name's ending."""
    path = pathlib.Path(path)
    values = to_bytes(image)
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    # The fourth of nine levels writes four times as fast as the sixth, and a few per cent more.
    options = {"quality": quality} if is_jpeg else {"compress_level": 4}
    with replacing(path) as temporary:
        Image.fromarray(values).save(temporary, **options)


def png_bytes(image: jax.Array | np.ndarray) -> bytes:
    """Returns [H, W, 3], [H, W, 4] or [H, W] in [0, 1] as the content of a .png file."""
    content = io.BytesIO()
    Image.fromarray(to_bytes(image)).save(content, "png", compress_level=4)
    return content.getvalue()


def _to_rgba(picture: Image.Image) -> np.ndarray:
    """Converts to float32 [H, W, 4] in [0, 1]; 16-bit grey keeps its precision."""
    if picture.mode.startswith(("I", "F")):
        grey = np.asarray(picture, np.float32)
        # Pillow widens 16-bit grey to "I" on some paths; a float picture says no scale at all.
        limit = 65535.0 if picture.mode.startswith("I") else max(1.0, float(np.nanmax(grey)))
        grey = np.clip(np.nan_to_num(grey) / limit, 0.0, 1.0)
        return np.stack([grey, grey, grey, np.ones_like(grey)], -1)
    return np.asarray(picture.convert("RGBA"), np.float32) / 255.0


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
