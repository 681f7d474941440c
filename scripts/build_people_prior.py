"""Builds recon/data/people_prior.npz: which of the default head's identities real people have.

    python -m scripts.build_people_prior --model=ICT/FaceXModel

The model is one that was learnt from scans of people; ICT-FaceKit Light (MIT) is what the file that
ships was made of. About 20 s.
"""

import pathlib

import numpy as np
from absl import flags

from recon import assets
from recon.default_head.people_prior import people_prior
from scripts.shell import command

_MODEL = flags.DEFINE_string("model", None, "A model of people.", required=True)
_OUT = flags.DEFINE_string("out", "recon/data/people_prior.npz", "File to write.")


def main() -> None:
    out = pathlib.Path(_OUT.value)
    command.writable_folder(out.parent)
    people = assets.load_model(_MODEL.value)
    with command.progress("laying the default head onto people"):
        prior = people_prior(assets.load_model("default"), people)
    assets.save_prior(out, prior)
    spread = np.sqrt(np.diag(prior.covariance)).mean()
    away = np.sqrt((prior.mean**2).mean())
    command.say(
        f"wrote {out}: people are {away:.2f} standard deviations from the mean head, and differ by "
        f"{spread:.2f}"
    )


if __name__ == "__main__":
    command.run(main)
