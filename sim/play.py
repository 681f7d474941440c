"""A simulation to play with: it runs bit by bit, and a point of it can be dragged.

Coarse, so that it answers at once: few particles, and cells no finer than these. Each bit is one
call of one compiled program, whatever is dragged, however stiff the matter is, gravity or none.

Axes: N particles. The caller's places are in the splats' own space, those kept here are in the
box; metres of the box, seconds.
"""

import dataclasses
import math
import time

import jax
import jax.numpy as jnp
import numpy as np

from render.gaussians import Gaussians, covariances
from sim import carry, motion, particles
from sim.boundary import Handle
from sim.motion import Plane
from sim.mpm import MpmState, rollout
from sim.simulation import ReadyScene
from sim.time_step import CFL, choose_time_step, largest_dt

MAX_PARTICLES = 2500
FRAME = 1 / 30  # seconds
_BIT = 16  # substeps of a call
_FREQUENCY = 8.0  # Hz, of the whole object on the handle's spring
_HANDLE_SPEED = 10.0  # sizes of the object per second; a mouse can be faster than a substep allows
_INVISIBLE = -30.0  # logit
_LONGEST = 900.0  # seconds: float32 has no room for a substep after much longer


class Play:
    """A simulation that runs on as it is told to. Not safe for several threads."""

    def __init__(self, ready: ReadyScene):
        self.scene, self.simulation = ready.scene, ready.simulation
        self.placement = jax.tree.map(
            lambda leaf: np.asarray(leaf, np.float64), self.simulation.placement
        )
        self.gaussians, self._covariances = _drawable(self.simulation.gaussians)
        self._slots = carry.slots(self.simulation.binding, len(self.gaussians.means))
        self.has_gravity = True
        self.handle_speed = _HANDLE_SPEED * self.scene.scale
        self.log10_modulus = math.log10(self.scene.material.youngs_modulus)
        self._first_log10_modulus = self.log10_modulus
        self._planes = self._make_planes()
        self.set_stiffness(self.log10_modulus)
        self.restart()

    def restart(self) -> None:
        """Puts all back to the start, and lets go; stiffness and gravity stay as they are."""
        self.state: MpmState = self.simulation.state
        self.failure: str | None = None
        self._pace = _BIT * self.dt
        self.let_go()

    def set_stiffness(self, log10_modulus: float) -> None:
        """Makes the main material that stiff, log10 of pascals, the others in proportion."""
        self.log10_modulus = log10_modulus
        material = self.simulation.material
        change = math.log(10.0) * (log10_modulus - self._first_log10_modulus)
        logs = material.log_youngs_modulus + jnp.float32(change)
        self._material = material.replace(log_youngs_modulus=logs)
        self.dt = self._longest_substep()

    def _longest_substep(self) -> float:
        # Its frame need not be divided here: `run` does that.
        scene, dx = self.scene, self.simulation.config.grid.dx
        one = dataclasses.replace(scene, frame_dt=1.0)
        chosen = choose_time_step(one, self._material, dx).dt
        return min(chosen, CFL * largest_dt(self._material, dx, self.handle_speed))

    def run(self, seconds: float, budget: float = math.inf) -> float:
        """Simulates so many seconds, or fewer if that takes longer than the budget.

        Sets `failure` where it leaves the grid or diverges, and stands still from then on.

        Returns:
          Simulated seconds.
        """
        if self.failure or seconds <= 0:
            return 0.0
        begin, done = time.perf_counter(), 0.0
        num_bits = max(1, math.ceil(seconds / (_BIT * self.dt) - 1e-6))
        bit = seconds / num_bits
        handle = self._moving_handle(max(min(seconds, self._pace), bit))
        for _ in range(num_bits):
            moved = self._roll(self.state, handle, bit / _BIT)
            if self._fails(moved):
                break
            self.state, done = moved, done + bit
            if time.perf_counter() - begin > budget:
                break
        if done:
            self._pace = done
        self._place = _handle_place(handle, float(self.state.time))
        return done

    def compile(self) -> None:
        """Runs everything once, so that later nobody waits."""
        self._roll(self.state, self._moving_handle(self._pace), self.dt).x.block_until_ready()
        self.shapes()

    def _roll(self, state: MpmState, handle: Handle, dt: float) -> MpmState:
        base = self.simulation.conditions
        # First of all: what is pinned stays pinned.
        conditions = base.replace(
            gravity=base.gravity * np.float32(self.has_gravity),
            on_particles=(handle, *base.on_particles),
        )
        return rollout(
            state, self._material, conditions, np.float32(dt), _BIT, self.simulation.config
        )

    def _fails(self, state: MpmState) -> bool:
        side, when = self.scene.grid_lim, f"at {float(state.time):.3g} s"
        if float(state.time) > _LONGEST:
            self.failure = f"stopped after {_LONGEST:g} s: restart it"
        elif bool(state.out_of_grid):
            x = np.asarray(state.x)
            num_out = int(np.sum(~np.all((x >= 0) & (x <= side), -1)))
            is_wild = not np.isfinite(x).all() or np.abs(x).max() > 10 * side
            self.failure = (
                f"the simulation diverges {when}: restart it, softer or pulled less"
                if is_wild
                else f"{max(num_out, 1)} particles leave the box of {side:g} m {when}: restart it"
            )
        return self.failure is not None

    def shapes(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns means [A, 3] and covariances [A, 6] of the scene as it is now, in its own space.

        Covariances go xx, xy, xz, yy, yz, zz. Much faster than `splats`, and what a page needs.
        """
        rest = self.gaussians.means, self._covariances
        binding = self.simulation.binding
        moved = carry.carry_covariances(*rest, binding, self._slots, *self._particles())
        return tuple(np.asarray(values) for values in moved)

    def splats(self) -> Gaussians:
        """Returns the scene as it is now, in its own space, its higher harmonics turned."""
        return carry.carry(self.gaussians, self.simulation.binding, *self._particles())

    def _particles(self) -> tuple[jax.Array, jax.Array]:
        state, placement = self.state, self.simulation.placement  # a still is taken while it runs
        x = particles.out_of_box(placement, state.x)
        return x, particles.deformation_out_of_box(placement, state.F)

    # The handle.

    def pick(self, origin, direction) -> np.ndarray | None:
        """Returns the place [3] of the foremost particle under a ray; None where there is none."""
        x, dx = np.asarray(self.state.x, np.float64), self.simulation.config.grid.dx
        along = self.placement.rotation @ np.asarray(direction, np.float64)
        along = along / np.linalg.norm(along)
        away = x - self.into_box(origin)
        depth = away @ along
        beside = np.linalg.norm(away - depth[:, None] * along, axis=-1)
        beside = np.where(depth > 0, beside, np.inf)
        if not beside.min() < 3.0 * dx:
            return None
        is_near = beside <= max(dx, float(beside.min()))
        chosen = int(np.argmin(np.where(is_near, depth + beside, np.inf)))
        return self.out_of_box(x[chosen])

    def grab(self, place, radius: float) -> int:
        """Binds a handle at a place to the particles around it, in place of the one before.

        Args:
          place: [3] in the splats' own space.
          radius: metres of the box; the nearest particle is held in any case.

        Returns:
          How many particles it holds.
        """
        x, place = np.asarray(self.state.x, np.float64), self.into_box(place)
        distance = np.linalg.norm(x - place, axis=-1)
        is_held = distance <= max(radius, float(distance.min()))
        self._is_held = is_held
        self._chosen, self._rest = jnp.float32(is_held), jnp.float32(x - place)
        self._place = self._target = place
        # What it holds carries the rest: else a small grip would let a large object sink.
        mass = np.asarray(self.simulation.material.density * self.state.volume, np.float64)
        self._frequency = _FREQUENCY * math.sqrt(mass.sum() / mass[is_held].sum())
        return int(is_held.sum())

    def let_go(self) -> None:
        num_particles = len(self.state.x)
        self._is_held = np.zeros(num_particles, bool)
        self._chosen = jnp.zeros(num_particles, jnp.float32)
        self._rest = jnp.zeros((num_particles, 3), jnp.float32)
        self._place = self._target = np.zeros(3)
        self._frequency = _FREQUENCY

    @property
    def num_held(self) -> int:
        return int(self._is_held.sum())

    def drag(self, place) -> None:
        """Says where the handle is to be, [3]; it pulls nothing through walls and floors."""
        target = self.into_box(place)
        if self.num_held:
            held = np.asarray(self._rest)[self._is_held]
            for point, normal in 2 * self._planes:  # twice, for corners
                depth = float(np.min((target + held - point) @ normal))
                target = target - min(depth, 0.0) * normal
        self._target = target

    def _make_planes(self) -> list[Plane]:
        """The planes that the handle does not pull matter through."""
        scene, grid = self.scene, self.simulation.config.grid
        planes = motion.obstacles(scene)
        margin = particles.MARGIN_CELLS * grid.dx
        for normal in np.eye(3):
            planes.append(Plane(np.full(3, margin), normal))
            planes.append(Plane(np.full(3, scene.grid_lim - margin), -normal))
        return planes

    def _moving_handle(self, seconds: float) -> Handle:
        """The handle, on its way to where it was dragged, or as far as it gets in that time."""
        way = self._target - self._place
        length = float(np.linalg.norm(way))
        way = way * min(1.0, self.handle_speed * seconds / max(length, 1e-12))
        now = float(self.state.time)
        return Handle(
            chosen=self._chosen,
            rest=self._rest,
            times=np.float32([now, now + seconds]),
            path=np.float32([self._place, self._place + way]),
            frequency=np.float32(self._frequency),
            start_time=np.float32(0.0),
            end_time=np.float32(np.inf),
        )

    # Spaces.

    def into_box(self, places) -> np.ndarray:
        """Carries places [..., 3] of the splats' own space into the box."""
        return particles.into_box(self.placement, np.asarray(places))

    def out_of_box(self, x) -> np.ndarray:
        """Carries places [..., 3] of the box into the splats' own space."""
        return particles.out_of_box(self.placement, np.asarray(x, np.float64))


def _drawable(gaussians: Gaussians) -> tuple[Gaussians, jax.Array]:
    """Hides Gaussians that are not finite; returns the covariances of all, [A, 3, 3], as well."""
    gaussians = jax.tree.map(jnp.asarray, gaussians)
    spread = _covariances_of(gaussians)
    rows = [leaf.reshape(len(spread), -1) for leaf in jax.tree.leaves((gaussians, spread))]
    is_finite = jnp.all(jnp.isfinite(jnp.concatenate(rows, -1)), -1)

    def cleaned(leaf):
        return jnp.where(is_finite.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0.0)

    gaussians, spread = jax.tree.map(cleaned, (gaussians, spread))
    logits = jnp.where(is_finite, gaussians.logit_opacities, _INVISIBLE)
    return gaussians.replace(logit_opacities=logits), spread


_covariances_of = jax.jit(covariances)


def _handle_place(handle: Handle, now: float) -> np.ndarray:
    return np.array([np.interp(now, handle.times, way) for way in handle.path.T])
