"""Public checkpoints become the parameters of our networks: named arrays, checked one by one.

| file | format | read by |
| --- | --- | --- |
| `.safetensors` | Hugging Face's | the library of that name |
| `.pth`, `.pt`, `.bin` | what `torch.save` writes | `models.torch_io` |

The format is told by the content, not by the name. What the entries of a checkpoint are called, and
where each goes in a network, is known to the file of that network.
"""

import os
import pathlib
from collections.abc import Mapping

import numpy as np
import safetensors

from models import torch_io

_MAX_NAMED = 3  # faults in one message


def read_entries(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the named arrays of a checkpoint, in its order.

    Raises:
      ValueError: when `path` is no checkpoint, or one that asks for more than its arrays.
    """
    if not pathlib.Path(path).is_file():
        raise ValueError(f"expected a checkpoint, found nothing at {path}")
    if torch_io.is_torch(path):
        return torch_io.read_torch(path)
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except safetensors.SafetensorError as error:
        message = " ".join(str(error).split())
        raise ValueError(f"expected a checkpoint, found {path}: {message}") from None


def take_entries(
    entries: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    what: str,
    ignored: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """Returns the entries that `shapes` names, in its order.

    Args:
      entries: what a checkpoint holds.
      shapes: what it has to hold.
      what: is being read, for the message.
      ignored: beginnings of names that may be there and are not wanted.

    Raises:
      ValueError: when entries are missing, have another shape, are not finite or are not known.
    """
    faults = [f"no {name}" for name in shapes if name not in entries]
    for name, entry in entries.items():
        if name in shapes and entry.shape != shapes[name]:
            faults.append(f"{name} of shape {entry.shape} instead of {shapes[name]}")
        elif name in shapes and not np.isfinite(entry.astype(np.float32)).all():
            faults.append(f"{name} with values that are not finite")
        elif name not in shapes and not name.startswith(ignored):
            faults.append(f"unknown {name}")
    if faults:
        rest = f"; {len(faults) - _MAX_NAMED} more" if len(faults) > _MAX_NAMED else ""
        raise ValueError(f"expected {what}, found {'; '.join(faults[:_MAX_NAMED])}{rest}")
    return {name: entries[name] for name in shapes}
