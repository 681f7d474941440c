"""Folders as diffusers and transformers write them are read to the last array, or refused."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from torch_files import program_of, write_zip

from models.diffusion.configs import (
    ModelScopeConfig,
    SvdConfig,
    VaeConfig,
    VideoVaeConfig,
)
from models.diffusion.vae import current_name
from models.torch_names import torch_places
from models.weights import load_params, read_config

KERNEL = "blocks.0.convs.1.weight"
NAME = "diffusion_pytorch_model"
ENTRIES = {
    KERNEL: np.arange(2 * 3 * 9, dtype=np.float32).reshape(2, 3, 3, 3),
    "blocks.0.convs.1.bias": np.array([1, 2], np.float32),
    "blocks.0.norm1.weight": np.array([3, 4], np.float32),
    "embed.linear_1.weight": np.array([[1, 2, 3], [4, 5, 6]], np.float32),
    "mixer.mix_factor": np.array([0.5], np.float32),
    "tokens.weight": np.arange(8, dtype=np.float32).reshape(4, 2),
}


def shaped(*shape):
    return jax.ShapeDtypeStruct(shape, np.float32)


SHAPES = {
    "blocks_0": {
        "convs_1": {"kernel": shaped(3, 3, 3, 2), "bias": shaped(2)},
        "norm1": {"scale": shaped(2)},
    },
    "embed": {"linear_1": {"kernel": shaped(3, 2)}},
    "mixer": {"mix_factor": shaped(1)},
    "tokens": {"embedding": shaped(4, 2)},
}


def write(folder, entries=ENTRIES, name=f"{NAME}.safetensors"):
    safetensors.numpy.save_file(entries, folder / name)


def write_shards(folder, variant=""):
    names = list(ENTRIES)
    shards = {"part-1.safetensors": names[::2], "part-2.safetensors": names[1::2]}
    for file, held in shards.items():
        write(folder, {name: ENTRIES[name] for name in held}, file)
    weight_map = {name: file for file, held in shards.items() for name in held}
    index = folder / f"{NAME}.safetensors.index{variant}.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def assert_read(params, dtype=np.float32):
    kernel = params["blocks_0"]["convs_1"]["kernel"]
    assert kernel.dtype == dtype
    # One number, followed by hand: to channel 1, from channel 2, row 0, column 1.
    assert kernel[0, 1, 2, 1] == ENTRIES[KERNEL][1, 2, 0, 1]
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda leaf: leaf.shape, SHAPES)
    np.testing.assert_array_equal(params["blocks_0"]["norm1"]["scale"], [3, 4])
    np.testing.assert_array_equal(params["embed"]["linear_1"]["kernel"], [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(params["tokens"]["embedding"], ENTRIES["tokens.weight"])
    np.testing.assert_array_equal(params["mixer"]["mix_factor"], [0.5])


def test_names_and_layouts_are_torchs():
    assert {name: place.shape for name, place in torch_places(SHAPES).items()} == {
        name: entry.shape for name, entry in ENTRIES.items()
    }


@pytest.mark.parametrize("stem", [NAME, "model"])
@pytest.mark.parametrize("variant", ["", ".fp16", ".bf16"])
def test_one_file_of_any_variant_is_read(tmp_path, stem, variant):
    stored = {"": np.float32, ".fp16": np.float16, ".bf16": ml_dtypes.bfloat16}[variant]
    entries = {name: entry.astype(stored) for name, entry in ENTRIES.items()}
    write(tmp_path, entries, f"{stem}{variant}.safetensors")
    assert_read(load_params(tmp_path, SHAPES))
    assert_read(load_params(tmp_path, SHAPES, ml_dtypes.bfloat16), ml_dtypes.bfloat16)


@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_shards_are_read_together(tmp_path, variant):
    write_shards(tmp_path, variant)
    assert_read(load_params(tmp_path, SHAPES))


def test_the_full_variant_goes_before_the_half_one_and_torchs_file_is_read_too(tmp_path):
    write(tmp_path, {"half": np.zeros(1)}, f"{NAME}.fp16.safetensors")
    write_zip(tmp_path / "pytorch_model.bin", *program_of(ENTRIES))
    assert_read(load_params(tmp_path, SHAPES))


def test_old_names_of_attention_and_its_convolutions_of_one_pixel_are_known(tmp_path):
    new, old = ("decoder.mid_block.attentions.0." + name for name in ("to_out.0", "proj_attn"))
    assert current_name(f"{old}.weight") == f"{new}.weight"
    assert current_name("conv.key.weight") == "conv.key.weight"
    matrix = np.arange(4, dtype=np.float32).reshape(2, 2)
    write(tmp_path, {f"{old}.weight": matrix[..., None, None]})
    shapes = {"to_out_0": {"kernel": shaped(2, 2)}}
    for part in ("attentions_0", "mid_block", "decoder"):
        shapes = {part: shapes}
    params = load_params(tmp_path, shapes, rename=current_name)
    (found,) = jax.tree.leaves(params)
    np.testing.assert_array_equal(found, matrix.T)


def test_entries_that_are_not_wanted_are_left_out(tmp_path):
    write(tmp_path, ENTRIES | {"position_ids": np.arange(3)})
    assert_read(load_params(tmp_path, SHAPES, rename={name: name for name in ENTRIES}.get))


def refused(folder, **options):
    with pytest.raises(ValueError, match=r"^expected ") as error:
        load_params(folder, SHAPES, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "entries, fault",
    [
        (ENTRIES | {"extra.x": np.zeros(1)}, f"unknown extra.x in {NAME}.safetensors"),
        ({k: v for k, v in ENTRIES.items() if k != KERNEL}, f"no {KERNEL}"),
        (
            ENTRIES | {"tokens.weight": np.zeros((4, 3))},
            f"tokens.weight of shape (4, 3) instead of (4, 2) in {NAME}.safetensors",
        ),
        (
            ENTRIES | {"mixer.mix_factor": np.array([np.nan])},
            f"{NAME}.safetensors, found mixer.mix_factor with values that are not finite",
        ),
    ],
)
def test_entries_of_another_network_are_refused_by_name(tmp_path, entries, fault):
    write(tmp_path, entries)
    message = refused(tmp_path)
    assert fault in message and str(tmp_path) in message


def test_values_too_large_for_the_dtype_are_refused(tmp_path):
    write(tmp_path, ENTRIES | {"mixer.mix_factor": np.array([1e6], np.float32)})
    assert "mixer.mix_factor with values that are not finite in float16" in refused(
        tmp_path, dtype=np.float16
    )


def test_a_missing_shard_is_named_with_an_entry_of_it(tmp_path):
    write_shards(tmp_path)
    (tmp_path / "part-2.safetensors").unlink()
    message = refused(tmp_path)
    assert "part-2.safetensors with blocks.0.convs.1.bias" in message
    assert message.endswith("found nothing")


def test_an_entry_in_two_shards_is_refused(tmp_path):
    write_shards(tmp_path)
    write(tmp_path, ENTRIES, "part-2.safetensors")
    assert f"{KERNEL} twice, again in part-2.safetensors" in refused(tmp_path)


@pytest.mark.parametrize(
    "index, fault",
    [
        ("[]", r"an object of keys, found \[\] in"),
        ("{", "JSON, found Expecting property name .* at line 1, column 2 of"),
        ("{}", "a weight_map in .*, found none"),
        (
            '{"weight_map": {"x": "../y.safetensors"}}',
            "a file for x in .*, found '../y.safetensors'",
        ),
        ('{"weight_map": {"x": 3}}', "a file for x in .*, found 3"),
    ],
)
def test_a_bad_index_is_refused(tmp_path, index, fault):
    path = tmp_path / f"{NAME}.safetensors.index.json"
    path.write_text(index)
    with pytest.raises(ValueError, match=f"^expected .*{fault}") as error:
        load_params(tmp_path, SHAPES)
    assert path.name in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_was_cut_is_refused_with_the_entry_that_it_ends_in(tmp_path):
    write(tmp_path)
    path = tmp_path / f"{NAME}.safetensors"
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    last = max(header, key=lambda name: header[name]["data_offsets"])
    path.write_bytes(content[:-1])
    message = refused(tmp_path)
    assert path.name in message and f"it ends before {last} does" in message
    path.write_bytes(content[:40])
    assert path.name in refused(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert refused(tmp_path).endswith(f"its like in {tmp_path}, found config.json")
    assert refused(tmp_path / "none").endswith("found nothing")


@pytest.mark.parametrize(
    "kind, class_name",
    [
        (ModelScopeConfig, "UNet3DConditionModel"),
        (SvdConfig, "UNetSpatioTemporalConditionModel"),
        (VaeConfig, "AutoencoderKL"),
        (VideoVaeConfig, "AutoencoderKLTemporalDecoder"),
    ],
)
@pytest.mark.parametrize(
    "settings, fault",
    [
        ({"_class_name": "UNet2D"}, "expected _class_name to be {0}, found 'UNet2D'"),
        ({"twist": 1}, "expected settings of a {0}, found unknown twist"),
        ({"in_channels": "4"}, "expected in_channels to be int, found '4'"),
        ({"block_out_channels": [0]}, "expected block_out_channels to be a list of int, found [0]"),
        ({"down_block_types": 4 * ["X"]}, "in down_block_types, found X, X, X, X"),
        ({"block_out_channels": 3 * [32]}, "expected 3 of "),
        ({"block_out_channels": [32, 32, 32, 17]}, "expected block_out_channels divisible by 32"),
    ],
)
def test_settings_that_are_not_known_are_refused(tmp_path, kind, class_name, settings, fault):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"_class_name": class_name, "_diffusers_version": "0.1"}))
    assert read_config(tmp_path, kind.from_json) == kind()
    path.write_text(json.dumps({"_class_name": class_name} | settings))
    with pytest.raises(ValueError, match=r"^expected ") as error:
        read_config(tmp_path, kind.from_json)
    assert fault.format(class_name) in str(error.value)
    assert str(error.value).endswith(f" in {path}")


@pytest.mark.parametrize(
    "kind, name, settings, fault",
    [
        (ModelScopeConfig, "UNet3DConditionModel", {"act_fn": "relu"}, "act_fn to be 'silu'"),
        (
            SvdConfig,
            "UNetSpatioTemporalConditionModel",
            {"num_attention_heads": [5]},
            "4 entries in num_attention_heads, found 1",
        ),
        (
            SvdConfig,
            "UNetSpatioTemporalConditionModel",
            {"addition_time_embed_dim": 8},
            "projection_class_embeddings_input_dim to be three times 8, found 768",
        ),
        (VaeConfig, "AutoencoderKL", {"shift_factor": 0.1}, "shift_factor to be None, found 0.1"),
        (
            VideoVaeConfig,
            "AutoencoderKLTemporalDecoder",
            {"layers_per_block": 3},
            "layers_per_block to be 2, found 3",
        ),
    ],
)
def test_choices_that_are_not_implemented_are_refused(kind, name, settings, fault):
    with pytest.raises(ValueError, match=f"expected {fault}"):
        kind.from_json({"_class_name": name} | settings)
