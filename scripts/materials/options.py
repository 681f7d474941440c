"""What `learn_material` does where its user does not say: by preset, kind of prior, experiment."""

import dataclasses
from typing import NamedTuple

PRIORS = ("modelscope", "svd", "reference")  # before a colon; any other is a small prior


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a prior is asked, and how its answers are followed."""

    frames: int  # T, key frames of a clip
    groups: int = 1  # M: every M-th of the simulated frames is a key frame
    truncate: str = "all"  # of `likeness.TRUNCATIONS`
    iterations: int = 40
    rule: str = "log"  # of `material_training.RULES`
    rate: float = 0.12  # decades of a first step
    guidance: float = 1.0  # classifier-free, one is without
    pairs: int = 1  # of antithetic noises
    weight: str = "sigma"  # of `guidance.WEIGHTS`
    sigma_range: tuple[float, float] = (4.0, 16.0)
    resolution: int = 32  # pixels per side of a clip


_CHAIN = (0.138, 13.0)  # steps 20 to 980 of the chain that ModelScope's network was trained on
# The paper: M groups of T frames, one substep before each, 50 iterations, guidance "100" in a form
# that adds it to the condition's own weight of one.
_PAPER = {"truncate": "step", "iterations": 50, "rule": "paper", "guidance": 101.0, "weight": "sds"}
SETTINGS = {
    # Chosen on twelve held-out scenes a family. Lower noise than 4 sees details that the small
    # prior cannot draw; much guidance throws searches off.
    ("default", "motion"): Settings(8, pairs=8, guidance=2.0, sigma_range=(4.0, 8.0)),
    ("default", "modelscope"): Settings(
        16, guidance=8.0, pairs=2, sigma_range=(2.0, 13.0), resolution=256
    ),
    ("default", "svd"): Settings(
        14, guidance=3.0, pairs=2, sigma_range=(2.0, 30.0), resolution=256
    ),
    ("default", "reference"): Settings(12, resolution=64),
    ("paper", "motion"): Settings(8, 8, **_PAPER),
    ("paper", "modelscope"): Settings(16, 8, sigma_range=_CHAIN, resolution=256, **_PAPER),
    ("paper", "svd"): Settings(25, 3, sigma_range=_CHAIN, resolution=256, **_PAPER),
    ("paper", "reference"): Settings(12, resolution=64),
}
PRESETS = ("default", "paper")


class Experiment(NamedTuple):
    """A scene of the paper's kind, with all that it takes."""

    splats: str
    scene: str
    prior: str
    prompt: str
    start: str = "0.1,10"  # times the scene's own stiffness


EXPERIMENTS = {
    "plant": Experiment("plant", "plant_swaying", "stalk", "soft"),
    "ball": Experiment("ball", "ball_bounce", "drop", "soft"),
    "cord": Experiment("cord", "cord_hanging", "stalk", "rubber"),
}


def kind_of(prior: str) -> tuple[str, str]:
    """Returns which kind of prior a text names, and where it is.

    Raises:
      ValueError: when a kind is named, and nothing after its colon.
    """
    kind, _, place = prior.partition(":")
    if kind not in PRIORS:
        return "motion", prior
    if not place:
        what = "VIDEO" if kind == "reference" else "DIR"
        raise ValueError(f"expected --prior={kind}:{what}, found {prior}")
    return kind, place
