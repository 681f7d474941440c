"""Small relatives of the networks of public video pipelines, filled name by name with noise.

With torch or without, the same names get the same numbers, so what torch computes of them can be
kept, and compared with where there is no torch. No parameter is left at zero or one: a branch that
starts at zero would hide whatever is wrong in it.
"""

import functools
import pathlib
import zlib
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util

from models.diffusion.configs import ModelScopeConfig, SvdConfig, VaeConfig, VideoVaeConfig
from models.diffusion.unet_modelscope import ModelScopeUnet
from models.diffusion.unet_svd import SvdUnet
from models.diffusion.vae import Vae, VideoVae
from models.torch_names import torch_places

GOLDEN = pathlib.Path(__file__).parent / "golden" / "video_networks.npz"
MODELSCOPE = {
    "_class_name": "UNet3DConditionModel",
    "_diffusers_version": "0.15.0.dev0",
    "sample_size": 32,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [16, 24],
    "cross_attention_dim": 12,
    "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"],
    "downsample_padding": 1,
    "in_channels": 4,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 4,
    "out_channels": 4,
    "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
}
SVD = {
    "_class_name": "UNetSpatioTemporalConditionModel",
    "_diffusers_version": "0.24.0.dev0",
    "addition_time_embed_dim": 8,
    "block_out_channels": [32, 64],
    "cross_attention_dim": 12,
    "down_block_types": ["CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"],
    "in_channels": 8,
    "layers_per_block": 1,
    "num_attention_heads": [2, 4],
    "num_frames": 25,
    "out_channels": 4,
    "projection_class_embeddings_input_dim": 24,
    "sample_size": 96,
    "transformer_layers_per_block": 1,
    "up_block_types": ["UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"],
}
VAE = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.15.0.dev0",
    "act_fn": "silu",
    "block_out_channels": [8, 16],
    "down_block_types": 2 * ["DownEncoderBlock2D"],
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "out_channels": 3,
    "sample_size": 512,
    "scaling_factor": 0.18215,
    "up_block_types": 2 * ["UpDecoderBlock2D"],
}
VIDEO_VAE = {
    "_class_name": "AutoencoderKLTemporalDecoder",
    "_diffusers_version": "0.24.0.dev0",
    "block_out_channels": [32, 64],
    "down_block_types": 2 * ["DownEncoderBlock2D"],
    "force_upcast": True,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "out_channels": 3,
    "sample_size": 768,
    "scaling_factor": 0.18215,
}


def modelscope_unet() -> ModelScopeUnet:
    return ModelScopeUnet(ModelScopeConfig.from_json(MODELSCOPE))


def svd_unet() -> SvdUnet:
    return SvdUnet(SvdConfig.from_json(SVD))


def vae() -> Vae:
    return Vae(VaeConfig.from_json(VAE))


def video_vae() -> VideoVae:
    return VideoVae(VideoVaeConfig.from_json(VIDEO_VAE))


def noise(name: str, shape: tuple[int, ...], scale: float = 1.0, mean: float = 0.0) -> np.ndarray:
    """Normal noise [*shape] that belongs to a name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return (mean + scale * rng.standard_normal(shape)).astype(np.float32)


def entry_of(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The entry of a checkpoint: features neither grow nor vanish on their way."""
    if len(shape) > 1:
        return noise(name, shape, np.prod(shape[1:]) ** -0.5)
    return noise(name, shape, 0.3, mean=float(name.endswith("weight")))


def entries_of(shapes: dict) -> dict[str, np.ndarray]:
    """The checkpoint of a network, by torch's names and in torch's layout."""
    return {name: entry_of(name, place.shape) for name, place in torch_places(shapes).items()}


def params_of(shapes: dict) -> dict:
    """The parameters of a network."""
    entries, places = entries_of(shapes), torch_places(shapes)
    return traverse_util.unflatten_dict(
        {place.path: place.arrange(entries[name]) for name, place in places.items()}
    )


def modelscope_inputs(batch=2, frames=3, height=5, width=4) -> tuple[np.ndarray, ...]:
    x = noise("x", (batch, frames, height, width, 4))
    return x, np.linspace(3, 950, batch, dtype=np.float32), noise("text", (batch, 7, 12))


def svd_inputs(batch=2, frames=3, height=5, width=4) -> tuple[np.ndarray, ...]:
    x = noise("x", (batch, frames, height, width, 4))
    picture = noise("picture", (batch, 1, height, width, 4))  # the same beside all frames
    x = np.concatenate([x, np.broadcast_to(picture, x.shape)], -1)
    ids = np.array([[6, 127, 0.02], [23, 40, 0.3]], np.float32)[:batch]
    return x, np.linspace(-1, 0.7, batch, dtype=np.float32), noise("image", (batch, 1, 12)), ids


def vae_inputs(batch=2, frames=3, height=6, width=4) -> tuple[np.ndarray, np.ndarray]:
    """Pictures in about [-1, 1], and latents of other pictures."""
    pictures = noise("pictures", (batch, frames, height, width, 3), 0.5)
    return pictures, noise("latents", (batch, frames, height // 2, width // 2, 4))


def golden(name: str) -> np.ndarray:
    """What torch computed of the inputs above."""
    with np.load(GOLDEN) as outputs:
        return outputs[name]


def modelscope_output(*inputs: np.ndarray) -> dict[str, jax.Array]:
    return {"modelscope": apply(modelscope_unet(), None, *inputs)}


def svd_output(*inputs: np.ndarray) -> dict[str, jax.Array]:
    return {"svd": apply(svd_unet(), None, *inputs)}


def vae_output(pictures: np.ndarray, z: np.ndarray) -> dict[str, jax.Array]:
    return _autoencoder_output("vae", vae(), pictures, z)


def video_vae_output(pictures: np.ndarray, z: np.ndarray) -> dict[str, jax.Array]:
    return _autoencoder_output("video_vae", video_vae(), pictures, z)


def _autoencoder_output(name, network, pictures, z):
    mean, log_variance = apply(network, "encode", pictures)
    decoded = apply(network, "decode", z)
    return {
        f"{name}_mean": mean,
        f"{name}_log_variance": log_variance,
        f"{name}_decoded": decoded,
    }


def compiled(function):
    """Compiles in a quarter of the time what runs but once."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def apply(network: nn.Module, method: str | None, *inputs: np.ndarray) -> Any:
    """Applies a network with the parameters that belong to its names."""
    params = {"params": params_of(network.param_shapes())}
    apply = compiled(functools.partial(network.apply, method=method))
    with jax.default_matmul_precision("highest"):
        return apply(params, *inputs)
