"""Files of StyleGAN2 as its projects write them, instruction by instruction, of any parameters.

Parameters are given in our layout; the layouts and names of the files are spelt out here once more.
"""

import pickle
import struct
import sys
import types
from unittest import mock

import numpy as np
from torch_files import KINDS, ORDERED_DICT, call, constant, named, storage, stream_bytes, tensor

BLUR = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32) / 64
ROOT = np.sqrt(2.0)  # a number of NumPy, as in the files


def listed(entries):
    """A dict whose values are instructions."""
    items = b"".join(constant(name) + value for name, value in entries.items())
    return b"}(" + items + b"u"


def raw(content):
    return b"B" + struct.pack("<I", len(content)) + content


def number(value, core="_core"):
    """A number of NumPy 2, or with core="core" of NumPy 1."""
    written = pickle.dumps(np.float64(value), 3)[2:-1]
    assert b"cnumpy._core.multiarray" in written
    return written.replace(b"cnumpy._core.", f"cnumpy.{core}.".encode())


def block(array, claimed=None):
    """A stream of torch.save with one storage, which may claim another size than it has."""
    kind, size = KINDS[array.dtype], array.size if claimed is None else claimed
    instructions = b"\x80\x02" + storage(kind, "94", size) + b"."
    return stream_bytes(instructions, {"94": array.tobytes()}, array.itemsize)


def tensor_of(array, content=None, shape=None, strides=None):
    shape = array.shape if shape is None else shape
    if strides is None:
        strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
    content = block(np.ascontiguousarray(array)) if content is None else content
    loaded = call(named("torch.storage", "_load_from_bytes"), raw(content))
    return tensor(loaded, shape, strides)


def parameter(array):
    ending = constant(True), call(ORDERED_DICT)
    return call(named("torch._utils", "_rebuild_parameter"), tensor_of(array), *ending)


def described(entries):
    """An object with its source, which the official reader would execute."""
    whole = {"type": constant("class"), "version": constant(6)}
    whole |= {"module_src": constant("raise SystemExit('executed')")} | entries
    return call(named("torch_utils.persistence", "_reconstruct_persistent_obj"), listed(whole))


def module(kind, parameters=None, buffers=None, parts=None, **settings):
    """A module; arrays in torch's layout, parts as instructions, settings as they are or such."""
    arrays = {name: parameter(array) for name, array in (parameters or {}).items()}
    fixed = {name: tensor_of(array) for name, array in (buffers or {}).items()}
    own = {
        name: value if isinstance(value, bytes) else constant(value)
        for name, value in settings.items()
    }
    state = {
        "training": constant(False),
        "_parameters": listed(arrays),
        "_buffers": listed(fixed),
        "_non_persistent_buffers_set": call(named("builtins", "set"), constant([])),
        "_modules": listed(parts or {}),
        "_init_kwargs": call(named("dnnlib.util", "EasyDict")),
    }
    return described({"class_name": constant(kind), "state": listed(state | own)})


class Official:
    """Writes networks of given parameters, every setting of a layer as the official code has it."""

    def __init__(self, core="_core", clamp=256, dtype=np.float32, **changed):
        self.core, self.clamp, self.dtype = core, clamp, dtype
        self.changed = changed  # setting -> what is written instead, or None to leave it out

    def module(self, kind, parameters=None, buffers=None, parts=None, **settings):
        settings |= {k: v for k, v in self.changed.items() if k in settings}
        parameters = {k: np.asarray(v, self.dtype) for k, v in (parameters or {}).items()}
        return module(kind, parameters, buffers, parts, **settings)

    def number(self, value):
        return number(value, self.core)

    def dense(self, layer, activation="linear", rate=1.0):
        weight = np.asarray(layer["weight"]).T
        gain = self.number(rate / np.sqrt(weight.shape[1]))
        settings = {"activation": activation, "weight_gain": gain, "bias_gain": rate}
        return self.module(
            "FullyConnectedLayer", {"weight": weight, "bias": layer["bias"]}, **settings
        )

    def mapping(self, layers, rate, buffers=None):
        parts = {
            name: self.dense(layer) if name == "embed" else self.dense(layer, "lrelu", rate)
            for name, layer in layers.items()
        }
        return self.module("MappingNetwork", buffers=buffers, parts=parts, num_layers=8)

    def styled(self, layer, noise, up):
        parameters = {
            "weight": np.asarray(layer["weight"]).transpose(3, 2, 0, 1),
            "bias": layer["bias"],
            "noise_strength": layer["noise_strength"],
        }
        return self.module(
            "SynthesisLayer",
            parameters,
            {"noise_const": np.asarray(noise), "resample_filter": BLUR},
            {"affine": self.dense(layer["affine"])},
            **{"up": up, "use_noise": True, "activation": "lrelu", "conv_clamp": self.clamp},
            act_gain=self.number(ROOT),
        )

    def painter(self, layer):
        weight = np.asarray(layer["weight"]).transpose(3, 2, 0, 1)
        gain = self.number(1 / np.sqrt(weight.shape[1]))
        parameters = {"weight": weight, "bias": layer["bias"]}
        affine = {"affine": self.dense(layer["affine"])}
        return self.module(
            "ToRGBLayer", parameters, None, affine, conv_clamp=self.clamp, weight_gain=gain
        )

    def generator(self, made):
        blocks = {}
        for name, block in made.params["synthesis"].items():
            noise = made.buffers["noise"][name]
            parts = {
                layer: self.styled(block[layer], noise[layer], 2 if layer == "conv0" else 1)
                for layer in noise
            }
            const = (
                {"const": np.moveaxis(np.asarray(block["const"]), -1, 0)} if name == "b4" else {}
            )
            parts["torgb"] = self.painter(block["torgb"])
            blocks[name] = self.module(
                "SynthesisBlock", const, {"resample_filter": BLUR}, parts, architecture="skip"
            )
        average = {"w_avg": np.asarray(made.buffers["w_avg"])}
        parts = {
            "synthesis": self.module("SynthesisNetwork", parts=blocks),
            "mapping": self.mapping(made.params["mapping"], made.config.mapping_rate, average),
        }
        return self.module("Generator", parts=parts, z_dim=made.config.z_dim)

    def plain(self, layer, activation="lrelu", down=1):
        parameters = {"weight": np.asarray(layer["weight"]).transpose(3, 2, 0, 1)}
        parameters |= {"bias": layer["bias"]} if "bias" in layer else {}
        is_clamped = activation == "lrelu"
        return self.module(
            "Conv2dLayer",
            parameters,
            {"resample_filter": BLUR},
            **{"activation": activation, "down": down, "up": 1},
            conv_clamp=self.clamp if is_clamped else None,
            act_gain=self.number(ROOT if is_clamped else 1.0),
        )

    def discriminator(self, params, config):
        parts = {}
        for name, block in params.items():
            if name == "mapping":
                parts[name] = self.mapping(block, config.mapping_rate)
            elif name == "b4":
                mbstd = self.module(
                    "MinibatchStdLayer",
                    group_size=config.group_size,
                    num_channels=config.group_channels,
                )
                layers = {"mbstd": mbstd, "conv": self.plain(block["conv"])}
                layers |= {"fc": self.dense(block["fc"], "lrelu"), "out": self.dense(block["out"])}
                parts[name] = self.module("DiscriminatorEpilogue", parts=layers)
            else:
                layers = {
                    layer: self.plain(
                        block[layer],
                        "linear" if layer == "skip" else "lrelu",
                        2 if layer in ("skip", "conv1") else 1,
                    )
                    for layer in block
                }
                parts[name] = self.module("DiscriminatorBlock", parts=layers, architecture="resnet")
        return self.module("Discriminator", parts=parts, c_dim=config.c_dim)


def pickled(networks):
    """A whole file of networks, given as instructions."""
    return b"\x80\x03" + listed(networks | {"augment_pipe": b"N"}) + b"."


def rosinality_names(params, noise, prefix=""):
    """A generator's arrays as rosinality's code names them."""
    entries = {}

    def torch_weight(layer):
        return np.asarray(layer["weight"]).transpose(3, 2, 0, 1)[None]

    def add(name, layer):
        entries[f"{name}.conv.weight"] = torch_weight(layer)
        entries[f"{name}.conv.modulation.weight"] = np.asarray(layer["affine"]["weight"]).T
        entries[f"{name}.conv.modulation.bias"] = layer["affine"]["bias"]
        if "noise_strength" in layer:
            entries[f"{name}.noise.weight"] = np.asarray(layer["noise_strength"])[None]
            entries[f"{name}.activate.bias"] = layer["bias"]
        else:
            entries[f"{name}.bias"] = np.asarray(layer["bias"])[None, :, None, None]

    for i, layer in enumerate(params["mapping"].values(), 1):
        entries[f"style.{i}.weight"] = np.asarray(layer["weight"]).T
        entries[f"style.{i}.bias"] = layer["bias"]
    synthesis = params["synthesis"]
    entries["input.input"] = np.moveaxis(np.asarray(synthesis["b4"]["const"]), -1, 0)[None]
    add("conv1", synthesis["b4"]["conv1"])
    add("to_rgb1", synthesis["b4"]["torgb"])
    entries["noises.noise_0"] = np.asarray(noise["b4"]["conv1"])[None, None]
    for i, side in enumerate(4 * 2 ** np.arange(1, len(synthesis))):
        entries[f"convs.{2 * i}.conv.blur.kernel"] = 4 * BLUR
        for j, layer in enumerate(("conv0", "conv1")):
            add(f"convs.{2 * i + j}", synthesis[f"b{side}"][layer])
            picture = np.asarray(noise[f"b{side}"][layer])
            entries[f"noises.noise_{2 * i + j + 1}"] = picture[None, None]
        add(f"to_rgbs.{i}", synthesis[f"b{side}"]["torgb"])
    return {f"{prefix}{name}": np.float32(array) for name, array in entries.items()}


def write_rosinality(write, path, groups, tensors):
    """Writes a checkpoint of a training: networks, tensors beside them, and what nobody wants."""
    blocks = {}

    def stored(array):
        key = str(len(blocks))
        blocks[key] = np.ascontiguousarray(array).tobytes()
        strides = tuple(int(np.prod(array.shape[i + 1 :])) for i in range(array.ndim))
        return tensor(storage(KINDS[array.dtype], key, array.size), array.shape, strides)

    entries = {
        name: listed({inner: stored(array) for inner, array in arrays.items()})
        for name, arrays in groups.items()
    }
    entries["g_optim"] = listed({"state": listed({"0": stored(np.ones(3, np.float32))})})
    entries["args"] = named("argparse", "Namespace") + b")\x81" + constant({"size": 8}) + b"b"
    entries |= {name: stored(array) for name, array in tensors.items()}
    write(path, b"\x80\x02" + listed(entries) + b".", blocks)


def tensorflow_pickle(made, judges=(), judge=("D_stylegan2", {}), **kwargs):
    """A tuple of three networks, as TensorFlow's code writes them; G and G_ema are the same.

    Variables of the discriminator are pairs; `judge` is the function that makes it and its
    keywords, of which a file has only those that were given.
    """
    network, util = types.ModuleType("dnnlib.tflib.network"), types.ModuleType("dnnlib.util")

    class Network:
        def __init__(self, state):
            self.state = state

        def __getstate__(self):
            return self.state

    class EasyDict(dict):
        pass

    for cls, home in ((Network, network), (EasyDict, util)):
        cls.__module__, cls.__qualname__ = home.__name__, cls.__name__
        setattr(home, cls.__name__, cls)

    def state(function, variables, components=None, kwargs=None):
        return Network(
            {
                "version": 4,
                "name": function,
                "static_kwargs": EasyDict(kwargs or {}),
                "components": EasyDict(components or {}),
                "build_module_src": "raise SystemExit('executed')",
                "build_func_name": function,
                "variables": list(variables),
            }
        )

    mapping, synthesis = tensorflow_variables(made)
    average = [("lod", np.float32(0.0)), ("dlatent_avg", np.asarray(made.buffers["w_avg"]))]
    parts = {
        "mapping": state("G_mapping", mapping.items()),
        "synthesis": state("G_synthesis", synthesis.items()),
    }
    whole = state("G_main", average, parts, {"resample_kernel": [1, 3, 3, 1]} | kwargs)
    critic = state(judge[0], judges, None, judge[1])
    stubs = {
        "dnnlib": types.ModuleType("dnnlib"),
        "dnnlib.tflib": types.ModuleType("dnnlib.tflib"),
        network.__name__: network,
        util.__name__: util,
    }
    with mock.patch.dict(sys.modules, stubs):
        return pickle.dumps((whole, critic, whole), 4)


def tensorflow_variables(made):
    """A generator's arrays as TensorFlow's code names and lays them out, by component."""
    params, noise = made.params, made.buffers["noise"]
    mapping = {
        f"{name.replace('embed', 'LabelEmbed').replace('fc', 'Dense')}/{leaf}": np.asarray(array)
        for name, layer in params["mapping"].items()
        for leaf, array in layer.items()
    }
    synthesis = {
        "4x4/Const/const": np.moveaxis(np.asarray(params["synthesis"]["b4"]["const"]), -1, 0)[None]
    }
    index = 0
    for block, layers in params["synthesis"].items():
        side = block[1:]
        for name in ("conv0", "conv1", "torgb"):
            if name not in layers:
                continue
            theirs = {"conv0": "Conv0_up", "conv1": "Conv" if side == "4" else "Conv1"}
            start, layer = f"{side}x{side}/{theirs.get(name, 'ToRGB')}", layers[name]
            weight = np.asarray(layer["weight"])
            synthesis[f"{start}/weight"] = weight[::-1, ::-1] if name == "conv0" else weight
            synthesis[f"{start}/bias"] = np.asarray(layer["bias"])
            synthesis[f"{start}/mod_weight"] = np.asarray(layer["affine"]["weight"])
            synthesis[f"{start}/mod_bias"] = np.asarray(layer["affine"]["bias"]) - np.float32(1.0)
            if name != "torgb":
                synthesis[f"{start}/noise_strength"] = np.asarray(layer["noise_strength"])
                synthesis[f"noise{index}"] = np.asarray(noise[block][name])[None, None]
                index += 1
    return mapping, synthesis
