"""Folders of whole pipelines become priors that score distillation can ask.

What torch predicted of the networks in these folders (tests/golden) has to come out of the
residual.
"""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pipeline_folders
import pytest
import tiny_networks as tiny

from models.diffusion import pipelines
from models.diffusion.guidance import NoiseBank, sds_residual
from models.diffusion.schedule import sigmas_of

NOISE = tiny.noise("eps", (3, 5, 4, 4))


@pytest.fixture(scope="module")
def modelscope_folder(tmp_path_factory):
    return pipeline_folders.write_modelscope(tmp_path_factory.mktemp("modelscope"))


@pytest.fixture(scope="module")
def svd_folder(tmp_path_factory):
    return pipeline_folders.write_svd(tmp_path_factory.mktemp("svd"))


@tiny.compiled
def residual(prior, condition, z, bank):
    """The mean of w(sigma) (z - D) / sigma, for w(sigma) = 1."""
    return sds_residual(prior.denoiser(condition), z, bank, "uniform")


@pytest.mark.compiles
def test_modelscope_gives_the_noise_that_torch_predicts_less_what_there_was(modelscope_folder):
    prior = pipelines.load_modelscope(modelscope_folder)
    latents, steps, texts = tiny.modelscope_inputs()
    expected = tiny.golden("modelscope")
    for case, step in enumerate(steps.astype(int)):
        sigma = sigmas_of(prior.alphas_cumprod)[step]
        abar = prior.alphas_cumprod[step]
        z = (latents[case] - np.sqrt(1.0 - abar) * NOISE) / np.sqrt(abar)
        bank = NoiseBank(sigma[None], NOISE[None])
        found = residual(prior, texts[case], z, bank)
        np.testing.assert_allclose(found + NOISE, expected[case], atol=1e-3)


@pytest.mark.compiles
def test_modelscope_is_told_the_states_of_a_text(modelscope_folder):
    prior = pipelines.load_modelscope(modelscope_folder)
    context = prior.context("a soft rubber ball")
    assert context.shape == (77, pipeline_folders.WIDTH)
    assert np.abs(context - prior.context("")).max() > 0.1


@pytest.mark.compiles
@pytest.mark.slow
def test_svd_denoises_by_the_v_that_torch_predicts(svd_folder):
    prior = pipelines.load_svd(svd_folder)
    inputs, c_noise, embeddings, ids = tiny.svd_inputs()
    expected = tiny.golden("svd")
    for case, sigma in enumerate(np.exp(4.0 * c_noise)):
        scaled, picture = np.split(inputs[case], 2, -1)
        z = scaled * np.sqrt(sigma**2 + 1.0) - sigma * NOISE
        condition = pipelines.SvdCondition(embeddings[case], picture[0], ids[case])
        found = residual(prior, condition, z, NoiseBank(sigma[None], NOISE[None]))
        c_skip, c_out = 1.0 / (sigma**2 + 1.0), -sigma / np.sqrt(sigma**2 + 1.0)
        x = z + sigma * NOISE
        clean = c_skip * x + c_out * expected[case]
        np.testing.assert_allclose(found, (z - clean) / sigma, atol=1e-3)


@pytest.mark.compiles
def test_svd_is_told_the_unscaled_latents_of_a_picture(svd_folder):
    prior = pipelines.load_svd(svd_folder)
    pictures, _ = tiny.vae_inputs()
    describe = tiny.compiled(
        lambda prior, picture: prior.condition(
            jax.random.key(0), picture, frames_per_second=8, noise=0.0
        )
    )
    condition = describe(prior, (pictures[1, 2] + 1.0) / 2.0)
    np.testing.assert_allclose(condition.latents, tiny.golden("video_vae_mean")[1, 2], atol=1e-4)
    np.testing.assert_array_equal(condition.time_ids, [7.0, 127.0, 0.0])
    assert condition.context.shape == (1, pipeline_folders.WIDTH)
    null = condition.null()
    assert condition.context.any() and not null.context.any() and not null.latents.any()
    np.testing.assert_array_equal(null.time_ids, condition.time_ids)


@pytest.mark.compiles
@pytest.mark.slow
def test_latents_are_scaled_draws_whose_gradient_reaches_the_clip(modelscope_folder):
    prior = pipelines.load_modelscope(modelscope_folder)
    clip, key = (tiny.vae_inputs()[0][0] + 1.0) / 2.0, jax.random.key(3)
    mean, log_variance = (tiny.golden(f"vae_{name}")[0] for name in ("mean", "log_variance"))
    draw = jax.random.normal(key, mean.shape)
    weights = tiny.noise("weights", mean.shape)

    @tiny.compiled
    def pulled(prior, clip):
        z, pull = jax.vjp(lambda clip: prior.encode(key, clip), clip)
        return z, pull(weights)[0]

    z, gradient = pulled(prior, clip)
    np.testing.assert_allclose(z, 0.18215 * (mean + np.exp(log_variance / 2) * draw), atol=1e-4)
    step = 1e-3 * gradient / np.abs(gradient).max()
    ahead, behind = (np.vdot(weights, pulled(prior, clip + s)[0]) for s in (step, -step))
    np.testing.assert_allclose(ahead - behind, 2.0 * np.vdot(gradient, step), rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("dtype, tolerance", [(jnp.float16, 0.005), (jnp.bfloat16, 0.04)])
@pytest.mark.parametrize("name", ["modelscope", "svd"])
def test_half_precision_changes_the_prediction_by_little(tmp_path, name, dtype, tolerance):
    """Relative to the largest prediction; float16 keeps 11 bits, bfloat16 8."""
    folder = getattr(pipeline_folders, f"write_{name}")(tmp_path)
    prior = getattr(pipelines, f"load_{name}")(folder, dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(prior.unet)} == {jnp.dtype(dtype)}
    assert {leaf.dtype for leaf in jax.tree.leaves(prior.vae)} == {jnp.dtype(jnp.float32)}
    network = getattr(tiny, f"{name}_unet")()
    inputs = getattr(tiny, f"{name}_inputs")()
    x, *conditions = inputs
    found = tiny.compiled(network.apply)({"params": prior.unet}, x.astype(dtype), *conditions)
    assert found.dtype == dtype
    expected = tiny.golden(name)
    difference = np.abs(found.astype(np.float32) - expected).max() / np.abs(expected).max()
    assert 1e-6 < difference < tolerance


def change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "file, changes, fault",
    [
        (
            "model_index.json",
            {"_class_name": "StableDiffusionPipeline"},
            "_class_name to be 'TextToVideoSDPipeline', found 'StableDiffusionPipeline'",
        ),
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "be UNet3DConditionModel"),
        (
            "scheduler/scheduler_config.json",
            {"prediction_type": "v_prediction"},
            "prediction_type to be 'epsilon', found 'v_prediction'",
        ),
        ("scheduler/scheduler_config.json", {"beta_start": 0.5}, "beta_start, beta_end, num_train"),
        ("vae/config.json", {"shift_factor": 0.1}, "shift_factor to be None, found 0.1"),
    ],
)
def test_a_folder_of_another_pipeline_is_refused(modelscope_folder, tmp_path, file, changes, fault):
    folder = shutil.copytree(modelscope_folder, tmp_path / "changed")
    change(folder / file, **changes)
    with pytest.raises(ValueError, match=r"^expected ") as error:
        pipelines.load_modelscope(folder)
    assert fault in str(error.value) and str(folder / file) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["model_index.json", "tokenizer/vocab.json", "unet/config.json"])
def test_a_folder_that_lacks_a_file_is_refused(modelscope_folder, tmp_path, file):
    folder = shutil.copytree(modelscope_folder, tmp_path / "changed")
    (folder / file).unlink()
    with pytest.raises(ValueError, match=rf"^expected .*{file.split('/')[-1]}"):
        pipelines.load_modelscope(folder)


def test_parts_that_do_not_fit_each_other_are_refused(svd_folder, tmp_path):
    folder = shutil.copytree(svd_folder, tmp_path / "changed")
    change(folder / "image_encoder" / "config.json", projection_dim=13)
    with pytest.raises(ValueError, match=r"visual_projection.weight of shape \(12, 16\) instead"):
        pipelines.load_svd(folder)
    with pytest.raises(ValueError, match="_class_name to be 'TextToVideoSDPipeline'"):
        pipelines.load_modelscope(svd_folder)
