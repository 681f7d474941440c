"""Hair as paint on the skull: where it is, its colour, and strands for where no photo shows it.

Axes: N points, V vertices of the refined mesh, V0 of the model's own (the first of V).
"""

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from recon.painting import shading
from recon.painting.surface import Surface, ramp, refinement
from recon.painting.trust import Seen

_SEED = 7
_CROWN = np.array([0.0, 0.82, -0.57])  # direction from the middle of the head
_STRANDS = ((0.12, 0.5), (0.05, 0.6), (0.02, 0.6))  # width in eye distances, share of the pattern
_CELLS_DOWN = 10  # of the pattern, from the crown to the neck: strands are long
_LEAN = 0.006  # of a turn, by which locks lean on each other
_HAIRLINE = 0.05  # by how much strands fray it
_BESIDE = 0.55, 0.7  # eye distances from the middle: face, side of the head
_SMOOTHNESS = 4.0  # of the hairline, where no photo shows it
_ENOUGH = 4.0  # vertices fully trusted, to tell a colour
_CAST = 0.15  # log colour
_FALLBACK = 0.12  # grey of hair when nothing at all is seen of it


def strands(place: np.ndarray) -> np.ndarray:
    """A pattern [N] of about unit variance, running down from the crown, at places [N, 3].

    Strands keep their width: the finer of two neighbouring octaves fades in away from the crown.
    """
    rng = np.random.default_rng(_SEED)
    middle, half = np.array([0.0, 0.0, -0.85]), np.array([0.95, 1.3, 1.15])
    direction = (place - middle) / half
    direction = direction / np.maximum(np.linalg.norm(direction, axis=-1, keepdims=True), 1e-9)
    side = np.array([1.0, 0.0, 0.0])
    down = np.arccos(np.clip(direction @ _CROWN, -1, 1)) / np.pi
    around = np.arctan2(direction @ side, direction @ np.cross(_CROWN, side)) / (2 * np.pi)
    around = around + _LEAN * _noise(rng.normal(size=(8, _CELLS_DOWN + 1)), around, down)
    circumference = 2 * np.pi * half.mean() * np.sin(np.pi * np.clip(down, 0.02, 0.98))
    pattern = np.zeros(len(place))
    for width, share in _STRANDS:
        octave = np.clip(np.log2(circumference / width), 2, 11)
        for level in range(2, 13):
            values = rng.normal(size=(2**level, _CELLS_DOWN + 1))
            weight = np.maximum(1 - np.abs(octave - level), 0)
            near = weight > 0
            pattern[near] += share * weight[near] * _noise(values, around[near], down[near])
    return pattern


def _noise(values: np.ndarray, around: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Interpolates `values` [cells around, cells down + 1] smoothly, wrapping around [N]."""
    count, cells = values.shape[0], values.shape[1] - 1
    x, y = (around % 1.0) * count, np.clip(down, 0, 0.999) * cells
    i, j = np.floor(x).astype(int), np.floor(y).astype(int)
    u, v = ramp(x - i, 0, 1), ramp(y - j, 0, 1)
    left, right = (
        values[k % count, j] * (1 - v) + values[k % count, j + 1] * v for k in (i, i + 1)
    )
    return left * (1 - u) + right * u


def hair_share(surface: Surface, seen: Seen, pattern: np.ndarray) -> np.ndarray:
    """How far [V] each vertex is hair: as the photo shows, spread to where it shows nothing.

    Args:
      surface: of the model, on the host.
      seen: what the photo shows.
      pattern: [V] of `strands`.
    """
    n = surface.num_coarse
    parts = {name: part[:n] for name, part in surface.parts.items()}
    trust = seen.trust[:n] * (parts["features"] < 0.1)
    bare = np.maximum(np.maximum(parts["ears"], parts["neck"]), parts["features"])
    known = 0.01 + (np.maximum(parts["skull"], bare) > 0.8)
    ties = sparse.csr_array(
        (_SMOOTHNESS * surface.coarse_stiffness, tuple(surface.coarse_edges.T)), shape=(n, n)
    )
    ties = ties + ties.T
    system = sparse.diags_array(ties.sum(axis=1) + known + trust) - ties
    right = known * (parts["skull"] > 0.5) + trust * seen.unlike_skin[:n]
    share = linalg.spsolve(sparse.csc_array(system), right)
    share = refinement(surface) @ share
    return ramp(share + _HAIRLINE * pattern, 0.4, 0.6)


def without_stray_hair(surface: Surface, seen: Seen, share: np.ndarray) -> Seen:
    """Distrusts, beside the face, what is unlike skin where the head is to have no hair.

    Locks that hang over temples and ears, and the arms of glasses, would stay there as patches.
    """
    beside = ramp(np.abs(surface.place[:, 0]), *_BESIDE)
    return seen._replace(trust=seen.trust * (1 - beside * seen.unlike_skin * (1 - share)))


def hair_color(surface: Surface, seen: Seen) -> tuple[np.ndarray, float]:
    """The median log colour [3] of hair and the spread of its lightness."""
    parts = surface.parts
    skull = seen.trust * (parts["skull"] > 0.5)
    covered = skull * seen.unlike_skin
    if covered.sum() > 0.05 * skull.sum():  # else bald: the skull shows its own colour
        skull = covered
    light = seen.log_rgb.mean(-1, keepdims=True)
    if skull.sum() > _ENOUGH:
        off = np.abs(light - shading.weighted_median(light, skull))
        contrast = 0.8 * shading.weighted_median(off, skull)[0]
        color = shading.weighted_median(seen.log_rgb, skull)
        return _without_lilac(color), float(np.clip(contrast, 0.03, 0.2))
    # No skull in the photo: brows and lashes, the darkest of the face, come closest.
    face = seen.trust * parts["face"]
    if face.sum() > _ENOUGH:
        is_dark = light[:, 0] < np.quantile(light[face > 0.5, 0], 0.05)
        return _without_lilac(shading.weighted_median(seen.log_rgb, face * is_dark)), 0.06
    return shading.to_log(np.full(3, _FALLBACK)), 0.06


def _without_lilac(log_rgb: np.ndarray) -> np.ndarray:
    """A colour [3] of hair whose green is not below its blue: a cast of dark and of bright pixels.

    What is dyed is of stronger colours, and keeps most of them.
    """
    red, green, blue = log_rgb
    return np.array([red, min(max(green, blue), green + _CAST), blue])
