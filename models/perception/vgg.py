"""The convolutions of VGG16, whose features tell how pictures look.

Pictures are [H, W, 3] in [0, 1], sRGB-encoded, at least 16 pixels a side.

Source: Simonyan and Zisserman 2015 (VGG16, configuration D).
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from models.weights import read_entries, take_entries

WIDTHS = (64, 128, 256, 512, 512)  # channels of each block, and of its tap
DEPTHS = (2, 2, 3, 3, 3)  # convolutions of each block
MIN_SIDE = 16  # pixels; four halvings leave one

# What networks of ImageNet were trained on, for pictures in [-1, 1]; rounded as LPIPS has it.
_SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
_SCALE = np.array([0.458, 0.448, 0.450], np.float32)


class VggTrunk(nn.Module):
    """The convolutions of VGG16, tapped at the end of each block."""

    @nn.compact
    def __call__(self, image: jax.Array) -> list[jax.Array]:
        """Returns relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3 of a picture [H, W, 3]."""
        taps = []
        h = standardize(image)
        for block, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True), 1):
            if block > 1:
                h = nn.max_pool(h, (2, 2), (2, 2))
            for layer in range(1, depth + 1):
                # Accelerators' short products would change the third digit of the distance.
                convolve = nn.Conv(width, (3, 3), precision="highest", name=f"conv{block}_{layer}")
                h = nn.relu(convolve(h))
            taps.append(h)
        return taps


def standardize(image: jax.Array) -> jax.Array:
    """Gives a picture [..., 3] in [0, 1] the mean and the spread of ImageNet's."""
    return (2.0 * image - 1.0 - _SHIFT) / _SCALE


def layer_names() -> list[str]:
    """Names the convolutions from the picture on."""
    return [
        f"conv{block}_{layer}"
        for block, depth in enumerate(DEPTHS, 1)
        for layer in range(1, depth + 1)
    ]


def load_trunk(path: str | os.PathLike) -> dict:
    """Loads the parameters of `VggTrunk` from torchvision's VGG16.

    Args:
      path: names like `features.0.weight`; its classifier is left out.

    Raises:
      ValueError: when the file cannot be read, or does not hold exactly these weights.
    """
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
