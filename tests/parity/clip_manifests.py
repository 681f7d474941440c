"""Writes the names and shapes of every entry of the public CLIP checkpoints, as torch has them.

  python tests/parity/clip_manifests.py

builds each on torch's meta device, where nothing is allocated, and writes one file each to
tests/golden/manifests/; their form is that of `manifests.py`, whose names are those of public
files: with `text_model` in front.
"""

import json
import math

import manifests
import torch
import transformers

FOLDER = manifests.FOLDER

# What `config.json` of the public checkpoints says of the networks.
_BASE_TEXT = {
    "eos_token_id": 2,
    "hidden_act": "quick_gelu",
    "hidden_size": 512,
    "intermediate_size": 2048,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "num_attention_heads": 8,
    "num_hidden_layers": 12,
    "vocab_size": 49408,
}
_BASE_VISION = {
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "image_size": 224,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
}
CONFIGS = {
    "modelscope_text": {
        "architectures": ["CLIPTextModel"],
        "eos_token_id": 2,
        "hidden_act": "gelu",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "num_attention_heads": 16,
        "num_hidden_layers": 23,
        "projection_dim": 512,
        "vocab_size": 49408,
    },
    "svd_image": {
        "architectures": ["CLIPVisionModelWithProjection"],
        "hidden_act": "gelu",
        "hidden_size": 1280,
        "image_size": 224,
        "intermediate_size": 5120,
        "layer_norm_eps": 1e-05,
        "num_attention_heads": 16,
        "num_channels": 3,
        "num_hidden_layers": 32,
        "patch_size": 14,
        "projection_dim": 1024,
    },
} | {
    f"vit_b{patch}": {
        "architectures": ["CLIPModel"],
        "projection_dim": 512,
        "text_config": _BASE_TEXT,
        "vision_config": _BASE_VISION | {"patch_size": patch},
    }
    for patch in (32, 16)
}
_KINDS = {
    "CLIPTextModel": transformers.CLIPTextConfig,
    "CLIPVisionModelWithProjection": transformers.CLIPVisionConfig,
    "CLIPModel": transformers.CLIPConfig,
}


def manifest_of(config: dict) -> dict:
    """Describes transformers' network of a config."""
    (kind,) = config["architectures"]
    with torch.device("meta"):
        network = getattr(transformers, kind)(_KINDS[kind](**config))
    prefix = "text_model." if kind == "CLIPTextModel" else ""
    entries = network.state_dict().items()
    shapes = {prefix + name: tuple(entry.shape) for name, entry in entries}
    return {
        "config": config,
        "keys": len(shapes),
        "parameters": sum(map(math.prod, shapes.values())),
        "entries": manifests.tree_of(shapes),
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, config in CONFIGS.items():
        text = json.dumps(manifest_of(config), separators=(",", ":"))
        (FOLDER / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
