"""LPIPS: how different two pictures look, by the features of a VGG16.

Pictures are [H, W, 3] in [0, 1], sRGB-encoded, at least 16 pixels a side. The weights are public
checkpoints that the user brings; `load_lpips` reads them.

Sources: Simonyan and Zisserman 2015 (VGG16, configuration D); Zhang et al. 2018 (LPIPS, version 0.1
of its weights).
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from models.weights import read_entries, take_entries
from render.transforms import safe_norm

WIDTHS = (64, 128, 256, 512, 512)  # channels of each block, and of its tap
DEPTHS = (2, 2, 3, 3, 3)  # convolutions of each block
MIN_SIDE = 16  # pixels; four halvings leave one

# What the trunk was trained on, for pictures in [-1, 1].
_SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
_SCALE = np.array([0.458, 0.448, 0.450], np.float32)


class VggTrunk(nn.Module):
    """The convolutions of VGG16, tapped at the end of each block."""

    @nn.compact
    def __call__(self, image: jax.Array) -> list[jax.Array]:
        """Returns relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3 of a picture [H, W, 3]."""
        taps = []
        h = (2.0 * image - 1.0 - _SHIFT) / _SCALE
        for block, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True), 1):
            if block > 1:
                h = nn.max_pool(h, (2, 2), (2, 2))
            for layer in range(1, depth + 1):
                # Accelerators' short products would change the third digit of the distance.
                convolve = nn.Conv(width, (3, 3), precision="highest", name=f"conv{block}_{layer}")
                h = nn.relu(convolve(h))
            taps.append(h)
        return taps


class Lpips(nn.Module):
    """The distance's share of each tap; `lpips` sums them."""

    def setup(self):
        self.trunk = VggTrunk()
        self.heads = [
            self.param(f"head{tap}", nn.initializers.ones, (width,))
            for tap, width in enumerate(WIDTHS, 1)
        ]

    def __call__(self, image: jax.Array, reference: jax.Array) -> jax.Array:
        """Returns the distances [5] of two pictures [H, W, 3]."""
        distances = []
        # One after the other: a gradient for one picture then costs no pass through the other.
        taps = zip(self.trunk(image), self.trunk(reference), self.heads, strict=True)
        for a, b, head in taps:
            distances.append(jnp.mean((unit_features(a) - unit_features(b)) ** 2 @ head))
        return jnp.stack(distances)


@jax.jit
def lpips(params: dict, image: jax.Array, reference: jax.Array) -> jax.Array:
    """Returns the LPIPS distance of two pictures [H, W, 3] in [0, 1]; zero for equal ones.

    Args:
      params: from `load_lpips`.
      image: [H, W, 3].
      reference: [H, W, 3].
    """
    if image.shape != reference.shape or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(
            f"expected two [H, W, 3] of one shape, found {image.shape} and {reference.shape}"
        )
    if min(image.shape[:2]) < MIN_SIDE:
        raise ValueError(f"expected at least {MIN_SIDE} pixels a side, found {image.shape}")
    return jnp.sum(Lpips().apply({"params": params}, image, reference))


def unit_features(features: jax.Array) -> jax.Array:
    """Scales features [..., C] to length one; zero stays zero, with a finite gradient."""
    norm = safe_norm(features, keepdims=True)
    return features / jnp.where(norm == 0.0, 1.0, norm + 1e-10)


def load_lpips(trunk_path: str | os.PathLike, heads_path: str | os.PathLike) -> dict:
    """Loads the parameters of `lpips`.

    Args:
      trunk_path: torchvision's VGG16, names like `features.0.weight`; its classifier is left out.
      heads_path: the linear heads of LPIPS version 0.1, names like `lin0.model.1.weight`.

    Raises:
      ValueError: when a file cannot be read, or does not hold exactly these weights.
    """
    trunk = _load_trunk(trunk_path)
    shapes = {f"lin{tap}.model.1.weight": (1, width, 1, 1) for tap, width in enumerate(WIDTHS)}
    heads = take_entries(read_entries(heads_path), shapes, f"LPIPS heads in {heads_path}")
    heads = [jnp.asarray(head.ravel(), jnp.float32) for head in heads.values()]
    return {"trunk": trunk} | {f"head{tap}": head for tap, head in enumerate(heads, 1)}


def _load_trunk(path: str | os.PathLike) -> dict:
    names, shapes = {}, {}
    channels, index = 3, 0
    for block, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True), 1):
        for layer in range(1, depth + 1):
            names[f"conv{block}_{layer}"] = f"features.{index}"
            shapes[f"features.{index}.weight"] = (width, channels, 3, 3)
            shapes[f"features.{index}.bias"] = (width,)
            channels = width
            index += 2  # a convolution and its rectifier
        index += 1  # the pooling
    entries = take_entries(read_entries(path), shapes, f"VGG16 in {path}", ignored=("classifier.",))
    return {
        our_name: {
            "kernel": jnp.asarray(entries[f"{name}.weight"].transpose(2, 3, 1, 0), jnp.float32),
            "bias": jnp.asarray(entries[f"{name}.bias"], jnp.float32),
        }
        for our_name, name in names.items()
    }
