"""Neck and shoulders, hung under the edge of the head's neck, and the light that reaches them.

They follow the head as its cards do, by weights and offsets; the rings further down turn with the
body instead of the head.

Axes: R rings, E places along a ring, the last of them on the first (the seam, at the nape), B = R E
vertices, D directions. Units: metres, in the axes of the default head.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recon.morphable import MorphableModel
from recon.painting.surface import even_directions
from render import harmonics

# Half width; height at the side, front and back; depth at the side, front and back. Measured off
# drawings of an adult of the default head's size: nape, pit of the neck, shoulders, armpits.
_RINGS = np.array(
    [
        (0.053, -0.120, -0.139, -0.110, -0.028, 0.018, -0.079),
        (0.057, -0.134, -0.158, -0.122, -0.031, 0.011, -0.085),
        (0.069, -0.146, -0.175, -0.133, -0.036, 0.009, -0.093),
        (0.095, -0.159, -0.191, -0.146, -0.040, 0.020, -0.103),
        (0.132, -0.174, -0.212, -0.164, -0.044, 0.038, -0.113),
        (0.167, -0.191, -0.240, -0.190, -0.047, 0.055, -0.120),
        (0.192, -0.218, -0.272, -0.225, -0.049, 0.068, -0.124),
        (0.206, -0.262, -0.312, -0.272, -0.050, 0.077, -0.126),
        (0.212, -0.335, -0.365, -0.345, -0.050, 0.081, -0.126),
        (0.214, -0.460, -0.470, -0.460, -0.050, 0.081, -0.126),
    ]
)
_COLLAR = 0.012  # metres from the neck's edge to the ring that repeats its shape
_SQUARENESS = np.linspace(1.0, 0.72, len(_RINGS))  # exponents: a round neck, flat shoulders
_TURN = (0.0, 0.08, 0.3, 0.6, 0.85, 1.0)  # share of the body's turn; one further down
_PIVOT = np.array([0.0, -0.13, -0.035])
_FIRST_ON_RING = 4  # from here on a ring hangs on the whole edge, so that no vertex pulls it
_SHADED = 6  # rings that the shoulders shade from below
_OWN_LIGHT = 4  # rings until the light is the bust's own, not the head's
# A head's shadow: an ellipsoid for the skull and face, one for the neck.
_CASTERS = (
    (np.array([0.0, 0.01, 0.0]), np.array([0.078, 0.118, 0.1])),
    (np.array([0.0, -0.11, -0.03]), np.array([0.05, 0.08, 0.05])),
)
_NUM_DIRECTIONS = 128


@struct.dataclass
class Bust:
    """Neck and shoulders of the mean head, opaque."""

    anchors: jax.Array  # [B, 3] int32 vertices of the head
    weights: jax.Array  # [B, 3] sum to one
    offsets: jax.Array  # [B, 3]
    normals: jax.Array  # [B, 3]
    uvs: jax.Array  # [B, 2]: around from the nape, over the left; down to zero
    triangles: jax.Array  # [., 3] int32
    turn: jax.Array  # [B] share of the body's turn against the head
    edge: jax.Array  # [B] int32 vertex of the neck's edge above
    transfer: jax.Array  # [B, 9] as in `Looks`, of an adult's head
    own_light: jax.Array  # [B] share of `transfer`; the rest is the edge's


def build_bust(model: MorphableModel) -> Bust:
    """Hangs the rings under the longest open edge of the mean head, on the host."""
    mean = np.asarray(model.mean, np.float64)
    edge = _neck_edge(np.asarray(model.triangles), mean)
    rings = np.concatenate([_collar(mean[edge]), _rings(mean[edge])])
    num_rings, num_places, _ = rings.shape
    ring = np.repeat(np.arange(num_rings), num_places)
    own = np.tile(edge, num_rings)
    third = (num_places - 1) // 3
    spread = np.roll(edge[:-1], -third), np.roll(edge[:-1], -2 * third)
    spread = [np.tile(np.append(other, other[0]), num_rings) for other in spread]
    is_own = ring < _FIRST_ON_RING
    anchors = np.stack([own, *(np.where(is_own, own, other) for other in spread)], -1)
    weights = np.where(is_own[:, None], [1.0, 0.0, 0.0], 1 / 3)
    places = rings.reshape(-1, 3)
    normals = _normals(rings)
    uvs = np.stack(
        [
            np.tile(np.linspace(0, 1, num_places), num_rings),
            1 - ring / (num_rings - 1),
        ],
        -1,
    )
    turn = np.append(_TURN, np.ones(num_rings))[ring]
    own_light = np.clip(ring / _OWN_LIGHT, 0, 1)
    real = {
        "weights": weights,
        "offsets": places - np.einsum("bk,bkd->bd", weights, mean[anchors]),
        "normals": normals,
        "uvs": uvs,
        "turn": turn,
        "transfer": _transfer(places, normals, ring < _SHADED),
        "own_light": own_light,
    }
    whole = {"anchors": anchors, "triangles": _strips(num_rings, num_places), "edge": own}
    return Bust(
        **{name: jnp.asarray(value, jnp.float32) for name, value in real.items()},
        **{name: jnp.asarray(value, jnp.int32) for name, value in whole.items()},
    )


def bust_vertices(
    bust: Bust, head_vertices: jax.Array, body: jax.Array, width: jax.Array
) -> jax.Array:
    """Returns where neck and shoulders of a head are [B, 3].

    Args:
      bust: of the mean head.
      head_vertices: [V, 3].
      body: [3, 3] rotation of the body against the head.
      width: [] times the width of the shoulders.
    """
    places = jnp.einsum("bk,bkd->bd", bust.weights, head_vertices[bust.anchors]) + bust.offsets
    wide = 1.0 + (width - 1.0) * bust.turn
    places = places.at[:, 0].multiply(wide)
    pivot = jnp.asarray(_PIVOT, places.dtype)
    turned = (places - pivot) @ body.T + pivot
    return places + bust.turn[:, None] * (turned - places)


def _neck_edge(triangles: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The vertices of the longest open edge, from the nape around over the left, and back to it."""
    sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    known = set(map(tuple, sides.tolist()))
    follow = {a: b for a, b in known if (b, a) not in known}
    loops = []
    while follow:
        a, b = follow.popitem()
        loop = [a]
        while b != a:
            loop.append(b)
            b = follow.pop(b)
        loops.append(loop)
    loop = np.array(max(loops, key=len))
    return _from_nape(loop[np.argsort(_angles(mean[loop]))])


def _from_nape(loop: np.ndarray) -> np.ndarray:
    return np.append(loop, loop[0])


def _angles(edge: np.ndarray) -> np.ndarray:
    """Angles about the neck's axis, zero in front, growing to the subject's left."""
    middle = (edge.min(0) + edge.max(0)) / 2
    return np.arctan2(edge[:, 0] - middle[0], edge[:, 2] - middle[2])


def _collar(edge: np.ndarray) -> np.ndarray:
    """The edge itself, and its shape once more a little below [2, E, 3]."""
    return np.stack([edge, edge - [0.0, _COLLAR, 0.001]])


def _rings(edge: np.ndarray) -> np.ndarray:
    """The rings [R, E, 3] by `_RINGS`."""
    angle = _angles(edge)
    angle[-1] += 2 * np.pi
    rings = []
    for row, power in zip(_RINGS, _SQUARENESS, strict=True):
        width, *heights_and_depths = row
        y, y_front, y_back, z, z_front, z_back = heights_and_depths
        sine, cosine = np.sin(angle), np.cos(angle)
        along = np.sign(cosine) * np.abs(cosine) ** power
        is_front = cosine > 0
        rings.append(
            np.stack(
                [
                    width * np.sign(sine) * np.abs(sine) ** power,
                    y + np.where(is_front, y_front - y, y_back - y) * np.abs(cosine) ** 1.5,
                    z + np.where(is_front, z_front - z, z - z_back) * along,
                ],
                -1,
            )
        )
    return np.stack(rings)


def _strips(num_rings: int, num_places: int) -> np.ndarray:
    """Triangles between neighbouring rings, seen from outside."""
    corner = np.arange(num_rings * num_places).reshape(num_rings, num_places)
    a, b = corner[:-1, :-1].ravel(), corner[:-1, 1:].ravel()
    c, d = corner[1:, :-1].ravel(), corner[1:, 1:].ravel()
    return np.concatenate([np.stack([a, c, b], -1), np.stack([b, c, d], -1)])


def _normals(rings: np.ndarray) -> np.ndarray:
    """Unit normals [B, 3] by differences, the same on both sides of the seam."""
    closed = np.concatenate([rings[:, -2:-1], rings, rings[:, 1:2]], 1)
    around = closed[:, 2:] - closed[:, :-2]
    down = np.gradient(rings, axis=0)
    normals = np.cross(down, around).reshape(-1, 3)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def _transfer(places: np.ndarray, normals: np.ndarray, is_shaded: np.ndarray) -> np.ndarray:
    """Irradiance over pi for each harmonic of the light [B, 9], in the shadow of a head."""
    directions = even_directions(_NUM_DIRECTIONS)
    lit = np.ones((len(places), _NUM_DIRECTIONS))
    for middle, radii in _CASTERS:
        lit *= 1 - _hits(places, directions, middle, radii)
    above = np.clip((directions[:, 1] + 0.3) / 0.4, 0, 1)
    lit *= np.where(is_shaded[:, None], above, 1.0)
    lit *= np.maximum(normals @ directions.T, 0)
    return lit @ np.asarray(harmonics.basis(jnp.asarray(directions), 2)) * (4 / _NUM_DIRECTIONS)


def _hits(
    places: np.ndarray, directions: np.ndarray, middle: np.ndarray, radii: np.ndarray
) -> np.ndarray:
    """Whether rays [B, D] from outside of an ellipsoid hit it; rays from inside it do not."""
    start, step = (places - middle) / radii, directions / radii
    a, c = np.sum(step**2, -1), np.sum(start**2, -1) - 1
    b = start @ step.T
    return (c[:, None] > 0) & (b < 0) & (b**2 > a * c[:, None])
