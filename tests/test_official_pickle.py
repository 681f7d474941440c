"""Other projects' files of StyleGAN2: what they hold is found again, and nothing in them runs."""

import functools
import pathlib
import pickle
import re
import sys

import jax
import numpy as np
import pytest
import stylegan_pickles as files
from torch_files import call, constant, named, write_stream, write_zip

from models.stylegan.config import DiscriminatorConfig, GeneratorConfig
from models.stylegan.discriminator import init_discriminator
from models.stylegan.foreign_io import foreign_discriminator, foreign_generator, read_foreign
from models.stylegan.generator import Generator, map_latents, synthesize
from models.stylegan.stylegan_io import (
    TrainedDiscriminator,
    generator_shapes,
    is_generator_file,
    read_discriminator,
    read_generator,
    write_discriminator,
    write_generator,
)

GOLDEN = pathlib.Path(__file__).parents[2] / "shared" / "golden" / "stylegan2"
TINY = GeneratorConfig(8, (4, 3), z_dim=6, c_dim=2, w_dim=5, mapping_layers=2)
PLAIN = GeneratorConfig(8, (4, 3), z_dim=5, w_dim=5, mapping_layers=2, clamp=None)
JUDGE = DiscriminatorConfig(8, (4, 3), c_dim=2, cmap_dim=3, mapping_layers=2)


@functools.cache
def made(config=TINY):
    """A generator of random numbers that half precision holds exactly."""
    rng = np.random.default_rng(3)
    tree = {}
    for name, shape in generator_shapes(config).items():
        *path, leaf = name.split(".")
        place = functools.reduce(lambda node, key: node.setdefault(key, {}), path, tree)
        place[leaf] = rng.normal(size=shape).astype(np.float16).astype(np.float32)
    return Generator(tree["params"], tree["buffers"], config, {})


@functools.cache
def judge():
    return TrainedDiscriminator(
        jax.device_get(init_discriminator(jax.random.key(1), JUDGE)), JUDGE, {}
    )


@functools.cache
def official(**how):
    return files.Official(**how).generator(made())


def write(folder, content):
    path = folder / "network.pkl"
    path.write_bytes(content)
    return path


def imported(folder, content, which="G_ema"):
    return foreign_generator(read_foreign(write(folder, content)), which)


def assert_same(found, expected):
    assert found.config == expected.config
    jax.tree.map(np.testing.assert_array_equal, tuple(found[:-2]), tuple(expected[:-2]))


@pytest.mark.parametrize("core", ["core", "_core"])  # of NumPy 1 and 2
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_official_networks_are_found_again(tmp_path, core, dtype):
    official = files.Official(core=core, dtype=dtype)
    networks = {
        "G_ema": official.generator(made()),
        "D": files.Official(core).discriminator(judge().params, JUDGE),
    }
    file = read_foreign(write(tmp_path, files.pickled(networks)))
    assert_same(foreign_generator(file), made())
    assert_same(foreign_discriminator(file), judge())
    with pytest.raises(ValueError, match=r"expected G in .*, found D, G_ema"):
        foreign_generator(file, "G")


def test_settings_are_read_from_the_layers(tmp_path):
    content = files.pickled({"G": files.Official(clamp=None).generator(made())})
    assert imported(tmp_path, content, "G").config.clamp is None
    slow = made()._replace(config=GeneratorConfig(**vars(TINY) | {"mapping_rate": 0.125}))
    content = files.pickled({"G": files.Official().generator(slow)})
    assert imported(tmp_path, content, "G").config.mapping_rate == 0.125


def refusal(folder, content, which="G_ema"):
    """The one line about a file that is refused."""
    with pytest.raises(ValueError) as error:
        imported(folder, content, which)
    message = str(error.value)
    assert "\n" not in message and str(folder / "network.pkl") in message and len(message) < 500
    return message


RUN = {  # what a pickle would do, and how it is named
    "os.system": lambda path: call(named("os", "system"), constant(f"touch {path}")),
    "posix.system": lambda path: call(named("posix", "system"), constant(f"touch {path}")),
    "builtins.exec": lambda path: call(
        named("builtins", "exec"), constant(f"import os; os.mknod({path!r})")
    ),
    "builtins.getattr": lambda path: call(named("builtins", "getattr"), constant(1), constant("x")),
    "numpy.load": lambda path: call(named("numpy", "load"), constant(path)),
    "torch.load": lambda path: call(named("torch", "load"), constant(path)),
    "torch.nn.modules.conv.Conv2d": lambda path: named("torch.nn.modules.conv", "Conv2d"),
    "torch_utils.persistence.os.system": lambda path: (
        constant("torch_utils.persistence") + constant("os.system") + b"\x93"
    ),
}


@pytest.mark.parametrize("place", ["beside", "inside", "storage"])
@pytest.mark.parametrize("name", RUN)
def test_what_is_no_network_is_refused_by_name_and_not_run(tmp_path, name, place):
    ran = tmp_path / "ran"
    run = RUN[name](str(ran))
    if name in ("os.system", "builtins.exec"):  # the program does what it is meant to, elsewhere
        pickle.loads(b"\x80\x04" + run + b".")
        ran.unlink()
    if place == "beside":
        networks = {"G_ema": official(), "extra": run}
    elif place == "inside":
        networks = {"G_ema": files.module("Generator", parts={"mapping": run})}
    else:
        content = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"\x80\x04" + run + b"."
        networks = {"G_ema": files.tensor_of(np.zeros(3, np.float32), content=content)}
    content = files.pickled(networks).replace(b"\x80\x03", b"\x80\x04", 1)
    assert f"asks for {name}, which is not allowed" in refusal(tmp_path, content)
    assert not ran.exists()


def loop():
    """A module that is a part of itself: its state is remembered, and used again inside."""
    start = named("torch_utils.persistence", "_reconstruct_persistent_obj") + b"(}("
    start += constant("type") + constant("class") + constant("state")
    inner = b"}(" + constant("inner") + start + b"h\x07utRu"
    return start + b"}q\x07(" + constant("_modules") + inner + b"uutR"


def nested(depth):
    part = files.module("Layer")
    for _ in range(depth):
        part = files.module("Layer", parts={"inner": part})
    return part


SHORT = np.arange(4, dtype=np.float32)


def tensor(**how):
    entries = {"x": files.tensor_of(SHORT, **how)}
    return files.described({"state": files.listed({"_parameters": files.listed(entries)})})


LIES = {
    "a module inside itself": loop,
    "too deep": lambda: nested(9),
    "storage 94 of 16 bytes instead of 4398046511104": (
        lambda: tensor(content=files.block(SHORT, claimed=2**40))
    ),
    "without a name or a size": lambda: tensor(content=files.block(SHORT, claimed=2**60)),
    "(1099511627776,) in a storage of 4": lambda: tensor(shape=(2**40,), strides=(0,)),
    "(2, 3) in a storage of 4": lambda: tensor(shape=(2, 3), strides=(1, 1)),
    "no list of counts": lambda: tensor(strides=(-1,)),
    "torch.save did not write": lambda: tensor(content=pickle.dumps(1, 2)),
    "a tensor without a storage": lambda: files.tensor(constant(b"x"), (4,), (1,)),
    "a pickle that counts more entries than it has": lambda: b"r\x7f\x00\x00\x00",
    "a int instead of a module": lambda: constant(3),
    "x, which is no tensor": lambda: files.described(
        {"state": files.listed({"_parameters": constant({"x": "y"})})}
    ),
}


@pytest.mark.parametrize("message", LIES)
def test_lies_about_sizes_and_places_are_refused(tmp_path, message):
    assert message in refusal(tmp_path, files.pickled({"G_ema": LIES[message]()}))


def test_a_pile_of_thirty_thousand_is_refused(tmp_path):
    for content in (b"(" * 30_000 + b"t" * 30_000, b"]" * 30_000 + b"a" * 29_999):
        assert "instead of networks" in refusal(tmp_path, b"\x80\x03" + content + b".")


def test_files_that_end_early_are_refused(tmp_path):
    content = files.pickled({"G_ema": official()})
    for end in (0, 1, 2, 40, len(content) // 3, len(content) // 2, len(content) - 1):
        refusal(tmp_path, content[:end])
    for other in (b"<!DOCTYPE html>", pickle.dumps({"a": 1}), pickle.dumps((1, 2, 3))):
        refusal(tmp_path, other)


def test_damaged_files_are_read_or_refused_in_one_line(tmp_path):
    rng, refused = np.random.default_rng(5), 0
    whole = files.pickled({"G_ema": official()})
    for _ in range(60):
        content = bytearray(whole)
        for at in rng.integers(len(content), size=rng.integers(1, 40)):
            content[at] = rng.integers(256)
        try:
            imported(tmp_path, bytes(content))
        except ValueError as error:
            refused += 1
            assert "network.pkl" in str(error) and "\n" not in str(error)
    assert refused > 30


OTHERS = {
    "architecture 'resnet' of b8": {"architecture": "resnet"},
    "activation 'relu' of": {"activation": "relu"},
    "act_gain 1.0 of": {"act_gain": 1.0},
    "up 4 of": {"up": 4},
    "weight_gain 0.5 of": {"weight_gain": 0.5},
    "rate 0.5 of": {"bias_gain": 0.5},
    "number as bias_gain, found 'None'": {"bias_gain": b"N"},
    "number as clamp of all layers, found '(1, 2)'": {"conv_clamp": (1, 2)},
}


@pytest.mark.parametrize("message", OTHERS)
def test_layers_of_another_kind_are_refused_by_name(tmp_path, message):
    ((setting, value),) = OTHERS[message].items()
    content = files.pickled({"G_ema": files.Official(**{setting: value}).generator(made())})
    found = refusal(tmp_path, content)
    expected = message.replace("of b8", "of synthesis.b4")
    assert re.search("expected (layers of StyleGAN2, found|a number)", found) and expected in found


def test_other_generators_are_refused_by_name(tmp_path):
    layers = {
        "input": files.module("SynthesisInput"),
        "L0_36_512": files.module("SynthesisLayer"),
    }
    parts = {
        "synthesis": files.module("SynthesisNetwork", parts=layers),
        "mapping": files.module("MappingNetwork"),
    }
    content = files.pickled({"G_ema": files.module("Generator", parts=parts)})
    assert "found those of StyleGAN3: SynthesisInput, SynthesisLayer" in refusal(tmp_path, content)
    content = files.pickled(
        {"G_ema": files.module("TriPlaneGenerator", parts={"backbone": layers["input"]})}
    )
    assert "found those of EG3D: TriPlaneGenerator" in refusal(tmp_path, content)


def changed(change):
    """The tiny generator with one thing changed, as instructions."""
    params = jax.tree.map(np.copy, made().params)
    change(params["synthesis"])
    return files.pickled({"G_ema": files.Official().generator(made()._replace(params=params))})


def test_arrays_that_are_not_the_generators_are_refused_by_name(tmp_path):
    def too_wide(synthesis):
        synthesis["b8"]["conv1"]["bias"] = np.zeros(7)

    def not_finite(synthesis):
        synthesis["b8"]["conv0"]["weight"][0, 0, 0, 0] = np.nan

    message = refusal(tmp_path, changed(too_wide))
    assert "params.synthesis.b8.conv1.bias of shape (7,) instead of (3,)" in message
    message = refusal(tmp_path, changed(not_finite))
    assert "params.synthesis.b8.conv0.weight with values that are not finite" in message
    content = files.pickled({"G_ema": official()})
    message = refusal(tmp_path, content.replace(b"noise_strength", b"noise_strengtX"))
    assert "unknown params.synthesis.b4.conv1.noise_strengtX" in message

    def empty(synthesis):
        synthesis["b4"]["torgb"]["affine"]["weight"] = np.zeros((2**40, 0))

    message = refusal(tmp_path, changed(empty))
    assert "axes of some length in synthesis.b4.torgb.affine.weight" in message


@pytest.mark.parametrize("write_torch", [write_zip, write_stream])
def test_checkpoints_of_rosinalitys_are_found_again(tmp_path, write_torch):
    plain = made(PLAIN)
    entries = files.rosinality_names(plain.params, plain.buffers["noise"])
    average = {"latent_avg": plain.buffers["w_avg"]}
    path = tmp_path / "network.pt"
    files.write_rosinality(write_torch, path, {"g_ema": entries}, average)
    assert_same(foreign_generator(read_foreign(path)), plain)
    files.write_rosinality(
        write_torch, path, {"g": entries | {"more": entries["style.1.bias"]}}, {}
    )
    with pytest.raises(ValueError, match=r"found 'more' in it, in G of .*network\.pt"):
        foreign_generator(read_foreign(path), "G")
    files.write_rosinality(write_torch, path, {}, average)
    with pytest.raises(ValueError, match=r"expected g, d, g_ema in .*, found latent_avg"):
        read_foreign(path)


def test_an_average_that_a_file_lacks_is_that_of_many_latents(tmp_path):
    plain = made(PLAIN)
    entries = files.rosinality_names(plain.params, plain.buffers["noise"])
    path = tmp_path / "network.pt"
    files.write_rosinality(write_zip, path, {"g_ema": entries}, {})
    found = foreign_generator(read_foreign(path))
    assert found.facts["w_avg"] == "mean of 4096 latents"
    z = np.random.default_rng(0).normal(size=(4096, 5)).astype(np.float32)
    ws = np.asarray(map_latents(plain.params, plain.buffers, z, None, PLAIN))[:, 0]
    assert np.all(np.abs(found.buffers["w_avg"] - ws.mean(0)) < 6 * ws.std(0) / 64)


def test_networks_of_tensorflow_are_found_again(tmp_path):
    content = files.tensorflow_pickle(made(), conv_clamp=256)
    assert_same(imported(tmp_path, content), made())
    content = files.tensorflow_pickle(made(), architecture="resnet")
    assert "expected architecture 'skip' of G_main, found 'resnet'" in refusal(tmp_path, content)
    content = files.tensorflow_pickle(made(), conv_clamp=[1, 2])
    assert "expected a number as conv_clamp, found '(1, 2)'" in refusal(tmp_path, content)
    content = files.tensorflow_pickle(made()).replace(b"LabelEmbed", b"LabelConcX")
    assert "found 'mapping/LabelConcX/bias'" in refusal(tmp_path, content)


def test_files_of_our_own_are_read_as_written(tmp_path):
    path = tmp_path / "generator.safetensors"
    write_generator(path, made()._replace(facts={"source": "x"}))
    found = read_generator(path)
    assert_same(found, made())
    assert found.facts == {"source": "x"} and is_generator_file(path)
    write_discriminator(tmp_path / "d.safetensors", judge())
    assert_same(read_discriminator(tmp_path / "d.safetensors"), judge())
    assert not is_generator_file(tmp_path / "d.safetensors")
    with pytest.raises(ValueError, match=r"expected a generator, found 'discriminator' in .*d\.s"):
        read_generator(tmp_path / "d.safetensors")
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, "d.safetensors"}
    content = path.read_bytes()
    for old, new, words in (
        (rb"\"resolution\": 8", rb"\"resolution\": 4", "found channels|expected channels"),
        (rb"\"w_dim\": 5", rb"\"w_dim\": 6", r"of shape \(5,\) instead of \(6,\)"),
        (rb"\"mapping_layers\": 2", rb"\"mapping_layers\": 9", "no params.mapping.fc2"),
        (rb"\"c_dim\": 2", rb"\"c_dim\":-2", "c_dim -2"),
        (rb"\"z_dim\": 6", rb"\"z_dim\": 0", "z_dim from one on, found 0"),
        (rb"\"mapping_rate\": 0.01", rb"\"mapping_rate\": null", "mapping_rate None"),
        (rb"\"channels\": [4, 3]", rb"\"channels\": [4, 0]", "channels in all blocks"),
    ):
        assert old in content
        path.write_bytes(content.replace(old, new))
        with pytest.raises(ValueError, match=words) as error:
            read_generator(path)
        assert "\n" not in str(error.value)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no golden files")
@pytest.mark.compiles
@pytest.mark.parametrize("name", ["c10", pytest.param("r32", marks=pytest.mark.slow)])
def test_pictures_are_those_of_the_official_code(tmp_path, name):
    imported = foreign_generator(read_foreign(GOLDEN / f"{name}.pkl"))
    write_generator(tmp_path / "generator.safetensors", imported)
    params, buffers, config, _ = read_generator(tmp_path / "generator.safetensors")
    with np.load(GOLDEN / f"{name}.npz") as expected:
        c = expected["c"] if config.c_dim else None
        ws = map_latents(params, buffers, expected["z"], c, config)
        np.testing.assert_allclose(ws, expected["ws"], rtol=0, atol=1e-4)
        near = np.where(np.arange(config.num_ws)[:, None] < 4, 0.7, 1.0)
        near = buffers["w_avg"] + near * (ws - buffers["w_avg"])
        noise = buffers["noise"]
        modes = {"const": (ws, noise), "unfused": (ws, noise), "trunc": (near, noise)}
        modes["none"] = ws, jax.tree.map(np.zeros_like, noise)
        for mode, (latents, noise) in modes.items():
            images = np.asarray(synthesize(params, latents, noise, config))
            images = images.transpose(0, 3, 1, 2)
            np.testing.assert_allclose(images, expected[f"img_{mode}"], rtol=0, atol=1e-4)
        if name == "r32":  # compiled anew
            truncated = map_latents(params, buffers, expected["z"], c, config, 0.7, 4)
            np.testing.assert_allclose(truncated, near, atol=1e-5)
            images = np.asarray(synthesize(params, ws, None, config)).transpose(0, 3, 1, 2)
            np.testing.assert_allclose(images, expected["img_none"], rtol=0, atol=1e-4)
    assert "torch" not in sys.modules
