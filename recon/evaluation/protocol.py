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
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import skimage.data
from numpy.typing import NDArray

from recon import assets, fit, landmarks, morphable
from recon.evaluation import appearance, detector, experiments
from recon.evaluation.appearance import Appearance
from recon.evaluation.detector import DetectorConfig, FaceOutline
from recon.evaluation.experiments import Angles, Experiment
from recon.evaluation.experiments_io import read_experiment, write_experiment
from recon.evaluation.progress import Progress, silent
from recon.evaluation.scan_landmarks import scan_landmarks
from recon.evaluation.scans import Scan, place_scan, shape_landmarks
from recon.morphable import MorphableModel
from recon.pose import Pose
from recon.residuals import FitModel
from render import files_io, mesh_io

_THESIS_YAWS = Angles(tuple(float(yaw) for yaw in range(-30, 31, 10)))
_UPRIGHT = Angles()
_NOISE = DetectorConfig()


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
    seed: int = 0

    def __post_init__(self) -> None:
        if self.held_out == 1:
            raise ValueError("expected --held_out of 2 and more, or 0, found 1: no mode is left")


class Subject(NamedTuple):
    """The model of the true faces, what the methods are given of it, and who looks at them."""

    truth: MorphableModel
    modes: NDArray  # [k] of the truth's modes
    given: MorphableModel
    fit_model: FitModel
    outline: FaceOutline | None  # of the simulated detector
    looks: list[Appearance]  # of the rendered faces: one for all, or one per scan
    scans: list[Scan]
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
    outline = None
    if protocol.detector != "dlib":
        outline, looks = detector.face_outline(truth), []
    elif not scans or all(len(scan.mesh.vertices) == len(truth.mean) for scan in scans):
        with progress("painting the model"):
            looks = [appearance.photo_appearance(whole, skimage.data.astronaut() / 255.0)]
    return Subject(truth, modes, given, fit.prepare(given), outline, looks, scans, notes)


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
            look = subject.looks[number % len(subject.looks)]
            xy, sigma = _rendered_points(key, look, vertices, here)
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


def _rendered_points(
    key: jax.Array, look: Appearance, vertices: NDArray, head: Pose
) -> tuple[NDArray, NDArray]:
    """Draws the face in its poses [A] in one light, and has dlib find it.

    Returns:
      Points [A, 68, 2] and their standard deviations [A, 68], NaN where it found none.
    """
    found, sigma = [], []
    for view in range(len(head.scale)):
        one = jax.tree.map(lambda x: x[view], head)  # noqa: B023
        points = appearance.detected_points(appearance.render_face(key, look, vertices, one))
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
