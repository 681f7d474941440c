"""3D Gaussians: a scene as soft coloured ellipsoids, and their footprints on the screen.

Axes: N Gaussians, M = (degree + 1)^2 coefficients of the spherical harmonics. Camera axes and
pixels as in `camera.py`.

Sources: Kerbl et al. 2023 (3D Gaussian splatting); Zwicker et al. 2001 (EWA splatting, the
footprint); Yu et al. 2024 (Mip-Splatting, the opacity of a widened footprint).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from render import harmonics
from render.camera import Camera, camera_position
from render.transforms import multiply_quats, rotation_to_quat, safe_normalize

MIN_ALPHA = 1.0 / 255.0  # what covers less of a pixel is not drawn
_MAX_STD_PX = 1e8  # wider is flat over any screen; squares of squares stay finite
_FIELD_MARGIN = 0.3  # of the half field of view: the linear footprint is held there


@struct.dataclass
class Gaussians:
    """A splat scene, every field free of constraints."""

    means: jax.Array  # [N, 3] metres
    quats: jax.Array  # [N, 4] wxyz, of any length
    log_scales: jax.Array  # [N, 3] logarithm of the standard deviation in metres, along own axes
    logit_opacities: jax.Array  # [N]
    harmonics: jax.Array  # [N, M, 3] colour = 0.5 + their sum, sRGB-encoded; basis in harmonics.py


class Footprints(NamedTuple):
    """Gaussians as a camera sees them; each leaf is [N], so that loops over one run straight.

    A Gaussian covers exp(log_opacity - (a dx^2 + 2 b dx dy + c dy^2) / 2) of the pixel whose centre
    is (dx, dy) from its own.
    """

    x: jax.Array  # pixels
    y: jax.Array  # pixels
    a: jax.Array  # inverse covariance, 1 / pixels^2
    b: jax.Array
    c: jax.Array
    log_opacity: jax.Array
    depth: jax.Array  # metres
    half_width: jax.Array  # pixels from the centre to where `MIN_ALPHA` is reached
    half_height: jax.Array
    is_visible: jax.Array  # bool: in front of the camera, finite, opaque enough


def project_gaussians(
    gaussians: Gaussians,
    camera: Camera,
    near: float = 0.01,
    dilation: float = 0.3,
    antialiased: bool = False,
) -> Footprints:
    """Projects Gaussians by the linearization of the camera at their means (EWA).

    Differentiable in the Gaussians and the camera. What is not visible, NaN included, has finite
    but meaningless values and a zero gradient.

    Args:
      gaussians: [N].
      camera: perspective or orthographic.
      near: metres; a perspective camera does not see what is nearer.
      dilation: pixels^2 added to the footprint's variance, so that none falls between pixels.
      antialiased: takes the coverage that the dilation adds back from the opacity.
    """
    is_finite, mean, quat, log_scales, logit = _finite_columns(gaussians)
    at = _linearize(camera, mean, is_finite, near)
    rows = _covariance_root(camera, at, quat, log_scales)
    xx, xy, yy, determinant, bare_determinant = _dilated_covariance(*rows, dilation)

    # The determinant is zero for a flat one seen from its edge, without dilation.
    is_visible = at.is_visible & (determinant > 0)
    inverse = 1.0 / jnp.where(is_visible, determinant, 1.0)
    log_opacity = jax.nn.log_sigmoid(logit)
    if antialiased:
        log_opacity += 0.5 * jnp.log(jnp.maximum(bare_determinant * inverse, 1e-12))
    reach = jax.lax.stop_gradient(2.0 * (log_opacity - math.log(MIN_ALPHA)))
    is_visible &= reach > 0
    reach = jnp.maximum(reach, 0.0)
    return Footprints(
        x=camera.focal[0] * at.x + camera.center[0],
        y=camera.focal[1] * at.y + camera.center[1],
        a=yy * inverse,
        b=-xy * inverse,
        c=xx * inverse,
        log_opacity=log_opacity,
        depth=at.z,
        half_width=jnp.sqrt(reach * jax.lax.stop_gradient(xx)),
        half_height=jnp.sqrt(reach * jax.lax.stop_gradient(yy)),
        is_visible=is_visible,
    )


def view_colors(gaussians: Gaussians, camera: Camera) -> jax.Array:
    """Returns the colours [N, 3] that the camera sees, sRGB-encoded and not below zero."""
    if gaussians.harmonics.shape[1] == 1:
        direction = jnp.zeros_like(gaussians.means)  # one colour whatever the view
    elif camera.orthographic:
        direction = jnp.broadcast_to(camera.rotation[2], gaussians.means.shape)
    else:
        means = jnp.where(jnp.isfinite(gaussians.means), gaussians.means, 0.0)
        direction = safe_normalize(means - camera_position(camera))
    return jnp.maximum(0.5 + harmonics.evaluate(gaussians.harmonics, direction), 0.0)


def covariances(gaussians: Gaussians) -> jax.Array:
    """Returns the covariance matrices [N, 3, 3], metres^2."""
    quat, log_scales = tuple(gaussians.quats.T), tuple(gaussians.log_scales.T)
    axes = jnp.stack([jnp.stack(row, -1) for row in _scaled_axes(quat, log_scales, jnp.inf)], -2)
    return axes @ axes.mT


def move_gaussians(
    gaussians: Gaussians,
    rotation: jax.Array,
    translation: jax.Array | float = 0.0,
    scale: jax.Array | float = 1.0,
) -> Gaussians:
    """Carries Gaussians along x -> scale R x + t, their harmonics too.

    Args:
      gaussians: [N].
      rotation: [3, 3] R.
      translation: [3] t, metres.
      scale: of lengths, positive.
    """
    return gaussians.replace(
        means=scale * gaussians.means @ rotation.T + translation,
        quats=multiply_quats(rotation_to_quat(rotation), gaussians.quats),
        log_scales=gaussians.log_scales + jnp.log(scale),
        harmonics=harmonics.rotate(gaussians.harmonics, rotation),
    )


def join_gaussians(parts: Sequence[Gaussians]) -> Gaussians:
    """Makes one scene of several, of the largest degree among them."""
    most = max(part.harmonics.shape[1] for part in parts)
    parts = [
        part.replace(
            harmonics=jnp.pad(part.harmonics, ((0, 0), (0, most - part.harmonics.shape[1]), (0, 0)))
        )
        for part in parts
    ]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def _finite_columns(gaussians: Gaussians) -> tuple:
    """Returns which Gaussians [N] are finite, and mean, quaternion, log scales and logit of all.

    Each is cut into arrays [N]; what is not finite stands at the origin, as large as a unit.
    """
    is_finite = jnp.isfinite(gaussians.logit_opacities)
    for field in (gaussians.means, gaussians.quats, gaussians.log_scales):
        is_finite &= jnp.all(jnp.isfinite(field), -1)

    def columns(rows, instead):
        return tuple(jnp.where(is_finite, column, instead) for column in rows.T)

    return (
        is_finite,
        columns(gaussians.means, 0.0),
        columns(gaussians.quats, 1.0),
        columns(gaussians.log_scales, 0.0),
        jnp.where(is_finite, gaussians.logit_opacities, 0.0),
    )


class _Linearized(NamedTuple):
    """The camera's map about the means of Gaussians; each leaf is [N], or [] for all alike."""

    x: jax.Array  # of the mean, at unit focal length
    y: jax.Array
    z: jax.Array  # of the mean, metres in front of the camera
    slope_x: jax.Array  # x and y where the map is taken; zero for parallel rays
    slope_y: jax.Array
    inverse_z: jax.Array  # what a metre across measures at unit focal length
    px_per_m: jax.Array
    is_visible: jax.Array  # bool: finite, and in front of the camera


def _linearize(
    camera: Camera, mean: tuple[jax.Array, ...], is_finite: jax.Array, near: float
) -> _Linearized:
    """Linearizes the projection of points about `mean`, three arrays [N]."""
    view, shift, focal, center = camera.rotation, camera.translation, camera.focal, camera.center
    x, y, z = (sum(view[i, k] * mean[k] for k in range(3)) + shift[i] for i in range(3))
    if camera.orthographic:
        zero, one = jnp.zeros_like(x), jnp.ones_like(z)
        return _Linearized(x, y, z, zero, zero, one, jnp.max(focal), is_finite)
    is_visible = is_finite & (z > near)
    inverse_z = 1.0 / jnp.where(is_visible, z, 1.0)
    px_per_m = jnp.max(focal) * jax.lax.stop_gradient(inverse_z)
    x, y = x * inverse_z, y * inverse_z
    slope_x, slope_y = (
        _hold_in_field(v, focal[i], center[i], side)
        for i, (v, side) in enumerate([(x, camera.width), (y, camera.height)])
    )
    return _Linearized(x, y, z, slope_x, slope_y, inverse_z, px_per_m, is_visible)


def _covariance_root(
    camera: Camera,
    at: _Linearized,
    quat: tuple[jax.Array, ...],
    log_scales: tuple[jax.Array, ...],
) -> list[list[jax.Array]]:
    """Returns M, two rows of three arrays [N], whose M M^T is the covariance on the screen.

    Its rows are those of the camera's Jacobian times the axes of the Gaussian.
    """
    view, focal = camera.rotation, camera.focal
    axes = _scaled_axes(quat, log_scales, jnp.log(_MAX_STD_PX / at.px_per_m))
    rows = []
    for i, slope in enumerate((at.slope_x, at.slope_y)):
        jacobian = [focal[i] * at.inverse_z * (view[i, k] - slope * view[2, k]) for k in range(3)]
        rows.append([sum(jacobian[k] * axes[k][j] for k in range(3)) for j in range(3)])
    return rows


def _dilated_covariance(
    m: list[jax.Array], n: list[jax.Array], dilation: float
) -> tuple[jax.Array, ...]:
    """Returns xx, xy, yy and determinant of M M^T + dilation I, and the determinant without it."""
    (m0, m1, m2), (n0, n1, n2) = m, n
    bare_xx, bare_yy = m0 * m0 + m1 * m1 + m2 * m2, n0 * n0 + n1 * n1 + n2 * n2
    xx, yy, xy = bare_xx + dilation, bare_yy + dilation, m0 * n0 + m1 * n1 + m2 * n2
    # By Cauchy and Binet: sums of squares, where xx yy - xy^2 would cancel for needles.
    minors = m0 * n1 - m1 * n0, m1 * n2 - m2 * n1, m2 * n0 - m0 * n2
    bare_determinant = sum(v * v for v in minors)
    determinant = bare_determinant + dilation * (bare_xx + bare_yy + dilation)
    return xx, xy, yy, determinant, bare_determinant


def _hold_in_field(slope: jax.Array, focal: jax.Array, center: jax.Array, side: int) -> jax.Array:
    """Holds x / z a little outside the picture at most, where the linearization still means much.

    Without it a Gaussian beside the camera smears over the whole picture.
    """
    margin = _FIELD_MARGIN * 0.5 * side
    return jnp.clip(slope, (-center - margin) / focal, (side - center + margin) / focal)


def _scaled_axes(
    quat: tuple[jax.Array, ...], log_scales: tuple[jax.Array, ...], max_log_scale: jax.Array
) -> list[list[jax.Array]]:
    """Returns R diag(s), row by row, each element [N]."""
    w, x, y, z = quat
    length = w * w + x * x + y * y + z * z
    inverse = jax.lax.rsqrt(jnp.where(length > 0, length, 1.0))  # zeros turn nothing
    w, x, y, z = w * inverse, x * inverse, y * inverse, z * inverse
    rotation = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    scales = [jnp.exp(jnp.minimum(s, max_log_scale)) for s in log_scales]
    return [
        [element * scale for element, scale in zip(row, scales, strict=True)] for row in rotation
    ]
