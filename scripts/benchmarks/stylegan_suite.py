"""Suite `stylegan` of `benchmark`: StyleGAN2's synthesis against the official arithmetic in PyTorch."""

import dataclasses
import importlib.util
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from models.stylegan.config import GeneratorConfig, channels_of
from models.stylegan.generator import Generator, init_generator, synthesize
from scripts.benchmarks.measuring import Row, against, median_milliseconds, milliseconds
from scripts.shell import command

_PEER = "PyTorch, the official arithmetic"


@dataclasses.dataclass(frozen=True)
class StyleganSuite:
    """Settings of the suite."""

    resolution: int = 256
    channel_base: int = 16384
    channel_most: int = 512
    w_dim: int = 512
    batches: tuple[int, ...] = (1, 4)  # pictures at once
    repeats: int = 9
    peer_repeats: int = 3
    seed: int = 0


def stylegan_rows(suite: StyleganSuite) -> Iterator[Row]:
    """Measures pictures, and pictures with the gradient of all layers' latents."""
    channels = channels_of(suite.resolution, suite.channel_base, suite.channel_most)
    config = GeneratorConfig(suite.resolution, channels, w_dim=suite.w_dim)
    generator = init_generator(jax.random.key(suite.seed), config)
    for batch in suite.batches:
        yield from _batch_rows(generator, batch, suite)


def _batch_rows(generator: Generator, batch: int, suite: StyleganSuite) -> Iterator[Row]:
    config, noise = generator.config, generator.buffers["noise"]
    rng = np.random.default_rng(suite.seed)
    ws = jnp.asarray(rng.standard_normal((batch, config.num_ws, config.w_dim), np.float32))

    def images(ws):
        return synthesize(generator.params, ws, noise, config)

    ours = {
        "pictures": jax.jit(images),
        "pictures and gradient": jax.jit(jax.grad(lambda ws: jnp.mean(images(ws) ** 2))),
    }
    theirs = _peer(generator, ws, ours["pictures"](ws), suite)
    for name, function in ours.items():
        case = f"stylegan, {batch} at {config.resolution} x {config.resolution}, {name}"
        with command.progress(case):
            first = milliseconds(lambda: function(ws))  # noqa: B023
            each = median_milliseconds(
                lambda: function(ws),  # noqa: B023
                suite.repeats,
                time.process_time,
            )
        if name != "pictures":  # which were drawn already
            yield Row(f"{case}, first call with compilation", first, "ms")
        yield against(case, each, "CPU-ms", _PEER, theirs.get(name))


def _peer(
    generator: Generator, ws: jax.Array, images: jax.Array, suite: StyleganSuite
) -> dict[str, float]:
    """Times the peer, if it is installed, once its pictures are seen to be ours."""
    if importlib.util.find_spec("torch") is None:
        return {}
    from scripts.benchmarks import torch_stylegan

    given = jax.device_get((generator.params["synthesis"], generator.buffers["noise"], ws))
    clamp = generator.config.clamp
    with command.progress(_PEER):
        difference = np.abs(torch_stylegan.pictures(*given, clamp) - images).max()
        if not difference < 1e-3:
            raise command.WorkFailed(
                f"expected the pictures of {_PEER} within 1e-3, found {difference:.2g}"
            )
        return torch_stylegan.milliseconds(*given, clamp, suite.peer_repeats)
