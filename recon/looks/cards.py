"""Hair, brows and lashes as cards, all styles padded to one size, bound to a head by one rule.

Axes: N vertices and T triangles of the cards that one head wears; H, B, L styles of hair, brows and
lashes. Units: metres.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recon.looks.look import Looks

HAIR, BROW, LASH = range(3)  # kinds


@struct.dataclass
class Cards:
    """Alpha-textured, two-sided triangles; those that only fill up have three equal corners."""

    anchors: jax.Array  # [N, 3] int32 vertices of the head
    weights: jax.Array  # [N, 3] sum to one
    offsets: jax.Array  # [N, 3]
    uvs: jax.Array  # [N, 2] in the card's own texture, v up
    triangles: jax.Array  # [T, 3] int32
    kind: jax.Array  # [N] int32 HAIR, BROW or LASH


@struct.dataclass
class Wardrobe:
    """The cards of all styles: `Cards` with a leading axis."""

    hair: Cards  # [H + 1, ...]; the last, which is number -1, is bald
    brows: Cards  # [B, ...]
    lashes: Cards  # [L, ...]
    hair_transfer: jax.Array  # [H + 1, N of hair, 9] of `Looks`, padded as the hair is


def build_wardrobe(looks: Looks) -> Wardrobe:
    """Pads every style of a kind to the largest, on the host."""
    count = np.cumsum((0, len(looks.hair_names), len(looks.brow_names), len(looks.lash_names)))
    hair, brows, lashes = (
        _stacked(looks, count[kind], count[kind + 1], kind) for kind in (HAIR, BROW, LASH)
    )
    transfer = _padded(looks.hair_transfer, looks.card_vertex_start[: count[1] + 1])
    hair, transfer = jax.tree.map(_with_none, (hair, transfer))
    return jax.tree.map(jnp.asarray, Wardrobe(hair, brows, lashes, transfer))


def _stacked(looks: Looks, first: int, end: int, kind: int) -> Cards:
    vertices = looks.card_vertex_start[first : end + 1]
    anchors = _padded(looks.card_anchors, vertices)
    return Cards(
        anchors=anchors,
        weights=_padded(looks.card_weights, vertices),
        offsets=_padded(looks.card_offsets, vertices),
        uvs=_padded(looks.card_uvs, vertices),
        triangles=_padded(looks.card_triangles, looks.card_triangle_start[first : end + 1]),
        kind=np.full(anchors.shape[:2], kind, np.int32),
    )


def _with_none(styles: np.ndarray) -> np.ndarray:
    """Adds one of zeros to styles [H, ...]: all its corners are one."""
    return np.concatenate([styles, np.zeros_like(styles[:1])])


def _padded(rows: jax.Array, starts: tuple[int, ...]) -> np.ndarray:
    """Cuts `rows` at `starts` into pieces, and pads each with zeros to the longest."""
    rows = np.asarray(rows)
    lengths = np.diff(starts)
    padded = np.zeros((len(lengths), lengths.max(), *rows.shape[1:]), rows.dtype)
    for piece, start, length in zip(padded, starts, lengths, strict=False):
        piece[:length] = rows[start : start + length]
    return padded


def wear(wardrobe: Wardrobe, hair: jax.Array, brow: jax.Array, lash: jax.Array) -> Cards:
    """Returns the cards of one head: brows, lashes, then hair, so that hair may be cut off.

    Args:
      wardrobe: from `build_wardrobe`.
      hair, brow, lash: [] numbers of the styles, which may be traced; hair -1 is bald.
    """
    worn = [
        jax.tree.map(lambda leaf, i=i: leaf[i], styles)
        for styles, i in ((wardrobe.brows, brow), (wardrobe.lashes, lash), (wardrobe.hair, hair))
    ]
    first = np.cumsum([0, *(cards.anchors.shape[0] for cards in worn)])
    worn = [
        cards.replace(triangles=cards.triangles + int(start))
        for cards, start in zip(worn, first, strict=False)
    ]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *worn)


def card_vertices(cards: Cards, head_vertices: jax.Array, hair_scale: jax.Array) -> jax.Array:
    """Returns where the cards hang on a head [N, 3].

    Linear in the head, and so in its identity and expression; linear in the scale.

    Args:
      cards: of that head.
      head_vertices: [V, 3].
      hair_scale: [] times the offsets of the hair, not of brows and lashes.
    """
    scale = jnp.where(cards.kind == HAIR, hair_scale, 1.0)[:, None]
    on_skin = jnp.einsum("nk,nkd->nd", cards.weights, head_vertices[cards.anchors])
    return on_skin + scale * cards.offsets
