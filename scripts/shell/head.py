"""One photo becomes a head, and the head becomes files: what `reconstruct` and `demo` share."""

import dataclasses
import functools
import math
import operator
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recon import assets, bind, fit, landmarks, landmarks_io, morphable, person, posterior, texture
from recon.contour_paths import paths_io
from recon.fit import FaceFit
from recon.morphable import MorphableModel
from recon.posterior import Posterior
from recon.residuals import FitConfig, FitModel, Observation
from recon.texture import PaintedModel, TextureConfig
from render import files_io, image_io, mesh_io, rasterize, splat_io
from render.camera import Camera, orbit
from render.image import RenderOutput
from render.mesh import Mesh, subdivide_mesh
from scripts.shell import command, pictures
from scripts.shell.film_io import write_film

_FPS = 20
# A head is closed but for the neck, which is not looked into: its inside need not be drawn.
_SMOOTH = rasterize.RenderConfig(
    supersample=2, rasterize=rasterize.RasterizeConfig(cull_back_faces=True)
)
_POOL = ThreadPoolExecutor(max_workers=1)
_LARGE_ERROR = 0.1  # of the eye distance, mean over the inner points: the face is another one


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """Settings of `reconstruct` beyond its inputs."""

    model: str = "default"
    paths: str | None = None  # file of contour paths; None: the model's own
    method: str = "robust"
    num_identity: int | None = None  # None: all that the model has
    expression: bool = True
    start: str = FitConfig.start
    texture_size: int = TextureConfig.size
    size: int = 512
    frames: int = 60


class Found(NamedTuple):
    """The fit to one photo."""

    face: FaceFit
    uncertainty: Posterior
    seconds: float  # of the fit, compiled


class Head(NamedTuple):
    """A reconstructed head and how it was found."""

    photo: np.ndarray | None  # [H, W, 3]
    points: np.ndarray  # [68, 2] pixels
    face: FaceFit
    camera: Camera  # of the photo
    mesh: Mesh
    seconds: float  # of the fit, compiled
    uncertainty: Posterior
    vertex_std: np.ndarray  # [V] of the model's vertices, metres


@functools.lru_cache(maxsize=1)
def load_model(config: HeadConfig) -> MorphableModel:
    """Reads the model and keeps the modes that `config` asks for."""
    model = assets.load_model(config.model)
    largest = model.identity_sigma.shape[0]
    num_identity = config.num_identity or largest
    if num_identity > largest:
        raise ValueError(f"expected --num_identity up to {largest}, found {num_identity}")
    if config.paths is not None:
        corners, weights = paths_io.read_paths(config.paths, model)
        model = model.replace(path_vertices=jnp.asarray(corners), path_weights=jnp.asarray(weights))
    return morphable.with_modes(model, num_identity, config.expression)


@functools.lru_cache(maxsize=1)
def prepare_fit(config: HeadConfig) -> Future[FitModel]:
    """Starts what the model needs before its first fit; once per run, beside other work."""
    return _POOL.submit(fit.prepare, load_model(config))


@functools.lru_cache(maxsize=1)
def prepare_painting(config: HeadConfig) -> Future[PaintedModel]:
    """Starts what the model needs before its first painting; once per run, beside other work."""
    return _POOL.submit(texture.prepare, load_model(config), texture_config(config))


def texture_config(config: HeadConfig) -> TextureConfig:
    """Returns the settings of the painting that `config` names."""
    return TextureConfig(size=config.texture_size)


def fit_config(config: HeadConfig) -> FitConfig:
    """Returns the settings of the fit that `config` names."""
    return dataclasses.replace(fit.METHODS[config.method], start=config.start)


def make_head(photo: np.ndarray | None, points: np.ndarray, config: HeadConfig) -> Head:
    """Fits the model to the points [68, 2] and paints it with the photo [H, W, 3], if there is one.

    Raises:
      ValueError: points that are no face.
      WorkFailed: the fit ended nowhere.
    """
    return paint_head(photo, points, fit_head(points, config), config)


def fit_head(points: np.ndarray, config: HeadConfig) -> Found:
    """Fits the model to the points [68, 2] of one photo.

    Raises:
      ValueError: points that are no face.
    """
    seen = fit.observe(landmarks.landmarks_from_points(points), fit_config(config))
    return _solve(seen, config, fit.fit_face, posterior.posterior)


def fit_person(points: Sequence[np.ndarray], config: HeadConfig) -> list[Found]:
    """Fits one identity to the points [68, 2] of each photo of a person.

    Raises:
      ValueError: points that are no face.
    """
    marks = [landmarks.landmarks_from_points(one) for one in points]
    seen = [fit.observe(one, fit_config(config)) for one in marks]
    seen = jax.tree.map(lambda *x: jnp.stack(x), *seen)
    face, uncertainty, seconds = _solve(seen, config, person.fit_person, posterior.person_posterior)
    each = [jax.tree.map(operator.itemgetter(i), (face, uncertainty)) for i in range(len(points))]
    return [Found(*one, seconds) for one in each]


def _solve(seen: Observation, config: HeadConfig, solve: Callable, judge: Callable) -> Found:
    """Fits by `solve`, times that, and says by `judge` how sure the fit is."""
    with command.progress("fit"):
        arguments = prepare_fit(config).result(), seen
        face = jax.device_get(solve(*arguments, fit_config(config)))
        start = time.perf_counter()
        jax.block_until_ready(solve(*arguments, fit_config(config)))
        seconds = time.perf_counter() - start
        uncertainty = jax.device_get(judge(*arguments, face, fit_config(config)))
    return Found(face, uncertainty, seconds)


def paint_head(
    photo: np.ndarray | None, points: np.ndarray, found: Found, config: HeadConfig
) -> Head:
    """Paints a fitted head with the photo [H, W, 3], if there is one.

    Raises:
      WorkFailed: the fit ended nowhere.
    """
    face = found.face
    _check(face)
    height, width = _canvas(points) if photo is None else photo.shape[:2]
    camera = fit.face_camera(face.params.pose, width, height)
    with command.progress("texture"):
        if photo is None:
            mesh = _bare_mesh(face, config)
        else:
            mesh = texture.paint(
                prepare_painting(config).result(), face.params, photo, texture_config(config)
            )
    return Head(
        photo=photo,
        points=np.asarray(points),
        face=face,
        camera=camera,
        mesh=jax.device_get(mesh),
        seconds=found.seconds,
        uncertainty=found.uncertainty,
        vertex_std=np.asarray(posterior.vertex_std(load_model(config), found.uncertainty)),
    )


def _bare_mesh(face: FaceFit, config: HeadConfig) -> Mesh:
    model = load_model(config)
    mesh = _model_mesh(face, config)
    mesh = mesh.replace(uvs=model.uvs, uv_triangles=model.uv_triangles)
    room = texture_config(config).max_vertices // len(mesh.vertices)
    return subdivide_mesh(mesh, levels=min(2, int(math.log(max(room, 1), 4))))


def _model_mesh(face: FaceFit, config: HeadConfig) -> Mesh:
    """The head with the model's own vertices."""
    model = load_model(config)
    shape = morphable.face_shape(model, face.params.identity, face.params.expression)
    return Mesh(shape, model.triangles)


def _check(face: FaceFit) -> None:
    if not np.isfinite(face.cost):
        raise command.WorkFailed("the fit diverged: it helps to look at the landmarks")
    if not face.converged:
        command.warn("the fit stopped at its iteration limit")
    share = face.inner_error_px / face.eye_distance_px
    if share > _LARGE_ERROR:
        command.warn(
            f"the head misses the inner points by {share:.0%} of the eye distance: "
            "it helps to look at overlay.png"
        )


def _canvas(points: np.ndarray) -> tuple[int, int]:
    """Height and width of a picture around points that came without one."""
    return tuple(math.ceil(side) for side in (points.max(0) + 0.5 * np.ptp(points, axis=0))[::-1])


def write_head(folder: pathlib.Path, head: Head, config: HeadConfig) -> None:
    """Writes the head's files into an existing folder."""
    with command.progress("meshes"):
        mesh_io.write_obj(folder / "head.obj", head.mesh)
        mesh_io.write_ply(folder / "head.ply", head.mesh)
        mesh_io.write_glb(folder / "head.glb", head.mesh)
    with command.progress("splats"):
        gaussians = bind.bound_gaussians(bind.bind(head.mesh), head.mesh.vertices)
        splat_io.write_splats(folder / "splats.ply", gaussians, up="y")
    with command.progress("overlay"):
        overlay = pictures.draw_overlay(head.photo, head.points, head.mesh, head.camera)
        image_io.write_image(folder / "overlay.png", overlay)
    with command.progress("uncertainty"):
        heat = pictures.draw_uncertainty(_model_mesh(head.face, config), 1e3 * head.vertex_std)
        image_io.write_image(folder / "uncertainty.png", heat)
    if config.frames:
        frames = (view.rgb for view in turntable(head.mesh, config.frames, config.size))
        write_film(folder / "turntable.mp4", frames, config.frames, _FPS, label="turntable")
    landmarks_io.write_pts(folder / "landmarks.pts", head.points)
    files_io.write_json(folder / "fit.json", fit_report(head, config))


def turntable(
    mesh: Mesh, num_frames: int, size: int, azimuth_degrees: tuple[float, float] = (0.0, 360.0)
) -> Iterator[RenderOutput]:
    """Renders the head from all sides, beginning at the front."""
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    cameras = orbit(
        target=0.5 * (low + high),
        extent=1.15 * float(high[1] - low[1]),
        num_frames=num_frames,
        width=size,
        height=size,
        azimuth_degrees=azimuth_degrees,
    )
    return rasterize.render_frames(mesh, cameras, _SMOOTH)


def fit_report(head: Head, config: HeadConfig) -> dict:
    """Returns the content of fit.json."""
    face, pose = head.face, head.face.params.pose
    return {
        "method": config.method,
        "model": load_model(config).name,
        "identity": face.params.identity,
        "identity_std": head.uncertainty.coefficient_std[: len(face.params.identity)],
        "expression": face.params.expression,
        "rotation": pose.rotation,
        "rotation_std_deg": head.uncertainty.rotation_std_deg,
        "translation_px": pose.translation,
        "translation_std_px": head.uncertainty.translation_std_px,
        "scale_px_per_m": pose.scale,
        "vertex_std_mm": 1e3 * head.vertex_std.mean(),
        "inner_error_px": face.inner_error_px,
        "contour_error_px": face.contour_error_px,
        "eye_distance_px": face.eye_distance_px,
        "iterations": face.iterations,
        "converged": face.converged,
        "seconds": head.seconds,
    }


def write_config(folder: pathlib.Path, config: HeadConfig, **inputs) -> None:
    """Writes config.json: the inputs, every setting with its value, and the versions used."""
    settings = {
        **inputs,
        **dataclasses.asdict(config),
        "num_identity": load_model(config).identity_sigma.shape[0],
        "fit": dataclasses.asdict(fit_config(config)),
        "texture": dataclasses.asdict(texture_config(config)),
        "noise": dataclasses.asdict(landmarks.DetectorNoise()),
        "versions": {name: metadata.version(name) for name in ("jax", "jaxopt", "numpy")},
    }
    for name, value in settings["fit"].items():
        if value == math.inf:  # JSON has no word for it
            settings["fit"][name] = "inf"
    files_io.write_json(folder / "config.json", settings)


def summary(head: Head) -> str:
    """Says in a few words how good the fit is."""
    error = float(head.face.inner_error_px)
    share = error / float(head.face.eye_distance_px)
    return f"mean error of the inner points {error:.2f} px, {share:.1%} of the eye distance"
