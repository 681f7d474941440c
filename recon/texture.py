"""Paints a fitted head with its photo: a colour for every vertex, and a texture picture.

  head = prepare(model, config)              # once per model
  mesh = paint(head, params, photo, config)  # as many photos as you like

The steps: look at the photo (`sight`), find where its head ends (`outline`), judge what can be
trusted (`trust`), say where hair is (`hair`), estimate the light (`shading`), complete the colours
of the vertices (`fill`), and lay them out as a picture to which the photo adds its finer detail
(`atlas`). What depends on the model alone is in `PaintedModel`: arrays, which may be kept.

What the photo shows keeps the photo's light. What it hides is lit as the lit side is.

Axes: V vertices of the refined mesh, U texture coordinates, S sides of the texture, N texels.
Colours are sRGB-encoded, in [0, 1].
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recon.fit import FaceParams
from recon.looks import hair_mesh, photo_hair
from recon.looks.look import Looks
from recon.looks.photo_hair import HairWish, Style
from recon.morphable import MorphableModel
from recon.painting import atlas as atlas_lib
from recon.painting import fill, hair, outline, shading
from recon.painting.atlas import Atlas
from recon.painting.fill import FillConfig, Mirrored, Plain
from recon.painting.hair_mask import find_hair
from recon.painting.sight import View, look, sample
from recon.painting.surface import Surface, on_host, ramp, refine
from recon.painting.trust import Seen, TrustConfig, judge
from render.image import as_picture
from render.mesh import Mesh, apply, linear_subdivision
from render.program_io import kept

_MIDDLE = np.array([0.0, -0.2, -0.85])  # of the head, as `place`
_TURNED = -0.8, -0.4  # cosine away from the viewer: lit as the photo is, lit evenly


@dataclasses.dataclass(frozen=True)
class TextureConfig:
    """Settings of `prepare` and `paint`."""

    size: int = 1024  # S
    max_vertices: int = 80_000
    cutout: int = 1024  # pixels of the square that is cut out of the photo; a multiple of 4
    trust: TrustConfig = dataclasses.field(default_factory=TrustConfig)
    fill: FillConfig = dataclasses.field(default_factory=FillConfig)


@struct.dataclass
class PaintedModel:
    """A model made ready for painting."""

    model: MorphableModel
    surface: Surface
    strands: jax.Array  # [V] a pattern of hair
    uvs: jax.Array | None = None  # [U, 2] of the refined mesh
    uv_triangles: jax.Array | None = None
    atlas: Atlas | None = None
    fine_strands: jax.Array | None = None  # [N] the same pattern at the texels


def prepare(model: MorphableModel, config: TextureConfig) -> PaintedModel:
    """Refines the model's mesh and lays out its texture, on the host."""
    surface = refine(model, config.max_vertices)
    pattern = _strands(surface.place, surface.parts["skull"])
    head = PaintedModel(model, surface, pattern)
    if model.uvs is None:
        return head
    uv_triangles = np.asarray(model.uv_triangles)
    flat = linear_subdivision(uv_triangles, model.uvs.shape[0], surface.levels)
    uvs = apply(flat, model.uvs)
    atlas = atlas_lib.build_atlas(uvs, flat.triangles, surface.subdivision.triangles, config.size)
    at_vertices = jnp.concatenate([surface.place, surface.parts["skull"][:, None]], -1)
    at_texels = atlas_lib.at_texels(atlas, at_vertices)
    return head.replace(
        uvs=uvs,
        uv_triangles=flat.triangles,
        atlas=atlas,
        fine_strands=_strands(at_texels[:, :3], at_texels[:, 3]),
    )


def _strands(place: jax.Array, skull: jax.Array) -> jax.Array:
    """The pattern of hair [N] at places [N, 3]; zero off the skull, whose share is [N]."""
    is_skull = np.asarray(skull) > 0
    pattern = np.zeros(len(is_skull), np.float32)
    pattern[is_skull] = hair.strands(np.asarray(place, np.float64)[is_skull])
    return jnp.asarray(pattern)


def paint(
    head: PaintedModel,
    params: FaceParams,
    photo: np.ndarray,
    config: TextureConfig = TextureConfig(),
) -> Mesh:
    """Paints a head with `colors`, and with `uvs` and a `texture` if the model has a layout.

    Args:
      head: from `prepare`, with the same `config`.
      params: the fit to the photo.
      photo: [H, W, 3] in [0, 1], or whatever `render.image.as_picture` takes.
      config: settings.

    Raises:
      ValueError: the head lies outside the photo, or that is none.
    """
    return _painted(head, _look_at(head, params, as_picture(photo), config), config)


def paint_with_hair(
    head: PaintedModel,
    params: FaceParams,
    photo: np.ndarray,
    looks: Looks,
    wish: HairWish,
    config: TextureConfig = TextureConfig(),
) -> tuple[Mesh, Style | None]:
    """Paints a head as `paint` does, and hangs the hair of the photo on it, as cards.

    The paint stays as it is: what cards cover is their roots, what they leave bare the photo's own
    fringe. Where paint alone is as near to the photo, there are no cards.

    Args:
      head: from `prepare`, with the same `config`, of the default head.
      params: the fit to the photo.
      photo: [H, W, 3] in [0, 1], or whatever `render.image.as_picture` takes.
      looks: of the default head.
      wish: which hair.
      config: settings.

    Returns:
      The mesh, its cards after what is opaque, and the style they are of; None without cards.

    Raises:
      ValueError: the head lies outside the photo, or that is none.
    """
    photo = as_picture(photo)
    scene = _look_at(head, params, photo, config)
    shown, surface, seen = scene.shown, scene.surface, scene.seen
    mask = find_hair(photo, shown, surface, seen)
    style = photo_hair.choose_style(looks, mask, shown, surface, scene.share, wish)
    if style is None:
        return _painted(head, scene, config), None
    if wish.color is not None:
        color, mask = np.array(wish.color), None  # the photo's own colours are not wanted
    elif mask is not None:
        color = photo_hair.color_of(mask)
    else:
        color = shading.to_rgb(hair.hair_color(surface, seen)[0])
    mesh = _painted(head, scene, config)
    return hair_mesh.dress(mesh, looks, style, color, mask, shown, surface), style


class _Scene(NamedTuple):
    """A photo, looked at and judged."""

    view: View
    shown: View  # the same, on the host, as all that follows
    surface: Surface
    seen: Seen
    share: np.ndarray  # [V] of hair that is paint
    pattern: np.ndarray  # [V] of strands


def _look_at(
    head: PaintedModel, params: FaceParams, photo: np.ndarray, config: TextureConfig
) -> _Scene:
    view = look(head.model, head.surface, params, photo, config.cutout)
    # From here to the texture all is NumPy, on the host.
    shown, surface = jax.device_get(view), on_host(head.surface)
    pattern = np.asarray(head.strands, np.float64)
    from_surroundings = outline.inside_photo_outline(photo, shown, surface)
    seen = judge(shown, surface, from_surroundings, config.trust)
    share = hair.hair_share(surface, seen, pattern)
    return _Scene(view, shown, surface, seen, share, pattern)


def _painted(head: PaintedModel, scene: _Scene, config: TextureConfig) -> Mesh:
    view, shown, surface, seen, share, pattern = scene
    seen = hair.without_stray_hair(surface, seen, share)
    lit, even = _light(shown, surface, seen)
    mirrored = fill.mirror_image(surface, seen, lit, even)
    plain = fill.plain_head(surface, seen, even, share, pattern)
    log_rgb = fill.complete(surface, seen, mirrored, plain, share, config.fill)
    limit = fill.brightest(surface, seen)
    colors = _dimmed(shading.to_rgb(log_rgb), seen.trust[:, None], limit)
    weights = _detail_weights(seen, mirrored, plain)
    colors, weights = jax.device_put((np.float32(colors), np.float32(weights)))
    mesh = Mesh(view.vertices, head.surface.subdivision.triangles, colors=colors)
    if head.atlas is None:
        return mesh
    texture = _paint_texture(head, view, colors, weights, np.float32(limit))
    return mesh.replace(uvs=head.uvs, uv_triangles=head.uv_triangles, texture=texture)


def _light(view: View, surface: Surface, seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    """Log colours [V, 3] of skin as the photo lights it, and as all that it hides is to be lit."""
    facing = np.float64(view.facing)
    lit = shading.lit_skin(seen.skin, facing)
    even = shading.evenly_lit_skin(seen.skin, facing, surface.mirror)
    # Where the head as a whole turns away: on a nose, normals change within a few vertices.
    to_viewer = np.linalg.lstsq(np.float64(view.normals), facing[:, 2], rcond=None)[0]
    outwards = surface.place - _MIDDLE
    outwards /= np.maximum(np.linalg.norm(outwards, axis=-1, keepdims=True), 1e-6)
    return lit, lit + ramp(-outwards @ to_viewer, *_TURNED)[:, None] * (even - lit)


def _detail_weights(seen: Seen, mirrored: Mirrored, plain: Plain) -> np.ndarray:
    """What finer detail counts [V, 4]: the photo's, its mirror image's, the strands'; and trust."""
    own, other, _ = fill.guide_shares(seen.trust, mirrored.trust)
    return np.stack([own, other, plain.strand_contrast, seen.trust], -1)


@kept
def _paint_texture(
    head: PaintedModel, view: View, colors: jax.Array, weights: jax.Array, limit: jax.Array
) -> jax.Array:
    """The texture [S, S, 3]: the colours of the vertices, and detail finer than these."""
    mirror, size = head.surface.mirror, view.picture.shape[0]
    own = jnp.concatenate([view.xy, view.rgb], -1)
    attributes = [colors, own, own[mirror], weights, head.strands[:, None]]
    rgb, xy, coarse, mirror_xy, mirror_coarse, own_share, mirror_share, contrast, trust, pattern = (
        jnp.split(
            atlas_lib.at_texels(head.atlas, jnp.concatenate(attributes, -1)),
            np.cumsum([3, 2, 3, 2, 3, 1, 1, 1, 1]),
            -1,
        )
    )
    rgb = rgb * jnp.exp(contrast * (head.fine_strands[:, None] - pattern))
    rgb = rgb + own_share * (sample(view.picture, xy, size) - coarse)
    rgb = rgb + mirror_share * (sample(view.picture, mirror_xy, size) - mirror_coarse)
    rgb = _dimmed(jnp.clip(rgb, 0.0, 1.0), trust, limit)
    return atlas_lib.to_picture(head.atlas, rgb)


def _dimmed(rgb: jax.Array, trust: jax.Array, limit: float) -> jax.Array:
    """Colours [N, 3], none but what the photo shows [N, 1] lighter than `limit`; NumPy's too."""
    luma = shading.luma(rgb)[:, None]
    return rgb * (trust + (1 - trust) * (limit / luma.clip(min=1e-6)).clip(max=1.0))
