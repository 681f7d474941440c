"""ArcFace by IR-SE50, the face embedding that papers of inversion and editing are judged by.

Its weights, `model_ir_se50.pth`, are those that pSp and e4e come with; they are not part of this
project. Pictures are squares [N, S, S, 3] in [0, 1], aligned as FFHQ's are.

Batch normalisation is kept as the scale and the shift that it is once training is over.

Axes: N pictures, S their side, C channels, D = 512 numbers of an embedding.

Sources: Deng et al. 2019 (ArcFace, the units of IR); Hu et al. 2018 (squeeze and excitation);
Richardson et al. 2021 (pSp, the crop).
"""

import dataclasses
import functools
import math
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jax import lax

from models.perception.face_id import resampled, unit_length
from models.weights import read_entries, take_entries

_FFHQ_SIDE = 256  # of the picture that is cropped
_CROP = slice(35, 223), slice(32, 220)  # rows and columns of it
_BATCH_EPS = 1e-5
_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclasses.dataclass(frozen=True)
class IrSeConfig:
    """The shape of an `IrSe`; the default is IR-SE50. Hashable, so static under jit."""

    side: int = 112  # of the picture that the network sees, pixels
    stem: int = 64
    widths: tuple[int, ...] = (64, 128, 256, 512)  # channels of each stage, which halves the side
    units: tuple[int, ...] = (3, 4, 14, 3)
    squeeze: int = 16  # times fewer channels in between
    size: int = 512  # D

    @property
    def strided(self) -> list[tuple[int, int, int]]:
        """Channels in and out, and stride, of each unit."""
        rows, channels = [], self.stem
        for width, units in zip(self.widths, self.units, strict=True):
            rows += [(channels, width, 2)] + [(width, width, 1)] * (units - 1)
            channels = width
        return rows


class IrSe(nn.Module):
    """Improved residual units with squeeze and excitation, and a matrix over all places."""

    config: IrSeConfig = IrSeConfig()

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns unit embeddings [N, D] of pictures [N, side, side, 3] in [-1, 1]."""
        h = _convolution(self.config.stem, 3, 1, "stem")(images)
        h = _Prelu(name="stem_prelu")(_Affine(name="stem_norm")(h))
        for number, (inputs, width, stride) in enumerate(self.config.strided):
            h = _Unit(inputs, width, stride, self.config.squeeze, name=f"unit{number}")(h)
        h = _Affine(name="norm")(h)
        h = nn.Dense(self.config.size, name="embedding")(h.reshape(h.shape[0], -1))
        return unit_length(_Affine(name="embedding_norm")(h))


class _Unit(nn.Module):
    inputs: int
    width: int
    stride: int
    squeeze: int

    @nn.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        shortcut = h[:, :: self.stride, :: self.stride]
        if self.inputs != self.width:
            shortcut = _Affine(name="shortcut_norm")(
                _convolution(self.width, 1, 1, "shortcut")(shortcut)
            )
        h = _convolution(self.width, 3, 1, "conv0")(_Affine(name="norm0")(h))
        h = _convolution(self.width, 3, self.stride, "conv1")(_Prelu(name="prelu")(h))
        h = _Affine(name="norm1")(h)
        gate = jnp.mean(h, (1, 2), keepdims=True)
        gate = nn.relu(_convolution(self.width // self.squeeze, 1, 1, "squeeze_in")(gate))
        gate = nn.sigmoid(_convolution(self.width, 1, 1, "squeeze_out")(gate))
        return h * gate + shortcut


class _Affine(nn.Module):
    """What is left of a batch normalisation."""

    @nn.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, h.shape[-1:])
        shift = self.param("shift", nn.initializers.zeros, h.shape[-1:])
        return h * scale + shift


class _Prelu(nn.Module):
    @nn.compact
    def __call__(self, h: jax.Array) -> jax.Array:
        slope = self.param("slope", nn.initializers.constant(0.25), h.shape[-1:])
        return jnp.where(h > 0, h, slope * h)


def _convolution(width: int, side: int, stride: int, name: str) -> nn.Conv:
    # torch pads both sides alike, "SAME" would not.
    pad = side // 2
    return nn.Conv(
        width,
        (side, side),
        (stride, stride),
        padding=[(pad, pad)] * 2,
        use_bias=False,
        precision=lax.Precision.HIGHEST,
        name=name,
    )


@functools.partial(jax.jit, static_argnames="config")
def embed_by_arcface(
    params: Any, images: jax.Array, config: IrSeConfig = IrSeConfig()
) -> jax.Array:
    """Returns unit embeddings [N, 512] of pictures, cropped as pSp and e4e do.

    Args:
      params: from `load_arcface`.
      images: [N, S, S, 3] in [0, 1], aligned as FFHQ's.
      config: static.
    """
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3:
        raise ValueError(f"expected square pictures [N, S, S, 3], found {images.shape}")
    return IrSe(config).apply({"params": params}, cropped(2.0 * images - 1.0, config.side))


def cropped(images: jax.Array, side: int) -> jax.Array:
    """Cuts the face [N, side, side, 3] out of aligned pictures [N, S, S, 3]."""
    if images.shape[1] != _FFHQ_SIDE:
        images = resampled(images, pooling_matrix(images.shape[1], _FFHQ_SIDE))
    rows, columns = _CROP
    face = images[:, rows, columns]
    return resampled(face, pooling_matrix(face.shape[1], side))


def pooling_matrix(side: int, new_side: int) -> np.ndarray:
    """Returns [new_side, side]: torch's adaptive average pooling, by windows of whole pixels."""
    number = np.arange(new_side)[:, None]
    first, end = number * side // new_side, -(-(number + 1) * side // new_side)
    old = np.arange(side)
    is_in = (old >= first) & (old < end)
    return is_in / (end - first)


def load_arcface(path: str | os.PathLike, config: IrSeConfig = IrSeConfig()) -> dict:
    """Loads the parameters of `IrSe` from `model_ir_se50.pth`; nothing in the file is executed.

    Args:
      path: of the file, names like `body.0.res_layer.1.weight`.
      config: of the network that it holds.

    Raises:
      ValueError: when the file cannot be read, or does not hold exactly these weights.
    """
    entries = read_entries(path)
    counted = {n: e for n, e in entries.items() if not n.endswith(".num_batches_tracked")}
    places, norms = _places(config), _norms(config)
    shapes = _shapes(config, places, norms)
    taken = take_entries(counted, shapes, f"IR-SE50 in {path}")
    params = {}
    for ours, theirs in places.items():
        params[ours] = _arranged(np.asarray(taken[theirs], np.float32), ours, config)
    for ours, theirs in norms.items():
        weight, bias, mean, variance = (np.float64(taken[f"{theirs}.{name}"]) for name in _NORM)
        if (variance < 0).any():
            raise ValueError(f"expected IR-SE50 in {path}, found a variance below 0 in {theirs}")
        scale = weight / np.sqrt(variance + _BATCH_EPS)
        params[f"{ours}/scale"] = np.float32(scale)
        params[f"{ours}/shift"] = np.float32(bias - mean * scale)
    return jax.device_put(traverse_util.unflatten_dict(params, sep="/"))


def _places(config: IrSeConfig) -> dict[str, str]:
    """The entry of the file for each of our arrays, those of normalisations apart."""
    places = {
        "stem/kernel": "input_layer.0.weight",
        "stem_prelu/slope": "input_layer.2.weight",
        "embedding/kernel": "output_layer.3.weight",
        "embedding/bias": "output_layer.3.bias",
    }
    for number, (inputs, width, _) in enumerate(config.strided):
        ours, theirs = f"unit{number}", f"body.{number}"
        places |= {
            f"{ours}/conv0/kernel": f"{theirs}.res_layer.1.weight",
            f"{ours}/prelu/slope": f"{theirs}.res_layer.2.weight",
            f"{ours}/conv1/kernel": f"{theirs}.res_layer.3.weight",
            f"{ours}/squeeze_in/kernel": f"{theirs}.res_layer.5.fc1.weight",
            f"{ours}/squeeze_out/kernel": f"{theirs}.res_layer.5.fc2.weight",
        }
        if inputs != width:
            places[f"{ours}/shortcut/kernel"] = f"{theirs}.shortcut_layer.0.weight"
    return places


def _norms(config: IrSeConfig) -> dict[str, str]:
    """The batch normalisation of the file for each of ours."""
    norms = {
        "stem_norm": "input_layer.1",
        "norm": "output_layer.0",
        "embedding_norm": "output_layer.4",
    }
    for number, (inputs, width, _) in enumerate(config.strided):
        ours, theirs = f"unit{number}", f"body.{number}"
        norms |= {
            f"{ours}/norm0": f"{theirs}.res_layer.0",
            f"{ours}/norm1": f"{theirs}.res_layer.4",
        }
        if inputs != width:
            norms[f"{ours}/shortcut_norm"] = f"{theirs}.shortcut_layer.1"
    return norms


def _shapes(
    config: IrSeConfig, places: dict[str, str], norms: dict[str, str]
) -> dict[str, tuple[int, ...]]:
    """The shape of every entry of the file, in torch's order."""
    images = jax.ShapeDtypeStruct((1, config.side, config.side, 3), np.float32)
    params = jax.eval_shape(IrSe(config).init, jax.random.key(0), images)["params"]
    ours = traverse_util.flatten_dict(params, sep="/")
    shapes = {theirs: _torch_shape(ours[name].shape) for name, theirs in places.items()}
    for name, theirs in norms.items():
        shapes |= {f"{theirs}.{part}": ours[f"{name}/scale"].shape for part in _NORM}
    return shapes


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape if len(shape) == 1 else (shape[-1], shape[-2], *shape[:-2])


def _arranged(entry: np.ndarray, name: str, config: IrSeConfig) -> np.ndarray:
    """An entry with its axes in our order."""
    if entry.ndim == 4:
        return entry.transpose(2, 3, 1, 0)
    if name == "embedding/kernel":  # torch lays out channel by channel what we do place by place
        channels = config.widths[-1]
        last = math.isqrt(entry.shape[1] // channels)
        entry = entry.reshape(-1, channels, last, last).transpose(2, 3, 1, 0)
        return entry.reshape(-1, entry.shape[-1])
    return entry
