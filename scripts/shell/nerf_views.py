"""Pictures of a radiance field: of held-out photos, to score it, and of a turn, to look at it."""

from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from matplotlib import colormaps

from models.nerf.nerf_io import Nerf
from models.nerf.rendering import render_picture
from models.perception import vgg
from render.camera import (
    Camera,
    camera_position,
    camera_rays,
    fit_camera,
    looked_at,
    orbit,
    world_axes,
)
from render.frames import draw_frames
from render.image import RenderOutput, psnr, ssim
from scripts.shell.photos import Photos

_SHOWN = 4  # held-out photos in the picture, of each style
_SOME = 4  # held-out photos that a score between two steps looks at
_MORE_SAMPLES = 1.5  # of a ray than while learning
_KEPT = 12  # cameras that a field's file keeps
_SURFACE_SIDE = 96  # pixels of the longer side of pictures that points are made of
_CAMERA_FIELDS = ("rotation", "translation", "focal", "center", "width", "height", "orthographic")
_WHITE = (1.0, 1.0, 1.0)


def pictures(
    nerf: Nerf, cameras: Sequence[Camera], style: float = 0.0, background=_WHITE
) -> Iterator[RenderOutput]:
    """Renders one picture after another, two at a time."""
    samples = round(_MORE_SAMPLES * nerf.config.samples)

    def draw(camera: Camera, _: int | None) -> RenderOutput:
        fields = (nerf.params, camera, nerf.grid, nerf.box)
        return render_picture(*fields, style, samples, nerf.config, background)

    return draw_frames(draw, cameras, None)


def some_photos(photos: Photos) -> Photos:
    """Returns a few of the photos, evenly spaced."""
    chosen = np.unique(np.linspace(0, len(photos.cameras) - 1, _SOME).round().astype(int))
    return Photos(*([values[i] for i in chosen] for values in photos))


def judge(
    nerf: Nerf, held_out: dict[int, Photos], lpips: Callable | None = None
) -> tuple[dict[str, float], list[np.ndarray]]:
    """Scores a field by photos.

    Args:
      nerf: the field.
      held_out: photos by their style.
      lpips: takes two pictures [H, W, 3]; None leaves that score out.

    Returns:
      Means over all photos; with several styles of each, too, `psnr_db_style_1`. And pairs of photo
      and picture to look at.
    """
    scores, pairs = {}, []
    for style, photos in held_out.items():
        shown = np.linspace(0, len(photos.cameras) - 1, _SHOWN).round()
        outputs = pictures(nerf, photos.cameras, float(style))
        for i, (output, image, mask) in enumerate(
            zip(outputs, photos.images, photos.masks, strict=True)
        ):
            rgb = np.clip(output.rgb, 0.0, 1.0)
            values = {"psnr_db": psnr(rgb, image, mask), "ssim": ssim(rgb, image, mask=mask)}
            if lpips is not None and min(image.shape[:2]) >= vgg.MIN_SIDE:
                is_seen = True if mask is None else mask[..., None] > 0
                values["lpips"] = lpips(rgb * is_seen, image * is_seen)
            for name, value in values.items():
                scores.setdefault(name, []).append(float(value))
                if len(held_out) > 1:
                    scores.setdefault(f"{name}_style_{style}", []).append(float(value))
            if i in shown:
                pairs += [image, rgb]
    return {name: float(np.mean(values)) for name, values in scores.items()}, pairs


def turn(
    cameras: Sequence[Camera], up: Sequence[float], count: int, width: int, height: int
) -> list[Camera]:
    """Returns the cameras of a turn as far from what photos look at, and as high, as they are.

    Args:
      cameras: of the photos.
      up: [3] of the capture.
      count: of the turn.
      width: of a picture, pixels.
      height: of a picture, pixels.
    """
    cameras = jax.device_get(list(cameras))
    target = looked_at(cameras)
    away = np.stack([np.asarray(camera_position(camera)) for camera in cameras]) - target
    distance = np.linalg.norm(away, axis=1)
    elevation = np.degrees(np.arcsin(np.mean(away @ world_axes(up)[1] / distance)))
    side = min(cameras[0].width, cameras[0].height)
    tangent = 0.5 * side / float(np.mean(cameras[0].focal))
    lens = {"elevation_degrees": float(elevation), "up": up}
    if not cameras[0].orthographic:
        lens["fov_degrees"] = 2.0 * np.degrees(np.arctan(tangent))
        extent = 2.0 * tangent * np.median(distance)
    else:
        lens["orthographic"], extent = True, 2.0 * tangent
    return orbit(target, float(extent), count, width, height, **lens)


def view_facts(cameras: Sequence[Camera]) -> list[dict]:
    """Returns some of the photos' cameras as a field's file keeps them, to find it by later."""
    cameras = jax.device_get(list(cameras))
    chosen = np.unique(np.linspace(0, len(cameras) - 1, _KEPT).round().astype(int))
    return [
        {name: np.asarray(getattr(cameras[i], name)).tolist() for name in _CAMERA_FIELDS}
        for i in chosen
    ]


def surface_points(nerf: Nerf, style: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the kept photos see: points [P, 3] of the capture's space, colours [P, 3]."""
    cameras = []
    for fields in nerf.facts["views"]:
        size = int(fields["width"]), int(fields["height"])
        arrays = (np.float32(fields[name]) for name in _CAMERA_FIELDS[:4])
        camera = Camera(*arrays, *size, orthographic=bool(fields["orthographic"]))
        scale = _SURFACE_SIDE / max(size)
        cameras.append(fit_camera(camera, *(max(1, round(scale * side)) for side in size)))
    points, colors = [], []
    for camera, output in zip(cameras, pictures(nerf, cameras, style), strict=True):
        rays = jax.device_get(camera_rays(camera))
        depth = np.asarray(output.depth) / (rays.directions @ np.asarray(camera.rotation)[2])
        is_seen = np.asarray(output.alpha) > 0.5
        points.append((rays.origins + depth[..., None] * rays.directions)[is_seen])
        colors.append(np.clip(np.asarray(output.rgb)[is_seen], 0.0, 1.0))
    found = np.concatenate(points)
    if not len(found):
        raise ValueError("expected a field that shows something, found an empty one")
    return found.astype(np.float32), np.concatenate(colors).astype(np.float32)


def inside_box(nerf: Nerf, points: np.ndarray) -> np.ndarray:
    """Returns those of the points [P, 3] that lie in the field's cube; all where none does."""
    center, radius = jax.device_get((nerf.box.center, nerf.box.radius))
    is_inside = (np.abs(points - center) < radius).all(-1)
    return points[is_inside] if is_inside.any() else points


def color_and_depth(output: RenderOutput) -> np.ndarray:
    """Lays a picture and its depth side by side [H, 2 W, 3]: what is near is bright."""
    depth = np.asarray(output.depth)
    is_seen = np.asarray(output.alpha) > 0.5
    shade = np.zeros_like(depth)
    if is_seen.any():
        near, far = np.quantile(1.0 / np.maximum(depth[is_seen], 1e-6), [0.99, 0.01])
        inverse = 1.0 / np.maximum(depth, 1e-6)
        shade = np.where(is_seen, (inverse - far) / max(near - far, 1e-9), 0.0)
    colors = colormaps["magma"](np.clip(shade, 0.0, 1.0))[..., :3]
    return np.concatenate([np.clip(output.rgb, 0.0, 1.0), colors], 1).astype(np.float32)
