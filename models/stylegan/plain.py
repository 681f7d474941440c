"""Networks under the official names and layouts become ours.

Every foreign format is first a `PlainNetwork`: arrays as stylegan2-ada-pytorch names and lays them
out (`synthesis.b8.conv0.weight` [out, in, rows, columns]), and the few settings that arrays do not
show. Sizes are read from the arrays, and every array is then held against those sizes.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util
from numpy.typing import NDArray

from models.stylegan.config import DiscriminatorConfig, GeneratorConfig
from models.stylegan.generator import Generator
from models.stylegan.stylegan_io import TrainedDiscriminator, discriminator_shapes, generator_shapes
from models.weights import take_entries

WHOLE_BATCH = (1 << 16) - 1  # pictures of a discriminator's group, where all are one
_MOST_BLOCKS, _MOST = 11, 1 << 16  # of a network to 4096 pixels; of a size
_MOST_LAYERS = 64  # of a mapping
_LARGEST = 1e30  # number of a setting
_FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


class PlainNetwork(NamedTuple):
    """A network of any origin, under the official names."""

    arrays: dict[str, NDArray]
    clamp: float | None  # of what layers give out
    mapping_rate: float
    facts: dict[str, Any]  # JSON: where it comes from
    group: tuple[int, int] = (4, 1)  # of a discriminator: pictures compared, features of that


def checked_group(size: Any, features: Any) -> tuple[int, int]:
    """Returns how many pictures a discriminator compares, and features of that.

    Args:
      size: as a file says it, None for all pictures of a batch.
      features: as a file says it.

    Raises:
      ValueError: these are no numbers of something.
    """
    group = WHOLE_BATCH if size is None else size, features
    if not all(type(number) is int and 0 < number <= WHOLE_BATCH for number in group):
        raise ValueError(f"expected groups of some pictures, found {group}")
    return group


def to_generator(network: PlainNetwork) -> Generator:
    """Returns the generator, with NumPy's arrays.

    Raises:
      ValueError: when its arrays are not those of a StyleGAN2 generator of their sizes; names some.
    """
    arrays = dict(network.arrays)
    _take_filters(arrays)
    resolutions = _resolutions(arrays, "synthesis.b", ".torgb.weight")
    layers = _count_layers(arrays)
    labels, embedded = _embedding(arrays)
    w_dim = _shape(arrays, "synthesis.b4.torgb.affine.weight", 2)[1]
    config = GeneratorConfig(
        resolution=resolutions[-1],
        channels=tuple(_shape(arrays, f"synthesis.b{r}.torgb.weight", 4)[1] for r in resolutions),
        z_dim=_shape(arrays, "mapping.fc0.weight", 2)[1] - embedded,
        c_dim=labels,
        w_dim=w_dim,
        mapping_layers=layers,
        mapping_rate=network.mapping_rate,
        clamp=network.clamp,
        image_channels=_shape(arrays, "synthesis.b4.torgb.weight", 4)[0],
    )
    if config.z_dim < 1:
        raise ValueError(f"expected latents, found a mapping of {embedded} inputs, all of labels")
    for r in resolutions:
        for layer in ("conv0", "conv1") if r > 4 else ("conv1",):
            # A layer without noise is one whose noise is zero.
            arrays.setdefault(f"synthesis.b{r}.{layer}.noise_strength", np.zeros(()))
            arrays.setdefault(f"synthesis.b{r}.{layer}.noise_const", np.zeros((r, r)))
    ours = dict(_ours(name, array) for name, array in arrays.items())
    tree = _filled(ours, generator_shapes(config), "a generator")
    return Generator(tree["params"], tree["buffers"], config, network.facts)


def to_discriminator(network: PlainNetwork) -> TrainedDiscriminator:
    """Returns the discriminator, with NumPy's arrays.

    Raises:
      ValueError: when its arrays are not those of a StyleGAN2 discriminator of their sizes; names
        some.
    """
    arrays = dict(network.arrays)
    _take_filters(arrays)
    resolutions = [4, *_resolutions(arrays, "b", ".conv0.weight", first=8)]
    labels, _ = _embedding(arrays)
    features = (_shape(arrays, f"b{r}.conv0.weight", 4)[1] for r in resolutions[1:])
    config = DiscriminatorConfig(
        resolution=resolutions[-1],
        channels=(_shape(arrays, "b4.conv.weight", 4)[0], *features),
        c_dim=labels,
        cmap_dim=_shape(arrays, "b4.out.weight", 2)[0] if labels else 0,
        mapping_layers=_count_layers(arrays) if labels else DiscriminatorConfig.mapping_layers,
        mapping_rate=network.mapping_rate if labels else DiscriminatorConfig.mapping_rate,
        clamp=network.clamp,
        group_size=network.group[0],
        group_channels=network.group[1],
        image_channels=_shape(arrays, f"b{resolutions[-1]}.fromrgb.weight", 4)[1],
    )
    ours = {"params." + name: _arranged(name, array) for name, array in arrays.items()}
    tree = _filled(ours, discriminator_shapes(config), "a discriminator")
    return TrainedDiscriminator(tree["params"], config, network.facts)


def as_number(value: Any, name: str) -> float:
    """Returns a setting of a file as the number that it is to be.

    Raises:
      ValueError: it is none, or one that no float holds.
    """
    if type(value) not in (int, float) or not abs(value) < _LARGEST:
        raise ValueError(f"expected a number as {name}, found {str(value)[:40]!r}")
    return float(value)


def _take_filters(arrays: dict[str, NDArray]) -> None:
    """Removes the filters of up- and downsampling, which have to be ours."""
    for name in [name for name in arrays if name.split(".")[-1] == "resample_filter"]:
        found = arrays.pop(name).astype(np.float32)
        if found.shape != _FILTER.shape or not np.allclose(found, _FILTER, atol=1e-6):
            raise ValueError(f"expected a filter of 1, 3, 3, 1, found another in {name}")


def _resolutions(
    arrays: Mapping[str, NDArray], prefix: str, suffix: str, first: int = 4
) -> list[int]:
    """The sides of the blocks, 4, 8, ..."""
    pattern = re.compile(rf"{re.escape(prefix)}(\d{{1,6}}){re.escape(suffix)}")
    found = sorted(int(match[1]) for name in arrays if (match := pattern.fullmatch(name)))
    expected = [first * 2**i for i in range(min(max(len(found), 1), _MOST_BLOCKS))]
    if found != expected:
        text = ", ".join(f"b{r}" for r in found[:20]) or "none"
        raise ValueError(f"expected blocks b{first}, b{2 * first}, ... of StyleGAN2, found {text}")
    return found


def _count_layers(arrays: Mapping[str, NDArray]) -> int:
    count = 0
    while f"mapping.fc{count}.weight" in arrays and count <= _MOST_LAYERS:
        count += 1
    if not 0 < count <= _MOST_LAYERS:
        raise ValueError(f"expected a mapping of at most {_MOST_LAYERS} layers, found {count}")
    return count


def _embedding(arrays: Mapping[str, NDArray]) -> tuple[int, int]:
    """How many numbers a label has, and to how many it is embedded."""
    if "mapping.embed.weight" not in arrays:
        return 0, 0
    embedded, labels = _shape(arrays, "mapping.embed.weight", 2)
    return labels, embedded


def _shape(arrays: Mapping[str, NDArray], name: str, ndim: int) -> tuple[int, ...]:
    if name not in arrays:
        raise ValueError(f"expected a network of StyleGAN2, found no {name} in it")
    shape = arrays[name].shape
    if len(shape) != ndim or not all(0 < size < _MOST for size in shape):
        raise ValueError(f"expected {ndim} axes of some length in {name}, found {shape}")
    return shape


def _ours(name: str, array: NDArray) -> tuple[str, NDArray]:
    """An array of a generator, under our name and in our layout."""
    if name == "mapping.w_avg":
        return "buffers.w_avg", array
    if found := re.fullmatch(r"synthesis\.(b\d+\.conv[01])\.noise_const", name):
        return f"buffers.noise.{found[1]}", array
    return f"params.{name}", _arranged(name, array)


def _arranged(name: str, array: NDArray) -> NDArray:
    """Turns the axes of an array from the official order into ours."""
    if name.endswith(".weight") and array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if name.endswith(".weight") and array.ndim == 2:
        return array.T
    return np.moveaxis(array, 0, -1) if name.endswith(".const") else array


def _filled(
    ours: Mapping[str, NDArray], shapes: Mapping[str, tuple[int, ...]], what: str
) -> dict[str, Any]:
    """Puts arrays into a tree, each held against its shape."""
    taken = take_entries(ours, shapes, what)
    arrays = {name: np.array(array, np.float32, order="C") for name, array in taken.items()}
    return traverse_util.unflatten_dict(arrays, sep=".")
