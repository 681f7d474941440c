"""The folders that tests make up are what diffusers reads, and what it writes is read here."""

import jax
import numpy as np
import pipeline_folders
import pytest

diffusers = pytest.importorskip("diffusers")
import torch  # noqa: E402

from models.diffusion import pipelines  # noqa: E402

pytestmark = pytest.mark.parity

PIPELINES = {
    "modelscope": diffusers.TextToVideoSDPipeline,
    "svd": diffusers.StableVideoDiffusionPipeline,
}


@pytest.mark.parametrize("options", [{}, {"variant": "fp16"}, {"max_shard_size": "200KB"}])
@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.filterwarnings("ignore")
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


@pytest.mark.filterwarnings("ignore")
def test_a_text_is_told_as_diffusers_tells_it(tmp_path):
    folder = pipeline_folders.write_modelscope(tmp_path)
    pipeline = diffusers.TextToVideoSDPipeline.from_pretrained(folder)
    prior = pipelines.load_modelscope(folder)
    for text in ("a soft rubber ball", ""):
        with torch.no_grad():
            expected, _ = pipeline.encode_prompt(text, "cpu", 1, False)
        np.testing.assert_allclose(prior.context(text), expected[0].numpy(), atol=1e-5)
