"""Fewer particles than a scene file means: what it states of each goes on to those that are left.

A file that pushes each particle with a force means as many pushes as it has particles. Each of them
goes to the particle left next to it, with the mass that it had, so that what is left gets the
velocity there; the mean over all, by mass, is then made exactly that of the file.

Axes: N particles left, P that the file means.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree


class MeantParticles(NamedTuple):
    """The particles that a scene file means, on its own grid."""

    x: np.ndarray  # [P, 3] metres in the box
    mass: np.ndarray  # [P] kilograms


def pushes_per_mass(
    x: np.ndarray,
    mass: np.ndarray,
    chosen: np.ndarray,
    meant: MeantParticles,
    meant_chosen: np.ndarray,
) -> np.ndarray:
    """Returns how many of the file's pushes each particle gets per kilogram, [N].

    Args:
      x: [N, 3] metres in the box.
      mass: [N] kilograms.
      chosen: [N] bool, who is pushed.
      meant: the particles of the file.
      meant_chosen: [P] bool, who of them is pushed.
    """
    own = np.flatnonzero(chosen)
    nearest = cKDTree(x[own]).query(meant.x[meant_chosen])[1]
    pushed_mass = meant.mass[meant_chosen]
    pushes = np.bincount(nearest, minlength=len(own))
    masses = np.bincount(nearest, pushed_mass, minlength=len(own))
    mean = np.sum(meant_chosen) / np.sum(pushed_mass)
    rate = np.where(pushes > 0, pushes / np.where(pushes > 0, masses, 1.0), mean)
    rate *= mean * np.sum(mass[own]) / np.sum(rate * mass[own])
    found = np.zeros(len(x))
    found[own] = rate
    return found
