"""LPIPS: how different two pictures look, by the features of VGG16 or of AlexNet.

Pictures are [H, W, 3] in [0, 1], sRGB-encoded. Papers report either network; numbers of one say
nothing about the other. `features_io` reads the weights that `scripts.fetch_features` brings.

Source: Zhang et al. 2018 (version 0.1 of its weights).
"""

import functools
import os

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.perception import alexnet, vgg
from models.weights import read_entries, take_entries
from render.transforms import safe_norm

NETWORKS = ("vgg16", "alexnet")
_MODULES = {"vgg16": vgg, "alexnet": alexnet}


class Lpips(nn.Module):
    """The distance's share of each tap; `lpips` sums them."""

    network: str = "vgg16"

    def setup(self):
        self.trunk = {"vgg16": vgg.VggTrunk, "alexnet": alexnet.AlexTrunk}[self.network]()
        self.heads = [
            self.param(f"head{tap}", nn.initializers.ones, (width,))
            for tap, width in enumerate(_MODULES[self.network].WIDTHS, 1)
        ]

    def __call__(self, image: jax.Array, reference: jax.Array) -> jax.Array:
        """Returns the distances [5] of two pictures [H, W, 3]."""
        distances = []
        # One after the other: a gradient for one picture then costs no pass through the other.
        taps = zip(self.trunk(image), self.trunk(reference), self.heads, strict=True)
        for a, b, head in taps:
            distances.append(jnp.mean((unit_features(a) - unit_features(b)) ** 2 @ head))
        return jnp.stack(distances)


@functools.partial(jax.jit, static_argnames="network")
def lpips(
    params: dict, image: jax.Array, reference: jax.Array, network: str = "vgg16"
) -> jax.Array:
    """Returns the LPIPS distance of two pictures [H, W, 3] in [0, 1]; zero for equal ones.

    Args:
      params: from `load_lpips` or `features_io.read_features`.
      image: [H, W, 3], at least 16 pixels a side, 31 for AlexNet.
      reference: [H, W, 3].
      network: that the parameters are of, one of `NETWORKS`.
    """
    if image.shape != reference.shape or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(
            f"expected two [H, W, 3] of one shape, found {image.shape} and {reference.shape}"
        )
    least = _MODULES[network].MIN_SIDE
    if min(image.shape[:2]) < least:
        raise ValueError(f"expected at least {least} pixels a side, found {image.shape}")
    return jnp.sum(Lpips(network).apply({"params": params}, image, reference))


def unit_features(features: jax.Array) -> jax.Array:
    """Scales features [..., C] to length one; zero stays zero, with a finite gradient."""
    norm = safe_norm(features, keepdims=True)
    return features / jnp.where(norm == 0.0, 1.0, norm + 1e-10)


@functools.cache
def lpips_shapes(network: str) -> dict:
    """Returns the tree of parameters of `lpips`, as shapes; nothing is computed."""
    side = _MODULES[network].MIN_SIDE
    picture = jax.ShapeDtypeStruct((side, side, 3), jnp.float32)
    return jax.eval_shape(Lpips(network).init, jax.random.key(0), picture, picture)["params"]


def load_lpips(trunk_path: str | os.PathLike, heads_path: str | os.PathLike) -> dict:
    """Loads the parameters of `lpips` by VGG16 from the files of torchvision and of LPIPS.

    Args:
      trunk_path: torchvision's VGG16, names like `features.0.weight`; its classifier is left out.
      heads_path: the linear heads of LPIPS version 0.1, names like `lin0.model.1.weight`.

    Raises:
      ValueError: when a file cannot be read, or does not hold exactly these weights.
    """
    trunk = vgg.load_trunk(trunk_path)
    shapes = {f"lin{tap}.model.1.weight": (1, w, 1, 1) for tap, w in enumerate(vgg.WIDTHS)}
    heads = take_entries(read_entries(heads_path), shapes, f"LPIPS heads in {heads_path}")
    heads = [jnp.asarray(head.ravel(), jnp.float32) for head in heads.values()]
    return {"trunk": trunk} | {f"head{tap}": head for tap, head in enumerate(heads, 1)}
