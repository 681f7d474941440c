"""A peer for the benchmark: a radiance field on the hash encoding of nerfstudio without CUDA.

A program of its own, since nerfstudio wants releases of other packages than ours:

    python -m scripts.benchmarks.nerfstudio_nerf TASK < RAYS

`HashEncoding(implementation="torch")` is what nerfstudio falls back to where tiny-cuda-nn is not
built. Around it are the small networks of Mueller et al. 2022, of 32-64-16 and 43-64-64-3 units,
the quadrature of Max 1995 and Adam.
"""

import itertools
import json
import os
import statistics
import sys
import time

import numpy as np
import torch
from nerfstudio.field_components.encodings import HashEncoding, NeRFEncoding
from torch import nn

_COARSEST = 16
_GEOMETRY = 16  # numbers that the density's network gives: its logarithm is the first
_BANDS = 4


def measure(
    beams: np.ndarray,
    num_samples: int,
    length: float,
    num_levels: int,
    log2_entries: int,
    finest: int,
    repeats: int,
) -> dict:
    """Takes steps on rays.

    Args:
      beams: [3, R, 3] origins, directions and colours.
      num_samples: of a ray, S.
      length: of a ray.
      num_levels: of the encoding.
      log2_entries: of a level's table.
      finest: corners along a side of the finest level.
      repeats: steps that are timed.

    Returns:
      CPU-milliseconds of a step, and the loss before the first.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    origins, directions, colors = torch.from_numpy(beams)
    field = _Field(num_levels, log2_entries, finest)
    adam = torch.optim.Adam(field.parameters(), lr=1e-2, betas=(0.9, 0.99), eps=1e-15)
    middles = (torch.arange(num_samples) + 0.5) * (length / num_samples)
    times, losses = [], []
    for _ in range(repeats + 1):
        begin = time.process_time()
        x = origins[:, None] + middles[:, None] * directions[:, None]  # [R, S, 3]
        density, rgb = field(x, directions)
        depth = density * (length / num_samples)
        through = torch.exp(-(torch.cumsum(depth, -1) - depth))
        weights = through * -torch.expm1(-depth)
        loss = ((torch.sum(weights[..., None] * rgb, 1) - colors) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        times.append(1e3 * (time.process_time() - begin))
        losses.append(loss.item())
    return {"milliseconds": statistics.median(times[1:]), "loss": losses[0]}


class _Field(nn.Module):
    """Density and colour of places in the unit cube."""

    def __init__(self, num_levels: int, log2_entries: int, finest: int):
        super().__init__()
        self.encoding = HashEncoding(
            num_levels=num_levels,
            min_res=_COARSEST,
            max_res=finest,
            log2_hashmap_size=log2_entries,
            features_per_level=2,
            hash_init_scale=1e-4,
            implementation="torch",
        )
        self.view = NeRFEncoding(3, _BANDS, 0, _BANDS - 1, include_input=True)
        self.density = _layers(2 * num_levels, 64, _GEOMETRY)
        self.color = _layers(_GEOMETRY + self.view.get_out_dim(), 64, 64, 3)

    def forward(self, x: torch.Tensor, directions: torch.Tensor) -> tuple:
        """Returns densities [R, S] and colours [R, S, 3] of places [R, S, 3]."""
        geometry = self.density(self.encoding(x))
        view = self.view(directions)[:, None].expand(-1, x.shape[1], -1)
        rgb = torch.sigmoid(self.color(torch.cat([geometry, view], -1)))
        return torch.exp(geometry[..., 0] - 1.0), rgb


def _layers(*widths: int) -> nn.Sequential:
    layers = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


if __name__ == "__main__":
    rays = np.frombuffer(sys.stdin.buffer.read(), np.float32).reshape(3, -1, 3)
    print(json.dumps(measure(rays.copy(), **json.loads(sys.argv[1]))))
