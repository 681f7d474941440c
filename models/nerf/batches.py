"""Rays of photos, drawn at random: what a training step sees.

A batch is a function of the seed and the step alone. Pixels that a mask leaves out are never drawn,
unless the mask cuts the subject out: then they are drawn, and there is nothing there.

Axes: F photos, Q pixels of all photos together, R rays, P patches of B x B pixels.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from models.nerf.train import RayBatch
from render.camera import Camera, Rays, pixel_rays

_PATCH = 8  # B


class Pixels(NamedTuple):
    """The pixels of photos of any sizes, photo after photo, row after row."""

    cameras: Camera  # leaves [F, ...], of the largest size
    sizes: np.ndarray  # [F, 2] width and height
    starts: np.ndarray  # [F + 1] first pixel of each photo
    rgb: np.ndarray  # [Q, 3] float32, times the coverage
    coverage: np.ndarray  # [Q] float32
    drawn: np.ndarray | None  # indices of pixels that are drawn; None for all
    style: np.ndarray  # [F] float32 alpha


def gather_pixels(
    cameras: Sequence[Camera],
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray | None],
    styles: Sequence[float] | None = None,
    is_cut_out: bool = False,
) -> Pixels:
    """Lays photos out for `draw_batch`.

    Args:
      cameras: F.
      images: F of [H, W, 3] in [0, 1].
      masks: F of [H, W], or None where all counts.
      styles: F alphas; zero by default.
      is_cut_out: a mask is what is subject, in place of what counts; images then show white
        where there is none of it.

    Raises:
      ValueError: when no pixel counts.
    """
    sizes = np.array([image.shape[1::-1] for image in images])
    width, height = (int(side) for side in sizes.max(0))
    cameras = [camera.replace(width=width, height=height) for camera in jax.device_get(cameras)]
    counts = np.concatenate(
        [
            np.ones(image.shape[:2], np.float32).ravel() if mask is None else mask.ravel()
            for image, mask in zip(images, masks, strict=True)
        ]
    )
    drawn = None
    if not is_cut_out and not counts.all():
        drawn = np.flatnonzero(counts > 0.5)
        if not len(drawn):
            raise ValueError("expected pixels that count, found none: all masks are black")
    coverage = counts if is_cut_out else np.ones_like(counts)
    rgb = np.concatenate([np.float32(image).reshape(-1, 3) for image in images])
    return Pixels(
        cameras=jax.tree.map(lambda *leaves: np.stack(leaves), *cameras),
        sizes=sizes,
        starts=np.concatenate([[0], np.cumsum(sizes.prod(1))]),
        rgb=np.clip(rgb - (1.0 - coverage)[:, None], 0.0, 1.0),
        coverage=coverage,
        drawn=drawn,
        style=np.float32(np.zeros(len(images)) if styles is None else styles),
    )


def draw_batch(
    seed: int, step: int, pixels: Pixels, num_rays: int, num_patches: int = 0
) -> RayBatch:
    """Draws the rays of a step.

    Args:
      seed: of the run.
      step: whose rays they are.
      pixels: of all photos.
      num_rays: R.
      num_patches: P, squares of rays for the smoothness of depth; with zero there are none.
    """
    rng = np.random.default_rng((seed, step))
    total = len(pixels.rgb) if pixels.drawn is None else len(pixels.drawn)
    index = rng.integers(total, size=num_rays)
    if pixels.drawn is not None:
        index = pixels.drawn[index]
    photo = np.searchsorted(pixels.starts, index, side="right") - 1
    place = index - pixels.starts[photo]
    width = pixels.sizes[photo, 0]
    xy = np.stack([place % width, place // width], -1) + 0.5
    patches = None
    if num_patches:
        chosen = rng.integers(len(pixels.sizes), size=num_patches)
        corner = (rng.random((num_patches, 2)) * (pixels.sizes[chosen] - _PATCH + 1)).astype(int)
        step_x, step_y = np.meshgrid(np.arange(_PATCH), np.arange(_PATCH))
        square = corner[:, None, None] + np.stack([step_x, step_y], -1) + 0.5
        shape = square.shape[:-1]
        flat = np.broadcast_to(chosen[:, None, None], shape).ravel()
        rays = _rays(pixels.cameras, flat, np.float32(square.reshape(-1, 2)))
        patches = jax.tree.map(lambda leaf: leaf.reshape(*shape, 3), rays)
    return RayBatch(
        rays=_rays(pixels.cameras, photo, np.float32(xy)),
        photo=np.int32(photo),
        style=pixels.style[photo],
        rgb=pixels.rgb[index],
        coverage=pixels.coverage[index],
        weight=np.ones(num_rays, np.float32),
        patches=patches,
    )


@functools.partial(jax.jit)
def _rays(cameras: Camera, photo: jax.Array, xy: jax.Array) -> Rays:
    chosen = jax.tree.map(lambda leaf: leaf[photo], cameras)
    return jax.vmap(pixel_rays)(chosen, xy)
