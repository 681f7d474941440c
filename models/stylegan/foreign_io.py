"""Networks of StyleGAN2 in other projects' files become ours.

| file | written by |
| --- | --- |
| a pickle of G, D and G_ema | stylegan2-ada-pytorch, stylegan3 |
| a pickle of three networks | stylegan2 and stylegan2-ada of TensorFlow |
| `.pt` with g_ema, d, latent_avg | rosinality's stylegan2-pytorch and what builds on it |

The kind is told by the content. Nothing in a file is executed.
"""

import os
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from models import torch_io
from models.stylegan import official_names, rosinality_names, tensorflow_names
from models.stylegan.generator import Generator, map_latents
from models.stylegan.official_pickle_io import NETWORKS, Module, read_official
from models.stylegan.plain import PlainNetwork, to_discriminator, to_generator
from models.stylegan.stylegan_io import TrainedDiscriminator

_LATENTS = 4096  # of which the average latent is the mean, where a file has none


class _Entries(NamedTuple):
    """A network in a checkpoint of rosinality's."""

    arrays: dict[str, NDArray]
    average: NDArray | None


class ForeignFile(NamedTuple):
    """The networks of a file, before they are looked at."""

    path: pathlib.Path
    networks: dict[str, Module | _Entries]  # some of "G", "D" and "G_ema"


def read_foreign(path: str | os.PathLike) -> ForeignFile:
    """Reads what networks of StyleGAN2 a file has.

    Raises:
      ValueError: in one line, when it is another file, or broken, or asks for anything but what
        such networks are made of, which is then named.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"expected a file with networks of StyleGAN2, found nothing at {path}")
    with open(path, "rb") as file:
        head = file.read(32)
    if not torch_io.is_torch_container(head):
        return ForeignFile(path, read_official(path))
    groups = rosinality_names.GROUPS
    entries = torch_io.read_torch(path, tuple(groups.values()))
    networks = {}
    for name, group in groups.items():
        start = f"{group}/"
        arrays = {n.removeprefix(start): a for n, a in entries.items() if n.startswith(start)}
        if arrays:
            networks[name] = _Entries(arrays, entries.get(rosinality_names.AVERAGE))
    if not networks:
        found = ", ".join(list(entries)[:3]) or "no tensors"
        raise ValueError(f"expected {', '.join(groups.values())} in {path}, found {found}")
    return ForeignFile(path, networks)


def foreign_generator(file: ForeignFile, which: str = "G_ema") -> Generator:
    """Returns a generator of a file.

    Args:
      file: from `read_foreign`.
      which: "G_ema", the average of the training's last steps, or "G".

    Raises:
      ValueError: when the file has none, or one of a kind that is not made here; says which.
    """
    network = _network(file, which)
    try:
        plain = _plain(network, is_discriminator=False)
        has_average = "mapping.w_avg" in plain.arrays
        if not has_average:
            average = np.zeros(plain.arrays["mapping.fc0.bias"].shape)
            plain = plain._replace(arrays=plain.arrays | {"mapping.w_avg": average})
        generator = to_generator(plain)
    except (ValueError, KeyError, IndexError) as error:
        raise _refusal(file, which, error) from None
    return generator if has_average else _with_average(generator)


def foreign_discriminator(file: ForeignFile) -> TrainedDiscriminator:
    """Returns the discriminator of a file; raises as `foreign_generator` does."""
    network = _network(file, "D")
    try:
        return to_discriminator(_plain(network, is_discriminator=True))
    except (ValueError, KeyError, IndexError) as error:
        raise _refusal(file, "D", error) from None


def _refusal(file: ForeignFile, which: str, error: Exception) -> ValueError:
    if not isinstance(error, ValueError):  # arrays of other axes, or not there
        error = ValueError("expected the arrays of a network of StyleGAN2, found others")
    return ValueError(f"{error}, in {which} of {file.path}")


def _network(file: ForeignFile, which: str) -> Module | _Entries:
    if which not in file.networks:
        found = ", ".join(name for name in NETWORKS if name in file.networks)
        raise ValueError(f"expected {which} in {file.path}, found {found}")
    return file.networks[which]


def _plain(network: Module | _Entries, is_discriminator: bool) -> PlainNetwork:
    """The network under the official names, by whoever knows its own."""
    if isinstance(network, _Entries) and is_discriminator:
        return rosinality_names.plain_rosinality_discriminator(network.arrays)
    if isinstance(network, _Entries):
        return rosinality_names.plain_rosinality_generator(network.arrays, network.average)
    if network.is_tensorflow and is_discriminator:
        return tensorflow_names.plain_tensorflow_discriminator(network)
    if network.is_tensorflow:
        return tensorflow_names.plain_tensorflow_generator(network)
    if is_discriminator:
        return official_names.plain_discriminator(network)
    return official_names.plain_generator(network)


def _with_average(generator: Generator) -> Generator:
    """Returns the generator with the mean of some latents as its average."""
    config, key = generator.config, jax.random.key(0)
    z = jax.random.normal(key, (_LATENTS, config.z_dim))
    c = jnp.zeros((_LATENTS, config.c_dim)) if config.c_dim else None
    ws = map_latents(generator.params, generator.buffers, z, c, config)
    buffers = generator.buffers | {"w_avg": np.asarray(ws[:, 0].mean(0))}
    facts = generator.facts | {"w_avg": f"mean of {_LATENTS} latents"}
    return generator._replace(buffers=buffers, facts=facts)
