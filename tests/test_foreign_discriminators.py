"""Discriminators of other projects' files: their logits are those that the files' own names say.

What is expected is computed from the entries as their projects name, lay out and use them.
"""

import numpy as np
import pytest
import stylegan_pickles as files
from stylegan_twin import dense, deviation_twin, leaky, mapped_twin, plain_twin
from test_official_pickle import PLAIN, made, write
from torch_files import write_zip

from models.stylegan.discriminator import discriminate
from models.stylegan.foreign_io import foreign_discriminator, read_foreign

SIDE, CHANNELS, GROUP = 16, {16: 3, 8: 5, 4: 4}, 4
LABELS, MAPPED, CLAMP = 3, 6, 1.0
IMAGES = np.random.default_rng(0).normal(scale=3.0, size=(8, SIDE, SIDE, 3)).astype(np.float32)
C = np.eye(LABELS, dtype=np.float32)[[0, 1, 2, 0, 1, 2, 2, 1]]


def drawn(shapes):
    """Arrays of these shapes; logits tell pictures apart, and skips exceed the others' clamp."""
    rng, arrays = np.random.default_rng(6), {}
    for name, shape in shapes.items():
        scale = 0.1 if name.endswith("bias") else 3.0 if "skip" in name.lower() else 1.0
        arrays[name] = rng.normal(scale=scale, size=shape).astype(np.float32)
    return arrays


def rosinality_entries():
    """A discriminator's state; kernels [out, in, rows, columns], matrices [out, in]."""
    shapes = {"convs.0.0.weight": (CHANNELS[SIDE], 3, 1, 1), "convs.0.1.bias": (CHANNELS[SIDE],)}
    for i, side in enumerate((16, 8), 1):
        inner, outer = CHANNELS[side], CHANNELS[side // 2]
        shapes |= {
            f"convs.{i}.conv1.0.weight": (inner, inner, 3, 3),
            f"convs.{i}.conv1.1.bias": (inner,),
            f"convs.{i}.conv2.1.weight": (outer, inner, 3, 3),
            f"convs.{i}.conv2.2.bias": (outer,),
            f"convs.{i}.skip.1.weight": (outer, inner, 1, 1),
        }
    last = CHANNELS[4]
    shapes |= {"final_conv.0.weight": (last, last + 1, 3, 3), "final_conv.1.bias": (last,)}
    shapes |= {"final_linear.0.weight": (last, 16 * last), "final_linear.0.bias": (last,)}
    shapes |= {"final_linear.1.weight": (1, last), "final_linear.1.bias": (1,)}
    blurs = {f"convs.{i}.{part}.0.kernel": files.BLUR for i in (1, 2) for part in ("conv2", "skip")}
    return drawn(shapes) | blurs


def rosinality_logits(entries, images):
    def convolved(weight, bias, x, is_down=False):
        layer = {"weight": np.float64(entries[weight]).transpose(2, 3, 1, 0)}
        layer |= {"bias": entries[bias]} if bias else {}
        return plain_twin(layer, x, np.inf, is_down=is_down)

    def features(x):
        x = convolved("convs.0.0.weight", "convs.0.1.bias", np.float64(x))
        for name in ("convs.1", "convs.2"):
            kept = convolved(f"{name}.skip.1.weight", None, x, is_down=True)
            x = convolved(f"{name}.conv1.0.weight", f"{name}.conv1.1.bias", x)
            x = convolved(f"{name}.conv2.1.weight", f"{name}.conv2.2.bias", x, is_down=True)
            x = (x + kept) / np.sqrt(2)
        return x

    def logit(x):
        x = convolved("final_conv.0.weight", "final_conv.1.bias", x).transpose(2, 0, 1)
        first, last = (
            {
                "weight": entries[f"final_linear.{i}.weight"].T,
                "bias": entries[f"final_linear.{i}.bias"],
            }
            for i in (0, 1)
        )
        return dense(last, leaky(dense(first, x.reshape(-1))))[0]

    return np.array([logit(x) for x in with_deviations([features(x) for x in images], GROUP)])


def tensorflow_variables(is_labelled):
    """A discriminator's variables; kernels [rows, columns, in, out], matrices [in, out]."""
    shapes = {"lod": ()}
    if is_labelled:
        shapes |= {"LabelEmbed/weight": (LABELS, MAPPED), "LabelEmbed/bias": (MAPPED,)}
        shapes |= {"Mapping0/weight": (MAPPED, MAPPED), "Mapping0/bias": (MAPPED,)}
    shapes |= {"16x16/FromRGB/weight": (1, 1, 3, 3), "16x16/FromRGB/bias": (CHANNELS[16],)}
    for side in (16, 8):
        name, inner, outer = f"{side}x{side}", CHANNELS[side], CHANNELS[side // 2]
        shapes |= {f"{name}/Conv0/weight": (3, 3, inner, inner), f"{name}/Conv0/bias": (inner,)}
        shapes |= {f"{name}/Conv1_down/weight": (3, 3, inner, outer)}
        shapes |= {f"{name}/Conv1_down/bias": (outer,), f"{name}/Skip/weight": (1, 1, inner, outer)}
    last, out = CHANNELS[4], MAPPED if is_labelled else 1
    shapes |= {"4x4/Conv/weight": (3, 3, last + 1, last), "4x4/Conv/bias": (last,)}
    shapes |= {"4x4/Dense0/weight": (16 * last, last), "4x4/Dense0/bias": (last,)}
    return drawn(shapes | {"Output/weight": (last, out), "Output/bias": (out,)})


def tensorflow_logits(variables, images, c, group_size, clamp, rate):
    def layer(name):
        leaves = {leaf: variables.get(f"{name}/{leaf}") for leaf in ("weight", "bias")}
        return {leaf: np.float64(array) for leaf, array in leaves.items() if array is not None}

    def features(x):
        x = plain_twin(layer("16x16/FromRGB"), np.float64(x), clamp)
        for name in ("16x16", "8x8"):
            kept = plain_twin(layer(f"{name}/Skip"), x, np.inf, is_down=True)
            x = plain_twin(layer(f"{name}/Conv0"), x, clamp)
            x = plain_twin(layer(f"{name}/Conv1_down"), x, clamp, is_down=True)
            x = (x + kept) / np.sqrt(2)
        return x

    def output(x):
        x = plain_twin(layer("4x4/Conv"), x, clamp).transpose(2, 0, 1)
        return dense(layer("Output"), leaky(dense(layer("4x4/Dense0"), x.reshape(-1))))

    outputs = [output(x) for x in with_deviations([features(x) for x in images], group_size)]
    if c is None:
        return np.array(outputs)[:, 0]
    mapping = {"embed": layer("LabelEmbed"), "fc0": layer("Mapping0")}
    labels = [mapped_twin(mapping, None, np.float64(one), rate) for one in c]
    return np.sum(np.multiply(outputs, labels), 1) / np.sqrt(MAPPED)


def with_deviations(features, group_size):
    numbers = deviation_twin(np.stack(features), group_size)
    return [
        np.concatenate([x, np.full((4, 4, 1), number)], -1)
        for x, number in zip(features, numbers, strict=True)
    ]


def assert_logits(found, c, expected):
    logits = discriminate(found.params, IMAGES, c, found.config)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert np.std(expected) > 0.05


@pytest.mark.compiles
def test_rosinalitys_and_the_older_of_tensorflow_judge_alike_but_for_names(tmp_path):
    entries = rosinality_entries()
    path = tmp_path / "network.pt"
    files.write_rosinality(write_zip, path, {"d": entries}, {})
    found = foreign_discriminator(read_foreign(path))
    assert_logits(found, None, rosinality_logits(entries, IMAGES))
    variables = tensorflow_variables(is_labelled=False)
    content = files.tensorflow_pickle(made(PLAIN), variables.items())
    older = foreign_discriminator(read_foreign(write(tmp_path, content)))
    assert older.config == found.config  # so that nothing is compiled again
    assert_logits(older, None, tensorflow_logits(variables, IMAGES, None, GROUP, np.inf, 1.0))


@pytest.mark.compiles
def test_the_newer_of_tensorflow_compares_a_whole_batch_and_clamps_all_but_the_skip(tmp_path):
    variables = tensorflow_variables(is_labelled=True)
    how = {"conv_clamp": CLAMP, "mapping_layers": 1, "mapping_lrmul": 0.5}
    content = files.tensorflow_pickle(made(), variables.items(), ("D_main", how))
    found = foreign_discriminator(read_foreign(write(tmp_path, content)))
    expected = tensorflow_logits(variables, IMAGES, C, len(IMAGES), CLAMP, 0.5)
    assert_logits(found, C, expected)


@pytest.mark.parametrize(
    "how", [{"mbstd_num_features": 0}, {"mbstd_group_size": 0}, {"mbstd_group_size": 2.5}]
)
def test_a_discriminator_that_compares_no_pictures_is_refused(tmp_path, how):
    variables = tensorflow_variables(is_labelled=False).items()
    content = files.tensorflow_pickle(made(), variables, ("D_main", how))
    with pytest.raises(ValueError, match=r"expected groups of some pictures, found .*, in D of"):
        foreign_discriminator(read_foreign(write(tmp_path, content)))


def test_layers_of_other_discriminators_are_refused_by_name(tmp_path):
    path = tmp_path / "network.pt"
    entries = rosinality_entries()
    entries["convs.1.attention.weight"] = entries["convs.0.1.bias"]
    files.write_rosinality(write_zip, path, {"d": entries}, {})
    with pytest.raises(ValueError, match=r"found 'convs\.1\.attention\.weight' in it, in D of"):
        foreign_discriminator(read_foreign(path))
    variables = tensorflow_variables(is_labelled=False)
    variables["16x16/FromRGB_lod0/weight"] = variables.pop("16x16/FromRGB/weight")
    content = files.tensorflow_pickle(made(), variables.items())
    with pytest.raises(ValueError, match=r"found '16x16/FromRGB_lod0/weight', in D of"):
        foreign_discriminator(read_foreign(write(tmp_path, content)))
