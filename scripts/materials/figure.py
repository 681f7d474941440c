"""force.png: where a scene's stiffness is pushed, and how much of it can be seen."""

import pathlib

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from render import files_io
from scripts.materials.answer import Findings, least_visible
from sim import identify

_INK, _NULL, _WANTED, _FOUND = "#2e4057", "#8a8f98", "#edae49", "#d1495b"


def draw_force(path: pathlib.Path, found: Findings, label: float, prompt: str) -> None:
    """Draws the force along log10 E, that of a prior that is told nothing, and |dV/dl| below."""
    figure = Figure(figsize=(7.5, 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, sharex=True, height_ratios=(2, 1))
    x = found.curve.log10_modulus - found.shift
    size = np.abs(found.curve.mean).max()
    spread = found.curve.forces.std(1) / size
    above.axhline(0.0, color="black", linewidth=0.6)
    above.fill_between(
        x,
        found.curve.mean / size - spread,
        found.curve.mean / size + spread,
        color=_INK,
        alpha=0.15,
    )
    above.plot(x, found.curve.mean / size, color=_INK, label=f"told “{prompt}”")
    above.plot(x, found.null_curve.mean / size, color=_NULL, linestyle=":", label="told nothing")
    if found.wanted is not None:
        above.axvline(found.wanted - found.shift, color=_WANTED, label="middle of the band")
    above.axvline(label - found.shift, color=_FOUND, label="found")
    above.set_ylabel("force: stiffer above, softer below")
    above.legend()
    grid = found.scan.log10_modulus - found.shift
    below.plot(grid, identify.identifiability(found.scan), color=_INK)
    below.axhline(least_visible(found.scan), color=_NULL, linestyle=":")
    below.set_ylim(bottom=0.0)
    below.set_ylabel("|d video / d log10 E|")
    below.set_xlabel("log10 of Young's modulus, Pa")
    with files_io.replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
