"""What of each picture is the subject: told by a network for persons, or by the user's own masks.

The network is MediaPipe's selfie segmentation, of the general kind, as its release 0.10.14 carries
it under the Apache licence; LiteRT runs it.
"""

import contextlib
import importlib.util
import os
import pathlib
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from render import image_io
from render.files_io import replacing
from scripts.capturing.frames_io import Frame, fit_side
from scripts.shell.downloads_io import cache_folder, fetch_release

_RELEASE = "mediapipe==0.10.14"
# Of the wheel for one platform: it is opened for its data, which are the same in all.
_SHA256 = "a807328339e7356fda0bb14df12fedbf1d33bdf81649c5f8666b0026b1cc30b4"
_MEMBER = "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite"
_SIDE = 256  # pixels that the network sees
_UNSURE = (0.25, 0.75)  # what it says at the edge of a person
_FEWEST = 0.005  # of a picture, below which there is nobody in it
Advance = Callable[[], None]


def check_person_masks() -> pathlib.Path:
    """Returns the file of the network, which is fetched the first time.

    Raises:
      ValueError: LiteRT is not installed.
      OSError: it cannot be fetched.
    """
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise ValueError(
            "expected ai-edge-litert, which runs the network for --masks=person, found none: "
            '`pip install -e ".[sfm]"`'
        )
    path = cache_folder("features") / "selfie_segmentation.tflite"
    if not path.is_file():
        with zipfile.ZipFile(fetch_release(_RELEASE, _SHA256)) as wheel:
            content = wheel.read(_MEMBER)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    return path


def write_person_masks(
    folder: pathlib.Path, frames: Sequence[Frame], network: pathlib.Path, advance: Advance
) -> list[str]:
    """Writes a mask of the persons in each picture into masks/.

    Args:
      folder: of the capture.
      frames: its pictures.
      network: from `check_person_masks`.
      advance: called once a picture.

    Returns:
      The names of pictures without anybody in them.
    """
    from ai_edge_litert.interpreter import Interpreter

    with _quiet():
        interpreter = Interpreter(model_path=str(network), num_threads=os.cpu_count() or 1)
        interpreter.allocate_tensors()
    (entry,), (exit_,) = interpreter.get_input_details(), interpreter.get_output_details()
    empty = []
    for frame in frames:
        picture = image_io.read_photo(folder / "images" / frame.name)
        interpreter.set_tensor(entry["index"], _resized(picture, (_SIDE, _SIDE))[None])
        interpreter.invoke()
        share = interpreter.get_tensor(exit_["index"])[0, ..., 0]
        low, high = _UNSURE
        mask = np.clip((_resized(share, (frame.width, frame.height)) - low) / (high - low), 0, 1)
        image_io.write_image(mask_file(folder, frame), mask)
        if mask.mean() < _FEWEST:
            empty.append(frame.name)
        advance()
    return empty


def write_own_masks(
    folder: pathlib.Path, frames: Sequence[Frame], masks: str | os.PathLike, advance: Advance
) -> None:
    """Copies the user's masks into masks/, each in the size of its picture.

    Args:
      folder: of the capture.
      frames: its pictures.
      masks: folder with a picture for each, of the photo's name or of the video's frame's; white is
        the subject.
      advance: called once a picture.

    Raises:
      ValueError: one is missing, or has other sides than its picture.
    """
    files = {path.stem: path for path in sorted(pathlib.Path(masks).iterdir()) if path.is_file()}
    for frame in frames:
        stem = pathlib.Path(frame.name).stem
        stems = stem, frame.name, pathlib.Path(frame.source).stem
        path = next((files[name] for name in stems if name in files), None)
        if path is None:
            raise ValueError(f"expected a mask called {stem}.png in {masks}, found none")
        mask = image_io.read_photo(path).mean(-1)
        fitted = fit_side(mask, max(frame.width, frame.height))
        if fitted.shape != (frame.height, frame.width):
            raise ValueError(
                f"expected a mask of {frame.width} x {frame.height} pixels or larger by a factor, "
                f"found {mask.shape[1]} x {mask.shape[0]} in {path}"
            )
        image_io.write_image(mask_file(folder, frame), fitted)
        advance()


def remove_masks(folder: pathlib.Path, frames: Sequence[Frame]) -> None:
    """Removes what an earlier run has left in masks/, where readers would find it."""
    for frame in frames:
        mask_file(folder, frame).unlink(missing_ok=True)


def mask_file(folder: pathlib.Path, frame: Frame) -> pathlib.Path:
    """Returns where the mask of a picture lies."""
    return folder / "masks" / f"{pathlib.Path(frame.name).stem}.png"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences what C++ says on stderr, where users look for errors: LiteRT tells how it runs."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _resized(values: NDArray, size: tuple[int, int]) -> NDArray:
    """Resamples [H, W] or [H, W, 3] to a width and height, smoothly."""
    channels = [values] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    sheets = [
        Image.fromarray(np.asarray(sheet, np.float32)).resize(size, Image.Resampling.BILINEAR)
        for sheet in channels
    ]
    return np.asarray(sheets[0]) if values.ndim == 2 else np.stack([*map(np.asarray, sheets)], -1)
