"""Public pipelines of video diffusion as denoisers: what a text, or a picture, lets one expect.

| folder | pipeline | told | predicts |
| --- | --- | --- | --- |
| ModelScope, ZeroScope | TextToVideoSDPipeline | a text | the noise |
| Stable Video Diffusion | StableVideoDiffusionPipeline | the first picture | v, in the EDM form |

Each is read from the folder that diffusers writes. Clips are [T, H, W, 3] in [0, 1]; z [T, h, w, 4]
are their latents, an eighth as large and scaled to about unit variance. The autoencoder computes in
float32, the UNet in the dtype that its parameters were loaded in.

The full-size UNets have 1.4 and 1.5 billion parameters: they want an accelerator. On a CPU an
evaluation takes minutes.

Sources: Wang et al. 2023 (ModelScope), Blattmann et al. 2023 (Stable Video Diffusion).
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from models.diffusion.configs import ModelScopeConfig, SvdConfig, VaeConfig, VideoVaeConfig
from models.diffusion.denoiser import Denoiser, from_eps, from_v
from models.diffusion.guidance import encode_in_chunks
from models.diffusion.schedule import scaled_linear
from models.diffusion.unet_modelscope import ModelScopeUnet
from models.diffusion.unet_svd import SvdUnet
from models.diffusion.vae import Vae, VideoVae, current_name
from models.perception import clip, clip_images, clip_io, clip_tokens, clip_tokens_io
from models.weights import load_params, read_config
from render import files_io

# What diffusers takes where a scheduler says nothing.
_CHAIN = {"beta_start": 1e-4, "beta_end": 0.02, "num_train_timesteps": 1000}
_SCHEDULER_DEFAULTS = _CHAIN | {
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
    "timestep_type": "discrete",
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
}


@struct.dataclass
class ModelScopePrior:
    """ModelScope's pipeline; what `load_modelscope` reads."""

    unet: dict
    vae: dict
    text: clip.Tower
    alphas_cumprod: jax.Array  # [steps]
    unet_config: ModelScopeConfig = struct.field(pytree_node=False)
    vae_config: VaeConfig = struct.field(pytree_node=False)
    tokenize: Callable[[Sequence[str]], np.ndarray] = struct.field(pytree_node=False)

    def context(self, text: str) -> jax.Array:
        """Returns what the UNet is told of a text, [77, E]; of "" where it is told nothing."""
        return clip.text_states(self.text, self.tokenize([text]))[0]

    def encode(self, key: jax.Array, video: jax.Array, frames_at_once: int = 1) -> jax.Array:
        """Draws latents z of a clip.

        Args:
          key: of the draw.
          video: [T, H, W, 3] in [0, 1].
          frames_at_once: whose activations reverse mode keeps; has to divide T.
        """
        return _encode(key, Vae(self.vae_config), self.vae, video, frames_at_once)

    def decode(self, z: jax.Array) -> jax.Array:
        """Returns the clip [T, H, W, 3] of latents."""
        return _decode(Vae(self.vae_config), self.vae, z)

    def denoiser(self, context: jax.Array) -> Denoiser:
        """Returns the denoiser of latents of what a context [77, E] describes."""

        def predict(x: jax.Array, t: jax.Array) -> jax.Array:
            contexts = jnp.broadcast_to(context, (len(x), *context.shape))
            return _apply(ModelScopeUnet(self.unet_config), self.unet, x, t, contexts)

        return from_eps(predict, self.alphas_cumprod)


class SvdCondition(NamedTuple):
    """What Stable Video Diffusion is told of a picture."""

    context: jax.Array  # [1, E] its embedding
    latents: jax.Array  # [h, w, 4] the mode of its latents, which this network wants unscaled
    time_ids: jax.Array  # [3] frames a second minus one, motion bucket, noise on the picture

    def null(self) -> "SvdCondition":
        """Returns the condition that tells nothing of the picture."""
        nothing = map(jnp.zeros_like, (self.context, self.latents))
        return SvdCondition(*nothing, self.time_ids)


@struct.dataclass
class SvdPrior:
    """Stable Video Diffusion's pipeline; what `load_svd` reads."""

    unet: dict
    vae: dict
    image: clip.Tower
    unet_config: SvdConfig = struct.field(pytree_node=False)
    vae_config: VideoVaeConfig = struct.field(pytree_node=False)

    def condition(
        self,
        key: jax.Array,
        picture: jax.Array,
        frames_per_second: float = 7.0,
        motion_bucket: float = 127.0,
        noise: float = 0.02,
    ) -> SvdCondition:
        """Describes the picture that a clip starts with.

        Args:
          key: of the noise on the picture.
          picture: [H, W, 3] in [0, 1], as large as the clip.
          frames_per_second: of the clip.
          motion_bucket: how much moves; training had 1 to 255.
          noise: standard deviation of the noise on the picture, which is in [-1, 1].
        """
        pixels = clip_images.svd_pixels(picture, self.image.config.image_size)
        noisy = 2.0 * picture - 1.0 + noise * jax.random.normal(key, picture.shape)
        latents = VideoVae(self.vae_config).apply(
            {"params": self.vae}, noisy[None, None], method="encode"
        )
        return SvdCondition(
            context=clip.image_embedding(self.image, pixels[None]),
            latents=latents.mean[0, 0],
            time_ids=jnp.array([frames_per_second - 1.0, motion_bucket, noise]),
        )

    def encode(self, key: jax.Array, video: jax.Array, frames_at_once: int = 1) -> jax.Array:
        """Draws latents z of a clip, as ModelScope's pipeline does."""
        return _encode(key, VideoVae(self.vae_config), self.vae, video, frames_at_once)

    def decode(self, z: jax.Array) -> jax.Array:
        """Returns the clip [T, H, W, 3] of latents."""
        return _decode(VideoVae(self.vae_config), self.vae, z)

    def denoiser(self, condition: SvdCondition) -> Denoiser:
        """Returns the denoiser of latents of clips that start with a picture."""

        def predict(x: jax.Array, c_noise: jax.Array) -> jax.Array:
            beside = jnp.broadcast_to(condition.latents, x.shape)
            told = [
                jnp.broadcast_to(part, (len(x), *part.shape))
                for part in (condition.context, condition.time_ids)
            ]
            x = jnp.concatenate([x, beside], -1)
            return _apply(SvdUnet(self.unet_config), self.unet, x, c_noise, *told)

        return from_v(predict)


def load_modelscope(folder: str | os.PathLike, dtype: Any = jnp.float32) -> ModelScopePrior:
    """Loads ModelScope's pipeline.

    Args:
      folder: as diffusers writes it, with `model_index.json`.
      dtype: of the UNet and the text tower.

    Raises:
      ValueError: when something in it is missing, broken or of another pipeline; names the file.
    """
    folder = _pipeline(folder, "TextToVideoSDPipeline")
    alphas_cumprod = _read_chain(folder)
    unet_config, unet = _load(folder / "unet", ModelScopeConfig, ModelScopeUnet, dtype)
    vae_config, vae = _load(folder / "vae", VaeConfig, Vae, jnp.float32, current_name)
    text = clip_io.load_text_tower(folder / "text_encoder", dtype)
    tokenizer = clip_tokens_io.load_tokenizer(folder / "tokenizer")
    _require(
        folder / "unet" / "config.json",
        dataclasses.asdict(unet_config),
        in_channels=vae_config.latent_channels,
        out_channels=vae_config.latent_channels,
        cross_attention_dim=text.config.hidden_size,
    )
    return ModelScopePrior(
        unet=unet,
        vae=vae,
        text=text,
        alphas_cumprod=alphas_cumprod,
        unet_config=unet_config,
        vae_config=vae_config,
        tokenize=functools.partial(clip_tokens.tokenize, tokenizer),
    )


def load_svd(folder: str | os.PathLike, dtype: Any = jnp.float32) -> SvdPrior:
    """Loads Stable Video Diffusion's pipeline; arguments and errors as of `load_modelscope`."""
    folder = _pipeline(folder, "StableVideoDiffusionPipeline")
    path, settings = _read_scheduler(folder)
    _require(path, settings, prediction_type="v_prediction", timestep_type="continuous")
    unet_config, unet = _load(folder / "unet", SvdConfig, SvdUnet, dtype)
    vae_config, vae = _load(folder / "vae", VideoVaeConfig, VideoVae, jnp.float32, current_name)
    image = clip_io.load_vision_tower(folder / "image_encoder", dtype)
    _require(
        folder / "unet" / "config.json",
        dataclasses.asdict(unet_config),
        in_channels=2 * vae_config.latent_channels,
        out_channels=vae_config.latent_channels,
        cross_attention_dim=image.config.projection_dim,
    )
    return SvdPrior(unet=unet, vae=vae, image=image, unet_config=unet_config, vae_config=vae_config)


def _encode(
    key: jax.Array, network: VideoVae, params: dict, video: jax.Array, frames_at_once: int
) -> jax.Array:
    """Draws latents z of a clip; reverse mode keeps `frames_at_once` frames' activations."""

    def moments(frames: jax.Array) -> jax.Array:
        latents = network.apply({"params": params}, 2.0 * frames[None] - 1.0, method="encode")
        return jnp.concatenate(latents, -1)[0]

    mean, log_variance = jnp.split(encode_in_chunks(moments, video, frames_at_once), 2, -1)
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    return network.config.scaling_factor * (mean + jnp.exp(0.5 * log_variance) * noise)


def _decode(network: VideoVae, params: dict, z: jax.Array) -> jax.Array:
    scaled = z[None] / network.config.scaling_factor
    pictures = network.apply({"params": params}, scaled, method="decode")[0]
    return jnp.clip(0.5 * pictures + 0.5, 0.0, 1.0)


def _apply(unet: nn.Module, params: dict, x: jax.Array, *conditions: jax.Array) -> jax.Array:
    """Evaluates a UNet in its parameters' dtype, for an `x` of any."""
    dtype = jax.tree.leaves(params)[0].dtype
    return unet.apply({"params": params}, x.astype(dtype), *conditions).astype(x.dtype)


def _load(
    folder: pathlib.Path, config: type, network: type, dtype: Any, rename: Callable = str
) -> tuple[Any, dict]:
    """Loads the settings and the parameters of a network."""
    settings = read_config(folder, config.from_json)
    return settings, load_params(folder, network(settings).param_shapes(), dtype, rename)


def _pipeline(folder: str | os.PathLike, class_name: str) -> pathlib.Path:
    """Refuses a folder that holds another pipeline."""
    path = pathlib.Path(folder) / "model_index.json"
    _require(path, files_io.read_object(path, "a pipeline"), _class_name=class_name)
    return path.parent


def _read_scheduler(folder: pathlib.Path) -> tuple[pathlib.Path, dict[str, Any]]:
    path = folder / "scheduler" / "scheduler_config.json"
    return path, _SCHEDULER_DEFAULTS | files_io.read_object(path, "the settings of a scheduler")


def _read_chain(folder: pathlib.Path) -> jax.Array:
    """Reads abar [steps] of the chain that a network which predicts noise was trained on."""
    path, settings = _read_scheduler(folder)
    unsupported = {"trained_betas": None, "rescale_betas_zero_snr": False}
    _require(
        path, settings, beta_schedule="scaled_linear", prediction_type="epsilon", **unsupported
    )
    first, last, steps = (settings[name] for name in _CHAIN)
    are_numbers = all(type(value) in (int, float) for value in (first, last))
    if not (are_numbers and 0.0 < first < last < 1.0 and type(steps) is int and steps > 1):
        found = f"{first!r}, {last!r}, {steps!r}"
        raise ValueError(f"expected {', '.join(_CHAIN)} of a chain, found {found} in {path}")
    return scaled_linear(first, last, steps)


def _require(path: pathlib.Path, values: Mapping[str, Any], **expected: Any) -> None:
    """Refuses settings that are not as the rest of a pipeline needs them."""
    for name, value in expected.items():
        if values.get(name) != value:
            found = values.get(name)
            raise ValueError(f"expected {name} to be {value!r}, found {found!r} in {path}")
