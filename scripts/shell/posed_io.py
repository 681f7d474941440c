"""Captures as commands leave them: pictures of something from known places, with what is known."""

import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from render import capture_io, image_io
from render.camera import Camera
from render.image import RenderOutput
from scripts.shell import command, stopping

_LEVELS = 65535  # of a depth picture


def write_posed(
    folder: str | os.PathLike,
    cameras: Sequence[Camera],
    outputs: Iterator[RenderOutput],
    farthest: float,
) -> int:
    """Writes images/, masks/, depth/ and, when they are there, transforms.json.

    Stopped by a signal, it makes a capture of the pictures that are finished.

    Args:
      folder: made when missing; pictures of the same names are written anew.
      cameras: F, all perspective.
      outputs: F, what they see.
      farthest: depth that the subject reaches; what lies behind has none.

    Returns:
      How many pictures there are.
    """
    folder = pathlib.Path(folder)
    unit = depth_unit(farthest)
    table = folder / "transforms.json"
    frames = []
    with stopping.noted() as stop, command.progress("pictures", len(cameras)) as advance:
        while not stop and (output := next(outputs, None)) is not None:
            table.unlink(missing_ok=True)  # an earlier one would name pictures of two runs
            name = f"{len(frames):04d}.png"
            image_io.write_image(folder / "images" / name, np.clip(output.rgb, 0.0, 1.0))
            image_io.write_image(folder / "masks" / name, np.clip(output.alpha, 0.0, 1.0))
            image_io.write_depth(folder / "depth" / name, output.depth, unit)
            # No mask_path: to other programs it would say that the background does not count.
            frames.append({"depth_file_path": f"depth/{name}"})
            advance()
        if not frames:
            stop.act()
        names = [f"images/{number:04d}.png" for number in range(len(frames))]
        # The first is instant-ngp's word, the second that of nerfstudio's option.
        top = {"integer_depth_scale": unit, "depth_unit_scale_factor": unit, "masks_cut_out": True}
        capture_io.write_transforms(table, cameras[: len(frames)], names, frames, top)
        stop.keep(f"{len(frames)} of {len(cameras)} pictures in {folder}")
    return len(frames)


def depth_unit(farthest: float) -> float:
    """Returns the power of ten that, as unit of 16-bit numbers, resolves depths best."""
    return float(10.0 ** np.ceil(np.log10(farthest / _LEVELS)))
