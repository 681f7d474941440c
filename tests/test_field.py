"""The field against its layers written out, and against itself in chunks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.nerf import field
from models.nerf.field import Codes, NerfConfig, codes_of, density_at, init_field, query
from models.nerf.hashgrid import HashGridConfig, encode

GRID = HashGridConfig(levels=2, features=2, log2_entries=8, coarsest=4, finest=8)
SMALL = NerfConfig(
    grid=GRID, num_photos=3, appearance=2, code_width=4, width=8, geometry=3, bands=2
)
RAYS, SAMPLES = 8, 4


def random_params(config, seed=0):
    rng = np.random.default_rng(seed)
    params = jax.eval_shape(lambda key: init_field(key, config), jax.random.key(seed))
    return jax.tree.map(lambda p: np.float32(0.4 * rng.normal(size=p.shape)), params)


def inputs(seed=1):
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(RAYS, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    codes = Codes(np.float32(rng.random(RAYS)), np.float32(rng.random((RAYS, 2))))
    return np.float32(rng.random((RAYS, SAMPLES, 3))), np.float32(direction), codes


def written_out(params, x, direction, codes):
    """Density and colour of one sample after the other, codes and direction joined to each."""
    layers = params["near"]["decoder"]["params"]

    def dense(name, value, *inside):
        layer = layers[name]
        for part in inside:
            layer = layer[part]
        return value @ layer["kernel"] + layer.get("bias", 0.0)

    def encoded(name, code):
        return dense(name, np.maximum(dense(name, 2 * code - 1, "hidden"), 0), "out")

    density, rgb = np.zeros(x.shape[:2]), np.zeros(x.shape)
    features = np.asarray(encode(params["near"]["table"], x.reshape(-1, 3), GRID))
    features = features.reshape(*x.shape[:2], -1)
    for ray in range(len(x)):
        style = encoded("style", codes.style[ray : ray + 1])
        appearance = encoded("appearance", codes.appearance[ray])
        angles = [direction[ray] * 2.0**band for band in range(2)]
        view = np.concatenate([direction[ray], *([np.sin(a), np.cos(a)] for a in angles)], None)
        for sample in range(x.shape[1]):
            both = np.concatenate([style, appearance])
            hidden = dense("density_in", features[ray, sample]) + dense("density_codes", both)
            out = dense("density_out", np.maximum(hidden, 0))
            density[ray, sample] = np.exp(out[0] - 1.0)
            seen = np.concatenate([style, appearance, view])
            hidden = np.maximum(dense("color_in", out[1:]) + dense("color_rays", seen), 0)
            hidden = np.maximum(dense("color_hidden_0", hidden), 0)
            rgb[ray, sample] = 1 / (1 + np.exp(-dense("color_out", hidden)))
    return density, rgb


def test_what_a_ray_adds_is_what_its_samples_would_be_given():
    params, (x, direction, codes) = random_params(SMALL), inputs()
    found = jax.jit(query, static_argnums=4)(params, x, direction, codes, SMALL)
    density, rgb = written_out(params, x, direction, codes)
    np.testing.assert_allclose(found.density, density, rtol=1e-5)
    np.testing.assert_allclose(found.rgb, rgb, atol=1e-5)
    alone = jax.jit(density_at, static_argnums=3)(params, x, codes, SMALL)
    np.testing.assert_allclose(alone, density, rtol=1e-5)


def test_chunks_change_nothing(monkeypatch):
    params, given = random_params(SMALL), inputs()

    def loss(params):
        found = query(params, *given, SMALL)
        return jnp.sum(found.density * jnp.sum(found.rgb**2, -1)), found

    def both():
        compiled = jax.jit(jax.grad(loss, has_aux=True))  # traced anew
        return compiled(params)

    whole = both()
    monkeypatch.setattr(field, "_CHUNK", SAMPLES)  # a ray at a time
    for a, b in zip(jax.tree.leaves(both()), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5)


def test_what_is_far_too_dense_stays_finite_and_learns_to_be_less_so():
    params, (x, _, codes) = random_params(SMALL), inputs()

    def total(bias):
        layers = params["near"]["decoder"]["params"]
        out = layers["density_out"] | {"bias": layers["density_out"]["bias"].at[0].set(bias)}
        decoder = {"params": layers | {"density_out": out}}
        near = params["near"] | {"decoder": decoder}
        return jnp.sum(density_at(params | {"near": near}, x, codes, SMALL))

    params = jax.tree.map(jnp.asarray, params)
    value, slope = jax.jit(jax.value_and_grad(total))(500.0)
    np.testing.assert_allclose(value, RAYS * SAMPLES * np.exp(11.0), rtol=1e-4)
    np.testing.assert_allclose(slope, value, rtol=1e-4)


def test_appearance_may_be_kept_out_of_density():
    config = dataclasses.replace(SMALL, appearance_in_density=False)
    params, (x, _, codes) = random_params(config), inputs()
    density = jax.jit(density_at, static_argnums=3)
    found = [
        density(params, x, codes._replace(appearance=codes.appearance * share), config)
        for share in (1.0, 0.0)
    ]
    np.testing.assert_array_equal(*found)


def test_an_unknown_photo_is_seen_in_the_mean_of_all():
    params = random_params(SMALL)
    style = np.zeros(2, np.float32)
    known = codes_of(params, style, np.array([2, 0]))
    expected = 1 / (1 + np.exp(-params["logit_appearance"]))
    np.testing.assert_allclose(known.appearance, expected[[2, 0]], rtol=1e-6)
    np.testing.assert_allclose(codes_of(params, style).appearance[1], expected.mean(0), rtol=1e-6)


def test_a_background_that_there_is_not():
    with pytest.raises(ValueError, match="expected a background of"):
        NerfConfig(background="hills")
