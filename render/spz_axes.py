"""The axes that an .spz file may be in, and the way from there to ours: x right, y down, z forward.

A number names what x, y and z point to: 1 to 8 are LDB, RDB, LUB, RUB, LDF, RDF, LUF and RUF, as of
left and right, down and up, back and forward; 9 to 16 are the same with z for down and up. Where an
odd number of axes differs, Gaussians are mirrored, which they stand.

Axes: N Gaussians, M harmonics.

Source: Adobe, the extension of .spz that names the coordinate system.
"""

from typing import NamedTuple

import jax
import numpy as np

from render.gaussians import Gaussians, move_gaussians

_NAMES = [x + y + z for z in "BF" for y in "DU" for x in "LR"]
_NAMES += [x + y + z for y in "FB" for z in "DU" for x in "LR"]
_OURS = "RDF"
_QUARTER = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # y to z


class AxisTurn(NamedTuple):
    """Changes the signs of axes, then turns by a quarter about x where z is up or down."""

    signs: tuple[int, int, int]
    is_quarter: bool

    def apply(self, gaussians: Gaussians) -> Gaussians:
        """Carries Gaussians [N], NumPy's arrays, from the file's axes to ours."""
        x, y, z = self.signs
        turned = gaussians.replace(
            means=gaussians.means * np.array(self.signs),
            # D R D for the reflection D, which leaves a covariance's axes where they belong.
            quats=gaussians.quats * np.array([1, y * z, x * z, x * y]),
            harmonics=gaussians.harmonics * self._parities(gaussians.harmonics.shape[1])[:, None],
        )
        if not self.is_quarter:
            return turned
        turned = jax.tree.map(np.float32, turned)
        return jax.tree.map(np.asarray, move_gaussians(turned, np.float32(_QUARTER)))

    def _parities(self, num_harmonics: int) -> np.ndarray:
        """Signs [M] that real harmonics take on, by how they behave when an axis changes its."""
        found = []
        for index in range(num_harmonics):
            band = int(np.sqrt(index))
            order = index - band * (band + 1)
            sine = -1 if order < 0 else 1  # of the azimuth, else cosine
            found.append(
                (self.signs[0] if (-1) ** order * sine < 0 else 1)
                * (self.signs[1] if sine < 0 else 1)
                * (self.signs[2] if (band + order) % 2 else 1)
            )
        return np.array(found)


def turn_of(number: int) -> AxisTurn:
    """Returns the way from the axes of that number to ours.

    Raises:
      ValueError: no axes have it.
    """
    if not 1 <= number <= len(_NAMES):
        raise ValueError(f"expected coordinates 1 to {len(_NAMES)} in .spz, found {number}")
    x, y, z = _NAMES[number - 1]
    if y in "DU":
        return AxisTurn(
            tuple(1 if a == b else -1 for a, b in zip(x + y + z, _OURS, strict=True)), False
        )
    return AxisTurn((1 if x == "R" else -1, 1 if y == "F" else -1, -1 if z == "D" else 1), True)
