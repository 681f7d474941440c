"""Suite `stylegan` of `benchmark`: StyleGAN2's synthesis against the same in PyTorch."""

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
    params, config = generator.params, generator.config
    noise = generator.buffers["noise"]
    rng = np.random.default_rng(suite.seed)
    ws = jnp.asarray(rng.standard_normal((batch, config.num_ws, config.w_dim), np.float32))

    def loss(ws, params):
        return jnp.mean(synthesize(params, ws, noise, config) ** 2)

    gradient = jax.jit(jax.grad(loss))
    ours = {
        "pictures": lambda: synthesize(params, ws, noise, config),
        "pictures and gradient": lambda: gradient(ws, params),
    }
    times = {}
    for name, function in ours.items():
        with command.progress(_case(batch, config, name)):
            first = milliseconds(function)
            times[name] = first, median_milliseconds(function, suite.repeats, time.process_time)
    theirs = _peer(generator, ws, suite)
    for name, (first, each) in times.items():
        case = _case(batch, config, name)
        yield Row(f"{case}, first call with compilation", first, "ms")
        yield against(case, each, "CPU-ms", _PEER, theirs.get(name))


def _case(batch: int, config: GeneratorConfig, name: str) -> str:
    return f"stylegan, {batch} at {config.resolution} x {config.resolution}, {name}"


def _peer(generator: Generator, ws: jax.Array, suite: StyleganSuite) -> dict[str, float]:
    """Times the peer, if it is installed, once its pictures are seen to be ours."""
    if importlib.util.find_spec("torch") is None:
        return {}
    from scripts.benchmarks import torch_stylegan

    params, noise = generator.params["synthesis"], generator.buffers["noise"]
    given = jax.device_get((params, noise, ws))
    clamp = generator.config.clamp
    with command.progress(_PEER):
        images = synthesize(generator.params, ws, noise, generator.config)
        difference = np.abs(torch_stylegan.peer_pictures(*given, clamp) - images).max()
        if not difference < 1e-3:
            raise command.WorkFailed(
                f"expected the pictures of {_PEER} within 1e-3, found {difference:.2g}"
            )
        return torch_stylegan.milliseconds(*given, clamp, suite.peer_repeats)
