"""CLIP's towers: kept numbers of transformers, what attention may see, losses, weights, folders."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import tiny_clip
import tiny_networks as tiny
from flax import traverse_util
from golden_clip import picture, read_golden

from models.perception.clip import (
    ClipTextConfig,
    ClipTextTower,
    ClipVisionConfig,
    ClipVisionTower,
    Tower,
    directional_loss,
    end_of_text,
    image_embedding,
    similarity_loss,
    text_embedding,
    text_states,
)
from models.perception.clip_images import clip_pixels
from models.perception.clip_io import load_clip, load_text_tower, load_vision_tower
from models.torch_names import torch_places

MANIFESTS = pathlib.Path(__file__).parent / "golden" / "manifests"


@functools.cache
def features_of(name):
    """A compiled tower, its parameters and its inputs."""
    ((tower, inputs),) = [case[1:] for case in tiny_clip.cases() if case[0] == name]
    params = tiny.params_of(tower.param_shapes())
    return jax.jit(lambda inputs: tower.apply({"params": params}, inputs)), inputs


@pytest.mark.parametrize("name", ["text", "vision"])
def test_features_are_those_of_transformers(name):
    features, inputs = features_of(name)
    golden, found = read_golden(), features(inputs)
    for part in ("states", "embedding"):
        np.testing.assert_allclose(getattr(found, part), golden[f"{name}_{part}"], atol=1e-4)


def test_no_token_sees_a_later_one():
    features, ids = features_of("text")
    changed = ids.copy()
    changed[:, 6:] = (changed[:, 6:] + 1) % 38
    before, after = features(ids).states, features(changed).states
    np.testing.assert_allclose(before[:, :6], after[:, :6], atol=1e-6)
    assert np.all(np.abs(before - after)[:, 6:].max(-1) > 1e-2)


def test_every_patch_is_seen():
    features, pixels = features_of("vision")
    before = features(pixels).embedding
    for row, column in [(0, 0), (4, 8), (11, 11)]:
        changed = pixels.copy()
        changed[:, row, column] += 1.0
        assert np.all(np.abs(features(changed).embedding - before).max(-1) > 1e-4)


def test_a_text_speaks_at_its_first_end():
    features, ids = features_of("text")
    found = features(ids)
    end = [list(row).index(40) for row in ids]
    np.testing.assert_array_equal(end_of_text(ids, 40), end)
    np.testing.assert_array_equal(end_of_text(ids, 2), end)  # of older configurations
    np.testing.assert_array_equal(found.pooled, found.states[np.arange(len(ids)), end])


def test_edits_are_judged_down_to_their_pixels(x64):
    tower = tiny_clip.vision_tower(num_hidden_layers=1)
    params = jax.tree.map(jnp.float64, tiny.params_of(tower.param_shapes()))
    source, target_text, source_text = (tiny.noise(name, (6,)) for name in "abc")

    @jax.jit
    @jax.value_and_grad
    def loss(image):
        pixels = clip_pixels(image, tower.config.image_size)[None]
        embedding = tower.apply({"params": params}, pixels).embedding[0]
        return directional_loss(embedding, source, target_text, source_text)

    image = 0.2 + 0.6 * picture(15, 15).astype(np.float64)
    step = 1e-4 * np.random.default_rng(0).standard_normal(image.shape)
    value, gradient = loss(image)
    assert 0.0 < value < 2.0 and np.all(gradient != 0.0)
    slope = (loss(image + step)[0] - loss(image - step)[0]) / 2.0
    np.testing.assert_allclose(slope, np.sum(gradient * step), rtol=1e-5)


def test_losses_measure_angles():
    x, y = jnp.array([2.0, 0.0, 0.0]), jnp.array([0.0, 0.5, 0.0])
    angles = jax.jit(similarity_loss)(x, jnp.stack([3 * x, y, -x]))
    np.testing.assert_allclose(angles, [0, 1, 2], atol=1e-6)
    directional = jax.jit(jax.value_and_grad(directional_loss))
    np.testing.assert_allclose(directional(y, x, 3 * y, 2 * x)[0], 0.0, atol=1e-6)
    np.testing.assert_allclose(directional(x, y, y, x)[0], 2.0, atol=1e-6)
    # An edit that has not begun is drawn along the change of the text.
    value, gradient = directional(x, x, y, x)
    assert value == 1.0
    np.testing.assert_allclose(gradient, [0.0, -np.sqrt(0.5) / 2.0, 0.0], atol=1e-6)


def test_inputs_that_do_not_fit_are_refused():
    text, vision = (
        Tower({}, tower.config) for tower in (tiny_clip.text_tower(None), tiny_clip.vision_tower())
    )
    with pytest.raises(ValueError, match=r"expected \[B, L\] ids, L <= 9, found \(1, 10\)"):
        text_states(text, np.zeros((1, 10), int))
    with pytest.raises(ValueError, match="expected a tower with a projection"):
        text_embedding(text, np.zeros((1, 9), int))
    with pytest.raises(
        ValueError, match=r"expected pixels \[B, 12, 12, 3\], found \(2, 9, 12, 3\)"
    ):
        image_embedding(vision, np.zeros((2, 9, 12, 3)))


@pytest.mark.parametrize(
    "name, keys, parameters",
    [
        ("modelscope_text", 372, 340.4e6),
        ("svd_image", 520, 632.1e6),
        ("vit_b32", 398, 151.3e6),
        ("vit_b16", 398, 149.6e6),
    ],
)
def test_full_size_towers_hold_the_entries_that_torchs_do(name, keys, parameters):
    manifest = json.loads((MANIFESTS / f"{name}.json").read_text())
    entries = traverse_util.flatten_dict(manifest["entries"], sep=".")
    assert len(entries) == manifest["keys"] == keys
    assert manifest["parameters"] == pytest.approx(parameters, rel=1e-3)
    config, found = manifest["config"], {}
    if "vision_config" in config:
        text, vision, width = (
            config[key] for key in ("text_config", "vision_config", "projection_dim")
        )
        found["logit_scale"] = []  # of training
    else:
        text, vision = (config, None) if name == "modelscope_text" else (None, config)
        width = None if vision is None else config["projection_dim"]
    if text is not None:
        tower = ClipTextTower(ClipTextConfig.from_json(text, width))
        found |= {k: list(p.shape) for k, p in torch_places(tower.param_shapes()).items()}
    if vision is not None:
        tower = ClipVisionTower(ClipVisionConfig.from_json(vision, width))
        found |= {k: list(p.shape) for k, p in torch_places(tower.param_shapes()).items()}
    assert found == entries


TOWERS = {
    "text": (tiny_clip.text_tower, load_text_tower),
    "vision": (tiny_clip.vision_tower, load_vision_tower),
}
SETTINGS = {"text": tiny_clip.TEXT, "vision": tiny_clip.VISION}


def write_folder(folder, architecture, settings, entries):
    folder.mkdir(exist_ok=True)
    config = {"architectures": [architecture], "projection_dim": tiny_clip.WIDTH} | settings
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(entries, folder / "model.safetensors")


def assert_loaded(tower, network):
    assert tower.config == network.config
    expected = tiny.params_of(network.param_shapes())
    jax.tree.map(np.testing.assert_array_equal, tower.params, expected)


@pytest.mark.parametrize("kind", ["text", "vision"])
def test_towers_are_loaded_by_their_names(tmp_path, kind):
    make, load = TOWERS[kind]
    name = f"CLIP{kind.title()}Model"
    projected = tiny.entries_of(make().param_shapes())
    positions = {f"{kind}_model.embeddings.position_ids": np.arange(9)[None]}
    write_folder(tmp_path, f"{name}WithProjection", SETTINGS[kind], projected | positions)
    assert_loaded(load(tmp_path), make())

    plain = tiny.entries_of(make(None).param_shapes())
    write_folder(tmp_path, name, SETTINGS[kind], plain | positions)
    assert_loaded(load(tmp_path), make(None))
    short = {entry.partition(".")[2]: array for entry, array in plain.items()}
    write_folder(tmp_path, name, SETTINGS[kind], short)  # as transformers 5 writes it
    assert_loaded(load(tmp_path), make(None))


def whole_folder(folder, **changes):
    """Writes a CLIPModel, and returns what its entries are."""
    entries = tiny.entries_of(tiny_clip.text_tower().param_shapes())
    entries |= tiny.entries_of(tiny_clip.vision_tower().param_shapes())
    entries["logit_scale"] = np.float32([4.6]).reshape(())
    settings = {"text_config": tiny_clip.TEXT, "vision_config": tiny_clip.VISION} | changes
    write_folder(folder, "CLIPModel", settings, entries)
    return entries


def test_both_towers_come_from_one_folder(tmp_path):
    whole_folder(tmp_path, text_config_dict=None)
    clip = load_clip(tmp_path)
    assert_loaded(clip.text, tiny_clip.text_tower())
    assert_loaded(clip.vision, tiny_clip.vision_tower())
    older = {"text_config_dict": tiny_clip.TEXT, "text_config": {"hidden_size": 7}}
    whole_folder(tmp_path, **older)
    assert_loaded(load_text_tower(tmp_path), tiny_clip.text_tower())
    half = load_text_tower(tmp_path, jnp.float16)
    assert {leaf.dtype for leaf in jax.tree.leaves(half.params)} == {jnp.dtype("float16")}
    found = text_embedding(half, tiny_clip.ids())
    assert found.dtype == jnp.float16
    np.testing.assert_allclose(found, read_golden()["text_embedding"], atol=1e-2)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"hidden_act": "gelu_new"},
            "hidden_act of CLIP to be gelu or quick_gelu, found 'gelu_new'",
        ),
        ({"hidden_size": 18}, "hidden_size of CLIP to be a multiple of its 4 heads, found 18"),
        (
            {"num_hidden_layers": "2"},
            "num_hidden_layers of CLIP to be a positive number, found '2'",
        ),
        ({"layer_norm_eps": 0}, "layer_norm_eps of CLIP to be a positive number, found 0"),
        ({"use_attention_mask": True}, "a CLIP text tower without padding mask, found one with"),
        ({"projection_dim": None}, "projection_dim of a CLIPTextModelWithProjection, found None"),
        ({"architectures": ["CLIPVisionModel"]}, "architectures to be CLIPTextModel, .*, found"),
        ({"architectures": None}, "architectures to be CLIPTextModel, .*, found None"),
        ({"architectures": ["CLIPModel"], "text_config": 3}, "text_config to be settings, found 3"),
    ],
)
def test_settings_of_other_networks_are_refused_in_one_line(tmp_path, changes, message):
    settings = tiny_clip.TEXT | changes
    write_folder(tmp_path, "CLIPTextModelWithProjection", settings, {"x": np.zeros(1)})
    with pytest.raises(ValueError, match=rf"^expected {message}.* in .*config\.json$") as error:
        load_text_tower(tmp_path)
    assert "\n" not in str(error.value)


def test_weights_of_other_networks_are_refused_in_one_line(tmp_path):
    entries = whole_folder(tmp_path)
    missing = "vision_model.encoder.layers.1.mlp.fc1.bias"
    entries |= {"text_model.foo": np.zeros(2), "bar": np.zeros(3)}
    safetensors.numpy.save_file(entries, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"found unknown .* in model\.safetensors") as error:
        load_text_tower(tmp_path)
    assert "text_model.foo" in str(error.value) and "bar" in str(error.value)
    del entries["bar"], entries[missing]
    entries["visual_projection.weight"] = np.zeros((6, 15), np.float32)
    safetensors.numpy.save_file(entries, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"expected weights in .*model\.safetensors") as error:
        load_vision_tower(tmp_path)
    assert f"no {missing}" in str(error.value)
    assert "visual_projection.weight of shape (6, 15) instead of (6, 16)" in str(error.value)
    with pytest.raises(ValueError, match="3 channels, found 4"):
        ClipVisionConfig.from_json({"num_channels": 4})
