"""The landmarks of a scan: a detector's, on pictures of the scan from the front.

A scan's front is where the detector sees a face: it is looked at from its six sides, then once more
straight on. What the detector finds in the picture is looked up on the surface there.

Axes: V vertices, L = 51 inner landmarks. Any unit.
"""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from recon import landmarks
from recon.evaluation.appearance import Appearance
from recon.evaluation.scans import landmark_similarity, shape_landmarks
from recon.morphable import NUM_CONTOUR, MorphableModel
from render import rasterize
from render.camera import Camera
from render.image import linear_to_srgb, srgb_to_linear
from render.mesh import Mesh, apply, vertex_normals

_SIZE = 640  # pixels a side
_MARGIN = 1.15  # of the scan, seen in a picture
_FACE = 0.3  # metres a side, of the mean face, seen in the last picture
_DRAWING = rasterize.RenderConfig(supersample=2, background=(0.5, 0.5, 0.5))
_AMBIENT = 0.3  # share of the light
_FRONT = np.diag([1.0, -1.0, -1.0])  # y up, looking along z; then the other sides
_SIDES = [
    _FRONT @ np.array(turn, float)
    for turn in (
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 0, 0], [0, 0, 1], [0, -1, 0]],  # z up, looking along -y
        [[-1, 0, 0], [0, 1, 0], [0, 0, -1]],
        [[0, 0, -1], [0, 1, 0], [1, 0, 0]],
        [[0, 0, 1], [0, 1, 0], [-1, 0, 0]],
        [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
    )
]


def scan_landmarks(vertices: NDArray, look: Appearance, model: MorphableModel) -> NDArray:
    """Finds the inner landmarks [L, 3] of a scan [V, 3]; NaN where a point is beside it.

    Args:
      vertices: of the scan.
      look: from `appearance.scan_appearance`.
      model: any model; its mean face says where the front is.

    Raises:
      NoFaceError: no side shows a face.
    """
    drawn = np.asarray(apply(look.drawn, vertices), np.float64)
    center = 0.5 * (drawn.min(0) + drawn.max(0))
    extent = _MARGIN * np.ptp(drawn, axis=0).max()
    for side in _SIDES:
        found = _found_on(drawn, look, side, center, extent)
        if found is not None:
            break
    else:
        raise landmarks.NoFaceError("no face found on any side of the scan")
    # Once more, from where the mean face is seen from the front.
    mean = shape_landmarks(model, np.asarray(model.mean))
    onto = landmark_similarity(mean, found)
    straight = _found_on(
        drawn, look, _FRONT @ onto.rotation.T, onto(np.nanmean(mean, axis=0)), onto.scale * _FACE
    )
    return found if straight is None else straight


def _found_on(
    vertices: NDArray, look: Appearance, rotation: NDArray, center: NDArray, extent: float
) -> NDArray | None:
    """The inner landmarks that one picture shows; None without a face, or with hardly any."""
    local = (vertices - center) / extent  # the camera's own unit, whatever the scan's
    camera = Camera(
        rotation=jnp.asarray(rotation, jnp.float32),
        translation=jnp.array([0.0, 0.0, 10.0]),
        focal=jnp.full(2, float(_SIZE)),
        center=jnp.full(2, 0.5 * _SIZE),
        width=_SIZE,
        height=_SIZE,
        orthographic=True,
    )
    points = jnp.asarray(local, jnp.float32)
    picture = _portrait(points, look, camera)
    try:
        xy = landmarks.detect_landmarks(np.asarray(picture))[NUM_CONTOUR:]
    except landmarks.NoFaceError:
        return None
    seen = rasterize.rasterize(camera, points, look.drawn.triangles)
    column, row = np.clip(xy.astype(int), 0, _SIZE - 1).T
    triangle = np.asarray(seen.triangle)[row, column]
    weights = np.asarray(seen.barycentric, np.float64)[row, column]
    places = np.einsum("lk,lki->li", weights, vertices[np.asarray(look.drawn.triangles)[triangle]])
    places = np.where(triangle[:, None] >= 0, places, np.nan)
    return places if np.isfinite(places).all(1).sum() > len(places) // 2 else None


@jax.jit
def _portrait(vertices: jax.Array, look: Appearance, camera: Camera) -> jax.Array:
    """Draws the scan [640, 640, 3] lit from where it is looked at."""
    facing = vertex_normals(vertices, look.drawn.triangles) @ camera.rotation[2]
    light = _AMBIENT + (1.0 - _AMBIENT) * jnp.abs(facing)[:, None]
    colors = linear_to_srgb(srgb_to_linear(look.albedo) * light)
    mesh = Mesh(vertices, look.drawn.triangles, colors=colors)
    return jnp.clip(rasterize.render_mesh(mesh, camera, _DRAWING).rgb, 0.0, 1.0)
