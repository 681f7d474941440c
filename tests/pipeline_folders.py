"""Whole folders of video pipelines, as diffusers writes them, with small random networks."""

import json
import pathlib

import clip_files
import safetensors.numpy
import tiny_networks as tiny

from models.perception.clip import ClipTextConfig, ClipTextTower, ClipVisionConfig, ClipVisionTower

WIDTH = 12  # of what the tiny UNets are told
TEXT = {
    "architectures": ["CLIPTextModel"],
    "hidden_act": "gelu",
    "hidden_size": WIDTH,
    "intermediate_size": 16,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "projection_dim": 512,
    "vocab_size": len(clip_files.make_tokens()[0]),
}
VISION = {
    "architectures": ["CLIPVisionModelWithProjection"],
    "hidden_act": "gelu",
    "hidden_size": 16,
    "image_size": 8,
    "intermediate_size": 16,
    "layer_norm_eps": 1e-05,
    "model_type": "clip_vision_model",
    "num_attention_heads": 2,
    "num_channels": 3,
    "num_hidden_layers": 1,
    "patch_size": 4,
    "projection_dim": WIDTH,
}
SCHEDULER = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
KARRAS = {"sigma_max": 700.0, "sigma_min": 0.002, "use_karras_sigmas": True}


def write_modelscope(folder: pathlib.Path) -> pathlib.Path:
    """Writes a folder of TextToVideoSDPipeline."""
    tower = ClipTextTower(ClipTextConfig.from_json(TEXT))
    _write_network(folder / "unet", tiny.MODELSCOPE, tiny.modelscope_unet())
    _write_network(folder / "vae", tiny.VAE, tiny.vae())
    _write_network(folder / "text_encoder", TEXT, tower, "model")
    clip_files.write_tokenizer(folder / "tokenizer")
    scheduler = SCHEDULER | {"_class_name": "DDIMScheduler", "prediction_type": "epsilon"}
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    return _write_index(
        folder,
        "TextToVideoSDPipeline",
        scheduler=["diffusers", "DDIMScheduler"],
        text_encoder=["transformers", "CLIPTextModel"],
        tokenizer=["transformers", "CLIPTokenizer"],
        unet=["diffusers", "UNet3DConditionModel"],
        vae=["diffusers", "AutoencoderKL"],
    )


def write_svd(folder: pathlib.Path) -> pathlib.Path:
    """Writes a folder of StableVideoDiffusionPipeline."""
    tower = ClipVisionTower(ClipVisionConfig.from_json(VISION, WIDTH))
    _write_network(folder / "unet", tiny.SVD, tiny.svd_unet())
    _write_network(folder / "vae", tiny.VIDEO_VAE, tiny.video_vae())
    _write_network(folder / "image_encoder", VISION, tower, "model")
    scheduler = SCHEDULER | KARRAS | {"_class_name": "EulerDiscreteScheduler"}
    scheduler |= {"prediction_type": "v_prediction", "timestep_type": "continuous"}
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    pixels = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 8}}
    write_json(folder / "feature_extractor" / "preprocessor_config.json", pixels)
    return _write_index(
        folder,
        "StableVideoDiffusionPipeline",
        feature_extractor=["transformers", "CLIPImageProcessor"],
        image_encoder=["transformers", "CLIPVisionModelWithProjection"],
        scheduler=["diffusers", "EulerDiscreteScheduler"],
        unet=["diffusers", "UNetSpatioTemporalConditionModel"],
        vae=["diffusers", "AutoencoderKLTemporalDecoder"],
    )


def write_json(path: pathlib.Path, values: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2))


def _write_network(folder, settings, network, stem="diffusion_pytorch_model") -> None:
    write_json(folder / "config.json", settings)
    entries = tiny.entries_of(network.param_shapes())
    safetensors.numpy.save_file(entries, folder / f"{stem}.safetensors", {"format": "pt"})


def _write_index(folder: pathlib.Path, class_name: str, **parts: list[str]) -> pathlib.Path:
    index = {"_class_name": class_name, "_diffusers_version": "0.24.0"} | parts
    write_json(folder / "model_index.json", index)
    return folder
