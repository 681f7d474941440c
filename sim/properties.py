"""What may be learnt of a scene: properties of its matter, and the velocity it starts with.

A search moves coordinates. What spans decades has log10 as its coordinate, so that a step is a
share of it and no step leaves the positive numbers (Huang et al. 2024, eq. 5); the rest is divided
by a step that matters as much as a decade does there.

Matter is divided into regions, each with a value of its own; or a smooth field gives every particle
one.

  unknowns = make_unknowns(("youngs_modulus",), simulation)
  theta = start_of(key, unknowns, simulation)
  moved = with_properties(theta, unknowns, simulation)

Axes: N particles, R regions. SI units.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from scipy.cluster import vq

from sim.fields import Field, field_at, init_field, total_variation
from sim.scene import MaterialBox
from sim.simulation import Simulation


class Smooth(NamedTuple):
    """A coordinate that changes smoothly over the matter."""

    level: jax.Array  # [] where the field is zero
    field: Field  # logits, added


Theta = dict[str, jax.Array | Smooth]  # coordinates by property: [R], [3] of a velocity, or smooth


class Property(NamedTuple):
    """One kind of unknown."""

    unit: str
    low: float  # of what may be found, in that unit
    high: float
    step: float | None = None  # None: the coordinate is log10; else it is the value over this


PROPERTIES = {
    "youngs_modulus": Property("Pa", 1e2, 1e9),
    "poisson_ratio": Property("", 0.0, 0.45, 0.1),
    "density": Property("kg/m^3", 10.0, 2e4),
    "yield_stress": Property("Pa", 1.0, 1e8),
    "friction_angle": Property("rad", 0.02, 1.3, 0.2),
    "viscosity": Property("Pa s", 1e-3, 1e5),
    "plastic_viscosity": Property("Pa s", 1e-3, 1e6),
    "branch_viscosity": Property("Pa s", 1e-3, 1e6),
    "velocity": Property("m/s", -20.0, 20.0, 1.0),
}
VELOCITY = "velocity"  # one for all matter: what the scene's own motion starts with, instead of
_FEWEST = 3  # particles of a region


@struct.dataclass
class Unknowns:
    """What is to be learnt of a simulation, and where."""

    regions: jax.Array  # [N, R] shares of each region in each particle; they sum to one
    places: jax.Array  # [N, 3] in [0, 1]: of the particles in their bounding box
    velocity: jax.Array  # [3] m/s that the scene gives all its matter
    bounds: dict[str, tuple[float, float]]  # of the coordinates
    names: tuple[str, ...] = struct.field(pytree_node=False)
    is_field: bool = struct.field(pytree_node=False, default=False)


def make_unknowns(
    names: tuple[str, ...],
    simulation: Simulation,
    regions: np.ndarray | None = None,
    is_field: bool = False,
    velocity: np.ndarray | tuple[float, ...] = (0.0, 0.0, 0.0),
    bounds: dict[str, tuple[float, float]] | None = None,
) -> Unknowns:
    """Says what is to be learnt.

    Args:
      names: of `PROPERTIES`.
      simulation: that has them.
      regions: [N] number of each particle's region, from zero; None: one for all.
      is_field: of every property that matter has, a smooth field instead.
      velocity: [3] m/s, the part of the start's velocities that `velocity` replaces.
      bounds: lowest and highest value by name, in SI units, instead of the widest.
    """
    x = simulation.state.x
    regions = jnp.zeros(len(x), jnp.int32) if regions is None else jnp.asarray(regions)
    low, high = x.min(0), x.max(0)
    given = bounds or {}
    return Unknowns(
        regions=jax.nn.one_hot(regions, int(regions.max()) + 1, dtype=x.dtype),
        places=(x - low) / jnp.maximum(high - low, 1e-9),
        velocity=jnp.asarray(velocity, x.dtype),
        bounds={name: _bounds(name, given.get(name)) for name in names},
        names=tuple(names),
        is_field=is_field,
    )


def _bounds(name: str, given: tuple[float, float] | None) -> tuple[float, float]:
    kind = PROPERTIES[name]
    low, high = given or (kind.low, kind.high)
    return float(coordinate_of(name, low)), float(coordinate_of(name, high))


def coordinate_of(name: str, value: np.ndarray | float) -> np.ndarray:
    """Returns the coordinate of a property's value."""
    step = PROPERTIES[name].step
    return np.log10(value) if step is None else np.asarray(value) / step


def value_of(name: str, coordinate: np.ndarray | float) -> np.ndarray:
    """Returns the value of a property, SI, at a coordinate."""
    step = PROPERTIES[name].step
    return 10.0 ** np.asarray(coordinate, np.float64) if step is None else coordinate * step


def start_of(key: jax.Array, unknowns: Unknowns, simulation: Simulation) -> Theta:
    """Returns the coordinates of a simulation as it is: of each region, the mean.

    Args:
      key: of the fields' features.
      unknowns: what is learnt.
      simulation: whose properties they are.
    """
    theta: Theta = {}
    for number, name in enumerate(unknowns.names):
        if name == VELOCITY:
            theta[name] = unknowns.velocity / PROPERTIES[name].step
            continue
        found = jnp.broadcast_to(_coordinates(name, simulation), len(unknowns.places))
        low, high = unknowns.bounds[name]
        means = unknowns.regions.T @ found / unknowns.regions.sum(0)
        theta[name] = jnp.clip(means, low, high)
        if unknowns.is_field:
            field = init_field(jax.random.fold_in(key, number))
            theta[name] = Smooth(jnp.clip(found.mean(), low, high), field)
    return theta


def with_properties(theta: Theta, unknowns: Unknowns, simulation: Simulation) -> Simulation:
    """Returns the simulation with the values of coordinates. Differentiable."""
    material, state = simulation.material, simulation.state
    for name in unknowns.names:
        if name == VELOCITY:
            change = theta[name] * PROPERTIES[name].step - unknowns.velocity
            state = state.replace(v=state.v + change)
        else:
            values = coordinates_at(theta, unknowns, name)
            material = material.replace(**_leaf(name, values))
    return simulation.replace(material=material, state=state)


def coordinates_at(theta: Theta, unknowns: Unknowns, name: str) -> jax.Array:
    """Returns the coordinate of a property at each particle [N]."""
    if not unknowns.is_field:
        return unknowns.regions @ theta[name]
    # Within its bounds whatever the network says, and where it starts while that says zero.
    low, high = unknowns.bounds[name]
    level, field = theta[name]
    share = jnp.clip((level - low) / (high - low), 0.02, 0.98)
    logit = jnp.log(share) - jnp.log1p(-share)
    return low + (high - low) * jax.nn.sigmoid(logit + field_at(field, unknowns.places))


def bounded(theta: Theta, unknowns: Unknowns) -> Theta:
    """Returns coordinates moved into their bounds; fields are in theirs."""
    return {
        name: values if isinstance(values, Smooth) else jnp.clip(values, *unknowns.bounds[name])
        for name, values in theta.items()
    }


def roughness(theta: Theta) -> jax.Array:
    """Returns the total variation [] of the fields; zero without any."""
    fields = [values.field for values in theta.values() if isinstance(values, Smooth)]
    return sum(map(total_variation, fields), jnp.zeros(()))


def values_by_region(theta: Theta, unknowns: Unknowns) -> dict[str, list[float]]:
    """Returns the values of all properties, SI: of each region; of a field, of regions the mean.

    The mean is that of the coordinates, so of moduli the geometric one.
    """
    found = {}
    for name in unknowns.names:
        values = theta[name]
        if name != VELOCITY:
            everywhere = coordinates_at(theta, unknowns, name)
            values = unknowns.regions.T @ everywhere / unknowns.regions.sum(0)
        found[name] = np.asarray(value_of(name, np.asarray(values)), np.float64).tolist()
    return found


def in_boxes(x: np.ndarray, boxes: tuple[MaterialBox, ...]) -> np.ndarray:
    """Returns the region [N] of particles at x [N, 3]: a number for each box, the last the rest.

    As in a scene, later boxes go before earlier. Numbers of boxes that hold nothing are left out.
    """
    regions = np.full(len(x), len(boxes))
    for number, box in enumerate(boxes):
        is_inside = np.all(np.abs(x - np.array(box.point)) < np.array(box.size), axis=1)
        regions[is_inside] = number
    return np.unique(regions, return_inverse=True)[1]


def in_clusters(x: np.ndarray, count: int) -> np.ndarray:
    """Returns the region [N] of particles at x [N, 3]: k-means clusters, numbered from below.

    Raises:
      ValueError: when there are too few particles.
    """
    if len(x) < _FEWEST * count:
        raise ValueError(
            f"expected at least {_FEWEST * count} particles for {count} regions, found {len(x)}"
        )
    x = np.asarray(x, np.float64)
    centres = x[[np.argmin(x[:, 2])]]
    while len(centres) < count:  # from the lowest on, always the one that is furthest from all
        away = np.linalg.norm(x[:, None] - centres, axis=-1).min(1)
        centres = np.concatenate([centres, x[[np.argmax(away)]]])
    try:
        centres, regions = vq.kmeans2(x, centres, minit="matrix", missing="raise")
    except vq.ClusterError:
        raise ValueError(f"expected {count} regions, found that some have no particles") from None
    return np.argsort(np.argsort(centres[:, 2]))[regions]


def _coordinates(name: str, simulation: Simulation) -> jax.Array:
    """Coordinates of a property that matter has, [] or [N]."""
    material = simulation.material
    if name == "youngs_modulus":
        return jnp.asarray(material.log_youngs_modulus) / jnp.log(10.0)
    value, step = jnp.asarray(getattr(material, name)), PROPERTIES[name].step
    return jnp.log10(jnp.maximum(value, PROPERTIES[name].low)) if step is None else value / step


def _leaf(name: str, coordinates: jax.Array) -> dict[str, jax.Array]:
    """What `Material` keeps of a property."""
    if name == "youngs_modulus":
        return {"log_youngs_modulus": jnp.log(10.0) * coordinates}
    step = PROPERTIES[name].step
    return {name: 10.0**coordinates if step is None else coordinates * step}
