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
from render.image import as_picture, check_writable, to_bytes

PHOTO_ENDINGS = (
    *(".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".avif", ".tif", ".tiff", ".bmp", ".gif"),
    *(".jp2", ".ppm", ".pgm", ".tga"),
)
# Major brands of HEIF files whose pictures are HEVC's (ISO 23008-12); Pillow reads AVIF itself.
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def read_photo(path: str | os.PathLike) -> np.ndarray:
    """Reads a picture file [H, W, 3], turned as its EXIF tag says, transparency over white.

    Raises:
      ValueError: when `path` is not a file, or no picture that can be decoded.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"expected an image file, found nothing at {path}")
    _prepare_decoder(path)
    try:
        with Image.open(path) as file:
            file.load()
            return as_picture(ImageOps.exif_transpose(file))
    # Pillow's decoders report broken files by all of these.
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        RuntimeError,
        ValueError,
        EOFError,
    ) as error:
        raise ValueError(f"expected an image, found {path}: {_one_line(error)}") from None


def _prepare_decoder(path: pathlib.Path) -> None:
    """Gives Pillow the decoder of HEIC, the format of phones, when a file needs it."""
    with path.open("rb") as file:
        start = file.read(64)
    if start[4:8] != b"ftyp" or start[8:12] not in _HEIC_BRANDS or b"avif" in start:
        return
    try:
        import pillow_heif
    except ImportError:
        raise ValueError(
            f"expected an image that Pillow reads alone, found HEIC in {path}: "
            "`pip install pillow-heif`, or save it as JPEG"
        ) from None
    pillow_heif.register_heif_opener()


def write_image(path: str | os.PathLike, image: jax.Array | np.ndarray, quality: int = 95) -> None:
    """Writes [H, W, 3], [H, W, 4] or [H, W] as .png or .jpg, by the name's ending.

    Args:
      path: of the file.
      image: floats in [0, 1], or integers of 8 or 16 bits.
      quality: of a .jpg, up to 100.

    Raises:
      ValueError: what is no picture, or an ending that Pillow does not know.
    """
    path = pathlib.Path(path)
    check_writable(image)
    values = to_bytes(image)
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    # The fourth of nine levels writes four times as fast as the sixth, and a few per cent more.
    options = {"quality": quality} if is_jpeg else {"compress_level": 4}
    with replacing(path) as temporary:
        Image.fromarray(values).save(temporary, **options)


def write_depth(path: str | os.PathLike, depth: jax.Array | np.ndarray, unit: float) -> None:
    """Writes depths [H, W] as a .png of 16 bits, in multiples of `unit`; zero where there is none.

    Depths that 16 bits do not reach count as none.
    """
    levels = np.rint(np.asarray(depth, np.float64) / unit)
    levels = np.where((levels > 0) & (levels < 1 << 16), levels, 0).astype(np.uint16)
    with replacing(path) as temporary:
        Image.fromarray(levels).save(temporary, "png", compress_level=4)


def png_bytes(image: jax.Array | np.ndarray) -> bytes:
    """Returns [H, W, 3], [H, W, 4] or [H, W] in [0, 1] as the content of a .png file."""
    check_writable(image)
    content = io.BytesIO()
    Image.fromarray(to_bytes(image)).save(content, "png", compress_level=4)
    return content.getvalue()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
