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
TINY = GeneratorConfig(16, (5, 4, 3), z_dim=6, c_dim=2, w_dim=7, mapping_layers=2, clamp=2.0)
RNG = np.random.default_rng(0)
WS = RNG.normal(size=(2, TINY.num_ws, TINY.w_dim)).astype(np.float32)
Z = RNG.normal(size=(2, TINY.z_dim)).astype(np.float32)
C = np.eye(2, dtype=np.float32)


@functools.cache
def generator():
    """A generator none of whose parameters is zero, as they are before training."""
    made = init_generator(jax.random.key(0), TINY)
    rng = np.random.default_rng(1)

    def moved(leaf):
        return jnp.asarray(leaf + rng.normal(scale=0.3, size=leaf.shape), jnp.float32)

    return made._replace(params=jax.tree.map(moved, made.params))


def blocks(ws, noise="const"):
    noise = generator().buffers["noise"] if noise == "const" else noise
    return synthesize_blocks(generator().params, ws, noise, TINY)


def test_pictures_equal_those_of_a_kernel_for_each():
    params, noise = jax.device_get((generator().params["synthesis"], generator().buffers["noise"]))
    params = jax.tree.map(np.float64, params)
    found = blocks(WS)
    for n, ws in enumerate(WS):
        expected = generated_twin(params, np.float64(ws), noise, TINY.clamp)
        for resolution, (x, image) in expected.items():
            np.testing.assert_allclose(found[resolution].x[n], x, atol=2e-5)
            np.testing.assert_allclose(found[resolution].image[n], image, atol=2e-5)
    assert np.mean(np.abs(found[16].x) == TINY.clamp) > 0.01  # some are cut, not all
    assert np.mean(np.abs(found[16].x) == TINY.clamp) < 0.6


def test_latents_equal_the_twins_and_labels_count():
    made = generator()
    mapping = jax.tree.map(np.float64, jax.device_get(made.params["mapping"]))
    found = map_latents(made.params, made.buffers, Z, C, TINY)
    expected = [mapped_twin(mapping, z, c, TINY.mapping_rate) for z, c in zip(Z, C, strict=True)]
    assert found.shape == (2, TINY.num_ws, TINY.w_dim)
    np.testing.assert_allclose(found, np.repeat(np.array(expected)[:, None], 6, 1), atol=1e-5)
    with pytest.raises(ValueError, match="labels of 2 numbers, found none"):
        map_latents(made.params, made.buffers, Z, None, TINY)


def test_truncation_shrinks_the_layers_before_the_cutoff():
    average = np.arange(7.0, dtype=np.float32)
    found = truncate(WS, average, 0.25, 2)
    np.testing.assert_allclose(found[:, :2] - average, 0.25 * (WS[:, :2] - average), atol=1e-6)
    np.testing.assert_array_equal(found[:, 2:], WS[:, 2:])
    np.testing.assert_allclose(truncate(WS, average, 0.0), np.broadcast_to(average, WS.shape))


def test_mixing_takes_the_last_layers_of_the_others():
    others = -WS
    found = mix_styles(WS, others, np.array([1, 6]))
    np.testing.assert_array_equal(found[0], np.concatenate([WS[0, :1], others[0, 1:]]))
    np.testing.assert_array_equal(found[1], WS[1])
    np.testing.assert_array_equal(mix_styles(WS, others, 0), others)


def test_going_on_from_a_blocks_features_and_picture_gives_the_same():
    made, every = generator(), blocks(WS)
    go_on = functools.partial(synthesize_from, made.params, config=TINY)
    noise = made.buffers["noise"]
    other = WS.copy()
    other[:, :3] += 1.0  # of the blocks that are not run
    found = go_on(ws=other, noise=noise, start=every[8])
    np.testing.assert_allclose(found, every[16].image, atol=1e-5)
    np.testing.assert_array_equal(go_on(ws=WS, noise=noise, start=every[16]), every[16].image)
    added = every[8]._replace(image=every[8].image + 1.0)
    inside = np.s_[:, 2:-2, 2:-2]  # zeros around the picture reach in at its rim
    moved = go_on(ws=WS, noise=noise, start=added) - every[16].image
    np.testing.assert_allclose(moved[inside], 1.0, atol=1e-5)
    features = every[8]._replace(x=every[8].x * 0.0)
    assert np.abs(go_on(ws=WS, noise=noise, start=features) - every[16].image).max() > 0.1


def test_a_lower_resolution_is_the_picture_so_far():
    made, every = generator(), blocks(WS)
    for resolution in (4, 16):
        found = synthesize(made.params, WS, made.buffers["noise"], TINY, upto=resolution)
        np.testing.assert_allclose(found, every[resolution].image, atol=1e-5)
    with pytest.raises(ValueError, match=r"resolution of \(4, 8, 16\), found 32"):
        synthesize(made.params, WS, None, TINY, upto=32)


def test_random_noise_differs_between_pictures_and_is_scaled_by_its_strength():
    noise = random_noise(jax.random.key(0), TINY, 2)
    shapes = jax.tree.map(lambda leaf: leaf.shape, generator().buffers["noise"])
    assert jax.tree.map(lambda leaf: leaf.shape[1:], noise) == shapes
    field = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(noise)])
    assert abs(field.std() - 1.0) < 0.05 and not np.array_equal(*noise["b16"]["conv1"])
    one = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), generator().buffers["noise"])
    np.testing.assert_allclose(blocks(WS, one)[16].image, blocks(WS)[16].image, atol=1e-5)
    same = np.stack([WS[0], WS[0]])
    images = blocks(same, noise)[16].image
    assert np.abs(images[0] - images[1]).max() > 0.01


def test_half_precision_draws_nearly_the_same_picture():
    made, every = generator(), blocks(WS)
    noise = made.buffers["noise"]
    found = synthesize_blocks(made.params, WS, noise, TINY, dtype="bfloat16")
    assert found[16].x.dtype == jnp.bfloat16 and found[16].image.dtype == jnp.float32
    difference = np.abs(found[16].image - every[16].image)
    assert 1e-4 < difference.max() and difference.mean() < 0.02


def test_a_new_generator_is_normal_and_slow_in_its_mapping():
    config = dataclasses.replace(TINY, channels=(40, 40, 40), w_dim=40, mapping_rate=0.1)
    made = init_generator(jax.random.key(3), config)
    mapping, block = made.params["mapping"], made.params["synthesis"]["b8"]
    np.testing.assert_allclose(np.std(mapping["fc1"]["weight"]), 10.0, rtol=0.1)
    np.testing.assert_allclose(np.std(mapping["embed"]["weight"]), 1.0, rtol=0.3)
    np.testing.assert_allclose(np.std(block["conv0"]["weight"]), 1.0, rtol=0.1)
    assert np.all(block["conv0"]["affine"]["bias"] == 1.0) and np.all(block["conv0"]["bias"] == 0)
    assert all(not leaf.weak_type for leaf in jax.tree.leaves((made.params, made.buffers)))
    again = init_generator(jax.random.key(3), config)
    np.testing.assert_array_equal(
        mapping["fc1"]["weight"], again.params["mapping"]["fc1"]["weight"]
    )


def test_settings_that_do_not_fit_each_other_are_refused():
    assert channels_of(32, base=256, most=32) == (32, 32, 16, 8)
    with pytest.raises(ValueError, match="power of two from 4 on, found resolution 24"):
        GeneratorConfig(24, (4, 4))
    with pytest.raises(ValueError, match=r"blocks 4, 8, \.\.\., 16, found 2"):
        GeneratorConfig(16, (4, 4))
    with pytest.raises(ValueError, match="'skip', found 'orig'"):
        GeneratorConfig(8, (4, 4), architecture="orig")
