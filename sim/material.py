"""What particles are made of.

Axes: N particles. SI units.
"""

import jax
import jax.numpy as jnp
from flax import struct

from sim.constitutive import LAWS


@struct.dataclass
class Material:
    """Properties of particles; each leaf is [N], or [] for all alike.

    `laws` cuts the particles into runs of one constitutive law each (`constitutive.LAWS`). A law
    reads only the properties that it names.
    """

    laws: tuple[tuple[str, int], ...] = struct.field(pytree_node=False)  # name, particles
    log_youngs_modulus: jax.Array  # log of pascals
    poisson_ratio: jax.Array  # above -1, below 0.5
    density: jax.Array  # kg/m^3, at rest
    yield_stress: jax.Array = 0.0  # pascals
    hardening: jax.Array = 0.0  # metal: of the yield stress, in 2 mu per plastic strain; snow: xi
    softening: jax.Array = 0.1  # plasticine: loss of yield stress, pascals per plastic strain
    friction_angle: jax.Array = 0.44  # sand, radians
    plastic_viscosity: jax.Array = 0.0  # foam, Pa s
    viscosity: jax.Array = 0.0  # fluid, Pa s
    branch_ratio: jax.Array = 1.0  # viscoelastic: of the branch's moduli to those of equilibrium
    branch_viscosity: jax.Array = 0.0  # viscoelastic, Pa s; relaxes within this / the branch's mu
    critical_compression: jax.Array = 0.025  # snow
    critical_stretch: jax.Array = 0.0075  # snow

    @property
    def num_history(self) -> int:
        """How many numbers the laws remember of a particle; at least one."""
        return max([1, *(LAWS[name].num_history for name, _ in self.laws)])


def with_modulus(material: Material, youngs_modulus: float) -> Material:
    """Returns the material with one Young's modulus, pascals, in the shape of its own."""
    own = jnp.asarray(material.log_youngs_modulus)
    return material.replace(log_youngs_modulus=jnp.full_like(own, jnp.log(youngs_modulus)))


def lame_parameters(material: Material) -> tuple[jax.Array, jax.Array]:
    """Returns the shear modulus mu and Lame's first parameter lambda, pascals."""
    modulus, ratio = jnp.exp(material.log_youngs_modulus), material.poisson_ratio
    shear = modulus / (2.0 * (1.0 + ratio))
    return shear, 2.0 * shear * ratio / (1.0 - 2.0 * ratio)
