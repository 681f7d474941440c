"""Rotations, stretches and functions of 3x3 matrices, by arithmetic alone.

A matrix is nine arrays of one shape, row after row ("lanes"): compilers fuse and vectorise these,
which they cannot do with a library call per matrix.

Letters: F = R S the matrix, its rotation and its symmetric stretch.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from render.stages import stage

Matrix = Sequence[jax.Array]  # nine arrays [...], row after row
Isotropic = Callable[[Sequence[jax.Array]], Sequence[jax.Array]]  # of three arrays, to three


def multiply(a: Matrix, b: Matrix) -> list[jax.Array]:
    """The product `a b`."""
    return [
        a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j]
        for i in range(3)
        for j in range(3)
    ]


def transpose(a: Matrix) -> list[jax.Array]:
    return [a[3 * j + i] for i in range(3) for j in range(3)]


def cofactor(a: Matrix) -> list[jax.Array]:
    """The cofactors: the determinant times the inverse's transpose."""
    a, b, c, d, e, f, g, h, i = a
    return [
        *(e * i - f * h, f * g - d * i, d * h - e * g),
        *(c * h - b * i, a * i - c * g, b * g - a * h),
        *(b * f - c * e, c * d - a * f, a * e - b * d),
    ]


def determinant(a: Matrix) -> jax.Array:
    a, b, c, d, e, f, g, h, i = a
    return a * (e * i - f * h) + b * (f * g - d * i) + c * (d * h - e * g)


@jax.custom_jvp
def rotation_of(F: Matrix) -> list[jax.Array]:
    """The rotation R nearest to F: F = R S, with S symmetric.

    R maximises tr(R^T F). Where F is inverted S has one negative eigenvalue, the smallest in size
    (Irving et al. 2004). Where two eigenvalues of S sum to zero R is one of many.

    As a quaternion, R is the eigenvector of a symmetric 4x4 matrix (Horn 1987) whose largest
    eigenvalue is tr S, the largest root of a quartic (Theobald 2005).
    """
    F = stage(_scale)(F, stage(_inverse_norm)(F))
    shifted = stage(_shifted_horn)(F, stage(_largest_root)(F))
    adjugate = stage(_adjugate)(shifted, stage(_minors)(shifted))
    q = stage(_largest_column)(adjugate)
    for _ in range(2):
        q = stage(_apply4)(adjugate, q)
    return stage(_matrix_of)(q)


@rotation_of.defjvp
def _rotation_of_jvp(primals, tangents):
    (F,), (F_dot,) = primals, tangents
    R = rotation_of(F)
    w = stage(_spin)(stage(_spin_response)(R, F), R, F_dot)
    return R, stage(_turn)(R, w)


def _apply(a: Matrix, v: Sequence[jax.Array]) -> list[jax.Array]:
    return [a[3 * i] * v[0] + a[3 * i + 1] * v[1] + a[3 * i + 2] * v[2] for i in range(3)]


def _axial(a: Matrix) -> list[jax.Array]:
    return [a[7] - a[5], a[2] - a[6], a[3] - a[1]]


def _spin(response, R, F_dot):
    """The axial vector w of R^T dR: (tr(S) I - S) w = axial(R^T dF)."""
    return _apply(response, _axial(multiply(transpose(R), F_dot)))


def _turn(R, w):
    """R times the cross matrix of w."""
    zero = jnp.zeros_like(w[0])
    return multiply(R, [zero, -w[2], w[1], w[2], zero, -w[0], -w[1], w[0], zero])


def _spin_response(R: Matrix, F: Matrix) -> list[jax.Array]:
    """The inverse of tr(S) I - S; large but finite where that is singular."""
    S = multiply(transpose(R), F)
    xy, xz, yz = 0.5 * (S[1] + S[3]), 0.5 * (S[2] + S[6]), 0.5 * (S[5] + S[7])
    trace = S[0] + S[4] + S[8]
    G = [trace - S[0], -xy, -xz, -xy, trace - S[4], -yz, -xz, -yz, trace - S[8]]
    adjugate = cofactor(G)
    det = G[0] * adjugate[0] + G[1] * adjugate[1] + G[2] * adjugate[2]
    floor = 10.0 * jnp.finfo(det.dtype).eps * trace**3
    inverse = 1.0 / jnp.maximum(det, jnp.maximum(floor, jnp.finfo(det.dtype).tiny))
    return [c * inverse for c in adjugate]


def _inverse_norm(F):
    squared = sum(f * f for f in F)
    tiny = jnp.finfo(squared.dtype).tiny
    return jnp.where(squared > tiny, jax.lax.rsqrt(jnp.maximum(squared, tiny)), 0.0)


def _scale(F, factor):
    return [f * factor for f in F]


def _largest_root(F):
    """Bounds tr S of F of norm one closely from above.

    The root of (t^2 - |F|^2)^2 - 8 det(F) t - 4 |cof F|^2, from above: without overshoot.
    """
    cof = cofactor(F)
    linear = 8.0 * (F[0] * cof[0] + F[1] * cof[1] + F[2] * cof[2])
    constant = 4.0 * sum(c * c for c in cof)
    t = jnp.full_like(linear, 3.0**0.5)
    eps = jnp.finfo(t.dtype).eps
    for _ in range(16):
        u = t * t - 1.0
        slope = jnp.maximum(4.0 * t * u - linear, eps**0.5)
        t = t - (u * u - linear * t - constant) / slope
    # Above the root by more than its rounding error: t I - K must stay positive.
    return t + 8.0 * eps / slope


def _shifted_horn(F, t):
    """t I - K, K the matrix of the quadratic form tr(R^T F) of quaternions (upper triangle)."""
    a, b, c, d, e, f, g, h, i = F
    return [
        *(t - a - e - i, f - h, g - c, b - d),
        *(t - a + e + i, -b - d, -c - g, t + a - e + i, -f - h, t + a + e - i),
    ]


def _minors(K):
    """The 2x2 minors of the upper two rows, then those of the lower two but one."""
    a, b, c, d, e, f, g, h, i, j = K
    return [
        *(a * e - b * b, a * f - b * c, a * g - b * d, b * f - e * c, b * g - e * d, c * g - f * d),
        *(c * i - d * h, c * j - d * i, f * i - g * h, f * j - g * i, h * j - i * i),
    ]


def _adjugate(K, minors):
    a, b, c, d, e, f, g, h, i, j = K
    u01, u02, u03, u12, u13, u23, l02, l03, l12, l13, l23 = minors
    return [
        e * l23 - f * l13 + g * l12,
        c * l13 - b * l23 - d * l12,
        g * u23 - i * u13 + j * u12,
        h * u13 - f * u23 - i * u12,
        a * l23 - c * l03 + d * l02,
        i * u03 - d * u23 - j * u02,
        c * u23 - h * u03 + i * u02,
        d * u13 - g * u03 + j * u01,
        f * u03 - c * u13 - i * u01,
        c * u12 - f * u02 + h * u01,
    ]


def _rows4(a):
    return [a[:4], [a[1], *a[4:7]], [a[2], a[5], *a[7:9]], [a[3], a[6], *a[8:]]]


def _largest_column(a):
    """The column with the largest diagonal entry, times a factor."""
    q, largest = a[:4], a[0]
    for row, diagonal in zip(_rows4(a)[1:], (a[4], a[7], a[9]), strict=True):
        q = [jnp.where(diagonal > largest, new, old) for new, old in zip(row, q, strict=True)]
        largest = jnp.maximum(diagonal, largest)
    scale = 1.0 / jnp.maximum(largest, jnp.finfo(largest.dtype).tiny)
    return [p * scale for p in q]


def _apply4(a, q):
    return [sum(p * r for p, r in zip(row, q, strict=True)) for row in _rows4(a)]


def _matrix_of(q):
    """The rotation of a quaternion wxyz of any norm."""
    w, x, y, z = q
    k = 2.0 / (w * w + x * x + y * y + z * z)
    wx, wy, wz, xx, xy, xz = k * w * x, k * w * y, k * w * z, k * x * x, k * x * y, k * x * z
    yy, yz, zz = k * y * y, k * y * z, k * z * z
    return [
        *(1.0 - yy - zz, xy - wz, xz + wy),
        *(xy + wz, 1.0 - xx - zz, yz - wx),
        *(xz - wy, yz + wx, 1.0 - xx - yy),
    ]


_PAIRS = ((0, 1), (0, 2), (1, 2))


class Frame(NamedTuple):
    """F = U diag(sigma) V^T, as a frame in which to differentiate functions of F.

    U and V are held fixed: what moves with F is U^T F V, diagonal but for rounding.
    """

    U: Matrix  # a rotation
    V: Matrix  # a rotation
    sigma: list[jax.Array]  # the diagonal, in no order; its smallest negative if F is inverted
    mixed: list[jax.Array]  # the entries 01, 10, 02, 20, 12, 21


def frame_of(F: Matrix) -> Frame:
    """The singular value decomposition of F, ready for `symmetric` and `between`.

    Scalar functions of its `sigma` that treat all three alike have exact derivatives too.
    """
    U, V = _singular_vectors([jax.lax.stop_gradient(f) for f in F])
    U, V = ([jax.lax.stop_gradient(a) for a in matrix] for matrix in (U, V))
    FV = stage(multiply)(F, V)
    return Frame(U, V, stage(_diagonal)(U, FV), stage(_off_diagonal)(U, FV))


def frame_of_symmetric(S: Matrix) -> Frame:
    """`frame_of` a symmetric matrix by its eigenvectors, U and V in one: less work."""
    xx, xy, xz, _, yy, yz, _, _, zz = (jax.lax.stop_gradient(s) for s in S)
    U = _eigenvectors([xx, yy, zz, yz, xz, xy])
    SU = stage(multiply)(S, U)
    return Frame(U, U, stage(_diagonal)(U, SU), stage(_off_diagonal)(U, SU))


def _diagonal(a, b):
    """The diagonal of a^T b."""
    return [a[i] * b[i] + a[3 + i] * b[3 + i] + a[6 + i] * b[6 + i] for i in range(3)]


def _off_diagonal(a, b):
    """The entries 01, 10, 02, 20, 12, 21 of a^T b."""
    return [
        a[i] * b[j] + a[3 + i] * b[3 + j] + a[6 + i] * b[6 + j]
        for pair in _PAIRS
        for i, j in (pair, pair[::-1])
    ]


def symmetric(frame: Frame, function: Isotropic) -> list[jax.Array]:
    """U diag(function(sigma)) U^T, with the exact derivative in F where values are equal too.

    Args:
      frame: of F, from `frame_of`.
      function: from three arrays to three, permuted as its arguments are (isotropic). Derivatives
        flow to what it closes over.

    Returns:
      The matrix. Its first derivatives are exact (Daleckii and Krein 1965), its second are not.
    """
    values = list(function(frame.sigma))
    slopes, _ = _divided(function, frame.sigma)
    mixed = []
    for k, (slope, (i, j)) in enumerate(zip(slopes, _PAIRS, strict=True)):
        si, sj = (jax.lax.stop_gradient(frame.sigma[axis]) for axis in (i, j))
        turn = (sj * frame.mixed[2 * k] + si * frame.mixed[2 * k + 1]) / _apart_from_zero(si, sj)
        mixed += [slope * turn] * 2
    return _recompose(frame.U, frame.U, values, mixed)


def between(frame: Frame, function: Isotropic) -> list[jax.Array]:
    """U diag(function(sigma)) V^T, otherwise as `symmetric`; `between(frame, identity)` is F."""
    values = list(function(frame.sigma))
    slopes, sums = _divided(function, frame.sigma)
    mixed = []
    for k, (slope, total) in enumerate(zip(slopes, sums, strict=True)):
        upper, lower = frame.mixed[2 * k : 2 * k + 2]
        stretch, turn = 0.5 * slope * (upper + lower), 0.5 * total * (upper - lower)
        mixed += [stretch + turn, stretch - turn]
    return _recompose(frame.U, frame.V, values, mixed)


@jax.custom_jvp
def _recompose(U, V, values, mixed):
    """U D V^T, D with diagonal `values`; `mixed`, the rest of D, counts in derivatives only.

    `mixed` holds the entries 01, 10, 02, 20, 12, 21.
    """
    del mixed  # zero but for rounding: not computed unless a derivative is asked for
    return stage(_scaled_product)(U, V, values)


@_recompose.defjvp
def _recompose_jvp(primals, tangents):
    U, V, values, mixed = primals
    _, _, values_dot, mixed_dot = tangents
    (a, b, c), (d, e, f, g, h, i) = values_dot, mixed_dot
    D = [a, d, f, e, b, h, g, i, c]
    return _recompose(U, V, values, mixed), stage(multiply)(U, stage(multiply)(D, transpose(V)))


def _scaled_product(U, V, values):
    return multiply(U, transpose([v * values[k % 3] for k, v in enumerate(V)]))


def _divided(function, sigma):
    """(f_i - f_j) / (s_i - s_j) and (f_i + f_j) / (s_i + s_j) of the three pairs, as constants."""
    sigma = [jax.lax.stop_gradient(s) for s in sigma]
    values = [jax.lax.stop_gradient(f) for f in function(sigma)]
    zero, one = jnp.zeros_like(sigma[0]), jnp.ones_like(sigma[0])
    columns = [
        jax.jvp(lambda *s: list(function(s)), sigma, [one if k == i else zero for k in range(3)])[1]
        for i in range(3)
    ]
    # Wider apart differences are exact to eps / gap, nearer ones the trapezoid's to gap squared.
    tolerance = jnp.finfo(zero.dtype).eps ** (1 / 3)
    slopes, sums = [], []
    for i, j in _PAIRS:
        gap = sigma[i] - sigma[j]
        is_near = jnp.abs(gap) <= tolerance * (jnp.abs(sigma[i]) + jnp.abs(sigma[j]))
        limit = 0.5 * (columns[i][i] - columns[j][i] + columns[j][j] - columns[i][j])
        far = (values[i] - values[j]) / jnp.where(is_near, 1.0, gap)
        slopes.append(jax.lax.stop_gradient(jnp.where(is_near, limit, far)))
        sums.append((values[i] + values[j]) / _apart_from_zero(sigma[i], sigma[j]))
    return slopes, sums


def _apart_from_zero(a, b):
    """a + b >= 0, or a small share of their sizes where they cancel: bounds the derivatives."""
    size = jnp.abs(a) + jnp.abs(b)
    return jnp.maximum(a + b, jnp.maximum(1e-3 * size, jnp.finfo(size.dtype).tiny ** 0.5))


def _singular_vectors(F):
    R = rotation_of(F)
    V = _eigenvectors(stage(_stretch)(R, F))
    return stage(multiply)(R, V), V


def _stretch(R, F):
    """S, the symmetric part of R^T F: xx, yy, zz, yz, xz, xy."""
    S = multiply(transpose(R), F)
    return [S[0], S[4], S[8], 0.5 * (S[5] + S[7]), 0.5 * (S[2] + S[6]), 0.5 * (S[1] + S[3])]


def _eigenvectors(S):
    """The eigenvectors of S as columns of a rotation, by Jacobi's method."""
    one, zero = jnp.ones_like(S[0]), jnp.zeros_like(S[0])
    V = [one, zero, zero, zero, one, zero, zero, zero, one]
    for _ in range(3 if one.dtype == jnp.float32 else 4):
        for axis in range(3):
            c, s = stage(_jacobi_angle, 1)(S, axis)
            S = stage(_rotate_stretch, 3)(S, c, s, axis)
            V = stage(_rotate_columns, 3)(V, c, s, axis)
    return V


def _jacobi_angle(S, axis):
    i, j = (axis + 1) % 3, (axis + 2) % 3
    difference, off = S[j] - S[i], 2.0 * S[3 + axis]
    root = jnp.abs(difference) + jnp.sqrt(difference * difference + off * off)
    tiny = jnp.finfo(root.dtype).tiny
    t = jnp.where(difference < 0, -off, off) / jnp.maximum(root, tiny)
    c = jax.lax.rsqrt(1.0 + t * t)
    return c, t * c


def _rotate_stretch(S, c, s, axis):
    i, j = (axis + 1) % 3, (axis + 2) % 3
    off = S[3 + axis]
    S = list(S)
    turned = 2.0 * c * s * off
    S[i], S[j] = c * c * S[i] - turned + s * s * S[j], s * s * S[i] + turned + c * c * S[j]
    S[3 + axis] = jnp.zeros_like(off)
    S[3 + i], S[3 + j] = s * S[3 + j] + c * S[3 + i], c * S[3 + j] - s * S[3 + i]
    return S


def _rotate_columns(V, c, s, axis):
    i, j = (axis + 1) % 3, (axis + 2) % 3
    V = list(V)
    for k in (0, 3, 6):
        V[k + i], V[k + j] = c * V[k + i] - s * V[k + j], s * V[k + i] + c * V[k + j]
    return V
