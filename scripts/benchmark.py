r"""Measures speed against named peers, in one run on one machine.

Examples (two to five minutes each on one core; --num_faces and --repeats make them shorter):

  python -m scripts.benchmark --suite=fit --out=out/benchmark
  python -m scripts.benchmark --suite=splat
  python -m scripts.benchmark --suite=mpm
  python -m scripts.benchmark --suite=prior --cores=2
  python -m scripts.benchmark --suite=stylegan
  python -m scripts.benchmark --suite=material --cores=2
  python -m scripts.benchmark --suite=nerf --nerfstudio_python=nerfstudio/bin/python
  python -m scripts.benchmark --suite=all --cores=2

Suites:
  fit     the Levenberg-Marquardt solve of one photo, compiled, at 10 modes and at all of the model,
          and of a batch of 256, against scipy's least_squares with a 2-point numerical Jacobian on
          the same energy (what the thesis ran), and against eos on the same model and points
          (`pip install eos-py`), at the 5 iterations of its default, at 50, and at 5 without the
          search for the contour. Beside the times stand the errors of both, and of the mean face:
          of the rotation (thesis Eq. 12) and of the vertices, means over the faces.
  splat   a picture of 10,000 Gaussians at 256 x 256 and of 100,000 at 512 x 512, nothing left out,
          and the same with all gradients, against the same arithmetic in PyTorch, tile by tile
          (`pip install torch`; without it the peer's column stays empty).
  mpm     a step of the material point simulator, of an elastic cube that falls on the ground,
          against the same in warp and taichi (`pip install warp-lang taichi`; each in a process of
          its own). The cubes must end at the same mean height, to a millimetre, or the run fails.
          The time per thousand particles from 2,000 to 200,000 on one grid: the same for all if
          growth is linear, but for the grid's own time, a row too. A step with its share of the
          gradient through 32, against warp's tape, and the memory for it.
  nerf    a step of a radiance field, 4096 rays of 64 samples, 16 tables of 2^16 and 2^19 entries,
          against nerfstudio's HashEncoding without CUDA and networks of the same widths. nerfstudio
          wants other packages than ours, so it has an environment of its own, of which
          --nerfstudio_python names the Python (`pip install --no-deps nerfstudio` beside torch,
          jaxtyping, rich and viser is enough). A whole step of the small preset's training, with 16
          samples a ray, against the half second that it may take.
  prior   a step of score distillation with the small prior: the clip of a scene, its derivative to
          the stiffness, and the force of eight noises; against the second that a step may take. A
          step of the prior's training.
  stylegan  pictures of 256 x 256 by StyleGAN2's synthesis (channels of half the official base),
          one and four at once, and with the gradient to the latents of all layers, against the
          official arithmetic in PyTorch (`pip install torch`): its pictures must equal ours to
          1e-3, or the run fails.

  material  how well a stiffness is learnt: held-out scenes of each family, asked for three bands
          from four starts, in decades (dec); a prior that is told nothing, steps of random sign
          and no step at all beside it. Fits to a film and a trajectory, from ten times too low
          and too high. Steps that a descent takes by other rules, in groups of frames, and with
          truncated derivatives. Not part of `all`: half an hour.

It writes benchmark.json, row by row as it goes, {"machine", "rows": [{"case", "ours", "peer",
"peer_value", "ratio", "unit"}]}, and prints the same as a table. A ratio is peer over ours: above
one, ours is faster, or nearer to the truth. Times are medians, in milliseconds of the clock (ms),
or of the processor's work, user and system, all threads together (CPU-ms); compile time, by the
clock, is a row of its own.
"""

import dataclasses
from collections.abc import Iterator

from absl import flags

from recon import fit
from render import files_io
from scripts.benchmarks import measuring
from scripts.benchmarks.fit_suite import FitSuite, fit_rows
from scripts.benchmarks.material_suite import MaterialSuite, material_rows
from scripts.benchmarks.mpm_suite import MpmSuite, mpm_rows
from scripts.benchmarks.nerf_suite import NerfSuite, nerf_rows
from scripts.benchmarks.prior_suite import PriorSuite, prior_rows
from scripts.benchmarks.splat_suite import SplatSuite, splat_rows
from scripts.benchmarks.stylegan_suite import StyleganSuite, stylegan_rows
from scripts.shell import command, stopping

_SUITES = "fit", "splat", "mpm", "nerf", "prior", "stylegan", "material", "all"
_SUITE = flags.DEFINE_enum("suite", "all", _SUITES, "What to measure.")
_CORES = flags.DEFINE_integer("cores", 1, "Cores to use, for all alike.", lower_bound=1)
_MODEL = flags.DEFINE_string("model", FitSuite.model, "Morphable model: default, or a file.")
_METHOD = flags.DEFINE_enum("method", FitSuite.method, list(fit.METHODS), "Method of the fit.")
_NUM_FACES = flags.DEFINE_integer(
    "num_faces", FitSuite.num_faces, "Faces that a time of the fit is the median of.", lower_bound=1
)
_PEER_FACES = flags.DEFINE_integer(
    "peer_faces", FitSuite.peer_faces, "Faces that the slow peer fits too.", lower_bound=1
)
_REPEATS = flags.DEFINE_integer(
    "repeats",
    SplatSuite.repeats,
    "Pictures or rollouts that a time is the median of.",
    lower_bound=1,
)
_SCENES = flags.DEFINE_integer(
    "scenes", MaterialSuite.scenes, "Held-out scenes whose stiffness is learnt.", lower_bound=1
)
_NERFSTUDIO = flags.DEFINE_string(
    "nerfstudio_python", None, "Python that has nerfstudio; this one, if it has, by default."
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the faces, the noise, the scenes and the particles."
)
_OUT = flags.DEFINE_string("out", "out/benchmark", "Folder for benchmark.json.")


def main() -> None:
    folder = command.writable_folder(_OUT.value)
    measuring.use_cores(_CORES.value)
    measuring.compile_anew()
    path = folder / "benchmark.json"
    machine, rows = measuring.machine(), []
    with stopping.keeping(lambda: f"{len(rows)} rows in {path}" if rows else ""):
        for row in _measured():
            rows.append(row)
            report = {"machine": machine, "rows": [dataclasses.asdict(row) for row in rows]}
            files_io.write_json(path, report)
    for row in rows:
        print(f"{row.case:<76} {row.ours:10.4g} {row.unit:<6}{_peer_text(row)}")
    ratios = [row.ratio for row in rows if row.ratio and row.unit.endswith("ms")]
    best = f"up to {max(ratios):.0f} times the speed of a peer" if ratios else "no peer installed"
    print(f"wrote {path}: {best}")


def _measured() -> Iterator[measuring.Row]:
    """Yields the rows as they are measured."""
    if _SUITE.value in ("fit", "all"):
        faces = _NUM_FACES.value, _PEER_FACES.value
        yield from fit_rows(FitSuite(_MODEL.value, _METHOD.value, *faces, _SEED.value))
    if _SUITE.value in ("splat", "all"):
        yield from splat_rows(SplatSuite(repeats=_REPEATS.value, seed=_SEED.value))
    if _SUITE.value in ("mpm", "all"):
        yield from mpm_rows(MpmSuite(repeats=_REPEATS.value, seed=_SEED.value))
    if _SUITE.value in ("nerf", "all"):
        peer = _NERFSTUDIO.value
        yield from nerf_rows(NerfSuite(repeats=_REPEATS.value, peer_python=peer, seed=_SEED.value))
    if _SUITE.value in ("prior", "all"):
        yield from prior_rows(PriorSuite(_REPEATS.value, seed=_SEED.value))
    if _SUITE.value in ("stylegan", "all"):
        yield from stylegan_rows(StyleganSuite(repeats=_REPEATS.value, seed=_SEED.value))
    if _SUITE.value == "material":
        yield from material_rows(MaterialSuite(_SCENES.value, seed=_SEED.value))


def _peer_text(row: measuring.Row) -> str:
    if row.peer is None:
        return ""
    if row.peer_value is None:
        return f"  {row.peer}: not installed"
    return f"  {row.peer} {row.peer_value:.4g}, {row.ratio:.3g}x"


if __name__ == "__main__":
    command.run(main)
