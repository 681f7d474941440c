"""CLIP: one space for pictures and for what is said of them.

Axes: B batch, L text positions, S pixels a side, N patches, D width, P width of the common space.
Module names are those of the public checkpoints, so that weights find their place by name:
`text_model.encoder.layers.3.mlp.fc1` is `text_model/encoder/layers_3/mlp/fc1`.

| checkpoint | towers | activation |
| --- | --- | --- |
| ModelScope's text encoder (OpenCLIP ViT-H, 23 of 24 layers) | text, not projected | exact GELU |
| Stable Video Diffusion's image encoder (OpenCLIP ViT-H) | vision | exact GELU |
| OpenAI's ViT-B/32 and ViT-B/16 | both | x sigmoid(1.702 x) |

Sources: Radford et al. 2021 (CLIP); Cherti et al. 2023 (OpenCLIP); Gal et al. 2022 (StyleGAN-NADA,
the directional loss).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from render.transforms import safe_normalize

# Configurations of before transformers 4.31 name a wrong token; the end then has the largest id.
_LEGACY_EOS = 2


def quick_gelu(x: jax.Array) -> jax.Array:
    """The approximation of GELU that OpenAI's networks were trained with."""
    return x * nn.sigmoid(1.702 * x)


def exact_gelu(x: jax.Array) -> jax.Array:
    """GELU by the error function."""
    return nn.gelu(x, approximate=False)


ACTIVATIONS = {"gelu": exact_gelu, "quick_gelu": quick_gelu}


@dataclasses.dataclass(frozen=True)
class ClipTextConfig:
    """A text tower; fields and defaults are those of `config.json`."""

    vocab_size: int = 49408
    max_position_embeddings: int = 77
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    eos_token_id: int = 49407
    projection_dim: int | None = None  # None leaves the projection out

    @classmethod
    def from_json(cls, values: Mapping[str, Any], projection_dim: int | None = None) -> Self:
        """Takes what a `config.json` says of a text tower.

        Args:
          values: the configuration, or its part `text_config`.
          projection_dim: P, where the checkpoint projects; what `values` says of it is not to be
            trusted, as towers without a projection name one too.

        Raises:
          ValueError: when a value is none that these networks can have.
        """
        if values.get("use_attention_mask"):
            raise ValueError("expected a CLIP text tower without padding mask, found one with")
        return _read_config(cls, values, projection_dim)


@dataclasses.dataclass(frozen=True)
class ClipVisionConfig:
    """A vision tower; fields and defaults are those of `config.json`."""

    image_size: int = 224
    patch_size: int = 32
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    projection_dim: int | None = None  # None leaves the projection out

    @classmethod
    def from_json(cls, values: Mapping[str, Any], projection_dim: int | None = None) -> Self:
        """Takes what a `config.json` says of a vision tower; arguments as for the text tower."""
        if values.get("num_channels", 3) != 3:
            found = values["num_channels"]
            raise ValueError(f"expected a CLIP vision tower of 3 channels, found {found!r}")
        return _read_config(cls, values, projection_dim)


class TextFeatures(NamedTuple):
    states: jax.Array  # [B, L, D] after the last norm
    pooled: jax.Array  # [B, D] the state at the end of the text
    embedding: jax.Array | None  # [B, P] where there is a projection


class VisionFeatures(NamedTuple):
    states: jax.Array  # [B, 1 + N, D] class token, then patches row by row; not normed
    pooled: jax.Array  # [B, D] the normed class token
    embedding: jax.Array | None  # [B, P] where there is a projection


@struct.dataclass
class Tower:
    """A tower and its weights."""

    params: dict
    config: ClipTextConfig | ClipVisionConfig = struct.field(pytree_node=False)


@struct.dataclass
class Clip:
    """Both towers of a checkpoint; their embeddings share a space."""

    text: Tower
    vision: Tower


class _Attention(nn.Module):
    num_heads: int
    is_causal: bool

    @nn.compact
    def __call__(self, x):
        def project(name):
            return nn.Dense(x.shape[-1], name=name)(x).reshape(*x.shape[:2], self.num_heads, -1)

        # `jax.nn.dot_product_attention` has no float16 on a CPU.
        q, k, v = project("q_proj"), project("k_proj"), project("v_proj")
        logits = jnp.einsum("bqnd,bknd->bnqk", q * q.shape[-1] ** -0.5, k)
        if self.is_causal:
            logits = jnp.where(jnp.tri(x.shape[1], dtype=bool), logits, -jnp.inf)
        weights = nn.softmax(logits.astype(jnp.promote_types(x.dtype, jnp.float32)))
        mixed = jnp.einsum("bnqk,bknd->bqnd", weights.astype(v.dtype), v)
        return nn.Dense(x.shape[-1], name="out_proj")(mixed.reshape(x.shape))


class _Mlp(nn.Module):
    width: int
    activation: str

    @nn.compact
    def __call__(self, x):
        h = ACTIVATIONS[self.activation](nn.Dense(self.width, name="fc1")(x))
        return nn.Dense(x.shape[-1], name="fc2")(h)


class _Layer(nn.Module):
    config: ClipTextConfig | ClipVisionConfig
    is_causal: bool

    @nn.compact
    def __call__(self, x):
        config = self.config
        attention = _Attention(config.num_attention_heads, self.is_causal, name="self_attn")
        x = x + attention(_norm(config, "layer_norm1")(x))
        mlp = _Mlp(config.intermediate_size, config.hidden_act, name="mlp")
        return x + mlp(_norm(config, "layer_norm2")(x))


class _Encoder(nn.Module):
    config: ClipTextConfig | ClipVisionConfig
    is_causal: bool

    @nn.compact
    def __call__(self, x):
        for index in range(self.config.num_hidden_layers):
            x = _Layer(self.config, self.is_causal, name=f"layers_{index}")(x)
        return x


class _TextEmbeddings(nn.Module):
    config: ClipTextConfig

    @nn.compact
    def __call__(self, ids):
        config = self.config
        tokens = nn.Embed(config.vocab_size, config.hidden_size, name="token_embedding")
        positions = nn.Embed(
            config.max_position_embeddings, config.hidden_size, name="position_embedding"
        )
        return tokens(ids) + positions(jnp.arange(ids.shape[1]))


class _VisionEmbeddings(nn.Module):
    config: ClipVisionConfig

    @nn.compact
    def __call__(self, pixels):
        config, patch = self.config, (self.config.patch_size,) * 2
        embed = nn.Conv(
            config.hidden_size, patch, patch, "VALID", use_bias=False, name="patch_embedding"
        )
        patches = embed(pixels)
        patches = patches.reshape(len(pixels), -1, config.hidden_size)
        first = self.param("class_embedding", nn.initializers.normal(), (config.hidden_size,))
        first = jnp.broadcast_to(first, (len(pixels), 1, config.hidden_size))
        tokens = jnp.concatenate([first, patches], axis=1)
        positions = nn.Embed(tokens.shape[1], config.hidden_size, name="position_embedding")
        return tokens + positions(jnp.arange(tokens.shape[1]))


class _TextModel(nn.Module):
    config: ClipTextConfig

    @nn.compact
    def __call__(self, ids):
        x = _TextEmbeddings(self.config, name="embeddings")(ids)
        x = _Encoder(self.config, is_causal=True, name="encoder")(x)
        return _norm(self.config, "final_layer_norm")(x)


class _VisionModel(nn.Module):
    config: ClipVisionConfig

    @nn.compact
    def __call__(self, pixels):
        x = _VisionEmbeddings(self.config, name="embeddings")(pixels)
        x = _norm(self.config, "pre_layrnorm")(x)  # so spelt in the checkpoints
        x = _Encoder(self.config, is_causal=False, name="encoder")(x)
        return x, _norm(self.config, "post_layernorm")(x[:, 0])


class ClipTextTower(nn.Module):
    """The text tower: a pre-norm transformer in which no token sees a later one."""

    config: ClipTextConfig

    @nn.compact
    def __call__(self, ids: jax.Array) -> TextFeatures:
        """Returns the features of token ids [B, L], of which each row holds the end token."""
        config = self.config
        if ids.ndim != 2 or ids.shape[1] > config.max_position_embeddings:
            raise ValueError(
                f"expected [B, L] ids, L <= {config.max_position_embeddings}, found {ids.shape}"
            )
        # Accelerators' short products would change the third digit.
        with jax.default_matmul_precision("highest"):
            states = _TextModel(config, name="text_model")(ids)
            end = end_of_text(ids, config.eos_token_id)
            pooled = jnp.take_along_axis(states, end[:, None, None], axis=1)[:, 0]
            embedding = _project(config, "text_projection", pooled)
        return TextFeatures(states, pooled, embedding)

    def param_shapes(self) -> dict:
        """Returns the tree of its parameters' shapes and dtypes."""
        ids = jnp.zeros([1, self.config.max_position_embeddings], int)
        return jax.eval_shape(self.init, jax.random.key(0), ids)["params"]


class ClipVisionTower(nn.Module):
    """The vision tower: a vision transformer that speaks through its class token."""

    config: ClipVisionConfig

    @nn.compact
    def __call__(self, pixels: jax.Array) -> VisionFeatures:
        """Returns the features of pictures [B, S, S, 3] as `clip_images` prepares them."""
        side = self.config.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (side, side, 3):
            raise ValueError(f"expected pixels [B, {side}, {side}, 3], found {pixels.shape}")
        with jax.default_matmul_precision("highest"):
            states, pooled = _VisionModel(self.config, name="vision_model")(pixels)
            embedding = _project(self.config, "visual_projection", pooled)
        return VisionFeatures(states, pooled, embedding)

    def param_shapes(self) -> dict:
        """Returns the tree of its parameters' shapes and dtypes."""
        pixels = jnp.zeros([1, self.config.image_size, self.config.image_size, 3])
        return jax.eval_shape(self.init, jax.random.key(0), pixels)["params"]


def end_of_text(ids: jax.Array, eos_token_id: int) -> jax.Array:
    """Returns where [B] rows of ids [B, L] have their first end token."""
    return jnp.argmax(ids if eos_token_id == _LEGACY_EOS else ids == eos_token_id, axis=1)


@jax.jit
def text_states(tower: Tower, ids: jax.Array) -> jax.Array:
    """Returns the states [B, L, D] of token ids [B, L]: what ModelScope's network attends to."""
    return ClipTextTower(tower.config).apply({"params": tower.params}, ids).states


@jax.jit
def text_embedding(tower: Tower, ids: jax.Array) -> jax.Array:
    """Returns the embeddings [B, P] of token ids [B, L]; not of unit length."""
    _check_projected(tower)
    return ClipTextTower(tower.config).apply({"params": tower.params}, ids).embedding


@jax.jit
def image_embedding(tower: Tower, pixels: jax.Array) -> jax.Array:
    """Returns the embeddings [B, P] of prepared pictures [B, S, S, 3]; not of unit length."""
    _check_projected(tower)
    return ClipVisionTower(tower.config).apply({"params": tower.params}, pixels).embedding


def similarity_loss(image: jax.Array, text: jax.Array) -> jax.Array:
    """Returns 1 - cosine [...] of embeddings [..., P]: how badly a text describes a picture."""
    return 1.0 - jnp.sum(safe_normalize(image) * safe_normalize(text), axis=-1)


def directional_loss(
    edited: jax.Array, source: jax.Array, target_text: jax.Array, source_text: jax.Array
) -> jax.Array:
    """Returns 1 - cosine [...] between what changed in the picture and what changed in the text.

    Unlike `similarity_loss` it does not reward a picture for what it showed before. Where the
    picture is unchanged it is 1, and its gradient leads along the text's change.

    Args:
      edited: [..., P] embeddings of edited pictures.
      source: [..., P] of the pictures before.
      target_text: [..., P] of what the edit is to show.
      source_text: [..., P] of what the pictures showed before.
    """
    change = safe_normalize(edited) - safe_normalize(source)
    wanted = safe_normalize(target_text) - safe_normalize(source_text)
    return similarity_loss(change, wanted)


def _norm(config: ClipTextConfig | ClipVisionConfig, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=config.layer_norm_eps, use_fast_variance=False, name=name)


def _project(
    config: ClipTextConfig | ClipVisionConfig, name: str, pooled: jax.Array
) -> jax.Array | None:
    if config.projection_dim is None:
        return None
    return nn.Dense(config.projection_dim, use_bias=False, name=name)(pooled)


def _check_projected(tower: Tower) -> None:
    if tower.config.projection_dim is None:
        raise ValueError("expected a tower with a projection, found one without")


def _read_config(cls: type, values: Mapping[str, Any], projection_dim: int | None) -> Any:
    given = {}
    for field in dataclasses.fields(cls):
        if field.name == "projection_dim":
            continue
        value = given[field.name] = values.get(field.name, field.default)
        if field.type is str:
            is_known, wanted = value in tuple(ACTIVATIONS), " or ".join(ACTIVATIONS)
        else:
            number = (int,) if field.type is int else (int, float)
            is_known, wanted = type(value) in number and value > 0, "a positive number"
        if not is_known:
            raise ValueError(f"expected {field.name} of CLIP to be {wanted}, found {value!r}")
    if projection_dim is not None and not (type(projection_dim) is int and projection_dim > 0):
        raise ValueError(
            f"expected projection_dim of CLIP to be a positive number, found {projection_dim!r}"
        )
    config = cls(**given, projection_dim=projection_dim)
    if config.hidden_size % config.num_attention_heads:
        raise ValueError(
            f"expected hidden_size of CLIP to be a multiple of its {config.num_attention_heads} "
            f"heads, found {config.hidden_size}"
        )
    return config
