"""Pictures of a model's faces for detectors that look at pictures: painted, lit, on a background.

One photo paints the model once. A picture then takes a shape, a pose and a key; the key draws the
tone of skin and hair, the light and the background, so that no two faces look alike.

Axes: V vertices of the model, V' of the drawn mesh, R vertices around a hole. Pixels as in
`landmarks.py`; directions in the viewer's axes: x right, y up, z to the viewer.

Source: Kazemi and Sullivan 2014 (the detector in dlib that these pictures are for).
"""

import itertools
import math
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from numpy.typing import NDArray
from scipy import interpolate, ndimage, sparse
from scipy.sparse import csgraph

from recon import fit, landmarks, pose, texture
from recon.evaluation import detector
from recon.fit import FaceParams
from recon.morphable import NUM_CONTOUR, MorphableModel, face_shape
from recon.painting import shading
from recon.painting.surface import on_host
from recon.pose import Pose
from recon.texture import PaintedModel, TextureConfig
from render import rasterize
from render.image import linear_to_srgb, sample_texture, srgb_to_linear
from render.mesh import Mesh, Subdivision, apply, linear_subdivision, vertex_normals
from render.transforms import safe_normalize
from render.zbuffer import RasterizeConfig

_PAINTING = TextureConfig()
WIDTH, HEIGHT = 1200, 900  # pixels of the thesis' pictures
# Closed heads show no inside; what is left open is the neck.
_DRAWING = rasterize.RenderConfig(
    supersample=2,
    background=(0.0, 0.0, 0.0),
    rasterize=RasterizeConfig(cull_back_faces=True),
)
_HOLE_RINGS = 6  # of vertices drawn into a hole: an iris wants some
_LARGEST_HOLE = 0.8  # of the eye distance; larger openings are necks
_EYES, _MOUTH = slice(36, 48), slice(48, 68)
_WARP_CELLS = 128  # on each side of the photo
_PLASTER = 0.86, 0.8, 0.76
_TEXTURED_TRIANGLES = 200_000  # a millimetre each way, on a head
_TONE_SD = 0.35  # log of linear light: skin from pale to dark
_HAIR_SD = 0.5
_TINT_SD = 0.05  # of each channel
_LIGHT_TINT_SD = 0.08  # of each channel; shade is often bluer than what is lit
_AMBIENT = (0.35, 0.7)  # share of the light that comes from everywhere
_PIXEL_NOISE = 0.01  # standard deviation


@struct.dataclass
class Appearance:
    """What faces of one model look like."""

    drawn: Subdivision  # [V] to [V'], holes closed
    albedo: jax.Array  # [V', 3] sRGB-encoded, in [0, 1]
    skin: jax.Array  # [V'] share
    hair: jax.Array  # [V'] share


def photo_appearance(
    model: MorphableModel,
    photo: NDArray,
    points: NDArray | None = None,
    config: TextureConfig = _PAINTING,
) -> Appearance:
    """Paints a model with a photo, once, on the host.

    Eyes and mouth that a model leaves open are closed. Most of the photo's light is taken out.

    Args:
      model: any model with landmarks; its mean face is painted.
      photo: [H, W, 3] in [0, 1].
      points: [68, 2] pixels; detected if not given.
      config: of the painting; `max_vertices` says how fine the drawn mesh is.

    Raises:
      NoFaceError: there are no points, and no face was found.
    """
    if points is None:
        points = landmarks.detect_landmarks(photo)
    (look,) = photo_appearances(model, [(photo, points)], config)
    return look


def photo_appearances(
    model: MorphableModel,
    photos: Iterable[tuple[NDArray, NDArray]],
    config: TextureConfig = _PAINTING,
) -> Iterator[Appearance]:
    """Paints a model with each of several photos: pairs of a photo and its points."""
    closing, head = _closed_head(model, config)
    drawn = _chained(head.surface.subdivision, closing)
    parts = on_host(head.surface).parts
    open_ = np.clip(parts["eyeballs"] + parts["inner_mouth"], 0.0, 1.0)
    hair = parts["skull"] * (1.0 - open_)
    for photo, points in photos:
        params = _mean_face(model, points)
        painted = texture.paint(head, params, _registered(model, params, photo, points), config)
        yield Appearance(
            drawn=drawn,
            albedo=jnp.asarray(_without_light(parts, painted, params), jnp.float32),
            skin=jnp.asarray(1.0 - np.maximum(open_, hair), jnp.float32),
            hair=jnp.asarray(hair, jnp.float32),
        )


def drawn_surface(model: MorphableModel, config: TextureConfig = _PAINTING) -> Subdivision:
    """How a model's faces are drawn: its holes closed, and divided."""
    closing, head = _closed_head(model, config)
    return _chained(head.surface.subdivision, closing)


def _closed_head(
    model: MorphableModel, config: TextureConfig
) -> tuple[sparse.csr_array, PaintedModel]:
    """What closes the model's holes, and the closed model made ready for painting."""
    closing, triangles = close_holes(model)
    return closing, texture.prepare(_closed_model(model, closing, triangles), config)


def scan_appearance(scan: Mesh) -> Appearance:
    """What a scan looks like: its texture, else its vertex colours, else plaster."""
    num_vertices = len(scan.vertices)
    drawn = linear_subdivision(scan.triangles, num_vertices, levels=0)
    colors = scan.colors
    if scan.texture is not None and scan.uvs is not None:
        drawn, colors = _texture_at_vertices(scan)
    elif colors is None:
        colors = np.tile(np.float32(_PLASTER), (num_vertices, 1))
    return Appearance(
        drawn=drawn,
        albedo=jnp.asarray(colors, jnp.float32),
        skin=jnp.ones(drawn.num_vertices),
        hair=jnp.zeros(drawn.num_vertices),
    )


def _texture_at_vertices(scan: Mesh) -> tuple[Subdivision, NDArray]:
    """The scan, divided until its vertices can hold its texture, and the colours [V', 3] there.

    A vertex on a seam takes the colour of one of its sides.
    """
    num_triangles = len(scan.triangles)
    levels = max(0, math.ceil(math.log(_TEXTURED_TRIANGLES / num_triangles, 4)))
    drawn = linear_subdivision(scan.triangles, len(scan.vertices), levels)
    flat = linear_subdivision(scan.uv_triangles, len(scan.uvs), levels)
    read = sample_texture(jnp.asarray(scan.texture), apply(flat, scan.uvs))
    colors = np.zeros((drawn.num_vertices, 3), np.float32)
    colors[np.asarray(drawn.triangles)] = np.asarray(read)[np.asarray(flat.triangles), :3]
    return drawn, colors


@jax.jit
def render_face(
    key: jax.Array, appearance: Appearance, vertices: jax.Array, head: Pose
) -> jax.Array:
    """Draws a face [900, 1200, 3], sRGB-encoded, in [0, 1].

    Args:
      key: draws tone, light, background and noise; equal keys give equal pictures.
      appearance: from `photo_appearance`.
      vertices: [V, 3] of the model, metres.
      head: where the face is in the picture.
    """
    key_tone, key_light, key_background, key_noise = jax.random.split(key, 4)
    refined = apply(appearance.drawn, vertices)
    normals = vertex_normals(refined, appearance.drawn.triangles) @ head.rotation.T
    linear = toned_albedo(key_tone, appearance) * random_light(key_light, normals)
    mesh = Mesh(refined, appearance.drawn.triangles, colors=linear_to_srgb(linear))
    drawn = rasterize.render_mesh(mesh, fit.face_camera(head, WIDTH, HEIGHT), _DRAWING)
    behind = _background(key_background)
    picture = drawn.rgb + (1.0 - drawn.alpha[..., None]) * behind
    noise = _PIXEL_NOISE * jax.random.normal(key_noise, picture.shape)
    return jnp.clip(picture + noise, 0.0, 1.0)


def detected_points(picture: jax.Array) -> NDArray:
    """What dlib finds in a picture [H, W, 3]: points [68, 2] of the clearest face, or NaN.

    A face that dlib's detector misses stays missing: nobody tells it where to look.
    """
    try:
        return landmarks.detect_landmarks(np.asarray(picture))
    except landmarks.NoFaceError:
        return np.full((68, 2), np.nan)


def toned_albedo(key: jax.Array, appearance: Appearance) -> jax.Array:
    """The albedo [V', 3] in linear light, with another tone of skin and hair for each key."""
    key_skin, key_hair, key_tint = jax.random.split(key, 3)
    tint = _TINT_SD * jax.random.normal(key_tint, (2, 3))
    skin = _TONE_SD * (jax.random.normal(key_skin) - 1.0) + tint[0]
    hair = _HAIR_SD * jax.random.normal(key_hair) + tint[1]
    change = appearance.skin[:, None] * skin + appearance.hair[:, None] * hair
    return srgb_to_linear(appearance.albedo) * jnp.exp(change)


def random_light(key: jax.Array, normals: jax.Array) -> jax.Array:
    """Light [N, 3] on surfaces with `normals` [N, 3]: from everywhere, and from one direction."""
    key_direction, key_ambient, key_color = jax.random.split(key, 3)
    aside = jax.random.uniform(key_direction, (2,), minval=-1.0, maxval=1.0)
    direction = safe_normalize(jnp.stack([aside[0], 0.3 + 0.6 * aside[1], 1.0]))
    ambient = jax.random.uniform(key_ambient, (), minval=_AMBIENT[0], maxval=_AMBIENT[1])
    colors = jnp.exp(_LIGHT_TINT_SD * jax.random.normal(key_color, (2, 3)))
    return lit(normals, direction, ambient * colors[0], (1.0 - ambient) * colors[1])


def lit(
    normals: jax.Array, direction: jax.Array, ambient: jax.Array, direct: jax.Array
) -> jax.Array:
    """Lambert's light [N, 3] of two colours [3]: from everywhere, and from a direction [3]."""
    return ambient + jnp.maximum(normals @ direction, 0.0)[:, None] * direct


def _background(key: jax.Array) -> jax.Array:
    """A blurred room [900, 1200, 3]."""
    key_color, key_spots = jax.random.split(key)
    key_gray, key_tint = jax.random.split(key_color)
    gray = jax.random.uniform(key_gray, (), minval=0.2, maxval=0.8)
    color = gray + 0.05 * jax.random.normal(key_tint, (3,))
    spots = color + 0.05 * jax.random.normal(key_spots, (6, 8, 3))
    return jax.image.resize(jnp.clip(spots, 0.0, 1.0), (HEIGHT, WIDTH, 3), "bilinear")


def _mean_face(model: MorphableModel, points: NDArray) -> FaceParams:
    """The mean face where the photo shows a face; bending the photo does the rest."""
    index = model.landmark_vertices[NUM_CONTOUR:]
    is_present = (index >= 0).astype(jnp.float32)
    xy = jnp.asarray(points[NUM_CONTOUR:], jnp.float32)
    head = pose.closed_form(model.mean[index], xy, is_present)
    nothing = jnp.zeros(0)
    return FaceParams(nothing, nothing, head, jnp.zeros(NUM_CONTOUR))


def _registered(
    model: MorphableModel, params: FaceParams, photo: NDArray, points: NDArray
) -> NDArray:
    """The photo [H, W, 3] bent so that each inner vertex, and the outline, sees its own point.

    Detectors look at paint: a corner of the mouth painted beside the mesh's would count as theirs,
    and so would the edge of a jaw.
    """
    height, width = photo.shape[:2]
    index = np.asarray(model.landmark_vertices)
    vertices = face_shape(model, params.identity, params.expression)
    xy = np.asarray(pose.project(params.pose, vertices))[index]
    if (index >= 0).all():
        face = detector.face_outline(model)
        xy = np.asarray(
            detector.detect(jax.random.key(0), face, vertices, params.pose, detector.EXACT)
        )
    else:
        xy[:NUM_CONTOUR] = points[:NUM_CONTOUR]  # no outline is known: it stays
    is_used = (np.arange(len(index)) < NUM_CONTOUR) | (index >= 0)
    corners = np.array([[x, y] for x in (0.0, width) for y in (0.0, height)])
    places = np.concatenate([xy[is_used], corners])
    wanted = np.concatenate([points[is_used], corners])
    spline = interpolate.RBFInterpolator(places, wanted - places, smoothing=1.0)
    down, across = (np.linspace(0.0, side, _WARP_CELLS) for side in (height, width))
    grid = np.stack(np.meshgrid(across, down), -1)
    shift = spline(grid.reshape(-1, 2)).reshape(grid.shape)
    y, x = np.mgrid[:height, :width] + 0.5
    cell = np.stack([y / height, x / width]) * (_WARP_CELLS - 1)
    by_x, by_y = (ndimage.map_coordinates(shift[..., i], cell, order=1) for i in (0, 1))
    source = np.stack([y + by_y, x + by_x]) - 0.5
    bent = [
        ndimage.map_coordinates(c, source, order=1, mode="nearest") for c in photo.T.swapaxes(1, 2)
    ]
    return np.stack(bent, -1)


def _without_light(parts: dict[str, NDArray], painted: Mesh, params: FaceParams) -> NDArray:
    """The colours [V', 3] of a painted head as if light came evenly from the viewer."""
    facing = np.asarray(
        vertex_normals(painted.vertices, painted.triangles) @ params.pose.rotation.T, np.float64
    )
    log_rgb = shading.to_log(np.asarray(painted.colors, np.float64))
    skin = shading.fit_skin(log_rgb, facing, _bare_skin(parts) * np.maximum(facing[:, 2], 0.0))
    front = shading.lit_skin(skin, np.array([[0.0, 0.0, 1.0]]))
    return shading.to_rgb(log_rgb - shading.lit_skin(skin, facing) + front)


def _bare_skin(parts: dict[str, NDArray]) -> NDArray:
    return parts["face"] * (1.0 - parts["features"]) * (1.0 - parts["skull"])


def close_holes(model: MorphableModel) -> tuple[sparse.csr_array, NDArray]:
    """Draws rings of vertices into each small hole, ever narrower, the last one a point.

    Returns:
      The map [V + new, V] from the model's vertices to all, and all triangles.
    """
    num_vertices = model.mean.shape[0]
    maps = [sparse.identity(num_vertices, format="csr")]
    triangles = [np.asarray(model.triangles)]
    for rim in _holes(model):
        first = sum(part.shape[0] for part in maps)
        around = np.unique(rim)
        count = len(around)
        pick = sparse.csr_array(
            (np.ones(count), (np.arange(count), around)), shape=(count, num_vertices)
        )
        middle = sparse.csr_array(np.full((count, count), 1.0 / count)) @ pick
        shares = np.arange(1, _HOLE_RINGS) / _HOLE_RINGS
        maps += [(1.0 - share) * pick + share * middle for share in shares] + [middle[:1]]
        rings = np.concatenate([around, first + np.arange(count * len(shares))])
        rings = rings.reshape(-1, count)
        a, b = np.searchsorted(around, rim.T)  # the hole's edges run the other way
        for outer, inner in itertools.pairwise(rings):
            triangles.append(np.stack([outer[b], outer[a], inner[a]], 1))
            triangles.append(np.stack([outer[b], inner[a], inner[b]], 1))
        tip = np.full(len(a), first + count * len(shares))
        triangles.append(np.stack([rings[-1][b], rings[-1][a], tip], 1))
    return sparse.csr_array(sparse.vstack(maps)), np.concatenate(triangles)


def _holes(model: MorphableModel) -> list[NDArray]:
    """Directed edges [R, 2] around each hole that is smaller than the eyes are apart."""
    mean, triangles = np.asarray(model.mean, np.float64), np.asarray(model.triangles)
    edges = triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    key = np.sort(edges, axis=1) @ [len(mean), 1]
    _, inverse, count = np.unique(key, return_inverse=True, return_counts=True)
    rim = edges[count[inverse] == 1]
    graph = sparse.coo_array((np.ones(len(rim)), tuple(rim.T)), shape=(len(mean), len(mean)))
    _, label = csgraph.connected_components(graph, directed=False)
    corners = mean[np.asarray(model.landmark_vertices)[[36, 45]]]
    largest = _LARGEST_HOLE * np.linalg.norm(corners[0] - corners[1])
    holes = [rim[label[rim[:, 0]] == number] for number in np.unique(label[rim[:, 0]])]
    return [hole for hole in holes if np.ptp(mean[np.unique(hole)], axis=0).max() < largest]


def _closed_model(
    model: MorphableModel, closing: sparse.csr_array, triangles: NDArray
) -> MorphableModel:
    """The model with its holes closed; what was drawn into them is eye or inner mouth."""
    num_vertices = model.mean.shape[0]

    def carried(columns):
        rest = columns.shape[1:]
        flat = np.asarray(columns, np.float64).reshape(num_vertices, math.prod(rest))
        return jnp.asarray((closing @ flat).reshape(closing.shape[0], *rest), jnp.float32)

    mean = carried(model.mean)
    middles = [_middle(model, part) for part in (_EYES, _MOUTH)]
    below_eyes, below_mouth = (np.abs(np.asarray(mean)[:, 1] - m[1]) for m in middles)
    is_new = np.arange(len(mean)) >= num_vertices
    regions = {name: carried(member) for name, member in (model.regions or {}).items()}
    nothing = jnp.zeros(len(mean))
    for name, is_part in (
        ("eyeballs", is_new & (below_eyes < below_mouth)),
        ("inner_mouth", is_new & (below_eyes >= below_mouth)),
    ):
        regions[name] = jnp.maximum(regions.get(name, nothing), jnp.asarray(is_part, jnp.float32))
    return model.replace(
        mean=mean,
        triangles=jnp.asarray(triangles, jnp.int32),
        identity_basis=carried(model.identity_basis),
        expression_basis=carried(model.expression_basis),
        regions=regions,
        uvs=None,
        uv_triangles=None,
        mirror=None,
    )


def _middle(model: MorphableModel, part: slice) -> NDArray:
    """The middle [3] of the mean face's landmarks of a part, as many as there are."""
    index = np.asarray(model.landmark_vertices)[part]
    return np.asarray(model.mean)[index[index >= 0]].mean(0)


def _chained(subdivision: Subdivision, closing: sparse.csr_array) -> Subdivision:
    """One map for closing holes and subdividing."""
    refine = sparse.csr_array(
        (
            np.asarray(subdivision.weight, np.float64),
            (np.asarray(subdivision.row), np.asarray(subdivision.column)),
        ),
        shape=(subdivision.num_vertices, closing.shape[0]),
    )
    product = sparse.csr_array(refine @ closing)
    product.sum_duplicates()
    matrix = product.tocoo()
    return subdivision.replace(
        row=jnp.asarray(matrix.row, jnp.int32),
        column=jnp.asarray(matrix.col, jnp.int32),
        weight=jnp.asarray(matrix.data, jnp.float32),
    )
