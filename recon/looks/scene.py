"""One person as a mesh of head, bust and cards, and the light on it.

Axes: V vertices of the head, B of the bust, N of the cards, one after the other; T triangles in the
same order: head and bust, which are opaque, come first.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recon.looks.bust import bust_vertices
from recon.looks.cards import Cards, card_vertices, wear
from recon.looks.light_transport import (
    directional_light,
    highlight,
    irradiance,
    open_irradiance,
    scattered,
    sky_light,
)
from recon.looks.look import Look
from recon.looks.paint import neckline
from recon.looks.people import Person, View
from recon.looks.studio import BACKGROUND, BROWS, CLOTHES, HAIRS, NECK, SKIN, Studio
from render.camera import Camera, camera_position
from render.mesh import vertex_normals
from render.transforms import safe_normalize

_LEAST_OPEN = 0.02
_BUST_FLOOR, _HAIR_FLOOR = 0.15, 0.3
_HAIR_SHINE = 0.012
_HAIR_SHEEN = 0.35  # of what hair mirrors in its own colour
_SKIN_LOBES, _HAIR_LOBES = (10.0, 36.0), (14.0, 60.0)
_GLINT_LOBE = 900.0
_MOST_GLINT = 0.8
_MOST_GAZE = np.radians([28.0, 18.0])
_GREY = 0.22  # linear luminance of a face that exposure aims at
_ADAPTATION = 0.42  # how far: dark skin stays darker than light skin
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)


@struct.dataclass
class Scene:
    """A person's mesh, ready to be lit."""

    vertices: jax.Array  # [V + B + N, 3]
    normals: jax.Array  # [V + B + N, 3]
    triangles: jax.Array  # [T, 3]
    texels: jax.Array  # [T, 3, 2] places of the corners in the texture, x and y
    label: jax.Array  # [T + 1] int32 of LABELS
    cards: Cards
    num_opaque: int = struct.field(pytree_node=False)


def assemble(studio: Studio, person: Person, view: View, head: jax.Array) -> Scene:
    """Dresses a head [V, 3]: hangs the bust under it and the cards on it."""
    model, bust, size = studio.model, studio.bust, studio.canvas.size
    look = person.look
    body = view.rotation.T @ view.body_rotation
    shoulders = bust_vertices(bust, head, body, person.clothes.shoulders)
    cards = wear(studio.wardrobe, look.hair, look.brow, look.lash)
    normals = vertex_normals(head, model.triangles)
    turned = bust.normals + bust.turn[:, None] * (bust.normals @ body.T - bust.normals)
    of_cards = jnp.einsum("nk,nkd->nd", cards.weights, normals[cards.anchors])
    hair = studio.hair_normals[look.hair]
    of_cards = of_cards.at[of_cards.shape[0] - hair.shape[0] :].set(hair)
    # Each kind of card has its square in the strip under the head.
    left = jnp.array([0, size // 2, 3 * size // 4])[cards.kind]
    side = jnp.array([size // 2, size // 4, size // 4])[cards.kind]
    on_cards = _inset(cards.uvs, side[:, None]) + jnp.stack([left, jnp.full_like(left, size)], -1)
    corner = jnp.array([size // 2, 5 * size // 4])
    on_bust = _inset(bust.uvs, jnp.array([size // 2, size // 4])) + corner
    first = head.shape[0] + shoulders.shape[0]
    below = neckline(person.clothes, bust.uvs, studio.canvas.num_rings)[bust.triangles]
    labels = [
        studio.label,
        jnp.where(jnp.mean(below, -1) > 0, CLOTHES, NECK),
        jnp.array([HAIRS, BROWS, SKIN])[cards.kind[cards.triangles[:, 0]]],  # lashes: skin
        jnp.array([BACKGROUND]),
    ]
    triangles = [model.triangles, bust.triangles + head.shape[0], cards.triangles + first]
    texels = [studio.head_texels, on_bust[bust.triangles], on_cards[cards.triangles]]
    places = [head, shoulders, card_vertices(cards, head, look.hair_scale)]
    return Scene(
        vertices=jnp.concatenate(places),
        normals=jnp.concatenate([normals, turned, of_cards]),
        triangles=jnp.concatenate(triangles),
        texels=jnp.concatenate(texels),
        label=jnp.concatenate(labels),
        cards=cards,
        num_opaque=model.triangles.shape[0] + bust.triangles.shape[0],
    )


def _inset(uvs: jax.Array, side: jax.Array) -> jax.Array:
    """Texels of places [N, 2] in a square, half a texel off its border."""
    return 0.5 + jnp.stack([uvs[:, 0], 1 - uvs[:, 1]], -1) * (side - 1)


def light_of_head(view: View) -> jax.Array:
    """Returns what shines, as radiance [9, 3] in the head's axes."""
    directions = view.light_directions @ view.rotation
    lights = jax.vmap(directional_light)(directions, view.light_colors)
    return jnp.sum(lights, 0) + sky_light(view.sky[0], view.sky[1], view.rotation[1])


def shade(
    studio: Studio, scene: Scene, look: Look, view: View, camera: Camera
) -> tuple[jax.Array, jax.Array]:
    """Lights a scene.

    Returns:
      What meets each vertex' albedo, and what it mirrors besides, [V + B + N, 3] each.
    """
    num_head, num_bust = studio.floor.shape[0], studio.bust.turn.shape[0]
    hair_transfer = studio.wardrobe.hair_transfer[look.hair]
    first_card = num_head + num_bust
    first_hair = scene.vertices.shape[0] - hair_transfer.shape[0]
    light = scattered(light_of_head(view))
    open_light = jnp.maximum(open_irradiance(scene.normals, light), _LEAST_OPEN)
    transfer = studio.head_transfer[look.hair]
    head = irradiance(transfer, light, open_light[:num_head], studio.mean_normals, studio.floor)
    own = studio.bust.own_light[:, None]
    bust = (own * studio.bust.transfer + (1 - own) * transfer[studio.bust.edge]) @ light
    bust = jnp.maximum(bust, _BUST_FLOOR * open_light[num_head:first_card])
    cards = jnp.einsum("nk,nkd->nd", scene.cards.weights, head[scene.cards.anchors])
    cards = cards.at[first_hair - first_card :].set(hair_transfer @ light)
    cards = jnp.maximum(cards, _HAIR_FLOOR * open_light[first_card:])
    lit = jnp.concatenate([head, bust, cards])

    to_viewer = safe_normalize(camera_position(camera) - scene.vertices)
    lights = view.light_directions @ view.rotation, view.light_colors
    visible = jnp.clip((lit @ _LUMINANCE) / (open_light @ _LUMINANCE), 0.0, 1.0)[:, None]
    skin, hair = slice(0, num_head), slice(first_hair, None)
    on_skin = highlight(scene.normals[skin], to_viewer[skin], *lights, _SKIN_LOBES)
    on_skin = on_skin * visible[skin] * studio.shine[:, None]
    on_hair = highlight(scene.normals[hair], to_viewer[hair], *lights, _HAIR_LOBES)
    on_hair = on_hair * visible[hair] ** 2
    lit = lit.at[hair].add(_HAIR_SHEEN * on_hair)
    shine = jnp.zeros_like(lit).at[skin].set(on_skin).at[hair].set(_HAIR_SHINE * on_hair)
    # A photographer exposes for the face.
    face = studio.model.regions["face"]
    bright = (face @ head / jnp.sum(face)) * jnp.exp(look.tone) @ _LUMINANCE
    gain = view.exposure * (_GREY / bright) ** _ADAPTATION
    return gain * lit, gain * shine


def looking_at_camera(look: Look, view: View, camera: Camera) -> Look:
    """Turns the eyes to the camera, as far as eyes go and the view asks."""
    toward = safe_normalize(camera_position(camera))
    wanted = jnp.stack([jnp.arctan2(toward[0], toward[2]), jnp.arcsin(toward[1])])
    most = jnp.asarray(_MOST_GAZE, wanted.dtype)
    wanted = most * jnp.tanh(wanted / most)
    return look.replace(gaze=view.eye_contact * wanted + (1 - 0.6 * view.eye_contact) * look.gaze)


def with_glints(texture: jax.Array, studio: Studio, view: View, camera: Camera) -> jax.Array:
    """Paints the lights' mirror images on the eyeballs: too small for their vertices."""
    canvas, size = studio.canvas, studio.canvas.size
    toward = safe_normalize(camera_position(camera))
    half = safe_normalize(view.light_directions @ view.rotation + toward)
    glint = jnp.maximum(canvas.eye_directions @ half.T, 0.0) ** _GLINT_LOBE
    glint = jnp.minimum(glint @ view.light_colors, _MOST_GLINT)
    row, column = canvas.eye_texels // size, canvas.eye_texels % size
    return texture.at[row, column, :3].add(glint, mode="promise_in_bounds", unique_indices=True)
