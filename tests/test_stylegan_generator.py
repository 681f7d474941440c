"""The generator against its twin in NumPy; truncation, mixing, going on from features."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stylegan_twin import generated_twin, mapped_twin

from models.stylegan.config import GeneratorConfig, channels_of
from models.stylegan.generator import (
    init_generator,
    map_latents,
    random_noise,
    synthesize,
    synthesize_blocks,
    synthesize_from,
)
from models.stylegan.mapping import mix_styles, truncate

# Labels, and a clamp that cuts.
TINY = GeneratorConfig(8, (5, 4), z_dim=6, c_dim=2, w_dim=7, mapping_layers=2, clamp=0.7)
LARGER = dataclasses.replace(TINY, resolution=16, channels=(5, 4, 3))
RNG = np.random.default_rng(0)
WS = RNG.normal(size=(2, TINY.num_ws, TINY.w_dim)).astype(np.float32)
Z = RNG.normal(size=(2, TINY.z_dim)).astype(np.float32)
C = np.eye(2, dtype=np.float32)


@functools.cache
def first():
    return init_generator(jax.random.key(0), TINY)


def trained(made):
    """Makes none of the parameters zero, as they are before training."""
    rng = np.random.default_rng(1)

    def moved(leaf):
        return jnp.asarray(leaf + rng.normal(scale=0.5, size=leaf.shape), jnp.float32)

    return made._replace(params=jax.tree.map(moved, made.params))


@functools.cache
def generator():
    return trained(first())


@functools.cache
def random_fields():
    return random_noise(jax.random.key(0), TINY, 2)


@functools.cache
def every():
    """What the blocks give, with noise of each picture's own."""
    return synthesize_blocks(generator().params, WS, random_fields(), TINY)


def assert_like_the_twin(outputs, made, ws, noise_of):
    params = jax.tree.map(np.float64, jax.device_get(made.params["synthesis"]))
    for n in range(2):
        expected = generated_twin(params, np.float64(ws[n]), noise_of(n), made.config.clamp)
        for resolution in outputs:
            x, image = expected[resolution]
            np.testing.assert_allclose(outputs[resolution].x[n], x, atol=2e-5)
            np.testing.assert_allclose(outputs[resolution].image[n], image, atol=2e-5)


def test_pictures_equal_those_of_a_kernel_for_each():
    fields = jax.device_get(random_fields())
    assert_like_the_twin(
        every(), generator(), WS, lambda n: jax.tree.map(lambda field: field[n], fields)
    )
    is_cut = np.abs(every()[8].x) == TINY.clamp
    assert 0.01 < is_cut.mean() < 0.6


@pytest.mark.slow
def test_latents_of_more_blocks_go_where_the_twin_has_them():
    made = trained(init_generator(jax.random.key(0), LARGER))
    ws = np.random.default_rng(2).normal(size=(2, LARGER.num_ws, 7)).astype(np.float32)
    outputs = synthesize_blocks(made.params, ws, made.buffers["noise"], LARGER)
    assert list(outputs) == [4, 8, 16]
    assert_like_the_twin(outputs, made, ws, lambda n: jax.device_get(made.buffers["noise"]))
    found = synthesize_from(made.params, ws, made.buffers["noise"], outputs[8], LARGER)
    np.testing.assert_allclose(found, outputs[16].image, atol=1e-5)


def test_a_lower_resolution_is_the_picture_so_far():
    made = generator()
    found = synthesize_blocks(made.params, WS, made.buffers["noise"], TINY, upto=4)
    assert list(found) == [4]
    assert_like_the_twin(found, made, WS, lambda n: jax.device_get(made.buffers["noise"]))
    with pytest.raises(ValueError, match=r"resolution of \(4, 8\), found 32"):
        synthesize(made.params, WS, None, TINY, upto=32)


def test_latents_equal_the_twins_and_labels_count():
    made = generator()
    mapping = jax.tree.map(np.float64, jax.device_get(made.params["mapping"]))
    found = map_latents(made.params, made.buffers, Z, C, TINY)
    expected = [mapped_twin(mapping, z, c, TINY.mapping_rate) for z, c in zip(Z, C, strict=True)]
    assert found.shape == (2, TINY.num_ws, TINY.w_dim)
    np.testing.assert_allclose(found, np.repeat(np.array(expected)[:, None], 4, 1), atol=1e-5)
    with pytest.raises(ValueError, match="labels of 2 numbers, found none"):
        map_latents(made.params, made.buffers, Z, None, TINY)


def test_truncation_shrinks_the_layers_before_the_cutoff():
    average = np.arange(7.0, dtype=np.float32)
    found = jax.jit(truncate, static_argnums=3)(WS, average, 0.25, 2)
    np.testing.assert_allclose(found[:, :2] - average, 0.25 * (WS[:, :2] - average), atol=1e-6)
    np.testing.assert_array_equal(found[:, 2:], WS[:, 2:])
    everywhere = jax.jit(truncate)(WS, average, 0.0)
    np.testing.assert_allclose(everywhere, np.broadcast_to(average, WS.shape))


def test_mixing_takes_the_last_layers_of_the_others():
    others, mixed = -WS, jax.jit(mix_styles)
    found = mixed(WS, others, np.array([1, 4]))
    np.testing.assert_array_equal(found[0], np.concatenate([WS[0, :1], others[0, 1:]]))
    np.testing.assert_array_equal(found[1], WS[1])
    np.testing.assert_array_equal(mixed(WS, others, 0), others)


def test_going_on_from_a_blocks_features_and_picture_gives_the_same():
    def go_on(start, ws=WS):
        return np.asarray(synthesize_from(generator().params, ws, random_fields(), start, TINY))

    image = np.asarray(every()[8].image)
    other = WS.copy()
    other[:, 0] += 1.0  # of the block that is not run
    np.testing.assert_allclose(go_on(every()[4], other), image, atol=1e-5)
    added = every()[4]._replace(image=np.asarray(every()[4].image) + 1.0)
    inside = np.s_[:, 1:-1, 1:-1]  # zeros around the picture reach in at its rim
    np.testing.assert_allclose((go_on(added) - image)[inside], 1.0, atol=1e-5)
    featureless = every()[4]._replace(x=np.zeros_like(every()[4].x))
    assert np.abs(go_on(featureless) - image).max() > 0.1


def test_random_noise_is_normal_and_differs_between_pictures():
    noise = random_fields()
    shapes = jax.tree.map(lambda leaf: leaf.shape, generator().buffers["noise"])
    assert jax.tree.map(lambda leaf: leaf.shape[1:], noise) == shapes
    field = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(noise)])
    assert abs(field.std() - 1.0) < 0.15 and len(set(field)) > 0.99 * len(field)


def test_half_precision_draws_nearly_the_same_picture():
    params, fields = generator().params, random_fields()
    found = synthesize_blocks(params, WS, fields, TINY, upto=4, dtype="bfloat16")
    difference = np.abs(np.asarray(found[4].image) - every()[4].image)
    assert 1e-4 < difference.max() and difference.mean() < 0.02
    half = functools.partial(synthesize_blocks, config=TINY, dtype="bfloat16")
    for output in jax.eval_shape(half, params, WS, fields).values():
        assert output.x.dtype == jnp.bfloat16 and output.image.dtype == jnp.float32


def test_a_new_generator_is_normal_and_slow_in_its_mapping():
    mapping, block = first().params["mapping"], first().params["synthesis"]["b8"]
    np.testing.assert_allclose(np.std(mapping["fc1"]["weight"]), 100.0, rtol=0.3)
    np.testing.assert_allclose(np.std(mapping["embed"]["weight"]), 1.0, rtol=0.5)
    np.testing.assert_allclose(np.std(block["conv0"]["weight"]), 1.0, rtol=0.2)
    assert np.all(np.asarray(block["conv0"]["affine"]["bias"]) == 1.0)
    assert not np.any(block["conv0"]["bias"]) and block["conv0"]["noise_strength"] == 0.0
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((first().params, first().buffers)))


def test_settings_that_do_not_fit_each_other_are_refused():
    assert channels_of(32, base=512, most=32) == (32, 32, 32, 16)
    with pytest.raises(ValueError, match="power of two from 4 on, found resolution 24"):
        GeneratorConfig(24, (4, 4))
    with pytest.raises(ValueError, match=r"blocks 4, 8, \.\.\., 16, found 2"):
        GeneratorConfig(16, (4, 4))
    with pytest.raises(ValueError, match="'skip', found 'orig'"):
        GeneratorConfig(8, (4, 4), architecture="orig")
