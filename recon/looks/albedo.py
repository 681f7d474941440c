"""The albedo of skin: a tone, and modes of what differs from it over the head, without hair.

MakeHuman's skins have the stubble of a shaved skull painted on. It is taken out of the modes, and
comes back as paint in the colour of the person's hair: see `AlbedoModel.hair_zone`.

Axes: S sides of the texture, D skins, K modes. Colours are log(linear + 0.008).

Source: Blanz and Vetter 1999, for logarithms and in texture space. Every skin counts a second time
as its mirror image.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from scipy import ndimage

from recon.looks.look import NUM_MODES, Looks
from recon.morphable import MorphableModel
from recon.painting.atlas import at_texels, build_atlas, to_picture
from recon.painting.surface import ramp
from render.image import srgb_to_linear

_DARK = 0.008  # linear; below it all is black
_MIRROR = 0.99755  # v + v of the mirror image, in the chart of the skin
_SKIN_CHART = 0.6975  # u; charts of eyes and mouth lie beyond
_NUM_DARK = 6  # skins, by tone: on these the skull's stubble stands out as black
_NECK_LIMIT = 0.25  # log; more is the shadow of a chin or a collar
_SHARES = {"face": 1.0, "ears": 0.6, "neck": 0.3}  # what a texel counts in the choice of modes
_ZONE_SHARES = {"skull": 1.0, "face": 0.7, "neck": 0.4}  # where stubble may be
_ZONE = 0.35, 1.0  # log by which stubble is darker: none, full
_WIDER_ZONE = 0.12, 0.5
_BLUR, _WIDER_BLUR = 0.012, 0.02  # of the side
_STUBBLE_BLUR = 0.006


@struct.dataclass
class AlbedoModel:
    """log albedo = tone + contrast (mean + sum of score x mode), and where hair is painted."""

    mean: jax.Array  # [S, S, 3]
    modes: jax.Array  # [K, S, S, 3] for a score of one standard deviation
    tones: jax.Array  # [D, 3] of the skins
    scores: jax.Array  # [D, K] of the skins
    hair_zone: jax.Array  # [S, S] in [0, 1] where stubble covers a shaved skull; its hairline
    keep: jax.Array  # [S, S] in [0, 1] share of the skins' detail that is in the modes
    stubble_pattern: jax.Array  # [S, S] of about unit variance, darker below zero


def build_albedo_model(looks: Looks, model: MorphableModel, size: int) -> AlbedoModel:
    """Learns the model from the skins, on the host.

    Args:
      looks: with skins on the texture coordinates of `model`.
      model: the default head.
      size: S.
    """
    atlas = build_atlas(model.uvs, model.uv_triangles, model.triangles, size)
    regions = {
        name: np.asarray(to_picture(atlas, at_texels(atlas, share[:, None])))[..., 0]
        for name, share in model.regions.items()
    }
    nearest = np.asarray(to_picture(atlas, atlas.place))
    is_skin = (nearest % size + 0.5) / size < _SKIN_CHART
    skins, mirrored = (
        np.asarray(logs).reshape(len(logs), -1, 3)[:, nearest]
        for logs in _log_pictures(looks.skins, looks.skin_window, size)
    )
    bare = regions["face"] * (regions["lips"] < 0.05) * (regions["eyelids"] < 0.2)
    tones = np.einsum("dijc,ij->dc", skins, bare) / bare.sum()
    details, mirrored = (
        (logs - tones[:, None, None]) * is_skin[..., None] for logs in (skins, mirrored)
    )

    dark = np.argsort(tones.mean(1))[:_NUM_DARK]
    stubble = np.mean(details[dark] + mirrored[dark], (0, 3)) / 2
    hair_zone, keep = _hair_zone(stubble, regions, is_skin)
    details, mirrored = (_without_hair(detail, keep, regions) for detail in (details, mirrored))
    mean, modes, scores = _principal_modes(details, mirrored, regions)
    fields = mean, modes, tones, scores, hair_zone, keep, _stubble_pattern(stubble, hair_zone)
    return AlbedoModel(*(jnp.asarray(field, jnp.float32) for field in fields))


@jax.jit
def log_albedo(
    albedo_model: AlbedoModel, tone: jax.Array, detail: jax.Array, contrast: jax.Array
) -> jax.Array:
    """Returns log(linear albedo + 0.008) [S, S, 3] of bare skin.

    Args:
      albedo_model: of the skins.
      tone: [3] the mean over the face.
      detail: [k] scores in standard deviations; k <= K, the rest are zero.
      contrast: [] times the detail.
    """
    modes = albedo_model.modes[: detail.shape[-1]]
    return tone + contrast * (albedo_model.mean + jnp.tensordot(detail, modes, 1))


def to_albedo(log_rgb: jax.Array) -> jax.Array:
    """Turns log(linear + 0.008) into linear albedo in [0, 1]."""
    return jnp.clip(jnp.exp(log_rgb) - _DARK, 0.0, 1.0)


@functools.partial(jax.jit, static_argnames="size")
def _log_pictures(skins: jax.Array, window: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The skins on the head's texture [D, S, S, 3], and their mirror images."""
    count, height, width, _ = skins.shape
    u0, v0, u1, v1 = window
    logs = jnp.log(srgb_to_linear(skins / 255.0) + _DARK)

    def laid_out(logs, top):
        return jax.image.scale_and_translate(
            logs,
            (count, size, size, 3),
            (1, 2),
            size * jnp.stack([(v1 - v0) / height, (u1 - u0) / width]),
            size * jnp.stack([1 - top, u0]),
            "linear",
        )

    return laid_out(logs, v1), laid_out(logs[:, ::-1], _MIRROR - v0)


def _hair_zone(
    stubble: np.ndarray, regions: dict[str, np.ndarray], is_skin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where stubble is painted [S, S], and the share of detail that is surely none of it."""
    may_be = sum(share * regions[name] for name, share in _ZONE_SHARES.items())
    may_be = np.clip(may_be, 0, 1) * (1 - regions["ears"]) * is_skin
    zone, wider = (
        may_be * ramp(-ndimage.gaussian_filter(stubble, blur * len(stubble)), *limits)
        for blur, limits in ((_BLUR, _ZONE), (_WIDER_BLUR, _WIDER_ZONE))
    )
    return zone, 1 - np.maximum(wider, regions["skull"] * is_skin)


def _without_hair(
    details: np.ndarray, keep: np.ndarray, regions: dict[str, np.ndarray]
) -> np.ndarray:
    """Details [D, S, S, 3] without painted hair, on the neck without shadows."""
    limit = np.where(regions["neck"] > 0.5, _NECK_LIMIT, np.inf)[..., None]
    return np.clip(details, -limit, limit) * keep[..., None]


def _principal_modes(
    details: np.ndarray, mirrored: np.ndarray, regions: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean detail [S, S, 3], its modes [K, S, S, 3], and the scores [D, K] of the skins."""
    share = sum(share * regions[name] for name, share in _SHARES.items())
    root = np.sqrt(share)[..., None]
    samples = np.concatenate([details, mirrored]).astype(np.float64)
    mean = samples.mean(0)
    samples -= mean
    weighted = (samples * root).reshape(len(samples), -1)
    variances, directions = np.linalg.eigh(weighted @ weighted.T / len(samples))
    variances, directions = variances[::-1][:NUM_MODES], directions[:, ::-1][:, :NUM_MODES]
    # Unit directions over the samples, so that scores have variance one.
    scores = directions * np.sqrt(len(samples))
    signs = np.sign(scores[: len(details)].sum(0))
    scores = scores * np.where(signs == 0, 1.0, signs)
    modes = np.tensordot(scores.T / len(samples), samples, 1)
    return mean, modes, scores[: len(details)]


def _stubble_pattern(stubble: np.ndarray, hair_zone: np.ndarray) -> np.ndarray:
    """The grain [S, S] of stubble, of unit variance in the zone."""
    fine = stubble - ndimage.gaussian_filter(stubble, _STUBBLE_BLUR * len(stubble))
    inside = hair_zone > 0.5
    return np.where(hair_zone > 0, fine / max(fine[inside].std(), 1e-6), 0.0).clip(-3, 3)
