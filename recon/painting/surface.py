"""The refined mesh of a model and what painting has to know of it; no photo enters here.

Axes: V vertices of the refined mesh, V0 of the model's own (the first of V), E edges, D directions.
Places on the head are given in outer eye distances from the middle of the eyes of the mean head:
x to the subject's left, y up, z forwards. Region membership and openness are in [0, 1].
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from scipy import sparse, spatial

from recon.morphable import MorphableModel
from render.mesh import Subdivision, apply, loop_subdivision, vertex_normals
from render.transforms import safe_normalize

PARTS = ("face", "ears", "skull", "neck", "lips", "eyelids", "eyeballs", "sockets", "inner_mouth")
_FEATURES = ("lips", "eyelids", "eyeballs", "inner_mouth")
_MAX_LEVELS = 2  # of subdivision; a third one shows in no picture
_EYE_CORNERS = (36, 45)
_SKY_DIRECTIONS = 64
_SKY_CELLS = 100  # across the head: about 3 mm each


@struct.dataclass
class Surface:
    """A refined mesh."""

    subdivision: Subdivision
    edges: jax.Array  # [E, 2] int32
    stiffness: jax.Array  # [E] how much an edge ties its ends
    coarse_edges: jax.Array  # the same of the model's own mesh
    coarse_stiffness: jax.Array
    edge_length: jax.Array  # [] median, metres
    mirror: jax.Array  # [V] int32 the vertex on the other side
    parts: dict[str, jax.Array]  # name -> [V] membership; all of `PARTS`
    place: jax.Array  # [V, 3] of the mean head
    openness: jax.Array  # [V] share of an overcast sky that the mean head leaves visible
    eye_distance: jax.Array  # [] between the outer corners of the mean head, metres
    levels: int = struct.field(pytree_node=False)
    num_coarse: int = struct.field(pytree_node=False)  # V0


def refine(model: MorphableModel, max_vertices: int) -> Surface:
    """Subdivides the model's mesh, to no more than about `max_vertices`, and measures it."""
    num_coarse = model.mean.shape[0]
    levels = 0
    while levels < _MAX_LEVELS and num_coarse * 4 ** (levels + 1) <= max_vertices:
        levels += 1
    subdivision = loop_subdivision(np.asarray(model.triangles), num_coarse, levels)
    mean = apply(subdivision, model.mean)
    edges, lengths = _edges(mean, subdivision.triangles)
    coarse_edges, coarse_lengths = _edges(model.mean, model.triangles)
    corners = _eye_corners(model)
    eye_distance = jnp.linalg.norm(corners[0] - corners[1])
    middle = corners.mean(0)
    parts = {
        name: jnp.clip(apply(subdivision, membership[:, None])[:, 0], 0.0, 1.0)
        for name, membership in _parts(model, (model.mean - middle) / eye_distance).items()
    }
    return Surface(
        subdivision=subdivision,
        edges=jnp.asarray(edges, jnp.int32),
        stiffness=jnp.asarray(_stiffness(lengths), jnp.float32),
        coarse_edges=jnp.asarray(coarse_edges, jnp.int32),
        coarse_stiffness=jnp.asarray(_stiffness(coarse_lengths), jnp.float32),
        edge_length=jnp.asarray(np.median(lengths), jnp.float32),
        mirror=jnp.asarray(_mirror(mean), jnp.int32),
        parts=parts,
        place=(mean - middle) / eye_distance,
        openness=_openness(mean, subdivision.triangles),
        eye_distance=eye_distance,
        levels=levels,
        num_coarse=num_coarse,
    )


def on_host(surface: Surface) -> Surface:
    """Fetches a surface, once for all that look at it: NumPy arrays, floats as float64.

    Its parts have one more, "features": lips, lids, eyes and mouth together.
    """
    surface = jax.tree.map(_doubled, jax.device_get(surface))
    features = np.clip(sum(surface.parts[name] for name in _FEATURES), 0.0, 1.0)
    return surface.replace(parts=surface.parts | {"features": features})


def _doubled(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if np.issubdtype(array.dtype, np.floating) else array


def refinement(surface: Surface) -> sparse.csr_array:
    """The map [V, V0] from the model's own vertices to the refined; `surface` is on the host."""
    fine = surface.subdivision
    shape = fine.num_vertices, surface.num_coarse
    return sparse.csr_array((fine.weight, (fine.row, fine.column)), shape)


def ramp(x: np.ndarray, low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
    """Rises smoothly from 0 at `low` to 1 at `high`."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _edges(points: jax.Array, triangles: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """The edges [E, 2] of a mesh and their lengths [E]."""
    points, triangles = np.asarray(points, np.float64), np.asarray(triangles)
    edges = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1)
    edges = np.unique(edges, axis=0)
    return edges, np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)


def _stiffness(lengths: np.ndarray) -> np.ndarray:
    typical = np.median(lengths)
    return typical / np.maximum(lengths, 0.1 * typical)


def _eye_corners(model: MorphableModel) -> jax.Array:
    """Both outer corners [2, 3] of the mean head, guessed from its size if it does not say."""
    corners = np.asarray(model.landmark_vertices)[list(_EYE_CORNERS)]
    if corners.min() >= 0:
        return model.mean[corners]
    low, high = model.mean.min(0), model.mean.max(0)
    guess = jnp.array([[-0.25, 0.05, 0.3], [0.25, 0.05, 0.3]])  # of the default head
    return (low + high) / 2 + (high - low) * guess


def _parts(model: MorphableModel, place: jax.Array) -> dict[str, jax.Array]:
    """The regions [V0] that painting asks for, as far as the model has them; all else is face."""
    nothing = jnp.zeros(model.mean.shape[0])
    known = dict(model.regions or {})
    if "skull" not in known:
        known["skull"] = jnp.asarray(_guess_skull(np.asarray(place)), nothing.dtype)
        known["face"] = 1 - known["skull"]
    parts = {name: known.get(name, nothing) for name in PARTS}
    plug = known.get("mouth_plug", nothing)
    return parts | {"inner_mouth": jnp.maximum(parts["inner_mouth"], plug)}


def _guess_skull(place: np.ndarray) -> np.ndarray:
    """Where hair grows [V0]: above a plane from the forehead to the ears, and behind these."""
    x, y, z = place.T
    above = ramp(y - 1.1 - 1.25 * z, -0.1, 0.1) * ramp(y, -0.1, 0.1)
    behind = ramp(-z, 1.05, 1.25) * ramp(y, -0.7, -0.5)
    is_ear = (np.abs(x) > 0.88) & (y < 0.3)
    return np.maximum(above, behind) * ~is_ear


def _mirror(points: jax.Array) -> np.ndarray:
    """The vertex [V] nearest to the mirror image of each."""
    points = np.asarray(points, np.float64)
    return spatial.cKDTree(points).query(points * [-1.0, 1.0, 1.0])[1]


@jax.jit
def _openness(vertices: jax.Array, triangles: jax.Array) -> jax.Array:
    """How much of an overcast sky, brighter above, each vertex sees [V]; 1 in the open.

    A z-buffer of points, coarse enough to be closed, tells from each direction what is hidden.
    """
    normals = vertex_normals(vertices, triangles)
    points = jnp.concatenate([vertices, vertices[triangles].mean(1)])
    center, radius = points.mean(0), jnp.max(jnp.linalg.norm(points - points.mean(0), axis=1))
    cell = 2 * radius / _SKY_CELLS
    count = vertices.shape[0]
    skew = jnp.array([0.6, 0.0, 0.8], vertices.dtype)  # along no direction

    def add_direction(sums, direction):
        right = safe_normalize(jnp.cross(direction, skew))
        across = jnp.stack([right, jnp.cross(right, direction)], -1)
        column, row = ((points - center) @ across / cell + _SKY_CELLS / 2).astype(jnp.int32).T
        place = row * (_SKY_CELLS + 1) + column
        height = points @ direction
        top = jnp.full((_SKY_CELLS + 1) ** 2, -jnp.inf, height.dtype).at[place].max(height)

        cosine = jnp.clip(normals @ direction, 0.0, 1.0)
        slack = cell * (1 + jnp.sqrt(1 - cosine**2) / jnp.maximum(cosine, 0.1))
        is_lit = height[:count] + slack > top[place[:count]]
        light = cosine * (1.0 + 0.7 * direction[1])
        return (sums[0] + light * is_lit, sums[1] + light), None

    nothing = jnp.zeros(count, vertices.dtype)
    directions = jnp.asarray(even_directions(_SKY_DIRECTIONS), vertices.dtype)
    (seen, total), _ = jax.lax.scan(add_direction, (nothing, nothing), directions)
    return seen / jnp.maximum(total, 1e-6)


def even_directions(count: int) -> np.ndarray:
    """Fibonacci points [D, 3], even over the sphere."""
    k = np.arange(count) + 0.5
    height = 1 - 2 * k / count
    angle = np.pi * (1 + 5**0.5) * k
    flat = np.sqrt(1 - height**2)
    return np.stack([flat * np.cos(angle), height, flat * np.sin(angle)], -1)
