"""The file of looks that ships with the package; recon/data/looks.md is its card."""

import functools
import os
import pathlib

import jax.numpy as jnp
import numpy as np

from recon.looks.look import Looks
from render.files_io import read_arrays, replacing

_DEFAULT = pathlib.Path(__file__).parents[1] / "data" / "looks.npz"
_TRAITS = _DEFAULT.with_name("head_traits.npz")
_WHAT = "looks saved by save_looks"
_TRAITS_WHAT = "traits saved by save_traits"
_PICTURES = ("skins", "eyes", "hair_textures", "small_textures")
_WHOLE = ("card_anchors", "card_triangles")
_REAL = ("skin_window", "card_offsets")
_KINDS = ("hair", "brow", "lash")
_UV_STEPS = 65535  # of 16 bits
_TRANSFER_SCALE = 330.0  # steps of 8 bits to a unit of irradiance over pi


def load_looks(path: str | os.PathLike = _DEFAULT) -> Looks:
    """Reads the looks; the shipped ones are read once.

    Raises:
      ValueError: one line, when the file is missing, damaged or is something else.
    """
    return _load(pathlib.Path(path))


@functools.lru_cache(maxsize=1)
def _load(path: pathlib.Path) -> Looks:
    arrays = read_arrays(path, _WHAT)
    try:
        return _looks(arrays)
    except KeyError as error:
        raise ValueError(f"expected {_WHAT}, found no {error} in {path}") from None


def _looks(arrays: dict[str, np.ndarray]) -> Looks:
    fields = {name: jnp.asarray(arrays[name], jnp.uint8) for name in _PICTURES}
    fields |= {name: jnp.asarray(arrays[name], jnp.int32) for name in _WHOLE}
    fields |= {name: jnp.asarray(arrays[name], jnp.float32) for name in _REAL}
    weights = arrays["card_weights"].astype(np.float32)
    weights = np.concatenate([weights, 1 - weights.sum(-1, keepdims=True)], -1)
    names, kinds = arrays["card_names"].tolist(), arrays["card_kind"].tolist()
    by_kind = {
        f"{kind}_names": tuple(n for n, k in zip(names, kinds, strict=True) if k == kind)
        for kind in _KINDS
    }
    scale = np.float32(arrays["transfer_scale"])
    return Looks(
        **fields,
        **by_kind,
        card_weights=jnp.asarray(weights),
        card_uvs=jnp.asarray(arrays["card_uvs"] / np.float32(_UV_STEPS)),
        head_transfer=jnp.asarray(arrays["head_transfer"] / scale),
        hair_transfer=jnp.asarray(arrays["hair_transfer"] / scale),
        card_vertex_start=tuple(arrays["card_vertex_start"].tolist()),
        card_triangle_start=tuple(arrays["card_triangle_start"].tolist()),
        skin_names=tuple(arrays["skin_names"].tolist()),
        eye_names=tuple(arrays["eye_names"].tolist()),
    )


def save_looks(path: str | os.PathLike, looks: Looks) -> None:
    """Writes the looks (compressed), rounded: places to 16 bits, light to 8."""
    kinds = [(kind, getattr(looks, f"{kind}_names")) for kind in _KINDS]
    host = {name: np.asarray(getattr(looks, name)) for name in looks.__dataclass_fields__}
    arrays = {name: host[name].astype(np.uint8) for name in _PICTURES}
    arrays |= {name: host[name].astype(np.uint16) for name in _WHOLE}
    arrays |= {
        "skin_window": host["skin_window"].astype(np.float32),
        "card_weights": host["card_weights"][:, :2].astype(np.float16),
        "card_offsets": host["card_offsets"].astype(np.float16),
        "card_uvs": (np.clip(host["card_uvs"], 0, 1) * _UV_STEPS).round().astype(np.uint16),
        "head_transfer": _to_bytes(host["head_transfer"]),
        "hair_transfer": _to_bytes(host["hair_transfer"]),
        "transfer_scale": np.float32(_TRANSFER_SCALE),
        "card_names": np.array([name for _, names in kinds for name in names]),
        "card_kind": np.array([kind for kind, names in kinds for _ in names]),
        "card_vertex_start": np.array(looks.card_vertex_start, np.int32),
        "card_triangle_start": np.array(looks.card_triangle_start, np.int32),
        "skin_names": np.array(looks.skin_names),
        "eye_names": np.array(looks.eye_names),
    }
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def _to_bytes(transfer: np.ndarray) -> np.ndarray:
    return np.clip(np.round(_TRANSFER_SCALE * transfer), -127, 127).astype(np.int8)


def load_traits() -> dict[str, np.ndarray]:
    """Reads how traits shape the default head: what `build_head.learn_traits` returns."""
    arrays = read_arrays(_TRAITS, _TRAITS_WHAT)
    return {name: arrays[name] for name in ("mean", "sd", "directions", "rest")}


def save_traits(path: str | os.PathLike, traits: dict[str, np.ndarray]) -> None:
    """Writes traits, as `load_traits` reads them."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **traits)
