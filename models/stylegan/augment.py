"""Changes of pictures that keep a discriminator from learning few of them by heart.

Real and made-up pictures are changed alike before the discriminator sees them: colours, place, and
a square that is cut out. Each change happens to a picture with probability p, which the adaptive
rule raises while the discriminator is too sure of the pictures that it is taught on. All is
differentiable to the pictures, twice.

Pictures [N, H, W, C] in about [-1, 1]; zero, grey, is what fills.

Sources: Zhao et al. 2020 (DiffAugment: the changes and their sizes); Karras et al. 2020 (training
with limited data: probability and rule).
"""

import dataclasses

import jax
import jax.numpy as jnp

_KINDS = 5  # brightness, saturation, contrast, translation, cutout


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """How much pictures are changed; hashable, so static under jit. Zero leaves a change out."""

    brightness: float = 0.5  # added at most
    saturation: float = 1.0  # distance from grey is scaled by 1 - this to 1 + this
    contrast: float = 0.5  # distance from the mean, likewise
    translation: float = 0.125  # of the side, at most
    cutout: float = 0.5  # side of the square, of the side


def augment(
    key: jax.Array,
    images: jax.Array,
    probability: float | jax.Array = 1.0,
    config: AugmentConfig = AugmentConfig(),
) -> jax.Array:
    """Changes pictures, each in its own way.

    Args:
      key: of what is drawn.
      images: [N, H, W, C].
      probability: of each change to each picture.
      config: static.

    Returns:
      [N, H, W, C].
    """
    count, height, width, _ = images.shape
    which, how = jax.random.split(key)
    is_changed = jax.random.uniform(which, (_KINDS, count)) < probability
    drawn = jax.random.uniform(how, (7, count), images.dtype)
    around_zero = jnp.where(is_changed[:3], 2.0 * drawn[:3] - 1.0, 0.0)[..., None, None, None]
    brightness, saturation, contrast = around_zero
    x = images + config.brightness * brightness
    x = x + config.saturation * saturation * _from_mean(x, (3,))
    x = x + config.contrast * contrast * _from_mean(x, (1, 2, 3))
    for axis, side, numbers in ((1, height, drawn[3]), (2, width, drawn[4])):
        most = round(config.translation * side)
        shift = jnp.floor(numbers * (2 * most + 1)) - most
        x = shifted(x, jnp.where(is_changed[3], shift, 0.0), axis)
    squares = [
        _is_near(side, numbers, round(config.cutout * side))
        for side, numbers in ((height, drawn[5]), (width, drawn[6]))
    ]
    is_cut = squares[0][:, :, None] & squares[1][:, None, :] & is_changed[4, :, None, None]
    return jnp.where(is_cut[..., None], 0.0, x)


def shifted(images: jax.Array, shift: jax.Array, axis: int) -> jax.Array:
    """Moves pictures [N, H, W, C] by whole pixels [N] along axis 1 or 2; zeros come in."""
    side = images.shape[axis]
    place = jnp.arange(side)
    # As a product with ones and zeros: gathers, whose gradients are scatters, take longer.
    source = (place[:, None] - place) == shift[:, None, None]
    spelled = "nij,njwc->niwc" if axis == 1 else "nij,nhjc->nhic"
    exact = jax.lax.Precision.HIGHEST
    return jnp.einsum(spelled, source.astype(images.dtype), images, precision=exact)


def adapted_probability(
    probability: jax.Array,
    overfitting: jax.Array,
    pictures: int,
    target: float = 0.6,
    horizon: int = 500_000,
) -> jax.Array:
    """Returns the probability of changes from now on.

    Args:
      probability: [] until now.
      overfitting: [] r_t, the mean of the signs of real pictures' logits since the last time: 0 for
        a discriminator that has learnt nothing by heart, 1 for one that knows them all.
      pictures: seen since the last time.
      target: of r_t.
      horizon: pictures in which the probability goes from zero to one.
    """
    step = jnp.sign(overfitting - target) * (pictures / horizon)
    return jnp.clip(probability + step, 0.0, 1.0)


def _from_mean(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return x - jnp.mean(x, axes, keepdims=True)


def _is_near(side: int, numbers: jax.Array, size: int) -> jax.Array:
    """Marks [N, side] a stretch of `size` pixels, whose middle lies anywhere."""
    middle = jnp.floor(numbers * side)[:, None]
    begin = middle - size // 2
    place = jnp.arange(side)
    return (place >= begin) & (place < begin + size)
