"""Whether fits know how wrong they are: their errors, over the deviations they state.

Axes: F faces, K identity and E expression coefficients.
"""

import jax
import jax.numpy as jnp
from flax import struct

from recon.fit import FaceParams
from recon.morphable import MorphableModel, face_shape
from recon.pose import Pose
from recon.posterior import Posterior, vertex_std
from render.transforms import rotation_to_quat


@struct.dataclass
class Coverage:
    """Errors over stated standard deviations; of fits that know how wrong they are 1, 0.68, 0.95.

    A larger `rms` is the factor by which the stated deviations are too small.
    """

    rms: jax.Array  # []
    within_one: jax.Array  # [] share of the errors inside of one standard deviation
    within_two: jax.Array  # []


@struct.dataclass
class Calibration:
    """The coverage of each kind of unknown, over many faces."""

    rotation: Coverage  # three angles a face, about the viewer's axes
    translation: Coverage  # two a face
    coefficients: Coverage  # K + E a face
    vertex_ratio: jax.Array  # [] root mean square error of the vertices over the stated one


@jax.jit
def calibration(
    model: MorphableModel,
    found: FaceParams,
    uncertainty: Posterior,
    identity: jax.Array,
    expression: jax.Array,
    head: Pose,
) -> Calibration:
    """Compares fits with the truth.

    The faces are to be drawn from the model's prior and have all that their fits look for: of
    fits that look for an expression, too, the truth must have one.

    Args:
      model: the model of all faces, and of the fits.
      found: the fits; every leaf with a leading axis F.
      uncertainty: their posteriors, likewise.
      identity: [F, K] true.
      expression: [F, E] true.
      head: true, with a leading axis F.
    """
    away = found.pose.rotation @ jnp.swapaxes(head.rotation, -1, -2)
    # Twice the sine of half the angle: within 0.2 % of the angle itself up to ten degrees.
    turned = jnp.rad2deg(2.0 * rotation_to_quat(away)[:, 1:])
    shifted = found.pose.translation - head.translation
    coefficients = jnp.concatenate([found.identity - identity, found.expression - expression], 1)

    def vertex_squares(face):
        found, uncertainty, identity, expression = face
        off = face_shape(model, found.identity, found.expression)
        off = off - face_shape(model, identity, expression)
        return jnp.mean(jnp.sum(off**2, -1)), jnp.mean(vertex_std(model, uncertainty) ** 2)

    squares = jax.lax.map(vertex_squares, (found, uncertainty, identity, expression))
    return Calibration(
        rotation=_coverage(turned / uncertainty.rotation_std_deg),
        translation=_coverage(shifted / uncertainty.translation_std_px),
        coefficients=_coverage(coefficients / uncertainty.coefficient_std),
        vertex_ratio=jnp.sqrt(jnp.mean(squares[0]) / jnp.mean(squares[1])),
    )


def _coverage(z: jax.Array) -> Coverage:
    return Coverage(
        rms=jnp.sqrt(jnp.mean(z**2)),
        within_one=jnp.mean(jnp.abs(z) < 1.0),
        within_two=jnp.mean(jnp.abs(z) < 2.0),
    )
