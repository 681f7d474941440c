"""Networks of TensorFlow (stylegan2, stylegan2-ada) under the official names of PyTorch's.

Kernels are [rows, columns, in, out] there and matrices [in, out]; those that sample up are stored
turned by half a turn; a style's bias is one less than here.

Source: the rules of `legacy.py` in stylegan2-ada-pytorch and stylegan3, which convert such files;
what keywords default to, `training/networks*.py` of both projects.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.stylegan.config import DiscriminatorConfig, GeneratorConfig
from models.stylegan.official_pickle_io import Module
from models.stylegan.plain import PlainNetwork, as_number, checked_group

Rule = tuple[str, Callable[[NDArray], NDArray]]  # official name, and how the axes are turned

_OLDEST = 4  # version of the file format
# Where the file says nothing, which is what its function then does:
_DISCRIMINATOR_RATE = 0.1  # of its mapping
_GROUP_SIZES = {"D_stylegan2": 4}  # of stylegan2's; stylegan2-ada's compares a whole batch
# keyword -> what it has to be, where it is given
_KINDS = {
    "architecture": ("skip", "resnet"),  # of a generator, of a discriminator
    "nonlinearity": ("lrelu", "lrelu"),
    "mapping_nonlinearity": ("lrelu", "lrelu"),
    "resample_kernel": ((1, 3, 3, 1), (1, 3, 3, 1)),
}
_IGNORED = re.compile(r"lod|(.*/)?(resample_kernel|lod)")


def plain_tensorflow_generator(module: Module) -> PlainNetwork:
    """Returns a generator under the official names.

    Raises:
      ValueError: when the network is of a kind that is not made here, or no generator; says which.
    """
    _check(module, 0)
    arrays = _renamed(module, _generator_rule)
    rate = _number(module, "mapping_lrmul", GeneratorConfig.mapping_rate)
    clamp = _number(module, "conv_clamp", None)
    return PlainNetwork(arrays, clamp, rate, {"layout": "TensorFlow", "class": module.kind[:80]})


def plain_tensorflow_discriminator(module: Module) -> PlainNetwork:
    """Returns a discriminator under the official names; raises as for a generator."""
    _check(module, 1)
    arrays = _renamed(module, _discriminator_rule)
    rate = _number(module, "mapping_lrmul", _DISCRIMINATOR_RATE)
    facts = {"layout": "TensorFlow", "class": module.kind[:80]}
    group = checked_group(
        module.settings.get("mbstd_group_size", _GROUP_SIZES.get(module.kind)),
        module.settings.get("mbstd_num_features", DiscriminatorConfig.group_channels),
    )
    return PlainNetwork(arrays, _number(module, "conv_clamp", None), rate, facts, group)


def _check(module: Module, which: int) -> None:
    version = module.settings.get("version")
    if type(version) is not int or version < _OLDEST:
        raise ValueError(f"expected version {_OLDEST} of TensorFlow's files, found {version!r}")
    for name, kinds in _KINDS.items():
        found = module.settings.get(name)
        if found is not None and found != kinds[which]:
            raise ValueError(f"expected {name} {kinds[which]!r} of {module.kind}, found {found!r}")


def _number(module: Module, name: str, usual: Any) -> Any:
    found = module.settings.get(name)
    return usual if found is None else as_number(found, name)


def _renamed(module: Module, rule_of: Callable[[str], Rule | None]) -> dict[str, NDArray]:
    arrays = {}
    for name, array in _variables(module).items():
        if _IGNORED.fullmatch(name):
            continue
        rule = rule_of(name)
        if rule is None:
            raise ValueError(f"expected variables of StyleGAN2, found {name[:80]!r}")
        official, arrange = rule
        try:
            arrays[official] = arrange(array)
        except (ValueError, IndexError):
            raise ValueError(f"expected axes of StyleGAN2, found {name} {array.shape}") from None
    return arrays


def _variables(module: Module) -> Mapping[str, NDArray]:
    """All variables by name: those of a component after its own, `synthesis/4x4/Const/const`."""
    found = dict(module.arrays)
    for part, inner in module.parts.items():
        found |= {f"{part}/{name}": array for name, array in _variables(inner).items()}
    return found


def _same(array: NDArray) -> NDArray:
    return array


def _kernel(array: NDArray) -> NDArray:
    return array.transpose(3, 2, 0, 1)


def _turned(array: NDArray) -> NDArray:
    return _kernel(array[::-1, ::-1])


_DENSE = {"weight": np.transpose, "bias": _same}
_STYLED = {
    "bias": ("bias", _same),
    "noise_strength": ("noise_strength", _same),
    "mod_weight": ("affine.weight", np.transpose),
    "mod_bias": ("affine.bias", lambda array: array + np.float32(1.0)),
}
_LAYERS = {"Conv": "conv1", "Conv0_up": "conv0", "Conv1": "conv1", "ToRGB": "torgb"}
_PLAIN_LAYERS = {"FromRGB": "fromrgb", "Conv0": "conv0", "Conv1_down": "conv1", "Skip": "skip"}


def _generator_rule(name: str) -> Rule | None:
    if name == "dlatent_avg":
        return "mapping.w_avg", _same
    if name == "synthesis/4x4/Const/const":
        return "synthesis.b4.const", lambda array: array[0]
    if found := re.fullmatch(r"mapping/(LabelEmbed|Dense(\d\d?))/(weight|bias)", name):
        layer = "embed" if found[2] is None else f"fc{int(found[2])}"
        return f"mapping.{layer}.{found[3]}", _DENSE[found[3]]
    if found := re.fullmatch(r"synthesis/noise(\d\d?)", name):
        index = int(found[1]) + 1  # 0 at 4 x 4 pixels, then two at each resolution
        layer = f"b{4 * 2 ** (index // 2)}.conv{index % 2}"
        return f"synthesis.{layer}.noise_const", lambda array: array[0, 0]
    found = re.fullmatch(r"synthesis/(\d{1,5})x\1/(Conv|Conv0_up|Conv1|ToRGB)/(\w+)", name)
    if not found:
        return None
    side, layer, leaf = found.groups()
    if leaf == "weight":
        inside, arrange = "weight", _turned if layer == "Conv0_up" else _kernel
    elif leaf in _STYLED:
        inside, arrange = _STYLED[leaf]
    else:
        return None
    return f"synthesis.b{side}.{_LAYERS[layer]}.{inside}", arrange


def _discriminator_rule(name: str) -> Rule | None:
    if found := re.fullmatch(r"(LabelEmbed|Mapping(\d\d?))/(weight|bias)", name):
        layer = "embed" if found[2] is None else f"fc{int(found[2])}"
        return f"mapping.{layer}.{found[3]}", _DENSE[found[3]]
    if found := re.fullmatch(r"(4x4/Dense0|Output)/(weight|bias)", name):
        return f"b4.{'out' if found[1] == 'Output' else 'fc'}.{found[2]}", _DENSE[found[2]]
    if found := re.fullmatch(r"4x4/Conv/(weight|bias)", name):
        return f"b4.conv.{found[1]}", _kernel if found[1] == "weight" else _same
    found = re.fullmatch(r"(\d{1,5})x\1/(FromRGB|Conv0|Conv1_down|Skip)/(weight|bias)", name)
    if not found:
        return None
    arrange = _kernel if found[3] == "weight" else _same
    return f"b{found[1]}.{_PLAIN_LAYERS[found[2]]}.{found[3]}", arrange
