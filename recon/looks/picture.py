"""Draws people: shape, texture, light and layers become a picture with its labels.

Axes: T triangles, K layers; W, H sides of the picture; S samples per pixel and side.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from recon.looks.paint import paint_look
from recon.looks.people import Person, View, sample_person, sample_view
from recon.looks.scene import (
    Scene,
    assemble,
    light_of_head,
    looking_at_camera,
    shade,
    with_glints,
)
from recon.looks.studio import Studio
from recon.morphable import face_shape, landmark_embedding
from render.camera import Camera, project, scale_camera
from render.image import box_downsample, linear_to_srgb
from render.layers import find_layers
from render.stages import compiled
from render.zbuffer import RasterizeConfig

_MIDDLE = np.array([0.0, 0.012, 0.0])  # of the head, that the camera looks at
_HIGHLIGHT_ROOM = 0.15
_SAMPLES_IN_BAND = 16  # rows worked on at once: their temporaries stay in the cache
# A triangle's row: its corners on the screen (9), irradiance and shine (18), texture places (6).
_ATTRIBUTES, _TEXELS = 9, 27


@dataclasses.dataclass(frozen=True)
class PictureConfig:
    """Settings of `render_person`; hashable, so static under jit."""

    width: int = 128
    height: int = 128
    samples: int = 2  # per pixel and side
    layers: int = 4
    max_pairs: int | None = None  # of triangle and tile; None guesses


@struct.dataclass
class PersonPicture:
    """A picture, and what is known about it."""

    rgb: jax.Array  # [H, W, 3] sRGB
    alpha: jax.Array  # [H, W] share of the pixel that is not background
    label: jax.Array  # [H, W] uint8 of LABELS: what covers most of the pixel's middle
    landmarks: jax.Array  # [68, 2] pixels
    camera: Camera  # in the head's axes
    light: jax.Array  # [9, 3] radiance, in the head's axes
    needed: jax.Array  # [] int32 room that the picture takes
    overflow: jax.Array  # [] bool: there was too little, the picture is wrong


def person_camera(view: View, config: PictureConfig) -> Camera:
    """Returns the camera of a view, in the head's axes."""
    size = min(config.width, config.height)
    half = jnp.tan(jnp.radians(view.fov_degrees) / 2)
    rotation = jnp.array([1.0, -1.0, -1.0])[:, None] * view.rotation
    away = jnp.stack([view.shift[0], -view.shift[1], 0.5 * view.extent / half])
    return Camera(
        rotation=rotation,
        translation=away - rotation @ jnp.asarray(_MIDDLE, rotation.dtype),
        focal=jnp.broadcast_to(0.5 * size / half, (2,)),
        center=jnp.array([config.width / 2, config.height / 2]),
        width=config.width,
        height=config.height,
    )


@functools.partial(compiled, static_argnames="config")
def render_person(
    studio: Studio, person: Person, view: View, config: PictureConfig
) -> PersonPicture:
    """Draws a person.

    Args:
      studio: from `build_studio`.
      person: from `sample_person`, or made by hand.
      view: from `sample_view`, likewise.
      config: static settings.
    """
    camera = person_camera(view, config)
    head = face_shape(studio.model, person.identity, person.expression)
    look = looking_at_camera(person.look, view, camera)
    texture = paint_look(look, person.clothes, studio.albedo_model, studio.canvas)
    texture = with_glints(texture, studio, view, camera)
    scene = assemble(studio, person, view, head)
    lit = shade(studio, scene, look, view, camera)
    corners, weights = landmark_embedding(studio.model)
    landmarks = jnp.einsum("lk,lkd->ld", weights, head[corners])
    linear, alpha, label, needed, overflow = _draw(camera, scene, *lit, texture, config)
    shape = config.height, config.width, 3
    limits = jnp.min(view.background, (0, 1)), jnp.max(view.background, (0, 1))
    behind = jnp.clip(jax.image.resize(view.background, shape, "cubic"), *limits)
    linear = linear + (1 - alpha)[..., None] * behind
    linear = linear / (1 + _HIGHLIGHT_ROOM * jnp.max(linear, -1, keepdims=True))
    return PersonPicture(
        rgb=linear_to_srgb(jnp.clip(linear, 0.0, 1.0)),
        alpha=alpha,
        label=label.astype(jnp.uint8),
        landmarks=project(camera, landmarks)[0],
        camera=camera,
        light=light_of_head(view),
        needed=needed,
        overflow=overflow,
    )


def draw_person(
    key: jax.Array, studio: Studio, config: PictureConfig
) -> tuple[Person, View, PersonPicture]:
    """Draws a random person in a random view, all from one key."""
    person_key, view_key = jax.random.split(key)
    person = sample_person(person_key, studio.casting, studio.albedo_model)
    view = sample_view(view_key)
    # Three programs in place of one: another size of picture compiles the last alone.
    return person, view, render_person(studio, person, view, config)


def _draw(
    camera: Camera,
    scene: Scene,
    radiance: jax.Array,
    shine: jax.Array,
    texture: jax.Array,
    config: PictureConfig,
) -> tuple[jax.Array, ...]:
    """Rasterizes and blends.

    Returns:
      Linear colour [H, W, 3] times alpha, alpha and label [H, W], the room that it took, and
      whether there was too little.
    """
    samples, height = config.samples, config.height
    large = scale_camera(camera, samples)
    xy, depth = project(large, scene.vertices)
    screen = jnp.concatenate([xy, depth[:, None]], -1)
    parts = screen[scene.triangles], jnp.concatenate([radiance, shine], -1)[scene.triangles]
    parts = [part.reshape(scene.triangles.shape[0], -1) for part in (*parts, scene.texels)]
    rows = jnp.pad(jnp.concatenate(parts, -1), [(0, 1), (0, 0)])  # the last sees nothing
    layers = find_layers(
        rows[:, :_ATTRIBUTES].reshape(-1, 3, 3),
        large.width,
        large.height,
        False,
        RasterizeConfig(max_pairs=config.max_pairs),
        config.layers,
        scene.num_opaque,
    )
    num_rows = max(1, _SAMPLES_IN_BAND // samples)
    band = next(rows for rows in range(num_rows, 0, -1) if height % rows == 0)
    shape = height // band, band * samples, large.width

    def draw_band(inputs):
        triangle, y = inputs
        color, through, label = _blend_layers(triangle, y, rows, texture, scene)
        middle = label[samples // 2 :: samples, samples // 2 :: samples]
        return box_downsample(color, samples), box_downsample(1 - through, samples), middle

    triangle = jnp.moveaxis(layers.triangle.reshape(config.layers, *shape), 0, 1)
    y = (jnp.arange(large.height) + 0.5).reshape(shape[:2])
    bands = lax.map(draw_band, (triangle, y))
    drawn = (band.reshape(height, *band.shape[2:]) for band in bands)
    return *drawn, layers.needed, layers.overflow


def _blend_layers(triangle, y, rows, texture, scene):
    """Blends the layers [K, h, W] of some rows of samples, front to back.

    Returns colour [h, W, 3], the share [h, W] of the background, and labels [h, W].
    """
    num_layers, _, width = triangle.shape
    dummy = rows.shape[0] - 1
    x = jnp.arange(width) + 0.5

    def is_left(state):
        k, *_ = state
        return (k < num_layers) & jnp.any(triangle[jnp.minimum(k, num_layers - 1)] < dummy)

    def add_layer(state):
        k, color, through, label = state
        here = triangle[k]
        row = rows.at[here].get(mode="promise_in_bounds")
        weights = _barycentric(row, x, y[:, None])

        def at_pixels(first, count):
            """Blends attributes that lie in the row corner by corner."""
            columns = [range(first + c, first + 3 * count, count) for c in range(count)]
            return [
                sum(w * row[..., k] for w, k in zip(weights, corners, strict=True))
                for corners in columns
            ]

        blended = at_pixels(_ATTRIBUTES, 6)
        place = at_pixels(_TEXELS, 2)
        texel = _texel(texture, *place)
        lit = jnp.stack([texel[..., c] * blended[c] + blended[3 + c] for c in range(3)], -1)
        is_card = here >= scene.num_opaque
        # Out of layers, the last card closes: else the background twinkles through.
        alpha = jnp.where(is_card & (k < num_layers - 1), texel[..., 3], 1.0)
        alpha = jnp.where(here < dummy, alpha, 0.0)
        after = through * (1 - alpha)
        is_seen = (through > 0.5) & (after <= 0.5)
        label = jnp.where(is_seen, scene.label[here], label)
        return k + 1, color + (through * alpha)[..., None] * lit, after, label

    shape = triangle.shape[1:]
    start = jnp.zeros((*shape, 3)), jnp.ones(shape), jnp.zeros(shape, jnp.int32)
    _, color, through, label = lax.while_loop(is_left, add_layer, (jnp.int32(0), *start))
    return color, through, label


def _barycentric(row: jax.Array, x: jax.Array, y: jax.Array) -> list[jax.Array]:
    """Perspective-correct weights [3][h, W] of the corners in `row` [h, W, 33]."""
    dx = [row[..., 3 * i] - x for i in range(3)]
    dy = [row[..., 3 * i + 1] - y for i in range(3)]
    area = [dx[1] * dy[2] - dx[2] * dy[1], dx[2] * dy[0] - dx[0] * dy[2]]
    area.append(dx[0] * dy[1] - dx[1] * dy[0])
    sign = jnp.sign(area[0] + area[1] + area[2])
    # Inclusive edges let samples lie outside by a hair.
    parts = [
        jnp.maximum(a * sign, 0.0) / jnp.maximum(row[..., 3 * i + 2], 1e-6)
        for i, a in enumerate(area)
    ]
    inverse = 1.0 / jnp.maximum(parts[0] + parts[1] + parts[2], 1e-20)
    return [part * inverse for part in parts]


def _texel(texture: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Reads the texture [H, W, 4] at texels [...], bilinearly."""
    height, width, channels = texture.shape
    x, y = jnp.clip(x - 0.5, 0.0, width - 1.001), jnp.clip(y - 0.5, 0.0, height - 1.001)
    left, top = jnp.floor(x), jnp.floor(y)
    fx, fy = (x - left)[..., None], (y - top)[..., None]
    at = top.astype(jnp.int32) * width + left.astype(jnp.int32)
    flat = texture.reshape(-1, channels)

    def read(step):
        return flat.at[at + step].get(mode="promise_in_bounds")

    upper = read(0) * (1 - fx) + read(1) * fx
    return upper * (1 - fy) + (read(width) * (1 - fx) + read(width + 1) * fx) * fy
