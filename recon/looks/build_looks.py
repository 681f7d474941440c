"""Builds the looks of the default head: MakeHuman's cards bound to it, its textures cut out.

MakeHuman hangs some hair and all lashes on helper vertices that the default head does not have,
and its helper hair does not follow the sliders of the skull. So every card is put where MakeHuman
puts it on the mean head, and bound anew: to the nearest point of the head's own skin, at a constant
offset. Cards that MakeHuman binds to the skin hardly move by that.

Axes: N vertices of the base mesh's crop, M vertices of a card, T triangles.
Units: metres, but for what is read, which is in decimetres.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from recon.default_head.build_head import RawMean, raw_mean_head
from recon.default_head.head_mesh import chart_map
from recon.default_head.makehuman_io import HeadData
from recon.looks.bake_light import bake_transfer
from recon.looks.look import Looks
from recon.looks.makehuman_looks_io import CardData, LooksData
from recon.morphable import MorphableModel
from recon.surface_distance import closest_points, triangle_tree

HELPERS = (  # groups of the base mesh that cards hang on
    "helper-hair",
    *(f"helper-{side}-eyelashes-{row}" for side in "lr" for row in (1, 2)),
)
# Vertices of the base mesh whose distances in x, y and z say how large a body is to its clothes.
_SIZE_VERTICES = ((5399, 11998), (791, 881), (962, 5320))
_STILL = 0.6e-3  # hair hangs on skin that no expression at 1 moves further: it would follow the jaw
_HIDDEN = ("eyeballs", "sockets", "inner_mouth", "mouth_plug")
_LUMA = (0.299, 0.587, 0.114)
_DENSE = 127  # alpha of a card's middle from which it throws a shadow


class BoundCard(NamedTuple):
    """A card on the default head; a vertex for each pair of place and texture coordinate."""

    anchors: np.ndarray  # [M, 3]
    weights: np.ndarray  # [M, 3]
    offsets: np.ndarray  # [M, 3]
    uvs: np.ndarray  # [M, 2]
    triangles: np.ndarray  # [T, 3]


def build_looks(model: MorphableModel, head: HeadData, data: LooksData) -> Looks:
    """Builds the looks.

    Args:
      model: the default head.
      head: what it is made of, read with `HELPERS`.
      data: skins, eyes and cards.

    Raises:
      ValueError: the model is not made of that head.
    """
    mean = np.asarray(model.mean, np.float64)
    raw = raw_mean_head(head)
    if raw.mesh.mix.shape[0] != len(mean) or not np.allclose(_mean_of(raw), mean, atol=1e-6):
        raise ValueError("expected the default head as its script builds it, found another mean")
    cards = [bind_card(model, card, place_card(card, raw, head.numbers)) for card in data.cards]
    is_hair = [card.kind == "hair" for card in data.cards]
    hair_textures = [_luminance(card.texture) for card in data.cards if card.kind == "hair"]
    head_transfer, hair_transfer = _bake(model, cards[: sum(is_hair)], hair_textures)
    names = {
        kind: tuple(card.name for card in data.cards if card.kind == kind)
        for kind in ("hair", "brow", "lash")
    }
    rows = BoundCard(*(np.concatenate(field) for field in zip(*cards, strict=True)))
    low, high = np.array(data.skin_box[:2]), np.array(data.skin_box[2:])
    return Looks(
        skins=jnp.asarray(data.skins),
        skin_window=jnp.asarray(np.concatenate(chart_map(np.stack([low, high]))), jnp.float32),
        eyes=jnp.asarray(data.eyes),
        card_anchors=jnp.asarray(rows.anchors, jnp.int32),
        card_weights=jnp.asarray(rows.weights, jnp.float32),
        card_offsets=jnp.asarray(rows.offsets, jnp.float32),
        card_uvs=jnp.asarray(rows.uvs, jnp.float32),
        card_triangles=jnp.asarray(rows.triangles, jnp.int32),
        hair_textures=jnp.asarray(np.stack(hair_textures)),
        small_textures=jnp.asarray(
            np.stack([card.texture[..., 3] for card in data.cards if card.kind != "hair"])
        ),
        head_transfer=jnp.asarray(head_transfer, jnp.float32),
        hair_transfer=jnp.asarray(hair_transfer, jnp.float32),
        card_vertex_start=_starts([len(card.anchors) for card in cards]),
        card_triangle_start=_starts([len(card.triangles) for card in cards]),
        skin_names=tuple(data.skin_names),
        eye_names=tuple(data.eye_names),
        hair_names=names["hair"],
        brow_names=names["brow"],
        lash_names=names["lash"],
    )


def _mean_of(raw: RawMean) -> np.ndarray:
    return raw.scale * (raw.mesh.mix @ raw.vertices - raw.middle)


def _starts(lengths: list[int]) -> tuple[int, ...]:
    return tuple(int(start) for start in np.cumsum([0, *lengths]))


def place_card(card: CardData, raw: RawMean, numbers: np.ndarray) -> np.ndarray:
    """Puts a card [M, 3] on a raw head by MakeHuman's own rule, in the model's frame.

    Args:
      card: as MakeHuman binds it.
      raw: a head whose vertices may be others than the mean's.
      numbers: [N] of its vertices in the base mesh.
    """
    row = np.full(numbers.max() + 1, -1)
    row[numbers] = np.arange(len(numbers))
    size = [
        abs(raw.vertices[row[a], axis] - raw.vertices[row[b], axis])
        for axis, (a, b) in enumerate(_SIZE_VERTICES)
    ]
    on_body = np.einsum("mk,mkd->md", card.weights, raw.vertices[row[card.refs]])
    places = on_body + card.offsets * np.divide(size, card.body)
    return raw.scale * (places - raw.middle)


def bind_card(model: MorphableModel, card: CardData, places: np.ndarray) -> BoundCard:
    """Binds a card to the nearest skin of the model's mean.

    Args:
      model: the default head.
      card: its kind, triangles and texture coordinates.
      places: [M, 3] of its vertices on the mean head.
    """
    mean, triangles = np.asarray(model.mean, np.float64), np.asarray(model.triangles)
    hidden = sum(np.asarray(model.regions[name]) for name in _HIDDEN) > 0.5
    skin = triangles[~hidden[triangles].any(1)]
    if card.kind == "hair":
        moves = np.linalg.norm(np.asarray(model.expression_basis, np.float64), axis=1).max(1)
        skin = skin[(moves[skin] < _STILL).all(1)]
    closest = closest_points(triangle_tree(mean, skin), places)
    pairs, index = np.unique(card.corners.reshape(-1, 2), axis=0, return_inverse=True)
    vertex, uv = pairs.T
    return BoundCard(
        anchors=skin[closest.triangle][vertex],
        weights=closest.weights[vertex],
        offsets=(places - closest.point)[vertex],
        uvs=card.uvs[uv],
        triangles=index.reshape(-1, 3),
    )


def _luminance(texture: np.ndarray) -> np.ndarray:
    """Luminance and alpha [H, W, 2] of a texture [H, W, 4], whose colour is to be chosen."""
    light = texture[..., :3] @ np.array(_LUMA)
    return np.stack([light, texture[..., 3]], -1).round().astype(np.uint8)


def _bake(
    model: MorphableModel, hair: list[BoundCard], textures: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The light that reaches head [1 + H, V, 9] and hair [N of hair, 9]."""
    mean = np.asarray(model.mean, np.float64)
    nothing = np.zeros((0, 3))
    bald = bake_transfer(model, nothing, nothing.astype(int), np.zeros(0, bool))
    heads, cards = [bald], []
    for card, texture in zip(hair, textures, strict=True):
        places = np.einsum("mk,mkd->md", card.weights, mean[card.anchors]) + card.offsets
        middle = card.uvs[card.triangles].mean(1) * [1, -1] + [0, 1]
        column, row = (np.clip(middle, 0, 0.999) * len(texture)).astype(int).T
        transfer = bake_transfer(model, places, card.triangles, texture[row, column, 1] > _DENSE)
        heads.append(transfer[: len(mean)])
        cards.append(transfer[len(mean) :])
    return np.stack(heads), np.concatenate(cards)
