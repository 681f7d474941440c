"""Layers of StyleGAN2: what its two networks are made of, with the official arithmetic.

Features are [N, H, W, C], kernels [rows, columns, I, O] of I channels in and O out. Convolutions
keep the side of their input, halve or double it. Halving and doubling filters with [1, 3, 3, 1] / 8
along both axes.

Source: Karras et al. 2020 (StyleGAN2) and its official code.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_SLOPE = 0.2
# `init_params` draws: with jax.random every shape would be a program of its own.
unset = nn.initializers.zeros


def activate(x: jax.Array, gain: float = 1.0, clamp: float | None = None) -> jax.Array:
    """Leaky ReLU that keeps the variance, times `gain`; then clamped to `clamp` times `gain`."""
    scale = math.sqrt(2.0) * gain
    return clamped(jnp.where(x > 0, scale * x, _SLOPE * scale * x), gain, clamp)


def clamped(x: jax.Array, gain: float = 1.0, clamp: float | None = None) -> jax.Array:
    """Keeps absolute values below `clamp` times `gain`."""
    return x if clamp is None else jnp.clip(x, -clamp * gain, clamp * gain)


class FullyConnected(nn.Module):
    """A matrix product whose weights are kept normal and scaled when used.

    `rate` is how fast it learns beside other layers: weights and bias are kept divided by it.
    """

    features: int
    rate: float = 1.0
    is_activated: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        weight = self.param("weight", unset, (x.shape[-1], self.features))
        bias = self.param("bias", unset, (self.features,))
        y = x @ (weight * (self.rate / math.sqrt(x.shape[-1]))) + bias * self.rate
        return activate(y) if self.is_activated else y


def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Correlates [N, H, W, I] with a kernel of one or three rows and columns."""
    if kernel.shape[:2] == (1, 1):
        return x @ kernel[0, 0]
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=_LAYOUT)


def conv_up(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Doubles the side of [N, H, W, I] by a transposed convolution [3, 3, I, O], and smooths it."""
    if jax.default_backend() != "cpu":
        return conv_up_reference(x, kernel)
    # As one matrix product of nine taps and their overlapping sum: no product with the zeros
    # between pixels, and a gradient without convolutions of dilated kernels, 18 times as fast.
    count, height, width, channels = x.shape
    matrix = kernel.transpose(2, 0, 1, 3).reshape(channels, -1)
    taps = (x.reshape(-1, channels) @ matrix).reshape(count, height, width, 3, 3, -1)
    return smooth(_overlap(_overlap(taps, 1), 2), 1, gain=4.0)


def conv_up_reference(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Equals `conv_up`: a correlation of pixels between zeros, with the kernel turned around."""
    pads = [(2, 2), (2, 2)]
    y = jax.lax.conv_general_dilated(
        x, kernel[::-1, ::-1], (1, 1), pads, lhs_dilation=(2, 2), dimension_numbers=_LAYOUT
    )
    return smooth(y, 1, gain=4.0)


def conv_down(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Halves the side of [N, H, W, I]: smooths it, and convolves with a stride of two."""
    if kernel.shape[:2] == (1, 1):
        return conv(downsample(x), kernel)
    x, (rows, columns) = smooth(x, 2), (side // 2 for side in x.shape[1:3])
    if jax.default_backend() != "cpu":
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=_LAYOUT)
    taps = [x[:, i : i + 2 * rows : 2, j : j + 2 * columns : 2] for i in range(3) for j in range(3)]
    return jnp.concatenate(taps, -1) @ kernel.reshape(-1, kernel.shape[-1])


def smooth(x: jax.Array, pad: int, gain: float = 1.0) -> jax.Array:
    """Filters [N, H, W, C] with [1, 3, 3, 1] / 8, among `pad` zeros: three pixels less a side."""
    for axis in (1, 2):
        padded = _pad(x, axis, pad, pad)
        size = padded.shape[axis] - 3
        a, b, c, d = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(4))
        x = (a + d + 3.0 * (b + c)) * (math.sqrt(gain) / 8.0)
    return x


def upsample(x: jax.Array) -> jax.Array:
    """Doubles the side of pictures [N, H, W, C]."""
    for axis in (1, 2):
        size = x.shape[axis]
        padded = _pad(x, axis, 1, 1)
        a, b, c = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(3))
        x = _interleave(0.25 * a + 0.75 * b, 0.75 * b + 0.25 * c, axis)
    return x


def downsample(x: jax.Array) -> jax.Array:
    """Halves the side of [N, H, W, C]."""
    for axis in (1, 2):
        size = x.shape[axis] // 2
        pairs = x.reshape(*x.shape[:axis], size, 2, *x.shape[axis + 1 :])
        even, odd = (jax.lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
        before = jax.lax.slice_in_dim(_pad(odd, axis, 1, 0), 0, size, axis=axis)
        after = jax.lax.slice_in_dim(_pad(even, axis, 0, 1), 1, size + 1, axis=axis)
        x = (before + after + 3.0 * (even + odd)) / 8.0
    return x


def init_params(key: jax.Array, init: Callable[[jax.Array], Any], mapping_rate: float) -> Any:
    """Draws the parameters that `init` makes of a key: that function is not run.

    Weights and the constant are normal, those of a mapping's layers over their rate; the styles'
    biases are one; all else is zero.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    flat = traverse_util.flatten_dict(jax.eval_shape(init, key)["params"])
    drawn = {}
    for path, leaf in sorted(flat.items()):
        values = np.zeros(leaf.shape, np.float32)
        if path[-1] in ("weight", "const"):
            is_slow = "mapping" in path and path[-2] != "embed"
            values = rng.standard_normal(leaf.shape, np.float32)
            values /= np.float32(mapping_rate if is_slow else 1.0)
        elif path[-2:] == ("affine", "bias"):
            values += 1.0
        drawn[path] = values
    return jax.device_put(traverse_util.unflatten_dict(drawn))


def _overlap(taps: jax.Array, axis: int) -> jax.Array:
    """Sums what lies at 2 i + k: of size n along `axis`, three taps k along axis 3, to 2 n + 1."""
    size = taps.shape[axis]
    first, second, third = (jax.lax.index_in_dim(taps, k, 3, keepdims=False) for k in range(3))
    even = _pad(first, axis, 0, 1) + _pad(third, axis, 1, 0)
    both = _interleave(even, _pad(second, axis, 0, 1), axis)
    return jax.lax.slice_in_dim(both, 0, 2 * size + 1, axis=axis)


def _interleave(even: jax.Array, odd: jax.Array, axis: int) -> jax.Array:
    shape = list(even.shape)
    shape[axis] *= 2
    return jnp.stack([even, odd], axis + 1).reshape(shape)


def _pad(x: jax.Array, axis: int, before: int, after: int) -> jax.Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (before, after)
    return jnp.pad(x, widths)
