"""Learns a radiance field from rays of photos with known cameras.

A step renders a batch of rays over a random background, takes Huber's loss of their colours and the
distortion of their samples, and moves everything by Adam. Every few steps some cells of the
occupancy grid are looked at anew.

Axes: R rays of a batch, P patches of B x B rays, F photos.

Sources: Sun et al. 2022 (steps, codes, Eq. 5); Mueller et al. 2022 (Adam, its constants); Barron et
al. 2022 (distortion); Niemeyer et al. 2022 (patches).
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from models.devices import on_each_device, over_devices
from models.nerf.field import NerfConfig, Params, codes_of, density_at, init_field
from models.nerf.hashgrid import HashGridConfig
from models.nerf.rendering import RayOutput, SceneBox, place_samples, render_samples, to_field
from render.camera import Camera, Rays, camera_position, looked_at
from render.stages import compiled
from render.volume import (
    OccupancyGrid,
    depth_smoothness,
    distortion,
    draw_cells,
    init_grid,
    see,
    update_grid,
)

_ADAM = optax.scale_by_adam(b1=0.9, b2=0.99, eps=1e-15)
_NEAR_SHARE = 0.5  # of the cameras' distance that is half the cube's side, in endless scenes
_AROUND = 1.05  # of the farthest camera's distance, for a ball that holds all of them


@dataclasses.dataclass(frozen=True)
class NerfTraining:
    """Settings of `train_step`; hashable, so static under jit."""

    steps: int
    rays: int = 4096  # R
    rate: float = 1e-2  # falls to `last_rate` of itself
    last_rate: float = 0.01
    huber: float = 0.1  # colour difference from which on the loss is linear
    distortion: float = 2e-3
    depth: float = 0.0  # weight of depth's smoothness over the batch's patches
    random_background: bool = True  # otherwise white: of photos that came over white
    appearance: bool = False  # photos have codes of their own; otherwise all have the mean
    mean_share: float = 0.25  # of rays that are seen in the mean then, as held-out views will be
    styles: int = 1  # appearances that are learnt: alpha 0, or 0 and 1
    grid_every: int = 8  # steps
    grid_cells: int = 2**16  # looked at then
    # Of a cell that is looked at, from first to last: fog is soon forgotten, but of thin sheets,
    # which a random look mostly misses, the cells are to last.
    grid_decays: tuple[float, float] = (0.7, 0.95)


class Preset(NamedTuple):
    """A field, and how it is learnt."""

    config: NerfConfig
    training: NerfTraining


PRESETS = {
    "small": Preset(
        NerfConfig(
            grid=HashGridConfig(levels=8, features=4, log2_entries=16, finest=1024),
            far_grid=HashGridConfig(levels=8, features=4, log2_entries=14, finest=256),
            bands=1,  # what turns faster with the view, few photos cannot teach
            occupancy=96,
        ),
        NerfTraining(steps=800),
    ),
    "paper": Preset(NerfConfig(samples=48), NerfTraining(steps=20_000)),
}


class RayBatch(NamedTuple):
    """Rays of one step, in the capture's space."""

    rays: Rays  # leaves [R, 3]
    photo: jax.Array  # [R] int32
    style: jax.Array  # [R] alpha
    rgb: jax.Array  # [R, 3] in [0, 1], times the coverage
    coverage: jax.Array  # [R] share of the pixel that is subject; one where all of it is the scene
    weight: jax.Array  # [R] how much the pixel counts
    patches: Rays | None = None  # leaves [P, B, B, 3]: for the smoothness of depth


@struct.dataclass
class NerfState:
    """What training moves."""

    step: jax.Array  # [] int32
    params: Params
    moments: optax.ScaleByAdamState
    grid: OccupancyGrid
    box: SceneBox  # stays as it is


class NerfReport(NamedTuple):
    """How a step went."""

    loss: jax.Array  # []
    scores: dict[str, jax.Array]  # train_psnr_db [], of the batch's rays


def scene_box(cameras: Sequence[Camera], background: str) -> SceneBox:
    """Lays the field's cube around what cameras look at.

    Args:
      cameras: of the photos.
      background: of `NerfConfig`: "none" takes the widest picture's plane for the cube's side,
        "contraction" the nearer half of the way to the cameras, "sphere" a ball around them all.
    """
    cameras = jax.device_get(list(cameras))
    center = looked_at(cameras)
    eyes = np.stack([np.asarray(camera_position(camera)) for camera in cameras])
    distance = np.linalg.norm(eyes - center, axis=1)
    match background:
        case "contraction":
            radius = _NEAR_SHARE * np.median(distance)
        case "sphere":
            radius = _AROUND * distance.max()
        case _:
            radius = max(map(_half_side, cameras, distance))
    return SceneBox(np.float32(center), np.float32(radius or 1.0))


def _half_side(camera: Camera, distance: float) -> float:
    half = 0.5 * np.array([camera.width, camera.height]) / np.asarray(camera.focal)
    return float(half.max() * (1.0 if camera.orthographic else distance))


def init_state(key: jax.Array, cameras: Sequence[Camera], config: NerfConfig) -> NerfState:
    """Returns the state before the first step, around what the photos' cameras look at."""
    return _init_state(key, scene_box(cameras, config.background), config)


@functools.partial(jax.jit, static_argnames="config")
def _init_state(key: jax.Array, box: SceneBox, config: NerfConfig) -> NerfState:
    params = init_field(key, config)
    grid = init_grid(config.occupancy, 0.0)  # says nothing yet: samples are even
    return NerfState(jnp.int32(0), params, _ADAM.init(params), grid, box)


def train_step(
    key: jax.Array,
    state: NerfState,
    batch: RayBatch,
    share: jax.Array,
    config: NerfConfig,
    training: NerfTraining,
) -> tuple[NerfState, NerfReport]:
    """Takes one step.

    On several devices it is the same function: lay the batch's rays over them (`spread`), a copy of
    the state on each (`on_each_device`), and XLA adds up the gradients.

    Args:
      key: of the run; the step's number is folded in.
      state: before the step.
      batch: rays of this step.
      share: [] of the training that is done.
      config: static.
      training: static.
    """
    keys = jax.random.split(jax.random.fold_in(key, state.step), 3)
    grid = jax.lax.cond(
        state.step % training.grid_every == 0,
        lambda: _look_anew(keys[0], state, share, config, training),
        lambda: state.grid,
    )
    gradient, (loss, psnr_db, output) = jax.grad(_loss, argnums=1, has_aux=True)(
        keys[1], state.params, batch, grid, state.box, config, training
    )
    grid = see(grid, output.places, output.density)
    update, moments = _ADAM.update(gradient, state.moments)
    rate = _rate_at(share, training)
    params = jax.tree.map(lambda p, u: p - rate * u, state.params, update)
    new = state.replace(step=state.step + 1, params=params, moments=moments, grid=grid)
    return new, NerfReport(loss, {"train_psnr_db": psnr_db})


@functools.cache
def compiled_step(config: NerfConfig, training: NerfTraining):
    """Compiles `train_step`; it donates the state: use the one that it returns."""
    step = functools.partial(train_step, config=config, training=training)
    return compiled(step, donate_argnums=1)


def spread(batch: RayBatch) -> RayBatch:
    """Lays the rays of a batch over all devices; patches go to each, as there are few."""
    rays, patches = over_devices(batch._replace(patches=None)), batch.patches
    return rays._replace(patches=patches and on_each_device(patches))


def _rate_at(share: jax.Array, training: NerfTraining) -> jax.Array:
    """Half a cosine: short trainings live on the high rates of their first half."""
    left = 0.5 + 0.5 * jnp.cos(jnp.pi * share)
    return training.rate * (training.last_rate + (1.0 - training.last_rate) * left)


def _look_anew(
    key: jax.Array,
    state: NerfState,
    share: jax.Array,
    config: NerfConfig,
    training: NerfTraining,
) -> OccupancyGrid:
    """Looks at some cells, each in one style and, where photos have one, one's appearance."""
    cell_key, style_key, photo_key = jax.random.split(key, 3)
    count = training.grid_cells
    index, x = draw_cells(cell_key, state.grid, count)
    style = jax.random.randint(style_key, (count,), 0, training.styles).astype(x.dtype)
    photo = None
    if training.appearance:
        photo = jax.random.randint(photo_key, (count,), 0, config.num_photos)
    codes = codes_of(state.params, style, photo)
    density = density_at(state.params, x[:, None], codes, config)[:, 0]
    first, last = training.grid_decays
    return update_grid(state.grid, index, density, first + share * (last - first))


def _loss(
    key: jax.Array,
    params: Params,
    batch: RayBatch,
    grid: OccupancyGrid,
    box: SceneBox,
    config: NerfConfig,
    training: NerfTraining,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, RayOutput]]:
    """Returns the loss; and the loss of colours alone with its PSNR, and what the rays saw."""
    sample_key, back_key, patch_key, code_key = jax.random.split(key, 4)
    rays = to_field(box, batch.rays)
    codes = codes_of(params, batch.style)
    if training.appearance:
        is_mean = jax.random.uniform(code_key, (len(batch.photo), 1)) < training.mean_share
        own = codes_of(params, batch.style, batch.photo).appearance
        codes = codes._replace(appearance=jnp.where(is_mean, codes.appearance, own))
    samples = place_samples(sample_key, params, rays, grid, codes, config.samples, config)
    output = render_samples(params, rays, samples, codes, config)
    behind = jnp.ones_like(batch.rgb)
    if training.random_background:
        behind = jax.random.uniform(back_key, batch.rgb.shape)
    coverage = batch.coverage[:, None]
    difference = output.rgb + (1.0 - output.opacity)[:, None] * behind
    difference = difference - (batch.rgb + (1.0 - coverage) * behind)
    weight = batch.weight / jnp.maximum(jnp.sum(batch.weight), 1e-6)
    huber = optax.losses.huber_loss(difference, delta=training.huber) / training.huber
    colors = jnp.sum(weight * jnp.mean(huber, -1))
    squares = jnp.sum(weight * jnp.mean(difference**2, -1))
    spread = jnp.sum(weight * distortion(samples.near, output.weights))
    loss = colors + training.distortion * spread
    if batch.patches is not None:
        loss += training.depth * _depth_term(patch_key, params, batch, grid, box, config)
    return loss, (colors, -10.0 * jnp.log10(jnp.maximum(squares, 1e-10)), output)


def _depth_term(key, params, batch: RayBatch, grid, box, config) -> jax.Array:
    """The smoothness of depth over patches, in the style and appearance of the first rays."""
    shape = batch.patches.origins.shape[:-1]
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, 3), batch.patches)
    rays = to_field(box, flat)
    num = len(rays.origins)
    codes = codes_of(params, jnp.resize(batch.style, num))
    samples = place_samples(key, params, rays, grid, codes, config.samples, config)
    output: RayOutput = render_samples(params, rays, samples, codes, config)
    return depth_smoothness(output.depth.reshape(shape))
