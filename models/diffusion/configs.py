"""Settings of the networks of public video pipelines, from what their `config.json` says.

A key is a field of ours, a choice of which our networks know one value, or of no consequence;
whatever else is refused, as it would change the arithmetic unseen.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

Config = TypeVar("Config")


def take_config(
    kind: type[Config],
    values: Mapping[str, Any],
    class_name: str,
    only: Mapping[str, Any],
    ignored: tuple[str, ...] = (),
) -> Config:
    """Builds a `kind` of the entries of a `config.json`; what is absent keeps its default.

    Args:
      kind: a frozen dataclass, each field with a default of its type.
      values: the entries.
      class_name: what `_class_name` has to say.
      only: the one value that is implemented, of keys that are no fields.
      ignored: keys that do not change the network.

    Raises:
      ValueError: naming the key and what was expected of it.
    """
    if values.get("_class_name") != class_name:
        found = values.get("_class_name")
        raise ValueError(f"expected _class_name to be {class_name}, found {found!r}")
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    chosen = {}
    for name, value in values.items():
        if name in defaults:
            chosen[name] = _like(defaults[name], name, value)
        elif name in only:
            if value != only[name]:
                raise ValueError(f"expected {name} to be {only[name]!r}, found {value!r}")
        elif name not in ignored and not name.startswith("_"):
            raise ValueError(f"expected settings of a {class_name}, found unknown {name}")
    return kind(**chosen)


def _like(default: Any, name: str, value: Any) -> Any:
    """Returns `value` if it is of the type of `default`; lists become tuples."""
    if isinstance(default, tuple):
        if isinstance(value, list | tuple) and value and _are_like(default[0], value):
            return tuple(value)
        expected = f"a list of {type(default[0]).__name__}"
    else:
        if _are_like(default, [value]):
            return value
        expected = type(default).__name__
    raise ValueError(f"expected {name} to be {expected}, found {value!r}")


def _are_like(default: Any, values: list | tuple) -> bool:
    if isinstance(default, int) and not isinstance(default, bool):
        return all(type(value) is int and value > 0 for value in values)
    return all(type(value) is type(default) for value in values)


def _check_blocks(config: Any, name: str, *known: str) -> None:
    """Refuses a list that does not name a known block for each level."""
    types, levels = getattr(config, name), len(config.block_out_channels)
    if len(types) != levels or not set(types) <= set(known):
        found = ", ".join(types)
        raise ValueError(f"expected {levels} of {' or '.join(known)} in {name}, found {found}")


def _check_groups(widths: tuple[int, ...], *divisors: int) -> None:
    """Refuses channels that groups or heads cannot share."""
    for width in widths:
        if any(width % divisor for divisor in divisors):
            expected = " and ".join(map(str, divisors))
            raise ValueError(f"expected block_out_channels divisible by {expected}, found {width}")


class _Levels:
    """What the settings of both UNets say of their levels, the largest first."""

    _suffix = ""  # of the names of blocks

    def attends(self, way: str, level: int) -> bool:
        """Tells whether the layers of a level attend, on the way "down" or "up" or at "mid"."""
        types = {"down": self.down_block_types, "up": self.up_block_types[::-1]}
        return way == "mid" or types[way][level].startswith("CrossAttn")

    def _check_levels(self) -> None:
        for way in ("Down", "Up"):
            known = [f"{attends}{way}Block{self._suffix}" for attends in ("CrossAttn", "")]
            _check_blocks(self, f"{way.lower()}_block_types", *known)


@dataclasses.dataclass(frozen=True)
class ModelScopeConfig(_Levels):
    """Settings of ModelScope's UNet, diffusers' UNet3DConditionModel."""

    _suffix = "3D"

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    down_block_types: tuple[str, ...] = (*3 * ("CrossAttnDownBlock3D",), "DownBlock3D")
    up_block_types: tuple[str, ...] = ("UpBlock3D", *3 * ("CrossAttnUpBlock3D",))
    layers_per_block: int = 2
    norm_num_groups: int = 32
    cross_attention_dim: int = 1024
    attention_head_dim: int = 64

    def __post_init__(self):
        self._check_levels()
        _check_groups(self.block_out_channels, self.norm_num_groups, self.attention_head_dim)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ModelScopeConfig":
        """Takes the entries of a `config.json`, or refuses them by a ValueError."""
        only = {"act_fn": "silu", "norm_eps": 1e-5, "downsample_padding": 1}
        only |= {"mid_block_scale_factor": 1, "num_attention_heads": None}
        only |= {"time_cond_proj_dim": None}
        return take_config(cls, values, "UNet3DConditionModel", only, ("sample_size",))


@dataclasses.dataclass(frozen=True)
class SvdConfig(_Levels):
    """Settings of Stable Video Diffusion's UNet, UNetSpatioTemporalConditionModel."""

    _suffix = "SpatioTemporal"

    in_channels: int = 8
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    down_block_types: tuple[str, ...] = (
        *3 * ("CrossAttnDownBlockSpatioTemporal",),
        "DownBlockSpatioTemporal",
    )
    up_block_types: tuple[str, ...] = (
        "UpBlockSpatioTemporal",
        *3 * ("CrossAttnUpBlockSpatioTemporal",),
    )
    layers_per_block: int = 2
    addition_time_embed_dim: int = 256
    projection_class_embeddings_input_dim: int = 768
    cross_attention_dim: int = 1024
    num_attention_heads: tuple[int, ...] = (5, 10, 20, 20)

    def __post_init__(self):
        self._check_levels()
        if len(self.num_attention_heads) != len(self.block_out_channels):
            raise ValueError(
                f"expected {len(self.block_out_channels)} entries in num_attention_heads, "
                f"found {len(self.num_attention_heads)}"
            )
        for channels, heads in zip(self.block_out_channels, self.num_attention_heads, strict=True):
            _check_groups((channels,), 32, heads)
        if self.projection_class_embeddings_input_dim != 3 * self.addition_time_embed_dim:
            raise ValueError(
                "expected projection_class_embeddings_input_dim to be three times "
                f"{self.addition_time_embed_dim}, found "
                f"{self.projection_class_embeddings_input_dim}"
            )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "SvdConfig":
        """Takes the entries of a `config.json`, or refuses them by a ValueError."""
        only = {"transformer_layers_per_block": 1}
        ignored = ("sample_size", "num_frames")
        return take_config(cls, values, "UNetSpatioTemporalConditionModel", only, ignored)


@dataclasses.dataclass(frozen=True)
class VaeConfig:
    """Settings of the autoencoder of pictures, AutoencoderKL."""

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    down_block_types: tuple[str, ...] = 4 * ("DownEncoderBlock2D",)
    up_block_types: tuple[str, ...] = 4 * ("UpDecoderBlock2D",)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215

    def __post_init__(self):
        _check_blocks(self, "down_block_types", "DownEncoderBlock2D")
        _check_blocks(self, "up_block_types", "UpDecoderBlock2D")
        _check_groups(self.block_out_channels, self.norm_num_groups)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "VaeConfig":
        """Takes the entries of a `config.json`, or refuses them by a ValueError."""
        only = {"act_fn": "silu", "use_quant_conv": True, "use_post_quant_conv": True}
        only |= {"mid_block_add_attention": True, "shift_factor": None}
        only |= {"latents_mean": None, "latents_std": None}
        return take_config(cls, values, "AutoencoderKL", only, ("sample_size", "force_upcast"))


@dataclasses.dataclass(frozen=True)
class VideoVaeConfig:
    """Settings of the autoencoder of videos, AutoencoderKLTemporalDecoder."""

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    down_block_types: tuple[str, ...] = 4 * ("DownEncoderBlock2D",)
    layers_per_block: int = 2
    scaling_factor: float = 0.18215

    norm_num_groups = 32  # of all that were ever trained

    def __post_init__(self):
        _check_blocks(self, "down_block_types", "DownEncoderBlock2D")
        _check_groups(self.block_out_channels, self.norm_num_groups)
        if self.layers_per_block != 2:  # else torch's middle block forgets its attention or a layer
            raise ValueError(f"expected layers_per_block to be 2, found {self.layers_per_block}")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "VideoVaeConfig":
        """Takes the entries of a `config.json`, or refuses them by a ValueError."""
        ignored = ("sample_size", "force_upcast")
        return take_config(cls, values, "AutoencoderKLTemporalDecoder", {}, ignored)
