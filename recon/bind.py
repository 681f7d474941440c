"""Binds 3D Gaussians to the triangles of a head, so that they move and stretch with it.

  binding = bind(mesh, config)                    # once, on the host
  gaussians = bound_gaussians(binding, vertices)  # for any vertices of the same mesh

Each triangle of the rest shape is cut in halves until its pieces are small, and each piece becomes
one Gaussian: flat, where the piece is, as wide as the piece in every direction of its plane. With
E [3, 2] the edges of a triangle, S [2, 2] what the Gaussian keeps of its piece and t its thickness,
its covariance is E S E^T + t^2: a stretched triangle stretches its Gaussians.

Cards, such as hair is made of, are cut more coarsely, take their opacity from the texture and lie
where the mesh has them; what a card leaves empty gets no Gaussian.

Axes: V vertices, T triangles, B edges of the border, N Gaussians (pieces), M harmonics.

Sources: Qian et al. 2024 (GaussianAvatars, splats in the frames of a head's triangles); Duff et
al. 2017 (the frame of a normal without trigonometry).
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from scipy import spatial

from render import harmonics
from render.gaussians import Gaussians
from render.image import sample_texture
from render.mesh import Mesh, face_normals, vertex_normals
from render.program_io import kept
from render.rasterize import RenderConfig
from render.transforms import safe_norm, safe_normalize

# The variance of a triangle's area, in coordinates along two of its edges.
_TRIANGLE = np.array([[2.0, -1.0], [-1.0, 2.0]]) / 36.0
_BASE = np.array(RenderConfig.base_color)
# `render_mesh` shades by 0.2 + 0.8 |cosine with the camera's axis|. Seen through a portrait lens, a
# head's outline is some degrees off the axis; with the cosine of the ray itself this comes nearest.
_AMBIENT = 0.4
_MEAN_COSINE = 0.7
_FADE = 0.003, 0.008  # metres from the border
_MAX_RATE = 8  # 64 looks at the texture for each piece


@dataclasses.dataclass(frozen=True)
class BindConfig:
    """Settings of `bind`, chosen for the turntable of a painted head, 512 pixels a side."""

    max_edge: float = 1.5e-3  # metres, three pixels there; longer triangles are cut
    max_gaussians: int = 200_000  # or as many as there are triangles; 11 MB as .ply
    spread: float = 2.2  # standard deviation over that of the piece; 2 lets light through in dots
    opacity: float = 0.99  # 0.8 shows the back of the head through the face
    thickness: float = 2e-5  # metres; 1e-4 costs 1 dB at the outline
    # Metres under the surface. A renderer widens each Gaussian by about half a pixel, and where
    # many overlap at the outline their sum by more than one: 28 dB without, 38 dB with. Less suits
    # larger pictures, more suits smaller ones.
    inset: float = 6e-4
    # Of cards: long hair would take 250,000 pieces of 2 mm.
    card_edge: float = 4e-3  # metres
    max_card_gaussians: int = 80_000  # or as many as there are triangles
    overlap: float = 4.0  # pieces over each point, which together let through what the card does
    least_alpha: float = 0.08  # pieces that cover less are left out


@struct.dataclass
class Binding:
    """Gaussians in the coordinates of their triangles."""

    triangles: jax.Array  # [T, 3] int32
    border: jax.Array  # [B, 3] int32: first and second vertex, and the one triangle
    triangle: jax.Array  # [N] int32
    barycentric: jax.Array  # [N, 3]
    shape: jax.Array  # [N, 3] S as its elements 11, 12, 22; per edge lengths squared
    logit_opacities: jax.Array  # [N]
    harmonics: jax.Array  # [N, 1, 3]
    thickness: jax.Array  # [] metres
    inset: jax.Array  # [] metres
    shading: jax.Array | None  # [N] in [0, 1], how much the angle of view counts; None: not at all
    num_opaque: int | None = struct.field(pytree_node=False, default=None)  # as in `Mesh`


def bind(mesh: Mesh, config: BindConfig = BindConfig()) -> Binding:
    """Covers a mesh in its rest shape with Gaussians, on the host.

    The colours are the texture's, averaged over the piece, or the vertices'; a mesh of neither is
    grey and shaded by the angle to the view, as `render_mesh` shows it. Brows and lashes had better
    be paint: pieces as large as they are make them heavy.
    """
    dtype = jax.dtypes.canonicalize_dtype(mesh.vertices.dtype)
    vertices = np.asarray(mesh.vertices, np.float64)
    triangles = np.asarray(mesh.triangles)
    triangle, corners, colors, opacity = _pieces(mesh, vertices[triangles], config)
    edges = corners[:, 1:, 1:] - corners[:, :1, 1:]  # of the piece, along those of the triangle
    shape = np.einsum("nia,ij,njb->nab", edges, config.spread**2 * _TRIANGLE, edges)
    border = _border(vertices, triangles[: mesh.num_opaque])
    shading = None
    if mesh.colors is None and not _has_texture(mesh):
        places = np.einsum("nk,nkd->nd", corners.mean(1), vertices[triangles[triangle]])
        shading = np.asarray(_fade(places, vertices[border[:, 0]]), dtype)
    binding = Binding(
        triangles=np.asarray(triangles, np.int32),
        border=np.asarray(border, np.int32),
        triangle=np.asarray(triangle, np.int32),
        barycentric=np.asarray(corners.mean(1), dtype),
        shape=np.asarray(shape[:, [0, 0, 1], [0, 1, 1]], dtype),
        logit_opacities=np.asarray(np.log(opacity / (1.0 - opacity)), dtype),
        harmonics=np.asarray((colors[:, None] - 0.5) / harmonics.CONSTANT, dtype),
        thickness=np.asarray(config.thickness, dtype),
        inset=np.asarray(config.inset, dtype),
        shading=shading,
        num_opaque=mesh.num_opaque,
    )
    return jax.device_put(binding)


def _pieces(mesh: Mesh, points: np.ndarray, config: BindConfig) -> tuple[np.ndarray, ...]:
    """Cuts the triangles [T, 3, 3] of a mesh in pieces, and finds how they look.

    Returns:
      As `_cut` does, triangle [N] and corners [N, 3, 3]; colours [N, 3], and opacities [N].
    """
    triangle, corners = _cut(points[: mesh.num_opaque], config.max_edge, config.max_gaussians)
    texture = jax.device_put(mesh.texture) if _has_texture(mesh) else None
    plain = None if texture is None else texture[..., :3]
    colors = np.asarray(_colors(mesh, plain, triangle, corners))
    opacity = np.full(len(triangle), config.opacity)
    if mesh.num_opaque is None or mesh.num_opaque >= len(points):
        return triangle, corners, colors, opacity
    cards = points[mesh.num_opaque :]
    card, card_corners = _cut(cards, config.card_edge, config.max_card_gaussians)
    card += mesh.num_opaque
    alpha = np.ones(len(card))
    if texture is None or texture.shape[-1] == 3:
        card_colors = np.asarray(_colors(mesh, plain, card, card_corners))
    else:
        # Colours count by their alpha: else what the texture hides would tinge what it shows.
        weighted = texture.at[..., :3].multiply(texture[..., 3:])
        values = np.asarray(_colors(mesh, weighted, card, card_corners))
        card_colors, alpha = values[:, :3] / np.maximum(values[:, 3:], 1e-6), values[:, 3]
    is_seen = alpha >= config.least_alpha
    alpha = np.minimum(alpha[is_seen], config.opacity)
    return (
        np.concatenate([triangle, card[is_seen]]),
        np.concatenate([corners, card_corners[is_seen]]),
        np.concatenate([colors, card_colors[is_seen]]),
        np.concatenate([opacity, 1.0 - (1.0 - alpha) ** (1.0 / config.overlap)]),
    )


def _cut(points: np.ndarray, max_edge: float, max_pieces: int) -> tuple[np.ndarray, np.ndarray]:
    """Halves triangles [T, 3, 3] at their longest edges until all are short, or no room is left.

    Returns:
      The triangle of each piece [N], and the barycentric coordinates of its corners [N, 3, 3].
    """
    triangle = np.arange(len(points))
    corners = np.tile(np.eye(3), (len(points), 1, 1))
    # The square of side k lies between corners k and k + 1.
    squares = np.sum((points[:, [1, 2, 0]] - points) ** 2, -1)
    limit = max(squares.max(initial=0.0), max_edge**2)
    while True:
        chosen = np.flatnonzero(squares.max(-1, initial=0.0) > limit)
        if len(chosen) == 0 and limit <= max_edge**2:
            break
        if len(chosen) == 0:  # the longest first, so that room runs out evenly
            limit = max(0.7 * limit, max_edge**2)
            continue
        if len(triangle) >= max_pieces:
            break
        if len(chosen) > max_pieces - len(triangle):
            order = np.argsort(-squares[chosen].max(-1), kind="stable")
            chosen = chosen[order[: max_pieces - len(triangle)]]
        turn = (squares[chosen].argmax(-1)[:, None] + np.arange(3)) % 3
        a, b, c = np.take_along_axis(corners[chosen], turn[..., None], 1).swapaxes(0, 1)
        ab, bc, ca = np.take_along_axis(squares[chosen], turn, 1).T
        middle, across = (a + b) / 2, (2 * bc + 2 * ca - ab) / 4  # Apollonius
        corners[chosen] = np.stack([a, middle, c], 1)
        squares[chosen] = np.stack([ab / 4, across, ca], 1)
        triangle = np.concatenate([triangle, triangle[chosen]])
        corners = np.concatenate([corners, np.stack([middle, b, c], 1)])
        squares = np.concatenate([squares, np.stack([ab / 4, bc, across], 1)])
    return triangle, corners


def _border(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Finds the edges of one triangle only, [B, 3]; vertices in one place count as one."""
    place = np.unique(vertices, axis=0, return_inverse=True)[1].ravel()
    start, end = triangles.ravel(), triangles[:, [1, 2, 0]].ravel()
    low, high = np.minimum(place[start], place[end]), np.maximum(place[start], place[end])
    key, count = np.unique(low * len(vertices) + high, return_inverse=True, return_counts=True)[1:]
    alone = np.flatnonzero(count[key] == 1)
    return np.stack([start[alone], end[alone], alone // 3], -1)


def _fade(places: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Returns zero [N] near the border and one far from it.

    What turns away from the viewer is black, and at the border that can be seen: the inside of the
    throat behind the nape.
    """
    if not len(border):
        return np.ones(len(places))
    near, far = _FADE
    distance, _ = spatial.cKDTree(border).query(places, distance_upper_bound=far)
    return np.clip((distance - near) / (far - near), 0.0, 1.0)


def _has_texture(mesh: Mesh) -> bool:
    return mesh.texture is not None and mesh.uvs is not None


def _colors(
    mesh: Mesh, texture: jax.Array | None, triangle: np.ndarray, corners: np.ndarray
) -> np.ndarray | jax.Array:
    """Returns the means of `texture` [H, W, C] or the mean colours [N, C] of the pieces."""
    if texture is None and mesh.colors is None:
        return np.broadcast_to(_BASE, (len(triangle), 3))
    if texture is None:
        at_corners = np.asarray(mesh.colors)[np.asarray(mesh.triangles)[triangle]]
        return np.einsum("nk,nkc->nc", corners.mean(1), at_corners)
    uvs = np.asarray(mesh.uvs)[np.asarray(mesh.uv_triangles)[triangle]]
    uvs = np.einsum("njk,nkc->njc", corners, uvs, optimize=True)
    texels = np.abs(uvs[:, [1, 2, 0]] - uvs) * texture.shape[1::-1]
    rate = math.ceil(np.quantile(texels.max((1, 2)), 0.99)) if len(uvs) else 1
    return _mean_of_texture(texture, np.asarray(uvs, texture.dtype), min(max(rate, 1), _MAX_RATE))


@functools.partial(kept, static_argnames="rate")
def _mean_of_texture(texture: jax.Array, uvs: jax.Array, rate: int) -> jax.Array:
    """Averages a texture over triangles of corners `uvs` [N, 3, 2], from rate^2 cells of each."""
    cells = [(i, j, 1 / 3) for i in range(rate) for j in range(rate - i)]
    cells += [(i, j, 2 / 3) for i in range(rate) for j in range(rate - i - 1)]
    places = np.array([((i + d) / rate, (j + d) / rate) for i, j, d in cells])
    places = np.concatenate([places, 1.0 - places.sum(-1, keepdims=True)], -1)

    def add(total, place):
        return total + sample_texture(texture, jnp.einsum("k,nkc->nc", place, uvs)), None

    nothing = jnp.zeros((uvs.shape[0], texture.shape[-1]), texture.dtype)
    return lax.scan(add, nothing, jnp.asarray(places, uvs.dtype))[0] / rate**2


@kept
def bound_gaussians(binding: Binding, vertices: jax.Array) -> Gaussians:
    """Returns the Gaussians [N] of the mesh whose vertices are at `vertices` [V, 3].

    Differentiable in `vertices`. Finite, gradients included, for triangles without area; where a
    Gaussian is exactly round, its axes do not turn and their gradient is zero.
    """
    normals = face_normals(vertices, binding.triangles)
    a, b, c = (vertices[binding.triangles[:, k]] for k in range(3))
    # A Gaussian does not know front from back. Upward normals keep clear of the pole of the frame.
    up = jnp.where(normals[:, 2:] < 0, -normals, normals)
    x, y = up[:, 0], up[:, 1]
    z = jnp.where(jnp.sum(up * up, -1) > 0, up[:, 2], 1.0)
    k = 1.0 / (1.0 + z)
    frame = [jnp.stack([1 - k * x * x, -k * x * y, -x], -1)]
    frame += [jnp.stack([-k * x * y, 1 - k * y * y, -y], -1)]
    edges = [jnp.sum(axis * edge, -1) for axis in frame for edge in (b - a, c - a)]
    e11, e12, e21, e22, x, y, z = (v[binding.triangle] for v in (*edges, x, y, z))

    s11, s12, s22 = binding.shape.T
    xx = e11 * e11 * s11 + 2 * e11 * e12 * s12 + e12 * e12 * s22
    xy = e11 * e21 * s11 + (e11 * e22 + e12 * e21) * s12 + e12 * e22 * s22
    yy = e21 * e21 * s11 + 2 * e21 * e22 * s12 + e22 * e22 * s22
    half = 0.5 * (xx - yy)
    radius = safe_norm(jnp.stack([half, xy], -1))
    is_round = radius == 0
    quarter = 0.25 * jnp.arctan2(xy, jnp.where(is_round, 1.0, half))
    cos, sin = jnp.cos(quarter), jnp.sin(quarter)
    mean, thin = 0.5 * (xx + yy), binding.thickness**2
    variances = [mean + radius, jnp.maximum(mean - radius, 0.0), jnp.zeros_like(mean)]

    at_vertices = vertex_normals(vertices, binding.triangles[: binding.num_opaque])
    sunk = vertices - binding.inset * (at_vertices + _outward(binding, vertices, normals))
    return Gaussians(
        means=_blend(binding, sunk),
        # The shortest turn from z to the normal, after the turn by the angle of the axes.
        quats=jnp.stack([(1 + z) * cos, x * sin - y * cos, x * cos + y * sin, (1 + z) * sin], -1),
        log_scales=0.5 * jnp.log(jnp.stack(variances, -1) + thin),
        logit_opacities=binding.logit_opacities,
        harmonics=_shade(binding, at_vertices)
        if binding.shading is not None
        else binding.harmonics,
    )


def _blend(binding: Binding, attributes: jax.Array) -> jax.Array:
    """Carries attributes of the vertices [V, C] to the Gaussians [N, C]."""
    corners = attributes[binding.triangles[binding.triangle]]
    return jnp.sum(binding.barycentric[..., None] * corners, 1)


def _outward(binding: Binding, vertices: jax.Array, normals: jax.Array) -> jax.Array:
    """Unit vectors [V, 3] that leave the surface at its border; zero elsewhere."""
    start, end, triangle = binding.border.T
    across = jnp.cross(vertices[end] - vertices[start], normals[triangle])
    return safe_normalize(jnp.zeros_like(vertices).at[start].add(across).at[end].add(across))


def _shade(binding: Binding, normals: jax.Array) -> jax.Array:
    """Adds the light of the viewer to grey: harmonics [N, 4, 3] that fall off with the angle.

    What is in sight faces the viewer, and there the cosine is linear in the direction of view.
    """
    colors = 0.5 + harmonics.CONSTANT * binding.harmonics
    share = (1.0 - _AMBIENT) * binding.shading[:, None, None]
    first = harmonics.basis(safe_normalize(_blend(binding, normals)), 1)[:, 1:, None]
    # The first band at a times the first band at b sums to this times the cosine between them.
    square = 3.0 / (4.0 * math.pi)
    constant = _AMBIENT + (1.0 - _AMBIENT - share) * _MEAN_COSINE
    return jnp.concatenate(
        [(constant * colors - 0.5) / harmonics.CONSTANT, -share / square * first * colors], 1
    )
