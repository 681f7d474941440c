"""LPIPS for whatever judges pictures, where its weights are there."""

import pathlib
from collections.abc import Callable

import jax

from models.perception import features_io
from models.perception.lpips import lpips
from scripts.shell import command
from scripts.shell.downloads_io import cache_folder

Judge = Callable[[jax.Array, jax.Array], jax.Array]


def features_folder() -> pathlib.Path:
    """Returns where `scripts.fetch_features` leaves weights."""
    return cache_folder("features")


def load_lpips(network: str = "vgg16") -> Judge | None:
    """Loads LPIPS, or says in one line that its weights are not there.

    Args:
      network: "vgg16", as papers of radiance fields report it, or "alexnet".

    Returns:
      The function from two pictures [H, W, 3] in [0, 1] to their distance [], or None.

    Raises:
      ValueError: when the file is there and damaged.
    """
    path = features_io.features_file(features_folder(), network)
    if not path.is_file():
        command.say("LPIPS is left out: `python -m scripts.fetch_features` brings its weights")
        return None
    params = features_io.read_features(path, network)
    return lambda image, reference: lpips(params, image, reference, network=network)
