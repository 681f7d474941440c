"""Several pictures of one person: of other days, in other lights, from other sides.

What stays is who somebody is: the shape of the head, the skin but for a tan, eyes, brows, beard.
What changes is the view, the light, the background, the face that is made, the clothes, and on some
days the hairdo and the lips, or the hair's colour. Pictures are framed as those that latents mean,
but less exactly.

Axes: N people, V pictures of each; H, W sides.
Angles as `euler_rotation` has them: yaw within +-40 degrees, pitch within +-15.
"""

import functools

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from recon.looks.albedo import AlbedoModel
from recon.looks.casting import Casting
from recon.looks.draws import Draws
from recon.looks.latent_people import EXTENT, MAX_PITCH, MAX_YAW, SHIFT
from recon.looks.people import Person, View, sample_person, sample_view
from recon.looks.picture import PictureConfig, render_person
from recon.looks.studio import Studio

_RESTYLED = 0.6  # chance of the hairdo of somebody else, if that is of the same sex
_DYED = 0.4  # chance of the hair's colour of somebody else
_TAN_SD, _TAN = 0.2, (0.9, 1.0, 1.2)  # of the log tone
_PITCH_SD, _ROLL_SD = 0.12, 0.03
_LOG_EXTENT_SD, _SHIFT_SD = 0.04, 0.004  # how badly pictures are aligned
_FOV_DEGREES = (16.0, 26.0)


@struct.dataclass
class Sightings:
    """What is kept of the pictures of people."""

    rgb: jax.Array  # [N, V, H, W, 3] uint8 sRGB
    angles: jax.Array  # [N, V, 3] yaw, pitch and roll, radians
    restyled: jax.Array  # [N, V] bool: the hairdo is not the person's own
    landmarks: jax.Array  # [N, V, 68, 2] pixels
    needed: jax.Array  # [] room that the pictures take
    overflow: jax.Array  # [] bool: there was too little, they are wrong


@functools.partial(jax.jit, static_argnames=("num_views", "config"))
def draw_sightings(
    keys: jax.Array, studio: Studio, num_views: int, config: PictureConfig
) -> Sightings:
    """Draws people, each several times.

    Args:
      keys: [N], one a person.
      studio: from `build_studio`.
      num_views: V, static.
      config: static.
    """
    casting, skins = studio.casting, studio.albedo_model

    def draw(keys):
        person_key, key = keys
        person = sample_person(person_key, casting, skins)
        day_key, view_key = jax.random.split(key)
        person, restyled = on_another_day(day_key, person, casting, skins)
        view = portrait_view(view_key)
        picture = render_person(studio, person, view, config)
        rgb = jnp.round(255 * picture.rgb).astype(jnp.uint8)
        return rgb, view.angles, restyled, picture.landmarks, picture.needed, picture.overflow

    split = jax.vmap(lambda key: jax.random.split(key, num_views + 1))(keys)
    people = jnp.repeat(split[:, :1], num_views, 1)
    *seen, needed, overflow = lax.map(draw, (people.ravel(), split[:, 1:].ravel()))
    seen = [leaf.reshape(keys.shape[0], num_views, *leaf.shape[1:]) for leaf in seen]
    return Sightings(*seen, jnp.max(needed), jnp.any(overflow))


def on_another_day(
    key: jax.Array, person: Person, casting: Casting, albedo_model: AlbedoModel
) -> tuple[Person, jax.Array]:
    """Returns a person with another face on, in other clothes, and whether with another hairdo."""
    own, other_key = jax.random.split(key)
    other = sample_person(other_key, casting, albedo_model)
    is_like = other.attributes.sex == person.attributes.sex
    draws = Draws(own, 3)
    restyled, dyed = is_like & draws.chance(_RESTYLED), draws.chance(_DYED)

    def borrowed(name: str) -> jax.Array:
        return jnp.where(restyled, getattr(other.look, name), getattr(person.look, name))

    hairdo = ("hair", "hair_scale", "hair_contrast", "stubble", "lip_tint")
    look = person.look.replace(
        gaze=other.look.gaze,
        tone=person.look.tone + draws.normal(_TAN_SD) * jnp.array(_TAN),
        hair_color=jnp.where(dyed, other.look.hair_color, person.look.hair_color),
        **{name: borrowed(name) for name in hairdo},
    )
    clothes = other.clothes.replace(shoulders=person.clothes.shoulders)
    face = {name: getattr(other.attributes, name) for name in ("smile", "mouth_open", "expression")}
    attributes = person.attributes.replace(
        **face,
        hair_style=look.hair,
        hair_color=jnp.where(dyed, other.attributes.hair_color, person.attributes.hair_color),
        painted_lips=jnp.where(
            restyled, other.attributes.painted_lips, person.attributes.painted_lips
        ),
    )
    return person.replace(
        expression=other.expression, look=look, clothes=clothes, attributes=attributes
    ), restyled


def portrait_view(key: jax.Array) -> View:
    """Draws a view of a face that a detector would find, about as latents' pictures are framed."""
    own, light_key = jax.random.split(key)
    draws = Draws(own, 16)
    yaw = draws.uniform(-MAX_YAW, MAX_YAW)
    pitch = jnp.clip(draws.normal(_PITCH_SD), -MAX_PITCH, MAX_PITCH)
    angles = jnp.stack([yaw, pitch, draws.normal(_ROLL_SD)])
    return sample_view(light_key).replace(
        angles=angles,
        body_angles=angles * jnp.array([0.45, 0.25, 0.15]),
        fov_degrees=draws.uniform(*_FOV_DEGREES),
        extent=EXTENT * jnp.exp(draws.normal(_LOG_EXTENT_SD)),
        shift=jnp.array(SHIFT) + draws.normal(_SHIFT_SD, (2,)),
    )
