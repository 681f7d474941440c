"""A peer for the benchmark: StyleGAN2's synthesis in PyTorch, as the official code computes it.

A kernel for each picture (modulated, demodulated), applied as one grouped convolution; a transposed
convolution that doubles; filters as convolutions of each channel, over zeros between the pixels
where they enlarge: what the official code does where its CUDA kernels are missing.

Source: Karras et al. 2020 (StyleGAN2).
"""

import math
import os
import statistics
import time
from typing import Any

import numpy as np
import torch
from torch.nn import functional

_FILTER = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8.0


def milliseconds(
    params: dict[str, Any], noise: dict[str, Any], ws: np.ndarray, clamp: float, repeats: int
) -> dict[str, float]:
    """Returns the processor's time of pictures, and of pictures with the latents' gradient."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network, given = _to_torch(params, noise), torch.from_numpy(np.array(ws))
    times: dict[str, list[float]] = {"pictures": [], "pictures and gradient": []}
    for _ in range(repeats + 1):
        begin = time.process_time()
        with torch.no_grad():
            _render(network, given, clamp)
        times["pictures"].append(1e3 * (time.process_time() - begin))
        begin = time.process_time()
        leaf = given.clone().requires_grad_(True)
        _render(network, leaf, clamp).square().mean().backward()
        times["pictures and gradient"].append(1e3 * (time.process_time() - begin))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def peer_pictures(
    params: dict[str, Any], noise: dict[str, Any], ws: np.ndarray, clamp: float
) -> np.ndarray:
    """Returns pictures [N, H, W, 3] of the latents [N, L, w_dim] of all layers."""
    with torch.no_grad():
        images = _render(_to_torch(params, noise), torch.from_numpy(np.array(ws)), clamp)
    return images.permute(0, 2, 3, 1).numpy()


def _to_torch(params: dict[str, Any], noise: dict[str, Any]) -> dict[str, Any]:
    """Brings parameters into torch's layouts, and the noise beside its layer."""
    network = {}
    for name, value in params.items():
        if isinstance(value, dict):
            network[name] = _to_torch(value, noise.get(name, {}) if isinstance(noise, dict) else {})
            continue
        axes = {4: (3, 2, 0, 1), 3: (2, 0, 1), 2: (1, 0)}.get(value.ndim, range(value.ndim))
        network[name] = torch.from_numpy(np.array(np.transpose(value, axes), np.float32))
        if name == "noise_strength":
            network["noise"] = torch.from_numpy(np.array(noise))
    return network


def _render(network: dict[str, Any], ws: torch.Tensor, clamp: float) -> torch.Tensor:
    x, image, index = None, None, 0
    for name in sorted(network, key=lambda name: int(name[1:])):
        block = network[name]
        if x is None:
            x = block["const"].expand(len(ws), -1, -1, -1)
        else:
            x, index = _layer(block["conv0"], x, ws[:, index], clamp, is_up=True), index + 1
        x, index = _layer(block["conv1"], x, ws[:, index], clamp), index + 1
        share = _paint(block["torgb"], x, ws[:, index], clamp)
        image = share if image is None else _enlarged(image) + share
    return image


def _layer(layer, x, w, clamp: float, is_up: bool = False) -> torch.Tensor:
    kernels = layer["weight"] * _styles(layer, w)[:, None, :, None, None]
    scale = (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = _grouped(x, kernels * scale, is_up)
    if is_up:
        x = _filtered(x, 1, 4.0)
    x = x + layer["noise"] * layer["noise_strength"] + layer["bias"][:, None, None]
    return (functional.leaky_relu(x, 0.2) * math.sqrt(2.0)).clamp(-clamp, clamp)


def _paint(layer, x, w, clamp: float) -> torch.Tensor:
    styles = _styles(layer, w) / math.sqrt(x.shape[1])
    x = _grouped(x, layer["weight"] * styles[:, None, :, None, None])
    return (x + layer["bias"][:, None, None]).clamp(-clamp, clamp)


def _styles(layer, w) -> torch.Tensor:
    weight, bias = layer["affine"]["weight"], layer["affine"]["bias"]
    return torch.addmm(bias, w, weight.T / math.sqrt(w.shape[1]))


def _grouped(x, kernels, is_up: bool = False) -> torch.Tensor:
    """Convolves each picture [N, I, H, W] with a kernel of its own [N, O, I, k, k]."""
    count, features, channels, side, _ = kernels.shape
    x = x.reshape(1, count * channels, *x.shape[2:])
    if is_up:
        kernels = kernels.transpose(1, 2).reshape(count * channels, features, side, side)
        x = functional.conv_transpose2d(x, kernels, stride=2, groups=count)
    else:
        kernels = kernels.reshape(count * features, channels, side, side)
        x = functional.conv2d(x, kernels, padding=side // 2, groups=count)
    return x.reshape(count, features, *x.shape[2:])


def _filtered(x, pad: int, gain: float) -> torch.Tensor:
    channels = x.shape[1]
    kernel = (_FILTER[:, None] * _FILTER * gain).repeat(channels, 1, 1, 1)
    return functional.conv2d(x, kernel, padding=pad, groups=channels)


def _enlarged(image) -> torch.Tensor:
    count, channels, height, width = image.shape
    x = image.reshape(count, channels, height, 1, width, 1)
    x = functional.pad(x, [0, 1, 0, 0, 0, 1]).reshape(count, channels, 2 * height, 2 * width)
    return _filtered(functional.pad(x, [2, 1, 2, 1]), 0, 4.0)
