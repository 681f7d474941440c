"""The folders that tests make up are what diffusers reads, and what it writes is read here."""

import jax
import numpy as np
import pipeline_folders
import pytest
import tiny_networks as tiny

diffusers = pytest.importorskip("diffusers")
import torch  # noqa: E402

from models.diffusion import pipelines  # noqa: E402
from models.diffusion.denoiser import from_v  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]  # diffusers warns

PIPELINES = {
    "modelscope": diffusers.TextToVideoSDPipeline,
    "svd": diffusers.StableVideoDiffusionPipeline,
}


@pytest.mark.parametrize("options", [{}, {"variant": "fp16"}, {"max_shard_size": "200KB"}])
@pytest.mark.parametrize("name", PIPELINES)
def test_folders_go_through_diffusers_and_back(tmp_path, name, options):
    load = getattr(pipelines, f"load_{name}")
    folder = getattr(pipeline_folders, f"write_{name}")(tmp_path / "ours")
    pipeline = PIPELINES[name].from_pretrained(folder)
    if options.get("variant") == "fp16":
        pipeline = pipeline.to(torch.float16)
    pipeline.save_pretrained(tmp_path / "theirs", **options)
    ours, theirs = load(folder), load(tmp_path / "theirs")
    rtol, atol = (1e-3, 1e-7) if options.get("variant") == "fp16" else (0.0, 0.0)
    for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        np.testing.assert_allclose(a, b, rtol, atol)


def test_noise_is_what_the_schedulers_of_diffusers_have(tmp_path):
    """The levels of ModelScope's chain; SVD's scaling, embedded time and clean latents."""
    folder = pipeline_folders.write_modelscope(tmp_path / "modelscope")
    chain = diffusers.DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    prior = pipelines.load_modelscope(folder)
    np.testing.assert_allclose(prior.alphas_cumprod, chain.alphas_cumprod.numpy(), rtol=1e-4)

    folder = pipeline_folders.write_svd(tmp_path / "svd")
    scheduler = diffusers.EulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")
    scheduler.set_timesteps(5)
    x, v = (tiny.noise(name, (2, 3, 4, 4, 4)) for name in "xv")
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        scaled = scheduler.scale_model_input(torch.from_numpy(x), t).numpy()
        clean = scheduler.step(torch.from_numpy(v), t, torch.from_numpy(x)).pred_original_sample

        def predict(network_input, c_noise, scaled=scaled, t=float(t)):
            np.testing.assert_allclose(network_input, scaled, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(c_noise, t, rtol=1e-5)
            return v

        found = from_v(predict)(x, np.full(2, sigma, np.float32))
        np.testing.assert_allclose(found, clean.numpy(), rtol=1e-4, atol=1e-4)


def test_a_text_is_told_as_diffusers_tells_it(tmp_path):
    folder = pipeline_folders.write_modelscope(tmp_path)
    pipeline = diffusers.TextToVideoSDPipeline.from_pretrained(folder)
    prior = pipelines.load_modelscope(folder)
    for text in ("a soft rubber ball", ""):
        with torch.no_grad():
            expected, _ = pipeline.encode_prompt(text, "cpu", 1, False)
        np.testing.assert_allclose(prior.context(text), expected[0].numpy(), atol=1e-5)
