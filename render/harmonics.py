"""Real spherical harmonics of degree 0 to 3: colours that depend on the direction they are seen in.

Axes: M = (degree + 1)^2 coefficients, band after band, each from order -l to l. Signs follow the
Condon-Shortley phase, as splat files have them: the first band is (-y, z, -x). SciPy's are complex
and on the host; these run in kernels and are differentiated.

Sources: Kerbl et al. 2023 (the convention of the files); Ramamoorthi and Hanrahan 2001.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

MAX_DEGREE = 3
CONSTANT = 0.5 / math.sqrt(math.pi)  # the harmonic of degree zero


def degree_of(num_coefficients: int) -> int:
    """Returns the degree that has `num_coefficients`.

    Raises:
      ValueError: no degree up to three has that many.
    """
    for degree in range(MAX_DEGREE + 1):
        if num_coefficients == (degree + 1) ** 2:
            return degree
    raise ValueError(f"expected 1, 4, 9 or 16 harmonics, found {num_coefficients}")


def basis(directions: jax.Array, degree: int) -> jax.Array:
    """Evaluates the harmonics up to `degree` at unit vectors [..., 3]; returns [..., M]."""
    x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
    return jnp.stack(_polynomials(x, y, z, degree), -1)


def _polynomials(x, y, z, degree: int) -> list:
    """The harmonics as polynomials on the unit sphere, of NumPy's arrays or JAX's."""
    values = [0.0 * x + CONSTANT]
    if degree > 0:
        k = math.sqrt(3.0 / (4.0 * math.pi))
        values += [-k * y, k * z, -k * x]
    if degree > 1:
        k = math.sqrt(15.0 / (4.0 * math.pi))
        values += [
            k * x * y,
            -k * y * z,
            k / math.sqrt(12.0) * (2.0 * z * z - x * x - y * y),
            -k * x * z,
            0.5 * k * (x * x - y * y),
        ]
    if degree > 2:
        k3, k2 = math.sqrt(35.0 / (32.0 * math.pi)), math.sqrt(105.0 / (4.0 * math.pi))
        k1, k0 = math.sqrt(21.0 / (32.0 * math.pi)), math.sqrt(7.0 / (16.0 * math.pi))
        values += [
            -k3 * y * (3.0 * x * x - y * y),
            k2 * x * y * z,
            -k1 * y * (4.0 * z * z - x * x - y * y),
            k0 * z * (2.0 * z * z - 3.0 * x * x - 3.0 * y * y),
            -k1 * x * (4.0 * z * z - x * x - y * y),
            0.5 * k2 * z * (x * x - y * y),
            -k3 * x * (x * x - 3.0 * y * y),
        ]
    return values


def evaluate(coefficients: jax.Array, directions: jax.Array) -> jax.Array:
    """Sums harmonics: coefficients [..., M, C] at unit vectors [..., 3] give [..., C]."""
    degree = degree_of(coefficients.shape[-2])
    return jnp.sum(basis(directions, degree)[..., None] * coefficients, -2)


def rotate(coefficients: jax.Array, rotation: jax.Array) -> jax.Array:
    """Turns the function that coefficients [..., M, C] describe by rotations [..., 3, 3].

    The turned function at R d is what the old one was at d. Exact, for each band lies within
    itself under rotation; differentiable in both arguments.
    """
    degree = degree_of(coefficients.shape[-2])
    shape = jnp.broadcast_shapes(coefficients.shape[:-2], rotation.shape[:-2])
    turned = [jnp.broadcast_to(coefficients[..., :1, :], (*shape, 1, coefficients.shape[-1]))]
    for band in range(1, degree + 1):
        here, inverse = _probes(band)
        # Rows are probes: what the old function is at R^T d, the new one is to be at d.
        before = jnp.asarray(here, rotation.dtype) @ rotation
        matrix = jnp.asarray(inverse, rotation.dtype) @ _band(basis(before, band), band)
        turned.append(matrix @ _band(coefficients.mT, band).mT)
    return jnp.concatenate(turned, -2)


def _band(values: jax.Array, band: int) -> jax.Array:
    return values[..., band**2 : (band + 1) ** 2]


def _probes(band: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions [P, 3] spread over the sphere, and what turns values there into coefficients."""
    num_probes = 4 * band + 4
    height = 1.0 - (2.0 * np.arange(num_probes) + 1.0) / num_probes
    angle = np.pi * (1.0 + np.sqrt(5.0)) * np.arange(num_probes)
    radius = np.sqrt(1.0 - height**2)
    probes = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], -1)
    values = np.stack(_polynomials(*probes.T, band)[band**2 :], -1)
    return probes, np.linalg.pinv(values)
