"""Learns a splat scene from photos with known cameras, with a fixed number of Gaussians.

Each step renders one photo per device and moves all Gaussians by Adam. Noise moves transparent
Gaussians about, and from time to time those that died are laid onto living ones (Markov chain Monte
Carlo): their number never changes, which is what compiled code wants.

Axes: N Gaussians, V photos of a step, one a device; P sparse points; H and W pixels.

Pixels that a mask leaves out take no part in the loss, nor does what lies beyond a photo that is
smaller than others.

Sources: Kerbl et al. 2023 (loss, learning rates, start from points); Kheradmand et al. 2024 (noise,
relocation, Eq. 9, regularizers). Noise and regularizer are stated per extent of the scene, so that
the unit of length does not matter.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.spatial
from flax import struct
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from render import harmonics
from render.camera import Camera, camera_position, looked_at
from render.gaussians import Gaussians, covariances
from render.image import RenderOutput, mean_where, ssim
from render.splat import SplatConfig, splat
from render.stages import compiled

_SCALE_LIMITS = 2e-4, 0.1  # of the extent: what a Gaussian between sparse points starts with
_MOST_COPIES = 51  # that one Gaussian is split into at a time
_AXIS = "photo"


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of `train_step`; hashable, so static under jit."""

    count: int = 30_000  # N
    degree: int = 2  # of the harmonics
    steps: int = 4000
    ssim_weight: float = 0.2  # of 1 - SSIM against the mean absolute difference
    opacity_weight: float = 0.01  # regularizers: mean opacity, and mean scale
    scale_weight: float = 0.06  # over the extent of the scene
    means_rate: float = 1.6e-4  # learning rates; this one per extent of the scene
    means_decay: float = 0.01  # of the rate, over the whole training
    scales_rate: float = 5e-3
    quats_rate: float = 1e-3
    opacities_rate: float = 5e-2
    constant_rate: float = 2.5e-3
    bands_rate: float = 6.25e-4  # of the harmonics that depend on the view
    noise: float = 1.8e7  # variances over the extent, times the rate of the means
    dead_opacity: float = 0.005
    relocate_every: int = 100  # steps
    relocate_from: int = 300  # steps
    relocate_until: float = 0.85  # of the training
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)


@struct.dataclass
class TrainState:
    """What training moves."""

    gaussians: Gaussians
    moments: optax.ScaleByAdamState
    step: jax.Array  # [] int32
    extent: jax.Array  # [] the scene's size, in its own unit
    key: jax.Array  # [2] uint32 data of the key that noise is drawn with


class Views(NamedTuple):
    """Photos of any sizes, laid into the top left of one size: what a step is compiled for."""

    cameras: Camera  # leaves [V, ...], of the common size
    images: jax.Array  # [V, H, W, 3]
    masks: jax.Array | None  # [V, H, W] in [0, 1], how much a pixel counts; None for all alike


class StepReport(NamedTuple):
    loss: jax.Array  # [] before the step, without the regularizers
    needed: jax.Array  # [] int32 capacity that the photos take
    overflow: jax.Array  # [] bool: the capacity was too small and the step was not taken


_ADAM = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-15)


def scene_extent(cameras: Sequence[Camera]) -> float:
    """Returns the size of a scene by its cameras, a little more than their largest spread."""
    positions = _positions(cameras)
    return 1.1 * float(np.linalg.norm(positions - positions.mean(0), axis=1).max()) or 1.0


def init_state(
    key: jax.Array,
    cameras: Sequence[Camera],
    points: np.ndarray | None,
    colors: np.ndarray | None,
    config: TrainConfig,
) -> TrainState:
    """Lays the first Gaussians, on sparse points or at random where the cameras look.

    Args:
      key: draws from the points, or the places.
      cameras: of the photos.
      points: [P, 3], or None.
      colors: [P, 3] in [0, 1], or None for grey.
      config: count and degree are used.
    """
    draw_key, noise_key = jax.random.split(key)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(draw_key)))
    extent = scene_extent(cameras)
    if points is None or not len(points):
        points, colors = _random_points(rng, cameras, config.count), None
    points = np.asarray(points, np.float32)
    colors = np.full(points.shape, 0.5, np.float32) if colors is None else np.asarray(colors)
    chosen = rng.permutation(len(points))[: config.count]
    more = rng.choice(chosen, config.count - len(chosen))
    jitter = rng.normal(0.0, 2e-3 * extent, (len(more), 3))
    means = np.concatenate([points[chosen], points[more] + jitter]).astype(np.float32)
    colors = np.concatenate([colors[chosen], colors[more]])

    nearest = (
        scipy.spatial.cKDTree(means).query(means, min(4, len(means)))[0].reshape(len(means), -1)
    )
    spacing = np.sqrt(np.mean(nearest[:, 1:] ** 2, 1)) if len(means) > 1 else np.full(1, 0.1)
    log_scales = np.log(np.clip(spacing, *(limit * extent for limit in _SCALE_LIMITS)))
    num_harmonics = (config.degree + 1) ** 2
    shown = np.zeros((config.count, num_harmonics, 3), np.float32)
    shown[:, 0] = (colors - 0.5) / harmonics.CONSTANT
    gaussians = Gaussians(
        means=jnp.asarray(means),
        quats=jnp.tile(jnp.array([1.0, 0.0, 0.0, 0.0]), (config.count, 1)),
        log_scales=jnp.asarray(np.repeat(log_scales[:, None], 3, 1), jnp.float32),
        logit_opacities=jnp.zeros(config.count),
        harmonics=jnp.asarray(shown),
    )
    return TrainState(
        gaussians=gaussians,
        moments=_ADAM.init(gaussians),
        step=jnp.int32(0),
        extent=jnp.float32(extent),
        key=jax.random.key_data(noise_key),
    )


def _positions(cameras: Sequence[Camera]) -> np.ndarray:
    return np.stack([np.asarray(camera_position(camera)) for camera in jax.device_get(cameras)])


def _random_points(rng: np.random.Generator, cameras: Sequence[Camera], count: int) -> np.ndarray:
    """Points in the ball around where the cameras look, as large as it may be without them."""
    eyes = _positions(cameras)
    center = looked_at(cameras)
    radius = 0.6 * np.median(np.linalg.norm(eyes - center, axis=1))
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return center + radius * rng.random((count, 1)) ** (1 / 3) * directions


def stack_views(
    cameras: Sequence[Camera],
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray | None] | None = None,
) -> Views:
    """Makes arrays of photos, on the host. What a smaller photo leaves free does not count.

    Args:
      cameras: V.
      images: V of [h, w, 3].
      masks: V of [h, w], or None for each that counts as a whole.
    """
    masks = [None] * len(images) if masks is None else masks
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    cameras = [camera.replace(width=width, height=height) for camera in jax.device_get(cameras)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *cameras)
    pixels = np.zeros((len(images), height, width, 3), np.float32)
    is_whole = all(image.shape[:2] == (height, width) for image in images)
    has_masks = not is_whole or any(mask is not None for mask in masks)
    counts = np.zeros(pixels.shape[:3], np.float32) if has_masks else None
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        rows, columns = image.shape[:2]
        pixels[i, :rows, :columns] = image
        if has_masks:
            counts[i, :rows, :columns] = 1.0 if mask is None else mask
    return Views(stacked, pixels, counts)


def photos_of_step(step: int, num_views: int, num_photos: int, seed: int) -> np.ndarray:
    """Returns which photos a step sees: each once in a round, in an order anew each round."""
    places = np.arange(step * num_views, (step + 1) * num_views)
    rounds = places // num_photos
    orders = {r: np.random.default_rng((seed, r)).permutation(num_photos) for r in set(rounds)}
    return np.array(
        [orders[r][place % num_photos] for r, place in zip(rounds, places, strict=True)]
    )


def train_step(
    state: TrainState,
    views: Views,
    progress: jax.Array,
    config: TrainConfig,
    max_pairs: int,
) -> tuple[TrainState, StepReport]:
    """Takes one step on the photos of one device; inside `shard_map`, on those of all.

    Args:
      state: before the step.
      views: V photos; one a device.
      progress: [] share of the training that is done.
      config: static.
      max_pairs: static capacity of a picture.
    """
    view = jax.tree.map(lambda v: v[0], views)
    (_, (loss, output)), gradient = jax.value_and_grad(_loss, has_aux=True)(
        state.gaussians, state.extent, view, config, max_pairs
    )
    gradient, loss = jax.lax.pmean((gradient, loss), _AXIS)
    needed = jax.lax.pmax(output.needed, _AXIS)
    overflow = jax.lax.pmax(output.overflow.astype(jnp.int32), _AXIS) > 0

    means_rate = config.means_rate * config.means_decay**progress
    # Steps that see more photos are surer of their way.
    boost = jnp.sqrt(jax.lax.axis_size(_AXIS) * 1.0)
    update, moments = _ADAM.update(gradient, state.moments)
    moved = _descend(state.gaussians, update, boost * means_rate * state.extent, boost, config)
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    moved = _shake(key, moved, config.noise * means_rate / state.extent, config)
    new = state.replace(gaussians=moved, moments=moments, step=state.step + 1)
    new = jax.tree.map(lambda a, b: jnp.where(overflow, a, b), state, new)
    return new, StepReport(loss, needed, overflow)


@functools.cache
def _all_devices() -> Mesh:
    return jax.make_mesh((jax.device_count(),), (_AXIS,), (AxisType.Auto,))


def replicate(state: TrainState) -> TrainState:
    """Lays a copy of the state on each device, where `compiled_step` leaves it too.

    A state that comes to the first step from elsewhere makes the second compile once more.
    """
    return jax.device_put(state, NamedSharding(_all_devices(), PartitionSpec()))


@functools.cache
def compiled_step(config: TrainConfig, max_pairs: int) -> Callable:
    """Compiles `train_step` for all devices; it donates the state: use the one that it returns."""
    everywhere, split = PartitionSpec(), PartitionSpec(_AXIS)
    step = jax.shard_map(
        functools.partial(train_step, config=config, max_pairs=max_pairs),
        mesh=_all_devices(),
        in_specs=(everywhere, split, everywhere),
        out_specs=everywhere,
        check_vma=False,  # loops over data-dependent lists defeat the check
    )
    return compiled(step, donate_argnums=0)


def _loss(
    gaussians: Gaussians,
    extent: jax.Array,
    view: Views,
    config: TrainConfig,
    max_pairs: int,
) -> tuple[jax.Array, tuple[jax.Array, RenderOutput]]:
    """Returns the loss with regularizers, the loss without, and the picture, of one view."""
    output = splat(gaussians, view.cameras, SplatConfig(max_pairs=max_pairs), config.background)
    difference = mean_where(jnp.abs(output.rgb - view.images), view.masks)
    likeness = ssim(output.rgb, view.images, border="zero", mask=view.masks)
    loss = (1 - config.ssim_weight) * difference + config.ssim_weight * (1 - likeness)
    opacity = jnp.mean(jax.nn.sigmoid(gaussians.logit_opacities))
    size = jnp.mean(jnp.exp(gaussians.log_scales)) / extent
    return loss + config.opacity_weight * opacity + config.scale_weight * size, (loss, output)


def _descend(
    gaussians: Gaussians, update: Gaussians, means_rate: jax.Array, boost: jax.Array, config
) -> Gaussians:
    bands = jnp.full(gaussians.harmonics.shape[1], config.bands_rate)
    rates = Gaussians(
        means=means_rate,
        quats=boost * config.quats_rate,
        log_scales=boost * config.scales_rate,
        logit_opacities=boost * config.opacities_rate,
        harmonics=boost * bands.at[0].set(config.constant_rate)[:, None],
    )
    return jax.tree.map(lambda x, d, rate: x - rate * d, gaussians, update, rates)


def _shake(key: jax.Array, gaussians: Gaussians, size: jax.Array, config) -> Gaussians:
    """Moves what is nearly transparent about inside its own ellipsoid (Kheradmand Eq. 8)."""
    noise = jax.random.normal(key, gaussians.means.shape)
    noise = jnp.einsum("nij,nj->ni", covariances(gaussians), noise)
    opacity = jax.nn.sigmoid(gaussians.logit_opacities)
    gate = jax.nn.sigmoid(-100.0 * (opacity - config.dead_opacity))
    return gaussians.replace(means=gaussians.means + size * gate[:, None] * noise)


@functools.partial(jax.jit, static_argnames="config")
def relocate(
    key: jax.Array, state: TrainState, config: TrainConfig
) -> tuple[TrainState, jax.Array]:
    """Lays dead Gaussians onto living ones, drawn by opacity; returns how many there were too.

    Copies share opacity and scale so that together they look as the one did (Eq. 9).
    """
    gaussians = state.gaussians
    num = gaussians.means.shape[0]
    opacity = jax.nn.sigmoid(gaussians.logit_opacities)
    is_dead = opacity < config.dead_opacity
    weight = jnp.cumsum(jnp.where(is_dead, 0.0, opacity))
    drawn = jax.random.uniform(key, (num,)) * weight[-1]
    source = jnp.minimum(jnp.searchsorted(weight, drawn, side="right", method="sort"), num - 1)
    is_moved = is_dead & (weight[-1] > 0)
    source = jnp.where(is_moved, source, jnp.arange(num))
    copies = jnp.zeros(num, jnp.int32).at[source].add(is_moved.astype(jnp.int32))
    shared, shrink = share_opacity(opacity, jnp.minimum(copies + 1, _MOST_COPIES))
    shared = jnp.clip(shared, config.dead_opacity, 1 - 1e-6)
    is_source = copies > 0
    logit = jnp.log(shared / (1 - shared))
    gaussians = gaussians.replace(
        logit_opacities=jnp.where(is_source, logit, gaussians.logit_opacities),
        log_scales=gaussians.log_scales + jnp.where(is_source, jnp.log(shrink), 0.0)[:, None],
    )
    gaussians = jax.tree.map(lambda v: v[source], gaussians)
    is_new = is_source | is_moved

    def forget(moment):
        return jnp.where(is_new.reshape(-1, *[1] * (moment.ndim - 1)), 0.0, moment)

    mu, nu = (jax.tree.map(forget, m) for m in (state.moments.mu, state.moments.nu))
    moments = state.moments._replace(mu=mu, nu=nu)
    return state.replace(gaussians=gaussians, moments=moments), jnp.sum(is_moved)


def share_opacity(opacity: jax.Array, num_copies: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns opacity and relative scale of copies in one place that look as the one did.

    Source: Kheradmand et al. 2024, Eq. 9, whose inner sum over binomials is summed here.

    Args:
      opacity: [N] of the one.
      num_copies: [N] int32, up to 51.
    """
    n = num_copies.astype(opacity.dtype)
    shared = 1 - (1 - opacity) ** (1 / n)

    def add(k, state):  # binomial(n, k + 1) (-1)^k o^(k + 1) / sqrt(k + 1)
        term, total = state
        total += term / jnp.sqrt(k + 1.0)
        return -term * shared * (n - k - 1) / (k + 2), total

    start = n * shared, jnp.zeros_like(opacity)
    _, total = jax.lax.fori_loop(0, _MOST_COPIES, add, start)
    return shared, opacity / jnp.where(total > 0, total, 1.0)
