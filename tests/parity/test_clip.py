"""CLIP against transformers and diffusers: towers, every parameter random; tokens; pictures."""

import json
import unicodedata

import jax
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("diffusers")

import clip_files
import clip_manifests
import clip_reference
import golden_clip
import tiny_clip
import tiny_networks as tiny

from models.perception.clip_images import STD, clip_pixels, svd_pixels
from models.perception.clip_tokens import tokenize
from models.perception.clip_tokens_io import load_tokenizer

pytestmark = pytest.mark.parity


def assert_features(tower, inputs):
    params = tiny.params_of(tower.param_shapes())
    found = jax.jit(lambda inputs: tower.apply({"params": params}, inputs))(inputs)
    for part, expected in clip_reference.features(tower, inputs).items():
        assert expected.std() > 0.1
        np.testing.assert_allclose(getattr(found, part), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("end", [2, 40])
@pytest.mark.parametrize("width", [None, 6])
def test_text_features(activation, end, width):
    tower = tiny_clip.text_tower(width, hidden_act=activation, eos_token_id=end)
    assert_features(tower, tiny_clip.ids())


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("side", [12, 14])  # the latter is no multiple of a patch
@pytest.mark.parametrize("width", [None, 6])
def test_vision_features(activation, side, width):
    tower = tiny_clip.vision_tower(width, hidden_act=activation, image_size=side)
    assert_features(tower, tiny_clip.pixels(side))


@pytest.mark.parametrize("dtype, atol", [("float16", 1e-2), ("bfloat16", 8e-2)])
@pytest.mark.parametrize("case", tiny_clip.cases(), ids=lambda case: case[0])
def test_half_precision(case, dtype, atol):
    _, tower, inputs = case
    params = jax.tree.map(lambda x: x.astype(dtype), tiny.params_of(tower.param_shapes()))
    inputs = inputs if inputs.dtype.kind == "i" else inputs.astype(dtype)
    found = jax.jit(lambda inputs: tower.apply({"params": params}, inputs))(inputs)
    for part, expected in clip_reference.features(tower, case[2]).items():
        array = getattr(found, part)
        assert array.dtype == dtype
        np.testing.assert_allclose(array.astype(np.float32), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("name", clip_manifests.CONFIGS)
def test_entries_of_full_size_towers(name):
    kept = json.loads((clip_manifests.FOLDER / f"{name}.json").read_text())
    assert kept == clip_manifests.manifest_of(clip_manifests.CONFIGS[name])


@pytest.mark.parametrize("pad", clip_files.PADS.values())
@pytest.mark.parametrize("is_normalized", [False, True])
def test_ids_of_texts(tmp_path, pad, is_normalized):
    clip_files.write_tokenizer(tmp_path, pad, is_normalized)
    expected = clip_reference.token_ids(tmp_path, clip_files.TEXTS)
    np.testing.assert_array_equal(tokenize(load_tokenizer(tmp_path), clip_files.TEXTS), expected)
    theirs = clip_reference.transformers.CLIPTokenizer.from_pretrained(tmp_path)
    theirs.save_pretrained(tmp_path / "new")  # one file, tokenizer.json
    assert not (tmp_path / "new/vocab.json").exists()
    ours = load_tokenizer(tmp_path / "new")
    np.testing.assert_array_equal(tokenize(ours, clip_files.TEXTS), expected)


def test_ids_of_every_sign(tmp_path):
    clip_files.write_tokenizer(tmp_path)
    signs = map(chr, range(0x110000))
    signs = [sign for sign in signs if unicodedata.category(sign) not in ("Cn", "Cs", "Co")]
    texts = tuple(f"a{sign}a1{sign}1,{sign},{sign}A" for sign in signs)
    wrong = tokenize(load_tokenizer(tmp_path), texts) != clip_reference.token_ids(tmp_path, texts)
    assert not [f"U+{ord(signs[index]):04X}" for index in np.flatnonzero(wrong.any(1))]


@pytest.mark.parametrize("shape", [(31, 43), (50, 20), (7, 5), (16, 16), (224, 300)])
@pytest.mark.parametrize("side", [16, 25])
def test_pixels(shape, side):
    image = golden_clip.picture(*shape)
    expected = clip_reference.svd_pixels(image, side)
    np.testing.assert_allclose(svd_pixels(image, side), expected, rtol=0, atol=1e-5)
    # Theirs are rounded to 8 bits on the way, twice. Which axis comes first, and is cut off first,
    # depends on the picture and on Pillow's version.
    turned = clip_pixels(image.swapaxes(0, 1), side).swapaxes(0, 1)
    expected = clip_reference.clip_pixels(image, side)
    differences = [np.abs((x - expected) * STD).max() for x in (clip_pixels(image, side), turned)]
    assert min(differences) < 1.5 / 255


def test_what_is_kept_is_what_they_compute():
    kept, computed = golden_clip.read_golden(), clip_reference.golden()
    assert kept.keys() == computed.keys()
    for name, array in computed.items():
        np.testing.assert_allclose(kept[name], array, rtol=0, atol=1e-5)
