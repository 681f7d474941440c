"""A radiance field that carries several appearances of one scene.

A style code alpha in [0, 1] chooses the appearance: 0 the scene as it was photographed, 1 restyled.
An appearance code beta in [0, 1]^D belongs to a photo and takes up its light and exposure. Both go
through small encoders into density and colour:

  F_dens:  (E_style(alpha), E_app(beta), H(x))      -> f_geo, density
  F_color: (E_style(alpha), E_app(beta), R(v), f_geo) -> colour

What depends on a ray alone (both codes, the direction v) enters the first layers linearly: that
part is computed once per ray, and samples add theirs.

Axes: R rays, S samples of a ray, E numbers that encode a position, D of an appearance code, W
width, F photos.

Sources: Sun et al. 2022 (NeRFEditor, section 3.1), whose figure 13 alone gives widths: ours follow
Mueller et al. 2022. `H` is the hash encoding, `R` sines and cosines.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from models.nerf.hashgrid import HashGridConfig, encode, init_table

Params = dict[str, Any]
_MAX_LOG_DENSITY = 11.0
_CODE_SPREAD = 0.3
_GRID = HashGridConfig()
_FAR_GRID = HashGridConfig(log2_entries=17, finest=512)
_CHUNK = 4096  # samples whose layers a CPU keeps at hand
BACKGROUNDS = ("none", "contraction", "sphere")


@dataclasses.dataclass(frozen=True)
class NerfConfig:
    """The shape of a field; hashable, so static under jit."""

    grid: HashGridConfig = _GRID
    background: str = "contraction"  # of BACKGROUNDS
    far_grid: HashGridConfig = _FAR_GRID  # of the sphere's field
    num_photos: int = 1  # F, that have an appearance code
    appearance: int = 8  # D
    appearance_in_density: bool = True
    code_width: int = 16  # of an encoded code
    width: int = 64  # W
    geometry: int = 15  # numbers of f_geo
    color_layers: int = 2  # hidden ones
    bands: int = 4  # of the direction's encoding
    occupancy: int = 128  # cells along the occupancy grid's side
    bins: int = 96  # of the coarse march
    proposals: int = 32  # looked at before the samples are laid; none with 0
    samples: int = 16  # S, of a ray while learning
    far_samples: int = 8  # in the sphere's field

    def __post_init__(self):
        if self.background not in BACKGROUNDS:
            raise ValueError(f"expected a background of {BACKGROUNDS}, found {self.background!r}")


class FieldSample(NamedTuple):
    density: jax.Array  # [R, S] per length
    rgb: jax.Array  # [R, S, 3] in [0, 1], sRGB-encoded like the photos


class RayPart(NamedTuple):
    """What rays add to the first layers."""

    density: jax.Array  # [R, W]
    color: jax.Array  # [R, W]


class Codes(NamedTuple):
    """What a ray is seen with."""

    style: jax.Array  # [R] alpha in [0, 1]
    appearance: jax.Array  # [R, D] beta in [0, 1]


def encode_direction(direction: jax.Array, bands: int) -> jax.Array:
    """Returns directions [R, 3] with their sines and cosines [R, 3 + 6 bands]."""
    angles = direction[..., None, :] * (2.0 ** np.arange(bands, dtype=np.float32))[:, None]
    waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
    return jnp.concatenate([direction, waves.reshape(*direction.shape[:-1], -1)], -1)


class _Encoder(nn.Module):
    """A small network that spreads a code."""

    width: int

    @nn.compact
    def __call__(self, code: jax.Array) -> jax.Array:
        hidden = nn.relu(nn.Dense(self.width, name="hidden")(2.0 * code - 1.0))
        return nn.Dense(self.width, name="out")(hidden)


class FieldDecoder(nn.Module):
    """Turns the encoding of positions, and what rays add, into density and colour."""

    config: NerfConfig

    def setup(self):
        config = self.config
        self.style = _Encoder(config.code_width)
        self.appearance = _Encoder(config.code_width)
        self.density_in = nn.Dense(config.width)
        self.density_codes = nn.Dense(config.width, use_bias=False)
        self.density_out = nn.Dense(1 + config.geometry)
        self.color_in = nn.Dense(config.width)
        self.color_rays = nn.Dense(config.width, use_bias=False)
        self.color_hidden = [nn.Dense(config.width) for _ in range(config.color_layers - 1)]
        self.color_out = nn.Dense(3)

    def ray_part(self, direction: jax.Array, codes: Codes) -> RayPart:
        """Computes what depends on the ray alone, of unit directions [R, 3]."""
        style = self.style(codes.style[:, None])
        appearance = self.appearance(codes.appearance)
        in_density = [style, appearance] if self.config.appearance_in_density else [style]
        view = encode_direction(direction, self.config.bands)
        return RayPart(
            self.density_codes(jnp.concatenate(in_density, -1)),
            self.color_rays(jnp.concatenate([style, appearance, view], -1)),
        )

    def density(self, features: jax.Array, part: RayPart) -> tuple[jax.Array, jax.Array]:
        """Returns densities [R, S] and f_geo [R S, geometry] of encoded positions [R, S, E]."""
        shape = features.shape[:2]
        # Products of matrices: those of more axes are slow to differentiate on a CPU.
        hidden = self.density_in(features.reshape(-1, features.shape[-1]))
        out = self.density_out(_activate(hidden, part.density))
        log_density = out[:, 0].reshape(shape) - 1.0
        # Clipped in value alone: what is far too dense still learns to be less so.
        clipped = jnp.clip(log_density, -_MAX_LOG_DENSITY, _MAX_LOG_DENSITY)
        log_density = log_density + jax.lax.stop_gradient(clipped - log_density)
        return jnp.exp(log_density), out[:, 1:]

    def __call__(self, features: jax.Array, part: RayPart) -> FieldSample:
        """Returns the samples of encoded positions [R, S, E]."""
        density, geometry = self.density(features, part)
        hidden = _activate(self.color_in(geometry), part.color)
        for layer in self.color_hidden:
            hidden = nn.relu(layer(hidden))
        rgb = nn.sigmoid(self.color_out(hidden))
        return FieldSample(density, rgb.reshape(*density.shape, 3))

    def everything(self, features: jax.Array, direction: jax.Array, codes: Codes) -> FieldSample:
        """Ray part and samples in one, for `init`."""
        return self(features, self.ray_part(direction, codes))


def _activate(hidden: jax.Array, part: jax.Array) -> jax.Array:
    """Adds the rays' part [R, W] to their samples' [R S, W], and bends the sum."""
    shape = (len(part), -1, part.shape[-1])
    return nn.relu(hidden.reshape(shape) + part[:, None]).reshape(hidden.shape)


def init_field(key: jax.Array, config: NerfConfig) -> Params:
    """Returns the parameters before training.

    Returns:
      `near`, and `far` with a background of "sphere": a `table` [L, T, F] and the variables of a
      `decoder`; and `logit_appearance` [F, D], about zero: codes about a half.
    """
    grids = {"near": config.grid}
    if config.background == "sphere":
        grids["far"] = config.far_grid
    # Codes that are all alike would stay so: the encoder's units are bent at their middle.
    shape, code_key = (config.num_photos, config.appearance), jax.random.fold_in(key, len(grids))
    params = {"logit_appearance": _CODE_SPREAD * jax.random.normal(code_key, shape)}
    codes = Codes(jnp.zeros(1), jnp.zeros((1, config.appearance)))
    for number, (name, grid) in enumerate(grids.items()):
        table_key, key_ = jax.random.split(jax.random.fold_in(key, number))
        inputs = (jnp.zeros((1, 1, grid.width)), jnp.ones((1, 3)), codes)
        decoder = FieldDecoder(config).init(key_, *inputs, method="everything")
        params[name] = {"table": init_table(table_key, grid), "decoder": decoder}
    return params


def codes_of(params: Params, style: jax.Array, photo: jax.Array | None = None) -> Codes:
    """Returns the codes of rays.

    Args:
      params: of the field.
      style: [R] alpha.
      photo: [R] whose appearance to use; None for the mean of all.
    """
    codes = jax.nn.sigmoid(params["logit_appearance"])
    if photo is None:
        mean = jnp.mean(codes, 0)
        return Codes(style, jnp.broadcast_to(mean, (len(style), len(mean))))
    return Codes(style, codes[photo])


def query(
    params: Params,
    x: jax.Array,
    direction: jax.Array,
    codes: Codes,
    config: NerfConfig,
    name: str = "near",
) -> FieldSample:
    """Samples a field.

    Args:
      params: from `init_field`.
      x: [R, S, 3] in the unit cube.
      direction: [R, 3] unit length.
      codes: of the rays.
      config: static.
      name: "near", or "far" for what lies beyond the unit ball.
    """
    field = params[name]
    part = FieldDecoder(config).apply(field["decoder"], direction, codes, method="ray_part")
    features = _encoded(field["table"], x, config.grid if name == "near" else config.far_grid)

    def decode(features: jax.Array, part: RayPart) -> FieldSample:
        return FieldDecoder(config).apply(field["decoder"], features, part)

    return _in_chunks(decode, features, part)


def density_at(params: Params, x: jax.Array, codes: Codes, config: NerfConfig) -> jax.Array:
    """Returns the near field's densities [R, S] at places [R, S, 3] of the unit cube."""
    field, decoder = params["near"], FieldDecoder(config)
    direction = jnp.zeros((len(x), 3), x.dtype)
    part = decoder.apply(field["decoder"], direction, codes, method="ray_part")

    def decode(features: jax.Array, part: RayPart) -> jax.Array:
        return decoder.apply(field["decoder"], features, part, method="density")[0]

    return _in_chunks(decode, _encoded(field["table"], x, config.grid), part)


def _encoded(table: jax.Array, x: jax.Array, grid: HashGridConfig) -> jax.Array:
    return encode(table, x.reshape(-1, 3), grid).reshape(*x.shape[:-1], grid.width)


def _in_chunks(function: Callable, features: jax.Array, part: RayPart) -> Any:
    """Applies a function to some rays after the other, where that is faster.

    The layers of all rays at once do not fit into a CPU's cache. Those of a few do: computed again
    on the way back they take less time than stored and loaded.
    """
    rays, samples = features.shape[:2]
    count = 1
    while rays % (2 * count) == 0 and rays // count * samples > _CHUNK:
        count *= 2
    if count == 1 or jax.default_backend() != "cpu":
        return function(features, part)

    def cut(values: jax.Array) -> jax.Array:
        # Each chunk takes rays from everywhere, so that rays may lie on several devices.
        return jnp.swapaxes(values.reshape(-1, count, *values.shape[1:]), 0, 1)

    def join(values: jax.Array) -> jax.Array:
        return jnp.swapaxes(values, 0, 1).reshape(rays, *values.shape[2:])

    chunks = jax.tree.map(cut, (features, part))
    return jax.tree.map(join, jax.lax.map(jax.checkpoint(lambda c: function(*c)), chunks))
