"""What transformers and diffusers make of the inputs of CLIP's tests.

`PYTHONPATH=.:tests python tests/parity/clip_reference.py` writes what is kept for where they are
not installed.
"""

import pathlib
import tempfile

import clip_files
import golden_clip
import numpy as np
import tiny_clip
import tiny_networks as tiny
import torch
import transformers
from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as svd
from flax import linen as nn


def features(tower: nn.Module, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The features that transformers computes with the entries of a tower of ours."""
    config, is_text = tower.config, inputs.ndim == 2
    has_projection = config.projection_dim is not None
    settings = {key: value for key, value in vars(config).items() if value is not None}
    if is_text:
        kind = "CLIPTextModelWithProjection" if has_projection else "CLIPTextModel"
        config = transformers.CLIPTextConfig(**settings)
    else:
        kind = "CLIPVisionModelWithProjection" if has_projection else "CLIPVisionModel"
        config = transformers.CLIPVisionConfig(**settings)
    network = getattr(transformers, kind)(config)
    entries = {
        name if has_projection else name.partition(".")[2]: torch.from_numpy(entry)
        for name, entry in tiny.entries_of(tower.param_shapes()).items()
    }
    network.load_state_dict(entries)
    inputs = inputs if is_text else np.ascontiguousarray(np.moveaxis(inputs, -1, 1))
    with torch.no_grad():
        output = network.eval()(torch.from_numpy(inputs))
    found = {"states": output.last_hidden_state}
    if has_projection:
        found["embedding"] = output.text_embeds if is_text else output.image_embeds
    else:
        found["pooled"] = output.pooler_output
    return {name: array.numpy() for name, array in found.items()}


def clip_pixels(image: np.ndarray, side: int) -> np.ndarray:
    """What transformers makes of a picture [H, W, 3] in [0, 1], by way of 8 bits."""
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )
    pixels = np.round(255 * image).astype(np.uint8)
    return np.moveaxis(processor(pixels, return_tensors="np").pixel_values[0], 0, -1)


def svd_pixels(image: np.ndarray, side: int) -> np.ndarray:
    """What the pipeline of diffusers makes of a picture [H, W, 3] in [0, 1]."""
    batch = torch.from_numpy(image).movedim(-1, 0)[None] * 2.0 - 1.0
    batch = (svd._resize_with_antialiasing(batch, (side, side)) + 1.0) / 2.0
    plain = dict.fromkeys(("do_resize", "do_center_crop", "do_rescale"), False)
    processor = transformers.CLIPImageProcessorPil()
    return np.moveaxis(processor(batch, return_tensors="np", **plain).pixel_values[0], 0, -1)


def token_ids(folder: pathlib.Path, texts: tuple[str, ...]) -> np.ndarray:
    """The ids [B, 77] of texts by the tokenizer in a folder."""
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    options = {"padding": "max_length", "max_length": 77, "truncation": True}
    return tokenizer(list(texts), return_tensors="np", **options).input_ids


def golden() -> dict[str, np.ndarray]:
    """What is kept."""
    arrays = {}
    for name, tower, inputs in tiny_clip.cases():
        for part, array in features(tower, inputs).items():
            arrays[f"{name}_{part}"] = array
    for name, (image, side) in golden_clip.IMAGES.items():
        arrays[f"clip_{name}"] = clip_pixels(image, side)
        arrays[f"svd_{name}"] = svd_pixels(image, side)
    for name, pad in clip_files.PADS.items():
        with tempfile.TemporaryDirectory() as folder:
            clip_files.write_tokenizer(pathlib.Path(folder), pad)
            ids = token_ids(pathlib.Path(folder), clip_files.TEXTS)
        arrays[f"ids_{name}"] = ids.astype(np.int16)
    return {
        name: array.astype(np.float32 if array.dtype.kind == "f" else array.dtype)
        for name, array in arrays.items()
    }


if __name__ == "__main__":
    golden_clip.PATH.parent.mkdir(exist_ok=True)
    np.savez_compressed(golden_clip.PATH, **golden())
