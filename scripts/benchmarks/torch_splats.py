"""A peer for the benchmark: 3D Gaussian splatting in plain PyTorch, as one would write it there.

Projection of all Gaussians at once, lists by two sorts, then each tile blends its whole list with a
cumulative product; gradients by autograd. The footprints end at three standard deviations.

Source: Kerbl et al. 2023.
"""

import statistics
import time

import numpy as np
import torch

from render.camera import Camera
from render.gaussians import MIN_ALPHA, Gaussians
from render.harmonics import CONSTANT

_TILE = 16
_DILATION = 0.3  # pixels^2


def milliseconds(scene: Gaussians, camera: Camera, with_gradient: bool, repeats: int) -> float:
    """Returns the median wall time of a picture on one thread, with its gradient or without."""
    torch.set_num_threads(1)
    fields = scene.means, scene.quats, scene.log_scales, scene.logit_opacities, scene.harmonics
    fields = [torch.from_numpy(np.array(field)) for field in fields]
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        if with_gradient:
            leaves = [field.clone().requires_grad_(True) for field in fields]
            ((_render(leaves, camera) - 0.5) ** 2).mean().backward()
        else:
            with torch.no_grad():
                _render(fields, camera)
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times[1:])


def _render(fields, camera: Camera) -> torch.Tensor:
    """Returns the picture [H, W, 3] of degree-zero harmonics over black."""
    means, quats, log_scales, logits, coefficients = fields
    center, conic, depth, radius = _project(means, quats, log_scales, camera)
    opacity, rgb = torch.sigmoid(logits), torch.clamp(0.5 + CONSTANT * coefficients[:, 0], min=0)
    columns, rows = (-(-side // _TILE) for side in (camera.width, camera.height))
    with torch.no_grad():
        owner, begin, count = _lists(center, depth, radius, columns, rows)
    line = torch.arange(_TILE) + 0.5
    tiles = []
    for tile in range(columns * rows):
        one = owner[begin[tile] : begin[tile] + count[tile]]
        x = (line + _TILE * (tile % columns)).repeat(_TILE) - center[one, 0:1]
        y = (line + _TILE * (tile // columns)).repeat_interleave(_TILE) - center[one, 1:2]
        a, b, c = conic[one, 0:1], conic[one, 1:2], conic[one, 2:3]
        alpha = opacity[one, None] * torch.exp(-0.5 * (a * x * x + c * y * y) - b * x * y)
        alpha = torch.where(alpha > MIN_ALPHA, torch.clamp(alpha, max=0.999), 0.0)
        through = torch.cumprod(1 - alpha, 0)
        before = torch.cat([torch.ones(1, _TILE**2), through])[: len(one)]
        tiles.append((alpha * before).T @ rgb[one])
    picture = torch.stack(tiles).reshape(rows, columns, _TILE, _TILE, 3).transpose(1, 2)
    return picture.reshape(rows * _TILE, columns * _TILE, 3)[: camera.height, : camera.width]


def _project(means, quats, log_scales, camera: Camera):
    rotation, shift, focal, middle = (
        torch.from_numpy(np.array(v))
        for v in (camera.rotation, camera.translation, camera.focal, camera.center)
    )
    x, y, z = (means @ rotation.T + shift).unbind(-1)
    w, i, j, k = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    axes = (
        torch.stack(
            [
                *(1 - 2 * (j * j + k * k), 2 * (i * j - w * k), 2 * (i * k + w * j)),
                *(2 * (i * j + w * k), 1 - 2 * (i * i + k * k), 2 * (j * k - w * i)),
                *(2 * (i * k - w * j), 2 * (j * k + w * i), 1 - 2 * (i * i + j * j)),
            ],
            -1,
        ).reshape(-1, 3, 3)
        * torch.exp(log_scales)[:, None]
    )
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [focal[0] / z, zero, -focal[0] * x / z**2, zero, focal[1] / z, -focal[1] * y / z**2], -1
    ).reshape(-1, 2, 3)
    half = jacobian @ rotation @ axes
    covariance = half @ half.transpose(1, 2) + _DILATION * torch.eye(2)
    xx, xy, yy = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    determinant = xx * yy - xy * xy
    conic = torch.stack([yy, -xy, xx], -1) / determinant[:, None]
    mean = 0.5 * (xx + yy)
    radius = 3 * torch.sqrt(mean + torch.sqrt(torch.clamp(mean**2 - determinant, min=0.0)))
    return torch.stack([x / z, y / z], -1) * focal + middle, conic, z, radius


def _lists(center, depth, radius, columns: int, rows: int):
    """Returns the Gaussians tile by tile, near ones first, and where each tile's begin."""
    order = torch.argsort(depth)
    limit = torch.tensor([columns, rows])
    low = ((center - radius[:, None])[order] / _TILE).floor().long()
    high = ((center + radius[:, None])[order] / _TILE).floor().long() + 1
    low, high = (torch.minimum(torch.clamp(v, min=0), limit) for v in (low, high))
    width, height = (high - low).unbind(-1)
    count = width * height
    pair = torch.repeat_interleave(torch.arange(len(count)), count)
    place = torch.arange(len(pair)) - (torch.cumsum(count, 0) - count)[pair]
    column, row = low[pair, 0] + place % width[pair], low[pair, 1] + place // width[pair]
    tile = row * columns + column
    sorted_pairs = torch.argsort(tile, stable=True)
    each = torch.bincount(tile, minlength=columns * rows)
    begin = torch.cumsum(each, 0) - each
    return order[pair[sorted_pairs]], begin.tolist(), each.tolist()
