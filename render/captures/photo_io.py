"""Photos of a capture as a pinhole of the wanted size would have taken them.

Axes: H and W pixels.
"""

import pathlib
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from render.captures.intrinsics import Lens, is_same_view, lens_of, scale_lens
from render.captures.listing import Photo
from render.captures.undistort import undistort
from render.image import area_downsample

_OVERSAMPLING = 2  # of the wanted size: where a bent photo is straightened without going soft
_WHITE = 0.97 * 255  # all that lies around a subject is brighter, where it was painted so
_ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF orientations that swap width and height


class View(NamedTuple):
    """A photo made ready."""

    image: np.ndarray  # [H, W, 3] float32 in [0, 1], transparency over white
    mask: np.ndarray | None  # [H, W] float32 in [0, 1], share of a pixel that counts, or is there
    lens: Lens  # without distortion, of that size
    remark: str | None  # what was done to the photo that its files do not say


def read_view(photo: Photo, width: int | None, is_cut_out: bool = False) -> View:
    """Reads a photo, straightened and at most `width` pixels wide.

    A photo counts as it is stored. Where its files name a size that it only has when it is turned
    as its EXIF tag says, it is turned.

    Args:
      photo: to read.
      width: pixels; None for its own.
      is_cut_out: the mask says what is there, not what counts: the picture then lies over white,
        at the subject's edge in the share that the mask leaves.

    Raises:
      ValueError: a file is missing or broken, the photo's size is not that of its lens nor a whole
        part of it, the mask leaves nothing of it, or the lens cannot be made a pinhole.
    """
    if photo.file is None:
        raise ValueError(f"found nothing at {photo.name}")
    picture, remark = _fitting(_open(photo.file), photo)
    values, size = _rgb(picture), picture.size
    if photo.mask is not None:
        mask = _read_mask(photo.mask, size)
        # What is masked must not bleed into its neighbours when pixels are averaged.
        values = _over_white(values, mask) if is_cut_out else values * mask
        values = np.concatenate([values, mask], -1)
    values, lens = _straight(values, lens_of(photo.intrinsics, size), width)
    if photo.mask is None:
        return View(np.clip(values / 255, 0, 1), None, lens, remark)
    mask = np.clip(values[..., 3], 0, 1)
    is_seen = mask > 1e-6
    if not is_seen.any():
        raise ValueError(f"expected a mask that leaves something, found an empty one {photo.mask}")
    colors = values[..., :3] / 255
    if not is_cut_out:
        colors = np.where(is_seen[..., None], colors / np.where(is_seen, mask, 1)[..., None], 1)
    image = np.clip(colors, 0, 1).astype(np.float32)
    return View(image, np.where(is_seen, mask, 0).astype(np.float32), lens, remark)


def picture_size(path: pathlib.Path) -> tuple[int, int] | None:
    """Returns the width and height of a picture without decoding it, if it can be opened."""
    try:
        with Image.open(path) as picture:
            return picture.size
    except Exception:  # decoders raise whatever a broken file makes them
        return None


def _open(path: pathlib.Path) -> Image.Image:
    if not path.is_file():
        raise ValueError(f"expected an image file, found nothing at {path}")
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except Exception as error:  # decoders raise whatever a broken file makes them
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"expected an image, found {path}: {text}") from None


def _fitting(picture: Image.Image, photo: Photo) -> tuple[Image.Image, str | None]:
    """Turns a picture if that makes it one of its lens' size; says so, or by what it is smaller."""
    size = photo.intrinsics.size
    if size is None or picture.size == size:
        return picture, None
    remark = None
    turn = picture.getexif().get(ExifTags.Base.Orientation)
    if turn in _ON_ITS_SIDE and not is_same_view(picture.size, size):
        picture, remark = ImageOps.exif_transpose(picture), "turned as EXIF says"
    if not is_same_view(picture.size, size):
        raise ValueError(
            f"expected {size} pixels or an exact factor of them, found {picture.size} in "
            f"{photo.file}"
        )
    if picture.size != size:
        remark = f"{picture.size[0] / size[0]:.4g} of the size that the cameras say"
    return picture, remark


def _rgb(picture: Image.Image) -> np.ndarray:
    """Returns [H, W, 3] float32 from 0 to 255, transparency over white."""
    if picture.mode.startswith(("I", "F")):
        return np.repeat(_grey(picture)[..., None], 3, -1)
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("RGB")).astype(np.float32)
    values = np.asarray(picture.convert("RGBA")).astype(np.float32)
    alpha = values[..., 3:] / np.float32(255)
    return values[..., :3] * alpha + 255 * (1 - alpha)


def _grey(picture: Image.Image) -> np.ndarray:
    """Returns [H, W] float32 from 0 to 255; 16 bits keep their precision."""
    if not picture.mode.startswith(("I", "F")):
        return np.asarray(picture.convert("L")).astype(np.float32)
    grey = np.nan_to_num(np.asarray(picture, np.float32))
    if picture.mode.startswith("I"):  # 16 bits, which Pillow widens to 32 on some paths
        grey = grey * np.float32(255 / 65535)
    elif grey.max() <= 1:
        grey = grey * np.float32(255)
    return np.clip(grey, 0, 255)


def _read_mask(path: pathlib.Path, size: tuple[int, int]) -> np.ndarray:
    """Returns [H, W, 1] in [0, 1] of a photo's size; one where the photo counts."""
    mask = _open(path)
    if mask.size != size and not is_same_view(mask.size, size):
        mask = ImageOps.exif_transpose(mask)
    if not is_same_view(mask.size, size):
        raise ValueError(f"expected {size} pixels, found {mask.size} in {path}")
    values = _grey(mask)
    values = values / (255 if values.max() > 1 else 1)  # some write zeros and ones
    if mask.size != size:
        values = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BOX))
    return values[..., None]


def _over_white(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Lays what a mask [H, W, 1] cuts out of a picture [H, W, 3] over white, if it is not there."""
    if np.min(values[mask[..., 0] < 0.01], initial=255) > _WHITE:
        return values
    return values * mask + 255 * (1 - mask)


def _straight(values: np.ndarray, lens: Lens, width: int | None) -> tuple[np.ndarray, Lens]:
    """Shrinks a picture [H, W, C] and takes its distortion out, where that costs least."""
    columns, rows = lens.size
    if width is None or width >= columns:
        target = lens.size
    else:
        target = width, max(1, round(rows * width / columns))
    if not lens.distortion.is_none:
        size = min(columns, _OVERSAMPLING * target[0]), min(rows, _OVERSAMPLING * target[1])
        values, lens = undistort(_shrink(values, size), scale_lens(lens, size))
    return _shrink(values, target), scale_lens(lens, target)


def _shrink(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if values.shape[1::-1] == size:
        return values
    return area_downsample(values, size[1], size[0])
