"""Writing and reading videos, by the ffmpeg program that imageio brings along.

Frames are [H, W, 3], float in [0, 1] or uint8, sRGB-encoded, row 0 on top.
"""

import contextlib
import itertools
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import imageio_ffmpeg
import jax
import numpy as np

from render.files_io import replacing
from render.image import to_bytes

# x264's quality 18: below, the eye sees no loss, and the file doubles every six steps. The colour
# matrix is said, and is the one players take for granted; faststart lets browsers play at once.
_ENCODING = (
    "-c:v libx264 -crf 18 -preset fast -pix_fmt yuv420p -movflags +faststart "
    "-vf scale=out_color_matrix=bt709:out_range=tv,setparams=color_primaries=bt709:color_trc=bt709"
).split()


def write_video(
    path: str | os.PathLike, frames: Iterable[jax.Array | np.ndarray], fps: float
) -> int:
    """Writes frames as H.264 in .mp4 that browsers play, and returns their number.

    Odd sides lose their last row or column: 4:2:0 colour needs even ones.

    Raises:
      ValueError: when there is no frame, or one that differs from the first in its shape.
      OSError: when ffmpeg fails.
    """
    frames = (to_bytes(frame) for frame in frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("expected at least one frame, found none")
    if first.ndim != 3 or first.shape[-1] != 3 or min(first.shape[:2]) < 2:
        raise ValueError(f"expected frames [H, W, 3], found shape {first.shape}")
    height, width = (side // 2 * 2 for side in first.shape[:2])
    raw = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {fps} -i -".split()
    count = 0
    with replacing(path) as temporary:
        with _ffmpeg([*raw, *_ENCODING, str(temporary)], path) as process:
            for frame in itertools.chain([first], frames):
                if frame.shape != first.shape:
                    raise ValueError(f"expected frames {first.shape}, found one of {frame.shape}")
                try:
                    process.stdin.write(np.ascontiguousarray(frame[:height, :width]))
                except BrokenPipeError:
                    break  # ffmpeg gave up; its status says so
                count += 1
    return count


def frame_seconds(path: str | os.PathLike) -> float:
    """Returns the mean time between the frames of a video, seconds.

    Raises:
      ValueError: when `path` is no file that ffmpeg decodes.
    """
    if not pathlib.Path(path).is_file():
        raise ValueError(f"expected a video file, found nothing at {path}")
    try:
        count, seconds = imageio_ffmpeg.count_frames_and_secs(str(path))
    except RuntimeError:
        raise ValueError(f"expected a video, found something else in {path}") from None
    return seconds / count


def read_video(path: str | os.PathLike) -> Iterator[np.ndarray]:
    """Yields the frames of a video as uint8 [H, W, 3].

    Raises:
      ValueError: when `path` is no file that ffmpeg decodes.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"expected a video file, found nothing at {path}")
    # Portable pixmaps say their size themselves: the file's header need not be understood here.
    # Passed through: frames are neither dropped nor doubled to even out their times.
    command = ["-i", str(path), "-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", "ppm", "-"]
    try:
        with _ffmpeg(command, path) as process:
            while (frame := _read_pixmap(process.stdout)) is not None:
                yield frame
    except OSError as error:
        raise ValueError(f"expected a video, found {path}: {error}") from None


@contextlib.contextmanager
def _ffmpeg(arguments: list[str], path: str | os.PathLike) -> Iterator[subprocess.Popen]:
    """Runs ffmpeg for a block, which feeds or drains it; raises OSError where it fails.

    imageio's own wrapper forks the process by hand, which may deadlock beside JAX's threads.
    """
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-nostdin", "-v", "error", *arguments]
    pipe = subprocess.PIPE
    # Errors go to a file: nobody reads a pipe while frames go through, so it might fill up.
    with tempfile.TemporaryFile() as errors:
        # In a group of its own, a terminal's Ctrl-C is left to whoever feeds it.
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=errors, process_group=0
        ) as process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise
            finally:
                # Closing is how ffmpeg learns of the end; it may be gone before.
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
        if process.returncode != 0:
            errors.seek(0)
            message = " ".join(errors.read().decode(errors="replace").split())
            raise OSError(f"ffmpeg failed on {path}: {message}")


def _read_pixmap(stream: BinaryIO) -> np.ndarray | None:
    """Reads one binary portable pixmap "P6 width height 255"; None at the end of the stream."""
    if stream.readline() != b"P6\n":
        return None
    width, height = map(int, stream.readline().split())
    stream.readline()
    return np.frombuffer(stream.read(3 * width * height), np.uint8).reshape(height, width, 3)
