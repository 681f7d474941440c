"""Draws random people, and views of them: all named, all from one key each.

A person's traits (sex, age, origin, build) move shape, skin, hair and beard together, as they go
together in people; the rest is drawn freely. Everything batches by `vmap` over keys.

Axes: K identity and E expression coefficients, S skins, L = 3 lights. Light's directions are in
the viewer's axes: x right, y up, z to the viewer.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from recon.looks.albedo import AlbedoModel
from recon.looks.casting import AFRICAN, ASIAN, Casting
from recon.looks.draws import Draws
from recon.looks.look import BALD, Look
from recon.looks.paint import Clothes
from render.image import srgb_to_linear
from render.transforms import euler_rotation

SEXES = ("female", "male")
AGE_GROUPS = ("young", "middle-aged", "old")
TONES = ("light", "medium", "brown", "dark")
EXPRESSIONS = ("neutral", "smile", "frown", "surprise")
HAIR_COLORS = {
    "black": (18, 14, 13),
    "dark brown": (38, 27, 22),
    "brown": (62, 42, 30),
    "light brown": (92, 62, 40),
    "dark blond": (128, 96, 62),
    "blond": (165, 132, 86),
    "light blond": (196, 168, 122),
    "auburn": (104, 52, 30),
    "red": (140, 74, 40),
    "grey": (112, 110, 108),
    "white": (172, 169, 165),
}
_DARK_HAIR_SHARES = (0.68, 0.24, 0.05, 0.01, 0, 0, 0, 0.02, 0, 0, 0)
_ASIAN_HAIR_SHARES = (0.62, 0.26, 0.07, 0.02, 0, 0, 0, 0.03, 0, 0, 0)
_HAIR_SHARES = (0.12, 0.22, 0.22, 0.16, 0.10, 0.08, 0.03, 0.04, 0.03, 0, 0)
_GREY_SHARES = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0.65, 0.35)
_GROUP_SHARES = (0.46, 0.24, 0.30)  # EUROPEAN, ASIAN, AFRICAN
_MOST_TOWARDS_OTHERS = (0.4, 0.25, 0.62)  # share of the way to another group's skin
_LASH_SHARES = ((3, 4, 3, 0.3), (6, 1, 1, 0))  # of women, of men
LIGHTEST_BROW = (0.10, 0.07, 0.05)
TONE_EDGES = (-1.35, -1.9, -2.5)  # mean of log(linear + 0.008)
AGE_EDGES = (0.12, 0.45)

_IDENTITY_SD = 0.85  # of what traits do not say; the prior's tails look like caricatures
_MIX_SKINS = 4
_PALETTE = 0.7  # most that a colour of cloth may be saturated


@struct.dataclass
class Attributes:
    """What can be said of a person in words; numbers of names, or shares in [0, 1]."""

    sex: jax.Array  # [] int32 of SEXES, that skin, hair and beard were drawn for
    age_group: jax.Array  # [] int32 of AGE_GROUPS
    age: jax.Array  # [] 0 young to 1 old
    tone: jax.Array  # [] int32 of TONES
    hair_style: jax.Array  # [] int32 of `Looks.hair_names`; BALD
    hair_color: jax.Array  # [] int32 of HAIR_COLORS
    eye_color: jax.Array  # [] int32 of `Casting.eye_colors`
    brow: jax.Array  # [] int32 of `Looks.brow_names`
    painted_lips: jax.Array  # [] bool
    beard: jax.Array  # [] cover
    expression: jax.Array  # [] int32 of EXPRESSIONS
    smile: jax.Array  # []
    mouth_open: jax.Array  # []


@struct.dataclass
class Person:
    identity: jax.Array  # [K]
    expression: jax.Array  # [E]
    look: Look
    clothes: Clothes
    attributes: Attributes


@struct.dataclass
class View:
    """Where a person is seen from, in which light, before what."""

    angles: jax.Array  # [3] yaw, pitch and roll of the head, radians, as `euler_rotation` has them
    body_angles: jax.Array  # [3] of the shoulders
    fov_degrees: jax.Array  # []
    extent: jax.Array  # [] metres of the head's plane that fill the picture's shorter side
    shift: jax.Array  # [2] metres of the head to the right and up
    eye_contact: jax.Array  # [] share of the way that eyes turn to the camera
    light_directions: jax.Array  # [L, 3] unit
    light_colors: jax.Array  # [L, 3] irradiance over pi; zero for lights that are off
    sky: jax.Array  # [2, 3] radiance from above and from below
    exposure: jax.Array  # []
    background: jax.Array  # [4, 4, 3] linear, stretched over the picture

    @property
    def rotation(self) -> jax.Array:
        """[3, 3] from the head's axes to the viewer's."""
        return euler_rotation(*self.angles)

    @property
    def body_rotation(self) -> jax.Array:
        """[3, 3] from the body's axes to the viewer's."""
        return euler_rotation(*self.body_angles)


@jax.jit
def sample_person(key: jax.Array, casting: Casting, albedo_model: AlbedoModel) -> Person:
    """Draws a person.

    Args:
      key: of the person.
      casting: from `build_casting`.
      albedo_model: of the skins.
    """
    draws = Draws(key, 256)
    traits = _draw_traits(draws)
    identity = casting.identity(traits.values, draws.normal(_IDENTITY_SD, (casting.num_identity,)))
    look, named = _draw_look(draws, casting, albedo_model, traits)
    kind, expression = _expression(draws, casting)
    return Person(
        identity=identity,
        expression=expression,
        look=look,
        clothes=_clothes(draws, traits.male),
        attributes=Attributes(
            sex=traits.is_male.astype(jnp.int32),
            age_group=traits.age_group,
            age=traits.age,
            expression=kind,
            smile=casting.unit(expression, "mouthSmileLeft"),
            mouth_open=casting.unit(expression, "jawOpen"),
            **named,
        ),
    )


class _Traits(NamedTuple):
    """What shape, skin and hair share."""

    is_male: jax.Array  # [] bool
    male: jax.Array  # [] share of male shape
    age: jax.Array  # [] 0 young to 1 old
    age_group: jax.Array  # [] int32 of AGE_GROUPS
    group: jax.Array  # [] int32 EUROPEAN, ASIAN or AFRICAN
    values: jax.Array  # [P] as `Casting.identity` takes them


def _draw_traits(draws: Draws) -> _Traits:
    """Draws traits, as wide as the population has them that the head's modes were learnt from."""
    is_male = draws.chance(0.5)
    doubt = 0.45 * draws.uniform() ** 2
    male = jnp.where(is_male, 1.0 - doubt, doubt)
    age = jnp.maximum(draws.uniform(-0.6, 0.9), 0.0)
    group = draws.choice(_GROUP_SHARES)
    origin = 0.8 * jax.nn.one_hot(group, 3) + 0.2 * draws.uniform(shape=(3,)) ** 2
    origin = origin / jnp.sum(origin)
    build = jnp.clip(draws.normal(0.5, (2,)), -1, 1)
    return _Traits(
        is_male=is_male,
        male=male,
        age=age,
        age_group=jnp.sum(age > jnp.array(AGE_EDGES)).astype(jnp.int32),
        group=group,
        values=jnp.concatenate([origin[1:], jnp.stack([male, age]), build]),
    )


def _draw_look(
    draws: Draws, casting: Casting, albedo_model: AlbedoModel, traits: _Traits
) -> tuple[Look, dict[str, jax.Array]]:
    """Draws a look, and returns what can be said of it: fields of `Attributes`."""
    is_male = traits.is_male
    tone, detail = _skin(draws, casting, albedo_model, traits)
    darkness = jnp.clip((-1.45 - jnp.mean(tone)) / 1.2, 0.0, 1.0)
    cover, style, color_name, color = _hair(draws, casting, traits, darkness)
    eye_color, eye, iris_gain = _eye(draws, casting, color_name, darkness)
    has_beard = is_male & draws.chance(0.45) & (traits.group != ASIAN)
    beard = jnp.where(has_beard, draws.uniform(0.12, 0.8), 0.0)
    lip_tint, painted = _lips(draws, is_male)
    women, men = jnp.asarray(casting.brow_shares)
    brow = draws.choice(jnp.where(is_male, men, women))
    lashes = jnp.where(is_male, *jnp.array(_LASH_SHARES)[::-1])
    look = Look(
        tone=tone,
        detail=detail,
        contrast=draws.uniform(0.8, 1.1),
        lip_tint=lip_tint,
        brow=brow,
        brow_color=jnp.minimum(color * draws.uniform(0.45, 0.75), jnp.array(LIGHTEST_BROW)),
        lash=draws.choice(lashes),
        eye=eye,
        iris_gain=iris_gain,
        gaze=draws.normal(shape=(2,)) * jnp.array([0.10, 0.05]),
        hair=style,
        hair_color=color,
        hair_contrast=draws.uniform(0.32, 0.5),
        hair_scale=jnp.ones(()),
        stubble=cover,
        beard=beard,
        teeth=draws.uniform(0.85, 1.1),
    )
    return look, {
        "tone": jnp.sum(jnp.mean(tone) < jnp.array(TONE_EDGES)).astype(jnp.int32),
        "hair_style": style,
        "hair_color": color_name,
        "eye_color": eye_color,
        "brow": brow,
        "painted_lips": painted,
        "beard": beard,
    }


def _skin(draws, casting, albedo_model, traits):
    """Tone [3] between those of two skins, and a mix of the details of four."""
    group = traits.group
    is_group = jnp.asarray(casting.skin_group) == group
    own = jnp.where(jnp.any(is_group), is_group, 1.0)
    first, second = draws.choice(own, (2,))
    share = draws.uniform()
    tone = albedo_model.tones[first] * share + albedo_model.tones[second] * (1 - share)
    # Brown skins, that no picture has, lie between the dark and the light ones.
    other = albedo_model.tones[draws.choice(jnp.asarray(casting.skin_group) != group)]
    most = jnp.array(_MOST_TOWARDS_OTHERS)[group]
    towards = jnp.where(draws.chance(0.45), draws.uniform(0.1, 1.0) * most, 0.0)
    tone = tone + towards * (other - tone)
    # The dark skins are redder than people are.
    grey = jnp.mean(tone)
    tone = grey + (tone - grey) * (1 - 0.25 * jnp.clip(-1.4 - grey, 0.0, 1.0))
    tone = tone + draws.normal(0.06) + draws.normal(0.025, (3,)) * jnp.array([1.0, 1.0, 1.3])
    likely = (
        (1 + 3 * is_group)
        * (1 + 2 * (jnp.asarray(casting.skin_is_male) == traits.is_male))
        * jnp.where(jnp.asarray(casting.skin_age) == traits.age_group, 1.0, 0.12)
    )
    picked = draws.choice(likely, (_MIX_SKINS,))
    shares = (-jnp.log(draws.uniform(1e-4, 1.0, (_MIX_SKINS,)))) ** 1.6
    detail = (shares / jnp.sum(shares)) @ albedo_model.scores[picked]
    return tone, detail + draws.normal(0.25, detail.shape)


def _hair(draws, casting, traits, darkness):
    """Cover of the skull's stubble, style, number of the colour's name, and the colour."""
    group, is_male, age = traits.group, traits.is_male, traits.age
    shares = jnp.array([_HAIR_SHARES, _ASIAN_HAIR_SHARES, _DARK_HAIR_SHARES])[group]
    shares = jnp.where(darkness > 0.45, jnp.array(_DARK_HAIR_SHARES), shares)
    is_grey = draws.chance(jnp.clip(1.3 * (age - 0.25), 0.0, 0.75))
    name = draws.choice(jnp.where(is_grey, jnp.array(_GREY_SHARES), shares))
    srgb = jnp.array(list(HAIR_COLORS.values()))[name] / 255.0
    srgb = srgb * jnp.exp(draws.normal(0.10) + draws.normal(0.025, (3,)))
    color = srgb_to_linear(jnp.clip(srgb, 0.02, 0.9))
    by_sex = jnp.where(is_male, *jnp.asarray(casting.hair_shares)[::-1])
    curly = jnp.where(group == AFRICAN, jnp.asarray(casting.curly_gain), 1.0)
    style = draws.choice(by_sex * curly)
    is_shorn = is_male & draws.chance(0.12 + 0.25 * age)
    cover = jnp.where(is_shorn, draws.uniform(0.0, 0.75), 0.92)
    return cover, jnp.where(is_shorn, BALD, style), name, color


def _eye(draws, casting, hair_color, darkness):
    """Number of the colour's name, picture, and gain of the iris."""
    is_dark = (darkness > 0.3) | (hair_color < 1)
    shares = jnp.where(is_dark, *jnp.asarray(casting.eye_shares))
    color = draws.choice(shares)
    gain = draws.uniform(0.45, 0.8) * jnp.asarray(casting.eye_gains)[color]
    return color, jnp.asarray(casting.eye_pictures)[color], gain


def _lips(draws, is_male):
    """Log tint, and whether it is paint."""
    natural = jnp.array([0.0, -0.10, -0.06]) + draws.normal(shape=(3,)) * jnp.array(
        [0.04, 0.09, 0.08]
    )
    paint = draws.uniform(shape=(3,)) * jnp.array([0.2, 0.5, 0.4]) + jnp.array([-0.1, -0.85, -0.6])
    painted = ~is_male & draws.chance(0.3)
    return jnp.where(painted, paint, natural), painted


def _expression(draws, casting):
    """Number of the expression's name, and coefficients [E]."""
    kind = draws.choice((0.36, 0.40, 0.12, 0.12))
    smile, frown, surprise = ((kind == k).astype(jnp.float32) for k in (1, 2, 3))
    strength = draws.uniform(0.2, 0.75)
    opens = draws.chance(0.45) * 1.0
    one = draws.uniform
    units = {
        "mouthSmile": smile * strength,
        "cheekSquint": smile * 0.6 * strength,
        "mouthUpperUp": smile * opens * 0.5 * strength,
        "mouthLowerDown": smile * opens * 0.4 * strength,
        "browDown": frown * one(0.1, 0.6),
        "mouthFrown": frown * one(0.0, 0.45),
        "mouthPress": frown * one(0.0, 0.4),
        "eyeSquint": smile * 0.3 * strength + frown * one(0.0, 0.35),
        # A little of it at rest: the bare skull's brows look stern.
        "browInnerUp": (1 - frown) * one(0.0, 0.2) + surprise * one(0.1, 0.5),
        "browOuterUp": surprise * one(0.1, 0.6),
        "eyeWide": surprise * one(0.0, 0.5),
        "jawOpen": surprise * one(0.08, 0.42) + smile * opens * one(0.04, 0.15),
        "eyeBlink": (1 - surprise) * one(0.02, 0.2),
    }
    return kind, casting.expression(units, draws.normal(0.06, (casting.num_units,)))


def _clothes(draws, male):
    def cloth():
        grey = draws.uniform(0.08, 0.8)
        saturation = draws.uniform(0.0, _PALETTE) * draws.uniform()
        tint = draws.uniform(-1.0, 1.0, (3,))
        return srgb_to_linear(jnp.clip(grey * (1 + saturation * tint), 0.03, 0.92))

    color, other = cloth(), cloth()
    has_trim = draws.chance(0.35)
    is_v = draws.chance(0.35)
    return Clothes(
        color=color,
        trim=jnp.where(has_trim, other, color * 0.75),
        neckline=jnp.where(is_v, draws.uniform(2.6, 3.6), draws.uniform(1.8, 3.4)),
        dip=jnp.where(is_v, draws.uniform(1.0, 2.6), draws.uniform(0.0, 0.3)),
        stripes=draws.chance(0.15).astype(jnp.float32),
        shoulders=0.9 + 0.16 * male + draws.normal(0.04),
    )


@jax.jit
def sample_view(key: jax.Array, max_yaw: float = 1.1) -> View:
    """Draws a view: pose, camera, one to three lights and a sky, background.

    Args:
      key: of the view.
      max_yaw: radians.
    """
    draws = Draws(key, 160)
    yaw = jnp.clip(draws.normal(0.36), -max_yaw, max_yaw)
    angles = jnp.stack([yaw, draws.normal(0.10), draws.normal(0.07)])
    body = jnp.stack([0.45 * yaw + draws.normal(0.15), 0.25 * angles[1], 0.15 * angles[2]])
    warm = draws.normal(0.09)
    tint = jnp.stack([1 + warm, jnp.ones(()), 1 - warm])
    directions = jnp.stack(
        [
            light_direction(draws.normal(0.7), draws.uniform(0.1, 0.95)),
            light_direction(draws.uniform(-1.6, 1.6), draws.uniform(-0.2, 0.6)),
            light_direction(jnp.pi + draws.uniform(-0.9, 0.9), draws.uniform(0.1, 0.8)),
        ]
    )
    num_lights = draws.choice((0.3, 0.45, 0.25)) + 1
    strength = jnp.stack(
        [draws.uniform(0.6, 1.5), draws.uniform(0.1, 0.5), draws.uniform(0.2, 0.9)]
    )
    strength = strength * (jnp.arange(3) < num_lights)
    colors = strength[:, None] * jnp.stack([tint, jnp.exp(draws.normal(0.1, (3,))), jnp.ones(3)])
    ambient = draws.uniform(0.3, 0.8) * (2.0 - tint)
    return View(
        angles=angles,
        body_angles=body,
        fov_degrees=draws.uniform(14.0, 32.0),
        extent=draws.uniform(0.29, 0.40),
        shift=draws.normal(0.008, (2,)) + jnp.array([0.0, 0.006]),
        eye_contact=jnp.where(draws.chance(0.6), 1.0, 0.2),
        light_directions=directions,
        light_colors=colors,
        sky=jnp.stack([1.25 * ambient, draws.uniform(0.35, 0.8) * ambient]),
        exposure=jnp.exp(draws.normal(0.14)),
        background=_background(draws),
    )


def light_direction(azimuth: jax.Array, elevation: jax.Array) -> jax.Array:
    """Returns [3] unit, in the viewer's axes; azimuth zero comes from the viewer, radians."""
    flat = jnp.cos(elevation)
    return jnp.stack([jnp.sin(azimuth) * flat, jnp.sin(elevation), jnp.cos(azimuth) * flat])


def _background(draws) -> jax.Array:
    """A wall, lit from one side or from above, or a room out of focus [4, 4, 3]."""
    base = draws.uniform(0.12, 0.92) * (1 + draws.uniform(0.0, 0.35) * draws.uniform(-1, 1, (3,)))
    slope = draws.normal(0.12, (2,))
    at = jnp.linspace(-1.0, 1.0, 4)
    shade = slope[0] * at[:, None] + slope[1] * at
    spots = jnp.where(draws.chance(0.45), draws.uniform(0.08, 0.3), 0.02)
    shade = shade + spots * draws.normal(shape=(4, 4))
    srgb = base * jnp.exp(shade)[..., None] + 0.12 * spots * draws.normal(0.5, (4, 4, 3))
    return srgb_to_linear(jnp.clip(srgb, 0.02, 0.97))
