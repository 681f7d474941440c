"""One style of hair on the host: its cards, and points spread over them.

Axes: N vertices and T triangles of a style, P points, V vertices of the head.
"""

from typing import NamedTuple

import numpy as np

from recon.looks.look import Looks

TEXTURE_SIDE = 512  # of the textures of hair
_OPAQUE = 100  # alpha in [0, 255]
_PLASTIC = np.array([0.7548776662, 0.5698402910])  # Roberts 2018: an even sequence in the plane


class StyleCards(NamedTuple):
    """One style's cards, on the host."""

    anchors: np.ndarray  # [N, 3]
    weights: np.ndarray  # [N, 3]
    offsets: np.ndarray  # [N, 3]
    uvs: np.ndarray  # [N, 2]
    triangles: np.ndarray  # [T, 3]
    texture: np.ndarray  # [512, 512, 2] luminance, alpha in [0, 255]
    transfer: np.ndarray  # [N, 9]


def style_cards(looks: Looks, number: int) -> StyleCards:
    """Fetches one style to the host."""
    own = slice(*looks.card_vertex_start[number : number + 2])
    triangles = slice(*looks.card_triangle_start[number : number + 2])
    fields = (looks.card_anchors, looks.card_weights, looks.card_offsets, looks.card_uvs)
    return StyleCards(
        *(np.asarray(field)[own] for field in fields),
        triangles=np.asarray(looks.card_triangles)[triangles],
        texture=np.asarray(looks.hair_textures)[number],
        transfer=np.asarray(looks.hair_transfer)[own],
    )


class CardSamples(NamedTuple):
    """Points on cards, evenly spread."""

    corners: np.ndarray  # [P, 3] vertices around each
    weights: np.ndarray  # [P, 3] barycentric

    def of(self, values: np.ndarray) -> np.ndarray:
        """Values [P, D] at the points of vertices that have them [N, D]."""
        return np.einsum("pk,pkd->pd", self.weights, values[self.corners])


def sample_cards(cards: StyleCards, places: np.ndarray, spacing: float) -> CardSamples:
    """Spreads points over cards whose vertices are at `places` [N, 3], some `spacing` apart."""
    corners = places[cards.triangles]
    area = np.linalg.norm(np.cross(*(corners[:, k] - corners[:, 0] for k in (1, 2))), axis=1) / 2
    count = np.ceil(area / spacing**2).astype(int)
    triangle = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(triangle)) - np.repeat(np.cumsum(count) - count, count)
    u, v = ((within[:, None] + 1) * _PLASTIC % 1.0).T
    is_over = u + v > 1
    u, v = np.where(is_over, 1 - u, u), np.where(is_over, 1 - v, v)
    return CardSamples(cards.triangles[triangle], np.stack([1 - u - v, u, v], 1))


def opaque_points(
    cards: StyleCards, base: np.ndarray, spacing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points where cards are opaque: on the head and offset from there [P, 3] each."""
    samples = sample_cards(cards, base + cards.offsets, spacing)
    column, row = texels_of(samples.of(cards.uvs), TEXTURE_SIDE)
    counts = cards.texture[row, column, 1] > _OPAQUE
    samples = CardSamples(samples.corners[counts], samples.weights[counts])
    return samples.of(base), samples.of(cards.offsets)


def rooted_on(cards: StyleCards, head: np.ndarray) -> np.ndarray:
    """Where on a head [V, 3] the vertices [N, 3] of cards are rooted."""
    return np.einsum("nk,nkd->nd", cards.weights, head[cards.anchors])


def texels_of(uvs: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Column and row [N] of texture coordinates [N, 2] in a picture."""
    return tuple(np.clip((uvs * [1, -1] + [0, 1]) * side, 0, side - 1).astype(int).T)
