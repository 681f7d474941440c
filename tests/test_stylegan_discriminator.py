"""The discriminator against its twin in NumPy."""

import jax
import numpy as np
import pytest
from stylegan_twin import deviation_twin, judged_twin

from models.stylegan.config import DiscriminatorConfig
from models.stylegan.discriminator import discriminate, init_discriminator, with_deviation

LABELS = dict(c_dim=2, cmap_dim=6, mapping_layers=2, clamp=1.0, group_size=2)
IMAGES = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
C = np.eye(2, dtype=np.float32)[[0, 1, 1, 0]]


def trained(config):
    """Parameters none of which is zero, as biases are before training; skips beyond a clamp."""
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda p: p + rng.normal(scale=0.3, size=p.shape).astype(np.float32),
        init_discriminator(jax.random.key(0), config),
    )
    for block in params.values():
        if "skip" in block:
            block["skip"]["weight"] *= 5.0
    return params


@pytest.mark.parametrize("side", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_logits_equal_the_twins(side):
    config = DiscriminatorConfig(side, (4, 5, 3)[: side // 8 + 1], **LABELS)
    params, images = trained(config), IMAGES[:, :side, :side]
    found = discriminate(params, images, C, config)
    wide = jax.tree.map(np.float64, jax.device_get(params))
    expected = judged_twin(wide, np.float64(images), C, 2, config.clamp, config.mapping_rate)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.std(expected) > 0.01


def test_without_labels_a_logit_is_the_last_layers():
    config = DiscriminatorConfig(4, (4,), clamp=None)
    params, images = trained(config), IMAGES[:, :4, :4]
    found = discriminate(params, images, None, config, dtype="bfloat16")  # but for the end
    wide = jax.tree.map(np.float64, jax.device_get(params))
    expected = judged_twin(wide, np.float64(images), None, 4, np.inf, 1.0)
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert found.dtype == np.float32 and np.abs(found - expected).max() > 1e-4


def test_deviation_is_that_of_the_pictures_of_a_group():
    x = np.random.default_rng(0).normal(size=(6, 2, 2, 4)).astype(np.float32)
    found = jax.jit(with_deviation, static_argnums=(1, 2))(x, 3, 2)
    np.testing.assert_array_equal(found[..., :4], x)
    for channel in (0, 1):
        half = x[..., 2 * channel : 2 * channel + 2]
        expected = deviation_twin(np.float64(half), 3)[:, None, None]
        np.testing.assert_allclose(found[..., 4 + channel], np.tile(expected, (1, 2, 2)), rtol=1e-5)
    with pytest.raises(ValueError, match="multiple of 4 pictures, found 6"):
        with_deviation(x, 4, 1)


def test_sizes_that_no_discriminator_has_are_refused():
    with pytest.raises(ValueError, match="group_size from one on, found 0"):
        DiscriminatorConfig(8, (4, 4), group_size=0)
    with pytest.raises(ValueError, match="group_channels that divide 4 channels, found 3"):
        DiscriminatorConfig(8, (4, 4), group_channels=3)
    with pytest.raises(ValueError, match="c_dim and cmap_dim both zero or neither, found 3 and 0"):
        DiscriminatorConfig(8, (4, 4), c_dim=3)
