"""From a scene file and Gaussians to the particles that a simulation starts from.

The splats have a space of their own; turned (`up`, then the file's rotations), scaled and shifted
they stand in the box of the simulation. Each Gaussian has one role:

| role | which |
| --- | --- |
| particle | opaque, inside the sim_area, and kept |
| follower | inside the sim_area, but faint or one of too many: moves with the particles around it |
| still | outside the sim_area, or not finite |

PhysGaussian throws faint Gaussians away; here they follow. Host code, not differentiable, but the
state and the material are plain arrays that gradients may flow into.

Axes: N particles, A Gaussians.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from scipy.spatial import cKDTree
from scipy.special import expit

from render.gaussians import Gaussians, covariances, move_gaussians
from sim import filling as filling_lib
from sim.boundary import WALL_CELLS
from sim.carry import Binding, bind
from sim.material import Material
from sim.mpm import MpmState, initial_state
from sim.needles import Pieces, cut
from sim.scene import SceneFile, SceneMaterial
from sim.scene_conditions import ParticleImpulse
from sim.scene_notes import filling_note, fullness_note, place_note, region_notes, vector_text
from sim.thinning import MeantParticles
from sim.time_step import TimeStep, choose_time_step
from sim.upright import rotation_into_box

MARGIN_CELLS = WALL_CELLS  # between particles and the edge of the grid
PARTICLES_PER_CELL = 8  # of our own scenes at most; two along each side
_covariances = jax.jit(covariances)


@struct.dataclass
class Placement:
    """Where the splats' own space lies in the box: x in the box = scale R x + shift."""

    scale: jax.Array  # [] metres of the box per unit of the splats' space
    rotation: jax.Array  # [3, 3] R
    shift: jax.Array  # [3] metres in the box


class Setup(NamedTuple):
    """What a simulation starts from."""

    state: MpmState
    material: Material
    time_step: TimeStep
    dx: float  # side of a cell, metres
    placement: Placement
    gaussians: Gaussians  # of the scene, of what was filled in, if drawn, and pieces of long ones
    binding: Binding  # of these to the particles, in the splats' own space
    pieces: Pieces  # that long Gaussians were cut into
    meant: MeantParticles | None  # of the file, where these are fewer
    notes: tuple[str, ...]  # what a user should know, one line each


def into_box(placement: Placement, points: jax.Array) -> jax.Array:
    """Carries points [..., 3] of the splats' own space into the box."""
    return placement.scale * points @ placement.rotation.T + placement.shift


def out_of_box(placement: Placement, x: jax.Array) -> jax.Array:
    """Carries points [..., 3] of the box into the splats' own space."""
    return (x - placement.shift) @ placement.rotation / placement.scale


def deformation_out_of_box(placement: Placement, F: jax.Array) -> jax.Array:
    """Carries deformation gradients [..., 3, 3] of the box into the splats' own space."""
    return placement.rotation.T @ F @ placement.rotation


def gaussians_out_of_box(placement: Placement, gaussians: Gaussians) -> Gaussians:
    """Carries Gaussians that stand in the box, such as scenery, into the splats' own space."""
    back, scale = placement.rotation.T, 1.0 / placement.scale
    return move_gaussians(gaussians, back, -scale * back @ placement.shift, scale)


def prepare(
    scene: SceneFile,
    gaussians: Gaussians,
    seed: int = 0,
    up: str | None = None,
    max_particles: int | None = None,
    wanted_up: str | None = None,
) -> Setup:
    """Makes the particles of a scene.

    Args:
      scene: as read from a file.
      gaussians: [A] in their own space.
      seed: of the places of what is filled in.
      up: axis of the splats that is up, "y" or "-z", if known; the scene's own goes before. Files
        of PhysGaussian turn by their rotations alone.
      max_particles: instead of the scene's.
      wanted_up: axis of the splats that is to be up in the box; goes before all else.

    Raises:
      ValueError: in one line, when nothing is left to simulate, when it does not fit into the box,
        or when the scene's substep is too long.
    """
    notes: list[str] = []
    covariance = np.asarray(_covariances(gaussians), np.float64)
    rotation = rotation_into_box(scene, up, wanted_up)
    with np.errstate(all="ignore"):  # not all need be finite
        turned = np.asarray(gaussians.means, np.float64) @ rotation.T
    is_particle, is_follower = _classify(scene, gaussians, covariance, turned, notes)
    index = np.flatnonzero(is_particle)
    placement = _place(scene, turned[index], rotation)
    scale = float(placement.scale)
    x = scale * turned[index] + np.asarray(placement.shift, np.float64)
    _check_fit(scene, x)
    notes.append(place_note(scene, rotation, x))

    spread = scale**2 * (rotation @ covariance[index] @ rotation.T)
    points = _filled(scene, x, spread, _opacities(gaussians)[index], seed, notes)
    owner = np.concatenate([index, np.full(len(points), -1)])
    x = np.concatenate([x, points])

    kept = _subsample(scene, x, max_particles, notes)
    meant = _meant(scene, x, kept)
    is_follower[np.setdiff1d(index, owner[kept])] = True
    x, owner = x[kept], owner[kept]
    material, order = _material(scene, x)
    x, owner = x[order], owner[order]
    dx = scene.grid_lim / scene.n_grid
    notes += region_notes(scene, x)
    if scene.filling is not None:
        notes.append(fullness_note(scene, x))
        if scene.filling.visualize:
            gaussians, owner = _draw_filled(gaussians, placement, x, owner)
    volumes = _volumes(material.laws, x, dx)
    state = _rest_state(scene, x, volumes, material.num_history)
    rest = out_of_box(placement, state.x)
    spacing = float(np.median(volumes)) ** (1 / 3) / scale
    gaussians, pieces, followers = _cut(gaussians, owner, is_follower, spacing, notes)
    return Setup(
        state=state,
        material=material,
        time_step=choose_time_step(scene, material, dx),
        dx=dx,
        placement=placement,
        gaussians=gaussians,
        binding=bind(gaussians.means, owner, followers, rest),
        pieces=pieces,
        meant=meant,
        notes=tuple(notes),
    )


def _filled(
    scene: SceneFile,
    x: np.ndarray,
    covariances: np.ndarray,
    opacities: np.ndarray,
    seed: int,
    notes: list[str],
) -> np.ndarray:
    """Points [P, 3] that the scene wants within the object at x, and a note of them."""
    if scene.filling is None:
        return np.zeros((0, 3))
    found = filling_lib.find_filling(x, covariances, opacities, scene.filling, scene.grid_lim, seed)
    points = found.points[_is_in_box(scene, found.points)]
    notes.append(filling_note(scene.filling, found, len(points), len(x)))
    return points


def _cut(
    gaussians: Gaussians,
    owner: np.ndarray,
    is_follower: np.ndarray,
    spacing: float,
    notes: list[str],
) -> tuple[Gaussians, Pieces, np.ndarray]:
    """Cuts what moves to the particles' spacing; returns who follows then, too, and notes it."""
    followers = np.flatnonzero(is_follower)
    moving = np.concatenate([owner[owner >= 0], followers])
    num_whole = len(gaussians.means)
    gaussians, pieces = cut(gaussians, moving, spacing)
    if num_pieces := len(pieces.parents):
        count = len(np.unique(pieces.parents))
        notes.append(f"cut {count} long Gaussians into {count + num_pieces}")
    return gaussians, pieces, np.concatenate([followers, num_whole + np.arange(num_pieces)])


def _opacities(gaussians: Gaussians) -> np.ndarray:
    return expit(np.asarray(gaussians.logit_opacities, np.float64))


def _classify(
    scene: SceneFile,
    gaussians: Gaussians,
    covariance: np.ndarray,
    turned: np.ndarray,
    notes: list[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Returns which Gaussians [A] may be particles, and which follow; the others stay.

    `turned` are the turned means [A, 3].
    """
    opacities = _opacities(gaussians)
    is_finite = np.isfinite(opacities) & np.all(np.isfinite(turned), -1)
    is_finite &= np.all(np.isfinite(covariance), (-2, -1))
    num_broken = int(np.sum(~is_finite))
    if num_broken:
        notes.append(f"left out {num_broken} Gaussians that are not finite")
    if not is_finite.any():
        raise ValueError(f"expected finite Gaussians, found none among {len(is_finite)}")
    is_inside = is_finite
    if scene.sim_area is not None:
        low, high = np.reshape(scene.sim_area, (3, 2)).T
        is_inside = is_finite & np.all((turned > low) & (turned < high), -1)
        if not is_inside.any():
            found = turned[is_finite]
            raise ValueError(
                f"expected Gaussians inside the sim_area of {scene.path}, found none: turned as it "
                f"says they reach from {vector_text(found.min(0))} to {vector_text(found.max(0))}"
            )
    is_opaque = is_inside & (opacities > scene.opacity_threshold)
    num_faint = int(np.sum(is_inside & ~is_opaque))
    if not is_opaque.any():
        highest = np.max(opacities[is_inside])
        raise ValueError(
            f"expected Gaussians above the opacity_threshold {scene.opacity_threshold:g} of "
            f"{scene.path}, found {highest:.3g} at most"
        )
    if num_faint:
        notes.append(f"{num_faint} Gaussians are too faint to simulate and follow the others")
    return is_opaque, is_inside & ~is_opaque


def _place(scene: SceneFile, turned: np.ndarray, rotation: np.ndarray) -> Placement:
    """Scales the longest side of turned places [A, 3] to the scene's, and centres their extent."""
    low, high = turned.min(0), turned.max(0)
    longest = float(np.max(high - low))
    if longest <= 0:
        raise ValueError(
            f"expected Gaussians apart from each other, found all at {vector_text(low)}"
        )
    scale = scene.scale / longest
    shift = np.asarray(scene.centre) - scale * 0.5 * (low + high)
    return Placement(*(jnp.asarray(v) for v in (scale, rotation, shift)))


def _is_in_box(scene: SceneFile, x: np.ndarray) -> np.ndarray:
    """Returns which places [N, 3] keep the margin to the walls, up to rounding."""
    margin = MARGIN_CELLS * scene.grid_lim / scene.n_grid - 1e-6 * scene.grid_lim
    return np.all((x >= margin) & (x <= scene.grid_lim - margin), -1)


def _check_fit(scene: SceneFile, x: np.ndarray) -> None:
    """Refuses particles [N, 3] outside the box, and says what would hold them."""
    if _is_in_box(scene, x).all():
        return
    side, share = scene.grid_lim, MARGIN_CELLS / scene.n_grid
    low, high, centre = x.min(0), x.max(0), np.asarray(scene.centre)
    axis = int(np.argmax(np.maximum(share * side - low, high - (1.0 - share) * side)))
    is_in_middle = scene.is_si and np.allclose(centre, 0.5 * side)
    if is_in_middle:  # and stays there when the box grows
        wanted = float(np.max(high - low)) / (1.0 - 2.0 * share)
        can_grow = True
    else:
        wanted = float(np.max(high)) / (1.0 - share)
        can_grow = wanted * share <= np.min(low)
    if can_grow:
        remedy = f"a grid_lim of {_ceil(wanted):g} would hold it"
    else:
        room = np.min(np.minimum(centre - share * side, (1.0 - share) * side - centre))
        reach = np.max(np.maximum(high - centre, centre - low))
        scale = scene.scale * room / reach
        remedy = f"a scale of {0.999 * scale:.3g} would fit"
        if scale <= 0:
            remedy = f"its centre, {centre[axis]:g}, is outside"
    raise ValueError(
        f"expected the object within [{share * side:g}, {(1 - share) * side:g}] m, {MARGIN_CELLS} "
        f"cells off the walls of the box, found {'xyz'[axis]} from {low[axis]:.4g} to "
        f"{high[axis]:.4g} by {scene.path}: {remedy}"
    )


def _subsample(
    scene: SceneFile, x: np.ndarray, max_particles: int | None, notes: list[str]
) -> np.ndarray:
    """Returns which places [N, 3] are simulated, growing."""
    most = scene.max_particles if max_particles is None else max_particles
    kept = filling_lib.subsample(x, _spacing(scene, scene.n_grid), most)
    if len(kept) < len(x):
        notes.append(f"simulates {len(kept)} of {len(x)} particles, spread evenly")
    return kept


def _spacing(scene: SceneFile, n_grid: int) -> float | None:
    """How far apart particles are at least; theirs simulate all that there is."""
    per_side = round(PARTICLES_PER_CELL ** (1 / 3))
    return scene.grid_lim / n_grid / per_side if scene.is_si else None


def _meant(scene: SceneFile, x: np.ndarray, kept: np.ndarray) -> MeantParticles | None:
    """Returns the particles that a file with forces on each means, if others are kept of `x`."""
    if not any(isinstance(condition, ParticleImpulse) for condition in scene.boundaries):
        return None
    spacing = _spacing(scene, scene.file_n_grid)
    own = filling_lib.subsample(x, spacing, scene.max_particles)
    if scene.n_grid == scene.file_n_grid and np.array_equal(own, kept):
        return None
    material, order = _material(scene, x[own])
    places = x[own][order]
    volumes = _volumes(material.laws, places, scene.grid_lim / scene.file_n_grid)
    return MeantParticles(places, np.asarray(material.density, np.float64) * volumes)


def _material(scene: SceneFile, x: np.ndarray) -> tuple[Material, np.ndarray]:
    """Returns the material of particles at `x` [N, 3] in the order [N] that makes laws runs."""
    kinds = [scene.material] + [box.material for box in scene.boxes]
    kind = np.zeros(len(x), int)
    for i, box in enumerate(scene.boxes):
        kind[np.all(np.abs(x - np.asarray(box.point)) < np.asarray(box.size), -1)] = i + 1
    names = list(dict.fromkeys(k.law for k in kinds))
    law = np.array([names.index(k.law) for k in kinds])[kind]
    order = np.argsort(law, kind="stable")
    counts = np.bincount(law, minlength=len(names))
    columns = {
        field.name: np.array([getattr(k, field.name) for k in kinds])[kind[order]]
        for field in dataclasses.fields(SceneMaterial)
        if field.name != "law"
    }
    columns["log_youngs_modulus"] = np.log(columns.pop("youngs_modulus"))
    return Material(
        laws=tuple((name, int(count)) for name, count in zip(names, counts, strict=True) if count),
        **{name: jnp.asarray(values, jnp.float32) for name, values in columns.items()},
    ), order


def _volumes(laws: tuple[tuple[str, int], ...], x: np.ndarray, dx: float) -> np.ndarray:
    """Returns volumes [N]: a cell's, shared by its particles; grains of sand are all alike."""
    cell = np.floor(x / dx).astype(np.int64)
    size = int(cell.max()) + 1
    code = (cell[:, 0] * size + cell[:, 1]) * size + cell[:, 2]
    _, inverse, count = np.unique(code, return_inverse=True, return_counts=True)
    volumes = dx**3 / count[inverse]
    start = 0
    for law, number in laws:
        if law == "sand":
            volumes[start : start + number] = volumes[start : start + number].mean()
        start += number
    return volumes


def _rest_state(scene: SceneFile, x: np.ndarray, volumes: np.ndarray, num_history: int) -> MpmState:
    v = np.asarray(scene.velocity) + np.cross(scene.angular_velocity, x - np.asarray(scene.centre))
    x, volumes, v = (jnp.asarray(values, jnp.float32) for values in (x, volumes, v))
    return initial_state(x, volumes, v, num_history)


def _draw_filled(
    gaussians: Gaussians, placement: Placement, x: np.ndarray, owner: np.ndarray
) -> tuple[Gaussians, np.ndarray]:
    """Gives filled particles Gaussians of their own, as the nearest looks; returns new owners."""
    filled = np.flatnonzero(owner < 0)
    drawn = np.flatnonzero(owner >= 0)
    if not len(filled) or not len(drawn):
        return gaussians, owner
    nearest = owner[drawn][cKDTree(x[drawn]).query(x[filled])[1]]
    old = jax.tree.map(np.asarray, gaussians)
    made = jax.tree.map(lambda leaf: leaf[nearest], old)
    places = (x[filled] - np.asarray(placement.shift)) @ np.asarray(placement.rotation)
    places = (places / np.asarray(placement.scale)).astype(old.means.dtype)
    made = made.replace(means=places)
    owner = owner.copy()
    owner[filled] = len(old.means) + np.arange(len(filled))
    return jax.tree.map(lambda a, b: jnp.asarray(np.concatenate([a, b])), old, made), owner


def _ceil(value: float) -> float:
    """Rounds up to three digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.ceil(value / unit) * unit
