"""Writes the names and shapes of every entry of the full-size networks, as torch has them.

  python tests/parity/manifests.py

builds each on torch's meta device, where nothing is allocated, and writes one file each to
tests/golden/manifests/: `config`, the number of `keys` and `parameters`, and the `entries`, a
tree by the parts of their names with a shape at each leaf.
"""

import json
import math
import pathlib

import diffusers
import torch

FOLDER = pathlib.Path(__file__).parents[1] / "golden" / "manifests"

# What `config.json` of the public checkpoints says.
CONFIGS = {
    "modelscope_unet": {
        "_class_name": "UNet3DConditionModel",
        "act_fn": "silu",
        "attention_head_dim": 64,
        "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 1024,
        "down_block_types": [*3 * ["CrossAttnDownBlock3D"], "DownBlock3D"],
        "downsample_padding": 1,
        "in_channels": 4,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": 32,
        "out_channels": 4,
        "sample_size": 32,
        "up_block_types": ["UpBlock3D", *3 * ["CrossAttnUpBlock3D"]],
    },
    "svd_unet": {
        "_class_name": "UNetSpatioTemporalConditionModel",
        "addition_time_embed_dim": 256,
        "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 1024,
        "down_block_types": [
            *3 * ["CrossAttnDownBlockSpatioTemporal"],
            "DownBlockSpatioTemporal",
        ],
        "in_channels": 8,
        "layers_per_block": 2,
        "num_attention_heads": [5, 10, 20, 20],
        "num_frames": 25,
        "out_channels": 4,
        "projection_class_embeddings_input_dim": 768,
        "sample_size": 96,
        "transformer_layers_per_block": 1,
        "up_block_types": ["UpBlockSpatioTemporal", *3 * ["CrossAttnUpBlockSpatioTemporal"]],
    },
    "modelscope_vae": {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": 4 * ["DownEncoderBlock2D"],
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "out_channels": 3,
        "sample_size": 512,
        "scaling_factor": 0.18215,
        "up_block_types": 4 * ["UpDecoderBlock2D"],
    },
    "svd_vae": {
        "_class_name": "AutoencoderKLTemporalDecoder",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": 4 * ["DownEncoderBlock2D"],
        "force_upcast": True,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "out_channels": 3,
        "sample_size": 768,
        "scaling_factor": 0.18215,
    },
}


def tree_of(shapes: dict[str, tuple[int, ...]]) -> dict:
    """Nests entries by the parts of their names."""
    tree = {}
    for name, shape in shapes.items():
        *parts, leaf = name.split(".")
        branch = tree
        for part in parts:
            branch = branch.setdefault(part, {})
        branch[leaf] = list(shape)
    return tree


def manifest_of(config: dict) -> dict:
    """Describes diffusers' network of a config."""
    with torch.device("meta"):
        network = getattr(diffusers, config["_class_name"]).from_config(config)
    shapes = {name: tuple(entry.shape) for name, entry in network.state_dict().items()}
    return {
        "config": config,
        "keys": len(shapes),
        "parameters": sum(map(math.prod, shapes.values())),
        "entries": tree_of(shapes),
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, config in CONFIGS.items():
        text = json.dumps(manifest_of(config), separators=(",", ":"))
        (FOLDER / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
