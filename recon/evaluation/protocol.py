"""The protocol of `evaluate_fit`: which faces are seen how, and the files that hold them.

A folder of the evaluation holds

  settings.json                 what the experiments and the methods are
  experiments/face_000.npz      a face, its poses, the points found (see experiments.py)
  results/METHOD/face_000.npz   what a method made of them, and its scores (see methods.py)

Files that are there are not made again: what was stopped resumes.

Axes: F faces, A views of a face, k modes that the methods fit.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from recon import assets, fit, landmarks, morphable
from recon.evaluation import appearance, detector, experiments, portraits
from recon.evaluation.appearance import Appearance
from recon.evaluation.detector import DetectorConfig, FaceOutline
from recon.evaluation.detector_errors import DetectorErrors, measure_errors
from recon.evaluation.detector_errors_io import read_errors, shipped_errors, write_errors
from recon.evaluation.experiments import Angles, Experiment
from recon.evaluation.experiments_io import read_experiment, write_experiment
from recon.evaluation.progress import Progress, silent
from recon.evaluation.scan_landmarks import scan_landmarks
from recon.evaluation.scans import Scan, place_scan, shape_landmarks
from recon.looks.studio import Studio
from recon.morphable import MorphableModel
from recon.pose import Pose
from recon.residuals import FitModel
from render import files_io, mesh_io

_THESIS_YAWS = Angles(tuple(float(yaw) for yaw in range(-30, 31, 10)))
_UPRIGHT = Angles()
_NOISE = DetectorConfig()
_NUM_PAINTED = 8  # portraits that a model without looks of its own is painted with


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Which faces are seen how, and by which detector."""

    model: str = "default"
    num_faces: int = 20
    components: int | None = 10  # modes that the faces have and the methods fit; None: all
    held_out: int = 0  # each so-many-th of them belongs to the faces alone
    meshes: tuple[str, ...] = ()  # scans instead of random faces
    yaw: Angles = _THESIS_YAWS
    pitch: Angles = _UPRIGHT
    roll: Angles = _UPRIGHT
    detector: str = "silhouette"  # exact, silhouette or dlib
    noise: DetectorConfig = _NOISE
    knows_scale: bool = True  # as the thesis does
    prior: str = "model"  # that the methods know: the model's N(0, I), or of real people
    errors: str = "none"  # of the detector that the methods know: a file, "shipped" or "none"
    knows_noise: bool = False  # the noise in that file, too; else its offsets alone
    seed: int = 0

    def __post_init__(self) -> None:
        if self.held_out == 1:
            raise ValueError("expected --held_out of 2 and more, or 0, found 1: no mode is left")
        if self.prior == "people" and self.model != "default":
            raise ValueError(f"expected --prior=people with --model=default, found {self.model}")


class Subject(NamedTuple):
    """The model of the true faces, what the methods are given of it, and who looks at them."""

    truth: MorphableModel
    modes: NDArray  # [k] of the truth's modes
    given: MorphableModel
    fit_model: FitModel
    outline: FaceOutline | None  # of the simulated detector
    looks: list[Appearance]  # of the rendered faces: of one after the other, and so on again
    studio: Studio | None  # draws the default head's, instead
    scans: list[Scan]
    sigma: NDArray | None = None  # [68] of the detector's errors, in eye distances, if known
    correlation: NDArray | None = None  # of them, [51, 51]
    notes: tuple[str, ...] = ()  # what a reader of the results should know of the model


def load_subject(protocol: Protocol, progress: Progress = silent) -> Subject:
    """Reads the model, keeps the modes asked for, and prepares it for methods and detector."""
    notes: tuple[str, ...] = ()
    whole = assets.load_model(protocol.model)
    largest = whole.identity_sigma.shape[0]
    num_identity = protocol.components or largest
    if num_identity > largest:
        notes += (f"modes {largest + 1} to {num_identity} are made up: the model has {largest}",)
        whole = experiments.padded(whole, num_identity)
    truth = morphable.with_modes(whole, num_identity, use_expression=False)
    modes = np.arange(num_identity)
    if protocol.held_out:
        modes = experiments.kept_modes(num_identity, protocol.held_out)
    given = experiments.with_only(truth, modes)
    scans, looks = [], []
    if protocol.meshes:
        with progress("placing the scans", len(protocol.meshes)) as advance:
            for path in protocol.meshes:
                scan, look = _read_scan(path, truth, protocol)
                scans.append(scan)
                looks.append(look)
                advance()
    outline = studio = None
    if protocol.detector != "dlib":
        outline, looks = detector.face_outline(truth), []
    elif not scans or all(len(scan.mesh.vertices) == len(truth.mean) for scan in scans):
        studio, looks = _people(whole, protocol, progress)
    offsets = sigma = correlation = None
    errors = _known_errors(protocol, whole)
    if errors is not None:
        offsets = errors.offsets
        if protocol.knows_noise:
            sigma, correlation = errors.sigma, errors.correlation
    prior = assets.load_people_prior().of(modes) if protocol.prior == "people" else None
    return Subject(
        truth=truth,
        modes=modes,
        given=given,
        fit_model=fit.prepare(given, offsets, prior),
        outline=outline,
        looks=looks,
        studio=studio,
        scans=scans,
        sigma=sigma,
        correlation=correlation,
        notes=notes,
    )


def _known_errors(protocol: Protocol, model: MorphableModel) -> DetectorErrors | None:
    if protocol.errors == "none":
        return None
    if protocol.errors == "shipped":
        return shipped_errors(model.name)
    return read_errors(protocol.errors, model.name)


def _people(
    model: MorphableModel, protocol: Protocol, progress: Progress
) -> tuple[Studio | None, list[Appearance]]:
    """What draws the faces of a model as people: the studio, or paint from portraits."""
    with progress("preparing the studio"):
        studio = portraits.load_studio()
    shape = studio.model.identity_basis.shape
    is_default = protocol.model == "default" and model.identity_basis.shape == shape
    if is_default and not protocol.meshes:
        return studio, []
    count = min(protocol.num_faces, _NUM_PAINTED)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(protocol.seed), 1), count)
    photos = (portraits.photo_of_person(key, studio) for key in keys)
    looks = []
    with progress("painting the model", count) as advance:
        for look in portraits.dressed_appearances(model, studio, photos):
            looks.append(look)
            advance()
    return None, looks


def _read_scan(path: str, model: MorphableModel, protocol: Protocol) -> tuple[Scan, Appearance]:
    """Reads a scan, finds its landmarks, and moves it onto the mean face."""
    mesh = mesh_io.read_mesh(path)
    look = appearance.scan_appearance(mesh)
    is_corresponding = len(mesh.vertices) == len(model.mean)
    if not is_corresponding and protocol.detector != "dlib":
        raise ValueError(
            f"expected the model's {len(model.mean)} vertices in {path}, or --detector=dlib, "
            f"found {len(mesh.vertices)} vertices"
        )
    try:
        if is_corresponding:
            points = shape_landmarks(model, mesh.vertices)
        else:
            points = scan_landmarks(mesh.vertices, look, model)
        return place_scan(mesh, points, model), look
    except (ValueError, landmarks.NoFaceError) as error:
        raise type(error)(f"{path}: {error}") from None


def experiment_paths(folder: pathlib.Path) -> list[pathlib.Path]:
    """The experiment files of a folder, in order."""
    return sorted((folder / "experiments").glob("face_*.npz"))


def make_experiments(
    folder: pathlib.Path, protocol: Protocol, subject: Subject, progress: Progress = silent
) -> None:
    """Writes the experiment files that the folder lacks."""
    make = experiment_maker(protocol, subject)
    with progress(f"experiments: {protocol.num_faces} faces", protocol.num_faces) as advance:
        for number in range(protocol.num_faces):
            path = folder / "experiments" / f"face_{number:03d}.npz"
            if not path.exists():
                write_experiment(path, make(number))
            advance()


def write_detector_errors(folder: pathlib.Path, subject: Subject) -> DetectorErrors:
    """Measures the detector on the experiments of a folder, and writes detector.npz."""
    faces = (read_experiment(path) for path in experiment_paths(folder))
    errors = measure_errors(subject.truth, faces)
    write_errors(folder / "detector.npz", errors, subject.truth.name)
    return errors


def experiment_maker(protocol: Protocol, subject: Subject) -> Callable[[int], Experiment]:
    """Returns what makes the experiment of a number: a face, which the detector then looks at."""
    num_faces, num_identity = protocol.num_faces, len(subject.truth.identity_sigma)
    keys = jax.random.split(jax.random.key(protocol.seed), 3)
    angles, head = experiments.views(
        keys[0], num_faces, protocol.yaw, protocol.pitch, protocol.roll
    )
    identities = np.asarray(morphable.random_identity(keys[1], num_faces, num_identity))

    def make(number: int) -> Experiment:
        key = jax.random.fold_in(keys[2], number)
        here = jax.tree.map(lambda x: x[number], head)
        if subject.scans:
            identity = np.full(num_identity, np.nan, np.float32)
            vertices = np.asarray(subject.scans[number].mesh.vertices)
        else:
            identity = identities[number]
            vertices = np.asarray(morphable.face_shape(subject.truth, identity, jnp.zeros(0)))
        if protocol.detector == "dlib":
            poses = zip(angles[number], _each(here), strict=True)
            xy, sigma = _rendered_points(
                _picture(key, number, subject, identity, vertices, *pose) for pose in poses
            )
        else:
            noise = detector.EXACT if protocol.detector == "exact" else protocol.noise
            xy, sigma = experiments.find_points(key, subject.outline, vertices, here, noise)
        return Experiment(
            vertices=vertices,
            identity=identity,
            rotation=here.rotation,
            translation=here.translation,
            scale=here.scale,
            angles_deg=angles[number],
            xy=xy,
            sigma_px=sigma,
        )

    return make


def _each(heads: Pose) -> Iterator[Pose]:
    """Poses [A] one after the other."""
    for view in range(len(heads.scale)):
        yield jax.tree.map(lambda x: x[view], heads)  # noqa: B023


def _picture(
    key: jax.Array,
    number: int,
    subject: Subject,
    identity: NDArray,
    vertices: NDArray,
    angles_deg: NDArray,
    head: Pose,
) -> NDArray:
    """Draws a face in a pose; all poses of a face in one light."""
    if subject.studio is not None:
        return portraits.draw_in_pose(key, subject.studio, identity, angles_deg, head)
    look = subject.looks[number % len(subject.looks)]
    return np.asarray(appearance.render_face(key, look, vertices, head))


def _rendered_points(pictures: Iterable[NDArray]) -> tuple[NDArray, NDArray]:
    """Has dlib find a face in each of A pictures, of the test environment's shape.

    Returns:
      Points [A, 68, 2] and their standard deviations [A, 68], NaN where it found none.
    """
    found, sigma = [], []
    for picture in pictures:
        points = appearance.detected_points(picture) * appearance.WIDTH / picture.shape[1]
        found.append(points)
        is_found = np.isfinite(points).all()
        sigma.append(
            landmarks.landmarks_from_points(points).sigma_px
            if is_found
            else np.full(len(points), np.nan)
        )
    return np.stack(found), np.stack(sigma)


def true_angles(folder: pathlib.Path) -> NDArray:
    """Yaw, pitch and roll of all views [F, A, 3], degrees."""
    return np.stack([read_experiment(path).angles_deg for path in experiment_paths(folder)])


def read_first(folder: pathlib.Path) -> Experiment:
    """The experiment of the first face."""
    return read_experiment(experiment_paths(folder)[0])


def check_settings(folder: pathlib.Path, settings: dict) -> None:
    """Writes settings.json, or sees that the folder's own are the same.

    Raises:
      ValueError: the folder holds an evaluation of other settings.
    """
    path = folder / "settings.json"
    if path.exists():
        before = files_io.read_object(path, "settings of evaluate_fit")
        for name, value in json.loads(files_io.json_text(settings)).items():
            if before.get(name) != value:
                raise ValueError(
                    f"expected the settings of the evaluation in {folder}, {name} of "
                    f"{before.get(name)}, found {value}: name another --out to keep both"
                )
    files_io.write_json(path, settings)
