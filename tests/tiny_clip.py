"""Small towers of CLIP with made-up weights, their inputs, and what public ones are made of."""

import numpy as np
import tiny_networks as tiny
from flax import linen as nn

from models.perception.clip import ClipTextConfig, ClipTextTower, ClipVisionConfig, ClipVisionTower

TEXT = {
    "vocab_size": 41,
    "max_position_embeddings": 9,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "layer_norm_eps": 1e-5,
    "eos_token_id": 40,
}
VISION = {
    "image_size": 12,
    "patch_size": 4,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "layer_norm_eps": 1e-5,
}
WIDTH = 6  # P


def text_tower(width: int | None = WIDTH, **changes) -> ClipTextTower:
    return ClipTextTower(ClipTextConfig.from_json(TEXT | changes, width))


def vision_tower(width: int | None = WIDTH, **changes) -> ClipVisionTower:
    return ClipVisionTower(ClipVisionConfig.from_json(VISION | changes, width))


def ids(batch: int = 3) -> np.ndarray:
    """Token ids [B, L] whose ends, of the largest id, stand at different places."""
    rows = np.random.default_rng(0).integers(1, 39, (batch, TEXT["max_position_embeddings"]))
    rows[:, 0] = 39
    for row, end in enumerate(range(3, 3 + batch)):
        rows[row, end:] = (40, 0)[row % 2]  # padded with the end or with something else
        rows[row, end] = 40
    return rows


def pixels(side: int = VISION["image_size"]) -> np.ndarray:
    """Pixels [2, S, S, 3]."""
    return tiny.noise("pixels", (2, side, side, 3))


def cases() -> list[tuple[str, nn.Module, np.ndarray]]:
    """Towers with their inputs, of which numbers are kept."""
    return [
        ("text", text_tower(hidden_act="quick_gelu"), ids()),
        ("vision", vision_tower(hidden_act="gelu"), pixels()),
    ]
