"""A photo and its landmarks become a head: what `reconstruct`, `demo` and notebooks share."""

import dataclasses
import functools
import math
import operator
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np
from PIL import ImageColor

from recon import assets, fit, landmarks, morphable, person, posterior, texture
from recon.contour_paths import paths_io
from recon.evaluation.detector_errors_io import shipped_errors
from recon.fit import FaceFit
from recon.looks import looks_io
from recon.looks.look import Looks
from recon.looks.photo_hair import AUTO, NONE, HairWish, Style
from recon.morphable import MorphableModel
from recon.posterior import Posterior
from recon.residuals import FitConfig, FitModel, Observation, stack_observations
from recon.texture import PaintedModel, TextureConfig
from render.camera import Camera
from render.image import as_picture
from render.mesh import Mesh, subdivide_mesh
from scripts.shell import command, doubt
from scripts.shell.prepared_io import prepared


@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """Settings of `reconstruct` beyond its inputs."""

    model: str = "default"
    paths: str | None = None  # file of contour paths; None: the model's own
    method: str = "robust"
    offsets: bool = True  # knows where dlib finds the default head's landmarks
    prior: str = "model"  # which faces are likely: the model's own, or real people's ("people")
    num_identity: int | None = None  # None: all that the model has
    expression: bool = True
    start: str = FitConfig.start
    texture_size: int = TextureConfig.size
    size: int = 512
    frames: int = 60
    hair: str = AUTO  # a style, AUTO or NONE
    hair_colour: str | None = None  # a name or '#rrggbb'; None: the photo's


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
    hair: Style | None = None  # of its cards; None: hair is paint


def load_model(config: HeadConfig) -> MorphableModel:
    """Reads the model and keeps the modes that `config` asks for."""
    if config.prior == "people" and config.model != "default":
        raise ValueError(f"expected --prior=people with --model=default, found {config.model}")
    model = assets.load_model(config.model)
    largest = model.identity_sigma.shape[0]
    num_identity = config.num_identity or largest
    if num_identity > largest:
        raise ValueError(f"expected --num_identity up to {largest}, found {num_identity}")
    if config.paths is not None:
        corners, weights = paths_io.read_paths(config.paths, model)
        model = morphable.with_paths(model, corners, weights)
    return morphable.with_modes(model, num_identity, config.expression)


def hair_wish(config: HeadConfig) -> HairWish:
    """Returns the hair that `config` names.

    Raises:
      ValueError: a colour that is none.
    """
    if config.hair_colour is None:
        return HairWish(config.hair)
    try:
        rgb = ImageColor.getrgb(config.hair_colour)
    except ValueError:
        raise ValueError(
            f"expected --hair_colour like brown or #5a3d2b, found {config.hair_colour!r}"
        ) from None
    return HairWish(config.hair, tuple(value / 255 for value in rgb[:3]))


def texture_config(config: HeadConfig) -> TextureConfig:
    """Returns the settings of the painting that `config` names."""
    return TextureConfig(size=config.texture_size)


def fit_config(config: HeadConfig) -> FitConfig:
    """Returns the settings of the fit that `config` names."""
    return dataclasses.replace(fit.METHODS[config.method], start=config.start)


class HeadMaker:
    """Makes heads with one model, which is prepared once for all of them, beside other work.

    `HeadMaker().make(photo, points)` is all that a notebook needs. A command calls `prepare` before
    it looks for landmarks: detection and preparation then go on at the same time.
    """

    def __init__(self, config: HeadConfig | None = None):
        """Reads the model.

        Raises:
          ValueError: a file that is no model, or settings that do not suit it.
        """
        self.config = config or HeadConfig()
        self.model = load_model(self.config)
        self._fit_config = fit_config(self.config)
        self._texture_config = texture_config(self.config)
        self._hair_wish = hair_wish(self.config)
        self._looks = self._load_looks()
        self._worker = ThreadPoolExecutor(max_workers=1)

    def _load_looks(self) -> Looks | None:
        """Reads the looks, if the head may wear some.

        Raises:
          ValueError: a style that there is not, or that suits another head.
        """
        hair = self.config.hair
        if hair == NONE:
            return None
        looks = looks_io.load_looks()
        if hair not in (AUTO, *looks.hair_names):
            names = ", ".join((AUTO, NONE, *looks.hair_names))
            raise ValueError(f"expected --hair of {names}, found {hair!r}")
        if looks.head_transfer.shape[1] == len(self.model.mean) and self.model.uvs is not None:
            return looks
        if hair != AUTO:
            raise ValueError(
                f"expected the default head for --hair={hair}, found {self.model.name}"
            )
        return None

    def prepare(self, paints: bool = True) -> None:
        """Starts, in the background, what the model needs before its first fit and painting."""
        _ = self._fit_model
        if paints:
            _ = self._painted_model

    @functools.cached_property
    def _fit_model(self) -> Future[FitModel]:
        errors = shipped_errors(self.model.name) if self.config.offsets else None
        offsets = None if errors is None else errors.offsets
        prior = None
        if self.config.prior == "people":
            prior = assets.load_people_prior().of(np.arange(self.model.identity_sigma.shape[0]))
        return self._worker.submit(prepared, fit.prepare, self.model, offsets, prior)

    @functools.cached_property
    def _painted_model(self) -> Future[PaintedModel]:
        return self._worker.submit(prepared, texture.prepare, self.model, self._texture_config)

    def make(
        self, photo: np.ndarray | None, points: np.ndarray, score: float | None = None
    ) -> Head:
        """Fits the model to points and paints it with the photo, if there is one.

        Args:
          photo: [H, W, 3] in [0, 1], or whatever `render.image.as_picture` takes.
          points: [68, 2] pixels, NaN where hidden.
          score: the detector's of the face; None where somebody gave the points.

        Raises:
          ValueError: points that are no face, a photo that is none.
          WorkFailed: the fit diverged, or what was found is surely no face.
        """
        return self.paint(photo, points, self.fit(points), score)

    def fit(self, points: np.ndarray) -> Found:
        """Fits the model to the points [68, 2] of one photo.

        Raises:
          ValueError: points that are no face.
        """
        seen = fit.observe(landmarks.landmarks_from_points(points), self._fit_config)
        return self._solve(seen, fit.fit_face, posterior.posterior)

    def fit_person(self, points: Sequence[np.ndarray]) -> list[Found]:
        """Fits one identity to the points [68, 2] of each photo of a person.

        Raises:
          ValueError: points that are no face.
        """
        marks = [landmarks.landmarks_from_points(one) for one in points]
        seen = stack_observations([fit.observe(one, self._fit_config) for one in marks])
        face, uncertainty, seconds = self._solve(
            seen, person.fit_person, posterior.person_posterior
        )
        return [
            Found(*jax.tree.map(operator.itemgetter(i), (face, uncertainty)), seconds)
            for i in range(len(points))
        ]

    def _solve(self, seen: Observation, solve: Callable, judge: Callable) -> Found:
        """Fits by `solve`, times that, and says by `judge` how sure the fit is."""
        with command.progress("fit"):
            arguments = self._fit_model.result(), seen
            face = jax.device_get(solve(*arguments, self._fit_config))
            start = time.perf_counter()
            jax.block_until_ready(solve(*arguments, self._fit_config))
            seconds = time.perf_counter() - start
            uncertainty = jax.device_get(judge(*arguments, face, self._fit_config))
        return Found(face, uncertainty, seconds)

    def paint(
        self,
        photo: np.ndarray | None,
        points: np.ndarray,
        found: Found,
        score: float | None = None,
    ) -> Head:
        """Paints a fitted head with the photo, if there is one; arguments and errors as of `make`.

        Doubts about the face are said before the work of painting it.
        """
        face = found.face
        doubt.check_fit(face)
        if photo is not None:
            photo = as_picture(photo)
            fitted = np.asarray(fit.fitted_points(self._fit_model.result(), face))
            doubt.check_photo(photo, fitted, score)
        height, width = _canvas(points) if photo is None else photo.shape[:2]
        camera = fit.face_camera(face.params.pose, width, height)
        style = None
        with command.progress("texture"):
            if photo is None:
                mesh = self._bare_mesh(face)
            else:
                mesh, style = self._painted(face, photo)
        return Head(
            photo=photo,
            points=np.asarray(points),
            face=face,
            camera=camera,
            mesh=jax.device_get(mesh),
            seconds=found.seconds,
            uncertainty=found.uncertainty,
            vertex_std=np.asarray(posterior.vertex_std(self.model, found.uncertainty)),
            hair=style,
        )

    def _painted(self, face: FaceFit, photo: np.ndarray) -> tuple[Mesh, Style | None]:
        arguments = self._painted_model.result(), face.params, photo
        if self._looks is None:
            return texture.paint(*arguments, self._texture_config), None
        return texture.paint_with_hair(
            *arguments, self._looks, self._hair_wish, self._texture_config
        )

    def style_name(self, style: Style) -> str:
        """Returns the name of a style that a head of this maker wears."""
        return self._looks.hair_names[style.number]

    def _bare_mesh(self, face: FaceFit) -> Mesh:
        mesh = model_mesh(self.model, face)
        mesh = mesh.replace(uvs=self.model.uvs, uv_triangles=self.model.uv_triangles)
        room = self._texture_config.max_vertices // len(mesh.vertices)
        return subdivide_mesh(mesh, levels=min(2, int(math.log(max(room, 1), 4))))


def model_mesh(model: MorphableModel, face: FaceFit) -> Mesh:
    """Returns the fitted head with the model's own vertices, without colours."""
    shape = morphable.face_shape(model, face.params.identity, face.params.expression)
    return Mesh(shape, model.triangles)


def _canvas(points: np.ndarray) -> tuple[int, int]:
    """Height and width of a picture around points that came without one."""
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    return tuple(math.ceil(side) for side in (high + 0.5 * (high - low))[::-1])
