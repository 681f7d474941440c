"""What the page is given of each kind of thing to show; a new kind registers its function here."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from render import harmonics, mesh_io, rasterize
from render.gaussians import Gaussians, covariances
from render.mesh import Mesh
from scripts.shell.shown import MeshShown, MovingShown, NerfShown, Shown, SplatsShown

# The page keeps covariances as half floats: lengths are shown as parts of the subject.
MAX_COVARIANCE = 6e4
_POINT_SIZE = 0.06  # the page's lengths


@functools.singledispatch
def add_layer(shown: Shown, page: Any, name: str, unit: float) -> Any:
    """Adds what is shown to a page.

    Args:
      shown: splats, a mesh, or one of them in motion, as it is at rest.
      page: viser's scene.
      name: of the layer.
      unit: the page's lengths per metre.

    Returns:
      viser's handle of the layer.
    """
    raise NotImplementedError(f"expected a kind that the page knows, found {type(shown)}")


@add_layer.register
def _(shown: SplatsShown, page: Any, name: str, unit: float) -> Any:
    return page.add_gaussian_splats(name, **splat_fields(shown.gaussians, unit))


@add_layer.register
def _(shown: MeshShown, page: Any, name: str, unit: float) -> Any:
    return page.add_glb(name, mesh_io.pack_glb(_colored(shown.mesh)), scale=unit)


@add_layer.register
def _(shown: MovingShown, page: Any, name: str, unit: float) -> Any:
    return add_layer(shown.still, page, name, unit)


@add_layer.register
def _(shown: NerfShown, page: Any, name: str, unit: float) -> Any:
    points, colors = shown.surface
    return page.add_point_cloud(name, unit * points, colors, point_size=_POINT_SIZE)


def splat_fields(gaussians: Gaussians, unit: float = 1.0) -> dict[str, np.ndarray]:
    """Returns what the page wants of Gaussians, in lengths of 1 / `unit` metres.

    Those that cannot be drawn are left out.
    """
    fields = {name: np.asarray(values) for name, values in _fields(gaussians, unit).items()}
    is_finite = np.ones(len(gaussians.means), bool)
    for values in fields.values():
        is_finite &= np.isfinite(values.reshape(len(values), -1)).all(1)
    return {name: values[is_finite] for name, values in fields.items()}


@jax.jit
def _fields(gaussians: Gaussians, unit: float) -> dict[str, jax.Array]:
    rgb = 0.5 + harmonics.CONSTANT * gaussians.harmonics[:, 0]
    spread = unit**2 * covariances(gaussians)
    fields = {
        "centers": unit * gaussians.means,
        "covariances": jnp.clip(spread, -MAX_COVARIANCE, MAX_COVARIANCE),
        "rgbs": jnp.clip(rgb, 0.0, 1.0),
        "opacities": jax.nn.sigmoid(gaussians.logit_opacities)[:, None],
    }
    return {name: values.astype(jnp.float32) for name, values in fields.items()}


def _colored(mesh: Mesh) -> Mesh:
    """Gives a mesh without colours the grey that our renderer shows."""
    if mesh.colors is not None or mesh.texture is not None:
        return mesh
    grey = rasterize.RenderConfig.base_color
    return mesh.replace(colors=np.tile(np.float32(grey), (len(mesh.vertices), 1)))
