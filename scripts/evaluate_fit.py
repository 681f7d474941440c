r"""Measures how well each method reconstructs faces with known answers, and draws the figures.

First it makes experiment files: faces, the poses they are seen in, and the 68 points that a
detector finds in each. Then every method fits them, and is scored against the truth. Into --out go

  report.md              the table, as one reads it
  report.json            the same and more, for programs
  by_angle.png           errors against the angle, each method a line
  boxes.png              how the errors of each method are spread
  by_eta.png             errors against the weight of the prior (with --etas)
  overfitting.png        a face fitted with far too little of it, beside the truth
  detector.npz           what dlib is off by on these faces, for --errors on others
  cumulative.png         how much of the scans is how near to the fits (of meshes)
  experiments/           the faces: .npz files that others can use
  results/               what each method made of each face, and its scores

A run that is stopped goes on where it was when the same command is given again; more methods or
etas can be added later. Examples, the tables of the thesis first:

  python -m scripts.evaluate_fit --out=out/table1
  python -m scripts.evaluate_fit --components=all --out=out/table2
  python -m scripts.evaluate_fit --components=all --held_out=5 --out=out/table3
  python -m scripts.evaluate_fit --yaw=-60:60:10 --out=out/wide
  python -m scripts.evaluate_fit --noise_px=8,10 --noise_deg=6 --pitch=-10:10 --out=out/rough
  python -m scripts.evaluate_fit --detector=dlib --out=out/dlib
  python -m scripts.evaluate_fit --model=model2019_face12.h5 --truth=scans/*.ply --out=out/scans
  python -m scripts.evaluate_fit --etas=0.001,0.01,0.1,1,10,100 --out=out/table1
  python -m scripts.evaluate_fit --tune --model=default,ict --out=out/tune

Faces (--truth): `model` draws the coefficients from the model's prior; with --held_out=5 each fifth
mode is kept from the methods, so that no fit can be exact. Or meshes of any topology, in any unit,
turned and shifted at will: a fit is laid onto the mesh by a similarity, and scored by the distances
of its points within 95 mm of the tip of the nose (as the NoW benchmark does), and once more in its
own size. Where the mesh has a face, dlib tells; only dlib can look at meshes that have other
vertices than the model's. With the model's own they are compared point by point, too.

dlib looks at random people: the default head's, with skins and hair of its own; other models are
painted with portraits of such people.

Detectors: `silhouette` is simulated: the contour lies on the outline of the visible face, slides
along it, inner points that the head covers move to the edge of what covers them. `exact` is the
same without noise, and sees through the head. `dlib` is the real one, on pictures of the faces.

Angles: low:high:step is a sweep, of which every combination is a view; low:high draws at random
for each view; or list the values with commas.

Exit status: 0 done; 2 bad input; 1 another failure; 130 or 143 stopped by Ctrl-C or SIGTERM.
"""

import dataclasses
import pathlib
import time

from absl import flags

from recon import evaluate, fit
from recon.evaluation import methods as methods_lib
from recon.evaluation import protocol as protocol_lib
from recon.evaluation.detector import DetectorConfig
from recon.evaluation.protocol import Protocol
from scripts.evaluation import figures, flag_texts, tuning
from scripts.evaluation import report as report_lib
from scripts.shell import command, stopping

_PROTOCOL = Protocol()
_NOISE = DetectorConfig()
_METHODS = (evaluate.MEAN_FACE, *("fixed", "inner", "chain", "spline", "robust"))

_MODEL = flags.DEFINE_list(
    "model", [_PROTOCOL.model], "'default', or the file of a model; for --tune also several."
)
_OUT = flags.DEFINE_string("out", "out/evaluate_fit", "Folder to write.")
_FACES = flags.DEFINE_integer("faces", _PROTOCOL.num_faces, "Random faces.", lower_bound=1)
_COMPONENTS = flags.DEFINE_string(
    "components",
    str(_PROTOCOL.components),
    "Modes that faces have and methods fit, or all. Beyond the model's own they are made up.",
)
_TRUTH = flags.DEFINE_list("truth", ["model"], "model, or meshes (.ply, .obj, .glb; * works).")
_HELD_OUT = flags.DEFINE_integer(
    "held_out", 0, "Keep each so-many-th mode from the methods; 0 keeps none.", 0
)
_YAW = flags.DEFINE_string("yaw", "-30:30:10", "Degrees; see above.")
_PITCH = flags.DEFINE_string("pitch", "0", "Degrees; see above.")
_ROLL = flags.DEFINE_string("roll", "0", "Degrees; see above.")
_METHOD_LIST = flags.DEFINE_list("methods", list(_METHODS), "Rows of the tables.")
_DETECTOR = flags.DEFINE_enum(
    "detector", _PROTOCOL.detector, ["exact", "silhouette", "dlib"], "See above."
)
_NOISE_PX = flags.DEFINE_list(
    "noise_px", ["3"], "Noise of silhouette: pixels, of all points or of inner,contour."
)
_NOISE_DEG = flags.DEFINE_float(
    "noise_deg", _NOISE.sliding_deg, "How far contour points slide along the outline.", 0.0, 90.0
)
_OUTLIERS = flags.DEFINE_float(
    "outliers", 0.0, f"Share of points that are {_NOISE.outlier_px:g} pixels off.", 0.0, 1.0
)
_HIDE = flags.DEFINE_bool(
    "hide", _NOISE.hides, "Silhouette: inner points that the head covers are moved as above."
)
_KNOWN_SCALE = flags.DEFINE_bool(
    "known_scale", _PROTOCOL.knows_scale, "Tell the methods the scale, as the thesis does."
)
_PRIOR = flags.DEFINE_enum(
    "prior", _PROTOCOL.prior, ["model", "people"], "Which faces the methods hold to be likely."
)
_ERRORS = flags.DEFINE_string(
    "errors",
    _PROTOCOL.errors,
    "Where the methods know that the detector finds landmarks: a detector.npz of other faces of "
    "this model, 'shipped' for what reconstruct knows, or 'none'.",
)
_KNOWN_NOISE = flags.DEFINE_bool(
    "known_noise",
    _PROTOCOL.knows_noise,
    "With --errors: its noise and how that goes together, too.",
)
_ETAS = flags.DEFINE_list("etas", [], "Weights of the prior to try each method with.")
_TOGETHER = flags.DEFINE_bool(
    "together", False, "Also fit all views of a face at once, as photos of one person."
)
_TUNE = flags.DEFINE_bool(
    "tune", False, "Search the weights of --tune_method, on faces and modes of its own."
)
_TUNE_METHOD = flags.DEFINE_enum("tune_method", "robust", list(fit.METHODS), "See --tune.")
_SEED = flags.DEFINE_integer("seed", 0, "Of faces, poses, noise and light.")


def main() -> None:
    folder = command.writable_folder(_OUT.value)
    protocol = read_protocol()
    etas = flag_texts.read_etas(_ETAS.value)
    names = [name.strip() for name in _METHOD_LIST.value]
    unknown = sorted(set(names) - set(_METHODS))
    if unknown or not names:
        raise ValueError(
            f"expected --methods out of {', '.join(_METHODS)}, found {', '.join(unknown) or 'none'}"
        )
    if len(_MODEL.value) > 1 and not _TUNE.value:
        raise ValueError(f"expected one --model but with --tune, found {len(_MODEL.value)}")
    rest = f"what {folder} holds (the same command goes on from there)"
    with stopping.keeping(lambda: rest if folder.exists() else ""):
        if _TUNE.value:
            tuning.tune(folder, protocol, _MODEL.value, _TUNE_METHOD.value)
        else:
            run_protocol(folder, protocol, names, etas)


def run_protocol(
    folder: pathlib.Path, protocol: Protocol, names: list[str], etas: list[float]
) -> None:
    """Makes the experiments, runs the methods, and writes tables and figures."""
    begin = time.perf_counter()
    rows = methods_lib.rows(names)
    if "fixed" in names and figures.OVERFITTED not in etas:
        rows += methods_lib.rows(["fixed"], figures.OVERFITTED)
    fitted = [name for name in names if name != evaluate.MEAN_FACE]
    if _TOGETHER.value:
        rows += methods_lib.rows(fitted, shares_identity=True)
    sweep = [row for eta in etas for row in methods_lib.rows(fitted, eta)]
    subject = protocol_lib.load_subject(protocol, command.progress)
    for note in subject.notes:
        command.say(note)
    protocol_lib.check_settings(folder, dataclasses.asdict(protocol))
    protocol_lib.make_experiments(folder, protocol, subject, command.progress)
    errors = None
    if protocol.detector == "dlib" and not protocol.meshes:
        errors = protocol_lib.write_detector_errors(folder, subject)
    for row in rows + sweep:
        methods_lib.run_method(folder, row, protocol, subject, command.progress)
    scores = {row.name: methods_lib.collect(folder, row) for row in rows + sweep}
    report = report_lib.make_report(folder, protocol, rows, scores, errors)
    report_lib.write_report(folder, report)
    with command.progress("figures"):
        figures.draw_figures(folder, subject, protocol, names, etas, scores)
    seconds = time.perf_counter() - begin
    command.say(f"wrote {folder} in {seconds:.0f} s: {report_lib.summary(report)}")


def read_protocol() -> Protocol:
    """Turns the flags into a protocol.

    Raises:
      ValueError: a flag that cannot be read.
    """
    inner_px, contour_px = flag_texts.read_noise(_NOISE_PX.value)
    meshes = flag_texts.find_meshes(_TRUTH.value)
    return Protocol(
        model=_MODEL.value[0],
        num_faces=len(meshes) or _FACES.value,
        components=flag_texts.read_components(_COMPONENTS.value),
        held_out=_HELD_OUT.value,
        meshes=meshes,
        yaw=flag_texts.read_angles(_YAW.value, "--yaw"),
        pitch=flag_texts.read_angles(_PITCH.value, "--pitch"),
        roll=flag_texts.read_angles(_ROLL.value, "--roll"),
        detector=_DETECTOR.value,
        noise=DetectorConfig(
            inner_px=inner_px,
            contour_px=contour_px,
            sliding_deg=_NOISE_DEG.value,
            outlier_share=_OUTLIERS.value,
            hides=_HIDE.value,
        ),
        knows_scale=_KNOWN_SCALE.value,
        prior=_PRIOR.value,
        errors=_ERRORS.value,
        knows_noise=_KNOWN_NOISE.value,
        seed=_SEED.value,
    )


if __name__ == "__main__":
    command.run(main)
