"""Teaching a generator: by regression from its affine start, and against a discriminator."""

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import many_devices
import numpy as np
import pytest

from models.devices import on_each_device, over_devices
from models.stylegan import regression, train
from models.stylegan.config import DiscriminatorConfig, GeneratorConfig
from models.stylegan.features import frechet_distance
from models.stylegan.generator import init_generator, map_latents, synthesize
from models.stylegan.regression import (
    RegressionBatch,
    RegressionTraining,
    Stage,
    affine_start,
    laplacian_loss,
)
from models.stylegan.train import PRESETS, StyleganTraining

SIZE = 8  # of latents
CONFIG = GeneratorConfig(16, (8, 8, 8), z_dim=SIZE, w_dim=SIZE, mapping_layers=2)
CRITIC = DiscriminatorConfig(16, (8, 8, 8))
TRAINING = RegressionTraining((Stage(8, 30, 8, 2e-2), Stage(16, 50, 8, 2e-2)), decay=0.9)


def batch(number, count=8, resolution=16):
    """A disc whose place and colour are the latent's first numbers."""
    rng = np.random.default_rng([1, number])
    z = rng.normal(size=(count, SIZE)).astype(np.float32)
    unit = z / np.sqrt(np.mean(z**2, 1, keepdims=True))
    at = (np.arange(resolution) + 0.5) / resolution * 2 - 1
    x, y = 0.3 * unit[:, :2].T[..., None, None]
    shape = 1 / (1 + np.exp(8 * (np.hypot(at - x, at[:, None] - y) - 0.5)))
    color = np.tanh(unit[:, 2:5])[:, None, None]
    images = np.float32(shape[..., None] * (color + 0.5) - 0.5)
    return RegressionBatch(z, images, np.float32(1 + shape))


def learn(steps):
    """States after steps of regression, and the PSNR of each step."""
    state = regression.init_regression(jax.random.key(0), CONFIG)
    state, found = on_each_device(state), []
    for number in range(steps):
        stage = TRAINING.stage_of(number)
        part = over_devices(batch(number, stage.batch, stage.resolution))
        share = np.float32(number / TRAINING.steps)
        state, report = regression.regression_step(state, part, share, CONFIG, TRAINING)
        found.append(report.scores["train_psnr_db"])
    return state, np.array(jax.device_get(found))


def test_the_loss_is_the_error_of_each_band():
    rng = np.random.default_rng(0)
    error, weights = rng.normal(size=(2, 8, 8, 3)), rng.uniform(0.5, 2.0, size=(2, 8, 8))
    coarse = error.reshape(2, 4, 2, 4, 2, 3).mean((2, 4))
    fine = error - np.kron(coarse, np.ones((1, 2, 2, 1)))
    wanted = np.mean(weights[..., None] * abs(fine))
    wanted += np.mean(weights.reshape(2, 4, 2, 4, 2).mean((2, 4))[..., None] * abs(coarse))
    np.testing.assert_allclose(laplacian_loss(error, weights), wanted, rtol=1e-5)


def test_it_starts_affine_with_styles_of_mean_one():
    config = dataclasses.replace(CONFIG, z_dim=64, w_dim=64)
    params = affine_start(
        jax.random.key(1), init_generator(jax.random.key(0), config).params, config
    )
    z = np.random.default_rng(0).normal(size=(500, 64)).astype(np.float32)
    w = map_latents(params, {"w_avg": jnp.zeros(64)}, z, None, config)[:, 0]
    unit = z / np.sqrt(np.mean(z**2, 1, keepdims=True))
    is_straight = (unit > -2.4).all(1)  # what lies below lands on the bent side
    assert is_straight.mean() > 0.4
    np.testing.assert_allclose(w[is_straight], unit[is_straight] + 2.5, atol=0.15)
    affine = params["synthesis"]["b8"]["conv0"]["affine"]
    styles = w @ affine["weight"] / 8 + affine["bias"]
    np.testing.assert_allclose(np.mean(styles, 0), 1.0, atol=0.25)
    assert np.std(styles) == pytest.approx(1.0, abs=0.3)
    assert np.std(params["synthesis"]["b8"]["torgb"]["weight"]) == pytest.approx(0.3, abs=0.1)


def test_stages_follow_each_other():
    stages = [TRAINING.stage_of(number).resolution for number in (0, 29, 30, 79, 500)]
    assert stages == [8, 8, 16, 16, 16]
    for preset in PRESETS.values():
        assert preset.regression.stages[-1].resolution == preset.generator.resolution
        assert preset.discriminator.channels == preset.generator.channels


def test_rates_warm_up_follow_their_stage_and_cool_down():
    how = RegressionTraining((Stage(8, 40, 8, 2.0), Stage(16, 60, 8, 1.0)), warm_up=10)

    def rate(step):
        return float(regression._rate(step, np.float32(step / 100), how))

    assert rate(0) == pytest.approx(0.2) and rate(20) == pytest.approx(2.0)
    assert rate(40) == rate(70) == pytest.approx(1.0)
    assert rate(85) == pytest.approx(0.02 + 0.98 * 0.5, rel=1e-4)


def test_muon_has_the_kernels_and_adam_all_else():
    params = init_generator(jax.random.key(0), CONFIG).params["synthesis"]
    kinds = jax.tree.map(lambda p, kind: kind is not None, params, regression._kernels(params))
    for block in kinds.values():
        for name, layer in block.items():
            leaves = jax.tree_util.tree_leaves_with_path(layer)
            by_muon = [jax.tree_util.keystr(path) for path, is_muons in leaves if is_muons]
            assert by_muon == (["['weight']"] if name.startswith("conv") else []), name


def test_the_frechet_distance_of_a_set_moved_is_how_far():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(400, 10)) @ rng.normal(size=(10, 10)) + 3.0
    moved = reference + np.arange(10) / 5 * reference.std(0)
    found = frechet_distance(moved, reference)
    assert found == pytest.approx(np.sum((np.arange(10) / 5) ** 2), rel=1e-3)
    assert frechet_distance(reference, reference) == pytest.approx(0.0, abs=1e-6)
    assert frechet_distance(2.0 * (reference - 3.0) + 3.0, reference) > 5.0


@pytest.mark.slow
def test_regression_learns_pictures_that_it_has_not_seen_and_holds_the_mapping():
    first = regression.init_regression(jax.random.key(0), CONFIG)
    state, found = learn(TRAINING.steps)
    assert found[-5:].mean() > found[30:35].mean() + 3.0
    same = jax.tree.map(np.array_equal, state.mapping, first.mapping)
    assert all(jax.tree.leaves(same))
    generator = regression.regression_generator(state, CONFIG, {})
    new = batch(10_000, 64)
    ws = map_latents(generator.params, generator.buffers, new.z, None, CONFIG)
    made = synthesize(generator.params, ws, None, CONFIG)
    mean = batch(0, 500).images.mean(0)
    assert np.mean((made - new.images) ** 2) < 0.6 * np.mean((mean - new.images) ** 2)
    np.testing.assert_allclose(generator.buffers["w_avg"], 2.5, atol=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("is_paired", [False, True])
def test_an_adversarial_step_moves_both_and_holds_what_it_is_to_hold(is_paired):
    how = StyleganTraining(steps=4, batch=8)
    if is_paired:
        kept = {"mixing": 0.0, "is_noisy": False, "holds_mapping": True, "path_weight": 0.0}
        how = dataclasses.replace(how, paired=10.0, **kept)
    start = init_generator(jax.random.key(0), CONFIG)
    first = jax.device_get(train.init_stylegan(jax.random.key(1), start, CRITIC, how))
    state, scores = jax.device_put(first), []
    for number in range(how.steps):
        state, report = train.train_stylegan_step(
            jax.random.key(2), state, batch(number), CONFIG, CRITIC, how
        )
        scores.append(jax.device_get(report.scores))
    assert np.isfinite([list(row.values()) for row in scores]).all()
    assert ("paired_loss" in scores[0]) is is_paired
    for name in ("params", "discriminator", "averaged"):
        before, after = getattr(first, name), jax.device_get(getattr(state, name))
        moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, after)
        if name == "discriminator":
            assert all(jax.tree.leaves(moved))
        else:
            assert all(jax.tree.leaves(moved["mapping"])) is not is_paired
            assert moved["synthesis"]["b16"]["conv1"]["weight"]
    assert int(state.step) == 4
    assert (float(state.mean_length) > 0) is not is_paired


def test_a_batch_that_cannot_be_shared_out_is_refused():
    with (
        mock.patch.object(jax, "device_count", lambda: 3),
        pytest.raises(ValueError, match="expected a batch that 3 devices can share out, found 8"),
    ):
        over_devices(batch(0))


@pytest.mark.slow
def test_many_devices_learn_what_one_does():
    code = "import test_stylegan_training as t; print(*t.learn(12)[1])"
    one, many = (many_devices.losses(code, count) for count in (1, 4))
    np.testing.assert_allclose(many, one, rtol=2e-3)
