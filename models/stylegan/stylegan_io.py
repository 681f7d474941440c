"""Files of generators and discriminators: arrays in safetensors, what they belong to in its header.

Arrays are named by their place in the tree (`params.synthesis.b8.conv0.weight`,
`buffers.noise.b8.conv0`); the header's entry "stylegan" is JSON with the network's kind, its
settings and facts. Generators that come along are known by what they show.
"""

import dataclasses
import functools
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from models.stylegan.config import DiscriminatorConfig, GeneratorConfig
from models.stylegan.discriminator import Discriminator
from models.stylegan.generator import Generator
from models.stylegan.mapping import Mapping
from models.stylegan.synthesis import Synthesis
from models.weights import (
    find_weights,
    read_about,
    read_entries,
    shipped_weights,
    take_entries,
    write_entries,
)

_PREFIX = "generator_"
_ENTRY = "stylegan"
_KINDS = {"generator": GeneratorConfig, "discriminator": DiscriminatorConfig}
_MOST, _LARGEST = 1 << 16, 1e30  # of any size, of other numbers


class TrainedDiscriminator(NamedTuple):
    """A discriminator that can be used."""

    params: dict[str, Any]
    config: DiscriminatorConfig
    facts: dict[str, Any]  # JSON: how it came to be


def is_generator_file(path: str | os.PathLike) -> bool:
    """Whether a file is one of a generator, by its content."""
    return (read_about(path, _ENTRY) or {}).get("kind") == "generator"


def shipped_generators() -> list[str]:
    """Names what the generators that come along show."""
    return list(shipped_weights(_PREFIX))


def load_generator(name: str | os.PathLike) -> Generator:
    """Loads a generator that comes along, or one from a file.

    Raises:
      ValueError: in one line, when it is neither.
    """
    return read_generator(find_weights(name, _PREFIX, "a generator"))


def read_generator(path: str | os.PathLike) -> Generator:
    """Reads a generator.

    Raises:
      ValueError: in one line, when the file is none, or its arrays do not fit its settings.
    """
    entries = read_entries(path)
    config, facts = _read_header(path, "generator")
    tree = _tree(entries, generator_shapes(config), f"a generator in {path}")
    return Generator(tree["params"], tree["buffers"], config, facts)


def write_generator(path: str | os.PathLike, generator: Generator) -> None:
    """Writes a generator as float32."""
    tree = {"params": generator.params, "buffers": generator.buffers}
    _write(path, tree, "generator", generator.config, generator.facts)


def read_discriminator(path: str | os.PathLike) -> TrainedDiscriminator:
    """Reads a discriminator; raises as `read_generator` does."""
    entries = read_entries(path)
    config, facts = _read_header(path, "discriminator")
    tree = _tree(entries, discriminator_shapes(config), f"a discriminator in {path}")
    return TrainedDiscriminator(tree["params"], config, facts)


def write_discriminator(path: str | os.PathLike, discriminator: TrainedDiscriminator) -> None:
    """Writes a discriminator as float32."""
    tree = {"params": discriminator.params}
    _write(path, tree, "discriminator", discriminator.config, discriminator.facts)


@functools.lru_cache(maxsize=8)
def generator_shapes(config: GeneratorConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every array of a generator, by its name in a file."""
    labels = (1, config.c_dim) if config.c_dim else None
    mapping = Mapping(config.w_dim, config.mapping_layers, config.mapping_rate)
    networks = {
        "mapping": _params(mapping, (1, config.z_dim), labels),
        "synthesis": _params(Synthesis(config), (1, config.num_ws, config.w_dim)),
    }
    shapes = _shapes({"params": networks}) | {"buffers.w_avg": (config.w_dim,)}
    for side in config.resolutions:
        for layer in ("conv0", "conv1") if side > 4 else ("conv1",):
            shapes[f"buffers.noise.b{side}.{layer}"] = (side, side)
    return shapes


@functools.lru_cache(maxsize=8)
def discriminator_shapes(config: DiscriminatorConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every array of a discriminator, by its name in a file."""
    images = (1, config.resolution, config.resolution, config.image_channels)
    labels = (1, config.c_dim) if config.c_dim else None
    return _shapes({"params": _params(Discriminator(config), images, labels)})


def _params(module: Any, *shapes: tuple[int, ...] | None) -> dict:
    """The tree of a module's parameters for inputs of some shapes; nothing is computed."""
    inputs = [shape and jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]


def _shapes(tree: dict) -> dict[str, tuple[int, ...]]:
    return {name: leaf.shape for name, leaf in traverse_util.flatten_dict(tree, sep=".").items()}


def _tree(entries: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]], what: str) -> dict:
    taken = take_entries(entries, shapes, what)
    arrays = {name: np.asarray(array, np.float32) for name, array in taken.items()}
    return jax.device_put(traverse_util.unflatten_dict(arrays, sep="."))


def _write(
    path: str | os.PathLike,
    tree: dict,
    kind: str,
    config: GeneratorConfig | DiscriminatorConfig,
    facts: dict[str, Any],
) -> None:
    flat = traverse_util.flatten_dict(tree, sep=".")
    entry = {"kind": kind, "config": dataclasses.asdict(config), "facts": facts}
    write_entries(path, flat, _ENTRY, entry)


def _read_header(path: str | os.PathLike, kind: str) -> tuple[Any, dict[str, Any]]:
    entry = read_about(path, _ENTRY)
    if entry is None:
        raise ValueError(f"expected a {kind}, found other arrays in {path}")
    try:
        found, values, facts = entry["kind"], dict(entry["config"]), dict(entry["facts"])
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"expected a {kind}, found other settings in {path}") from None
    if found != kind:
        raise ValueError(f"expected a {kind}, found {str(found)[:40]!r} in {path}")
    try:
        return _config(_KINDS[kind], values), facts
    except (ValueError, TypeError) as error:
        raise ValueError(f"{error}, in the settings of a {kind} in {path}") from None


def _config(config: type, values: dict[str, Any]) -> Any:
    """Makes settings of those of a file; sizes that no network has are refused before any work."""
    values["channels"] = tuple(values.get("channels", ()))
    for name, value in values.items():
        counts = value if name == "channels" else (value,)
        is_real = (name == "clamp" and value is None) or (
            name in ("mapping_rate", "clamp") and type(value) is float and 0 < value < _LARGEST
        )
        is_text = name == "architecture" and isinstance(value, str)
        are_counts = all(type(count) is int and 0 <= count < _MOST for count in counts)
        if not (is_real or is_text or are_counts) or len(counts) > 16:
            raise ValueError(f"expected a size, found {name} {str(value)[:40]}")
    if not values["channels"] or values.get("mapping_layers", 0) > 64:
        raise ValueError("expected channels and at most 64 layers, found other counts")
    return config(**values)
