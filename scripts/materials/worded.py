"""The stiffness that words ask of splats, several words from one set of clips."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from models.diffusion.motion_prior_io import load_prior
from scripts.materials import answer, judges, options, search
from scripts.materials.quest import suited_family
from scripts.shell import stopping
from scripts.shell.shown import SplatsShown
from sim.coarse import make_coarse
from sim.families.likeness import make_likeness, stand_on_foot
from sim.scene import SceneFile
from sim.simulation import make_simulation


def stiffness_by_word(
    scene: SceneFile,
    splats: SplatsShown,
    words: Sequence[str],
    how: dict[str, Any],
    num_values: int = 13,
) -> dict[str, dict[str, Any]]:
    """Returns for each word what material.json says of a search, see `answer.summarize`.

    Args:
      scene: says matter and box; the splats are held at their foot and hit once instead of what it
        does to them.
      splats: in their own space.
      words: of the small prior.
      how: further arguments of `make_simulation`.
      num_values: stiffnesses that are simulated.

    Raises:
      ValueError: for a word that the prior does not know, or a scene that does not fit.
      command.WorkFailed: when the scene leaves its box.
    """
    ready = make_coarse(scene, splats.gaussians, **how)
    family = suited_family(ready)
    ready = make_simulation(stand_on_foot(ready, family), splats.gaussians, **how)
    likeness, key = make_likeness(ready, family), jax.random.key(how["seed"])
    prior, settings = load_prior(family.name), options.SETTINGS["default", "motion"]
    with stopping.noted() as stop:
        labels = np.linspace(*family.log10_range, num_values)
        scan = search.scan_scene(likeness, labels, stop)
        stop.act()
    found = {}
    for word in words:
        judge = judges.small_judge(key, prior, word, settings)
        curve = search.find(judge, scan, likeness.shift)
        found[word] = answer.summarize(key, curve, family.log10_range)
    return found
