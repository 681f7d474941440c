"""Loads CLIP's towers from folders as transformers writes them: `config.json` and weights.

| `architectures` | text tower | vision tower |
| --- | --- | --- |
| CLIPTextModel | not projected | |
| CLIPTextModelWithProjection | projected | |
| CLIPVisionModel | | not projected |
| CLIPVisionModelWithProjection | | projected |
| CLIPModel | projected | projected |

A tower on its own names its projection's width whether it has one or not; its class tells.
"""

import os
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from models.perception.clip import (
    Clip,
    ClipTextConfig,
    ClipTextTower,
    ClipVisionConfig,
    ClipVisionTower,
    Tower,
)
from models.weights import load_params, read_config

_TEXT = ("text_model.", "text_projection.")
_VISION = ("vision_model.", "visual_projection.")
_WIDTH = 512  # of a projection, where nothing is said of it
_TEMPERATURE = "logit_scale"  # of training; losses by cosines leave it out


def load_clip(folder: str | os.PathLike, dtype: Any = jnp.float32) -> Clip:
    """Loads both towers of a CLIPModel; arguments and errors as of `load_text_tower`."""
    return Clip(load_text_tower(folder, dtype), load_vision_tower(folder, dtype))


def load_text_tower(folder: str | os.PathLike, dtype: Any = jnp.float32) -> Tower:
    """Loads the text tower of a folder.

    Args:
      folder: as transformers writes it.
      dtype: of the parameters.

    Raises:
      ValueError: when a file is missing or broken, or holds another network; names it.
    """

    def from_json(values: Mapping[str, Any]) -> ClipTextConfig:
        return ClipTextConfig.from_json(*_part(values, "Text"))

    config = read_config(folder, from_json)
    shapes = ClipTextTower(config).param_shapes()
    return Tower(load_params(folder, shapes, dtype, text_entry), config)


def load_vision_tower(folder: str | os.PathLike, dtype: Any = jnp.float32) -> Tower:
    """Loads the vision tower of a folder; arguments and errors as of `load_text_tower`."""

    def from_json(values: Mapping[str, Any]) -> ClipVisionConfig:
        return ClipVisionConfig.from_json(*_part(values, "Vision"))

    config = read_config(folder, from_json)
    shapes = ClipVisionTower(config).param_shapes()
    return Tower(load_params(folder, shapes, dtype, vision_entry), config)


def text_entry(name: str) -> str | None:
    """Gives the name of a text tower's entry in a whole CLIP, None for what is none."""
    return _entry(name, _TEXT, _VISION)


def vision_entry(name: str) -> str | None:
    """Gives the name of a vision tower's entry in a whole CLIP, None for what is none."""
    return _entry(name, _VISION, _TEXT)


def _entry(name: str, ours: tuple[str, str], others: tuple[str, str]) -> str | None:
    # Positions were saved along until transformers 4.31: 0, 1, 2 ...
    if name.startswith(others) or name == _TEMPERATURE or name.endswith(".position_ids"):
        return None
    # Transformers 5 saves a tower without a projection as if it were all there is.
    return name if name.startswith(ours) else ours[0] + name


def _part(values: Mapping[str, Any], tower: str) -> tuple[Mapping[str, Any], Any]:
    """Returns the settings of a tower, "Text" or "Vision", and the width of its projection."""
    plain, projected, whole = f"CLIP{tower}Model", f"CLIP{tower}ModelWithProjection", "CLIPModel"
    found = values.get("architectures")
    kind = found[0] if isinstance(found, list) and len(found) == 1 else found
    if kind not in (plain, projected, whole):
        wanted = f"{plain}, {projected} or {whole}"
        raise ValueError(f"expected architectures to be {wanted}, found {found!r}")
    part = values
    if kind == whole:
        # Where both are there, transformers takes the former.
        name = f"{tower.lower()}_config"
        part = values.get(f"{name}_dict") or values.get(name) or {}
        if not isinstance(part, Mapping):
            raise ValueError(f"expected {name} to be settings, found {part!r}")
    if kind == plain:
        return part, None
    width = values.get("projection_dim", _WIDTH)
    if width is None:
        raise ValueError(f"expected projection_dim of a {kind}, found {width!r}")
    return part, width
