"""Who there is to draw random people from: how traits shape a head, and what goes with them.

Axes: K identity coefficients, E expressions, P traits, S skins, H hair styles, B brows, C names of
eyes' colours.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recon.looks.look import Looks
from recon.morphable import MorphableModel

EUROPEAN, ASIAN, AFRICAN = range(3)
_AGES = {"young": 0, "middleage": 1, "old": 2}
# How often a style is worn by women and by men; those that cover an eye seldom.
_STYLES = {
    "afro01": (0.5, 0.5),
    "bob01": (0.4, 0.0),
    "bob02": (0.3, 0.0),
    "braid01": (0.9, 0.0),
    "long01": (1.6, 0.12),
    "ponytail01": (1.6, 0.12),
    "short01": (0.35, 1.0),
    "short02": (0.3, 1.6),
    "short03": (0.2, 0.1),
    "short04": (0.3, 1.6),
}
_CURLY = {"afro01": 5.0, "short01": 1.0, "short04": 0.8, "short02": 1.0}  # africans; others 0.6
_BROWS = {  # thin and thick ones
    "eyebrow006": (0.3, 0.0),
    "eyebrow007": (0.3, 0.4),
    "eyebrow009": (0.1, 2.5),
    "eyebrow012": (0.5, 2.0),
}
_BROW = (2.0, 2.0)
# Light and dark people; brown is the picture of light brown, darker.
_EYES = {
    "brown": (0.12, 0.72, "brownlight", (0.32, 0.21, 0.14)),
    "brownlight": (0.22, 0.22, "brownlight", (0.55, 0.44, 0.34)),
}
_OTHER_EYES = (0.11, 0.01)


@struct.dataclass
class Casting:
    """Tables for `sample_person`."""

    trait_mean: jax.Array  # [P]
    trait_sd: jax.Array  # [P]
    trait_directions: jax.Array  # [P, K] identity for a trait one deviation off
    rest: jax.Array  # [K, K] what traits leave of the prior, as a square root of its covariance
    unit_rows: dict[str, jax.Array]  # name of an expression without its side -> [E] left and right
    symmetric: jax.Array  # [E] 1 for units of one side
    skin_group: jax.Array  # [S] EUROPEAN, ASIAN or AFRICAN
    skin_is_male: jax.Array  # [S] bool
    skin_age: jax.Array  # [S] 0 young, 1 middle-aged, 2 old
    hair_shares: jax.Array  # [2, H] of women, of men
    curly_gain: jax.Array  # [H]
    brow_shares: jax.Array  # [2, B]
    eye_shares: jax.Array  # [2, C] of the dark, of the light
    eye_pictures: jax.Array  # [C] int32
    eye_gains: jax.Array  # [C, 3]
    unit_names: tuple[str, ...] = struct.field(pytree_node=False)
    eye_colors: tuple[str, ...] = struct.field(pytree_node=False)

    @property
    def num_identity(self) -> int:
        return self.rest.shape[0]

    @property
    def num_units(self) -> int:
        return self.symmetric.shape[0]

    def identity(self, traits: jax.Array, noise: jax.Array) -> jax.Array:
        """Returns the identity [K] of traits [P] and of `noise` [K] for all else."""
        deviations = (traits - self.trait_mean) / self.trait_sd
        return deviations @ self.trait_directions + self.rest @ noise

    def expression(self, units: dict[str, jax.Array], uneven: jax.Array) -> jax.Array:
        """Returns coefficients [E] of units by name, both sides; `uneven` [E] sets them apart."""
        rows = jnp.stack([self.unit_rows[name] for name in units])
        values = jnp.stack([jnp.asarray(value) for value in units.values()])
        return (values @ rows) * (1.0 + uneven * self.symmetric)

    def unit(self, expression: jax.Array, name: str) -> jax.Array:
        """Returns the coefficient [] of one unit."""
        return expression[self.unit_names.index(name)]


def build_casting(model: MorphableModel, looks: Looks, traits: dict[str, np.ndarray]) -> Casting:
    """Makes the tables, on the host.

    Args:
      model: the default head.
      looks: its looks.
      traits: of the head's population, from `looks_io.load_traits`.
    """
    names = model.expression_names
    bases = [name.removesuffix("Left").removesuffix("Right") for name in names]
    rows = {base: np.array([base == b for b in bases], np.float32) for base in bases}
    eyes = {name: (*_OTHER_EYES, name, (0.55, 0.55, 0.55)) for name in looks.eye_names} | _EYES
    light, dark, pictures, gains = zip(*eyes.values(), strict=True)
    others = np.array([_STYLES.get(name, (0.3, 0.3)) for name in looks.hair_names])
    return Casting(
        trait_mean=jnp.asarray(traits["mean"], jnp.float32),
        trait_sd=jnp.asarray(traits["sd"], jnp.float32),
        trait_directions=jnp.asarray(traits["directions"], jnp.float32),
        rest=jnp.asarray(traits["rest"], jnp.float32),
        unit_rows={base: jnp.asarray(row) for base, row in rows.items()},
        symmetric=jnp.asarray([n != b for n, b in zip(names, bases, strict=True)], jnp.float32),
        skin_group=jnp.asarray([_group(name) for name in looks.skin_names], jnp.int32),
        skin_is_male=jnp.asarray(["_male" in name for name in looks.skin_names]),
        skin_age=jnp.asarray([_AGES[name.split("_")[0]] for name in looks.skin_names], jnp.int32),
        hair_shares=jnp.asarray(others.T, jnp.float32),
        curly_gain=jnp.asarray([_CURLY.get(name, 0.6) for name in looks.hair_names]),
        brow_shares=jnp.asarray([_BROWS.get(name, _BROW) for name in looks.brow_names]).T,
        eye_shares=jnp.asarray([dark, light], jnp.float32),
        eye_pictures=jnp.asarray([looks.eye_names.index(name) for name in pictures], jnp.int32),
        eye_gains=jnp.asarray(gains, jnp.float32),
        unit_names=names,
        eye_colors=tuple(eyes),
    )


def _group(skin_name: str) -> int:
    """MakeHuman's second skin of a kind is its asian one."""
    if "dark" in skin_name:
        return AFRICAN
    return ASIAN if skin_name.endswith("2") else EUROPEAN
