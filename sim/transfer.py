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
_LANES = np.array([(m, i, j) for m in range(3) for i in range(3) for j in range(3)])
_SLOPE, _I, _J = _LANES.T  # value, x or y slope; x and y of the node
_X = np.where(_SLOPE == 1, _MOMENT[:, _I], _WEIGHT[:, _I])
_Y = np.where(_SLOPE == 2, _MOMENT[:, _J], _WEIGHT[:, _J])
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


_xy = stage(lambda f: _evaluate(_X, f[:, 0:1]) * _evaluate(_Y, f[:, 1:2]))  # [B, 27] of f [B, 3]
_xy_dx = stage(lambda f: _derivative(_X, f[:, 0:1]) * _evaluate(_Y, f[:, 1:2]))
_xy_dy = stage(lambda f: _evaluate(_X, f[:, 0:1]) * _derivative(_Y, f[:, 1:2]))


def _z_rows(evaluate):
    def rows(f: jax.Array, coefficients: jax.Array) -> jax.Array:
        w, d = evaluate(_ZW, f[:, 2:3])[:, :, None], evaluate(_ZD, f[:, 2:3])[:, :, None]
        value, slopes = coefficients[:, 0:1], coefficients[:, 1:3, None]
        value = (w * value + d * coefficients[:, 3:4])[:, None]
        return jnp.concatenate([value, w[:, None] * slopes], 1).reshape(-1, 3, 16)

    return stage(rows)


_z = _z_rows(_evaluate)  # [B, 3, 16] of f and coefficients
_z_dz = _z_rows(_derivative)


_x_weights, _x_moments, _y_weights, _y_moments = (
    stage(lambda f, table=table, axis=axis: _evaluate(table, f[:, axis, None]))
    for axis in range(2)
    for table in (_WEIGHT, _MOMENT)
)  # [B, 3] each


@stage
def _along_y(w: jax.Array, d: jax.Array, rows: jax.Array) -> jax.Array:
    """Values and x slopes of three runs of four nodes, [B, 2, 48]."""
    values = w[:, :, None] * rows[:, 0, None] + d[:, :, None] * rows[:, 2, None]
    slopes = w[:, :, None] * rows[:, 1, None]
    return jnp.stack([values, slopes], 1).reshape(-1, 2, 48)


@stage
def _along_x(w: jax.Array, d: jax.Array, runs: jax.Array) -> jax.Array:
    spread = w[:, :, None] * runs[:, 0, None] + d[:, :, None] * runs[:, 1, None]
    return spread.reshape(-1, 9, 16)


@stage
def _contract(xy: jax.Array, window: jax.Array) -> jax.Array:
    xy = xy.reshape(-1, 3, 9)
    return sum(xy[:, :, q, None] * window[:, None, q] for q in range(9))


@stage
def _z_moments(f: jax.Array, rows: jax.Array) -> jax.Array:
    w = _evaluate(_ZW, f[:, 2:3])[:, :, None]
    d = _evaluate(_ZD, f[:, 2:3])[:, :, None]
    rows = rows.reshape(-1, 3, 4, 4)
    a, b = w[:, None] * rows, d * rows[:, 0]
    first = a[:, :, 0] + a[:, :, 1] + a[:, :, 2]
    return jnp.concatenate([first, (b[:, 0] + b[:, 1] + b[:, 2])[:, None]], 1)


@stage
def _dot(rows: jax.Array, others: jax.Array) -> jax.Array:
    product = sum(rows[:, m] * others[:, m] for m in range(3))
    return product[:, 0:4] + product[:, 4:8] + product[:, 8:12]


@stage
def _join(*parts: jax.Array) -> jax.Array:
    return jnp.stack([p[:, 0] + p[:, 1] + p[:, 2] + p[:, 3] for p in parts])


def spread(f: jax.Array, coefficients: jax.Array) -> jax.Array:
    """Returns what particles add to their stencils, [B, 9, 16]."""
    runs = _along_y(_y_weights(f), _y_moments(f), _z(f, coefficients))
    return _along_x(_x_weights(f), _x_moments(f), runs)


def collect(f: jax.Array, window: jax.Array) -> jax.Array:
    """Returns the moments [B, 4, 4] of windows; the transpose of `spread`."""
    return _z_moments(f, _contract(_xy(f), window))


def collect_with_gradient(
    f: jax.Array, window: jax.Array, coefficients: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns `collect(f, window)`, and the gradient [3, B] of <window, spread(f, coefficients)>.

    The gradient is with respect to f.
    """
    rows = _contract(_xy(f), window)
    held = _z(f, coefficients)
    gradient = _join(
        _dot(_contract(_xy_dx(f), window), held),
        _dot(_contract(_xy_dy(f), window), held),
        _dot(rows, _z_dz(f, coefficients)),
    )
    return _z_moments(f, rows), gradient


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
