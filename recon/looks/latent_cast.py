"""Tables of the map from latents to people: paths of colours, styles in order, skin from traits.

Axes: S skins, D modes of skin. Colours are linear.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from recon.looks.albedo import AlbedoModel
from recon.looks.casting import Casting
from recon.looks.look import BALD, IRIS_RADIUS, Looks
from recon.looks.people import HAIR_COLORS
from render.image import srgb_to_linear

# From short to long, each with what the length, in deviations, must pass.
HAIR_STYLES = (
    (None, -np.inf),
    ("short04", -1.6),
    ("short02", -0.6),
    ("short01", 0.1),
    ("ponytail01", 0.6),
    ("long01", 1.05),
)
# From thin to thick, likewise.
BROW_STYLES = (("eyebrow007", -np.inf), ("eyebrow003", -0.55), ("eyebrow012", 0.55))
NUM_SKIN_MODES = 3

_HAIR_PATH = ("black", "dark brown", "brown", "light brown", "dark blond", "blond", "light blond")
_EYE_PATH = ("brown", "brownlight", "green", "grey", "blue")
_EYE_PICTURE = "grey"  # tinted: its iris has some of each colour
_NUM_ENDS = 4  # skins, whose mean tone is the light, and the dark end
_SKIN_AGES = (0.0, 0.35, 0.8)  # young, middle-aged and old skins as an age
_SKIN_SD = 0.8


@struct.dataclass
class LatentCast:
    """Tables of the map; `build_latent_cast` makes them of a studio's looks."""

    tones: jax.Array  # [2, 3] log albedo of the light and of the dark end
    skin_of_traits: jax.Array  # [4, D] scores for one, darkness, maleness and age
    skin_modes: jax.Array  # [3, D] scores for a latent of one
    hair_styles: jax.Array  # [.] int32 of `Looks.hair_names`, short to long
    brow_styles: jax.Array  # [.] int32 of `Looks.brow_names`, thin to thick
    hair_path: jax.Array  # [., 3] linear colours, dark to light
    hair_colors: jax.Array  # [., 3] linear, of the names in HAIR_COLORS
    eye_picture: jax.Array  # [] int32
    eye_gains: jax.Array  # [., 3] of that picture, along the path of colours
    eye_names: jax.Array  # [.] int32 of `Casting.eye_colors`, along the path


def build_latent_cast(casting: Casting, albedo_model: AlbedoModel, looks: Looks) -> LatentCast:
    """Makes the map's tables, on the host.

    Args:
      casting: of the default head.
      albedo_model: of its skins, in any size.
      looks: its looks.
    """
    tones = np.asarray(albedo_model.tones, np.float64)
    by_light = np.argsort(-tones.mean(1))
    ends = np.stack([tones[by_light[:_NUM_ENDS]].mean(0), tones[by_light[-_NUM_ENDS:]].mean(0)])
    darkness = np.clip((tones.mean(1) - ends[0].mean()) / np.ptp(ends.mean(1)) * -1, 0, 1)
    traits = np.stack(
        [
            np.ones(len(tones)),
            darkness,
            np.asarray(casting.skin_is_male, np.float64),
            np.array(_SKIN_AGES)[np.asarray(casting.skin_age)],
        ],
        1,
    )
    scores = np.asarray(albedo_model.scores, np.float64)
    of_traits = np.linalg.lstsq(traits, scores, rcond=None)[0]
    _, sizes, modes = np.linalg.svd(scores - traits @ of_traits, full_matrices=False)
    modes = sizes[:NUM_SKIN_MODES, None] * modes[:NUM_SKIN_MODES] / np.sqrt(len(tones)) * _SKIN_SD
    colors = np.asarray(srgb_to_linear(np.array(list(HAIR_COLORS.values()), np.float32) / 255))
    names = list(HAIR_COLORS)
    eye_picture, gains, eye_names = _eye_path(casting, looks)
    return LatentCast(
        tones=jnp.asarray(ends, jnp.float32),
        skin_of_traits=jnp.asarray(of_traits, jnp.float32),
        skin_modes=jnp.asarray(modes, jnp.float32),
        hair_styles=jnp.array(
            [BALD if name is None else looks.hair_names.index(name) for name, _ in HAIR_STYLES]
        ),
        brow_styles=jnp.array([looks.brow_names.index(name) for name, _ in BROW_STYLES]),
        hair_path=jnp.asarray(colors[[names.index(name) for name in _HAIR_PATH]]),
        hair_colors=jnp.asarray(colors),
        eye_picture=jnp.int32(eye_picture),
        eye_gains=jnp.asarray(gains, jnp.float32),
        eye_names=jnp.array(eye_names),
    )


def _eye_path(casting: Casting, looks: Looks) -> tuple[int, np.ndarray, list[int]]:
    """The picture that is tinted, the gains [., 3] that make other colours of it, their names."""
    pictures = np.asarray(srgb_to_linear(np.float32(looks.eyes) / 255), np.float64)
    side = pictures.shape[1]
    place = np.arange(side) + 0.5 - side / 2
    radius = np.hypot(place, place[:, None]) / IRIS_RADIUS
    is_iris = (radius > 0.5) & (radius < 0.9)
    numbers = [casting.eye_colors.index(name) for name in _EYE_PATH]
    picture = int(casting.eye_pictures[casting.eye_colors.index(_EYE_PICTURE)])
    colors = [
        pictures[int(casting.eye_pictures[n])][is_iris].mean(0) * np.asarray(casting.eye_gains[n])
        for n in numbers
    ]
    return picture, np.stack(colors) / pictures[picture][is_iris].mean(0), numbers
