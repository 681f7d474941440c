"""Checkpoints of rosinality's stylegan2-pytorch (`.pt`) under the official names.

Its layers are numbered, ours are named by their resolution:

| theirs | official |
| --- | --- |
| `style.1`, ... | `mapping.fc0`, ... |
| `input.input` [1, C, 4, 4] | `synthesis.b4.const` |
| `conv1`, `convs.0`, `convs.1`, ... | `synthesis.b4.conv1`, `b8.conv0`, `b8.conv1`, ... |
| `to_rgb1`, `to_rgbs.0`, ... | `synthesis.b4.torgb`, `b8.torgb`, ... |
| in them: `conv.weight` [1, O, I, k, k] | `weight` |
| `conv.modulation`, `activate.bias` | `affine`, `bias` |
| `noise.weight` [1], `noises.noise_0`, ... | `noise_strength`, `noise_const` |
| of a discriminator: `convs.0` | `fromrgb` |
| `convs.1`, `convs.2`, ... | the blocks, from the largest one to `b8` |
| `final_conv`, `final_linear.0`, `final_linear.1` | `b4.conv`, `b4.fc`, `b4.out` |

The arithmetic is the same. Channels follow from the arrays, so that any channel_multiplier will do.

Source: `model.py` and `train.py` of rosinality/stylegan2-pytorch.
"""

import re
from collections.abc import Mapping

from numpy.typing import NDArray

from models.stylegan.config import GeneratorConfig
from models.stylegan.plain import PlainNetwork

GROUPS = {"G": "g", "D": "d", "G_ema": "g_ema"}
AVERAGE = "latent_avg"
_RATE = GeneratorConfig.mapping_rate  # its files do not say it; nobody takes another
# theirs -> official, inside a layer
_LAYER = {
    "conv.weight": "weight",
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "noise.weight": "noise_strength",
    "activate.bias": "bias",
    "bias": "bias",
}
_BLOCK = {
    **{f"conv1.{i}.{leaf}": f"conv0.{leaf}" for i, leaf in enumerate(("weight", "bias"))},
    **{f"conv2.{i}.{leaf}": f"conv1.{leaf}" for i, leaf in enumerate(("weight", "bias"), 1)},
    "skip.1.weight": "skip.weight",
}
_ENDS = {
    "final_conv.0.weight": "b4.conv.weight",
    "final_conv.1.bias": "b4.conv.bias",
    **{f"final_linear.0.{leaf}": f"b4.fc.{leaf}" for leaf in ("weight", "bias")},
    **{f"final_linear.1.{leaf}": f"b4.out.{leaf}" for leaf in ("weight", "bias")},
}


def plain_rosinality_generator(
    entries: Mapping[str, NDArray], average: NDArray | None
) -> PlainNetwork:
    """Returns a generator under the official names.

    Args:
      entries: of its state dict.
      average: [w_dim] the average latent, if the file has one.

    Raises:
      ValueError: when entries are not those of a generator; names one.
    """
    arrays = {} if average is None else {"mapping.w_avg": average.reshape(-1)}
    for name, array in entries.items():
        if not name.endswith("kernel"):  # filters of up- and downsampling, which are all the same
            arrays[_generator_name(name)] = _shaped(name, array)
    return PlainNetwork(arrays, None, _RATE, {"layout": "rosinality"})


def plain_rosinality_discriminator(entries: Mapping[str, NDArray]) -> PlainNetwork:
    """Returns a discriminator under the official names; raises as for a generator."""
    blocks = {int(found[1]) for name in entries if (found := re.match(r"convs\.(\d+)\.", name))}
    if not blocks or max(blocks) > 16:
        raise ValueError("expected a discriminator of rosinality's, found no convs.0 in it")
    side = 4 * 2 ** max(blocks)
    arrays = {
        _discriminator_name(name, side): array
        for name, array in entries.items()
        if not name.endswith("kernel")
    }
    return PlainNetwork(arrays, None, _RATE, {"layout": "rosinality"})


def _shaped(name: str, array: NDArray) -> NDArray:
    """Takes off the axes of length one that only theirs have."""
    if name == "input.input" or name.endswith("conv.weight"):
        return array[0]
    if name.startswith("noises."):
        return array.reshape(array.shape[-2:])
    if name.endswith("noise.weight") and array.size == 1:
        return array.reshape(())
    return array.reshape(-1) if name.endswith(".bias") else array


def _generator_name(name: str) -> str:
    if name == "input.input":
        return "synthesis.b4.const"
    if found := re.fullmatch(r"style\.([1-9]\d?)\.(weight|bias)", name):
        return f"mapping.fc{int(found[1]) - 1}.{found[2]}"
    if found := re.fullmatch(r"noises\.noise_(\d\d?)", name):
        return f"synthesis.{_convolution(int(found[1]))}.noise_const"
    if found := re.fullmatch(r"to_rgb(?:1|s\.(\d))\.(.*)", name):
        block, inside = 4 if found[1] is None else 8 * 2 ** int(found[1]), _LAYER.get(found[2])
        layer = f"b{block}.torgb"
    elif found := re.fullmatch(r"conv(?:1|s\.(\d\d?))\.(.*)", name):
        layer = _convolution(0 if found[1] is None else int(found[1]) + 1)
        inside = _LAYER.get(found[2])
    else:
        inside = None
    if inside is None:
        raise ValueError(f"expected a generator of rosinality's, found {name[:80]!r} in it")
    return f"synthesis.{layer}.{inside}"


def _convolution(index: int) -> str:
    """Where the convolution of a number is: 0 is the one at 4 x 4 pixels."""
    return f"b{4 * 2 ** ((index + 1) // 2)}.conv{(index + 1) % 2}"


def _discriminator_name(name: str, side: int) -> str:
    if name in _ENDS:
        return _ENDS[name]
    found = re.fullmatch(r"convs\.(\d\d?)\.(.*)", name)
    if found and found[1] == "0":
        inside = {"0.weight": "fromrgb.weight", "1.bias": "fromrgb.bias"}.get(found[2])
    else:
        inside = _BLOCK.get(found[2]) if found else None
    if inside is None:
        raise ValueError(f"expected a discriminator of rosinality's, found {name[:80]!r} in it")
    return f"b{side >> max(int(found[1]) - 1, 0)}.{inside}"
