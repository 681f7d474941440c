"""From a scene file's boundary conditions to what acts on the grid and the particles.

Axes: N particles. Fields of the conditions: the table in `scene.py`.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sim.boundary import (
    BoundingBox,
    Conditions,
    Cuboid,
    Enforced,
    Handle,
    Push,
    Sphere,
    Surface,
    Wind,
)


def make_conditions(
    entries: Sequence[Mapping], gravity: Sequence[float], x: jax.Array, mass: jax.Array
) -> Conditions:
    """Builds what acts on particles that start at x, on the host.

    Args:
      entries: boundary conditions of a `SceneFile`.
      gravity: [3] m/s^2.
      x: [N, 3] metres in the box.
      mass: [N] kilograms.

    Raises:
      ValueError: a region without particles that is to hold or push some.
    """
    places, masses = np.asarray(x, np.float64), np.asarray(mass, np.float64)
    on_grid, on_particles = [], []
    for entry in entries:
        if entry["type"] in _ON_GRID:
            on_grid.append(_ON_GRID[entry["type"]](entry))
        else:
            on_particles.append(_ON_PARTICLES[entry["type"]](entry, places, masses))
    conditions = Conditions(np.asarray(gravity), tuple(on_grid), tuple(on_particles))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, x.dtype), conditions)


def _fields(entry: Mapping, *names: str) -> dict:
    return {name: np.asarray(entry[name], np.float64) for name in names}


_SPAN = ("start_time", "end_time")


def _cuboid(entry) -> Cuboid:
    return Cuboid(
        **_fields(entry, "point", "size", "velocity", *_SPAN), resets=bool(entry["reset"])
    )


def _pin(entry) -> Cuboid:
    # On the grid: particles that were put back would tear from those beside them.
    return Cuboid(**_fields(entry, "point", "size", *_SPAN), velocity=np.zeros(3))


def _surface(entry) -> Surface:
    return Surface(**_fields(entry, "point", "normal", "friction", *_SPAN), kind=entry["surface"])


def _sphere(entry) -> Sphere:
    path = np.asarray(entry["path"], np.float64)
    others = _fields(entry, "radius", "friction", *_SPAN)
    return Sphere(path[:, 0], path[:, 1:], **others, kind=entry["surface"])


def _wind(entry) -> Wind:
    names = "velocity", "rate", "gust", "gust_frequency", "point", "size", *_SPAN
    return Wind(**_fields(entry, *names))


_ON_GRID = {
    "bounding_box": lambda entry: BoundingBox(),
    "cuboid": _cuboid,
    "pin": _pin,
    "surface_collider": _surface,
    "sphere": _sphere,
    "wind": _wind,
}


def _in_box(entry, x) -> np.ndarray:
    return _some(entry, np.all(np.abs(x - entry["point"]) < entry["size"], -1), x)


def _some(entry, chosen: np.ndarray, x: np.ndarray) -> np.ndarray:
    if not chosen.any():
        low, high = (np.array2string(v, precision=3) for v in (x.min(0), x.max(0)))
        raise ValueError(
            f"expected particles in the region of {entry['type']} around {entry['point']}, "
            f"found none; they lie from {low} to {high}"
        )
    return chosen.astype(np.float64)


def _impulse(entry, x, mass) -> Push:
    force = np.asarray([entry["force"]], np.float64)
    return Push(_in_box(entry, x) / mass, np.zeros(1), force, **_fields(entry, *_SPAN))


def _force(entry, x, mass) -> Push:
    curve = np.asarray(entry["curve"], np.float64)
    chosen = _in_box(entry, x)
    weight = chosen / np.sum(chosen * mass)
    return Push(weight, curve[:, 0], curve[:, 1:], **_fields(entry, *_SPAN))


def _drag(entry, x, mass) -> Handle:
    del mass
    path, chosen = np.asarray(entry["path"], np.float64), _in_box(entry, x)
    # Each particle keeps its place beside their middle, which follows the handle.
    rest = x - x[chosen > 0].mean(0)
    span = _fields(entry, "frequency", *_SPAN)
    return Handle(chosen, rest, path[:, 0], path[:, 1:], **span)


def _enforced(entry, chosen, velocity=(0, 0, 0), turning=(0, 0, 0), until=None) -> Enforced:
    until = entry["end_time"] if until is None else until
    return Enforced(
        chosen=chosen,
        start_time=np.full(len(chosen), entry["start_time"], np.float64),
        end_time=np.broadcast_to(until, chosen.shape).astype(np.float64),
        velocity=np.asarray(velocity, np.float64),
        angular_velocity=np.asarray(turning, np.float64),
        point=np.asarray(entry.get("point", (0, 0, 0)), np.float64),
    )


def _translation(entry, x, mass) -> Enforced:
    del mass
    return _enforced(entry, _in_box(entry, x), entry["velocity"])


def _rotation(entry, x, mass) -> Enforced:
    del mass
    normal, away = np.asarray(entry["normal"]), x - entry["point"]
    height = away @ normal
    radius = np.linalg.norm(away - height[:, None] * normal, axis=-1)
    half_height, largest = entry["half_height_and_radius"]
    chosen = _some(entry, (np.abs(height) < half_height) & (radius < largest), x)
    velocity = entry["translation_scale"] * normal
    return _enforced(entry, chosen, velocity, -entry["rotation_scale"] * normal)


def _release(entry, x, mass) -> Enforced:
    del mass
    start, end = entry["start_position"], entry["end_position"]
    share = (x @ np.asarray(entry["normal"]) - start) / (end - start)
    layer = np.clip(np.floor(share * entry["num_layers"]), 0, entry["num_layers"] - 1)
    duration = entry["end_time"] - entry["start_time"]
    until = entry["start_time"] + duration * (layer + 1) / entry["num_layers"]
    return _enforced(entry, np.ones(len(x)), until=until)


_ON_PARTICLES = {
    "particle_impulse": _impulse,
    "force": _force,
    "drag": _drag,
    "enforce_particle_translation": _translation,
    "enforce_particle_velocity_rotation": _rotation,
    "release_particles_sequentially": _release,
}
