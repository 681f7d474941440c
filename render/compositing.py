"""Blends lists of Gaussians over the pixels of their tiles, front to back, with its own gradient.

A tile walks through its list in chunks of K Gaussians, several tiles at a time. The way there keeps
the transmittance before each chunk, 1 kB for 16 x 16 pixels, and nothing else; the way back starts
behind the last chunk and needs no division by what a Gaussian lets through.

With T_k the transmittance before Gaussian k, alpha_k its coverage, c_k its colour and g the
gradient of the loss by the pixel, R_k = g . (what lies behind k) / T_(k+1) obeys

  d_k = g . c_k - R_k,   dL / d log alpha_k = alpha_k T_k d_k,   R_(k-1) = R_k + alpha_k d_k,

and R starts as the gradient by the last transmittance.

Axes: S slots of all lists, a multiple of K; G groups of B tiles; P pixels of a tile.

Sources: Kerbl et al. 2023 (front to back, 1/255, early stop); the recursion is derived here.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from render.gaussians import MIN_ALPHA
from render.stages import stage

CHUNK = 8  # K
ROW = 16  # floats of a row: x, y from the tile's centre, a, b, c, log opacity, 4 channels, padding
NUM_CHANNELS = 4  # red, green, blue, depth
_FIRST_CHANNEL = 6
_MAX_ALPHA = 0.999  # keeps what lies behind an opaque Gaussian in reach of the gradient
_HALF = CHUNK // 2


def composite(
    rows: jax.Array,
    start: jax.Array,
    count: jax.Array,
    size: int,
    min_transmittance: float,
    forward_mode: bool = False,
) -> jax.Array:
    """Blends the lists of tiles.

    Args:
      rows: [S, 16] as `ROW` says; the last K rows hold nothing that can be seen.
      start: [G, B] int32 first slot of each tile, a multiple of K.
      count: [G, B] int32 slots of each tile.
      size: of a tile, pixels.
      min_transmittance: a group of tiles stops where all its pixels let less through.
      forward_mode: differentiable by `jax.jvp` in place of `jax.vjp`.

    Returns:
      [G, B, 5, P] sums of the channels times weight, and the transmittance that is left.
    """
    blend = _plain_composite if forward_mode else _reversible_composite
    return blend(rows, start, count, size, min_transmittance)


def _plain_composite(rows, start, count, size, min_transmittance):
    return _forward(rows, start, count, size, min_transmittance, keep=False)[0]


_reversible_composite = jax.custom_vjp(_plain_composite, nondiff_argnums=(3, 4))


def _forward(rows, start, count, size, min_transmittance, keep):
    """Returns the pixels, and what the way back needs: steps [G] and transmittances [S / K, P]."""
    shape = start.shape[1], size * size
    nothing = rows.shape[0] // CHUNK - 1

    def blend_group(kept, group):
        first, num_chunks = group

        def goes_on(state):
            step, _, transmittance, _ = state
            is_open = (transmittance > min_transmittance) & (step < num_chunks)[:, None]
            return jnp.any(is_open)

        def blend_chunk(state):
            step, kept, transmittance, sums = state
            chunk = jnp.where(step < num_chunks, first + step, nothing)
            if keep:
                kept = kept.at[chunk].set(transmittance, mode="promise_in_bounds")
            here = _take(rows, chunk)
            transmittance, sums = _blend(transmittance, sums, _alphas(here, size), here)
            return step + 1, kept, transmittance, sums

        zero = jnp.zeros(shape, rows.dtype)
        start = jnp.int32(0), kept, zero + 1, (zero,) * NUM_CHANNELS
        steps, kept, transmittance, sums = lax.while_loop(goes_on, blend_chunk, start)
        return kept, (steps, jnp.stack([*sums, transmittance], 1))

    kept = jnp.zeros((rows.shape[0] // CHUNK, shape[1]) if keep else (), rows.dtype)
    chunks = start // CHUNK, (count + CHUNK - 1) // CHUNK
    kept, (steps, pixels) = lax.scan(blend_group, kept, chunks)
    return pixels, (steps, kept)


def _composite_forward(rows, start, count, size, min_transmittance):
    pixels, kept = _forward(rows, start, count, size, min_transmittance, keep=True)
    return pixels, (rows, start, count, *kept)


def _composite_backward(size, min_transmittance, saved, gradient):
    del min_transmittance  # the steps that were taken are known
    rows, start, count, steps, kept = saved
    num_chunks = rows.shape[0] // CHUNK
    monomials = jnp.asarray(_monomials(size), rows.dtype)

    def unblend_group(result, group):
        first, num_chunks_here, steps, gradient = group

        def unblend_chunk(number, state):
            result, behind = state
            step = steps - 1 - number
            chunk = jnp.where(step < num_chunks_here, first + step, num_chunks - 1)
            here = _take(rows, chunk)
            alphas = _alphas(here, size)
            weights = _weights(kept.at[chunk].get(mode="promise_in_bounds"), alphas)
            pull = _color_gradient(here, gradient)
            back = _exponent_gradient(_HALF)(behind, alphas, pull, weights)
            behind = _behind(_HALF)(behind, alphas, pull)
            front = _exponent_gradient(0)(behind, alphas, pull, weights)
            behind = _behind(0)(behind, alphas, pull)
            moments = [(half.reshape(-1, size**2) @ monomials) for half in (front, back)]
            moments = jnp.concatenate([m.reshape(-1, _HALF, 6) for m in moments], 1)
            channels = jnp.einsum("bkp,bcp->bkc", weights, gradient)[..., :NUM_CHANNELS]
            update = jnp.concatenate([moments, channels], -1)
            return result.at[chunk].set(update, mode="promise_in_bounds"), behind

        state = result, gradient[:, NUM_CHANNELS]
        result, _ = lax.fori_loop(0, steps, unblend_chunk, state)
        return result, None

    result = jnp.zeros((num_chunks, CHUNK, 6 + NUM_CHANNELS), rows.dtype)
    chunks = start // CHUNK, (count + CHUNK - 1) // CHUNK
    result, _ = lax.scan(unblend_group, result, (*chunks, steps, gradient))
    return _row_gradient(rows, result.reshape(-1, 6 + NUM_CHANNELS)), None, None


_reversible_composite.defvjp(_composite_forward, _composite_backward)


def _take(rows: jax.Array, chunk: jax.Array) -> jax.Array:
    """Returns the rows [B, K, 16] of chunks [B]."""
    chunks = rows.reshape(-1, CHUNK, ROW)
    return jax.vmap(lambda i: lax.dynamic_index_in_dim(chunks, i, keepdims=False))(chunk)


def _offsets(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres [P] from the centre of the tile, x and y."""
    line = np.arange(size) - 0.5 * (size - 1)
    y, x = np.meshgrid(line, line, indexing="ij")
    return x.ravel(), y.ravel()


def _monomials(size: int) -> np.ndarray:
    x, y = _offsets(size)
    return np.stack([np.ones(size**2), x, y, x * x, x * y, y * y], -1)


@functools.partial(stage, static_argnums=1)
def _alphas(rows: jax.Array, size: int) -> jax.Array:
    """Coverage [B, K, P] of the pixels by Gaussians [B, K, 16]."""
    px, py = (jnp.asarray(v, rows.dtype) for v in _offsets(size))
    x, y, a, b, c, log_opacity = (rows[..., i, None] for i in range(6))
    # The exponent over 8 as a polynomial of the pixel: what depends on the row alone stays small.
    slope_x, slope_y = (a * x + b * y) / 8, (b * x + c * y) / 8
    constant = log_opacity / 8 - (x * slope_x + y * slope_y) / 2
    eighth = constant + px * (slope_x - a / 16 * px - b / 8 * py) + py * (slope_y - c / 16 * py)
    alpha = _exp_of_eight(eighth)
    return jnp.where(alpha > MIN_ALPHA, jnp.minimum(alpha, _MAX_ALPHA), 0.0)


def _exp_polynomial(degree: int = 6, low: float = -0.72, high: float = 0.01) -> list[float]:
    """Coefficients that approximate exp on [low, high] with the least relative error."""
    angle = np.pi * (np.arange(400) + 0.5) / 400
    x = low + (high - low) * (np.cos(angle) + 1) / 2
    fit = np.polynomial.Polynomial.fit(x, np.exp(x), degree, w=np.exp(-x))
    return [float(c) for c in fit.convert().coef]


_LOWEST_EIGHTH = -0.72  # exp(8 x) is below `MIN_ALPHA` from -0.69 on
_EXP = _exp_polynomial(low=_LOWEST_EIGHTH)


def _exp_of_eight(x: jax.Array) -> jax.Array:
    """exp(8 x) for x in [-0.72, 0.01], half of what XLA's own exponential costs on a CPU."""
    x = jnp.maximum(x, _LOWEST_EIGHTH)
    if x.dtype != jnp.float32:
        return jnp.exp(8 * x)
    value = jnp.float32(_EXP[-1])
    for coefficient in _EXP[-2::-1]:
        value = value * x + jnp.float32(coefficient)
    for _ in range(3):
        value = value * value
    return value


@stage
def _blend(transmittance, sums, alphas, rows):
    """Lays one chunk over the pixels [B, P]; unrolled, so that each output is one loop."""
    sums = list(sums)
    for k in range(CHUNK):
        weight = alphas[:, k] * transmittance
        for i in range(NUM_CHANNELS):
            sums[i] = sums[i] + weight * rows[:, k, _FIRST_CHANNEL + i, None]
        transmittance = transmittance - weight
    return transmittance, tuple(sums)


@stage
def _weights(transmittance, alphas):
    """Shares [B, K, P] of the pixels that the Gaussians of a chunk have."""
    weights = []
    for k in range(CHUNK):
        weights.append(alphas[:, k] * transmittance)
        transmittance = transmittance - weights[-1]
    return jnp.stack(weights, 1)


@stage
def _color_gradient(rows, gradient):
    """g . c_k [B, K, P]."""
    return sum(
        gradient[:, i, None] * rows[:, :, _FIRST_CHANNEL + i, None] for i in range(NUM_CHANNELS)
    )


# Chains over a whole chunk would be computed anew for each output that hangs on them: XLA fuses one
# loop per output. Halves keep the chains short.
@functools.cache
def _behind(first: int):
    @stage
    def function(behind, alphas, pull):
        """R before the half chunk, from R behind it."""
        for k in reversed(range(first, first + _HALF)):
            behind = behind + alphas[:, k] * (pull[:, k] - behind)
        return behind

    return function


@functools.cache
def _exponent_gradient(first: int):
    @stage
    def function(behind, alphas, pull, weights):
        """dL / d log alpha [B, K / 2, P] of the half chunk."""
        result = []
        for k in reversed(range(first, first + _HALF)):
            difference = pull[:, k] - behind
            behind = behind + alphas[:, k] * difference
            result.append(jnp.where(alphas[:, k] < _MAX_ALPHA, weights[:, k] * difference, 0.0))
        return jnp.stack(result[::-1], 1)

    return function


def _row_gradient(rows: jax.Array, gradient: jax.Array) -> jax.Array:
    """Turns moments of dL / d log alpha over the tile's pixels into gradients of rows [S, 16]."""
    x, y, a, b, c = (rows[:, i] for i in range(5))
    one, px, py, pxx, pxy, pyy = (gradient[:, i] for i in range(6))
    dx, dy = px - x * one, py - y * one  # moments about the Gaussian's own centre
    columns = [
        a * dx + b * dy,
        b * dx + c * dy,
        -0.5 * (pxx - 2 * x * px + x * x * one),
        -(pxy - x * py - y * px + x * y * one),
        -0.5 * (pyy - 2 * y * py + y * y * one),
        one,
        *(gradient[:, 6 + i] for i in range(NUM_CHANNELS)),
    ]
    columns += [jnp.zeros_like(one)] * (ROW - len(columns))
    return jnp.stack(columns, -1)
