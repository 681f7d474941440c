"""Transfers between particles and the grid: the stencil's arithmetic, and its derivatives.

A particle at local coordinate f in [0.5, 1.5)^3 of its stencil carries 16 coefficients, for each
channel a value and three slopes. It adds to the node (i, j, k) of its 3 x 3 x 3 stencil

  w_i w_j w_k (value + slope . (node - f)),

and takes back the transposed sums: for each channel its weighted mean and its first moments. With
w_i and d_i = w_i (i - f_i) both are sums of products of one cubic polynomial per axis. The x and y
parts are tabulated as nine rows for each of the value, the x and the y slope; the z part is merged
with the coefficients, so that the innermost loop runs over 16 neighbouring numbers of the grid.

Axes: B particles of one chunk, G nodes per side. The grid is [G, G, 4 G]: the last axis is node z
and, within it, the channels mass, and momentum (or velocity) along x, y, z. A window [B, 9, 16]
holds a particle's stencil: nine runs of four nodes, the fourth with weight zero. Coefficients and
moments are [B, 4, 4]: value, x, y, z slope; then the channels.

Sources: Hu et al. 2018 (MLS-MPM); Jiang et al. 2015 (APIC); Steffen et al. 2008 (B-splines).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from render.stages import stage

WINDOW = (3, 3, 16)
MARGIN = 4  # nodes: the window's last run must lie in the grid

# A weight is e + c (a + b g)^2 with g = f - 1, and a first moment a weight times k + h g: rows of
# a, b, c, e, k, h. Powers of g would cancel where a weight is small, and a node that has its mass
# from such a weight alone would get a wild velocity.
_WEIGHT = np.array(
    [
        [0.5, 0.0, 0.5],
        [-1.0, 1.0, 1.0],
        [0.5, -1.0, 0.5],
        [0.0, 0.75, 0.0],
        [1.0, 1.0, 1.0],
        [0.0, 0.0, 0.0],
    ]
)
_MOMENT = np.concatenate([_WEIGHT[:4], [[-1.0, 0.0, 1.0], [-1.0, -1.0, -1.0]]])
# Columns of the tables: nine for x and y, three nodes each for the value, the x and the y slope;
# four for z, the last of them zero.
_X = np.concatenate([_WEIGHT, _MOMENT, _WEIGHT], 1)
_Y = np.concatenate([_WEIGHT, _WEIGHT, _MOMENT], 1)
_ZW, _ZD = (np.pad(table, ((0, 0), (0, 1))) for table in (_WEIGHT, _MOMENT))


def _evaluate(table: np.ndarray, f: jax.Array) -> jax.Array:
    """Evaluates a table [6, L] at f [B, 1]; returns [B, L]."""
    a, b, c, e, k, h = (jnp.asarray(row, f.dtype)[None] for row in table)
    g = f - 1.0
    root = a + b * g
    return (e + c * root * root) * (k + h * g)


def _derivative(table: np.ndarray, f: jax.Array) -> jax.Array:
    """The derivative of `_evaluate` by f."""
    a, b, c, e, k, h = (jnp.asarray(row, f.dtype)[None] for row in table)
    g = f - 1.0
    root = a + b * g
    return 2.0 * b * c * root * (k + h * g) + (e + c * root * root) * h


def _stage(function: Callable) -> Callable:
    """`stage`, whose tangent in forward mode is one more stage.

    Left to share a loop with its value, the tangent has that value computed twice, and forward mode
    through the simulator costs a third more.
    """

    def tangent(*args):
        half = len(args) // 2
        return jax.jvp(function, args[:half], args[half:])[1]

    value, tangent = stage(function), stage(tangent)
    call = jax.custom_jvp(value)
    call.defjvp(lambda primals, tangents: (value(*primals), tangent(*primals, *tangents)))
    return call


def _columns(evaluate: Callable, axis: int, table: np.ndarray) -> Callable:
    return _stage(lambda f: evaluate(table, f[:, axis, None]))


# Each takes f [B, 3] and gives nine, three (weights and moments apart) or four columns, as above.
_x, _x_slope = (_columns(evaluate, 0, _X) for evaluate in (_evaluate, _derivative))
_y, _y_slope = (_columns(evaluate, 1, _Y) for evaluate in (_evaluate, _derivative))
_xw, _xd, _yw, _yd = (_columns(_evaluate, axis, t) for axis in range(2) for t in (_WEIGHT, _MOMENT))
_zw, _zd = (_columns(_evaluate, 2, table) for table in (_ZW, _ZD))
_zw_slope, _zd_slope = (_columns(_derivative, 2, table) for table in (_ZW, _ZD))


@_stage
def _merge(w: jax.Array, d: jax.Array, values: jax.Array, slopes: jax.Array) -> jax.Array:
    """Carries rows [B, L], and their slopes along an axis, to its n nodes: [B, n, L]."""
    return w[:, :, None] * values[:, None] + d[:, :, None] * slopes[:, None]


@_stage
def _weigh(w: jax.Array, rows: jax.Array) -> jax.Array:
    return w[:, :, None] * rows[:, None]


@_stage
def _cross(x: jax.Array, y: jax.Array) -> jax.Array:
    return x.reshape(-1, 3, 3, 1) * y.reshape(-1, 3, 1, 3)


@_stage
def _contract(xy: jax.Array, window: jax.Array) -> jax.Array:
    xy = xy.reshape(-1, 3, 9)
    return sum(xy[:, :, q, None] * window[:, None, q] for q in range(9))


@_stage
def _z_moments(w: jax.Array, d: jax.Array, rows: jax.Array) -> jax.Array:
    rows = rows.reshape(-1, 3, 4, 4)
    a, b = w[:, None, :, None] * rows, d[:, :, None] * rows[:, 0]
    first = a[:, :, 0] + a[:, :, 1] + a[:, :, 2]
    return jnp.concatenate([first, (b[:, 0] + b[:, 1] + b[:, 2])[:, None]], 1)


@stage
def _dot(rows: jax.Array, *others: jax.Array) -> jax.Array:
    product = sum(rows[:, m].reshape(-1, 4, 4) * other for m, other in enumerate(others))
    return product[:, 0] + product[:, 1] + product[:, 2]


@stage
def _join(*parts: jax.Array) -> jax.Array:
    return jnp.stack([p[:, 0] + p[:, 1] + p[:, 2] + p[:, 3] for p in parts])


def _z_rows(w: jax.Array, d: jax.Array, coefficients: jax.Array) -> tuple[jax.Array, ...]:
    """Value, x slope and y slope of a run of four nodes, [B, 4, 4] each."""
    value, x, y, z = (coefficients[:, m] for m in range(4))
    return _merge(w, d, value, z), _weigh(w, x), _weigh(w, y)


# Stages end in the shape that they compute, and it is changed between them: a changed shape within
# one keeps its innermost loop from being a vector's.
def spread(f: jax.Array, coefficients: jax.Array) -> jax.Array:
    """Returns what particles add to their stencils, [B, 9, 16]."""
    rows = _z_rows(_zw(f), _zd(f), coefficients)
    value, x_slope, y_slope = (row.reshape(-1, 16) for row in rows)
    w = _yw(f)
    values, slopes = _merge(w, _yd(f), value, y_slope), _weigh(w, x_slope)
    windows = _merge(_xw(f), _xd(f), values.reshape(-1, 48), slopes.reshape(-1, 48))
    return windows.reshape(-1, 9, 16)


def collect(f: jax.Array, window: jax.Array) -> jax.Array:
    """Returns the moments [B, 4, 4] of windows; the transpose of `spread`."""
    return _z_moments(_zw(f), _zd(f), _contract(_cross(_x(f), _y(f)), window))


def collect_with_gradient(
    f: jax.Array, window: jax.Array, coefficients: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns `collect(f, window)`, and the gradient [3, B] of <window, spread(f, coefficients)>.

    The gradient is with respect to f.
    """
    x, y, w, d = _x(f), _y(f), _zw(f), _zd(f)
    rows, held = _contract(_cross(x, y), window), _z_rows(w, d, coefficients)
    gradient = _join(
        _dot(_contract(_cross(_x_slope(f), y), window), *held),
        _dot(_contract(_cross(x, _y_slope(f)), window), *held),
        _dot(rows, *_z_rows(_zw_slope(f), _zd_slope(f), coefficients)),
    )
    return _z_moments(w, d, rows), gradient


@functools.partial(stage, static_argnums=(1, 2))
def locate(x: jax.Array, dx: float, size: int) -> tuple[jax.Array, jax.Array]:
    """Finds the stencils of particles at x [3, B].

    Args:
      x: metres.
      dx: spacing of the nodes, metres; static.
      size: G; static.

    Returns:
      Where the window starts in the grid, [B, 3] int32, and the local coordinate f [B, 3]. Outside
      the grid both are held at its edge: nothing is read or written elsewhere.
    """
    in_cells = x / dx
    base = jnp.clip((in_cells - 0.5).astype(jnp.int32), 0, size - MARGIN)
    f = jnp.clip(in_cells - base, 0.5, 1.5)
    return (base * np.array([[1], [1], [4]], np.int32)).T, f.T


_SCATTER = lax.ScatterDimensionNumbers((1, 2, 3), (), (0, 1, 2))
_GATHER = lax.GatherDimensionNumbers((1, 2, 3), (), (0, 1, 2))


def add_windows(grid: jax.Array, start: jax.Array, windows: jax.Array) -> jax.Array:
    """Adds windows [B, 9, 16] to the grid at `start` [B, 3]."""
    windows = windows.reshape(-1, *WINDOW)
    return lax.scatter_add(grid, start, windows, _SCATTER, mode="promise_in_bounds")


@stage
def take_windows(grid: jax.Array, start: jax.Array) -> jax.Array:
    """Reads windows [B, 9, 16] of the grid at `start` [B, 3]."""
    windows = lax.gather(grid, start, _GATHER, WINDOW, mode="promise_in_bounds")
    return windows.reshape(-1, 9, 16)
