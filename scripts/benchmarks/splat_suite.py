"""Suite `splat` of `benchmark`: the splat renderer against the same arithmetic in PyTorch."""

import dataclasses
import importlib.util
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from render import harmonics
from render.camera import Camera
from render.gaussians import Gaussians
from render.splat import SplatConfig, needed_pairs, splat
from render.stages import compiled
from scripts.benchmarks.measuring import Row, against, median_milliseconds, milliseconds
from scripts.shell import command

_PEER = "PyTorch, a loop over tiles"
_BLACK = (0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class SplatSuite:
    """Settings of the suite."""

    cases: tuple[tuple[int, int], ...] = ((10_000, 256), (100_000, 512))  # Gaussians, pixels a side
    repeats: int = 9
    peer_repeats: int = 2
    seed: int = 0


def splat_rows(suite: SplatSuite) -> Iterator[Row]:
    """Measures picture, and picture with all gradients, of a ball of Gaussians."""
    for count, size in suite.cases:
        yield from _case_rows(count, size, suite)


def ball(count: int, size: int, seed: int) -> tuple[Gaussians, Camera]:
    """Gaussians in a ball that fills most of the picture, and the camera before it."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(count, 3))
    means *= rng.random((count, 1)) ** (1 / 3) / np.linalg.norm(means, axis=1, keepdims=True)
    opacities = rng.uniform(0.05, 0.95, count)
    scene = Gaussians(
        means=means + np.array([0.0, 0.0, 4.0]),
        quats=rng.normal(size=(count, 4)),
        log_scales=rng.normal(np.log(0.3 * count ** (-1 / 3)), 0.3, (count, 3)),
        logit_opacities=np.log(opacities / (1 - opacities)),
        harmonics=(rng.random((count, 1, 3)) - 0.5) / harmonics.CONSTANT,
    )
    camera = Camera(
        rotation=np.eye(3),
        translation=np.zeros(3),
        focal=np.full(2, 1.4 * size),
        center=np.full(2, size / 2),
        width=size,
        height=size,
    )
    return jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), (scene, camera))


def _case_rows(count: int, size: int, suite: SplatSuite) -> Iterator[Row]:
    scene, camera = ball(count, size, suite.seed)
    config = SplatConfig(max_pairs=int(needed_pairs(scene, camera)))

    def loss(scene):
        return jnp.mean((splat(scene, camera, config, _BLACK).rgb - 0.5) ** 2)

    ours = {
        "picture": compiled(lambda scene: splat(scene, camera, config, _BLACK)),
        "picture and gradients": compiled(jax.value_and_grad(loss)),
    }
    for name, function in ours.items():
        case = f"splat, {count} Gaussians, {size} x {size}, {name}"
        with command.progress(case):
            first = milliseconds(lambda: function(scene))  # noqa: B023
            each = median_milliseconds(lambda: function(scene), suite.repeats)  # noqa: B023
        yield Row(f"{case}, first call with compilation", first, "ms")
        yield against(case, each, "ms", _PEER, _peer(name, scene, camera, suite))


def _peer(name: str, scene: Gaussians, camera: Camera, suite: SplatSuite) -> float | None:
    if importlib.util.find_spec("torch") is None:
        return None
    from scripts.benchmarks import torch_splats

    with command.progress(f"{_PEER}, {name}"):
        return torch_splats.milliseconds(
            scene, camera, with_gradient=name != "picture", repeats=suite.peer_repeats
        )
