"""What pictures say of latents, where pictures are the latents themselves."""

import jax
import numpy as np
import pytest

from models.stylegan.config import GeneratorConfig
from models.stylegan.directions import fit_directions
from models.stylegan.encoder import EncoderConfig, LatentEncoder, TrainedEncoder
from models.stylegan.encoder_io import write_encoder
from models.stylegan.latents import LatentStatistics
from scripts.generators import readings

SIZE, LAYERS = 6, 3


@pytest.fixture(scope="module")
def directions():
    ws = np.random.default_rng(0).normal(size=(500, SIZE))
    return fit_directions(ws, {"yaw": 9.0 * ws[:, 0], "pitch": 4.0 * ws[:, 1], "age": ws[:, 2]})


@pytest.fixture(scope="module")
def ws():
    return np.random.default_rng(1).normal(size=(20, LAYERS, SIZE)).astype(np.float32)


def test_edits_change_what_was_asked_and_nothing_beside(directions, ws, monkeypatch):
    monkeypatch.setattr(readings, "painted", lambda generator, ws: ws)
    monkeypatch.setattr(readings, "encoded", lambda encoder, images: images.mean(1))
    scores = readings.judge_edits(None, None, directions, ws)
    for name, score in scores.items():
        assert score["changed"] == pytest.approx(1.0, abs=5e-3), name
        assert score["readable"] == pytest.approx(1.0, abs=5e-3), name
        assert score["beside"] < 5e-3, name
    # A reader that sees half of it, and takes age for yaw.
    blurred = np.eye(SIZE)
    blurred[2, :] = [0.5, 0.0, 0.5, 0.0, 0.0, 0.0]
    monkeypatch.setattr(readings, "encoded", lambda encoder, images: images.mean(1) @ blurred)
    found = readings.judge_edits(None, None, directions, ws)["age"]
    assert found["changed"] == pytest.approx(0.5, abs=0.02)
    assert found["readable"] == pytest.approx(0.5, abs=0.05)
    assert found["beside"] == pytest.approx(0.5, abs=0.05)


def test_who_is_seen_is_compared_before_and_after(directions, ws, monkeypatch):
    monkeypatch.setattr(readings, "painted", lambda generator, ws: ws)

    def embed(images):
        seen = images[:, 0, 2:4] * 2.0 - 1.0  # age is taken for who somebody is, yaw is not
        return seen / np.linalg.norm(seen, axis=-1, keepdims=True)

    within = 0.4 * np.tanh(ws)  # nothing is clipped that is looked at
    cosines, strangers = readings.judge_identity(None, embed, directions, within)
    assert cosines["yaw"] == pytest.approx(1.0, abs=2e-3) and cosines["age"] < 0.9
    each = embed(np.clip(0.5 * within + 0.5, 0.0, 1.0))
    pairs = [a @ b for i, a in enumerate(each) for b in each[:i]]
    assert strangers == pytest.approx(np.mean(pairs), abs=1e-3)


def test_samples_are_turned_and_the_nearest_is_taken(directions, ws, monkeypatch):
    turned = readings.turned(ws, np.array([12.0, -3.0]), directions)
    read = turned.mean(1) @ directions.readings.T + directions.biases
    np.testing.assert_allclose(read[:, :2], np.tile([12.0, -3.0], (20, 1)), atol=1e-4)
    assert readings.turned(ws, None, directions) is ws and readings.turned(ws, [0, 0], None) is ws
    monkeypatch.setattr(readings, "painted", lambda generator, ws: ws[:, None])
    nearest = readings.nearest_latents(None, 0.9 * ws[7][None], ws)
    np.testing.assert_array_equal(nearest, ws[7])


def test_an_encoder_is_that_of_its_generator_or_refused(tmp_path):
    shape = EncoderConfig(8, 4, 6, (4,), hidden=8, refining=8)
    statistics = LatentStatistics(np.zeros(6), np.eye(6), np.ones(6))
    images = np.zeros((1, 8, 8, 3), np.float32)
    shapes = jax.eval_shape(LatentEncoder(shape).init, jax.random.key(0), images)["params"]
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    path = tmp_path / "e.safetensors"
    write_encoder(path, TrainedEncoder(params, statistics, shape, {}))
    config = GeneratorConfig(8, (4, 4), z_dim=6, w_dim=6, mapping_layers=1)
    assert readings.load_encoder_of("g", str(path), config).config == shape
    assert readings.load_encoder_of("heads", "none", config) is None
    assert readings.load_encoder_of("g.safetensors", None, config) is None
    other = GeneratorConfig(16, (4, 4, 4), z_dim=6, w_dim=6, mapping_layers=1)
    with pytest.raises(ValueError, match="expected an encoder of 16 pixels and 6 latents of 6"):
        readings.load_encoder_of("g", str(path), other)
    with pytest.raises(ValueError, match="found nothing at nowhere"):
        readings.load_encoder_of("g", "nowhere", config)
