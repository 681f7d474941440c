"""The fixed map from a generator's latent to a person in a view: what a latent means is known.

A latent z [64], standard normal, is scaled to a root mean square of one, as StyleGAN's mapping does
first, and read block by block (`BLOCKS`). Each number is drawn on by one thing: a turn of the head,
a mode of its shape, a smile, a colour. Everything is continuous in z but the style of the hair and
the picture of the brows, which step at thresholds of one number each. Camera and distance are
fixed: pictures are aligned.

Axes: E expression units.
Angles as `euler_rotation` has them: yaw within +-40 degrees, pitch within +-15, no roll.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from recon.looks.casting import Casting
from recon.looks.latent_cast import BROW_STYLES, HAIR_STYLES, NUM_SKIN_MODES, LatentCast
from recon.looks.look import BALD, Look
from recon.looks.paint import Clothes
from recon.looks.people import (
    AGE_EDGES,
    LIGHTEST_BROW,
    TONE_EDGES,
    Attributes,
    Person,
    View,
    light_direction,
)
from render.image import srgb_to_linear

_SIZES = {
    "yaw": 1,
    "pitch": 1,
    "sex": 1,  # from female to male
    "age": 1,
    "origin": 2,  # towards asian, towards african
    "build": 2,
    "identity": 23,  # modes of the head's shape that the traits above leave
    "smile": 1,  # below zero a frown
    "mouth_open": 1,
    "brows_raised": 1,  # below zero drawn down
    "eyes_wide": 1,  # below zero squinted
    "pucker": 1,  # below zero stretched
    "tone": 1,  # from light to dark
    "redness": 1,
    "skin": NUM_SKIN_MODES,  # modes of the skin that tone, sex and age leave
    "hair_length": 1,
    "hair_volume": 1,
    "hair_light": 1,
    "hair_red": 1,
    "brow_thickness": 1,
    "brow_light": 1,
    "lip_paint": 1,
    "lip_dark": 1,
    "eye_color": 1,  # from dark brown over green to blue
    "beard": 1,
    "cloth": 3,  # brightness, two of colour
    "neckline": 1,
    "light_azimuth": 1,
    "light_elevation": 1,
    "light_contrast": 1,  # of the key light against the sky
    "light_warmth": 1,
    "background": 3,  # brightness, two of colour
    "background_slope": 2,  # brighter to the right, downwards
}
_ENDS = np.cumsum(list(_SIZES.values())).tolist()
BLOCKS = {
    name: slice(end - size, end) for (name, size), end in zip(_SIZES.items(), _ENDS, strict=True)
}
LATENT_SIZE = _ENDS[-1]

MAX_YAW, MAX_PITCH = np.radians([40.0, 15.0])
_SOFT = 1.6  # a latent of so many deviations reaches tanh(1) of a range
EXTENT, SHIFT = 0.265, (0.0, -0.004)  # of every picture, metres; as in `View`
_FOV_DEGREES = 20.0
_EYE_CONTACT = 0.7

_IDENTITY_SD = 0.85
_REDNESS = (0.05, -0.015, -0.03)  # log tone
_LASH = 0
_LENGTH = 0.9, -1.6  # of the latent; of how male somebody is, zero in the middle
_COVER, _SHORN_COVER, _SHORN_SLOPE = 0.92, 0.8, 0.9
_EXPRESSIONS = (  # of two-sided numbers: units above zero, units below
    (
        "smile",
        {"mouthSmile": 0.5, "cheekSquint": 0.3, "mouthUpperUp": 0.08},
        {"mouthFrown": 0.35, "mouthPress": 0.15},
    ),
    ("mouth_open", {"jawOpen": 0.26, "mouthLowerDown": 0.12, "mouthUpperUp": 0.1}, {}),
    ("brows_raised", {"browInnerUp": 0.45, "browOuterUp": 0.4}, {"browDown": 0.4}),
    ("eyes_wide", {"eyeWide": 0.35}, {"eyeBlink": 0.12, "eyeSquint": 0.3}),
    ("pucker", {"mouthPucker": 0.4, "mouthFunnel": 0.15}, {"mouthStretch": 0.3}),
)
_REST = {"browInnerUp": 0.08, "eyeBlink": 0.03}  # the bare skull's brows look stern
NEUTRAL, SMILE, FROWN, SURPRISE = range(4)  # of `people.EXPRESSIONS`


def normalized(z: jax.Array) -> jax.Array:
    """Scales latents [..., 64] to a root mean square of one, as StyleGAN's mapping does first."""
    return z * lax.rsqrt(jnp.mean(z * z, -1, keepdims=True) + 1e-8)


@jax.jit
def pose_of_latent(z: jax.Array) -> jax.Array:
    """Returns yaw and pitch [..., 2], radians."""
    z = normalized(z)
    part = jnp.concatenate([z[..., BLOCKS["yaw"]], z[..., BLOCKS["pitch"]]], -1)
    return jnp.array([MAX_YAW, MAX_PITCH]) * _soft(part)


def view_of_latent(z: jax.Array) -> View:
    """Returns from where, and in which light, a latent [64] is seen."""
    return _view(_Latent(normalized(z)), pose_of_latent(z))


def person_of_latent(z: jax.Array, cast: LatentCast, casting: Casting) -> tuple[Person, View]:
    """Reads a latent.

    Args:
      z: [64] of any length.
      cast: from `build_latent_cast`.
      casting: of the studio.

    Returns:
      The person with its attributes, and the view with pose, light and background.
    """
    of = _Latent(normalized(z))
    male = jax.nn.sigmoid(2.2 * of["sex"])
    age = jnp.minimum(jax.nn.softplus(1.5 * of["age"]) / 3, 1.0)
    origin = jax.nn.softmax(jnp.concatenate([jnp.array([0.7]), 1.8 * of.block("origin")]))
    build = 0.5 * jnp.tanh(of.block("build")) * 1.2
    traits = jnp.concatenate([origin[1:], jnp.stack([male, age]), build])
    noise = jnp.zeros(casting.num_identity)
    noise = noise.at[: _SIZES["identity"]].set(_IDENTITY_SD * of.block("identity"))
    look, named = _look(of, cast, male, age, origin[2])
    expression, shown = _expression(of, casting)
    person = Person(
        identity=casting.identity(traits, noise),
        expression=expression,
        look=look,
        clothes=_clothes(of, male),
        attributes=Attributes(
            sex=(male > 0.5).astype(jnp.int32),
            age_group=jnp.sum(age > jnp.array(AGE_EDGES)).astype(jnp.int32),
            age=age,
            smile=casting.unit(expression, "mouthSmileLeft"),
            mouth_open=casting.unit(expression, "jawOpen"),
            expression=shown,
            **named,
        ),
    )
    return person, _view(of, pose_of_latent(z))


class _Latent:
    """A normalised latent, by the names of its blocks."""

    def __init__(self, z: jax.Array):
        self._z = z

    def block(self, name: str) -> jax.Array:
        return self._z[BLOCKS[name]]

    def __getitem__(self, name: str) -> jax.Array:
        (value,) = self.block(name)
        return value


def _soft(x: jax.Array) -> jax.Array:
    return jnp.tanh(x / _SOFT)


def _ramp(x: jax.Array, low: float, high: float) -> jax.Array:
    """From zero to one, smoothly."""
    t = jnp.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _along(path: jax.Array, share: jax.Array) -> jax.Array:
    """The value [C] at a share of a path [., C]."""
    at = jnp.linspace(0.0, 1.0, path.shape[0])
    return jax.vmap(lambda values: jnp.interp(share, at, values), in_axes=1)(path)


def _step_at(value: jax.Array, edges: list[float]) -> jax.Array:
    return jnp.sum(value > jnp.array(edges[1:]))


def _look(
    of: _Latent, cast: LatentCast, male: jax.Array, age: jax.Array, african: jax.Array
) -> tuple[Look, dict[str, jax.Array]]:
    """A look, and what can be said of it: fields of `Attributes`."""
    darkness = jax.nn.sigmoid(1.3 * of["tone"] + 4.0 * (african - 0.35) - 0.2)
    tone = cast.tones[0] + darkness * (cast.tones[1] - cast.tones[0])
    grey = jnp.mean(tone)  # the dark skins are redder than people are
    tone = grey + (tone - grey) * (1 - 0.25 * jnp.clip(-1.4 - grey, 0.0, 1.0))
    tone = tone + of["redness"] * jnp.array(_REDNESS)
    detail = jnp.stack([jnp.ones(()), darkness, male, age]) @ cast.skin_of_traits
    detail = detail + of.block("skin") @ cast.skin_modes
    style, cover = _hair_style(of, cast, male)
    color = _hair_color(of, cast, darkness, age)
    away = jnp.sum((jnp.log(cast.hair_colors) - jnp.log(color)) ** 2, -1)
    brow = of["brow_thickness"] + 1.6 * (male - 0.5)
    brow = cast.brow_styles[_step_at(brow, [edge for _, edge in BROW_STYLES])]
    brow_color = color * (0.6 * jnp.exp(0.25 * of["brow_light"]))
    blue = jax.nn.sigmoid(1.6 * (of["eye_color"] - 2.4 * darkness + 0.5))
    painted = (1 - male) * _ramp(of["lip_paint"], -0.3, 1.5)
    natural = jnp.array([0.0, -0.12, -0.07]) * (1 + 0.5 * of["lip_dark"])
    paint = jnp.array([0.02, -0.75, -0.5]) + of["lip_dark"] * jnp.array([-0.08, -0.14, -0.08])
    beard = 0.8 * _ramp(male, 0.45, 0.8) * _ramp(of["beard"], 0.1, 1.8)
    look = Look(
        tone=tone,
        detail=detail,
        contrast=jnp.float32(0.95),
        lip_tint=natural + painted * (paint - natural),
        brow=brow,
        brow_color=jnp.minimum(brow_color, jnp.array(LIGHTEST_BROW)),
        lash=jnp.int32(_LASH),
        eye=cast.eye_picture,
        iris_gain=_along(cast.eye_gains, blue),
        gaze=jnp.zeros(2),
        hair=style,
        hair_color=color,
        hair_contrast=jnp.float32(0.4),
        hair_scale=jnp.exp(0.12 * jnp.tanh(of["hair_volume"])),
        stubble=cover,
        beard=beard,
        teeth=jnp.float32(1.0),
    )
    eye = jnp.round(blue * (cast.eye_names.shape[0] - 1)).astype(jnp.int32)
    return look, {
        "tone": jnp.sum(jnp.mean(tone) < jnp.array(TONE_EDGES)).astype(jnp.int32),
        "hair_style": style,
        "hair_color": jnp.argmin(away).astype(jnp.int32),
        "eye_color": cast.eye_names[eye],
        "brow": brow,
        "painted_lips": painted > 0.5,
        "beard": beard,
    }


def _hair_style(of: _Latent, cast: LatentCast, male: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Number of the style, and how much stubble covers the skull."""
    own, by_sex = _LENGTH
    length = own * of["hair_length"] + by_sex * (male - 0.5)
    edges = [edge for _, edge in HAIR_STYLES]
    style = cast.hair_styles[_step_at(length, edges)]
    shorn = jnp.clip(_SHORN_COVER + _SHORN_SLOPE * (length - edges[1]), 0.0, _SHORN_COVER)
    return style, jnp.where(style == BALD, shorn, _COVER)


def _hair_color(of: _Latent, cast: LatentCast, darkness: jax.Array, age: jax.Array) -> jax.Array:
    light = jax.nn.sigmoid(1.5 * of["hair_light"] - 3.0 * darkness + 0.1)
    logs = _along(jnp.log(cast.hair_path), light)
    red = jnp.array([0.5, -0.05, -0.3]) * _ramp(of["hair_red"], 0.2, 2.0) * (1 - 0.6 * darkness)
    grey = jnp.log(jnp.array([0.30, 0.29, 0.28])) + 0.35 * jnp.tanh(of["hair_light"])
    return jnp.exp(logs + red + 0.9 * _ramp(age, 0.4, 0.95) * (grey - logs - red))


def _expression(of: _Latent, casting: Casting) -> tuple[jax.Array, jax.Array]:
    """Coefficients [E], and the number of the expression's name."""
    units = {name: jnp.float32(value) for name, value in _REST.items()}
    for name, above, below in _EXPRESSIONS:
        for gains, sign in ((above, 1.0), (below, -1.0)):
            strength = jnp.maximum(sign * of[name], 0.0)
            for unit, gain in gains.items():
                units[unit] = units.get(unit, jnp.zeros(())) + gain * strength
    units = {unit: jnp.clip(value, 0.0, 1.0) for unit, value in units.items()}
    smile, surprised = of["smile"], (of["mouth_open"] > 0.7) & (of["brows_raised"] > 0.5)
    shown = jnp.where(smile > 0.5, SMILE, jnp.where(smile < -0.7, FROWN, NEUTRAL))
    shown = jnp.where((shown == NEUTRAL) & surprised, SURPRISE, shown)
    return casting.expression(units, jnp.zeros(casting.num_units)), shown.astype(jnp.int32)


def _clothes(of: _Latent, male: jax.Array) -> Clothes:
    color = _tinted(of.block("cloth") * jnp.array([0.8, 1.0, 1.0]) - jnp.array([0.5, 0.0, 0.0]))
    return Clothes(
        color=color,
        trim=0.75 * color,
        neckline=2.6 + 0.5 * _soft(of["neckline"]),
        dip=1.0 + 0.9 * _soft(of["neckline"]),
        stripes=jnp.zeros(()),
        shoulders=0.9 + 0.16 * male,
    )


def _tinted(values: jax.Array) -> jax.Array:
    """A linear colour [3] of brightness, as a logit of sRGB, and two directions of colour [3]."""
    bright, red, blue = values
    tint = jnp.stack([red, -0.4 * red - 0.2 * blue, blue])
    return srgb_to_linear(jax.nn.sigmoid(bright + 0.3 * tint))


def _view(of: _Latent, pose: jax.Array) -> View:
    angles = jnp.append(pose, 0.0)
    warm = 0.09 * of["light_warmth"]
    tint = jnp.stack([1 + warm, jnp.ones(()), 1 - warm])
    azimuth, contrast = 1.2 * _soft(of["light_azimuth"]), _soft(of["light_contrast"])
    fill = light_direction(-azimuth, jnp.float32(0.2))
    key = light_direction(azimuth, 0.5 + 0.35 * _soft(of["light_elevation"]))
    strength = jnp.stack([1.05 + 0.4 * contrast, jnp.float32(0.2), jnp.float32(0.0)])
    ambient = (0.55 - 0.2 * contrast) * (2.0 - tint)
    at = jnp.linspace(-1.0, 1.0, 4)
    right, down = 0.3 * of.block("background_slope")
    wall = _tinted(of.block("background") * jnp.array([0.9, 0.5, 0.5]) + jnp.array([0.2, 0.0, 0.0]))
    return View(
        angles=angles,
        body_angles=angles * jnp.array([0.45, 0.25, 0.0]),
        fov_degrees=jnp.float32(_FOV_DEGREES),
        extent=jnp.float32(EXTENT),
        shift=jnp.array(SHIFT),
        eye_contact=jnp.float32(_EYE_CONTACT),
        light_directions=jnp.stack([key, fill, light_direction(jnp.float32(np.pi), fill[1])]),
        light_colors=strength[:, None] * tint,
        sky=jnp.stack([1.25 * ambient, 0.6 * ambient]),
        exposure=jnp.ones(()),
        background=wall * jnp.exp(down * at[:, None] + right * at)[..., None],
    )
