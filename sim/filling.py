"""Particles inside hollow objects, and fewer particles where Gaussians are many.

Captured Gaussians cover surfaces. Their density on a grid is the sum of opacity * exp(-d^2 / 2)
over Gaussians, d the Mahalanobis distance, mean over a cell's corners. Cells above a threshold are
matter; so are empty cells that see matter along five of the six axes and cross it an odd number of
times along a ray. Host code, seeded, not differentiable.

Axes: N Gaussians, P points, G cells along the grid, K Gaussians of a batch, W window nodes a side.

Source: Xie et al. 2024 (PhysGaussian, section 3.5), and what its particle_filling does; the
smoothing is ours (theirs is PyMCubes', of the same field: signed distance to the surface, cells).
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from sim.scene import Filling

_NONE = 6  # no direction
_BATCH_NODES = 2_000_000  # of windows that are in memory at once
_MAX_REACH = 6  # cells: a wider Gaussian goes to a coarser grid, where it is smooth
_MIN_VARIANCE = 1e-8  # metres^2: a flat Gaussian is this thick
_SMOOTH_ROUNDS = 16
_SMOOTH_CELLS = 0.4  # that a surface moves by smoothing; half a cell would change sides
_SMOOTH_BAND = 100.0  # cells: no threshold is further from a surface
_MAX_ROUNDS = 40  # bisection of the spacing of a subsample


class _Grid(NamedTuple):
    """A cube of cells."""

    origin: np.ndarray  # [3] metres
    dx: float
    size: int  # G


class Filled(NamedTuple):
    """What was filled in, and what the thresholds had to tell apart."""

    points: np.ndarray  # [P, 3] metres in the box
    typical_density: float  # median over the cells that hold Gaussians, see `Filling`
    num_dense: int  # cells above the density_threshold
    num_enclosed: int  # empty cells inside


def find_filling(
    means: np.ndarray,
    covariances: np.ndarray,
    opacities: np.ndarray,
    filling: Filling,
    grid_lim: float,
    seed: int = 0,
) -> Filled:
    """Finds points where the object lacks particles.

    Args:
      means: [N, 3] metres in the box.
      covariances: [N, 3, 3] metres^2.
      opacities: [N] in [0, 1].
      filling: settings; its grid covers the box, or a cube at its `boundary`'s lower corner.
      grid_lim: side of the box, metres.
      seed: of the places within cells, and of which cells are kept above `max_particles_num`.
    """
    grid = _Grid(np.zeros(3), grid_lim / filling.n_grid, filling.n_grid)
    if filling.boundary is not None:
        low, high = np.reshape(filling.boundary, (3, 2)).T
        inside = np.all((means > low) & (means < high), -1)
        means, covariances, opacities = means[inside], covariances[inside], opacities[inside]
        grid = _Grid(low, float(np.max(high - low)) / filling.n_grid, filling.n_grid)
    count = count_in_cells(means, grid.origin, grid.dx, grid.size)
    density = density_field(means, covariances, opacities, grid.origin, grid.dx, grid.size)

    # As the original: dense cells are topped up; cells that hold no Gaussian are tested.
    most = filling.max_particles_per_cell
    wanted = np.where(density > filling.density_threshold, np.maximum(most - count, 0), 0)
    is_empty = (count + wanted) == 0
    field = _signed_distance(density) if filling.smooth else density
    # Thin shells have no corner of a cell within them; what holds them is matter all the same.
    inside = is_inside(
        (field > filling.search_threshold) | (count > 0),
        filling.search_exclude_direction,
        filling.ray_cast_direction,
    )
    is_enclosed = is_empty & inside
    wanted[is_enclosed] = most
    cells = np.repeat(np.flatnonzero(wanted), wanted[wanted > 0])
    rng = np.random.default_rng(seed)
    if len(cells) > filling.max_particles_num:
        cells = np.sort(rng.choice(cells, filling.max_particles_num, replace=False))
    corner = np.stack(np.unravel_index(cells, wanted.shape), -1)
    return Filled(
        points=grid.origin + (corner + rng.random((len(cells), 3))) * grid.dx,
        typical_density=float(np.median(density[count > 0])) if np.any(count) else 0.0,
        num_dense=int(np.sum(density > filling.density_threshold)),
        num_enclosed=int(np.sum(is_enclosed)),
    )


def density_field(
    means: np.ndarray,
    covariances: np.ndarray,
    opacities: np.ndarray,
    origin: np.ndarray,
    dx: float,
    size: int,
) -> np.ndarray:
    """Returns the density [G, G, G] of Gaussians in each cell, float32.

    A Gaussian adds to the cells that lie within its largest standard deviation, in whole cells,
    of its own. One that reaches far is evaluated on a grid two, four ... times as coarse.
    """
    variance, axes = np.linalg.eigh(covariances.astype(np.float64))
    variance = np.maximum(variance, _MIN_VARIANCE)
    precision = np.einsum("nij,nj,nkj->nik", axes, 1.0 / variance, axes)
    sigma = np.sqrt(variance[:, -1])
    level = np.ceil(np.log2(np.maximum(sigma / (dx * _MAX_REACH), 1.0))).astype(int)
    # A Gaussian wider than the box is flat over it, so the last level may hold it with its window
    # cut short.
    level = np.minimum(level, int(np.log2(size)))
    total = np.zeros([size] * 3, np.float32)
    for step in np.unique(level):
        coarse = 2**step
        chosen = level == step
        grid = _Grid(origin, dx * coarse, -(-size // coarse))
        reach = np.ceil(sigma / grid.dx).astype(int)
        part = np.zeros(grid.size**3, np.float64)
        for r in np.unique(reach[chosen]):
            index = np.flatnonzero(chosen & (reach == r))
            window = min(int(r), _MAX_REACH)
            batch = max(1, _BATCH_NODES // (2 * window + 2) ** 3)
            for start in range(0, len(index), batch):
                some = index[start : start + batch]
                _add_windows(part, grid, window, means[some], precision[some], opacities[some])
        part = part.reshape([grid.size] * 3).astype(np.float32)
        for axis in range(3):
            part = np.repeat(part, coarse, axis) if coarse > 1 else part
        total += part[:size, :size, :size]
    return total


def is_inside(is_matter: np.ndarray, exclude: int, ray: int) -> np.ndarray:
    """Returns which cells [G, G, G] lie inside the matter around them.

    Args:
      is_matter: [G, G, G] bool.
      exclude: direction 0..5 (+x -x +y -y +z -z) along which no matter need be seen.
      ray: direction along which matter is entered an odd number of times; none of 0..5: any.
    """
    inside = np.ones(is_matter.shape, bool)
    for direction in range(6):
        if direction != exclude:
            seen = np.logical_or.accumulate(_towards(is_matter, direction), 0)
            inside &= _back(_shifted(seen), direction)
    if not 0 <= ray <= 5:
        return inside
    # Along the ray, matter begins where a cell has it and the one before it, nearer to us, has not.
    # The cell we stand in counts as free, also where the density there says otherwise.
    ahead = _towards(is_matter, ray)
    nearer = np.concatenate([ahead[1:], np.zeros_like(ahead[:1])])
    begins = ahead & ~nearer
    entered = _shifted(np.cumsum(begins, 0, dtype=np.int16)) + (_shifted(ahead) & ahead)
    return inside & _back(entered % 2 == 1, ray)


def subsample(
    x: np.ndarray, spacing: float | None = None, max_particles: int | None = None
) -> np.ndarray:
    """Returns the index [P] of points that are spread evenly over those at `x` [N, 3].

    Of the points in a cube of a lattice the one nearest to the cube's middle is kept.

    Args:
      x: metres.
      spacing: of the lattice; None to keep all that `max_particles` allows.
      max_particles: the spacing grows until no more are left.
    """
    kept = np.arange(len(x)) if spacing is None else _nearest_to_middles(x, spacing)
    if max_particles is None or len(kept) <= max_particles:
        return kept
    low, high = 0.0, max(float(np.ptp(x, 0).max()), 1e-9)
    best = None
    for _ in range(_MAX_ROUNDS):
        middle = 0.5 * (low + high)
        kept = _nearest_to_middles(x, middle)
        if len(kept) > max_particles:
            low = middle
        else:
            best, high = kept, middle
            if len(kept) > 0.99 * max_particles:
                break
    return best if best is not None else _nearest_to_middles(x, 2.0 * high)[:max_particles]


def count_in_cells(x: np.ndarray, origin: np.ndarray, dx: float, size: int) -> np.ndarray:
    """Returns how many points [P, 3] lie in each cell [G, G, G] of a cube from `origin` on."""
    cell = np.floor((x - origin) / dx).astype(np.int64)
    cell = cell[np.all((cell >= 0) & (cell < size), -1)]
    shape = [size] * 3
    flat = np.ravel_multi_index(tuple(cell.T), shape)
    return np.bincount(flat, minlength=size**3).reshape(shape)


def cells_inside(is_matter: np.ndarray) -> np.ndarray:
    """Returns which cells [G, G, G] are matter or see some along all six axes."""
    return is_matter | is_inside(is_matter, _NONE, _NONE)


def _add_windows(
    part: np.ndarray,
    grid: _Grid,
    reach: int,
    means: np.ndarray,
    precision: np.ndarray,
    opacities: np.ndarray,
) -> None:
    """Adds to flat `part` [G^3] what K Gaussians have in the cells around their own."""
    x = ((means - grid.origin) / grid.dx).astype(np.float64)
    own = np.floor(x).astype(np.int64)
    steps = np.arange(-reach, reach + 2)  # [W] nodes: one more than cells
    d = (own[:, None] + steps[:, None] - x[:, None]).astype(np.float32)  # [K, W, 3] cells
    p = (0.5 * grid.dx**2 * precision).astype(np.float32)  # [K, 3, 3]
    # d^T p d as sums over pairs of axes, so that nothing larger than the window is ever held.
    dx, dy, dz = d[..., 0], d[..., 1], d[..., 2]
    xy = (
        p[:, 0, 0, None, None] * (dx**2)[:, :, None]
        + p[:, 1, 1, None, None] * (dy**2)[:, None, :]
        + 2.0 * p[:, 0, 1, None, None] * dx[:, :, None] * dy[:, None, :]
    )  # [K, W, W]
    slope = 2.0 * (
        p[:, 0, 2, None, None] * dx[:, :, None] + p[:, 1, 2, None, None] * dy[:, None, :]
    )
    power = xy[..., None] + (p[:, 2, 2, None] * dz**2)[:, None, None, :]
    power += slope[..., None] * dz[:, None, None, :]
    np.negative(power, out=power)
    np.exp(power, out=power)
    for axis in (1, 2, 3):  # mean of the eight corners
        first = np.take(power, range(power.shape[axis] - 1), axis)
        power = 0.5 * (first + np.take(power, range(1, power.shape[axis]), axis))
    power *= opacities.astype(np.float32)[:, None, None, None]

    cells = own[:, None] + steps[:-1, None]  # [K, W - 1, 3]
    is_in = (cells >= 0) & (cells < grid.size)
    cells = np.clip(cells, 0, grid.size - 1)
    flat = cells[:, :, None, None, 0] * grid.size + cells[:, None, :, None, 1]
    flat = flat * grid.size + cells[:, None, None, :, 2]
    power *= is_in[:, :, None, None, 0] & is_in[:, None, :, None, 1] & is_in[:, None, None, :, 2]
    part += np.bincount(flat.ravel(), power.ravel(), minlength=part.size)


def _towards(grid: np.ndarray, direction: int) -> np.ndarray:
    """Turns the grid so that what lies ahead in the direction comes first along the first axis."""
    grid = np.moveaxis(grid, direction // 2, 0)
    return grid if direction % 2 else grid[::-1]


def _back(grid: np.ndarray, direction: int) -> np.ndarray:
    return np.moveaxis(grid if direction % 2 else grid[::-1], 0, direction // 2)


def _shifted(grid: np.ndarray) -> np.ndarray:
    """Moves along the first axis by one: each cell gets what the one ahead of it has."""
    return np.concatenate([np.zeros_like(grid[:1]), grid[:-1]])


def _signed_distance(density: np.ndarray) -> np.ndarray:
    """Returns the distance [G, G, G] to the surface of all density, cells, positive within.

    Smoothed, but no cell changes its side, and thin walls stay.
    """
    is_matter = density > 0
    inner = ndimage.distance_transform_edt(is_matter)
    outer = ndimage.distance_transform_edt(~is_matter)
    exact = np.where(is_matter, inner - 0.5, 0.5 - outer).astype(np.float32)
    np.clip(exact, -_SMOOTH_BAND, _SMOOTH_BAND, out=exact)
    field = exact
    for _ in range(_SMOOTH_ROUNDS):
        field = ndimage.uniform_filter(field, 3, mode="nearest")
        field = np.clip(field, exact - _SMOOTH_CELLS, exact + _SMOOTH_CELLS)
    return field


def _nearest_to_middles(x: np.ndarray, spacing: float) -> np.ndarray:
    """Returns the index, growing, of one point of each cube of a lattice."""
    place = (x - x.min(0)) / spacing
    cube = np.floor(place)
    shape = cube.max(0).astype(np.int64) + 1
    cube = cube.astype(np.int64)
    code = (cube[:, 0] * shape[1] + cube[:, 1]) * shape[2] + cube[:, 2]
    distance = np.sum((place - cube - 0.5) ** 2, -1)
    order = np.lexsort((distance, code))
    is_first = np.diff(code[order], prepend=-1) > 0
    return np.sort(order[is_first])
