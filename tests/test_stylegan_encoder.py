"""Encoders: what each phase teaches, and that it is learnt; their files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.stylegan.config import GeneratorConfig
from models.stylegan.encoder import (
    EncoderBatch,
    EncoderConfig,
    EncoderTraining,
    TrainedEncoder,
    encode_latents,
    encoder_config,
    encoder_step,
    init_encoder,
)
from models.stylegan.encoder_io import read_encoder, write_encoder
from models.stylegan.generator import init_generator, map_latents, synthesize
from models.stylegan.latents import latent_statistics, sample_latents

CONFIG = GeneratorConfig(8, (6, 4), z_dim=6, w_dim=6, mapping_layers=1)
SHAPE = EncoderConfig(8, CONFIG.num_ws, CONFIG.w_dim, (16,), hidden=32, refining=16)
TRAINING = EncoderTraining(
    steps=120, refining_steps=80, batch=32, rate=5e-3, refining_rate=3e-3, warm_up=10
)


def batch_of(number):
    z = np.random.default_rng(number).normal(size=(32, CONFIG.z_dim)).astype(np.float32)
    return EncoderBatch(z, None, None)


@pytest.fixture(scope="module")
def taught():
    """States after each phase, with the reports of first and last steps."""
    generator = init_generator(jax.random.key(0), CONFIG)
    statistics = latent_statistics(sample_latents(jax.random.key(1), generator, 500))
    state, states, reports = init_encoder(jax.random.key(2), SHAPE), [], []
    states.append(jax.device_get(state.params))
    for refines, begin, end in ((False, 0, 120), (True, 120, 200)):
        for number in range(begin, end):
            state, report = encoder_step(
                state, batch_of(number), generator.params, statistics, CONFIG, SHAPE, TRAINING,
                refines,
            )  # fmt: skip
            if number in (begin, end - 1):
                reports.append(jax.device_get(report))
        states.append(jax.device_get(state.params))
    return generator, statistics, states, reports, state


@pytest.mark.slow
def test_latents_are_learnt_first_and_then_pictures_by_what_is_on_top(taught):
    generator, statistics, states, reports, state = taught
    first, last = reports[:2]
    assert first.scores["latent_r2"] < 0.1 and last.scores["latent_r2"] > 0.5
    buffers = {"w_avg": statistics.mean}
    ws = map_latents(generator.params, buffers, batch_of(999).z, None, CONFIG)
    images = synthesize(generator.params, ws, None, CONFIG)
    found = encode_latents(state.params, images, statistics, SHAPE)
    of_one, of_each = (
        np.mean((synthesize(generator.params, some, None, CONFIG) - images) ** 2)
        for some in (jnp.broadcast_to(found.shared[:, None], ws.shape), found.ws)
    )
    assert of_each < 0.95 * of_one, (of_each, of_one)
    for before, after, moving in zip(
        states[:-1], states[1:], ({"conv0", "hidden", "shared"}, {"offsets", "refinement"}),
        strict=True,
    ):  # fmt: skip
        same = {
            name: all(jax.tree.leaves(jax.tree.map(np.array_equal, before[name], after[name])))
            for name in before
        }
        assert {name for name, is_same in same.items() if not is_same} == moving


@pytest.mark.slow
def test_a_file_gives_back_what_was_written(taught, tmp_path):
    _, statistics, _, _, state = taught
    path = tmp_path / "e.safetensors"
    write_encoder(path, TrainedEncoder(state.averaged, statistics, SHAPE, {"seed": 3}))
    found = read_encoder(path)
    assert found.config == SHAPE and found.facts == {"seed": 3}
    images = np.float32(np.random.default_rng(0).normal(size=(2, 8, 8, 3)))
    one, other = (
        encode_latents(params, images, statistics, SHAPE)
        for params in (state.averaged, found.params)
    )
    np.testing.assert_array_equal(one.ws, other.ws)
    assert one.ws.shape == (2, CONFIG.num_ws, CONFIG.w_dim)
    with pytest.raises(ValueError, match="expected pictures of 8 x 8"):
        encode_latents(state.averaged, images[:, :4], statistics, SHAPE)


def test_an_encoder_fits_its_generator_and_other_files_are_refused(tmp_path):
    shape = encoder_config(GeneratorConfig(64, (96, 96, 64, 32, 16), z_dim=64, w_dim=64))
    assert shape.channels == (32, 64, 96, 96) and shape.num_ws == 10
    with pytest.raises(ValueError, match=r"expected channels of the sides 8, .* found 1"):
        EncoderConfig(16, 6, 8, (4,))
    (tmp_path / "text").write_text("no arrays")
    with pytest.raises(ValueError, match="text"):
        read_encoder(tmp_path / "text")
