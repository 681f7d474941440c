"""A head becomes files: meshes, splats, pictures, a turntable, and the reports on them."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np

from recon import bind, landmarks, landmarks_io
from render import files_io, image_io, mesh_io, rasterize, splat_io
from render.camera import orbit
from render.frames import drawn_ahead
from render.image import RenderOutput, to_bytes
from render.mesh import Mesh, coarsen_mesh
from scripts.shell import command, pictures, stopping
from scripts.shell.film_io import write_film
from scripts.shell.head import Head, HeadMaker, fit_config, model_mesh, texture_config
from scripts.shell.settings import write_settings

TURNTABLE = "turntable.mp4"
_FPS = 20
_FINE = 0.25  # triangles per pixel; more are seen by no one
# A head is closed but for the neck, which is not looked into: its inside need not be drawn.
_SMOOTH = rasterize.RenderConfig(
    supersample=2, rasterize=rasterize.RasterizeConfig(cull_back_faces=True, group=128)
)


def write_head(folder: pathlib.Path, head: Head, maker: HeadMaker) -> None:
    """Writes the files of a head that `maker` made into an existing folder, but for the film."""
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
        heat = pictures.draw_uncertainty(model_mesh(maker.model, head.face), 1e3 * head.vertex_std)
        image_io.write_image(folder / "uncertainty.png", heat)
    landmarks_io.write_pts(folder / "landmarks.pts", head.points)
    files_io.write_json(folder / "fit.json", fit_report(head, maker))


@contextlib.contextmanager
def drawn_turntable(head: Head, maker: HeadMaker) -> Iterator[Iterator[np.ndarray]]:
    """Draws the frames of a head's film in the background, while the block writes its files."""
    config = maker.config
    frames = turntable(head.mesh, config.frames, config.size) if config.frames else ()
    with drawn_ahead(to_bytes(np.asarray(view.rgb)) for view in frames) as drawn:
        yield drawn


def write_turntable(folder: pathlib.Path, frames: Iterator[np.ndarray], maker: HeadMaker) -> None:
    """Films a head whose files are in the folder, unless the film is to be left out.

    `frames` are those of `drawn_turntable`.
    """
    config = maker.config
    if config.frames:
        with stopping.keeping(lambda: f"the head in {folder}"):
            write_film(folder / TURNTABLE, frames, config.frames, _FPS, label="turntable")


def turntable(
    mesh: Mesh, num_frames: int, size: int, azimuth_degrees: tuple[float, float] = (0.0, 360.0)
) -> Iterator[RenderOutput]:
    """Renders the head from all sides, beginning at the front."""
    if len(mesh.triangles) > _FINE * size**2:
        mesh = coarsen_mesh(mesh)
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


def fit_report(head: Head, maker: HeadMaker) -> dict:
    """Returns the content of fit.json."""
    face, pose = head.face, head.face.params.pose
    return {
        "method": maker.config.method,
        "model": maker.model.name,
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
        "hair": hair_report(head, maker),
        "iterations": face.iterations,
        "converged": face.converged,
        "seconds": head.seconds,
    }


def hair_report(head: Head, maker: HeadMaker) -> dict | None:
    """Returns the hair that the head wears, and how well it covers the photo's; None for paint."""
    if head.hair is None:
        return None
    return {
        "style": maker.style_name(head.hair),
        "scale": head.hair.scale,
        "misfit": head.hair.misfit,
        "painted_misfit": head.hair.painted_misfit,
    }


def write_config(folder: pathlib.Path, maker: HeadMaker, **inputs) -> None:
    """Writes config.json: the inputs, and every setting with the value that was used."""
    write_settings(
        folder,
        **inputs,
        **dataclasses.asdict(maker.config) | {"num_identity": maker.model.identity_sigma.shape[0]},
        fit=fit_config(maker.config),
        texture=texture_config(maker.config),
        noise=landmarks.DetectorNoise(),
    )


def summary(head: Head) -> str:
    """Says in a few words how good the fit is."""
    error = float(head.face.inner_error_px)
    share = error / float(head.face.eye_distance_px)
    return f"mean error of the inner points {error:.2f} px, {share:.1%} of the eye distance"
