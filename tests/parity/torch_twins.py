"""What diffusers' networks, filled as ours are, compute of the same inputs; channels last.

  python tests/parity/torch_twins.py

writes it to tests/golden/video_networks.npz, for the tests that run without torch.
"""

import pathlib
import sys

import diffusers
import numpy as np
import torch

if __name__ == "__main__":
    sys.path[:0] = map(str, pathlib.Path(__file__).parents[1:3])
import tiny_networks as tiny


def filled(settings: dict, shapes: dict) -> torch.nn.Module:
    """Makes the network of some settings with the entries that ours has.

    Names and shapes have to agree, else torch refuses them.
    """
    network = getattr(diffusers, settings["_class_name"]).from_config(settings)
    entries = tiny.entries_of(shapes)
    network.load_state_dict({name: torch.from_numpy(entry) for name, entry in entries.items()})
    return network.eval()


@torch.no_grad()
def modelscope(x: np.ndarray, t: np.ndarray, text: np.ndarray) -> dict[str, np.ndarray]:
    network = filled(tiny.MODELSCOPE, tiny.modelscope_unet().param_shapes())
    noise = network(_move(x, -1, 1), torch.from_numpy(t), torch.from_numpy(text)).sample
    return {"modelscope": np.moveaxis(noise.numpy(), 1, -1)}


@torch.no_grad()
def svd(x: np.ndarray, *conditions: np.ndarray) -> dict[str, np.ndarray]:
    network = filled(tiny.SVD, tiny.svd_unet().param_shapes())
    v = network(_move(x, -1, 2), *map(torch.from_numpy, conditions)).sample
    return {"svd": np.moveaxis(v.numpy(), 2, -1)}


def vae(pictures: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
    return _autoencoder("vae", tiny.VAE, tiny.vae(), pictures, z)


def video_vae(pictures: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
    return _autoencoder("video_vae", tiny.VIDEO_VAE, tiny.video_vae(), pictures, z)


@torch.no_grad()
def _autoencoder(name, settings, ours, pictures, z):
    network = filled(settings, ours.param_shapes())
    batch, frames = z.shape[:2]

    def frames_of(array):
        return _move(array.reshape(-1, *array.shape[2:]), -1, 1)

    def clips_of(tensor):
        array = np.moveaxis(tensor.numpy(), 1, -1)
        return array.reshape(batch, frames, *array.shape[1:])

    posterior = network.encode(frames_of(pictures)).latent_dist
    told = {} if name == "vae" else {"num_frames": frames}
    return {
        f"{name}_mean": clips_of(posterior.mean),
        f"{name}_log_variance": clips_of(posterior.logvar),
        f"{name}_decoded": clips_of(network.decode(frames_of(z), **told).sample),
    }


def _move(array: np.ndarray, source: int, target: int) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, source, target)))


def main() -> None:
    outputs = modelscope(*tiny.modelscope_inputs()) | svd(*tiny.svd_inputs())
    outputs |= vae(*tiny.vae_inputs()) | video_vae(*tiny.vae_inputs())
    np.savez_compressed(tiny.GOLDEN, **outputs)


if __name__ == "__main__":
    main()
