"""What the settings of official modules have to be for our arithmetic to be theirs.

Layers are described one by one in an official file. Ours are of one kind: leaky ReLU times the root
of 2, one clamp, learning rates that follow from sizes. A file that says otherwise is refused, and
what it says is named; keywords of constructors are not read.

Source: `training/networks_stylegan2.py` of stylegan3 (Karras et al. 2021).
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from models.stylegan.config import DiscriminatorConfig, GeneratorConfig
from models.stylegan.official_pickle_io import Module
from models.stylegan.plain import PlainNetwork, as_number, checked_group

_ROOT = math.sqrt(2.0)
_LEAKY = {"activation": "lrelu", "act_gain": _ROOT}
# path -> settings, where a module has them
_GENERATOR = {
    r"synthesis\.b\d+": {"architecture": "skip"},
    r"synthesis\.b\d+\.conv0": _LEAKY | {"up": 2},
    r"synthesis\.b\d+\.conv1": _LEAKY | {"up": 1},
    r".*\.affine|mapping\.embed": {"activation": "linear"},
    r"mapping\.fc\d+": {"activation": "lrelu"},
}
_DISCRIMINATOR = {
    r"b\d+": {"architecture": "resnet"},
    r"b\d+\.(fromrgb|conv0|conv)": _LEAKY | {"up": 1, "down": 1},
    r"b\d+\.conv1": _LEAKY | {"up": 1, "down": 2},
    r"b\d+\.skip": {"activation": "linear", "act_gain": 1.0, "up": 1, "down": 2},
    r"b4\.out|mapping\.embed": {"activation": "linear"},
    r"b4\.fc|mapping\.fc\d+": {"activation": "lrelu"},
}
_FOREIGN = {"input": "StyleGAN3", "backbone": "EG3D"}  # parts that StyleGAN2 has not


def plain_generator(module: Module) -> PlainNetwork:
    """Returns a generator as its file holds it.

    Raises:
      ValueError: when a layer is not of StyleGAN2, or of a kind that is not made here; names it.
    """
    _refuse_others(module)
    return _plain(module, _GENERATOR, GeneratorConfig.mapping_rate)


def plain_discriminator(module: Module) -> PlainNetwork:
    """Returns a discriminator as its file holds it; raises as `plain_generator` does."""
    network = _plain(module, _DISCRIMINATOR, DiscriminatorConfig.mapping_rate)
    epilogue = module.parts.get("b4")
    deviation = epilogue.parts.get("mbstd") if epilogue else None
    if deviation is None:
        raise ValueError(f"expected a discriminator, found no b4.mbstd in {module.kind}")
    size, features = (deviation.settings.get(name) for name in ("group_size", "num_channels"))
    return network._replace(group=checked_group(size, features))


def _refuse_others(module: Module) -> None:
    synthesis = module.parts.get("synthesis")
    parts = list(synthesis.parts.values()) if synthesis else []
    names = list(synthesis.parts) if synthesis else list(module.parts)
    if "b4" in names:
        return
    kind = next((_FOREIGN[name] for name in names if name in _FOREIGN), None)
    kinds = sorted({part.kind for part in parts}) or [module.kind]
    found = f"those of {kind}" if kind else f"none of b4, b8, ... in a {module.kind}"
    raise ValueError(f"expected the layers of StyleGAN2, found {found}: {', '.join(kinds[:3])}")


def _plain(module: Module, wanted: Mapping[str, Mapping], usual_rate: float) -> PlainNetwork:
    tree = module.tree()
    faults = [
        f"{setting} {found!r} of {path} ({layer.kind}) instead of {expected!r}"
        for path, layer in tree.items()
        for pattern, settings in wanted.items()
        if re.fullmatch(pattern, path)
        for setting, expected in settings.items()
        if not _is_like(found := layer.settings.get(setting, expected), expected)
    ]
    faults += _gain_faults(tree)
    if faults:
        rest = f"; {len(faults) - 1} more like it" if len(faults) > 1 else ""
        raise ValueError(f"expected layers of StyleGAN2, found {faults[0][:200]}{rest}")
    facts = {"layout": "official", "class": module.kind[:80]}
    rates = (_rate(layer) for path, layer in tree.items() if _is_mapping(path))
    return PlainNetwork(
        module.named_arrays(),
        _one(_clamps(tree), "clamp of all layers", None),
        _one(rates, "rate of the mapping's layers", usual_rate),
        facts,
    )


def _is_mapping(path: str) -> bool:
    return re.fullmatch(r"mapping\.fc\d+", path) is not None


def _is_like(found: Any, expected: Any) -> bool:
    if isinstance(expected, str) or isinstance(found, str) or found is None:
        return found == expected
    return bool(np.isclose(found, expected, rtol=1e-5).all())


def _rate(layer: Module) -> float:
    """How fast a layer learns, which is by how much its bias is scaled."""
    return as_number(layer.settings.get("bias_gain", 1.0), "bias_gain")


def _gain_faults(tree: Mapping[str, Module]) -> Iterator[str]:
    """Gains of weights that are not the rate over the root of the number of inputs."""
    for path, layer in tree.items():
        gain, weight = layer.settings.get("weight_gain"), layer.arrays.get("weight")
        if gain is None or weight is None or weight.ndim < 2:
            continue
        rate = _rate(layer)
        if not _is_mapping(path) and rate != 1.0:
            yield f"rate {rate} of {path}"
        expected = rate / math.sqrt(max(math.prod(weight.shape[1:]), 1))
        if not _is_like(gain, expected):
            yield f"weight_gain {gain!r} of {path} instead of {expected:.6g}"


def _clamps(tree: Mapping[str, Module]) -> Iterator[Any]:
    for path, layer in tree.items():
        # What a discriminator lets pass by is not clamped.
        if "conv_clamp" in layer.settings and not path.endswith(".skip"):
            yield layer.settings["conv_clamp"]


def _one(values: Iterator[Any], what: str, usual: float | None) -> float | None:
    """The number, or None, that all values are; `usual` where there is none."""
    found = {None if value is None else as_number(value, what) for value in values}
    if len(found) > 1:
        raise ValueError(f"expected one {what}, found {' and '.join(sorted(map(str, found)))}")
    return found.pop() if found else usual
