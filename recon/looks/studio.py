"""All that pictures of people are made from, prepared once on the host.

Axes: V vertices of the head, N of the hair, T triangles of the head, H hair styles.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recon.looks.albedo import AlbedoModel, build_albedo_model
from recon.looks.bake_light import hair_normals
from recon.looks.bust import Bust, build_bust
from recon.looks.cards import Wardrobe, build_wardrobe, card_vertices
from recon.looks.casting import Casting, build_casting
from recon.looks.look import Looks
from recon.looks.paint import Canvas, build_canvas
from recon.morphable import MorphableModel
from render.mesh import vertex_normals

LABELS = ("background", "skin", "neck", "lips", "mouth", "eyes", "brows", "hair", "clothes")
BACKGROUND, SKIN, NECK, LIPS, MOUTH, EYES, BROWS, HAIRS, CLOTHES = range(len(LABELS))

_RELIEF = 0.5  # share of the cards' own normals in the hair's
_RELIEFS = {"afro01": 0.12}  # its shell is a patchwork
_FLOORS = {"skull": 0.45, "inner_mouth": 0.3, "mouth_plug": 0.35, "sockets": 0.25, "eyeballs": 0.2}
_SKIN_SHINE, _LIP_SHINE = 0.028, 0.06


@struct.dataclass
class Studio:
    """What `sample_person` and `render_person` need of the head and its looks."""

    model: MorphableModel
    albedo_model: AlbedoModel
    wardrobe: Wardrobe
    bust: Bust
    canvas: Canvas
    casting: Casting
    head_transfer: jax.Array  # [H + 1, V, 9]; the last is bald
    hair_normals: jax.Array  # [H + 1, N, 3] of the mean head
    mean_normals: jax.Array  # [V, 3]
    head_texels: jax.Array  # [T, 3, 2] places of the head's corners in the texture, x and y
    floor: jax.Array  # [V] least share of open light
    shine: jax.Array  # [V] reflectance of highlights
    label: jax.Array  # [T] int32 of LABELS


def build_studio(
    model: MorphableModel, looks: Looks, traits: dict[str, np.ndarray], texture_size: int
) -> Studio:
    """Prepares a studio, on the host.

    Args:
      model: the default head.
      looks: its looks.
      traits: from `looks_io.load_traits`.
      texture_size: of the head's texture, a multiple of four: about twice the pictures' side.
    """
    bust = build_bust(model)
    wardrobe = build_wardrobe(looks)
    regions = {name: np.asarray(share) for name, share in model.regions.items()}
    uvs = np.asarray(model.uvs)[np.asarray(model.uv_triangles)]
    floor = np.max([share * regions[name] for name, share in _FLOORS.items()], 0)
    shine = _SKIN_SHINE + (_LIP_SHINE - _SKIN_SHINE) * regions["lips"]
    hidden = regions["sockets"] + regions["inner_mouth"] + 0.7 * regions["skull"]
    relief = [_RELIEFS.get(name, _RELIEF) for name in (*looks.hair_names, "bald")]
    return Studio(
        model=model,
        albedo_model=build_albedo_model(looks, model, texture_size),
        wardrobe=wardrobe,
        bust=bust,
        canvas=build_canvas(model, looks, bust, texture_size),
        casting=build_casting(model, looks, traits),
        head_transfer=jnp.roll(looks.head_transfer, -1, 0),
        hair_normals=_hair_normals(wardrobe, model.mean, relief),
        mean_normals=vertex_normals(model.mean, model.triangles),
        head_texels=jnp.asarray(uvs * [1, -1] + [0, 1], jnp.float32) * texture_size,
        floor=jnp.asarray(floor, jnp.float32),
        shine=jnp.asarray(shine * np.clip(1 - hidden, 0, 1), jnp.float32),
        label=jnp.asarray(_labels(regions, np.asarray(model.triangles)), jnp.int32),
    )


def _hair_normals(wardrobe: Wardrobe, mean: jax.Array, relief: list[float]) -> jax.Array:
    """Normals [H + 1, N, 3] of the hair on the mean head."""
    normals = []
    for style, share in enumerate(relief):
        cards = jax.tree.map(lambda leaf, i=style: leaf[i], wardrobe.hair)
        places = np.asarray(card_vertices(cards, mean, jnp.ones(())), np.float64)
        normals.append(hair_normals(places, np.asarray(cards.triangles), share))
    return jnp.asarray(np.stack(normals), jnp.float32)


def _labels(regions: dict[str, np.ndarray], triangles: np.ndarray) -> np.ndarray:
    """Labels of the head's triangles."""
    label = np.full(len(triangles), SKIN)
    mouth = np.maximum(regions["inner_mouth"], regions["mouth_plug"])
    named = [(regions["neck"], NECK), (regions["lips"], LIPS), (mouth, MOUTH)]
    for region, number in [*named, (regions["eyeballs"], EYES)]:
        label[region[triangles].mean(1) > 0.5] = number
    return label
