"""Rotations, and norms whose derivative is finite at zero.

Rotation matrices act on column vectors; rotation vectors are axis times angle in radians.
"""

import jax
import jax.numpy as jnp


def safe_norm(x: jax.Array, axis: int = -1, keepdims: bool = False) -> jax.Array:
    """Euclidean norm whose gradient at zero is zero instead of NaN."""
    squared = jnp.sum(x * x, axis=axis, keepdims=keepdims)
    is_zero = squared == 0.0
    return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, squared)))


def safe_normalize(x: jax.Array, axis: int = -1) -> jax.Array:
    """Unit vector along `x`; zero, with a finite gradient, where `x` is zero."""
    norm = safe_norm(x, axis=axis, keepdims=True)
    return x / jnp.where(norm == 0.0, 1.0, norm)


def rodrigues(rotation_vector: jax.Array) -> jax.Array:
    """Rotation matrix [3, 3] of a rotation vector [3], differentiable at zero too."""
    squared = jnp.sum(rotation_vector**2)
    is_small = squared < 1e-6  # below, two Taylor terms are exact to float64
    angle = jnp.sqrt(jnp.where(is_small, 1.0, squared))
    sinc = jnp.where(is_small, 1.0 - squared / 6.0 + squared**2 / 120.0, jnp.sin(angle) / angle)
    cosc = jnp.where(
        is_small, 0.5 - squared / 24.0 + squared**2 / 720.0, (1.0 - jnp.cos(angle)) / angle**2
    )
    cross = cross_matrix(rotation_vector)
    return jnp.eye(3, dtype=rotation_vector.dtype) + sinc * cross + cosc * (cross @ cross)


def cross_matrix(v: jax.Array) -> jax.Array:
    """The matrix [3, 3] with `cross_matrix(v) @ w == cross(v, w)`."""
    x, y, z = v
    zero = jnp.zeros_like(x)
    return jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)


def euler_rotation(yaw: jax.Array, pitch: jax.Array, roll: jax.Array) -> jax.Array:
    """Rotation `roll(z) @ pitch(x) @ yaw(y)` [3, 3] from angles in radians."""
    axes = jnp.eye(3)
    return rodrigues(roll * axes[2]) @ rodrigues(pitch * axes[0]) @ rodrigues(yaw * axes[1])


def nearest_rotation(matrix: jax.Array) -> jax.Array:
    """The rotation [3, 3] nearest to `matrix` [3, 3] in the Frobenius norm (Kabsch)."""
    u, _, vt = jnp.linalg.svd(matrix)
    flip = jnp.sign(jnp.linalg.det(u @ vt))
    return u @ jnp.diag(jnp.array([1.0, 1.0, flip], matrix.dtype)) @ vt


def rotation_angle(rotation: jax.Array) -> jax.Array:
    """Angle [...] of rotations [..., 3, 3] in radians, in [0, pi]."""
    sine = jnp.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        axis=-1,
    )
    return jnp.arctan2(safe_norm(sine), jnp.trace(rotation, axis1=-2, axis2=-1) - 1.0)


def rotation_to_quat(rotation: jax.Array) -> jax.Array:
    """Unit quaternions [..., 4] wxyz, w not negative, of rotations [..., 3, 3]; differentiable.

    Of the four ways to take a root of the matrix, the one of the largest root (Shepperd 1978).
    """
    flat = rotation.reshape(*rotation.shape[:-2], 9)
    a, b, c, d, e, f, g, h, i = jnp.moveaxis(flat, -1, 0)
    # Each row is 4 q_k times the quaternion q.
    rows = [
        jnp.stack([1 + a + e + i, h - f, c - g, d - b], -1),
        jnp.stack([h - f, 1 + a - e - i, b + d, c + g], -1),
        jnp.stack([c - g, b + d, 1 - a + e - i, f + h], -1),
        jnp.stack([d - b, c + g, f + h, 1 - a - e + i], -1),
    ]
    rows = jnp.stack(rows, -2)
    squares = jnp.diagonal(rows, axis1=-2, axis2=-1)  # 4 q_k^2; the largest is one at least
    largest = jnp.argmax(squares, -1)[..., None]
    row = jnp.take_along_axis(rows, largest[..., None], -2)[..., 0, :]
    quat = row / (2.0 * jnp.sqrt(jnp.take_along_axis(squares, largest, -1)))
    return jnp.where(quat[..., :1] < 0, -quat, quat)


def multiply_quats(first: jax.Array, second: jax.Array) -> jax.Array:
    """The quaternion [..., 4] wxyz that turns by `second` [..., 4], then by `first` [..., 4]."""
    w, x, y, z = jnp.moveaxis(first, -1, 0)
    a, b, c, d = jnp.moveaxis(second, -1, 0)
    return jnp.stack(
        [
            w * a - x * b - y * c - z * d,
            w * b + x * a + y * d - z * c,
            w * c - x * d + y * a + z * b,
            w * d + x * c - y * b + z * a,
        ],
        -1,
    )
