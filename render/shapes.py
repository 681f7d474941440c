"""Splats made from nothing, for scenes without a capture: a beach ball, a cube."""

import numpy as np

from render import harmonics
from render.gaussians import Gaussians

NAMES = ("ball", "cube")
_SPACING = 0.035  # of the shape's half side
_OPAQUE = 4.0  # logit
_COLORS = np.array([[0.86, 0.22, 0.20], [0.96, 0.93, 0.86], [0.18, 0.42, 0.72], [0.97, 0.76, 0.25]])
_SUN = np.array([0.4, -0.5, 0.77])


def shape(name: str) -> Gaussians:
    """Returns the shell of a shape of side two about the origin, z up, in wedges of colour."""
    line = np.arange(-1.0 + _SPACING / 2, 1.0, _SPACING)
    places = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    radius = np.linalg.norm(places, axis=-1)
    depth = 1.0 - (radius if name == "ball" else np.abs(places).max(-1))
    # Only the shell is drawn; what is inside is filled in by the scene.
    places = places[(depth > 0) & (depth < 2.2 * _SPACING)]
    turn = np.arctan2(places[:, 1], places[:, 0]) / (2 * np.pi) % 1.0
    color = _COLORS[np.floor(8 * turn).astype(int) % len(_COLORS)]
    cap = np.abs(places[:, 2]) > 0.93 * np.abs(places[:, 2]).max()
    color = np.where(cap[:, None], _COLORS[1], color)
    normals = places / np.linalg.norm(places, axis=-1, keepdims=True)
    light = 0.75 + 0.25 * np.clip(normals @ _SUN, -1.0, 1.0)
    color = np.clip(light[:, None] * color, 0.0, 1.0)
    scales = np.full((len(places), 3), np.log(0.6 * _SPACING))
    return Gaussians(
        means=np.float32(places),
        quats=np.tile(np.float32([1, 0, 0, 0]), (len(places), 1)),
        log_scales=np.float32(scales),
        logit_opacities=np.full(len(places), _OPAQUE, np.float32),
        harmonics=np.float32((color[:, None] - 0.5) / harmonics.CONSTANT),
    )
